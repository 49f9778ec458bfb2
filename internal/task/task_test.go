package task_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice"
	"github.com/sluice-mcp/sluice/internal/sitetest"
)

// taskReply is a Task, of whatever kind, or an error.
type taskReply struct {
	Status        int    `json:"-"` // of HTTP
	ResultType    string `json:"resultType"`
	TaskID        string `json:"taskId"`
	State         string `json:"status"`
	Message       string `json:"statusMessage"`
	CreatedAt     string
	LastUpdatedAt string
	TTLMs         *int64 `json:"ttlMs"`
	PollMs        *int64 `json:"pollIntervalMs"`
	InputRequests map[string]struct {
		Method string
		Params json.RawMessage
	}
	Result *struct {
		ResultType string
		Content    []struct{ Text string }
		IsError    bool
	}
	Content []struct{ Text string } // of a result that is no task
	Error   *struct {
		Code    int
		Message string
		Data    json.RawMessage
	}
}

func (r *taskReply) text() string {
	if r.Result == nil || len(r.Result.Content) == 0 {
		return ""
	}
	return r.Result.Content[0].Text
}

// taskClient sends requests of 2026-07-28.
type taskClient struct {
	caps      string
	principal string
}

const taskCaps = `{"elicitation":{},"extensions":{"io.modelcontextprotocol/tasks":{}}}`

// do sends a request and returns its reply. An error says that there was none.
func (c taskClient) do(ctx context.Context, at *sitetest.Site, method, name, params string) (*taskReply, error) {
	body := fmt.Sprintf(`{"jsonrpc":"2.0","id":"m","method":%q,"params":{%s,"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":%s}}}`, method, params, c.caps)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://127.0.0.1/mcp", strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	for k, v := range map[string]string{"Accept": sitetest.Accept, "Content-Type": "application/json", "Mcp-Protocol-Version": "2026-07-28", "Mcp-Method": method, "Mcp-Name": name, "X-Principal": c.principal} {
		if v != "" {
			req.Header.Set(k, v)
		}
	}
	resp, err := at.RoundTrip(req) //nolint:bodyclose // the response's reader closes it
	if err != nil {
		return nil, err
	}
	a := sitetest.NewResponse(resp)
	defer a.Leave()
	var data []byte
	if a.Stream() {
		for {
			e, err := a.Next()
			if err != nil {
				return nil, err
			}
			if m := e.Message(); m.ID != nil {
				data = []byte(e.Data)
				break
			}
		}
	} else if data, err = io.ReadAll(a.Body); err != nil {
		return nil, err
	}
	var m struct {
		Result json.RawMessage
		Error  json.RawMessage
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, err
	}
	r := &taskReply{Status: resp.StatusCode}
	if m.Error != nil {
		return r, json.Unmarshal([]byte(`{"error":`+string(m.Error)+`}`), r)
	}
	return r, json.Unmarshal(m.Result, r)
}

func (c taskClient) must(t *testing.T, at *sitetest.Site, method, name, params string) *taskReply {
	t.Helper()
	r, err := c.do(t.Context(), at, method, name, params)
	if err != nil {
		t.Fatalf("%s: %v", method, err)
	}
	return r
}

func (c taskClient) call(t *testing.T, at *sitetest.Site, tool, args string) *taskReply {
	t.Helper()
	return c.must(t, at, "tools/call", tool, fmt.Sprintf(`"name":%q,"arguments":%s`, tool, args))
}

func (c taskClient) get(t *testing.T, at *sitetest.Site, id string) *taskReply {
	t.Helper()
	return c.must(t, at, "tasks/get", id, fmt.Sprintf(`"taskId":%q`, id))
}

func (c taskClient) update(t *testing.T, at *sitetest.Site, id, answers string) *taskReply {
	t.Helper()
	return c.must(t, at, "tasks/update", id, fmt.Sprintf(`"taskId":%q,"inputResponses":%s`, id, answers))
}

func (c taskClient) cancel(t *testing.T, at *sitetest.Site, id string) *taskReply {
	t.Helper()
	return c.must(t, at, "tasks/cancel", id, fmt.Sprintf(`"taskId":%q`, id))
}

