package spec_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// This file has what no statement of the specification says and users of the SDK rely on all the same.

// TestCustomArguments calls a method that a server has added, whose params give words of the specification
// another meaning.
func TestCustomArguments(t *testing.T) {
	e := serve(t)
	echo := func(_ context.Context, _ *mcp.ServerSession, p *listParams) (*textResult, error) {
		return &textResult{Text: fmt.Sprint(p.Arguments)}, nil
	}
	if err := mcp.AddReceivingCustomMethod(e.srv, "test/list", echo); err != nil {
		t.Fatal(err)
	}
	m := func() obj { return request(1, "test/list", obj{"arguments": []string{"a", "b"}}) }
	for version, r := range map[string]*reply{v11: e.open(t, v11).send(t, m()), v26: e.send26(t, m())} {
		if got := r.has(t, 200).result(t)["text"]; got != "[a b]" {
			t.Errorf("%s: got %v, want the arguments", version, got)
		}
	}
	// The methods of the specification have an object there.
	for version, r := range map[string]*reply{
		v11: e.open(t, v11).send(t, request(1, "tools/call", obj{"name": "echo", "arguments": []string{"a"}})),
		v26: e.send26(t, request(1, "tools/call", obj{"name": "echo", "arguments": []string{"a"}})),
	} {
		if m := r.response(t); m.Error == nil || m.Error.Code != -32602 {
			t.Errorf("%s: a tool was called with a list of arguments: %v", version, m)
		}
	}
}

type listParams struct {
	mcp.ParamsBase
	Arguments []string `json:"arguments"`
}

type textResult struct {
	mcp.ResultBase
	Text string `json:"text"`
}

// TestLostID sends requests without an ID. They must not look accepted: their client would wait for ever.
func TestLostID(t *testing.T) {
	e := serve(t)
	for _, method := range []string{"tools/list", "tools/call", "ping", "initialize", "test/unknown", ""} {
		m := func() obj { return notification(method, obj{}) }
		s := e.open(t, v11)
		s.send(t, m()).has(t, 400)
		e.send26(t, m()).has(t, 400)
		if method != "" {
			e.open(t, v03).send(t, []obj{m(), request(1, "ping", nil)}).has(t, 200) // spoils itself only
		}
	}
	for _, method := range []string{"notifications/cancelled", "notifications/of/tomorrow"} {
		e.open(t, v11).send(t, notification(method, obj{})).accepted(t)
		e.send26(t, notification(method, obj{})).accepted(t)
	}
}

// TestNarrowed has servers that speak fewer revisions than the endpoint: the others are unsupported there
// (TL-24), and no error names them (T26-11).
func TestNarrowed(t *testing.T) {
	for _, spoken := range [][]string{{v11}, {v06, v03}, {v26, v06}} {
		t.Run(strings.Join(spoken, " "), func(t *testing.T) {
			e := serve(t, func(c *config) {
				c.server = func(o *mcp.ServerOptions) { o.SupportedProtocolVersions = spoken }
			})
			refuses := func(r *reply, version string) {
				t.Helper()
				m := r.has(t, 400).response(t)
				var data struct{ Supported []string }
				if m.Error == nil || m.Error.Code != -32022 || json.Unmarshal(m.Error.Data, &data) != nil || !slices.Equal(data.Supported, spoken) {
					t.Errorf("%s was answered %v, want -32022 with %v", version, m, spoken)
				}
			}
			s := e.greet(t, spoken[len(spoken)-1], everything)
			for _, version := range []string{"2099-01-01", "1999-01-01", v11, v06, v03, v24} {
				r := s.send(t, request(1, "ping", nil), with("MCP-Protocol-Version", version))
				if slices.Contains(spoken, version) {
					r.has(t, 200).result(t)
					continue
				}
				refuses(r, version)
				refuses(s.get(t, "", with("MCP-Protocol-Version", version)), version)
				refuses(s.delete(t, with("MCP-Protocol-Version", version)), version)
			}
			m := stateless(request(1, "tools/list", nil), everything)
			meta(m)[mcp.MetaKeyProtocolVersion] = "2099-01-01"
			refuses(e.do(t, e.post(t, m, append(mirror(m), with("MCP-Protocol-Version", "2099-01-01"))...)), "2099-01-01")
			s.delete(t).has(t, 200, 202, 204) // it is there to the end
		})
	}
}

