package tasks

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// This file is for servers that heed idempotency keys, as those of sluice do (docs/once.md): a call that has lost its connection is sent
// again with its key, and is executed once all the same.

const (
	extensionOnce = "io.github.sluice-mcp/once"
	metaKey       = "io.github.sluice-mcp/idempotencyKey"
	metaTool      = "io.github.sluice-mcp/tool"
)

// heedsKeys reports whether a server has said that it heeds keys: one that has not might execute a call twice.
func heedsKeys(session mcp.Session) bool {
	cs, ok := session.(*mcp.ClientSession)
	if !ok || cs.InitializeResult() == nil || cs.InitializeResult().Capabilities == nil {
		return false
	}
	caps := cs.InitializeResult().Capabilities
	return caps.Extensions[extensionOnce] != nil || caps.Experimental[extensionOnce] != nil
}

// keyed gives a call a key, unless it has one.
func (x *exchange) keyed(params mcp.Params) {
	call, ok := params.(*mcp.CallToolParams)
	if !ok {
		return
	}
	x.tool = call.Name
	if key, ok := call.Meta[metaKey].(string); ok { // of the call's own, or of its round before
		x.key = key
		return
	}
	x.key = rand.Text()
	meta := mcp.Meta{metaKey: x.key}
	maps.Copy(meta, call.Meta)
	call.Meta = meta
}

// An insistent request is sent until it has its answer, or the server has been away for too long.
type insistent struct {
	base http.RoundTripper
	req  *http.Request
	body []byte
	x    *exchange
}

// insist sends the request of a call that has a key.
func insist(base http.RoundTripper, req *http.Request, x *exchange) (*http.Response, error) {
	i := &insistent{base: base, req: req, x: x}
	var err error
	if i.body, err = io.ReadAll(req.Body); err != nil {
		return nil, err
	}
	_ = req.Body.Close()
	return i.send()
}

// send returns a response that is whole, or a stream that goes on when it is cut off.
func (i *insistent) send() (*http.Response, error) {
	ctx := i.req.Context()
	give := time.Now().Add(patience)
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, 2*time.Second) {
		req := i.req.Clone(ctx)
		req.Body = io.NopCloser(bytes.NewReader(i.body))
		resp, err := i.base.RoundTrip(req)
		wait := pause
		if err == nil {
			if wait, err = i.whole(resp); err == nil {
				return resp, nil
			}
			wait = max(wait, pause)
		}
		if ctx.Err() == nil && time.Now().Add(wait).Before(give) {
			if resp != nil {
				_ = resp.Body.Close()
			}
			select {
			case <-time.After(wait):
				continue
			case <-ctx.Done():
			}
		}
		if ctx.Err() != nil {
			i.cancel()
		}
		if resp != nil && errors.Is(err, errAway) && ctx.Err() == nil {
			return resp, nil // as it stands
		}
		return nil, err
	}
}

var errAway = errors.New("the server is away")

// whole reads a JSON body, and makes a stream one that can be trusted. An error says that the request is to be sent again, and wait how
// long the server wants that to take.
func (i *insistent) whole(resp *http.Response) (wait time.Duration, err error) {
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		seconds, _ := strconv.Atoi(resp.Header.Get("Retry-After"))
		return time.Duration(seconds) * time.Second, errAway
	default:
		return 0, nil
	}
	switch kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); kind {
	case "application/json":
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		resp.Body = io.NopCloser(bytes.NewReader(body))
		return 0, err
	case "text/event-stream":
		resp.Body = &unbroken{insistent: i, now: resp.Body}
	}
	return 0, nil
}

// cancel tells a server of 2026-07-28 that nobody wants the result: there, the end of the connection does not say so of a call that has a key.
func (i *insistent) cancel() {
	if i.req.Header.Get("Mcp-Session-Id") != "" {
		return // the SDK says it
	}
	var request struct {
		ID json.RawMessage `json:"id"`
	}
	if json.Unmarshal(i.body, &request) != nil {
		return
	}
	body, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "method": "notifications/cancelled", "params": map[string]any{
		"requestId": request.ID,
		"_meta":     map[string]any{metaKey: i.x.key, metaTool: i.x.tool},
	}})
	if err != nil {
		return
	}
	ctx, stop := context.WithTimeout(context.WithoutCancel(i.req.Context()), farewell)
	defer stop()
	req := i.req.Clone(ctx)
	req.Body, req.ContentLength, req.GetBody = io.NopCloser(bytes.NewReader(body)), int64(len(body)), nil
	req.Header.Del("Mcp-Name")
	for name := range req.Header {
		if strings.HasPrefix(name, "Mcp-Param-") {
			req.Header.Del(name)
		}
	}
	req.Header.Set("Mcp-Method", "notifications/cancelled")
	if resp, err := i.base.RoundTrip(req); err == nil {
		_ = resp.Body.Close()
	}
}