// taskServer has a tool for each thing that a task can do.
func taskServer(ran *sitetest.Executions) *mcp.Server {
	s := mcp.NewServer(&mcp.Implementation{Name: "tasks", Version: "1"}, nil)
	type input struct {
		ID string
		MS int
	}
	add := func(name string, o sluice.TaskOptions, hints *mcp.ToolAnnotations, f func(context.Context, *mcp.CallToolRequest, input) (*mcp.CallToolResult, error)) {
		tool := &mcp.Tool{Name: name, InputSchema: json.RawMessage(`{"type":"object"}`), Annotations: hints}
		sluice.MarkTask(tool, o)
		s.AddTool(tool, func(ctx context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			var in input
			if err := json.Unmarshal(req.Params.Arguments, &in); err != nil {
				return nil, err
			}
			ran.Add(name + " " + in.ID)
			return f(ctx, req, in)
		})
	}
	work := func(ctx context.Context, req *mcp.CallToolRequest, in input) (*mcp.CallToolResult, error) {
		_ = req.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{ProgressToken: req.Params.GetProgressToken(), Progress: 1, Total: 2})
		select {
		case <-time.After(time.Duration(in.MS) * time.Millisecond):
			return sitetest.Text("done " + in.ID), nil
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	prefer := sluice.TaskOptions{Mode: sluice.TaskPrefer}
	add("work", prefer, &mcp.ToolAnnotations{ReadOnlyHint: true}, work)
	add("pay", prefer, nil, work)
	add("must", sluice.TaskOptions{Mode: sluice.TaskRequire, TTL: 10 * time.Second, Keep: 5 * time.Second}, nil, work)
	add("deaf", prefer, nil, func(_ context.Context, _ *mcp.CallToolRequest, in input) (*mcp.CallToolResult, error) {
		time.Sleep(time.Duration(in.MS) * time.Millisecond)
		return sitetest.Text("done " + in.ID), nil
	})
	add("large", prefer, nil, func(_ context.Context, req *mcp.CallToolRequest, _ input) (*mcp.CallToolResult, error) {
		return sitetest.Text(string(req.Params.Arguments)), nil
	})
	add("panics", prefer, nil, func(context.Context, *mcp.CallToolRequest, input) (*mcp.CallToolResult, error) { panic("by the tool") })
	add("auto", sluice.TaskOptions{}, nil, work)
	add("unwritable", sluice.TaskOptions{}, nil, func(ctx context.Context, req *mcp.CallToolRequest, in input) (*mcp.CallToolResult, error) {
		res, err := work(ctx, req, in)
		if err == nil {
			res.StructuredContent = panicking{}
		}
		return res, err
	})
	add("ask", prefer, &mcp.ToolAnnotations{ReadOnlyHint: true}, func(_ context.Context, req *mcp.CallToolRequest, in input) (*mcp.CallToolResult, error) {
		a, okA := req.Params.InputResponses["a"].(*mcp.ElicitResult)
		b, okB := req.Params.InputResponses["b"].(*mcp.ElicitResult)
		if !okA || !okB {
			ask := func(what string) *mcp.ElicitParams {
				return &mcp.ElicitParams{Message: what, RequestedSchema: json.RawMessage(`{"type":"object","properties":{"x":{"type":"string"}},"required":["x"]}`)}
			}
			return &mcp.CallToolResult{InputRequests: mcp.InputRequestMap{"a": ask("a?"), "b": ask("b?")}, RequestState: "kept " + in.ID}, nil
		}
		return sitetest.Text(fmt.Sprint(a.Content["x"], b.Content["x"], " ", req.Params.RequestState)), nil
	})
	return s
}

// panicking is a value that a handler returns and nobody can write.
type panicking struct{}

func (panicking) MarshalJSON() ([]byte, error) { panic("by the value") }

// newTasks returns a cluster of replicas with the same tools.
func newTasks(t *testing.T, n int) (*sitetest.Cluster, *sitetest.Executions) {
	ran := &sitetest.Executions{}
	cl := sitetest.NewCluster(t, 0, sluice.Options{Principal: func(r *http.Request) string { return r.Header.Get("X-Principal") }})
	for range n {
		cl.Add(taskServer(ran))
	}
	return cl, ran
}

func TestTaskAtAnyReplica(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cl, ran := newTasks(t, 3)
		c := taskClient{caps: taskCaps}
		h := c.call(t, cl.Sites[0], "work", `{"ID":"1","MS":3000}`)
		if h.ResultType != "task" || h.TaskID == "" || h.State != "working" || h.TTLMs == nil || *h.TTLMs != time.Hour.Milliseconds() || h.Result != nil {
			t.Fatalf("the handle is %+v", h)
		}
		if _, err := time.Parse(time.RFC3339, h.CreatedAt); err != nil {
			t.Error(err)
		}
		time.Sleep(2 * time.Second)
		for _, at := range cl.Sites {
			r := c.get(t, at, h.TaskID)
			if r.ResultType != "complete" || r.State != "working" || r.Message != "1 of 2" || r.CreatedAt != h.CreatedAt || r.Result != nil {
				t.Errorf("while it works, %s says %+v", at.Name, r)
			}
		}
		time.Sleep(2 * time.Second)
		for _, at := range cl.Sites {
			if r := c.get(t, at, h.TaskID); r.State != "completed" || r.text() != "done 1" || r.Result.ResultType != "complete" || r.Error != nil {
				t.Errorf("at its end, %s says %+v", at.Name, r)
			}
		}
		if n := ran.Of("work 1"); n != 1 {
			t.Errorf("it ran %d times", n)
		}
		// What it says last is told, though it may be over at once.
		quick := c.call(t, cl.Sites[0], "work", `{"ID":"2","MS":0}`)
		time.Sleep(time.Second)
		if r := c.get(t, cl.Sites[1], quick.TaskID); r.State != "completed" || r.Message != "1 of 2" {
			t.Errorf("over at once, it says %+v", r)
		}
		// Its end can be seen for its time to live and a while more, and then it is unknown.
		time.Sleep(76 * time.Minute)
		if r := c.get(t, cl.Sites[1], h.TaskID); r.Error == nil || r.Error.Code != -32602 {
			t.Errorf("after its time: %+v", r)
		}
	})
}

func TestTaskIsForWhoDeclaresIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cl, _ := newTasks(t, 1)
		at := cl.Sites[0]
		plain, c := taskClient{caps: `{}`}, taskClient{caps: taskCaps}
		if r := plain.call(t, at, "work", `{"ID":"1"}`); r.ResultType != "complete" || r.TaskID != "" {
			t.Errorf("an ordinary call: %+v", r)
		}
		const need = `{"requiredCapabilities":{"extensions":{"io.modelcontextprotocol/tasks":{}}}}`
		undeclared := func(what string, r *taskReply) {
			t.Helper()
			if r.Error == nil || r.Error.Code != -32021 || r.Status != http.StatusBadRequest || string(r.Error.Data) != need {
				t.Errorf("%s: %+v", what, r)
			}
		}
		undeclared("a tool that must be a task", plain.call(t, at, "must", `{}`))
		id := c.call(t, at, "work", `{"ID":"2","MS":60000}`).TaskID
		undeclared("get", plain.get(t, at, id))
		undeclared("get of what is not there", plain.get(t, at, "x"))
		undeclared("update", plain.update(t, at, id, `{}`))
		undeclared("cancel", plain.cancel(t, at, id))
		// An older capability of the same name means nothing.
		undeclared("the legacy capability", taskClient{caps: `{"tasks":{}}`}.get(t, at, id))
		for _, method := range []string{"tasks/result", "tasks/list"} {
			if r := c.must(t, at, method, id, fmt.Sprintf(`"taskId":%q`, id)); r.Error == nil || r.Error.Code != -32601 || r.Status != http.StatusNotFound {
				t.Errorf("%s: %+v", method, r)
			}
		}
		for _, params := range []string{`"taskId":"unknown"`, `"taskId":7`, `"x":1`} {
			if r := c.must(t, at, "tasks/get", "", params); r.Error == nil || r.Error.Code != -32602 || r.Status != http.StatusBadRequest {
				t.Errorf("get of %s: %+v", params, r)
			}
		}
		if r := c.must(t, at, "tasks/get", "other", fmt.Sprintf(`"taskId":%q`, id)); r.Error == nil || r.Error.Code != -32020 {
			t.Errorf("Mcp-Name of another task: %+v", r)
		}
	})
}

