package observed_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice"
	"github.com/sluice-mcp/sluice/internal/observed"
	"github.com/sluice-mcp/sluice/internal/sitetest"
	"github.com/sluice-mcp/sluice/internal/wire"
	"github.com/sluice-mcp/sluice/observe"
)

// observedServer has tools that see whether they run with the context of their call.
func observedServer(t testing.TB) *mcp.Server {
	s := sitetest.NewServer()
	s.AddReceivingMiddleware(func(next mcp.MethodHandler) mcp.MethodHandler {
		return func(ctx context.Context, method string, req mcp.Request) (mcp.Result, error) {
			if (method == "tools/call" || method == "prompts/get") && sitetest.Within(ctx) == nil {
				t.Error("a handler runs without the context that the observer has returned")
			}
			return next(ctx, method, req)
		}
	})
	s.AddPrompt(&mcp.Prompt{Name: "greet"}, func(context.Context, *mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
		return &mcp.GetPromptResult{Messages: []*mcp.PromptMessage{}}, nil
	})
	add := func(name string, readOnly bool, f func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error)) {
		s.AddTool(&mcp.Tool{Name: name, InputSchema: json.RawMessage(`{"type":"object"}`), Annotations: &mcp.ToolAnnotations{ReadOnlyHint: readOnly}}, f)
	}
	add("fails", false, func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		return &mcp.CallToolResult{IsError: true, Content: []mcp.Content{&mcp.TextContent{Text: sitetest.Canary}}}, nil
	})
	add("panics", false, func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) { panic(sitetest.Canary) })
	add("quiet", true, func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		time.Sleep(400 * time.Millisecond)
		return sitetest.Text("quiet"), nil
	})
	slow := func(ctx context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		for i := range 50 {
			_ = req.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{ProgressToken: req.Params.GetProgressToken(), Progress: float64(i + 1)})
			select {
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
		}
		return sitetest.Text("slow"), nil
	}
	add("read", true, slow)
	add("write", false, slow)
	return s
}

// observedCluster returns replicas, each with a ledger of its own.
func observedCluster(t *testing.T, n int, opts sluice.Options) (*sitetest.Cluster, []*sitetest.Ledger) {
	cl := sitetest.NewCluster(t, 0, opts)
	var books []*sitetest.Ledger
	for range n {
		books = append(books, join(t, cl))
	}
	return cl, books
}

// join starts one more replica.
func join(t *testing.T, cl *sitetest.Cluster) *sitetest.Ledger {
	book := sitetest.NewLedger(t)
	cl.Options.Observer = book
	cl.Add(observedServer(t))
	return book
}

const (
	traceParent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	traceState  = "vendor=1"
	traceMeta   = `"traceparent":"` + traceParent + `","tracestate":"` + traceState + `","baggage":"tenant=7"`
)

func traced(id, name, args string) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":%q,"method":"tools/call","params":{"name":%q,"arguments":%s,"_meta":{"progressToken":%q,%s}}}`, id, name, args, id, traceMeta)
}

func request(id, method, params string) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":%q,"method":%q,"params":%s}`, id, method, params)
}

