package spec_test

import (
	"context"
	"os"
	"os/exec"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// TestPanics lets every kind of handler that a server can have panic, in a process of its own, which must live:
// a bug in one handler is an error to its caller, not the end of everybody's calls.
func TestPanics(t *testing.T) {
	const child = "SPEC_PANICS"
	if os.Getenv(child) == "" {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestPanics$", "-test.timeout=60s")
		cmd.Env = append(os.Environ(), child+"=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%.3000s", err, out)
		}
		return
	}
	e := serve(t, func(c *config) {
		c.server = func(o *mcp.ServerOptions) {
			o.CompletionHandler = func(context.Context, *mcp.CompleteRequest) (*mcp.CompleteResult, error) { panic("completion") }
			o.SubscribeHandler = func(context.Context, *mcp.SubscribeRequest) error { panic("subscribe") }
			o.InitializedHandler = func(context.Context, *mcp.InitializedRequest) { panic("initialized") }
			o.RootsListChangedHandler = func(context.Context, *mcp.RootsListChangedRequest) { panic("roots") }
			o.ProgressNotificationHandler = func(context.Context, *mcp.ProgressNotificationServerRequest) { panic("progress") }
		}
	})
	e.srv.AddPrompt(&mcp.Prompt{Name: "boom"}, func(context.Context, *mcp.GetPromptRequest) (*mcp.GetPromptResult, error) { panic("prompt") })
	e.srv.AddResource(&mcp.Resource{Name: "boom", URI: "test://boom"}, func(context.Context, *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) { panic("resource") })
	mcp.AddTool(e.srv, &mcp.Tool{Name: "boom"}, func(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, any, error) { panic("tool") })
	custom := func(context.Context, *mcp.ServerSession, *customParams) (*customResult, error) { panic("custom") }
	if err := mcp.AddReceivingCustomMethod(e.srv, "test/boom", custom); err != nil {
		t.Fatal(err)
	}

	s := e.greet(t, v11, everything)
	s.send(t, notification("notifications/initialized", nil)).has(t, 202, 400)
	s.send(t, notification("notifications/roots/list_changed", nil)).has(t, 202, 400)
	s.send(t, notification("notifications/progress", obj{"progressToken": 1, "progress": 1})).has(t, 202, 400)
	failed := func(name string, r *reply) {
		t.Helper()
		if m := r.response(t); m.Error == nil && !isError(m.object(t)) {
			t.Errorf("%s: answered %v, want an error", name, m)
		}
	}
	requests := map[string]func() obj{
		"completion": func() obj {
			return request(1, "completion/complete", obj{"ref": obj{"type": "ref/prompt", "name": "greet"}, "argument": obj{"name": "name", "value": "A"}})
		},
		"prompt":   func() obj { return request(2, "prompts/get", obj{"name": "boom"}) },
		"resource": func() obj { return request(3, "resources/read", obj{"uri": "test://boom"}) },
		"tool":     func() obj { return call(4, "boom", obj{}) },
		"raw tool": func() obj { return call(5, "panic", obj{}) },
		"custom":   func() obj { return request(6, "test/boom", obj{}) },
	}
	for name, m := range requests {
		failed(name, s.send(t, m()))
		failed(name+" in 2026-07-28", e.send26(t, m()))
	}
	failed("subscribe", s.send(t, request(7, "resources/subscribe", obj{"uri": "test://item/01"})))
	failed("listen", e.send26(t, request(8, "subscriptions/listen", obj{"notifications": obj{"resourceSubscriptions": []string{"test://item/01"}}})))

	if got := s.run(t, "echo", obj{"text": "alive"}); got != "alive" {
		t.Errorf("the session answers %q", got)
	}
	if got := content(t, e.send26(t, call(9, "echo", obj{"text": "alive"})).result(t)); got != "alive" {
		t.Errorf("the endpoint answers %q", got)
	}
}

type customParams struct{ mcp.ParamsBase }

type customResult struct{ mcp.ResultBase }
