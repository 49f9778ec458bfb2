package sluice

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice/internal/schematest"
)

// A site is one replica as its clients see it: requests go straight to the handler, over
// connections that can be lost with what is on its way in them.
type site struct {
	name    string
	tap     *tap
	server  *mcp.Server // nil if sessions have their own
	handler *Handler
	watched http.Handler // the handler, and what it writes is judged

	mu    sync.Mutex
	down  bool
	thaw  chan struct{} // not nil while the process is stopped
	conns map[*conn]struct{}
}

// conn is one request and its response.
type conn struct {
	site   *site
	cancel context.CancelFunc
	header http.Header
	ready  chan struct{} // closed when the status is known
	status int

	mu   sync.Mutex
	cond *sync.Cond
	buf  bytes.Buffer
	err  error // comes after what is in buf
	lost bool
}

// RoundTrip implements [http.RoundTripper].
func (s *site) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancel(r.Context())
	c := &conn{site: s, cancel: cancel, header: make(http.Header), ready: make(chan struct{})}
	c.cond = sync.NewCond(&c.mu)
	s.mu.Lock()
	if s.down {
		s.mu.Unlock()
		cancel()
		return nil, syscall.ECONNREFUSED
	}
	s.conns[c] = struct{}{}
	s.mu.Unlock()

	in := r.Clone(ctx)
	in.Host, in.RemoteAddr, in.RequestURI = "127.0.0.1", "127.0.0.1:1", r.URL.RequestURI()
	if in.Body == nil {
		in.Body = http.NoBody
	}
	go func() {
		s.awake()
		s.watched.ServeHTTP(c, in)
		c.WriteHeader(http.StatusOK)
		c.end(io.EOF, false)
	}()
	select {
	case <-c.ready:
	case <-r.Context().Done():
		c.end(r.Context().Err(), true)
		return nil, r.Context().Err()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.status == 0 {
		return nil, syscall.ECONNRESET
	}
	return &http.Response{
		StatusCode: c.status, Status: http.StatusText(c.status), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: c.header.Clone(), Body: (*connBody)(c), Request: r,
	}, nil
}

func (c *conn) Header() http.Header { return c.header }

func (c *conn) WriteHeader(status int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.status == 0 && !c.lost {
		c.status = status
		close(c.ready)
	}
}

func (c *conn) Write(p []byte) (int, error) {
	c.site.awake()
	c.WriteHeader(http.StatusOK)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return 0, io.ErrClosedPipe
	}
	c.cond.Broadcast()
	return c.buf.Write(p)
}

func (c *conn) FlushError() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return io.ErrClosedPipe
	}
	return nil
}

// end ends the response; when it is lost, so is what the client has not read.
func (c *conn) end(err error, lost bool) {
	c.mu.Lock()
	if c.err == nil || lost {
		c.err = err
	}
	if lost {
		if c.status == 0 && !c.lost {
			close(c.ready)
		}
		c.lost = true
		c.buf.Reset()
	}
	c.cond.Broadcast()
	c.mu.Unlock()
	c.cancel()
	c.site.mu.Lock()
	delete(c.site.conns, c)
	c.site.mu.Unlock()
}

// connBody is the client's end of a conn.
type connBody conn

func (b *connBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.buf.Len() == 0 && b.err == nil {
		b.cond.Wait()
	}
	if b.buf.Len() > 0 {
		return b.buf.Read(p)
	}
	return 0, b.err
}

func (b *connBody) Close() error {
	(*conn)(b).end(errLeft, true)
	return nil
}

var errLeft = errors.New("closed by the client")

// cut loses all connections of a site.
func (s *site) cut() {
	s.mu.Lock()
	all := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		all = append(all, c)
	}
	s.mu.Unlock()
	for _, c := range all {
		c.end(syscall.ECONNRESET, true)
	}
}

// awake waits while the process is stopped.
func (s *site) awake() {
	s.mu.Lock()
	thaw := s.thaw
	s.mu.Unlock()
	if thaw != nil {
		<-thaw
	}
}

// freeze stops the process, as SIGSTOP does.
func (s *site) freeze() {
	s.tap.set(tapFrozen)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.thaw == nil {
		s.thaw = make(chan struct{})
	}
}

func (s *site) unfreeze() {
	s.tap.open()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.thaw != nil {
		close(s.thaw)
		s.thaw = nil
	}
}

// shut closes the listener, and loses the connections that have not ended after a while.
func (s *site) shut(patience time.Duration) {
	s.mu.Lock()
	s.down = true
	s.mu.Unlock()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(time.Millisecond) {
		s.mu.Lock()
		n := len(s.conns)
		s.mu.Unlock()
		if n == 0 {
			break
		}
	}
	s.cut()
}

// kill ends the process, as SIGKILL does.
func (s *site) kill() {
	s.mu.Lock()
	s.down = true
	s.mu.Unlock()
	s.unfreeze()
	s.tap.set(tapDead)
	s.cut()
	_ = s.handler.Close() // to free the memory; nobody can tell
}

// newSite starts a replica; one without a tap shares nothing. Whoever starts it sees to its end.
func newSite(t testing.TB, name string, way *tap, opts Options, getServer func() *mcp.Server) *site {
	if way != nil {
		opts.Store = way
	}
	h := NewHandler(func(*http.Request) *mcp.Server { return getServer() }, &opts)
	return &site{name: name, tap: way, conns: make(map[*conn]struct{}), handler: h, watched: schematest.Watch(t, h)}
}