// Every request of a session is told, with one end that says how its client was answered.
func TestObserveSessions(t *testing.T) {
	t.Parallel()
	for _, version := range sitetest.Revisions {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				cl, books := observedCluster(t, 1, sluice.Options{})
				s, l, c := cl.Sites[0], books[0], sitetest.NewClient(version)
				c.Open(t, s, s)
				c.Post(t, s, traced("1", "fast", `{"secret":"`+sitetest.Canary+`"}`)).Want(t, "fast")
				c.Post(t, s, sitetest.Call("2", "count", `{"n":2,"ms":1}`)).Rest(t)
				c.Post(t, s, sitetest.Call("3", "quiet", `{}`)).Rest(t)
				c.Post(t, s, sitetest.Call("4", "fails", `{}`)).Rest(t)
				c.Post(t, s, sitetest.Call("5", "panics", `{}`)).Rest(t)
				c.Post(t, s, sitetest.Call("6", sitetest.Canary, `{}`)).Rest(t)
				c.Post(t, s, request("7", sitetest.Canary, `{}`)).Rest(t)
				c.Post(t, s, request("8", "prompts/get", `{"name":"greet"}`)).Rest(t)
				c.Post(t, s, request("9", "prompts/get", `{"name":"`+sitetest.Canary+`"}`)).Rest(t)
				c.Post(t, s, request("10", "resources/read", `{"uri":"`+sitetest.Canary+`:x"}`)).Rest(t)
				c.Post(t, s, request("11", "tools/call", `{"name":7}`)).Rest(t)
				c.Post(t, s, request("12", "tools/call", `{"name":"fast","arguments":[]}`)).Rest(t)
				c.Post(t, s, request("13", "logging/setLevel", `{"level":"info"}`)).Rest(t)
				c.Post(t, s, request("14", "ping", `{}`)).Rest(t)
				asked := c.Post(t, s, sitetest.Call("15", "ask", `{}`))
				q := asked.Message(t)
				c.Post(t, s, fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":{"action":"accept","content":{"x":%q}}}`, q.ID, sitetest.Canary)).WantStatus(t, "answer", http.StatusAccepted)
				asked.Rest(t)
				left := c.Post(t, s, sitetest.Call("16", "count", `{"n":1000,"ms":100}`))
				left.Message(t)
				c.Post(t, s, `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"16","reason":"`+sitetest.Canary+`"}}`)
				left.Rest(t)
				notFound := fmt.Sprint(wire.CodeResourceNotFound)
				l.Want(t,
					"tools/call fast: ok json",
					"tools/call count: ok stream",
					"tools/call quiet: ok stream",
					"tools/call fails: tool_error json",
					"tools/call panics: error -32603 json",
					"tools/call _other: error -32602 json",
					"_other: error -32601 json",
					"prompts/get greet: ok json",
					"prompts/get _other: error -32602 json",
					"resources/read: error "+notFound+" json",
					"tools/call _other: error -32602 json",
					"tools/call fast: error -32602 json",
					"logging/setLevel: ok json",
					"ping: ok json",
					"tools/call ask: ok stream",
					"tools/call count: cancelled",
				)
				calls, asks := l.All()
				first := calls[1]
				want := observe.Call{
					Method: "tools/call", Target: "fast", Revision: version, Transport: observe.StreamableHTTP, ID: `"1"`,
					Session: observed.Name(c.Session), Trace: observe.Trace{Parent: traceParent, State: traceState, Baggage: "tenant=7"},
				}
				if diff := cmp.Diff(want, first.Call); diff != "" {
					t.Errorf("the first call (-want +got):\n%s", diff)
				}
				if first.End.Bytes < 40 || first.End.Bytes > 200 {
					t.Errorf("%d bytes were said", first.End.Bytes)
				}
				wantQuestion := observe.Ask{Method: "elicitation/create", Revision: version, Transport: observe.StreamableHTTP, ID: string(q.ID), Session: want.Session}
				if len(asks) != 1 || asks[0].Ask != wantQuestion || asks[0].End.Outcome != observe.OK {
					t.Errorf("asked: %+v", asks)
				}
				if got := wire.Unquote(wire.Member(wire.Member(q.Params, "_meta"), "traceparent")); got != sitetest.AskedTrace {
					t.Errorf("the client is asked with the trace %q", got)
				}
				c.Delete(t, s)
				time.Sleep(time.Second)
				sitetest.WantTold(t, l, observe.SessionOpened{Session: want.Session, Revision: version, Transport: observe.StreamableHTTP})
				ended := sitetest.Told[observe.SessionEnded](l)
				if len(ended) != 1 || ended[0].Reason != observe.EndDeleted || ended[0].Revision != version || ended[0].Adopted || ended[0].Duration <= 0 {
					t.Errorf("%+v", ended)
				}
				l.Hides(t, c.Session)
			})
		})
	}
}

