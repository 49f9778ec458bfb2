package proxy_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice"
	"github.com/sluice-mcp/sluice/e2e"
	"github.com/sluice-mcp/sluice/internal/proxy"
	"github.com/sluice-mcp/sluice/internal/schematest"
)

const patience = 2 * time.Minute

// A client is at the other end of a bridge.
type client struct {
	t    *testing.T
	in   *io.PipeWriter
	out  *bufio.Reader
	pipe *io.PipeReader
	done chan error
	said *schematest.Conversation

	patience time.Duration
}

func bridge(t *testing.T, url string) *client {
	t.Helper()
	return bridgeThrough(t, url, proxy.NewTransport())
}

// newClient returns the client at the other ends of in and out.
func newClient(t *testing.T, in *io.PipeWriter, out *io.PipeReader) *client {
	return &client{t: t, in: in, out: bufio.NewReader(out), pipe: out, done: make(chan error, 1), patience: patience}
}

func bridgeThrough(t *testing.T, url string, transport interface {
	http.RoundTripper
	CloseIdleConnections()
},
) *client {
	t.Helper()
	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	c := newClient(t, inW, outR)
	c.said = schematest.NewConversation(t, schematest.Server) // tests send what they like
	c.out = bufio.NewReader(c.said.Lines(schematest.Server, outR))
	b := &proxy.Bridge{URL: url, Transport: transport, Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
	go func() {
		err := b.Run(t.Context(), c.said.Lines(schematest.Client, inR), outW)
		_ = outW.Close()
		transport.CloseIdleConnections()
		c.done <- err
	}()
	t.Cleanup(func() { // the test's context ends before this
		_ = inW.Close()
		_, _ = io.Copy(io.Discard, outR)
		select {
		case err := <-c.done:
			if err != nil {
				t.Errorf("the bridge ended with %v", err)
			}
		case <-time.After(patience):
			t.Error("the bridge does not end")
		}
	})
	return c
}

func (c *client) send(lines ...string) {
	c.t.Helper()
	sent := make(chan error, 1)
	go func() {
		_, err := io.WriteString(c.in, strings.Join(lines, "\n")+"\n")
		sent <- err
	}()
	c.sent(sent)
}

func (c *client) sent(sent <-chan error) {
	c.t.Helper()
	select {
	case err := <-sent:
		if err != nil {
			c.t.Fatal(err)
		}
	case <-time.After(patience):
		c.t.Fatal("the bridge does not read")
	}
}

// receive returns the next line, which must be one message.
func (c *client) receive() map[string]any {
	c.t.Helper()
	type read struct {
		line []byte
		err  error
	}
	got := make(chan read, 1)
	go func() {
		line, err := c.out.ReadBytes('\n')
		got <- read{line, err}
	}()
	select {
	case r := <-got:
		var m map[string]any
		if err := errors.Join(r.err, json.Unmarshal(r.line, &m)); err != nil {
			c.t.Fatalf("received %q: %v", r.line, err)
		}
		return m
	case <-time.After(c.patience):
		c.t.Fatal("nothing received")
		return nil
	}
}

// connect runs the SDK's client over the bridge, as over the stdio of a server.
func (c *client) connect(revision string, opts *mcp.ClientOptions) *mcp.ClientSession {
	c.t.Helper()
	session, err := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "v1"}, opts).
		Connect(c.t.Context(), &mcp.IOTransport{Reader: io.NopCloser(c.out), Writer: c.in}, &mcp.ClientSessionOptions{ProtocolVersion: revision})
	if err != nil {
		c.t.Fatal(err)
	}
	if got := session.InitializeResult().ProtocolVersion; got != revision {
		c.t.Fatalf("revision %s, want %s", got, revision)
	}
	return session
}

var revisions = []string{"2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28"}

func startDemo(t *testing.T) *e2e.Server {
	t.Helper()
	return e2e.Start(t, e2e.Command("./cmd/mcp-server-demo"))
}