// Another principal's task is unknown, and nothing that it does to it has an effect.
func TestTaskIsItsPrincipals(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cl, _ := newTasks(t, 2)
		alice, bob := taskClient{taskCaps, "alice"}, taskClient{taskCaps, "bob"}
		id := alice.call(t, cl.Sites[0], "ask", `{"ID":"1"}`).TaskID
		time.Sleep(time.Second)
		unknown := bob.get(t, cl.Sites[1], "unknown")
		for what, r := range map[string]*taskReply{
			"get":    bob.get(t, cl.Sites[1], id),
			"update": bob.update(t, cl.Sites[1], id, `{"a.1":{"action":"accept","content":{"x":"stolen"}}}`),
			"cancel": bob.cancel(t, cl.Sites[1], id),
		} {
			if diff := cmp.Diff(unknown, r); diff != "" {
				t.Errorf("%s tells that there is one: %s", what, diff)
			}
		}
		if r := alice.get(t, cl.Sites[1], id); r.State != "input_required" || len(r.InputRequests) != 2 {
			t.Errorf("alice's task: %+v", r)
		}
	})
}

func TestTaskAsks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cl, ran := newTasks(t, 3)
		c := taskClient{caps: taskCaps}
		id := c.call(t, cl.Sites[0], "ask", `{"ID":"1"}`).TaskID
		time.Sleep(time.Second)
		r := c.get(t, cl.Sites[1], id)
		if keys := slices.Sorted(maps.Keys(r.InputRequests)); r.State != "input_required" || !slices.Equal(keys, []string{"a.1", "b.1"}) || r.InputRequests["a.1"].Method != "elicitation/create" {
			t.Fatalf("it asks %+v", r)
		}
		if r := c.update(t, cl.Sites[1], id, `{"a.1":{"action":"accept","content":{"x":1}}}`); r.Error == nil || r.Error.Code != -32602 {
			t.Errorf("an answer that is not what was asked for: %+v", r)
		}
		if r := c.update(t, cl.Sites[2], id, `{"ignored":true,"a.1":{"action":"accept","content":{"x":"A"}}}`); r.Error != nil || r.ResultType != "complete" {
			t.Errorf("a part of the answers: %+v", r)
		}
		r = c.get(t, cl.Sites[0], id)
		if keys := slices.Sorted(maps.Keys(r.InputRequests)); !slices.Equal(keys, []string{"b.1"}) {
			t.Errorf("then it asks %v", keys)
		}
		// The first answer stands, and the end needs both.
		c.update(t, cl.Sites[1], id, `{"a.1":{"action":"accept","content":{"x":"again"}}}`)
		c.update(t, cl.Sites[1], id, `{"b.1":{"action":"accept","content":{"x":"B"}}}`)
		time.Sleep(time.Second)
		if r := c.get(t, cl.Sites[0], id); r.State != "completed" || r.text() != "AB kept 1" {
			t.Errorf("it ends as %+v", r)
		}
		if r := c.update(t, cl.Sites[1], id, `{"b.1":{"action":"accept","content":{"x":"late"}}}`); r.Error != nil {
			t.Errorf("an answer that comes late: %+v", r)
		}
		if n := ran.Of("ask 1"); n != 2 {
			t.Errorf("it ran %d times, once for each round is right", n)
		}
	})
}