// The same for 2026-07-28.
func TestObserveStateless(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cl, books := observedCluster(t, 1, sluice.Options{Principal: func(*http.Request) string { return "ann" }})
		s, l := cl.Sites[0], books[0]
		sitetest.Stateless(t, s, "tools/call", "fast", `"name":"fast","arguments":{"secret":"`+sitetest.Canary+`"}`).Want(t, "fast")
		sitetest.Stateless(t, s, "tools/call", "quiet", `"name":"quiet","arguments":{}`).Rest(t)
		sitetest.Stateless(t, s, "tools/call", "fails", `"name":"fails","arguments":{}`).Rest(t)
		sitetest.Stateless(t, s, "tools/call", "panics", `"name":"panics","arguments":{}`).Rest(t)
		sitetest.Stateless(t, s, "tools/call", "input", `"name":"input","arguments":{}`).Rest(t)
		sitetest.Stateless(t, s, "tools/call", sitetest.Canary, `"name":"`+sitetest.Canary+`","arguments":{}`).Rest(t)
		sitetest.Stateless(t, s, "prompts/get", "greet", `"name":"greet"`).Rest(t)
		sitetest.Stateless(t, s, sitetest.Canary, "", "").Rest(t)
		sitetest.Stateless(t, s, "initialize", "", "").Rest(t)
		sitetest.Stateless(t, s, "tools/call", "other", `"name":"fast","arguments":{}`).Rest(t) // the header says something else
		ctx, leave := context.WithCancel(t.Context())
		left := statelessWith(ctx, t, s, "tools/call", "count", `"name":"count","arguments":{"n":1000,"ms":100}`)
		leave()
		left.Leave()
		l.Want(t,
			"tools/call fast: ok json",
			"tools/call quiet: ok stream",
			"tools/call fails: tool_error json",
			"tools/call panics: error -32603 json",
			"tools/call input: input_required json",
			"tools/call _other: error -32602 json",
			"prompts/get greet: ok json",
			"_other: error -32601 json",
			"initialize: error -32601 json",
			"tools/call _other: error -32020 json",
			"tools/call count: cancelled",
		)
		want := observe.Call{Method: "tools/call", Target: "fast", Revision: wire.Rev2026, Transport: observe.StreamableHTTP, ID: `"m"`, Principal: "ann"}
		calls, _ := l.All()
		if diff := cmp.Diff(want, calls[0].Call); diff != "" {
			t.Errorf("the first call (-want +got):\n%s", diff)
		}
		l.Hides(t)
	})
}

// statelessWith is [sitetest.Stateless] with a context of its own, for a call that is left while it runs.
func statelessWith(ctx context.Context, t *testing.T, at *sitetest.Site, method, name, params string) *sitetest.Response {
	t.Helper()
	body := fmt.Sprintf(`{"jsonrpc":"2.0","id":"m","method":%q,"params":{%s,"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}`, method, params)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://127.0.0.1/mcp", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range map[string]string{"Accept": sitetest.Accept, "Content-Type": "application/json", "Mcp-Protocol-Version": wire.Rev2026, "Mcp-Method": method, "Mcp-Name": name} {
		req.Header.Set(k, v)
	}
	resp, err := at.RoundTrip(req) //nolint:bodyclose // the response's reader closes it
	if err != nil {
		t.Fatal(err)
	}
	return sitetest.NewResponse(resp)
}

// A subscription is a call until it is acknowledged, and a stream for as long as it lasts.
func TestObserveListen(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cl, books := observedCluster(t, 1, sluice.Options{})
		s, l := cl.Sites[0], books[0]
		ctx, leave := context.WithCancel(t.Context())
		a := statelessWith(ctx, t, s, "subscriptions/listen", "", `"notifications":{"toolsListChanged":true}`)
		a.Message(t)
		l.Want(t, "subscriptions/listen: ok stream")
		sitetest.WantTold(t, l, observe.StreamOpened{Kind: observe.StreamListen})
		time.Sleep(time.Hour)
		s.Server.RemoveTools("fast")
		time.Sleep(time.Minute)
		sitetest.WantTold(t, l, observe.ChangeTold{Method: "notifications/tools/list_changed"})
		leave()
		a.Leave()
		synctest.Wait()
		closed := sitetest.Told[observe.StreamClosed](l)
		if len(closed) != 1 || closed[0].Reason != observe.CloseGone || closed[0].Duration < time.Hour {
			t.Errorf("%+v", closed)
		}
		l.Want(t, "subscriptions/listen: ok stream")
	})
}