// TestTooEarly has a client of HTTP+SSE call before it has said who it is. Nothing runs, every request is answered, and the
// session can be initialized then.
func TestTooEarly(t *testing.T) {
	c := serve(t).openSSE(t)
	for _, m := range []obj{
		call("early", "whoami", obj{}),
		request("early", "tools/list", nil),
		request("early", "logging/setLevel", obj{"level": "info"}),
		request("early", "resources/subscribe", obj{"uri": "test://item/01"}),
		request("early", "test/unknown", nil),
	} {
		c.send(t, m).has(t, 200, 202)
		if got, _ := c.message(t); got.Error == nil || string(got.ID) != `"early"` {
			t.Errorf("before initialize, %v was answered %v", m["method"], got)
		}
	}
	c.send(t, notification("notifications/initialized", nil)).has(t, 200, 202)
	c.send(t, request("early", "ping", nil)).has(t, 200, 202)
	if got, _ := c.message(t); got.Error != nil {
		t.Errorf("ping before initialize was answered %v", got)
	}
	c.initialized(t)
	c.send(t, call(2, "whoami", obj{})).has(t, 200, 202)
	if m, _ := c.message(t); !strings.Contains(content(t, m.object(t)), "elicitation=true") {
		t.Errorf("got %v, want the answer to a client that is known", m)
	}
	c.send(t, initialize(3, v24, obj{})).has(t, 200, 202)
	if m, _ := c.message(t); m.Error == nil {
		t.Errorf("a second initialize was answered %v", m)
	}
}

// TestUnreadStream has a client of HTTP+SSE ask and ask without reading the stream that all answers go to. What waits
// there is bounded (S-05), and the client can go on when it has read.
func TestUnreadStream(t *testing.T) {
	e := serve(t)
	conn, err := e.connect()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	if err := e.request(t, http.MethodGet, "/sse", nil).Write(conn); err != nil {
		t.Fatal(err)
	}
	reader := bufio.NewReader(conn)
	path := ""
	for path == "" {
		line, err := reader.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if data, ok := strings.CutPrefix(line, "data: "); ok {
			path = "/" + strings.TrimSpace(data) // as it stands beside /sse
		}
	}
	send := func(body any) *reply { return e.do(t, e.request(t, http.MethodPost, path, body)) }
	send(initialize(1, v24, everything)).has(t, 202)
	send(notification("notifications/initialized", nil)).has(t, 202)

	const enough = 100 // of a megabyte each
	refused := 0
	for i := range enough {
		if r := send(call(i+2, "big", obj{"n": 1 << 20})); r.status != 202 {
			r.has(t, 429)
			if r.header.Get("Retry-After") == "" {
				t.Error("refused without Retry-After")
			}
			refused++
		}
	}
	if refused < enough/2 {
		t.Fatalf("%d of %d calls were refused, though nobody reads the answers", refused, enough)
	}
	send(notification("notifications/cancelled", obj{"requestId": 2})).has(t, 202)
	send(obj{"jsonrpc": "2.0", "id": "nobody", "result": obj{}}).has(t, 202)

	go func() { _, _ = io.Copy(io.Discard, reader) }()
	eventually(t, "a call is taken again", func() bool { return send(request("late", "ping", nil)).status == 202 })
}

// TestReachable asks a client that it finds in the server's list of sessions, as programs do. Whoever can be asked and has a stream
// open is there, also when it opened it long after its last call.
func TestReachable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := serve(t, virtual)
		s := e.open(t, v11)
		time.Sleep(time.Minute) // the session is forgotten by all but the store
		get := s.listen(t, "")
		for range 2 {
			reached := 0
			for ss := range e.srv.Sessions() {
				if ss.ID() == s.id {
					reached++
					go func() { _, _ = ss.ListRoots(t.Context(), nil) }()
				}
			}
			if reached != 1 {
				t.Fatalf("the client is %d times among the server's sessions", reached)
			}
			m, _ := get.message(t)
			if m.Method != "roots/list" {
				t.Fatalf("got %v, want what the client was asked", m)
			}
			s.send(t, obj{"jsonrpc": "2.0", "id": m.ID, "result": obj{"roots": []obj{}}}).has(t, 202)
			time.Sleep(time.Minute)
		}
	})
}