func countdown(ctx context.Context, session *mcp.ClientSession, from, delay int) (*mcp.CallToolResult, error) {
	params := &mcp.CallToolParams{Name: "countdown", Arguments: map[string]int{"from": from, "delay_ms": delay}}
	params.SetProgressToken("p")
	return session.CallTool(ctx, params)
}

// progress collects what the server reports, in order.
func progress(to chan<- float64) *mcp.ClientOptions {
	return &mcp.ClientOptions{
		ProgressNotificationHandler: func(_ context.Context, req *mcp.ProgressNotificationClientRequest) { to <- req.Params.Progress },
	}
}

func expectSteps(t *testing.T, steps <-chan float64, n int) {
	t.Helper()
	for want := 1; want <= n; want++ {
		select {
		case got := <-steps:
			if got != float64(want) {
				t.Fatalf("progress %v, want %d", got, want)
			}
		case <-time.After(patience):
			t.Fatalf("progress ended before %d", want)
		}
	}
	select {
	case got := <-steps:
		t.Errorf("progress %v after the last", got)
	default:
	}
}

func TestBridge(t *testing.T) {
	t.Parallel()
	srv := startDemo(t)
	for _, revision := range revisions {
		t.Run(revision, func(t *testing.T) {
			t.Parallel()
			steps := make(chan float64, 100)
			opts := progress(steps)
			opts.ElicitationHandler = func(context.Context, *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
				return &mcp.ElicitResult{Action: "accept", Content: map[string]any{"confirm": true}}, nil
			}
			session := bridge(t, srv.URL()).connect(revision, opts)
			if text := e2e.Call[*mcp.CallToolResult](t, session, "add", map[string]int{"a": 10, "b": 5}).Content[0].(*mcp.TextContent).Text; text != "15" {
				t.Errorf("add: %q", text)
			}
			if _, err := countdown(t.Context(), session, 3, 1); err != nil {
				t.Error(err)
			}
			expectSteps(t, steps, 3)
			if text := e2e.Call[string](t, session, "book_table", map[string]int{"guests": 2}); !strings.Contains(text, "Booked") && revision > "2025-03-26" {
				t.Errorf("book_table: %q", text)
			}
			if _, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "no such tool"}); err == nil || !strings.Contains(err.Error(), "no such tool") {
				t.Errorf("an error of the server's arrives as %v", err)
			}
			res, err := session.ReadResource(t.Context(), &mcp.ReadResourceParams{URI: "greeting://J%C3%BCrg"})
			if err != nil || !strings.Contains(res.Contents[0].Text, "Jürg") {
				t.Errorf("resource: %+v, %v", res, err)
			}
		})
	}
}

// What the network cuts, a session resumes, and nothing is lost or comes twice. Without a session the call is asked for again, by its
// idempotency key; a
// server that heeds none leaves it in doubt, which is a definite error.
func TestCut(t *testing.T) {
	t.Parallel()
	srv := startDemo(t)
	t.Run("session", func(t *testing.T) {
		t.Parallel()
		between := e2e.Proxy(t, srv)
		steps := make(chan float64, 100)
		session := bridge(t, between.URL()).connect("2025-11-25", progress(steps))
		cut := between.Inject(e2e.CutAfterEvents(3).On("tools/call").Once())
		again := between.Inject(e2e.CutAfterEvents(2).On("GET").Once())
		res, err := countdown(t.Context(), session, 10, 50)
		if err != nil || res.IsError {
			t.Fatalf("%+v, %v", res, err)
		}
		expectSteps(t, steps, 10)
		if cut.Hits() != 1 || again.Hits() != 1 {
			t.Errorf("the network cut %d and %d streams", cut.Hits(), again.Hits())
		}
	})
	t.Run("no session", func(t *testing.T) {
		t.Parallel()
		between := e2e.Proxy(t, srv)
		steps := make(chan float64, 100)
		session := bridge(t, between.URL()).connect("2026-07-28", progress(steps))
		cut := between.Inject(e2e.CutAfterEvents(2).On("tools/call").Once())
		if res, err := countdown(t.Context(), session, 10, 500); err != nil || res.IsError {
			t.Errorf("%+v, %v", res, err)
		}
		for last := 0.0; last < 10; { // what was said in between is lost
			select {
			case step := <-steps:
				if step <= last {
					t.Errorf("progress %v after %v", step, last)
				}
				last = step
			case <-time.After(patience):
				t.Fatalf("no progress after %v", last)
			}
		}
		if cut.Hits() != 1 {
			t.Errorf("the network cut %d streams", cut.Hits())
		}
		if _, err := countdown(t.Context(), session, 1, 1); err != nil {
			t.Errorf("the next call: %v", err)
		}
	})
}

