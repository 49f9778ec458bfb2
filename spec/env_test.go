package spec_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice"
	"github.com/sluice-mcp/sluice/internal/schematest"
)

// The revisions, oldest first.
const (
	v24 = "2024-11-05"
	v03 = "2025-03-26"
	v06 = "2025-06-18"
	v11 = "2025-11-25"
	v26 = "2026-07-28"
)

var (
	legacy = []string{v03, v06, v11}           // sessions over Streamable HTTP
	newest = []string{v26, v11, v06, v03, v24} // as the endpoint lists them
)

type obj = map[string]any

// An env is one endpoint that serves, the server behind it, and the probe into its tools.
type env struct {
	*probe
	h       *sluice.Handler
	srv     *mcp.Server
	addr    string
	connect func() (net.Conn, error)
}

// config is what a test may change before the endpoint starts.
type config struct {
	options sluice.Options
	server  func(*mcp.ServerOptions)
	pipe    bool // net.Pipe instead of TCP, for virtual time
	counted bool // memory or time is: nothing watches what the endpoint writes, and remembers it

	readTimeout time.Duration                                 // of the http.Server; none if zero
	wrap        func(e *env, inner http.Handler) http.Handler // middleware around it all; none if nil
}

// serve starts an endpoint at /mcp, and the 2024-11-05 transport at /sse and /messages, until the test ends.
func serve(t *testing.T, edits ...func(*config)) *env {
	t.Helper()
	var c config
	for _, edit := range edits {
		edit(&c)
	}
	e := &env{probe: newProbe()}
	e.srv = newServer(e.probe, c.server)
	e.h = sluice.NewHandler(func(*http.Request) *mcp.Server { return e.srv }, &c.options)
	mux := http.NewServeMux()
	mux.Handle("/mcp", e.h)
	mux.Handle("GET /sse", e.h.HTTPSSE("/messages"))
	mux.Handle("POST /messages", e.h.HTTPSSE("/messages"))

	var listener net.Listener
	if c.pipe {
		p := newPipes()
		listener, e.addr, e.connect = p, "127.0.0.1:8000", p.dial
	} else {
		var err error
		if listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		e.addr = listener.Addr().String()
		e.connect = func() (net.Conn, error) { return net.Dial("tcp", e.addr) }
	}
	var root http.Handler = mux
	if !c.counted {
		root = schematest.Watch(t, mux)
	}
	if c.wrap != nil {
		root = c.wrap(e, root)
	}
	hs := &http.Server{Handler: root, ReadTimeout: c.readTimeout}
	var wg sync.WaitGroup
	wg.Go(func() { _ = hs.Serve(listener) })
	t.Cleanup(func() {
		closed := make(chan error, 1)
		go func() { closed <- e.h.Close() }()
		select {
		case err := <-closed:
			if err != nil {
				t.Errorf("Close: %v", err)
			}
		case <-time.After(patience):
			t.Errorf("Close does not return")
		}
		_ = hs.Close()
		wg.Wait()
		e.drained(t)
	})
	return e
}