// TestClosedByServer has a tool end its session, and a program all sessions of its server. The client is told to initialize
// again, as the SDK tells it, and nobody else is harmed.
func TestClosedByServer(t *testing.T) {
	e := serve(t)
	e.srv.AddTool(&mcp.Tool{Name: "leave", InputSchema: json.RawMessage(anyInput)},
		func(_ context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			go func() { _ = req.Session.Close() }() // it waits for the call
			return text("bye"), nil
		})
	ended := func(t *testing.T, s *session) {
		t.Helper()
		eventually(t, "the session has ended", func() bool { return s.send(t, request(s.next(), "ping", nil)).status == 404 })
		s.get(t, "").has(t, 404)
		eventually(t, "nothing is left of the session", func() bool { return s.delete(t).status == 404 })
	}
	t.Run("session", func(t *testing.T) {
		s, other := e.open(t, v11), e.open(t, v11)
		get := s.listen(t, "")
		if got := s.run(t, "leave", obj{}); got != "bye" {
			t.Errorf("the call that closed its session was answered %q", got)
		}
		ended(t, s)
		if rest := get.rest(t); len(rest) > 0 {
			t.Errorf("the stream ended with %v", rest)
		}
		if got := other.run(t, "echo", obj{"text": "here"}); got != "here" {
			t.Errorf("another session answers %q", got)
		}
	})
	t.Run("call in flight", func(t *testing.T) {
		s := e.open(t, v11)
		slow := s.start(t, call(1, "slow", obj{"key": "k"}))
		e.await(t, "k", "running")
		s.run(t, "leave", obj{})
		eventually(t, "nothing new begins", func() bool { return s.send(t, request(s.next(), "ping", nil)).status == 404 })
		e.release("k")
		if got := content(t, slow.reply(t).result(t)); got != "slow k" {
			t.Errorf("the call in flight was answered %q", got)
		}
		ended(t, s)
	})
	t.Run("2024-11-05", func(t *testing.T) {
		c := e.openSSE(t).initialized(t)
		c.send(t, call(2, "leave", obj{})).has(t, 202)
		if m, _ := c.message(t); string(m.ID) != "2" || m.Error != nil {
			t.Errorf("the call that closed its session was answered %v", m)
		}
		c.rest(t)
		c.send(t, request(3, "ping", nil)).has(t, 404)
	})
	speaks := func(t *testing.T) {
		t.Helper()
		all := e.send26(t, tokened(call(2, "steps", obj{"n": 1}), "p")).messages(t)
		if n := methods(all)["notifications/progress"]; n != 2 {
			t.Errorf("%d progress notifications of the next call, want 2: %v", n, all)
		}
	}
	t.Run("2026-07-28", func(t *testing.T) {
		e.srv.AddTool(&mcp.Tool{Name: "leave_now", InputSchema: json.RawMessage(anyInput)},
			func(_ context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
				return text("bye"), req.Session.Close()
			})
		for range 3 {
			speaks(t)
			e.send26(t, call(1, "leave_now", obj{})).has(t, 200)
		}
		speaks(t)
	})
	t.Run("everybody", func(t *testing.T) {
		s := e.open(t, v11)
		speaks(t)
		for ss := range e.srv.Sessions() {
			_ = ss.Close()
		}
		speaks(t)
		ended(t, s)
		s = e.open(t, v11)
		get := s.listen(t, "")
		e.touch(t, "new")
		if m, _ := get.message(t); m.Method != "notifications/tools/list_changed" {
			t.Errorf("got %v, want the change that came afterwards", m)
		}
	})
}