// A request that is sent again is told of, as what it is.
func TestObserveRepeated(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cl, books := observedCluster(t, 1, sluice.Options{})
		s, l, c := cl.Sites[0], books[0], sitetest.NewClient(wire.Rev1125)
		c.Open(t, s, s)
		a := c.Post(t, s, sitetest.Call("1", "count", `{"n":20,"ms":100}`))
		a.Message(t)
		b := c.Post(t, s, sitetest.Call("1", "count", `{"n":20,"ms":100}`)) // while it runs
		b.Rest(t)
		c.Post(t, s, sitetest.Call("1", "count", `{"n":20,"ms":100}`)).Rest(t) // and after it
		l.Want(t, "tools/call count: ok stream", "tools/call count: repeated", "tools/call count: repeated")
	})
}

// A batch is as many calls as it has, on one stream.
func TestObserveBatch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cl, books := observedCluster(t, 1, sluice.Options{})
		s, l, c := cl.Sites[0], books[0], sitetest.NewClient(wire.Rev0326)
		c.Open(t, s, s)
		c.Post(t, s, "["+sitetest.Call("1", "fast", `{}`)+","+request("2", "tools/call", `{"name":"fast","arguments":7}`)+","+request("3", "ping", `{}`)+"]").Rest(t)
		synctest.Wait()
		got := l.Said()
		slices.Sort(got)
		if diff := cmp.Diff([]string{"ping: ok json", "tools/call fast: error -32602 json", "tools/call fast: ok json"}, got); diff != "" {
			t.Error(diff)
		}
	})
}

// Sessions of HTTP+SSE are told of with their transport, and end with their connection.
func TestObserveHTTPSSE(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cl, books := observedCluster(t, 1, sluice.Options{})
		s, l := cl.Sites[0], books[0]
		s.ServeHTTPSSE("/mcp")
		c := sitetest.NewClient(wire.Rev2024)
		ctx, leave := context.WithCancel(t.Context())
		resp, err := c.Do(ctx, s, http.MethodGet, "", "") //nolint:bodyclose // the response's reader closes it
		if err != nil {
			t.Fatal(err)
		}
		a := sitetest.NewResponse(resp)
		e, err := a.Next()
		if err != nil {
			t.Fatal(err)
		}
		post := func(body string) {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://127.0.0.1"+e.Data, strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Content-Type", "application/json")
			resp, err := s.RoundTrip(r)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
		}
		post(`{"jsonrpc":"2.0","id":"init","method":"initialize","params":{"protocolVersion":"2024-11-05","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}`)
		a.Message(t)
		post(`{"jsonrpc":"2.0","method":"notifications/initialized"}`)
		post(sitetest.Call("1", "fast", `{}`))
		a.Want(t, "fast")
		leave()
		a.Leave()
		l.Want(t, "tools/call fast: ok stream")
		calls, _ := l.All()
		for _, c := range calls {
			if c.Transport != observe.HTTPSSE {
				t.Errorf("%+v", c.Call)
			}
		}
		opened, ended := sitetest.Told[observe.SessionOpened](l), sitetest.Told[observe.SessionEnded](l)
		if len(opened) != 1 || opened[0].Transport != observe.HTTPSSE || opened[0].Revision != wire.Rev2024 {
			t.Errorf("%+v", opened)
		}
		if len(ended) != 1 || ended[0].Reason != observe.EndDisconnected || ended[0].Transport != observe.HTTPSSE || ended[0].Session != opened[0].Session {
			t.Errorf("%+v", ended)
		}
	})
}

