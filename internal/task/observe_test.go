package task_test

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice/internal/observed"
	"github.com/sluice-mcp/sluice/internal/sitetest"
	"github.com/sluice-mcp/sluice/observe"
)

// A call that becomes a task is told of with its handle, and then each round of the work, in the trace of the call, wherever that is.
func TestObserveTasks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cl, ran := newTasks(t, 0)
		cl.Options.TaskAfter = time.Second
		var books []*sitetest.Ledger
		for range 2 {
			book, server := sitetest.NewLedger(t), taskServer(ran)
			server.AddReceivingMiddleware(func(next mcp.MethodHandler) mcp.MethodHandler {
				return func(ctx context.Context, method string, req mcp.Request) (mcp.Result, error) {
					if e := sitetest.Within(ctx); method == "tools/call" && (e == nil || e.Method != "tools/call") {
						t.Errorf("a round runs with the context of %+v", e)
					}
					return next(ctx, method, req)
				}
			})
			cl.Options.Observer = book
			cl.Add(server)
			books = append(books, book)
		}
		sites := cl.Sites
		c := taskClient{caps: taskCaps}
		call := func(at *sitetest.Site, tool, args string) *taskReply { return c.call(t, at, tool, args) }
		h := call(sites[0], "work", `{"ID":"1","MS":3000,"secret":"`+sitetest.Canary+`"}`)
		time.Sleep(5 * time.Second)
		books[0].Want(t, "tools/call work: ok task", "tools/call work round 1: ok task")
		sitetest.WantTold(t, books[0], observe.TaskChanged{Task: observed.Name(h.TaskID), To: "working"}, observe.TaskChanged{Task: observed.Name(h.TaskID), From: "working", To: "completed"})
		books[0].Hides(t, h.TaskID)

		books[0].Forget()
		long := call(sites[0], "auto", `{"ID":"2","MS":3000}`)
		if long.ResultType != "task" {
			t.Fatalf("%+v", long)
		}
		time.Sleep(5 * time.Second)
		books[0].Want(t, "tools/call auto: ok task", "tools/call auto round 1: ok task")

		books[0].Forget()
		asked := call(sites[0], "ask", `{"ID":"3"}`)
		time.Sleep(time.Second)
		c.update(t, sites[1], asked.TaskID, `{"a.1":{"action":"accept","content":{"x":"`+sitetest.Canary+`"}},"b.1":{"action":"accept","content":{"x":"y"}}}`)
		time.Sleep(time.Second)
		books[0].Want(t, "tools/call ask: ok task", "tools/call ask round 1: input_required task")
		books[1].Want(t, "tasks/update: ok json", "tools/call ask round 2: ok task")

		books[0].Forget()
		books[1].Forget()
		cancelled := call(sites[0], "pay", `{"ID":"4","MS":60000}`)
		c.cancel(t, sites[1], cancelled.TaskID)
		time.Sleep(time.Second)
		books[0].Want(t, "tools/call pay: ok task", "tools/call pay round 1: cancelled")

		books[0].Forget()
		books[1].Forget()
		call(sites[0], "work", `{"ID":"5","MS":10000}`)
		call(sites[0], "pay", `{"ID":"6","MS":10000}`)
		time.Sleep(time.Second)
		sites[0].Kill()
		time.Sleep(time.Minute)
		synctest.Wait()
		got := books[1].Said()
		slices.Sort(got)
		if diff := cmp.Diff([]string{"tools/call pay takeover 1 round 1: lost -31011 task", "tools/call work takeover 1 round 1: ok task"}, got); diff != "" {
			t.Error(diff)
		}
		var won, repeated, lost int
		for _, e := range sitetest.Told[observe.Takeover](books[1]) {
			won, repeated, lost = won+1, repeated+e.Repeated, lost+e.Lost
		}
		if won != 2 || repeated != 1 || lost != 1 {
			t.Errorf("%d takeovers, %d repeated, %d lost", won, repeated, lost)
		}
		books[0].Hides(t)
		books[1].Hides(t)
	})
}