// A client speaks one revision of the session era, and sends each request to the replica that it is told.
type client struct {
	version string
	session string
	caps    string // JSON
}

const bothTypes = "application/json, text/event-stream"

func (c *client) do(ctx context.Context, at *site, method, body, lastEvent string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://127.0.0.1/mcp", strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", bothTypes)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.session != "" {
		req.Header.Set("Mcp-Session-Id", c.session)
		req.Header.Set("Mcp-Protocol-Version", c.version)
	}
	if lastEvent != "" {
		req.Header.Set("Last-Event-ID", lastEvent)
	}
	return at.RoundTrip(req)
}

// post sends a message and returns the answer as it stands.
func (c *client) post(t testing.TB, at *site, body string) *response {
	t.Helper()
	resp, err := c.do(t.Context(), at, http.MethodPost, body, "") //nolint:bodyclose // the response's reader closes it
	if err != nil {
		t.Fatalf("%s: %v", at.name, err)
	}
	return newResponse(resp)
}

func (c *client) get(t testing.TB, at *site, lastEvent string) *response {
	t.Helper()
	resp, err := c.do(t.Context(), at, http.MethodGet, "", lastEvent) //nolint:bodyclose // as above
	if err != nil {
		t.Fatalf("%s: %v", at.name, err)
	}
	return newResponse(resp)
}

// open initializes a session at one replica and says initialized at another.
func (c *client) open(t testing.TB, first, second *site) {
	t.Helper()
	a := c.post(t, first, fmt.Sprintf(`{"jsonrpc":"2.0","id":"init","method":"initialize","params":{"protocolVersion":%q,"capabilities":%s,"clientInfo":{"name":"t","version":"1"}}}`,
		c.version, c.caps))
	if m := a.message(t); m.Error != nil {
		t.Fatalf("initialize: %s", m.Error)
	}
	c.session = a.Header.Get("Mcp-Session-Id")
	if got := c.post(t, second, `{"jsonrpc":"2.0","method":"notifications/initialized"}`).StatusCode; got != http.StatusAccepted {
		t.Fatalf("initialized at another replica: status %d", got)
	}
}

// tool is a tools/call with progress.
func tool(id, name, args string) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":%q,"method":"tools/call","params":{"name":%q,"arguments":%s,"_meta":{"progressToken":%q}}}`, id, name, args, id)
}

// A response is one of either shape.
type response struct {
	*http.Response
	lines *bufio.Scanner
	last  string // event ID
	retry bool
}

func newResponse(resp *http.Response) *response {
	a := &response{Response: resp, lines: bufio.NewScanner(resp.Body)}
	a.lines.Buffer(nil, 16<<20)
	return a
}

func (a *response) stream() bool {
	return strings.HasPrefix(a.Header.Get("Content-Type"), "text/event-stream")
}

// rpc is a JSON-RPC message.
type rpc struct {
	ID     json.RawMessage `json:"id"`
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
	Result json.RawMessage `json:"result"`
	Error  json.RawMessage `json:"error"`
}

func (m rpc) text() string {
	if m.Error != nil {
		return "error " + string(m.Error)
	}
	var r struct {
		Content []struct{ Text string }
		IsError bool
	}
	_ = json.Unmarshal(m.Result, &r)
	out := ""
	for _, c := range r.Content {
		out += c.Text
	}
	if r.IsError {
		return "tool error: " + out
	}
	return out
}

// An event is one block of a stream.
type event struct {
	id    string
	data  string
	retry bool
}

func (e event) message() (m rpc) {
	_ = json.Unmarshal([]byte(e.data), &m)
	return m
}

// next returns the next event, io.EOF at an orderly end.
func (a *response) next() (event, error) {
	var e event
	some, isEvent := false, false
	for a.lines.Scan() {
		line := a.lines.Text()
		name, value, _ := strings.Cut(line, ": ")
		switch {
		case line == "" && some:
			if e.id != "" {
				a.last = e.id
			}
			a.retry = a.retry || e.retry
			if !isEvent {
				e.id = "" // an ID without data is no event: it only says where to go on
			}
			if some = isEvent || e.retry; some {
				return e, nil
			}
		case line == "":
		case name == "id":
			e.id, some = value, true
		case name == "data" || line == "data:":
			e.data, some, isEvent = value, true, true
		case name == "retry":
			e.retry, some = true, true
		}
	}
	if err := a.lines.Err(); err != nil {
		return e, err
	}
	return e, io.EOF
}

// message returns the next message, of a stream or the only one of a JSON body.
func (a *response) message(t testing.TB) rpc {
	t.Helper()
	if !a.stream() {
		var m rpc
		body, err := io.ReadAll(a.Body)
		if err == nil {
			err = json.Unmarshal(body, &m)
		}
		if err != nil {
			t.Fatalf("status %d, body %q: %v", a.StatusCode, body, err)
		}
		return m
	}
	for {
		e, err := a.next()
		if err != nil {
			t.Fatalf("after event %q: %v", a.last, err)
		}
		if e.data != "" {
			return e.message()
		}
	}
}

// rest returns the messages up to the stream's end.
func (a *response) rest(t testing.TB) []rpc {
	t.Helper()
	var out []rpc
	for {
		e, err := a.next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatalf("after event %q: %v", a.last, err)
		}
		if e.data != "" {
			out = append(out, e.message())
		}
	}
}

func (a *response) close() { _ = a.Body.Close() }

// eventually waits for a condition; in a bubble, in virtual time.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 10 s: %s", what)
		}
	}
}