func TestTaskEnds(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		tool, args string
		after      time.Duration
		do         func(t *testing.T, c taskClient, cl *sitetest.Cluster, id string)
		wait       time.Duration
		state      string
		code       int
		text       string
	}{
		"a panic":                        {tool: "panics", args: `{}`, state: "failed", code: -32603},
		"an answer of no size to be had": {tool: "large", args: `{"x":"` + strings.Repeat("x", 3<<20) + `"}`, state: "completed"},
		"no time":                        {tool: "must", args: `{"MS":60000}`, wait: 11 * time.Second, state: "failed", code: -32603},
		"cancelled where it works": {
			tool: "work", args: `{"MS":60000}`, state: "cancelled",
			do: func(t *testing.T, c taskClient, cl *sitetest.Cluster, id string) { c.cancel(t, cl.Sites[0], id) },
		},
		"cancelled elsewhere": {
			tool: "work", args: `{"MS":60000}`, state: "cancelled",
			do: func(t *testing.T, c taskClient, cl *sitetest.Cluster, id string) { c.cancel(t, cl.Sites[1], id) },
		},
		"cancelled while it waits": {
			tool: "ask", args: `{}`, state: "cancelled",
			do: func(t *testing.T, c taskClient, cl *sitetest.Cluster, id string) { c.cancel(t, cl.Sites[1], id) },
		},
		"cancelled, and done all the same": {
			tool: "deaf", args: `{"ID":"1","MS":3000}`, state: "completed", text: "done 1", wait: 3 * time.Second,
			do: func(t *testing.T, c taskClient, cl *sitetest.Cluster, id string) { c.cancel(t, cl.Sites[1], id) },
		},
		"cancelled, and it will not hear": {
			tool: "deaf", args: `{"MS":20000}`, state: "cancelled", wait: 6 * time.Second,
			do: func(t *testing.T, c taskClient, cl *sitetest.Cluster, id string) { c.cancel(t, cl.Sites[1], id) },
		},
		"cancelled when it is over": {
			tool: "work", args: `{"ID":"1"}`, state: "completed", text: "done 1",
			do: func(t *testing.T, c taskClient, cl *sitetest.Cluster, id string) {
				if r := c.cancel(t, cl.Sites[1], id); r.Error != nil || r.ResultType != "complete" {
					t.Errorf("cancel of what is over: %+v", r)
				}
			},
		},
		"cancelled when its replica has died": {
			tool: "work", args: `{"ID":"1","MS":60000}`, state: "cancelled", wait: 4 * time.Second,
			do: func(t *testing.T, c taskClient, cl *sitetest.Cluster, id string) {
				cl.Sites[0].Kill()
				c.cancel(t, cl.Sites[1], id)
			},
		},
		"its replica died, and it may run again": {
			tool: "work", args: `{"ID":"1","MS":2000}`, state: "completed", text: "done 1", wait: 6 * time.Second,
			do: func(_ *testing.T, _ taskClient, cl *sitetest.Cluster, _ string) { cl.Sites[0].Kill() },
		},
		"its replica died, and it may not": {
			tool: "pay", args: `{"ID":"1","MS":2000}`, state: "failed", code: -31011, wait: 4 * time.Second,
			do: func(_ *testing.T, _ taskClient, cl *sitetest.Cluster, _ string) { cl.Sites[0].Kill() },
		},
		"its replica was shut down in time": {
			tool: "pay", args: `{"ID":"1","MS":2000}`, state: "completed", text: "done 1", wait: 4 * time.Second,
			do: func(t *testing.T, _ taskClient, cl *sitetest.Cluster, _ string) {
				if err := cl.Sites[0].Handler.Drain(t.Context()); err != nil {
					t.Error(err)
				}
			},
		},
		"the store was away at its end": {
			tool: "pay", args: `{"ID":"1","MS":2000}`, state: "completed", text: "done 1", wait: 20 * time.Second,
			do: func(_ *testing.T, _ taskClient, cl *sitetest.Cluster, _ string) {
				for _, s := range cl.Sites { // of one alone, the others would say that it is dead
					s.Tap.GoAway()
				}
				time.Sleep(2500 * time.Millisecond)
				for _, s := range cl.Sites {
					s.Tap.ComeBack()
				}
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				cl, _ := newTasks(t, 2)
				c := taskClient{caps: taskCaps}
				h := c.call(t, cl.Sites[0], tt.tool, tt.args)
				if h.ResultType != "task" {
					t.Fatalf("no task: %+v", h)
				}
				time.Sleep(time.Second)
				if tt.do != nil {
					tt.do(t, c, cl, h.TaskID)
				}
				time.Sleep(time.Second + tt.wait)
				r := c.get(t, cl.Sites[1], h.TaskID)
				if r.State != tt.state {
					t.Fatalf("it is %+v, want %s", r, tt.state)
				}
				if tt.code != 0 && (r.Error == nil || r.Error.Code != tt.code || r.Message == "") {
					t.Errorf("its error is %+v, want %d", r, tt.code)
				}
				if tt.text != "" && r.text() != tt.text {
					t.Errorf("its result is %q, want %q", r.text(), tt.text)
				}
				time.Sleep(30 * time.Second) // for a handler that does not hear
			})
		})
	}
}

