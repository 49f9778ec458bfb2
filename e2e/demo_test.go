package e2e_test

import (
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice/e2e"
)

func startDemo(t *testing.T) *e2e.Server {
	t.Helper()
	return e2e.Start(t, e2e.Command("./cmd/mcp-server-demo"), e2e.SSE("/sse"), e2e.Stdio())
}

func TestDemo(t *testing.T) {
	t.Parallel()
	srv := startDemo(t)
	for _, r := range srv.Revisions() {
		t.Run(string(r), func(t *testing.T) {
			t.Parallel()
			var progress e2e.Inbox[*mcp.ProgressNotificationParams]
			session := srv.Connect(t, r, e2e.Progress(&progress), e2e.Accept(map[string]any{"confirm": true}))
			if out := e2e.Call[*mcp.CallToolResult](t, session, "add", addIn{10, 5}); out.Content[0].(*mcp.TextContent).Text != "15" {
				t.Errorf("add(10, 5) = %v", out.Content)
			}
			e2e.Call[*mcp.CallToolResult](t, session, "countdown", countdown(3, 1))
			progress.Wait(t, 3)
			e2e.Call[*mcp.CallToolResult](t, session, "book_table", map[string]int{"guests": 2})
			if text := e2e.CallError(t, session, "add", map[string]any{"a": "ten", "b": 5}); !strings.Contains(text, "a") {
				t.Errorf("wrong argument: %q", text)
			}
		})
	}
}

func TestDemoSnapshot(t *testing.T) {
	t.Parallel()
	srv := startDemo(t)
	e2e.Snapshot(t, srv)
	e2e.TokenBudget(t, srv, 600)
}

func TestDemoStopsGracefully(t *testing.T) {
	t.Parallel()
	if state := startDemo(t).Stop(); !state.Success() {
		t.Errorf("ended with %v", state)
	}
}
