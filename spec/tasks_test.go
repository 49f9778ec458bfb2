package spec_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice"
)

// taskStatements are those of the Tasks extension (SEP-2663). A MAY is tested for what this server, or this project's client, has
// chosen.
var taskStatements = []statement{
	{ID: "K-01", Revisions: "26", Level: "(text)", Text: "Support is the extension's key with {}, in server/discover and in each request's capabilities", Test: testK01},
	{ID: "K-02", Revisions: "26", Level: "MAY", Text: "The server alone decides which call becomes a task", Test: testK02},
	{ID: "K-03", Revisions: "26", Level: "MUST NOT", Text: "A handle answers a request without the declaration, whatever was declared before", Test: testK03},
	{ID: "K-04", Revisions: "26", Level: "MUST", Text: "A client takes a result or a handle", Test: testK04},
	{ID: "K-05", Revisions: "26", Level: "MUST", Text: "A client takes a handle for an invalid response to any other request", Test: testK05},
	{ID: "K-06", Revisions: "26", Level: "MUST", Text: "A client that cannot be served without a task gets -32021, which names the extension", Test: testK06},
	{ID: "K-07", Revisions: "26", Level: "(text)", Text: "No request but tools/call becomes a task", Test: testK07},
	{ID: "K-08", Revisions: "26", Level: "MUST", Text: "resultType is task on a handle and on nothing else", Test: testK08},
	{ID: "K-09", Revisions: "26", Level: "(text)", Text: "A task has the fields of its status and no others; ttlMs counts from createdAt", Test: testK09},
	{ID: "K-10", Revisions: "26", Level: "MAY", Text: "ttlMs grows when a task ends late, and never shrinks", Test: testK10},
	{ID: "K-11", Revisions: "26", Level: "MAY", Text: "A client shows the status message", Test: testK11},
	{ID: "K-12", Revisions: "26", Level: "(text)", Text: "A task works and asks by turns until it is completed, failed or cancelled, which is final", Test: testK12},
	{ID: "K-13", Revisions: "26", Level: "MUST NOT", Text: "A task fails for what is no JSON-RPC error", Test: testK13},
	{ID: "K-14", Revisions: "26", Level: "MUST", Text: "A result with isError is a completed task", Test: testK14},
	{ID: "K-15", Revisions: "26", Level: "MUST NOT", Text: "A handle comes before tasks/get finds the task, at any replica", Test: testK15},
	{ID: "K-16", Revisions: "26", Level: "MUST", Text: "A handle waits for the store", Test: testK16},
	{ID: "K-17", Revisions: "26", Level: "SHOULD", Text: "What the call itself asks comes before the handle", Test: testK17},
	{ID: "K-18", Revisions: "26", Level: "(text)", Text: "Keys of the call and keys of its task are apart", Test: testK18},
	{ID: "K-19", Revisions: "26", Level: "SHOULD", Text: "A client polls no faster than pollIntervalMs", Test: testK19},
	{ID: "K-20", Revisions: "26", Level: "MAY", Text: "Who polls faster is answered all the same", Test: testK20},
	{ID: "K-21", Revisions: "26", Level: "SHOULD", Text: "A client polls until the end, or until it cancels", Test: testK21},
	{ID: "K-22", Revisions: "26", Level: "SHOULD", Text: "A client gives the task's ID away to be kept before it does anything else", Test: testK22},
	{ID: "K-23", Revisions: "26", Level: "MUST", Text: "tasks/get answers by status: five of them", Test: testK23},
	{ID: "K-24", Revisions: "26", Level: "MUST", Text: "inputRequests has all that is outstanding, seen or not", Test: testK24},
	{ID: "K-25", Revisions: "26", Level: "MUST", Text: "resultType is complete on tasks/get, whatever the status", Test: testK25},
	{ID: "K-26", Revisions: "26", Level: "(text)", Text: "tasks/get changes nothing", Test: testK26},
	{ID: "K-27", Revisions: "26", Level: "MAY", Text: "A client does not give a task up by its own clock", Test: testK27},
	{ID: "K-28", Revisions: "26", Level: "MAY", Text: "A task that outlives ttlMs fails, and is deleted later", Test: testK28},
	{ID: "K-29", Revisions: "26", Level: "SHOULD", Text: "A client answers what is outstanding", Test: testK29},
	{ID: "K-30", Revisions: "26", Level: "SHOULD", Text: "A client goes on observing after it has answered", Test: testK30},
	{ID: "K-31", Revisions: "26", Level: "MUST", Text: "A client treats an input request as it does the request that stands alone", Test: testK31},
	{ID: "K-32", Revisions: "26", Level: "MUST", Text: "A client looks at inputRequests when input is required", Test: testK32},
	{ID: "K-33", Revisions: "26", Level: "SHOULD", Text: "A client passes a request on once, in however many polls it is", Test: testK33},
	{ID: "K-34", Revisions: "26", Level: "SHOULD", Text: "A client answers no key twice", Test: testK34},
	{ID: "K-35", Revisions: "26", Level: "MUST", Text: "A key is unique over the life of its task", Test: testK35},
	{ID: "K-36", Revisions: "26", Level: "MUST NOT", Text: "A key is used again once it was answered", Test: testK36},
	{ID: "K-37", Revisions: "26", Level: "MUST NOT", Text: "One key means two requests", Test: testK37},
	{ID: "K-38", Revisions: "26", Level: "MUST", Text: "A client answers outstanding keys only", Test: testK38},
	{ID: "K-39", Revisions: "26", Level: "MUST", Text: "tasks/update is answered with an empty result", Test: testK39},
	{ID: "K-40", Revisions: "26", Level: "MAY", Text: "What tasks/update has done can be seen when it is acknowledged", Test: testK40},
	{ID: "K-41", Revisions: "26", Level: "SHOULD", Text: "tasks/update of an unknown task is -32602", Test: testK41},
	{ID: "K-42", Revisions: "26", Level: "SHOULD", Text: "Answers to keys that were never issued, are answered, or belong to an earlier round are ignored", Test: testK42},
	{ID: "K-43", Revisions: "26", Level: "MAY", Text: "A part of the answers is taken, and the rest stays required", Test: testK43},
	{ID: "K-44", Revisions: "26", Level: "MUST NOT", Text: "notifications/cancelled ends a task: a client does not send it, and it would do nothing", Test: testK44},
	{ID: "K-45", Revisions: "26", Level: "MUST", Text: "tasks/cancel is answered with an empty result", Test: testK45},
	{ID: "K-46", Revisions: "26", Level: "SHOULD", Text: "tasks/cancel of an unknown task is -32602", Test: testK46},
	{ID: "K-47", Revisions: "26", Level: "MAY", Text: "A cancelled task may go on for a while", Test: testK47},
	{ID: "K-48", Revisions: "26", Level: "MAY", Text: "A cancelled task whose work was done first is completed", Test: testK48},
	{ID: "K-49", Revisions: "26", Level: "(text)", Text: "A tool that does not hear of its cancellation holds up neither the acknowledgement nor the end", Test: testK49},
	{ID: "K-50", Revisions: "26", Level: "MAY", Text: "A client forgets a task that it has cancelled", Test: testK50},
	{ID: "K-51", Revisions: "26", Level: "MAY", Text: "notifications/tasks are pushed at each change", Test: testK51},
	{ID: "K-52", Revisions: "26", Level: "(text)", Text: "The acknowledgement of a subscription names the tasks that were agreed to", Test: testK52},
	{ID: "K-53", Revisions: "26", Level: "MUST", Text: "taskIds without the declaration are -32021", Test: testK53},
	{ID: "K-54", Revisions: "26", Level: "(text)", Text: "A notification is what tasks/get would say", Test: testK54},
	{ID: "K-55", Revisions: "26", Level: "MAY", Text: "A client polls, whether it listens or not", Test: testK55},
	{ID: "K-56", Revisions: "26", Level: "MUST NOT", Text: "Progress or log messages of a task are sent", Test: testK56},
	{ID: "K-57", Revisions: "26", Level: "MUST", Text: "The acknowledgement comes first, and all that follows names its subscription", Test: testK57},
	{ID: "K-58", Revisions: "26", Level: "MUST", Text: "A client sends Mcp-Method and, with the task's ID, Mcp-Name", Test: testK58},
	{ID: "K-59", Revisions: "26", Level: "MUST", Text: "A header that differs from the body is -32020", Test: testK59},
	{ID: "K-60", Revisions: "26", Level: "MUST", Text: "tasks/get of an unknown or invalid taskId is -32602", Test: testK60},
	{ID: "K-61", Revisions: "26", Level: "MUST", Text: "An internal error is -32603", Test: testK61},
	{ID: "K-62", Revisions: "26", Level: "MUST", Text: "get, update and cancel without the declaration are -32021", Test: testK62},
	{ID: "K-63", Revisions: "26", Level: "SHOULD", Text: "An error's message says the cause", Test: testK63},
	{ID: "K-64", Revisions: "26", Level: "(text)", Text: "A task that is kept no longer is unknown", Test: testK64},
	{ID: "K-65", Revisions: "26", Level: "MUST", Text: "A failed task has the very error that its call would have had", Test: testK65},
	{ID: "K-66", Revisions: "26", Level: "SHOULD", Text: "A failed task has a status message", Test: testK66},
	{ID: "K-67", Revisions: "26", Level: "MUST", Text: "A completed task has the very result that its call would have had", Test: testK67},
	{ID: "K-68", Revisions: "26", Level: "(text)", Text: "The methods tasks/ are the extension's, also when a server adds one", Test: testK68},
	{ID: "K-69", Revisions: "26", Level: "MUST", Text: "Task IDs cannot be guessed", Test: testK69},
	{ID: "K-70", Revisions: "26", Level: "MAY", Text: "Where nobody is authenticated, the ID is the credential", Test: testK70},
	{ID: "K-71", Revisions: "26", Level: "MUST", Text: "Each request for a task is authenticated, and another principal's task is unknown", Test: testK71},
	{ID: "K-72", Revisions: "26", Level: "MUST", Text: "A host trusts what a task asks no more than any other question", Test: testK72},
	{ID: "K-73", Revisions: "11", Level: "MUST NOT", Text: "The extension is in force for older revisions: calls go on as if it were not declared", Test: testK73},
	{ID: "K-74", Revisions: "26", Level: "MUST", Text: "A client with the legacy capability alone has not declared the extension", Test: testK74},
	{ID: "K-75", Revisions: "11", Level: "SHOULD", Text: "Legacy methods are for legacy tasks, which this server has none of", Test: testK75},
	{ID: "K-76", Revisions: "26", Level: "MUST", Text: "tasks/result and tasks/list are unknown methods", Test: testK76},
	{ID: "K-77", Revisions: "26", Level: "MUST", Text: "params.task is ignored", Test: testK77},
	{ID: "K-78", Revisions: "11 26", Level: "MUST NOT", Text: "Legacy task capabilities are advertised", Test: testK78},
	{ID: "K-79", Revisions: "26", Level: "MAY", Text: "A client drives the task inside of the call and returns its result, and shows its life to who asks", Test: testK79},
}

