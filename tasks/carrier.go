package tasks

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"
	"sync/atomic"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// This file is the seam to the SDK. Its client decodes a handle into an empty tool result, and knows nothing of the header that the
// methods of the extension need. Both can be mended only where the request passes as HTTP. The context goes all the way.

type exchangeKey struct{}

// An exchange goes with a request, in its context: down the SDK, to the HTTP request and back.
type exchange struct {
	client      *mcp.Client          // who sends it; nil if that was never enabled
	name        string               // for Mcp-Name (Tasks, "Routing Headers")
	declares    bool                 // that the client knows tasks
	takesHandle bool                 // the answer may be a handle
	handle      atomic.Pointer[Task] // and it was this one
	key, tool   string               // a call's idempotency key, and what it calls; "" when the server heeds none
}

// A carrier carries out the HTTP requests of exchanges.
type carrier struct {
	base http.RoundTripper
}

// RoundTrip implements [http.RoundTripper].
func (c *carrier) RoundTrip(req *http.Request) (*http.Response, error) {
	base := c.base
	if base == nil {
		base = http.DefaultTransport
	}
	x, ok := req.Context().Value(exchangeKey{}).(*exchange)
	if !ok {
		return base.RoundTrip(req)
	}
	if x.name != "" {
		req = req.Clone(req.Context())
		req.Header.Set("Mcp-Name", headerValue(x.name))
	}
	var resp *http.Response
	var err error
	if x.key != "" && req.Method == http.MethodPost {
		resp, err = insist(base, req, x)
	} else {
		resp, err = base.RoundTrip(req)
	}
	if err != nil {
		return nil, err
	}
	switch kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); kind {
	case "application/json":
		resp.Body = &witness{ReadCloser: resp.Body, exchange: x}
	case "text/event-stream":
		resp.Body = &witness{ReadCloser: resp.Body, exchange: x, events: true}
	}
	return resp, nil
}

// headerValue makes a value fit for a header (Streamable HTTP, "Value Encoding").
func headerValue(s string) string {
	plain := s == strings.TrimSpace(s) && !strings.HasPrefix(s, "=?base64?")
	for _, c := range []byte(s) {
		plain = plain && c >= ' ' && c <= '~'
	}
	if plain {
		return s
	}
	return "=?base64?" + base64.StdEncoding.EncodeToString([]byte(s)) + "?="
}

// maxHandle bounds a message that is looked at, in bytes. What is larger is no handle.
const maxHandle = 1 << 20

// A witness is a response's body that looks for a handle in what passes, and changes nothing of it. Whoever reads it, reads a
// message after the witness has seen it.
type witness struct {
	io.ReadCloser
	exchange *exchange
	events   bool
	line     []byte // its beginning; without events, the message
	data     []byte // of the event
	large    bool   // the event, or the message
}

// Read implements [io.Reader].
func (w *witness) Read(p []byte) (int, error) {
	n, err := w.ReadCloser.Read(p)
	rest := p[:n]
	for w.events {
		line, after, whole := bytes.Cut(rest, []byte("\n"))
		if !whole {
			break
		}
		w.keep(line)
		w.endLine()
		rest = after
	}
	w.keep(rest)
	if errors.Is(err, io.EOF) {
		if w.events { // an event that only the end ends counts for the SDK
			w.endLine()
		} else {
			w.data = w.line
		}
		w.endMessage()
	}
	return n, err
}

func (w *witness) keep(part []byte) {
	if len(w.line)+len(w.data)+len(part) > maxHandle {
		w.large, w.data = true, nil
	}
	if w.large {
		part = part[:min(1, len(part))] // it tells the line from an empty one
		w.line = w.line[:min(1, len(w.line))]
	}
	w.line = append(w.line, part...)
}

func (w *witness) endLine() {
	line := bytes.TrimSuffix(w.line, []byte("\r"))
	if data, ok := bytes.CutPrefix(line, []byte("data:")); ok && !w.large {
		w.data = append(append(w.data, bytes.TrimPrefix(data, []byte(" "))...), '\n')
	} else if len(line) == 0 {
		w.endMessage()
	}
	w.line = w.line[:0]
}

func (w *witness) endMessage() {
	if !w.large && len(w.data) > 0 {
		w.exchange.see(w.data)
	}
	w.data, w.large = nil, false
}

// see takes note of a message that brings a handle.
func (x *exchange) see(message []byte) {
	if !bytes.Contains(message, []byte(`"task"`)) {
		return // nearly all of them
	}
	var m struct {
		Result json.RawMessage `json:"result"`
	}
	var t Task
	if json.Unmarshal(message, &m) == nil && isHandleText(m.Result) && json.Unmarshal(m.Result, &t) == nil {
		x.handle.Store(&t)
	}
}

func isHandleText(result []byte) bool {
	var r struct {
		ResultType string `json:"resultType"`
	}
	return json.Unmarshal(result, &r) == nil && r.ResultType == "task"
}

// isHandle tells a handle that the SDK has decoded from a result. What type it had, it says only when it is encoded.
func isHandle(r *mcp.CallToolResult) bool {
	if len(r.Content) > 0 || r.StructuredContent != nil || r.IsError {
		return false
	}
	text, err := json.Marshal(r)
	return err == nil && isHandleText(text)
}