// A server that comes back has forgotten its sessions; the client need not know. While it is away, requests wait.
func TestRestart(t *testing.T) {
	t.Parallel()
	for _, revision := range []string{"2025-11-25", "2026-07-28"} {
		t.Run(revision, func(t *testing.T) {
			t.Parallel()
			srv := startDemo(t)
			session := bridge(t, srv.URL()).connect(revision, nil)
			for range 2 {
				srv.Kill()
				called := make(chan error, 1)
				go func() {
					_, err := countdown(t.Context(), session, 1, 1)
					// Over a connection that nobody knew to be dead it is an honest error, but only once.
					if err != nil && strings.Contains(err.Error(), "unknown whether") {
						_, err = countdown(t.Context(), session, 1, 1)
					}
					called <- err
				}()
				srv.Restart()
				select {
				case err := <-called:
					if err != nil {
						t.Error(err)
					}
				case <-time.After(patience):
					t.Fatal("the call does not end")
				}
			}
		})
	}
}

// A server in this process, which tells what reaches it.
type server struct {
	*httptest.Server
	requests chan *http.Request
	began    chan struct{} // a call of the tool "wait"
	ended    chan struct{} // one whose context is done
}

func serve(t *testing.T) *server {
	t.Helper()
	s := &server{requests: make(chan *http.Request, 100), began: make(chan struct{}, 10), ended: make(chan struct{}, 10)}
	m := mcp.NewServer(&mcp.Implementation{Name: "test", Version: "v1"}, nil)
	object := func(properties string) json.RawMessage {
		return json.RawMessage(`{"type":"object","properties":` + properties + `}`)
	}
	m.AddTool(&mcp.Tool{Name: "plain", InputSchema: object(`{}`)}, func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: "plain"}}}, nil
	})
	m.AddTool(&mcp.Tool{Name: "mirrored", InputSchema: object(`{
		"region": {"type":"string","x-mcp-header":"Region"},
		"nested": {"type":"object","properties":{"n":{"type":"integer","x-mcp-header":"N"},"b":{"type":"boolean","x-mcp-header":"B"}}}
	}`)}, func(_ context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: string(req.Params.Arguments)}}}, nil
	})
	m.AddTool(&mcp.Tool{Name: "wait", InputSchema: object(`{}`)}, func(ctx context.Context, _ *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		s.began <- struct{}{}
		<-ctx.Done()
		s.ended <- struct{}{}
		return nil, ctx.Err()
	})
	h := sluice.NewHandler(func(*http.Request) *mcp.Server { return m }, nil)
	watched := schematest.Watch(t, h)
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case s.requests <- r:
		default:
		}
		watched.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		h.Close()
		s.CloseClientConnections()
		s.Close()
	})
	return s
}