const extension = "io.modelcontextprotocol/tasks"

// declaring is what a client declares that can do all and knows tasks.
var declaring = merge(everything, obj{"extensions": obj{extension: obj{}}})

// declared makes a request of 2026-07-28 of a client that knows tasks.
func declared(m obj) obj { return stateless(m, declaring) }

// undeclared makes one of a client that does not.
func undeclared(m obj) obj { return stateless(m, everything) }

// serveTasks starts an endpoint whose server has, beside the tools that all tests share, those whose calls become tasks.
func serveTasks(t *testing.T, edits ...func(*config)) *env {
	t.Helper()
	e := serve(t, edits...)
	addTaskTools(e)
	return e
}

// brief is the interval at which tests poll, and their clients are told to.
const brief = 20 * time.Millisecond

func addTaskTools(e *env) {
	add := func(name string, o sluice.TaskOptions, h func(context.Context, *mcp.CallToolRequest, args) (*mcp.CallToolResult, error)) {
		tool := &mcp.Tool{Name: name, InputSchema: json.RawMessage(anyInput)}
		o.PollInterval = brief
		sluice.MarkTask(tool, o)
		e.srv.AddTool(tool, func(ctx context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			e.add(1)
			defer e.add(-1)
			var a args
			_ = json.Unmarshal(req.Params.Arguments, &a)
			return h(ctx, req, a)
		})
	}
	progress := func(ctx context.Context, req *mcp.CallToolRequest, message string) {
		_ = req.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{ProgressToken: req.Params.GetProgressToken(), Progress: 1, Total: 2, Message: message})
	}
	// work waits until the test lets it go, and says before what it is told to.
	work := func(ctx context.Context, req *mcp.CallToolRequest, a args) (*mcp.CallToolResult, error) {
		if a.Text != "" {
			progress(ctx, req, a.Text)
			_ = req.Session.Log(ctx, &mcp.LoggingMessageParams{Level: "error", Logger: "spec", Data: a.Text})
		}
		e.set(a.Key, "running")
		select {
		case <-e.gate(a.Key):
			return text("worked %s", a.Key), nil
		case <-ctx.Done():
			e.set(a.Key, "cancelled")
			return nil, ctx.Err()
		}
	}
	prefer := sluice.TaskOptions{Mode: sluice.TaskPrefer}
	add("work", prefer, work)
	add("must", sluice.TaskOptions{Mode: sluice.TaskRequire}, work)
	add("never", sluice.TaskOptions{Mode: sluice.TaskNever}, func(context.Context, *mcp.CallToolRequest, args) (*mcp.CallToolResult, error) {
		return text("at once"), nil
	})
	add("short", sluice.TaskOptions{Mode: sluice.TaskPrefer, TTL: 2 * time.Second, Keep: 10 * time.Second}, work)
	add("asks_shortly", sluice.TaskOptions{Mode: sluice.TaskPrefer, TTL: 2 * time.Second, Keep: 10 * time.Second}, asks)
	// deaf does not look whether it was cancelled.
	add("deaf", prefer, func(_ context.Context, _ *mcp.CallToolRequest, a args) (*mcp.CallToolResult, error) {
		e.set(a.Key, "running")
		<-e.gate(a.Key)
		return text("worked %s", a.Key), nil
	})
	add("rich", prefer, func(context.Context, *mcp.CallToolRequest, args) (*mcp.CallToolResult, error) {
		return &mcp.CallToolResult{
			Meta:              mcp.Meta{"example.com/n": json.Number("12345678901234567890")},
			Content:           []mcp.Content{&mcp.TextContent{Text: "<rich> & \u2028"}, &mcp.ImageContent{Data: []byte("png"), MIMEType: "image/png"}},
			StructuredContent: json.RawMessage(`{"n":12345678901234567890,"nested":[null,{"e":1e-7}]}`),
		}, nil
	})
	add("wrong", prefer, func(context.Context, *mcp.CallToolRequest, args) (*mcp.CallToolResult, error) {
		res := text("it went wrong")
		res.IsError = true
		return res, nil
	})
	add("fails", prefer, func(context.Context, *mcp.CallToolRequest, args) (*mcp.CallToolResult, error) {
		return nil, &jsonrpc.Error{Code: -32602, Message: "not like this", Data: json.RawMessage(`{"why":["because",1.50]}`)}
	})
	add("errs", prefer, func(context.Context, *mcp.CallToolRequest, args) (*mcp.CallToolResult, error) {
		return nil, errors.New("secret of the house")
	})
	add("panics", prefer, func(context.Context, *mcp.CallToolRequest, args) (*mcp.CallToolResult, error) { panic("by the tool") })
	add("asks", prefer, asks)
	add("asks_first", sluice.TaskOptions{Mode: sluice.TaskPrefer, AskFirst: true}, asks)
	add("must_ask_first", sluice.TaskOptions{Mode: sluice.TaskRequire, AskFirst: true}, asks)
	// turns works and asks by turns: n rounds of questions, whose answers its state collects. Each round has two keys.
	add("turns", prefer, func(ctx context.Context, req *mcp.CallToolRequest, a args) (*mcp.CallToolResult, error) {
		said := strings.Fields(req.Params.RequestState)
		for _, key := range []string{"a", "b"} {
			if r, ok := req.Params.InputResponses[key].(*mcp.ElicitResult); ok {
				name, _ := r.Content["name"].(string)
				said = append(said, key+"="+name)
			}
		}
		progress(ctx, req, "after "+strings.Join(said, ","))
		if len(said) == 2*a.N {
			return text("%s", strings.Join(said, " ")), nil
		}
		return &mcp.CallToolResult{RequestState: strings.Join(said, " "), InputRequests: mcp.InputRequestMap{"a": question("a?"), "b": question("b?")}}, nil
	})
	// odd_keys asks by a key that looks like one of ours.
	add("odd_keys", prefer, func(_ context.Context, req *mcp.CallToolRequest, _ args) (*mcp.CallToolResult, error) {
		key := "name.1"
		if req.Params.RequestState == "second" {
			key = "name"
		}
		return &mcp.CallToolResult{RequestState: "second", InputRequests: mcp.InputRequestMap{key: question("?")}}, nil
	})
	// everything asks for each kind of input at once.
	add("everything", prefer, func(_ context.Context, req *mcp.CallToolRequest, _ args) (*mcp.CallToolResult, error) {
		requests := mcp.InputRequestMap{}
		answers := map[string]string{}
		for key, kind := range map[string]string{"name": "elicit", "words": "sample", "roots": "roots"} {
			more, _, answer := inputs(kind, req.Params.InputResponses, "")
			maps.Copy(requests, more)
			answers[key] = answer
		}
		if len(requests) > 0 {
			return &mcp.CallToolResult{InputRequests: requests}, nil
		}
		return text("%v", answers), nil
	})
}