// unbroken is the body of an event stream that begins anew, with the same request, when it ends before the response has come. It hands on
// whole events only: half of one must not become a part of what comes then. A stream that has event IDs the SDK resumes by itself.
type unbroken struct {
	*insistent
	now   io.ReadCloser
	part  []byte // what has come of an event
	line  int    // where in it the line begins that has not ended
	whole []byte // events that have not been read
	err   error  // what comes after them

	resumable, ended bool
	vain             int // how often it has begun anew since it last had an event
}

// maxVain bounds how often a stream that has nothing is begun anew, one second apart at most.
const maxVain = 8

// Read implements [io.Reader].
func (u *unbroken) Read(p []byte) (int, error) {
	for len(u.whole) == 0 && u.err == nil {
		u.fill()
	}
	n := copy(p, u.whole)
	if u.whole = u.whole[n:]; n > 0 {
		return n, nil
	}
	return 0, u.err
}

// fill reads on, from another response if it must.
func (u *unbroken) fill() {
	buf := make([]byte, 16<<10)
	n, err := u.now.Read(buf)
	u.part = append(u.part, buf[:n]...)
	for {
		n := bytes.IndexByte(u.part[u.line:], '\n')
		if n < 0 {
			break
		}
		line := bytes.TrimSuffix(u.part[u.line:u.line+n], []byte("\r"))
		if u.line += n + 1; len(line) > 0 {
			continue
		}
		if u.see(u.part[:u.line]) { // nothing has begun
			u.resumable, err = false, errAway
			break
		}
		u.whole = append(u.whole, u.part[:u.line]...)
		u.part, u.line = u.part[u.line:], 0
	}
	switch {
	case err == nil:
	case u.resumable || u.ended:
		u.whole, u.err = append(u.whole, u.part...), err
	case u.req.Context().Err() != nil:
		u.cancel()
		u.ended, u.err = true, err
	default:
		u.part, u.line = nil, 0
		if !u.again() {
			u.err = err
		}
	}
}

// again goes on with another response to the same request.
func (u *unbroken) again() bool {
	if u.vain++; u.vain > maxVain {
		return false
	}
	select { // a server that ends each stream at once must not be asked as fast as it can answer
	case <-time.After(min(time.Second, 10*time.Millisecond<<(u.vain-1))):
	case <-u.req.Context().Done():
		u.cancel()
		u.ended = true
		return false
	}
	resp, err := u.send() //nolint:bodyclose // it becomes the one that is read
	if err != nil {
		return false
	}
	_ = u.now.Close()
	u.now = resp.Body
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if next, ok := resp.Body.(*unbroken); ok {
		u.now = next.now
		return true
	}
	body, err := io.ReadAll(resp.Body) // it is whole already
	if err != nil || resp.StatusCode != http.StatusOK || kind != "application/json" {
		return false
	}
	lines := strings.ReplaceAll(strings.TrimSpace(string(body)), "\n", "\ndata: ")
	u.now = io.NopCloser(strings.NewReader("event: message\ndata: " + lines + "\n\n"))
	return true
}

// codeBusy is the error of a call that has not begun. It comes on a stream when the server has taken its time to find out.
const codeBusy = -31010

// see notes what an event has: an ID, or the response. It reports whether that says that nothing has begun.
func (u *unbroken) see(event []byte) (busy bool) {
	var data []byte
	for line := range bytes.Lines(event) {
		line = bytes.TrimRight(line, "\r\n")
		if value, ok := bytes.CutPrefix(line, []byte("data:")); ok {
			data = append(append(data, value...), '\n')
		}
		u.resumable = u.resumable || bytes.HasPrefix(line, []byte("id:"))
	}
	var m struct {
		Method string          `json:"method"`
		Result json.RawMessage `json:"result"`
		Error  *struct {
			Code int64 `json:"code"`
		} `json:"error"`
	}
	if json.Unmarshal(data, &m) == nil && m.Method == "" && (m.Result != nil || m.Error != nil) {
		if m.Error != nil && m.Error.Code == codeBusy {
			return true
		}
		u.ended = true
	}
	if len(data) > 0 {
		u.vain = 0
	}
	return false
}

// Close implements [io.Closer].
func (u *unbroken) Close() error {
	if u.req.Context().Err() != nil && !u.ended && !u.resumable {
		u.cancel()
		u.ended = true
	}
	return u.now.Close()
}