// modern is a request of the stateless era.
func modern(id any, method, params string) string {
	if params != "" {
		params += ","
	}
	raw, _ := json.Marshal(id)
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"method":%q,"params":{%s"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28",`+
		`"io.modelcontextprotocol/clientInfo":{"name":"t","version":"1"},"io.modelcontextprotocol/clientCapabilities":{},"progressToken":"x"}}}`, raw, method, params)
}

func TestMirroredArguments(t *testing.T) {
	t.Parallel()
	s := serve(t)
	c := bridge(t, s.URL)
	for _, arguments := range []string{
		`{"region":"eu","nested":{"n":42,"b":true}}`,
		`{"region":" Zürich\n"}`,
		`{"region":"=?base64?literal?=","nested":{"n":-7}}`,
		`{"region":null,"nested":{"b":false}}`,
		`{}`,
	} {
		c.send(modern(7, "tools/call", `"name":"mirrored","arguments":`+arguments))
		got := c.receive()
		result, _ := got["result"].(map[string]any)
		if got["id"] != 7.0 || result == nil || result["isError"] == true {
			t.Errorf("%s: %v", arguments, got)
		}
	}
	lists := 0
	for range len(s.requests) {
		if r := <-s.requests; r.Header.Get("Mcp-Method") == "tools/list" {
			lists++
		}
	}
	if lists != 1 {
		t.Errorf("tools were listed %d times, want once", lists)
	}
}

func TestCancel(t *testing.T) {
	t.Parallel()
	await := func(t *testing.T, s *server) {
		t.Helper()
		select {
		case <-s.ended:
		case <-time.After(patience):
			t.Fatal("the tool runs on")
		}
	}
	cancel := `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"w"}}`
	t.Run("no session", func(t *testing.T) {
		t.Parallel()
		s := serve(t)
		c := bridge(t, s.URL)
		c.send(modern("w", "tools/call", `"name":"wait","arguments":{}`), cancel)
		await(t, s)
		c.send(modern(2, "tools/call", `"name":"plain","arguments":{}`))
		if got := c.receive(); got["id"] != 2.0 {
			t.Errorf("said about a cancelled request: %v", got)
		}
	})
	t.Run("session", func(t *testing.T) {
		t.Parallel()
		s := serve(t)
		c := bridge(t, s.URL)
		open(c)
		c.send(`{"jsonrpc":"2.0","id":"w","method":"tools/call","params":{"name":"wait","arguments":{}}}`)
		select {
		case <-s.began:
		case <-time.After(patience):
			t.Fatal("the tool does not run")
		}
		c.send(`{"jsonrpc":"2.0","id":1,"method":"ping"}`)
		if got := c.receive(); got["id"] != 1.0 {
			t.Errorf("ping: %v", got)
		}
		c.send(cancel)
		await(t, s)
		c.send(`{"jsonrpc":"2.0","id":2,"method":"ping"}`)
		if got := c.receive(); got["id"] != 2.0 {
			t.Errorf("said about a cancelled request: %v", got)
		}
	})
}

const (
	initialize = `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},` +
		`"clientInfo":{"name":"t","version":"1"}}}`
	initialized = `{"jsonrpc":"2.0","method":"notifications/initialized"}`
)

func open(c *client) {
	c.t.Helper()
	c.send(initialize)
	if got := c.receive(); got["id"] != 0.0 || got["result"] == nil {
		c.t.Fatalf("initialize: %v", got)
	}
	c.send(initialized)
}

// The end of the input ends the bridge: after the calls in flight, not after the streams that have no end, and with a farewell.
func TestEndOfInput(t *testing.T) {
	t.Parallel()
	s := serve(t)
	c := bridge(t, s.URL)
	c.said.Exempt("two eras on one connection")
	open(c)
	c.send(modern("l", "subscriptions/listen", `"notifications":{"toolsListChanged":true}`))
	if got := c.receive(); got["method"] != "notifications/subscriptions/acknowledged" {
		t.Errorf("listen: %v", got)
	}
	c.send(`{"jsonrpc":"2.0","id":3,"method":"ping"}`)
	begun := time.Now()
	_ = c.in.Close()
	if got := c.receive(); got["id"] != 3.0 {
		t.Errorf("the call in flight: %v", got)
	}
	if rest, err := io.ReadAll(c.out); err != nil || len(rest) > 0 {
		t.Errorf("after the last answer: %q, %v", rest, err)
	}
	if took := time.Since(begun); took > 4*time.Second {
		t.Errorf("it took %v", took)
	}
	var methods []string
	for range len(s.requests) {
		methods = append(methods, (<-s.requests).Method)
	}
	if !slices.Contains(methods, http.MethodDelete) {
		t.Errorf("the session was not ended: %v", methods)
	}
}

// A client that does not wait for the session to be open has its messages wait.
func TestImpatientClient(t *testing.T) {
	t.Parallel()
	c := bridge(t, serve(t).URL)
	sent := make(chan error, 1)
	go func() {
		_, err := io.WriteString(c.in, initialize+"\n"+initialized+"\n"+
			`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"plain","arguments":{}}}`+"\n")
		sent <- err
	}()
	for id := range 2 {
		if got := c.receive(); got["id"] != float64(id) || got["result"] == nil {
			t.Errorf("request %d: %v", id, got)
		}
	}
	c.sent(sent)
}

// A batch of the revision that had them, and what is no message.
func TestLines(t *testing.T) {
	t.Parallel()
	c := bridge(t, serve(t).URL)
	open(c)
	c.send("", `[{"jsonrpc":"2.0","id":1,"method":"ping"},{"jsonrpc":"2.0","method":"notifications/x"}]`)
	if got := c.receive(); got["id"] != 1.0 || got["result"] == nil {
		t.Errorf("batch: %v", got)
	}
	for bad, code := range map[string]float64{
		"{": -32700, "[1": -32700, "\ufeff" + `{"jsonrpc":"2.0","id":1,"method":"ping"}`: -32700,
		"[]": -32600, `["x"]`: -32600, "null": -32600, `{"method":"ping"}`: -32600,
	} {
		c.send(bad)
		got := c.receive()
		e, _ := got["error"].(map[string]any)
		if id, there := got["id"]; !there || id != nil || e["code"] != code {
			t.Errorf("%s: %v, want code %v", bad, got, code)
		}
	}
}

// Whatever comes instead of an answer, the client gets one.
func TestNoAnswer(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		handler http.HandlerFunc
		want    string // in the message
		code    float64
	}{
		"page":      {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") }, "not MCP", -32000},
		"gateway":   {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no\nbackend", http.StatusBadGateway) }, "HTTP 502 Bad Gateway: no backend", -32000},
		"forbidden": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }, "HTTP 403 Forbidden", -32000},
		"redirect":  {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) }, "HTTP", -32000},
		"accepted":  {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusAccepted) }, "HTTP 202", -32000},
		"own error": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprint(w, "{\"jsonrpc\":\"2.0\",\n\"error\":{\"code\":-32022,\"message\":\"no such revision\",\"data\":{\"supported\":[]}}}")
		}, "no such revision", -32022},
		"cut": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "unknown whether", -32000},
		"ended": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			fmt.Fprint(w, ": hello\n\n")
		}, "unknown whether", -32000},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := httptest.NewServer(tt.handler)
			defer srv.Close()
			c := bridge(t, srv.URL)
			c.send(`{"jsonrpc":"2.0","id":"a","method":"ping"}`)
			got := c.receive()
			e, _ := got["error"].(map[string]any)
			if message, _ := e["message"].(string); got["id"] != "a" || e["code"] != tt.code || !strings.Contains(message, tt.want) {
				t.Errorf("%v, want code %v and %q", got, tt.code, tt.want)
			}
		})
	}
	t.Run("nobody there", func(t *testing.T) {
		t.Parallel()
		c := bridge(t, "http://127.0.0.1:1/")
		c.send(`{"jsonrpc":"2.0","id":"a","method":"ping"}`)
		if got := fmt.Sprint(c.receive()); !strings.Contains(got, "could not be sent") || !strings.Contains(got, "refused") {
			t.Errorf("%v", got)
		}
	})
}