func question(message string) *mcp.ElicitParams {
	return &mcp.ElicitParams{Mode: "form", Message: message, RequestedSchema: json.RawMessage(nameSchema)}
}

// asks asks as [inputs] does: one kind of thing, or several, or in rounds.
func asks(_ context.Context, req *mcp.CallToolRequest, a args) (*mcp.CallToolResult, error) {
	requests, state, answer := inputs(a.Text, req.Params.InputResponses, req.Params.RequestState)
	if requests != nil {
		return &mcp.CallToolResult{InputRequests: requests, RequestState: state}, nil
	}
	return text("%s", answer), nil
}

// named is the answer to a [question].
func named(name string) obj { return obj{"action": "accept", "content": obj{"name": name}} }

// A task is one, as a client sees it.
type task struct {
	*env
	id     string
	handle obj
	edits  []edit
}

// begun calls a tool that must become a task.
func (e *env) begun(t *testing.T, tool string, arguments obj, edits ...edit) *task {
	t.Helper()
	handle := e.send26(t, declared(call(1, tool, arguments)), edits...).has(t, 200).result(t)
	if handle["resultType"] != "task" {
		t.Fatalf("%s is answered %v, want a handle", tool, handle)
	}
	checkTask(t, handle)
	id, _ := handle["taskId"].(string)
	return &task{env: e, id: id, handle: handle, edits: edits}
}

