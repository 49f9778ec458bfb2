package engine

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice/internal/wire"
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// A progress token comes back as the client wrote it, though the SDK reads numbers as float64.
func TestProgressTokens(t *testing.T) {
	t.Parallel()
	e := New(newServer(), quiet())
	for _, token := range []string{
		`"x"`, `""`, `"9007199254740993"`, `"\u00e9\""`, `0`, `-0`, `7`, `-7`, `9007199254740991`, `9007199254740992`, `9007199254740993`,
		`-9007199254740993`, `18446744073709551615`, `1000000000000000000000`, `123456789012345678901234567890`, "1" + strings.Repeat("0", 300), "1" + strings.Repeat("0", 400),
	} {
		out := &outbox{}
		s := connect(t, e, legacyState(), out)
		params := `{"name":"progress","_meta":{"progressToken":` + token + `}}`
		_, err := s.Do(t.Context(), &Call{Method: "tools/call", Params: json.RawMessage(params), Token: []byte(token), Extra: &mcp.RequestExtra{}})
		said := out.all()
		if len(token) > 310 {
			// No float64: the SDK cannot read the request. That is for it to say.
			if err == nil && (len(said) != 1 || string(wire.Member(said[0].Params, "progressToken")) != token) {
				t.Errorf("%.20s…: %v", token, said)
			}
			continue
		}
		if err != nil || len(said) != 1 || said[0].Method != "notifications/progress" {
			t.Errorf("%s: %v, %v", token, said, err)
			continue
		}
		got := wire.Member(said[0].Params, "progressToken")
		if wire.ID(got).Key() != wire.ID(token).Key() && token != "-0" {
			t.Errorf("%s came back as %s", token, got)
		}
	}
}

// Progress may only name a token that the client gave.
func TestProgressNobodyAskedFor(t *testing.T) {
	t.Parallel()
	out := &outbox{}
	s := connect(t, New(newServer(), quiet()), legacyState(), out)
	if _, err := s.Do(t.Context(), call("tools/call", `{"name":"progress"}`)); err != nil {
		t.Error(err)
	}
	if said := out.all(); len(said) > 0 {
		t.Errorf("said %v", said)
	}
}

func TestPanic(t *testing.T) {
	t.Parallel()
	var log records
	server := newServer()
	s := connect(t, New(server, log.logger()), legacyState(), &outbox{})
	panics := func(name string, f func() error) {
		t.Helper()
		before := len(log.lines())
		err := f()
		if e := ToError(err); err == nil || e.Code != wire.CodeInternal || strings.Contains(e.Message, "purpose") {
			t.Errorf("%s: %v", name, err)
		}
		if lines := log.lines()[before:]; len(lines) != 1 || !strings.Contains(lines[0], "on purpose") || !strings.Contains(lines[0], "server_test.go") && !strings.Contains(lines[0], "session_test.go") {
			t.Errorf("%s: %d lines are logged: %q", name, len(lines), lines)
		}
	}
	panics("a tool", func() error {
		_, err := s.Do(t.Context(), call("tools/call", `{"name":"panic"}`))
		return err
	})
	// On a goroutine of the SDK, a panic would be the end of the process.
	panics("a relayed tool", func() error {
		_, err := s.Relay(t.Context(), call("tools/call", `{"name":"panic"}`))
		return err
	})
	for name, f := range map[string]func(context.Context, *Call) error{
		"directly": func(ctx context.Context, c *Call) error { _, err := s.Do(ctx, c); return err },
		"by relay": func(ctx context.Context, c *Call) error { _, err := s.Relay(ctx, c); return err },
	} {
		if err := f(t.Context(), call("tools/call", `{"name":"echo"}`)); err != nil {
			t.Errorf("the session did not survive: %s: %v", name, err)
		}
	}
	server.AddReceivingMiddleware(func(mcp.MethodHandler) mcp.MethodHandler {
		return func(context.Context, string, mcp.Request) (mcp.Result, error) { panic("on purpose") }
	})
	panics("a relayed call in a middleware", func() error {
		_, err := s.Relay(t.Context(), call("resources/subscribe", `{"uri":"test://r"}`))
		return err
	})
	panics("a notification in a middleware", func() error {
		if err := s.Notify("notifications/roots/list_changed", json.RawMessage(`{}`), nil); err != nil {
			return err
		}
		_, _ = s.Relay(t.Context(), call("nobody/knows", `{}`)) // comes after it
		return wire.Internal("notifications have no answer")
	})
	panics("a middleware", func() error {
		_, err := s.Do(t.Context(), call("tools/list", `{}`))
		return err
	})
}

