//nolint:testableexamples // they need the t of a test, so they are compiled only
package e2e_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice/e2e"
	"github.com/sluice-mcp/sluice/tasks"
)

// In these examples, t is what go test gives a test; so they are compiled, not run.
var t *testing.T

type (
	In  struct{ A, B int }
	Out struct{ Sum int }
)

func ExampleStart() {
	srv := e2e.Start(t, e2e.Command("./cmd/server"))
	session := srv.Connect(t, "2025-11-25")
	if out := e2e.Call[Out](t, session, "add", In{10, 5}); out.Sum != 15 {
		t.Errorf("add(10, 5) = %d", out.Sum)
	}
}

func ExampleEachRevision() {
	srv := e2e.Start(t, e2e.Command("./cmd/server"), e2e.SSE("/sse"), e2e.Stdio())
	e2e.EachRevision(t, srv, func(t *testing.T, session *mcp.ClientSession) {
		if out := e2e.Call[Out](t, session, "add", In{10, 5}); out.Sum != 15 {
			t.Errorf("add(10, 5) = %d", out.Sum)
		}
	})
}

func ExampleArgv() {
	srv := e2e.Start(t, e2e.Argv("node", "server.js", "--port={port}"), e2e.Speaks("2025-06-18"))
	e2e.Call[string](t, srv.Connect(t, "2025-06-18"), "add", In{10, 5})
}

func ExampleURL() {
	srv := e2e.Start(t, e2e.URL("https://staging.example.com/mcp"))
	session := srv.Connect(t, e2e.Latest, e2e.Header("Authorization", "Bearer secret"))
	e2e.Call[Out](t, session, "add", In{10, 5})
}

func ExampleAccept() {
	srv := e2e.Start(t, e2e.Command("./cmd/server"))
	session := srv.Connect(t, e2e.Latest, e2e.Accept(map[string]any{"confirm": true}))
	e2e.Call[string](t, session, "book_table", map[string]int{"guests": 2})
}

func ExampleProgress() {
	srv := e2e.Start(t, e2e.Command("./cmd/server"))
	var progress e2e.Inbox[*mcp.ProgressNotificationParams]
	session := srv.Connect(t, e2e.Latest, e2e.Progress(&progress))
	e2e.Call[string](t, session, "countdown", map[string]int{"from": 3})
	for _, p := range progress.Wait(t, 3) {
		t.Logf("%v of %v", p.Progress, p.Total)
	}
}

func ExampleProxy() {
	proxy := e2e.Proxy(t, e2e.Start(t, e2e.Command("./cmd/server")))
	session := proxy.Connect(t, "2025-11-25")

	proxy.Inject(e2e.CutAfterEvents(2).On("tools/call").Once())
	e2e.Call[string](t, session, "countdown", map[string]int{"from": 5}) // the client resumes

	slow := proxy.Inject(e2e.Latency(300 * time.Millisecond))
	e2e.Call[Out](t, session, "add", In{10, 5})
	slow.Remove()
}

func ExampleReplicas() {
	cluster := e2e.Replicas(t, 3, e2e.Command("./cmd/server"), e2e.Env("MCP_STORE_URL=redis://127.0.0.1:6379"))
	session := e2e.RawConnect(t, cluster, nil)

	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	call := session.CallTool(ctx, "countdown", map[string]int{"from": 10, "delay_ms": 100})
	if _, err := call.Next(); err != nil { // it runs
		t.Fatal(err)
	}
	cluster.Servers[0].Kill()
	if _, err := call.Result(); err != nil {
		t.Fatal(err)
	}
	if call.Stats.Duplicates > 0 || call.Stats.OutOfOrder > 0 {
		t.Errorf("%+v", call.Stats)
	}
}

func ExampleStartTask() {
	cluster := e2e.Replicas(t, 2, e2e.Command("./cmd/server"), e2e.Env("MCP_STORE_URL=redis://127.0.0.1:6379"))
	canBeAsked := e2e.Cancel()

	task := e2e.StartTask(t, cluster.Servers[0].Connect(t, e2e.Latest, canBeAsked), "audit", map[string]int{"steps": 10})
	cluster.Servers[0].Kill()
	task = task.On(cluster.Servers[1].Connect(t, e2e.Latest, canBeAsked))
	task.Answer(t, &mcp.ElicitResult{Action: "accept", Content: map[string]any{"go_on": true}})
	if out := e2e.TaskResult[string](t, task); out != "Audited 10 steps." {
		t.Error(out)
	}
	if want := []tasks.Status{tasks.InputRequired, tasks.Completed}; !slices.Equal(task.Path(), want) {
		t.Errorf("%v, want %v", task.Path(), want)
	}
}

func ExampleSnapshot() {
	srv := e2e.Start(t, e2e.Command("./cmd/server"))
	e2e.Snapshot(t, srv) // go test -update writes it
	e2e.TokenBudget(t, srv, 2000)
}

func ExampleConformance() {
	srv := e2e.Start(t, e2e.Command("./cmd/server"))
	e2e.Conformance(t, srv, e2e.Scenarios("server-initialize", "tools-list"), e2e.Require())
}