// at is the task, asked for elsewhere or by somebody else.
func (k *task) at(e *env, edits ...edit) *task {
	return &task{env: e, id: k.id, handle: k.handle, edits: edits}
}

// ask makes a request for the task.
func (k *task) ask(method string, more obj) obj {
	return declared(request(1, "tasks/"+method, merge(obj{"taskId": k.id}, more)))
}

// do sends a request for the task.
func (k *task) send(t *testing.T, method string, more obj) *reply {
	t.Helper()
	return k.send26(t, k.ask(method, more), k.edits...)
}

// get returns what is said of the task, which must be well-formed.
func (k *task) get(t *testing.T) obj {
	t.Helper()
	got := k.send(t, "get", nil).has(t, 200).result(t)
	checkTask(t, got)
	if got["resultType"] != "complete" {
		t.Errorf("resultType is %v", got["resultType"])
	}
	return got
}

// until polls until the task has the status.
func (k *task) until(t *testing.T, status string) obj {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		got := k.get(t)
		switch {
		case got["status"] == status:
			return got
		case final(got) || time.Now().After(deadline):
			t.Fatalf("the task is %v, want %s", got, status)
		}
		time.Sleep(brief / 4)
	}
}

func final(task obj) bool {
	return task["status"] == "completed" || task["status"] == "failed" || task["status"] == "cancelled"
}