// Middleware may be added at any time, say for authorization: calls are never let past it.
func TestMiddlewareAddedLater(t *testing.T) {
	t.Parallel()
	server := newServer()
	e := New(server, quiet())
	s := connect(t, e, legacyState(), &outbox{})
	if _, err := e.Watch(func(string, json.RawMessage) {}, nil, nil); err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	ways := map[string]func() error{
		"directly": func() error { _, err := s.Do(t.Context(), call("tools/call", `{"name":"echo"}`)); return err },
		"by relay": func() error { _, err := s.Relay(t.Context(), call("tools/call", `{"name":"echo"}`)); return err },
		"subscribes": func() error {
			_, err := s.Relay(t.Context(), call("resources/subscribe", `{"uri":"test://r"}`))
			return err
		},
	}
	for name, f := range ways {
		if err := f(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	denied := errors.New("denied")
	for range 2 { // the second time, it is not the outermost any more
		server.AddReceivingMiddleware(func(next mcp.MethodHandler) mcp.MethodHandler {
			return func(ctx context.Context, method string, req mcp.Request) (mcp.Result, error) {
				if method == "tools/call" || method == "resources/subscribe" {
					return nil, denied
				}
				return next(ctx, method, req)
			}
		})
		for name, f := range ways {
			if err := f(); err == nil || !strings.Contains(err.Error(), "denied") {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

func TestToolTable(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := newServer()
		lists := 0
		server.AddReceivingMiddleware(func(next mcp.MethodHandler) mcp.MethodHandler {
			return func(ctx context.Context, method string, req mcp.Request) (mcp.Result, error) {
				if method == "tools/list" {
					lists++
				}
				return next(ctx, method, req)
			}
		})
		add := func(hint bool) {
			server.AddTool(&mcp.Tool{
				Name: "new", Annotations: &mcp.ToolAnnotations{ReadOnlyHint: hint},
				InputSchema: json.RawMessage(`{"type":"object","properties":{"a":{"type":"object","properties":{"b":{"type":"string","x-mcp-header":"b-c"}}},"d":{"items":{"properties":{"e":{"x-mcp-header":"no"}}}}}}`),
			}, func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
				return &mcp.CallToolResult{}, nil
			})
		}
		e := New(server, quiet())
		s, err := e.Connect(t.Context(), "", legacyState(), &outbox{})
		if err != nil {
			t.Fatal(err)
		}
		extra := &mcp.RequestExtra{}
		add(true)
		if tool := s.Tool(t.Context(), "new", extra); !tool.Repeatable || lists == 0 {
			t.Errorf("not watched: %+v", tool)
		}
		add(false)
		if s.Tool(t.Context(), "new", extra).Repeatable {
			t.Error("not watched: an old definition")
		}
		var told []string
		if _, err := e.Watch(func(method string, _ json.RawMessage) { told = append(told, method) }, nil, nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		s.Tool(t.Context(), "new", extra)
		lists = 0
		for range 10 {
			tool := s.Tool(t.Context(), "new", extra)
			if tool.Repeatable || len(tool.Headers) != 1 || tool.Headers[0].Header != "Mcp-Param-B-C" || !slices.Equal(tool.Headers[0].Path, []string{"a", "b"}) {
				t.Errorf("%+v", tool)
			}
		}
		if lists > 0 {
			t.Errorf("watched, the list was read %d times again", lists)
		}
		// What is not in the list that is kept may be in the list of this client.
		if unknown := s.Tool(t.Context(), "unknown", extra); unknown.Repeatable || unknown.Headers != nil || lists == 0 {
			t.Errorf("unknown: %+v, after %d lists", unknown, lists)
		}
		add(true)
		time.Sleep(time.Second) // the SDK gathers changes for a moment
		synctest.Wait()
		if !s.Tool(t.Context(), "new", extra).Repeatable {
			t.Error("watched: an old definition after the list changed")
		}
		server.RemoveTools("new")
		time.Sleep(time.Second)
		synctest.Wait()
		if tool := s.Tool(t.Context(), "new", extra); tool.Repeatable || tool.Headers != nil {
			t.Error("watched: a tool that is gone")
		}
		if !slices.Contains(told, "notifications/tools/list_changed") {
			t.Errorf("told %v", told)
		}
		e.Close()
		s.Close()
	})
}

// What a handler asks of its client, and what becomes of the answer.
func TestQuestions(t *testing.T) {
	t.Parallel()
	e := New(newServer(), quiet())
	ask := call("tools/call", `{"name":"ask"}`)
	for _, c := range []struct {
		name   string
		result string
		err    *wire.Error
		want   string
	}{
		{"answered", `{"action":"decline"}`, nil, "decline"},
		{"refused", "", &wire.Error{Code: -1, Message: "the user is asleep"}, ""},
	} {
		out := &outbox{say: func(_ context.Context, m Outgoing) error {
			if m.Reply == nil || m.Ref == nil || m.Method != "elicitation/create" {
				t.Errorf("%s: asked with %+v", c.name, m)
			}
			go m.Reply(json.RawMessage(c.result), c.err)
			return nil
		}}
		s := connect(t, e, legacyState(), out)
		res, err := s.Do(t.Context(), ask)
		if c.err != nil {
			if e := ToError(err); err == nil || e.Code != c.err.Code || !strings.Contains(e.Message, c.err.Message) {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if got := res.(*mcp.CallToolResult).Content[0].(*mcp.TextContent).Text; got != c.want {
			t.Errorf("%s: %s", c.name, got)
		}
	}

	// One that cannot be delivered is the handler's to know, and does no harm.
	refuse := errors.New("no way to the client")
	s := connect(t, e, legacyState(), &outbox{say: func(context.Context, Outgoing) error { return refuse }})
	for range 2 {
		if _, err := s.Do(t.Context(), ask); err == nil || !strings.Contains(err.Error(), refuse.Error()) {
			t.Errorf("undeliverable: %v", err)
		}
	}
	if _, err := s.Do(t.Context(), call("tools/call", `{"name":"echo"}`)); err != nil {
		t.Errorf("the session did not survive: %v", err)
	}
}

// A handler that no longer waits takes its question back, by the same reference.
func TestQuestionsAreTakenBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		out := &outbox{}
		s, err := New(newServer(), quiet()).Connect(t.Context(), "", legacyState(), out)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() {
			_, err := s.Do(ctx, call("tools/call", `{"name":"ask"}`))
			done <- err
		}()
		synctest.Wait()
		cancel()
		if err := <-done; err == nil {
			t.Error("no error")
		}
		synctest.Wait()
		said := out.all()
		if len(said) != 2 || said[1].Method != "notifications/cancelled" || said[1].Ref == nil || said[1].Ref != said[0].Ref {
			t.Fatalf("said %+v", said)
		}
		said[0].Reply(json.RawMessage(`{"action":"accept"}`), nil) // too late, and no harm
		synctest.Wait()
		s.Close()
		said[0].Reply(nil, wire.Internal("after the end"))
	})
}

// A relayed call that is cancelled is awaited: what its handler holds must be free before its session goes.
func TestRelayCancelled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := newServer()
		stopped := false
		server.AddReceivingMiddleware(func(next mcp.MethodHandler) mcp.MethodHandler {
			return func(ctx context.Context, method string, req mcp.Request) (mcp.Result, error) {
				if method != "resources/subscribe" {
					return next(ctx, method, req)
				}
				<-ctx.Done()
				time.Sleep(time.Second) // it takes its time
				stopped = true
				return nil, ctx.Err()
			}
		})
		s, err := New(server, quiet()).Connect(t.Context(), "", legacyState(), &outbox{})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := s.Relay(ctx, call("resources/subscribe", `{"uri":"test://r"}`)); err == nil || !stopped {
			t.Errorf("%v, stopped: %v", err, stopped)
		}
		s.Close()
		if _, err := s.Relay(t.Context(), call("ping", "")); !errors.Is(err, mcp.ErrConnectionClosed) {
			t.Errorf("after the end: %v", err)
		}
		if err := s.Notify("notifications/progress", json.RawMessage(`{}`), nil); !errors.Is(err, mcp.ErrConnectionClosed) {
			t.Errorf("after the end: %v", err)
		}
	})
}