// drained fails when a tool still runs after the endpoint has been closed, and then lets it go.
func (e *env) drained(t *testing.T) {
	deadline := time.Now().Add(patience / 5)
	for e.add(0) > 0 {
		if time.Now().After(deadline) {
			t.Errorf("%d tools still run after Close", e.add(0))
			break
		}
		time.Sleep(time.Millisecond)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, gate := range e.gates {
		select {
		case <-gate:
		default:
			close(gate)
		}
	}
}

func virtual(c *config) { c.pipe = true }
func counted(c *config) { c.counted = true }

// authenticated requires a bearer token, by the SDK's middleware, so that the endpoint knows who calls: alice and
// bob are people, anonymous-1 and anonymous-2 tokens whose issuer names nobody. How tokens are judged is section 8.
func authenticated(c *config) {
	verify := func(_ context.Context, token string, _ *http.Request) (*auth.TokenInfo, error) {
		info := &auth.TokenInfo{Expiration: time.Now().Add(time.Hour)}
		switch token {
		case "alice", "bob":
			info.UserID = token
		case "anonymous-1", "anonymous-2":
		default:
			return nil, auth.ErrInvalidToken
		}
		return info, nil
	}
	c.wrap = func(_ *env, inner http.Handler) http.Handler { return auth.RequireBearerToken(verify, nil)(inner) }
}

// request and notification make JSON-RPC messages.
func request(id any, method string, params any) obj {
	m := obj{"jsonrpc": "2.0", "id": id, "method": method}
	if params != nil {
		m["params"] = params
	}
	return m
}

func notification(method string, params any) obj {
	m := request(0, method, params)
	delete(m, "id")
	return m
}

func call(id any, tool string, arguments obj) obj {
	return request(id, "tools/call", obj{"name": tool, "arguments": arguments})
}

// tokened adds a progress token to a request.
func tokened(m obj, token any) obj {
	params, _ := m["params"].(obj)
	meta, _ := params["_meta"].(obj)
	if meta == nil {
		meta = obj{}
		params["_meta"] = meta
	}
	meta["progressToken"] = token
	return m
}

// everything is what a client declares that can do all.
var everything = obj{"elicitation": obj{}, "sampling": obj{}, "roots": obj{"listChanged": true}}

func initialize(id any, version string, caps obj) obj {
	return request(id, "initialize", obj{"protocolVersion": version, "capabilities": caps, "clientInfo": obj{"name": "spec-client", "version": "1"}})
}

// A session is a client of 2025-03-26 to 2025-11-25.
type session struct {
	*env
	id, version string
	edits       []edit
	last        atomic.Int64
}

// open initializes a session that can do everything.
func (e *env) open(t *testing.T, version string, edits ...edit) *session {
	t.Helper()
	s := e.greet(t, version, everything, edits...)
	e.do(t, s.post(t, notification("notifications/initialized", nil))).accepted(t)
	return s
}

// greet sends initialize, but not notifications/initialized.
func (e *env) greet(t *testing.T, version string, caps obj, edits ...edit) *session {
	t.Helper()
	r := e.do(t, e.post(t, initialize(1, version, caps), edits...)).has(t, 200)
	s := &session{env: e, id: r.header.Get("Mcp-Session-Id"), version: version, edits: edits}
	s.last.Store(100)
	if s.id == "" {
		t.Fatalf("initialize %s gave no session ID", version)
	}
	if got := r.result(t)["protocolVersion"]; got != version {
		t.Fatalf("initialize %s negotiated %v", version, got)
	}
	return s
}

// next returns a request ID not used before in the session.
func (s *session) next() int64 { return s.last.Add(1) }

// own makes the headers of a request in the session.
func (s *session) own(edits []edit) []edit {
	all := append(slices.Clone(s.edits), with("Mcp-Session-Id", s.id))
	if s.version >= v06 {
		all = append(all, with("MCP-Protocol-Version", s.version))
	}
	return append(all, edits...)
}

func (s *session) post(t *testing.T, body any, edits ...edit) *http.Request {
	t.Helper()
	return s.env.post(t, body, s.own(edits)...)
}

func (s *session) send(t *testing.T, body any, edits ...edit) *reply {
	t.Helper()
	return s.do(t, s.post(t, body, edits...))
}

// start posts a request and waits for nothing.
func (s *session) start(t *testing.T, body any, edits ...edit) *exchange {
	t.Helper()
	return s.begin(t, s.post(t, body, edits...))
}

// listen opens a GET stream, a fresh one or, with an event ID, the rest of another.
func (s *session) listen(t *testing.T, lastEventID string) *stream {
	t.Helper()
	return s.get(t, lastEventID).events(t)
}

func (s *session) get(t *testing.T, lastEventID string, edits ...edit) *reply {
	t.Helper()
	if lastEventID != "" {
		edits = append(edits, with("Last-Event-ID", lastEventID))
	}
	return s.do(t, s.request(t, http.MethodGet, "/mcp", nil, s.own(edits)...))
}

func (s *session) delete(t *testing.T, edits ...edit) *reply {
	t.Helper()
	return s.do(t, s.request(t, http.MethodDelete, "/mcp", nil, s.own(edits)...))
}

// answer posts the client's result of a request of the server.
func (s *session) answer(t *testing.T, to message, result obj) *reply {
	t.Helper()
	return s.send(t, obj{"jsonrpc": "2.0", "id": to.ID, "result": result})
}

// run sends a call and returns the text of its result.
func (s *session) run(t *testing.T, tool string, arguments obj) string {
	t.Helper()
	return content(t, s.send(t, call(s.next(), tool, arguments)).has(t, 200).result(t))
}

// content returns the text of a tool's result.
func content(t *testing.T, result obj) string {
	t.Helper()
	list, _ := result["content"].([]any)
	if len(list) == 0 {
		t.Fatalf("no content in %v", result)
	}
	first, _ := list[0].(obj)
	s, _ := first["text"].(string)
	return s
}

// isError reports whether a tool's result is an error of the tool.
func isError(result obj) bool { return result["isError"] == true }

// modern makes a request of 2026-07-28, with the headers that mirror its body.
func (e *env) modern(t *testing.T, m obj, edits ...edit) *http.Request {
	t.Helper()
	return e.post(t, stateless(m, everything), append(mirror(m), edits...)...)
}

// send26 sends a request of 2026-07-28 and waits for the answer.
func (e *env) send26(t *testing.T, m obj, edits ...edit) *reply {
	t.Helper()
	return e.do(t, e.modern(t, m, edits...))
}

// stateless adds the metadata that every request of 2026-07-28 carries, where it is absent.
func stateless(m obj, caps any) obj {
	params, _ := m["params"].(obj)
	if params == nil {
		params = obj{}
		m["params"] = params
	}
	meta, _ := params["_meta"].(obj)
	if meta == nil {
		meta = obj{}
		params["_meta"] = meta
	}
	defaults := obj{
		mcp.MetaKeyProtocolVersion:    v26,
		mcp.MetaKeyClientInfo:         obj{"name": "spec-client", "version": "1"},
		mcp.MetaKeyClientCapabilities: caps,
	}
	for key, value := range defaults {
		if _, ok := meta[key]; !ok {
			meta[key] = value
		}
	}
	return m
}

// meta returns the metadata of a request made by stateless.
func meta(m obj) obj { return m["params"].(obj)["_meta"].(obj) }

// mirror makes the headers that repeat parts of the body.
func mirror(m obj) []edit {
	method, _ := m["method"].(string)
	edits := []edit{with("MCP-Protocol-Version", v26), with("Mcp-Method", method)}
	params, _ := m["params"].(obj)
	switch method {
	case "tools/call", "prompts/get":
		edits = append(edits, with("Mcp-Name", fmt.Sprint(params["name"])))
	case "resources/read":
		edits = append(edits, with("Mcp-Name", fmt.Sprint(params["uri"])))
	case "tasks/get", "tasks/update", "tasks/cancel":
		edits = append(edits, with("Mcp-Name", fmt.Sprint(params["taskId"])))
	}
	return edits
}

// eachVersion runs a subtest per revision.
func eachVersion(t *testing.T, versions []string, test func(t *testing.T, version string)) {
	t.Helper()
	for _, v := range versions {
		t.Run(v, func(t *testing.T) { t.Parallel(); test(t, v) })
	}
}

// touch adds a tool and takes it away later, so that tools/list_changed is due.
func (e *env) touch(t *testing.T, name string) {
	t.Helper()
	e.srv.AddTool(&mcp.Tool{Name: name, InputSchema: json.RawMessage(anyInput)},
		func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) { return text("%s", name), nil })
}

// methods counts messages by method, responses as "response".
func methods(all []message) map[string]int {
	n := map[string]int{}
	for _, m := range all {
		if m.Method == "" {
			n["response"]++
		} else {
			n[m.Method]++
		}
	}
	return n
}

// eventually polls a condition that nothing announces.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", patience, what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// pipes is a listener over net.Pipe, which virtual time understands.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), done: make(chan struct{})} }

func (p *pipes) dial() (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case p.conns <- server:
		return client, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return loopback{c}, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.once.Do(func() { close(p.done) }); return nil }
func (p *pipes) Addr() net.Addr { return loopback{}.LocalAddr() }

// loopback gives a pipe the addresses of a local connection, for the Host check looks at them.
type loopback struct{ net.Conn }

func (loopback) LocalAddr() net.Addr {
	return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 8000}
}

func (loopback) RemoteAddr() net.Addr {
	return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 50000}
}

// lower makes a header name that Go's client would never send.
func lower(name, value string) edit {
	return func(r *http.Request) {
		r.Header.Del(name)
		r.Header[strings.ToLower(name)] = []string{value}
	}
}