// A replica is killed with two calls: one runs again at the other replica, in the same trace, and the other is lost.
func TestObserveTakeover(t *testing.T) {
	t.Parallel()
	for _, version := range sitetest.Revisions {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				cl, books := observedCluster(t, 2, sluice.Options{})
				c := sitetest.NewClient(version)
				c.Open(t, cl.Sites[0], cl.Sites[0])
				for name, want := range map[string]string{"read": "tools/call read takeover 1: ok stream", "write": "tools/call write takeover 1: lost -31011 stream"} {
					books[1].Forget()
					first, second := cl.Sites[len(cl.Sites)-2], cl.Sites[len(cl.Sites)-1]
					a := c.Post(t, first, traced(name, name, `{}`))
					a.Message(t)
					a.Message(t)
					first.Kill()
					a.Leave()
					b := c.Get(t, second, a.Last)
					b.Rest(t)
					synctest.Wait()
					books[1].Want(t, want)
					calls, _ := books[1].All()
					wantCall := observe.Call{
						Method: "tools/call", Target: name, Revision: version, Transport: observe.StreamableHTTP, ID: `"` + name + `"`,
						Session: observed.Name(c.Session), Trace: observe.Trace{Parent: traceParent, State: traceState}, Takeover: 1,
					}
					if diff := cmp.Diff(wantCall, calls[0].Call); diff != "" {
						t.Errorf("(-want +got):\n%s", diff)
					}
					var stages []observe.TakeoverStage
					for _, e := range sitetest.Told[observe.Takeover](books[1]) {
						stages = append(stages, e.Stage)
						repeated := name == "read"
						if e.Stage == observe.Won && (e.Claim != 1 || (e.Repeated == 1) != repeated || (e.Lost == 1) == repeated) {
							t.Errorf("%+v", e)
						}
					}
					if !slices.Equal(stages, []observe.TakeoverStage{observe.Claimed, observe.Won}) {
						t.Errorf("the stages are %v", stages)
					}
					resumed := sitetest.Told[observe.StreamResumed](books[1])
					if len(resumed) != 1 || resumed[0].Result != observe.ResumeMirrored {
						t.Errorf("%+v", resumed)
					}
					// The next one begins where this one went, and goes on at a new replica.
					books = []*sitetest.Ledger{books[1], join(t, cl)}
				}
			})
		})
	}
}

// A replica that was thought dead lives: its call ends as taken over, once.
func TestObserveFenced(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cl, books := observedCluster(t, 2, sluice.Options{})
		c := sitetest.NewClient(wire.Rev1125)
		c.Open(t, cl.Sites[0], cl.Sites[0])
		a := c.Post(t, cl.Sites[0], traced("1", "read", `{}`))
		a.Message(t)
		a.Message(t)
		cl.Sites[0].Freeze()
		b := c.Get(t, cl.Sites[1], a.Last)
		b.Message(t)
		cl.Sites[0].Unfreeze()
		b.Rest(t)
		time.Sleep(10 * time.Second)
		books[0].Want(t, "tools/call read: taken_over")
		books[1].Want(t, "tools/call read takeover 1: ok stream")
		sitetest.WantTold(t, books[0], observe.Fenced{Session: observed.Name(c.Session), Calls: 1})
	})
}

// A call that its client comes back for, at its replica and at another one, is one call.
func TestObserveResumed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cl, books := observedCluster(t, 2, sluice.Options{})
		c := sitetest.NewClient(wire.Rev1125)
		c.Open(t, cl.Sites[0], cl.Sites[0])
		a := c.Post(t, cl.Sites[0], sitetest.Call("1", "write", `{}`))
		a.Message(t)
		a.Leave()
		b := c.Get(t, cl.Sites[0], a.Last)
		b.Message(t)
		b.Leave()
		d := c.Get(t, cl.Sites[1], b.Last)
		d.Rest(t)
		c.Get(t, cl.Sites[1], "nonsense").WantStatus(t, "nonsense", http.StatusBadRequest)
		time.Sleep(time.Second)
		books[0].Want(t, "tools/call write: ok stream")
		books[1].Want(t)
		name := observed.Name(c.Session)
		sitetest.WantTold(t, books[0], observe.StreamResumed{Session: name, Result: observe.ResumeHere})
		sitetest.WantTold(t, books[1], observe.StreamResumed{Session: name, Result: observe.ResumeMirrored}, observe.StreamResumed{Session: name, Result: observe.ResumeUnknown})
		sitetest.WantTold(t, books[0], observe.StreamOpened{Kind: observe.StreamCall}, observe.StreamOpened{Kind: observe.StreamCall, Resumed: true})
		sitetest.WantTold(t, books[1], observe.StreamOpened{Kind: observe.StreamMirror, Resumed: true})
		sitetest.WantTold(t, books[1], observe.SessionAdopted{Session: name, Revision: wire.Rev1125})
	})
}