func TestDescribe(t *testing.T) {
	t.Parallel()
	d := New(newServer(), quiet()).Describe(t.Context(), &mcp.RequestExtra{})
	var info mcp.Implementation
	if err := json.Unmarshal(d.ServerInfo, &info); err != nil || info.Name != "test <1>" || info.Version != "1" {
		t.Errorf("%s, %v", d.ServerInfo, err)
	}
	if !slices.Contains(d.Revisions, wire.Rev2026) || !slices.Contains(d.Revisions, wire.Rev0326) {
		t.Errorf("%v", d.Revisions)
	}
}

func TestPrepareInitialize(t *testing.T) {
	t.Parallel()
	const rest = `,"capabilities":{"roots":{}},"clientInfo":{"name":"c","version":"1"}}`
	for _, c := range []struct{ params, want string }{
		{`{"protocolVersion":"2025-06-18"` + rest, wire.Rev0618},
		{`{"protocolVersion":"2025-03-26"` + rest, wire.Rev0326},
		{`{"protocolVersion":"2026-07-28"` + rest, wire.Rev1125},
		{`{"protocolVersion":"1.0"` + rest, wire.Rev1125},
		{`{"protocolVersion":""` + rest, wire.Rev1125},
		{`{"protocolVersion":"2025-\u00306-18"` + rest, wire.Rev0618},
		{`{"protocolVersion":7` + rest, ""},
		{`{"protocolVersion":null` + rest, ""},
		{`{"capabilities":{},"clientInfo":{"name":"c","version":"1"}}`, ""},
		{`{"protocolVersion":"2025-06-18","clientInfo":{"name":"c","version":"1"}}`, ""},
		{`{"protocolVersion":"2025-06-18","capabilities":{}}`, ""},
		{`{"protocolVersion":"2025-06-18","capabilities":[],"clientInfo":{}}`, ""},
		{`{"protocolVersion":"2025-06-18","capabilities":{"roots":7},"clientInfo":{}}`, ""},
		{`{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":"c"}`, ""},
		{`{}`, ""},
		{``, ""},
	} {
		got, e := PrepareInitialize(json.RawMessage(c.params))
		if c.want == "" {
			if e == nil || e.Code != wire.CodeInvalidParams {
				t.Errorf("%s: %s, %v", c.params, got, e)
			}
			continue
		}
		p, err := ParseInitialize(got)
		if e != nil || err != nil || p.ProtocolVersion != c.want || p.Capabilities.RootsV2 == nil || p.ClientInfo.Name != "c" {
			t.Errorf("%s: %s, %v, %v", c.params, got, e, err)
		}
	}
}