// TestStrangers has a server whose middleware lets in only who is known to it, by a header and by what an HTTP middleware has put
// into the context. Its results tell whose they are (L-17).
func TestStrangers(t *testing.T) {
	type key struct{}
	e := serve(t, func(c *config) {
		c.wrap = func(_ *env, inner http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				inner.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), key{}, r.Header.Get("X-User"))))
			})
		}
	})
	e.srv.AddReceivingMiddleware(func(next mcp.MethodHandler) mcp.MethodHandler {
		return func(ctx context.Context, method string, req mcp.Request) (mcp.Result, error) {
			if extra := req.GetExtra(); extra == nil || extra.Header.Get("X-User") != "alice" || ctx.Value(key{}) != "alice" {
				return nil, errors.New("who are you?")
			}
			return next(ctx, method, req)
		}
	})
	alice := with("X-User", "alice")
	if m := e.send26(t, call(1, "echo", obj{"text": "x"}), with("X-User", "mallory")).response(t); m.Error == nil {
		t.Errorf("a stranger was let in: %v", m)
	}
	for _, m := range []obj{call(1, "echo", obj{"text": "x"}), request(1, "server/discover", nil), request(1, "tools/list", nil)} {
		meta, _ := e.send26(t, m, alice).has(t, 200).result(t)["_meta"].(obj)
		if info, _ := meta[mcp.MetaKeyServerInfo].(obj); info["name"] != "spec" {
			t.Errorf("%v: the result does not tell whose it is: %v", m["method"], meta)
		}
	}
	s := e.open(t, v11, alice)
	for _, m := range []obj{
		call(1, "echo", obj{"text": "x"}), request(1, "logging/setLevel", obj{"level": "info"}),
		request(1, "resources/subscribe", obj{"uri": "test://item/01"}), request(1, "ping", nil),
	} {
		s.send(t, m).has(t, 200).result(t)
	}
	c := e.openSSE(t, alice).initialized(t)
	c.send(t, call(2, "echo", obj{"text": "x"})).has(t, 202)
	if m, _ := c.message(t); m.Error != nil {
		t.Errorf("over HTTP+SSE, a client that is known was answered %v", m)
	}
}

// TestQuietServer has a server that does not tell when its tools change, as its capabilities say. What the endpoint knows of a
// tool must not be what the tool once was: the headers that mirror its arguments are checked by its definition (T26-17).
func TestQuietServer(t *testing.T) {
	e := serve(t, func(c *config) {
		c.server = func(o *mcp.ServerOptions) {
			o.Capabilities = &mcp.ServerCapabilities{Tools: &mcp.ToolCapabilities{ListChanged: false}}
		}
	})
	define := func(property string) {
		e.srv.AddTool(&mcp.Tool{Name: "moody", InputSchema: json.RawMessage(`{"type":"object","properties":{"place":` + property + `}}`)},
			func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) { return text("ok"), nil })
	}
	m := func() obj { return call(1, "moody", obj{"place": "here"}) }
	define(`{"type":"string","x-mcp-header":"Place"}`)
	for range 3 {
		e.send26(t, m(), with("Mcp-Param-Place", "here")).has(t, 200).result(t)
		e.send26(t, m()).has(t, 400)
	}
	define(`{"type":"string"}`)
	e.send26(t, m()).has(t, 200).result(t)
}

// TestAskingNobody has a handler ask a client that has left before anything was said, so that there is no event to come back with.
// It is told at once (C-07); that the client has left is no cancellation (TL-12), so what needs no answer goes on.
func TestAskingNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := serve(t, virtual)
		e.srv.AddTool(&mcp.Tool{Name: "ask_late", InputSchema: json.RawMessage(anyInput)},
			func(ctx context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
				e.set("late", "running")
				<-e.gate("late")
				if err := req.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{ProgressToken: "p", Progress: 1}); err != nil {
					e.set("late", err.Error())
					return nil, err
				}
				_, err := req.Session.Elicit(ctx, &mcp.ElicitParams{Message: "Anybody?"})
				e.set("late", fmt.Sprint("asked: ", err != nil))
				return text("done"), nil
			})
		s := e.open(t, v11)
		x := s.start(t, tokened(call(1, "ask_late", obj{}), "p"))
		e.await(t, "late", "running")
		_ = x.conn.Close()
		synctest.Wait()
		before := time.Now()
		e.release("late")
		synctest.Wait()
		if got, _ := e.get("late"); got != "asked: true" || time.Since(before) > 0 {
			t.Errorf("after %v the handler is %q, want it to know that nobody can be asked", time.Since(before), got)
		}
	})
}