// drainAside drains a replica that gets a second for it.
func drainAside(t *testing.T, s *sitetest.Site) (drained <-chan error) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		done <- s.Handler.Drain(ctx)
	}()
	sitetest.Eventually(t, "the replica leaves", func() bool { return s.Handler.Ready(t.Context()) != nil })
	return done
}

// A drain that does not wait for a call lets another replica have it.
func TestObserveDrain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cl, books := observedCluster(t, 2, sluice.Options{})
		c := sitetest.NewClient(wire.Rev1125)
		c.Open(t, cl.Sites[0], cl.Sites[0])
		listens := c.Get(t, cl.Sites[0], "")
		a := c.Post(t, cl.Sites[0], sitetest.Call("1", "read", `{}`))
		a.Message(t)
		a.Message(t)
		drained := drainAside(t, cl.Sites[0])
		a.Rest(t)
		listens.Rest(t)
		b := c.Get(t, cl.Sites[1], a.Last)
		if err := <-drained; !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		_ = cl.Sites[0].Handler.Close()
		b.Rest(t)
		books[0].Want(t, "tools/call read: taken_over")
		books[1].Want(t, "tools/call read takeover 1: ok stream")
		sitetest.WantTold(t, books[0], observe.DrainBegun{Calls: 1})
		sitetest.WantTold(t, books[0], observe.DrainEnded{Duration: time.Second, Left: 1})
		for _, e := range sitetest.Told[observe.StreamClosed](books[0]) {
			if e.Reason != observe.CloseReleased {
				t.Errorf("%+v", e)
			}
		}
		ended := sitetest.Told[observe.SessionEnded](books[0])
		if len(ended) != 1 || ended[0].Reason != observe.EndLeft {
			t.Errorf("%+v", ended)
		}
		// A drain is told of to all replicas by notes, and each second that a replica lives.
		if len(sitetest.Told[observe.NoteSent](books[1])) == 0 || len(sitetest.Told[observe.LeaseRenewed](books[1])) < 2 {
			t.Error("neither notes nor leases")
		}
		ops := make(map[string]int)
		for _, e := range sitetest.Told[observe.StoreOp](books[1]) {
			ops[e.Op+" "+string(e.Result)]++
		}
		for _, op := range []string{"get ok", "get miss", "put ok", "swap ok", "append ok", "read ok", "publish ok", "subscribe ok"} {
			if ops[op] == 0 {
				t.Errorf("no %s among %v", op, ops)
			}
		}
	})
}

// A session ends once at each replica where it lived, each time with the reason.
func TestObserveSessionEnds(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		do          func(t *testing.T, c *sitetest.Client, cl *sitetest.Cluster)
		first, then observe.EndReason
	}{
		"deleted":           {func(t *testing.T, c *sitetest.Client, cl *sitetest.Cluster) { c.Delete(t, cl.Sites[0]) }, observe.EndDeleted, observe.EndGone},
		"deleted elsewhere": {func(t *testing.T, c *sitetest.Client, cl *sitetest.Cluster) { c.Delete(t, cl.Sites[1]) }, observe.EndGone, observe.EndDeleted},
		"idle":              {func(*testing.T, *sitetest.Client, *sitetest.Cluster) { time.Sleep(2 * time.Hour) }, observe.EndIdle, observe.EndIdle},
		"closed by its server": {func(t *testing.T, c *sitetest.Client, cl *sitetest.Cluster) {
			c.Post(t, cl.Sites[0], sitetest.Call("1", "fast", `{}`)).Want(t, "fast")
			c.Post(t, cl.Sites[0], sitetest.Call("2", "fast", `{}`)).Want(t, "fast")
			for s := range cl.Sites[0].Server.Sessions() {
				if s.ID() == c.Session {
					go s.Close()
				}
			}
		}, observe.EndClosed, observe.EndGone},
		"left": {func(_ *testing.T, _ *sitetest.Client, cl *sitetest.Cluster) {
			_ = cl.Sites[0].Handler.Close()
			_ = cl.Sites[1].Handler.Close()
		}, observe.EndLeft, observe.EndLeft},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				cl, books := observedCluster(t, 2, sluice.Options{SessionTimeout: time.Hour})
				c := sitetest.NewClient(wire.Rev1125)
				c.Open(t, cl.Sites[0], cl.Sites[1])
				tt.do(t, c, cl)
				time.Sleep(10 * time.Second)
				for i, want := range []observe.EndReason{tt.first, tt.then} {
					ended := sitetest.Told[observe.SessionEnded](books[i])
					if len(ended) != 1 || ended[0].Reason != want || ended[0].Adopted != (i == 1) || ended[0].Session != observed.Name(c.Session) || ended[0].Revision != wire.Rev1125 {
						t.Errorf("replica %d: %+v, want %s", i, ended, want)
					}
				}
			})
		})
	}
}