// A listener is told how its tasks are, first of all and then whenever one changes, wherever that happens.
func TestTaskNotifications(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cl, _ := newTasks(t, 2)
		c, other := taskClient{taskCaps, "alice"}, taskClient{taskCaps, "bob"}
		id := c.call(t, cl.Sites[0], "ask", `{"ID":"1"}`).TaskID
		foreign := other.call(t, cl.Sites[0], "ask", `{"ID":"2"}`).TaskID
		time.Sleep(time.Second)
		if r := (taskClient{caps: `{}`}).must(t, cl.Sites[1], "subscriptions/listen", "", `"notifications":{"taskIds":["x"]}`); r.Error == nil || r.Error.Code != -32021 {
			t.Errorf("without the declaration: %+v", r)
		}
		body := fmt.Sprintf(`{"jsonrpc":"2.0","id":"L","method":"subscriptions/listen","params":{"notifications":{"taskIds":[%q,%q,"unknown"]},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":%s}}}`, id, foreign, taskCaps)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://127.0.0.1/mcp", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		for k, v := range map[string]string{"Accept": sitetest.Accept, "Content-Type": "application/json", "Mcp-Protocol-Version": "2026-07-28", "Mcp-Method": "subscriptions/listen", "X-Principal": "alice"} {
			req.Header.Set(k, v)
		}
		resp, err := cl.Sites[1].RoundTrip(req) //nolint:bodyclose // the response's reader closes it
		if err != nil {
			t.Fatal(err)
		}
		stream := sitetest.NewResponse(resp)
		defer stream.Leave()
		next := func(method string) (params struct {
			Notifications struct{ TaskIDs []string }
			taskReply
			Meta map[string]string `json:"_meta"`
		},
		) {
			t.Helper()
			m := stream.Message(t)
			if m.Method != method {
				t.Fatalf("heard %s %s, want %s", m.Method, m.Params, method)
			}
			if err := json.Unmarshal(m.Params, &params); err != nil {
				t.Fatal(err)
			}
			if params.Meta["io.modelcontextprotocol/subscriptionId"] != "L" {
				t.Errorf("%s has no ID of its subscription: %s", method, m.Params)
			}
			return params
		}
		if ack := next("notifications/subscriptions/acknowledged"); !slices.Equal(ack.Notifications.TaskIDs, []string{id}) {
			t.Errorf("agreed to %v", ack.Notifications.TaskIDs)
		}
		if n := next("notifications/tasks"); n.State != "input_required" || len(n.InputRequests) != 2 || n.ResultType != "" {
			t.Errorf("first told %+v", n)
		}
		c.update(t, cl.Sites[0], id, `{"a.1":{"action":"accept","content":{"x":"A"}}}`)
		if n := next("notifications/tasks"); n.State != "input_required" || len(n.InputRequests) != 1 {
			t.Errorf("then told %+v", n)
		}
		c.update(t, cl.Sites[0], id, `{"b.1":{"action":"decline"}}`)
		for {
			n := next("notifications/tasks")
			if n.State == "working" {
				continue
			}
			if n.State != "completed" {
				t.Errorf("at last told %+v", n)
			}
			break
		}
	})
}