// TestPushToAll says something else than changes to all sessions of the server. One of them is the endpoint's own, by which it hears
// of changes, and which stands for those that only listen: each client hears it once.
func TestPushToAll(t *testing.T) {
	e := serve(t)
	s := e.open(t, v11)
	get := s.listen(t, "")
	// What is said to a listener is what it has subscribed to (L-23).
	listener := e.send26(t, request(1, "subscriptions/listen", obj{"notifications": obj{"toolsListChanged": true}})).events(t)
	if m, _ := listener.message(t); m.Method != "notifications/subscriptions/acknowledged" {
		t.Fatalf("listening began with %v", m)
	}
	for ss := range e.srv.Sessions() {
		err := errors.Join(
			ss.NotifyProgress(t.Context(), &mcp.ProgressNotificationParams{ProgressToken: "to all", Progress: 1}),
			ss.NotifyElicitationComplete(t.Context(), &mcp.ElicitationCompleteParams{ElicitationID: "to all"}),
		)
		if err != nil && ss.ID() == s.id {
			t.Error(err)
		}
	}
	for range 2 {
		if m, _ := get.message(t); !strings.Contains(m.String(), "to all") {
			t.Errorf("got %v", m)
		}
	}
	get.quiet(t, "everything was said once")
	e.touch(t, "new")
	if m, _ := listener.message(t); m.Method != "notifications/tools/list_changed" {
		t.Errorf("a listener was told %v, want what it has subscribed to", m)
	}
}

// TestForgedState has clients of the session era bring a state and answers that only 2026-07-28 has, where they are sealed and
// checked (L-20, L-22). A handler cannot tell the one client from the other, so it must not get to see them.
func TestForgedState(t *testing.T) {
	e := serve(t)
	seen := func(kind, state string, responses mcp.InputResponseMap) string {
		return fmt.Sprintf("%s: state %q, %d responses", kind, state, len(responses))
	}
	e.srv.AddTool(&mcp.Tool{Name: "trusting", InputSchema: json.RawMessage(anyInput)},
		func(_ context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			return text("%s", seen("tool", req.Params.RequestState, req.Params.InputResponses)), nil
		})
	e.srv.AddPrompt(&mcp.Prompt{Name: "trusting"}, func(_ context.Context, req *mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
		return &mcp.GetPromptResult{Description: seen("prompt", req.Params.RequestState, req.Params.InputResponses)}, nil
	})
	e.srv.AddResource(&mcp.Resource{Name: "trusting", URI: "test://trusting"}, func(_ context.Context, req *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
		return &mcp.ReadResourceResult{Contents: []*mcp.ResourceContents{{URI: req.Params.URI, Text: seen("resource", req.Params.RequestState, req.Params.InputResponses)}}}, nil
	})
	forge := func(method string, params obj) obj {
		params["requestState"] = "the user is alice"
		params["inputResponses"] = obj{"name": obj{"action": "accept", "content": obj{"name": 42}}}
		return request(2, method, params)
	}
	requests := map[string]func() obj{
		"tool":     func() obj { return forge("tools/call", obj{"name": "trusting", "arguments": obj{}}) },
		"prompt":   func() obj { return forge("prompts/get", obj{"name": "trusting"}) },
		"resource": func() obj { return forge("resources/read", obj{"uri": "test://trusting"}) },
	}
	for kind, m := range requests {
		want := kind + `: state "", 0 responses`
		check := func(where string, got message) {
			t.Helper()
			if text := strings.ReplaceAll(got.String(), `\"`, `"`); got.Error != nil || !strings.Contains(text, want) {
				t.Errorf("%s: got %s, want %s", where, text, want)
			}
		}
		for _, v := range legacy {
			check(v, e.open(t, v).send(t, m()).response(t))
		}
		c := e.openSSE(t).initialized(t)
		c.send(t, m()).has(t, 202)
		got, _ := c.message(t)
		check(v24, got)
		check(v03+", batch", e.open(t, v03).send(t, []obj{m()}).response(t))
		e.send26(t, m()).has(t, 400)
	}
}
