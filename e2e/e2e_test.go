package e2e_test

import (
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice/e2e"
)

// echo is the kit's own server under test.
func echo() e2e.Target { return e2e.Command("./e2e/internal/echoserver") }

func startEcho(t *testing.T) *e2e.Server {
	t.Helper()
	return e2e.Start(t, echo(), e2e.SSE("/sse"), e2e.Stdio())
}

type addIn struct {
	A int `json:"a"`
	B int `json:"b"`
}

type addOut struct {
	Sum int `json:"sum"`
}

func TestEachRevisionCallsTools(t *testing.T) {
	t.Parallel()
	srv := startEcho(t)
	want := "2024-11-05 2025-03-26 2025-06-18 2025-11-25 2026-07-28 2025-11-25-stdio 2026-07-28-stdio"
	var got []string
	for _, r := range srv.Revisions() {
		got = append(got, string(r))
	}
	if strings.Join(got, " ") != want {
		t.Errorf("Revisions() = %v, want %v", got, want)
	}
	e2e.EachRevision(t, srv, func(t *testing.T, session *mcp.ClientSession) {
		if v := session.InitializeResult().ProtocolVersion; !strings.Contains(t.Name(), v) {
			t.Errorf("revision %s", v)
		}
		if out := e2e.Call[addOut](t, session, "add", addIn{10, 5}); out.Sum != 15 {
			t.Errorf("add(10, 5) = %d", out.Sum)
		}
		if out := e2e.Call[string](t, session, "echo", map[string]string{"text": "hi"}); out != "hi" {
			t.Errorf("echo = %q", out)
		}
		if out := e2e.Call[*mcp.CallToolResult](t, session, "add", addIn{1, 2}); len(out.Content) != 1 {
			t.Errorf("content = %v", out.Content)
		}
		if text := e2e.CallError(t, session, "fail", map[string]string{"text": "why"}); text != "failed: why" {
			t.Errorf("fail = %q", text)
		}
	})
}

func TestEachRevisionAnswersTheServer(t *testing.T) {
	t.Parallel()
	srv := startEcho(t)
	e2e.EachRevision(t, srv, func(t *testing.T, session *mcp.ClientSession) {
		got := e2e.Call[string](t, session, "ask", map[string]string{"text": "sure?"})
		if want := "person accept yes, model no, root file:///here"; got != want {
			t.Errorf("ask = %q, want %q", got, want)
		}
	}, e2e.Accept(map[string]any{"answer": "yes"}), e2e.Sample("no"), e2e.Roots("file:///here"))
}

func TestEachRevisionCollectsProgressAndLogs(t *testing.T) {
	t.Parallel()
	srv := startEcho(t)
	for _, r := range srv.Revisions() {
		t.Run(string(r), func(t *testing.T) {
			t.Parallel()
			var progress e2e.Inbox[*mcp.ProgressNotificationParams]
			var logs e2e.Inbox[*mcp.LoggingMessageParams]
			session := srv.Connect(t, r, e2e.Progress(&progress), e2e.Logs("info", &logs))
			e2e.Call[string](t, session, "countdown", map[string]int{"from": 3, "delay_ms": 1})
			for i, p := range progress.Wait(t, 3) {
				if p.Progress != float64(i+1) {
					t.Errorf("progress %d is %v", i, p.Progress)
				}
			}
			e2e.Call[string](t, session, "log", map[string]string{"text": "noted"})
			if l := logs.Wait(t, 1); l[0].Data != "noted" {
				t.Errorf("log = %v", l[0].Data)
			}
		})
	}
}