// A question ends, too, when no answer comes.
func TestObserveQuestions(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cl, books := observedCluster(t, 1, sluice.Options{ReplyTimeout: time.Minute})
		s, l, c := cl.Sites[0], books[0], sitetest.NewClient(wire.Rev1125)
		c.Open(t, s, s)
		question := func(id string) (*sitetest.Response, json.RawMessage) {
			a := c.Post(t, s, sitetest.Call(id, "ask", `{}`))
			return a, a.Message(t).ID
		}
		a, _ := question("unanswered")
		a.Rest(t)
		a, _ = question("cancelled")
		c.Post(t, s, `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"cancelled"}}`)
		a.Rest(t)
		a, id := question("refused")
		c.Post(t, s, fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"error":{"code":-1,"message":"%s"}}`, id, sitetest.Canary))
		a.Rest(t)
		a, _ = question("left")
		c.Delete(t, s)
		a.Rest(t)
		time.Sleep(time.Second)
		var got []observe.End
		_, asks := l.All()
		for _, e := range asks {
			got = append(got, e.End)
		}
		want := []observe.End{{Outcome: observe.Unfinished}, {Outcome: observe.Cancelled}, {Outcome: observe.Failed, Code: -1}, {Outcome: observe.Cancelled}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		l.Hides(t)
	})
}

// What is turned away is told of with its reason, and a call also as the call that it would have been.
func TestObserveRefusals(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cl, books := observedCluster(t, 1, sluice.Options{MaxCalls: 1, MaxSessions: 1, MaxBody: 4096})
		s, l, c := cl.Sites[0], books[0], sitetest.NewClient(wire.Rev1125)
		c.Open(t, s, s)
		next := func(reason observe.RefuseReason, lines ...string) {
			t.Helper()
			sitetest.WantTold(t, l, observe.Refused{Reason: reason})
			l.Want(t, lines...)
			l.Forget()
		}
		plain := func(change func(*http.Request)) {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://127.0.0.1/mcp", strings.NewReader(request("1", "ping", `{}`)))
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Accept", sitetest.Accept)
			r.Header.Set("Content-Type", "application/json")
			change(r)
			resp, err := s.RoundTrip(r)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
		}
		plain(func(r *http.Request) { r.Header.Set("Origin", "https://evil.example") })
		next(observe.RefusedOrigin)
		c.Post(t, s, request("1", "ping", `{"x":"`+strings.Repeat("x", 5000)+`"}`)).WantStatus(t, "large", http.StatusRequestEntityTooLarge)
		next(observe.RefusedBody)
		c.Post(t, s, `{"jsonrpc"`).WantStatus(t, "no JSON", http.StatusBadRequest)
		next(observe.RefusedMalformed)
		(&sitetest.Client{Version: wire.Rev1125, Session: "nobody"}).Post(t, s, sitetest.Call("1", "fast", `{}`)).WantStatus(t, "no session", http.StatusNotFound)
		next(observe.RefusedNoSession)
		sitetest.NewClient(wire.Rev1125).Post(t, s, request("1", "initialize", `{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}`)).WantStatus(t, "sessions", http.StatusServiceUnavailable)
		next(observe.RefusedSessions, "initialize: error -31010 json")
		a := c.Post(t, s, sitetest.Call("1", "count", `{"n":100,"ms":100}`))
		a.Message(t)
		c.Post(t, s, sitetest.Call("2", "fast", `{}`)).WantStatus(t, "calls", http.StatusServiceUnavailable)
		next(observe.RefusedCalls, "tools/call count: open", "tools/call fast: error -31010 json")
		sitetest.Stateless(t, s, "tools/call", "fast", `"name":"fast","arguments":{}`).WantStatus(t, "calls", http.StatusServiceUnavailable)
		next(observe.RefusedCalls, "tools/call fast: error -31010 json")

		ctx, end := context.WithTimeout(t.Context(), time.Second)
		defer end()
		if err := s.Handler.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		sitetest.WantTold(t, l, observe.DrainBegun{Calls: 1})
		sitetest.WantTold(t, l, observe.DrainEnded{Duration: time.Second, Left: 1})
		l.Forget()
		c.Post(t, s, sitetest.Call("3", "fast", `{}`)).WantStatus(t, "drained", http.StatusServiceUnavailable)
		next(observe.RefusedDraining, "tools/call fast: error -31010 json")
		sitetest.Stateless(t, s, "tools/call", "fast", `"name":"fast","arguments":{}`).WantStatus(t, "drained", http.StatusServiceUnavailable)
		next(observe.RefusedDraining, "tools/call _other: error -31010 json")
	})
}

// unruly panics wherever it can.
type unruly struct{}

func (unruly) Call(context.Context, observe.Call) (context.Context, func(observe.End)) { panic("call") }

func (unruly) Ask(context.Context, observe.Ask) (observe.Trace, func(observe.End)) {
	return observe.Trace{}, func(observe.End) { panic("end") }
}
func (unruly) Event(context.Context, observe.Event) { panic("event") }

// silent has nothing to say.
type silent struct{}

func (silent) Call(context.Context, observe.Call) (context.Context, func(observe.End)) {
	return nil, nil
}

func (silent) Ask(context.Context, observe.Ask) (observe.Trace, func(observe.End)) {
	return observe.Trace{}, nil
}
func (silent) Event(context.Context, observe.Event) {}

// An observer that fails harms nobody.
func TestObserverFails(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]observe.Observer{"panics": unruly{}, "returns nothing": silent{}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				cl := sitetest.NewCluster(t, 2, sluice.Options{Observer: o})
				c := sitetest.NewClient(wire.Rev1125)
				c.Open(t, cl.Sites[0], cl.Sites[1])
				a := c.Post(t, cl.Sites[0], sitetest.Call("1", "ask", `{}`))
				q := a.Message(t)
				c.Post(t, cl.Sites[1], fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":{"action":"accept","content":{"x":"y"}}}`, q.ID)).WantStatus(t, "answer", http.StatusAccepted)
				a.Want(t, "asked y")
				sitetest.Stateless(t, cl.Sites[0], "tools/call", "fast", `"name":"fast","arguments":{}`).Want(t, "fast")
			})
		})
	}
}

// What is bounded in the trace context of a call.
func TestObserveTrace(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 8193)
	for meta, want := range map[string]observe.Trace{
		`{}`:                                   {},
		`{"traceparent":7,"tracestate":7}`:     {},
		`{` + traceMeta + `}`:                  {Parent: traceParent, State: traceState, Baggage: "tenant=7"},
		`{"tracestate":"a=1","baggage":"b=1"}`: {Baggage: "b=1"},
		`{"traceparent":"` + traceParent + `","tracestate":"` + long[:513] + `","baggage":"` + long + `"}`:        {Parent: traceParent},
		`{"traceparent":"` + traceParent + `","tracestate":"` + long[:512] + `","baggage":"` + long[:8192] + `"}`: {Parent: traceParent, State: long[:512], Baggage: long[:8192]},
		`{"traceparent":"` + long[:129] + `"}`: {},
	} {
		if got := observed.Trace([]byte(`{"_meta":` + meta + `}`)); got != want {
			t.Errorf("%.80s: %.200v", meta, got)
		}
	}
}