// update answers, and demands the acknowledgement.
func (k *task) update(t *testing.T, answers obj) {
	t.Helper()
	acknowledged(t, k.send(t, "update", obj{"inputResponses": answers}))
}

// cancel cancels, and demands the acknowledgement.
func (k *task) cancel(t *testing.T) {
	t.Helper()
	acknowledged(t, k.send(t, "cancel", nil))
}

// acknowledged demands an empty result.
func acknowledged(t *testing.T, r *reply) {
	t.Helper()
	got := r.has(t, 200).result(t)
	delete(got, "_meta")
	if diff := cmp.Diff(obj{"resultType": "complete"}, got); diff != "" {
		t.Errorf("the acknowledgement is not empty: %s", diff)
	}
}

// keys are those of what a task asks, in order.
func keys(task obj) []string {
	asked, _ := task["inputRequests"].(obj)
	return slices.Sorted(maps.Keys(asked))
}

// taskTime is how times are written: in UTC, with milliseconds.
var taskTime = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$`)

// checkTask demands the members that a Task with the status of this one has, of the right types, and no others. It may be a handle,
// a result of tasks/get or the params of a notification: what each of them has besides is checked by its tests.
func checkTask(t *testing.T, task obj) {
	t.Helper()
	isHandle := task["resultType"] == "task"
	has := map[string]func(any) bool{
		"taskId":        func(v any) bool { s, ok := v.(string); return ok && s != "" },
		"status":        func(v any) bool { s, ok := v.(string); return ok && s != "" },
		"createdAt":     func(v any) bool { s, ok := v.(string); return ok && taskTime.MatchString(s) },
		"lastUpdatedAt": func(v any) bool { s, ok := v.(string); return ok && taskTime.MatchString(s) },
		"ttlMs":         func(v any) bool { return v == nil || positive(v) },
	}
	may := map[string]func(any) bool{
		"statusMessage":  func(v any) bool { _, ok := v.(string); return ok },
		"pollIntervalMs": positive,
		"_meta":          func(v any) bool { _, ok := v.(obj); return ok },
		"resultType":     func(v any) bool { return v == "task" || v == "complete" },
	}
	isObject := func(v any) bool { _, ok := v.(obj); return ok }
	switch status := task["status"]; {
	case status == "working" || status == "cancelled":
	case isHandle:
		t.Errorf("a handle is %v", status)
	case status == "input_required":
		has["inputRequests"] = func(v any) bool {
			asked, ok := v.(obj)
			for _, q := range asked {
				request, _ := q.(obj)
				_, isMethod := request["method"].(string)
				ok = ok && isMethod && isObject(request["params"])
			}
			return ok && len(asked) > 0
		}
	case status == "completed":
		has["result"] = isObject
	case status == "failed":
		has["error"] = func(v any) bool {
			e, ok := v.(obj)
			code, isNumber := e["code"].(json.Number)
			_, err := code.Int64()
			message, _ := e["message"].(string)
			return ok && isNumber && err == nil && message != ""
		}
	default:
		t.Errorf("there is no status %v", status)
	}
	for name, ok := range has {
		if v, there := task[name]; !there || !ok(v) {
			t.Errorf("%s of a task that is %v: %v", name, task["status"], v)
		}
	}
	for name, v := range task {
		if ok := may[name]; has[name] == nil && (ok == nil || !ok(v)) {
			t.Errorf("%s of a task that is %v: %v", name, task["status"], v)
		}
	}
	if strings.Contains(string(mustJSON(t, task)), "related-task") {
		t.Errorf("there is a related task: %v", task)
	}
}

func positive(v any) bool {
	n, ok := v.(json.Number)
	i, err := n.Int64()
	return ok && err == nil && i > 0
}

// millis is a number of milliseconds in a task.
func millis(t *testing.T, v any) time.Duration {
	t.Helper()
	n, _ := v.(json.Number)
	i, err := n.Int64()
	if err != nil {
		t.Fatalf("%v is no number of milliseconds", v)
	}
	return time.Duration(i) * time.Millisecond
}

// created is when a task was created.
func created(t *testing.T, task obj) time.Time {
	t.Helper()
	s, _ := task["createdAt"].(string)
	at, err := time.Parse(time.RFC3339, s)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// unknown demands the error for a task that is not there.
func unknown(t *testing.T, r *reply) message {
	t.Helper()
	return r.fails(t, 400, -32602)
}

// names demands the error for a client that has not declared the extension.
func requires(t *testing.T, r *reply) {
	t.Helper()
	m := r.fails(t, 400, -32021)
	var data bytes.Buffer
	if err := json.Compact(&data, m.Error.Data); err != nil || data.String() != `{"requiredCapabilities":{"extensions":{"`+extension+`":{}}}}` {
		t.Errorf("the error's data is %s", m.Error.Data)
	}
}