// A call that takes longer than it may becomes a task while it runs: it is called once, whatever becomes of it.
func TestTaskAfter(t *testing.T) {
	t.Parallel()
	start := func(t *testing.T) (*sitetest.Cluster, *sitetest.Executions) {
		cl, ran := newTasks(t, 0)
		cl.Options.TaskAfter = 2 * time.Second
		for range 2 {
			cl.Add(taskServer(ran))
		}
		return cl, ran
	}
	c := taskClient{caps: taskCaps}
	for name, f := range map[string]func(t *testing.T, cl *sitetest.Cluster, ran *sitetest.Executions){
		"soon done": func(t *testing.T, cl *sitetest.Cluster, _ *sitetest.Executions) {
			if r := c.call(t, cl.Sites[0], "auto", `{"ID":"1","MS":1500}`); r.TaskID != "" || len(r.Content) != 1 || r.Content[0].Text != "done 1" {
				t.Errorf("%+v", r)
			}
		},
		"long": func(t *testing.T, cl *sitetest.Cluster, ran *sitetest.Executions) {
			begun := time.Now()
			h := c.call(t, cl.Sites[0], "auto", `{"ID":"1","MS":5000}`)
			if h.ResultType != "task" || time.Since(begun) != 2*time.Second {
				t.Fatalf("after %v: %+v", time.Since(begun), h)
			}
			if r := c.get(t, cl.Sites[1], h.TaskID); r.State != "working" {
				t.Errorf("then %+v", r)
			}
			time.Sleep(4 * time.Second)
			if r := c.get(t, cl.Sites[1], h.TaskID); r.State != "completed" || r.text() != "done 1" || ran.Of("auto 1") != 1 {
				t.Errorf("at last %+v, ran %d times", r, ran.Of("auto 1"))
			}
		},
		"long, and cancelled": func(t *testing.T, cl *sitetest.Cluster, _ *sitetest.Executions) {
			h := c.call(t, cl.Sites[0], "auto", `{"ID":"1","MS":60000}`)
			c.cancel(t, cl.Sites[1], h.TaskID)
			time.Sleep(time.Second)
			if r := c.get(t, cl.Sites[1], h.TaskID); r.State != "cancelled" {
				t.Errorf("it is %+v", r)
			}
		},
		"long, and its result panics": func(t *testing.T, cl *sitetest.Cluster, _ *sitetest.Executions) {
			h := c.call(t, cl.Sites[0], "unwritable", `{"MS":5000}`)
			time.Sleep(4 * time.Second)
			if r := c.get(t, cl.Sites[1], h.TaskID); r.State != "failed" || r.Error == nil || r.Error.Code != -32603 {
				t.Errorf("it is %+v", r)
			}
		},
		"long, of a client without the extension": func(t *testing.T, cl *sitetest.Cluster, _ *sitetest.Executions) {
			if r := (taskClient{caps: `{}`}).call(t, cl.Sites[0], "auto", `{"ID":"1","MS":5000}`); r.TaskID != "" || len(r.Content) != 1 {
				t.Errorf("%+v", r)
			}
		},
		"its client leaves before": func(t *testing.T, cl *sitetest.Cluster, ran *sitetest.Executions) {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Second, cancel) // a deadline would be the platform's
			if r, err := c.do(ctx, cl.Sites[0], "tools/call", "auto", `"name":"auto","arguments":{"ID":"1","MS":60000}`); err == nil {
				t.Errorf("answered: %+v", r)
			}
			time.Sleep(time.Second)
			if n := ran.Of("auto 1"); n != 1 {
				t.Errorf("ran %d times", n)
			}
			begun := time.Now()
			if err := cl.Sites[0].Handler.Drain(t.Context()); err != nil || time.Since(begun) > 0 {
				t.Errorf("something was left to wait for: %v after %v", err, time.Since(begun))
			}
		},
		"the store is away": func(t *testing.T, cl *sitetest.Cluster, _ *sitetest.Executions) {
			cl.Sites[0].Tap.GoAway()
			if r := c.call(t, cl.Sites[0], "auto", `{"ID":"1","MS":5000}`); r.TaskID != "" || len(r.Content) != 1 || r.Content[0].Text != "done 1" {
				t.Errorf("%+v", r)
			}
			cl.Sites[0].Tap.ComeBack()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				cl, ran := start(t)
				f(t, cl, ran)
				time.Sleep(time.Minute)
			})
		})
	}
}
