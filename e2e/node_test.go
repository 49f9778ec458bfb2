package e2e_test

import (
	"os"
	"os/exec"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice/e2e"
)

func TestServerInAnotherLanguage(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("node"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("CI must have node")
		}
		t.Skip("no node on this machine")
	}
	srv := e2e.Start(t, e2e.Argv("node", "testdata/node/server.mjs", "{port}"), e2e.Speaks("2025-06-18", "2025-11-25"))
	e2e.EachRevision(t, srv, func(t *testing.T, session *mcp.ClientSession) {
		if out := e2e.Call[int](t, session, "add", addIn{10, 5}); out != 15 {
			t.Errorf("add(10, 5) = %d", out)
		}
		if text := e2e.CallError(t, session, "add", map[string]any{"a": "ten"}); text != "a and b must be numbers" {
			t.Errorf("wrong arguments: %q", text)
		}
	})
	e2e.Snapshot(t, srv)

	var progress e2e.Inbox[*mcp.ProgressNotificationParams]
	proxy := e2e.Proxy(t, srv)
	proxy.Inject(e2e.Buffer())
	session := proxy.Connect(t, "2025-11-25", e2e.Progress(&progress))
	e2e.Call[int](t, session, "add", addIn{1, 2})
	progress.Wait(t, 1)

	if state := srv.Stop(); !state.Success() {
		t.Errorf("ended with %v", state)
	}
}
