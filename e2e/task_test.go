package e2e_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice/e2e"
	"github.com/sluice-mcp/sluice/tasks"
)

type auditOut struct {
	Checked  int  `json:"checked"`
	Complete bool `json:"complete"`
}

func audit(steps, delayMS int) map[string]int {
	return map[string]int{"steps": steps, "delay_ms": delayMS}
}

// canBeAsked declares that the client can show forms. In these tests nobody answers by it.
var canBeAsked = e2e.Cancel()

func TestTask(t *testing.T) {
	t.Parallel()
	srv := startDemo(t)
	yes := &mcp.ElicitResult{Action: "accept", Content: map[string]any{"go_on": true}}
	for name, test := range map[string]struct {
		options []e2e.ClientOption
		do      func(testing.TB, *e2e.Task)
		out     auditOut // of what is completed
		path    []tasks.Status
	}{
		"unasked": {
			nil, func(testing.TB, *e2e.Task) {},
			auditOut{4, true},
			[]tasks.Status{tasks.Completed},
		},
		"answered": {
			[]e2e.ClientOption{canBeAsked},
			func(t testing.TB, x *e2e.Task) { x.Answer(t, yes) },
			auditOut{4, true},
			[]tasks.Status{tasks.InputRequired, tasks.Completed},
		},
		"declined": {
			[]e2e.ClientOption{canBeAsked},
			func(t testing.TB, x *e2e.Task) { x.Answer(t, &mcp.ElicitResult{Action: "decline"}) },
			auditOut{2, false},
			[]tasks.Status{tasks.InputRequired, tasks.Completed},
		},
		"answered by the session": {
			[]e2e.ClientOption{e2e.Accept(map[string]any{"go_on": true})},
			func(testing.TB, *e2e.Task) {},
			auditOut{4, true},
			[]tasks.Status{tasks.InputRequired, tasks.Completed},
		},
		"cancelled": {
			[]e2e.ClientOption{canBeAsked},
			func(t testing.TB, x *e2e.Task) {
				x.Await(t, tasks.InputRequired)
				x.Cancel(t)
				x.Await(t, tasks.Cancelled)
			},
			auditOut{},
			[]tasks.Status{tasks.InputRequired, tasks.Cancelled},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := e2e.StartTask(t, srv.Connect(t, e2e.Latest, test.options...), "audit", audit(4, 10))
			test.do(t, x)
			if slices.Contains(test.path, tasks.Completed) {
				if out := e2e.TaskResult[auditOut](t, x); out != test.out {
					t.Errorf("%+v, want %+v", out, test.out)
				}
			}
			if path := x.Path(); !slices.Equal(path, test.path) {
				t.Errorf("the path is %v, want %v", path, test.path)
			}
		})
	}
}

// A task goes on when the replica that works on it is killed, and is the same at another one.
func TestTaskSurvivesItsReplica(t *testing.T) {
	t.Parallel()
	url := os.Getenv("SLUICE_TEST_REDIS_URL")
	if url == "" {
		url = "redis://" + miniredis.RunT(t).Addr()
	}
	cluster := e2e.Replicas(t, 2, e2e.Command("./cmd/mcp-server-demo"), e2e.Env("MCP_STORE_URL="+url))
	x := e2e.StartTask(t, cluster.Servers[0].Connect(t, e2e.Latest, canBeAsked), "audit", audit(40, 50))
	cluster.Servers[0].Kill()

	balanced := x.On(cluster.Connect(t, e2e.Latest, canBeAsked))
	balanced.Answer(t, &mcp.ElicitResult{Action: "accept", Content: map[string]any{"go_on": true}})
	other := x.On(cluster.Servers[1].Connect(t, e2e.Latest, canBeAsked))
	if out := e2e.TaskResult[auditOut](t, other); out != (auditOut{40, true}) {
		t.Errorf("%+v", out)
	}
	if path, want := x.Path(), []tasks.Status{tasks.InputRequired, tasks.Completed}; !slices.Equal(path, want) {
		t.Errorf("the path is %v, want %v", path, want)
	}
}

// A ruleBreaker is a server that says of its only task what a test wants, one answer after the other and then the last for ever.
func ruleBreaker(t *testing.T, handle string, answers ...string) e2e.Endpoint {
	t.Helper()
	var mu sync.Mutex
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var m struct {
			ID     json.RawMessage
			Method string
		}
		if r.Method != http.MethodPost || json.NewDecoder(r.Body).Decode(&m) != nil {
			w.WriteHeader(http.StatusMethodNotAllowed)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		var result string
		switch m.Method {
		case "server/discover":
			result = `{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{},"extensions":{"` + tasks.Extension +
				`":{}}},"serverInfo":{"name":"breaker","version":"1"}}`
		case "tools/call":
			result = handle
		case "tasks/get":
			if result = answers[0]; len(answers) > 1 {
				answers = answers[1:]
			}
		default:
			result = `{"resultType":"complete"}`
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":%s}`, m.ID, result)
	}))
	t.Cleanup(server.Close)
	return e2e.Start(t, e2e.URL(server.URL+"/mcp"), e2e.Speaks("2026-07-28"))
}

// task is what a server says of its task, with members that replace or add to those of an honest one; null leaves one out.
func task(members string) string {
	all := map[string]json.RawMessage{}
	for _, text := range []string{
		`{"resultType":"complete","taskId":"one","status":"working","createdAt":"2026-11-28T09:00:00Z","lastUpdatedAt":"2026-11-28T09:00:00.5Z","ttlMs":60000}`,
		`{` + members + `}`,
	} {
		if err := json.Unmarshal([]byte(text), &all); err != nil {
			panic(err)
		}
	}
	for name, value := range all {
		if string(value) == "null" && name != "ttlMs" {
			delete(all, name)
		}
	}
	text, err := json.Marshal(all)
	if err != nil {
		panic(err)
	}
	return string(text)
}

func TestTaskFailuresReadWell(t *testing.T) {
	t.Parallel()
	const (
		handle   = `"resultType":"task"`
		done     = `"status":"completed","result":{"resultType":"complete","content":[{"type":"text","text":"done"}]}`
		question = `"status":"input_required","inputRequests":{"k":{"method":"elicitation/create","params":{"mode":"form","message":"%s","requestedSchema":{"type":"object","properties":{}}}}}`
	)
	asks := func(what string) string { return fmt.Sprintf(question, what) }
	end := func(t testing.TB, x *e2e.Task) { x.Await(t, tasks.Completed) }
	twice := func(t testing.TB, x *e2e.Task) {
		x.Await(t, tasks.Completed)
		x.Await(t, tasks.Completed)
	}
	accept := &mcp.ElicitResult{Action: "accept"}
	for name, test := range map[string]struct {
		handle  string
		answers []string // members of what tasks/get returns
		do      func(testing.TB, *e2e.Task)
		says    string // "": all is well
	}{
		"honest": {handle, []string{``, asks("a"), ``, `"ttlMs":null,"pollIntervalMs":10,` + done}, twice, ""},
		"honest failure": {handle, []string{``, `"status":"failed","error":{"code":7,"message":"not today"}`}, func(t testing.TB, x *e2e.Task) {
			if e := x.Failure(t); e.Code != 7 || e.Message != "not today" {
				t.Errorf("the failure is %v", e)
			}
		}, ""},
		"honest, in another zone": {
			handle,
			[]string{`"createdAt":"2026-11-28T10:00:00+01:00",` + done},
			func(t testing.TB, x *e2e.Task) { x.Result(t) }, "",
		},
		"no task":                    {`"resultType":"complete","taskId":null,"content":[]`, []string{``}, end, "want a task, got the result"},
		"handle with a result":       {handle + `,"result":{}`, []string{done}, end, "it must have no result now"},
		"handle with a state":        {handle + `,"requestState":"x"`, []string{done}, end, "it must have no requestState now"},
		"type of a handle":           {handle, []string{handle + `,` + done}, end, `the resultType is "task", want "complete"`},
		"no type":                    {handle, []string{`"resultType":null,` + done}, end, `the resultType is ""`},
		"unknown status":             {handle, []string{`"status":"done"`}, end, `there is no status "done"`},
		"no time":                    {handle, []string{`"createdAt":"today",` + done}, end, "createdAt must be a time"},
		"no update":                  {handle, []string{`"lastUpdatedAt":null,` + done}, end, "lastUpdatedAt must be a time"},
		"no time to live":            {`"resultType":"task","ttlMs":"1h"`, []string{done}, end, "ttlMs must be null or a whole number"},
		"no pause":                   {handle, []string{`"pollIntervalMs":0,` + done}, end, "pollIntervalMs must be a whole number"},
		"result while it works":      {handle, []string{`"result":{"resultType":"complete"}`, done}, end, "it must have no result now"},
		"error of what is completed": {handle, []string{`"error":{"code":1,"message":"m"},` + done}, end, "it must have no error now"},
		"no result":                  {handle, []string{`"status":"completed"`}, end, "it must have result when it is completed"},
		"no error":                   {handle, []string{`"status":"failed"`}, func(t testing.TB, x *e2e.Task) { _ = x.Failure(t) }, "it must have error when it is failed"},
		"half an error": {
			handle,
			[]string{`"status":"failed","error":{"message":"m"}`},
			func(t testing.TB, x *e2e.Task) { _ = x.Failure(t) }, "with code and message",
		},
		"no questions":              {handle, []string{`"status":"input_required"`, done}, end, "it must have inputRequests when it is input_required"},
		"questions that are over":   {handle, []string{strings.Replace(asks("a"), "input_required", "working", 1), done}, end, "it must have no inputRequests now"},
		"a question as its result":  {handle, []string{`"status":"completed","result":{"resultType":"input_required","inputRequests":{}}`}, end, "its result must be what the call would have been answered with"},
		"another task":              {handle, []string{`"taskId":"two",` + done}, end, "asked for the task one, the server told of two"},
		"created twice":             {handle, []string{`"createdAt":"2026-11-28T09:00:01Z",` + done}, end, "it was created at 2026-11-28T09:00:00Z, and now at 2026-11-28T09:00:01Z"},
		"back to work":              {handle, []string{done, ``, done}, twice, "completed is final, and now it is working"},
		"cancelled after its end":   {handle, []string{done, `"status":"cancelled"`}, twice, "completed is final, and now it is cancelled"},
		"another result":            {handle, []string{done, strings.Replace(done, "done", "undone", 1)}, twice, "its end has changed"},
		"another meaning of a key":  {handle, []string{asks("a"), asks("b"), done}, end, `the key "k" meant`},
		"a key that comes back":     {handle, []string{asks("a"), ``, asks("a"), done}, end, `the key "k" is used again`},
		"another end":               {handle, []string{`"status":"cancelled"`}, end, "want status completed, but the task has ended: {"},
		"nobody asks":               {handle, []string{done}, func(t testing.TB, x *e2e.Task) { x.Answer(t, accept) }, "want a question that is open, but the task has ended: {"},
		"nothing to answer by":      {handle, []string{asks("a")}, func(t testing.TB, x *e2e.Task) { x.Result(t) }, "a question stays without an answer"},
		"a result that has failed":  {handle, []string{`"status":"failed","error":{"code":7,"message":"not today"}`}, func(t testing.TB, x *e2e.Task) { x.Result(t) }, "not today"},
		"a result that is an error": {handle, []string{strings.Replace(done, `"content"`, `"isError":true,"content"`, 1)}, func(t testing.TB, x *e2e.Task) { x.Result(t) }, "tool error: done"},
		"a result of another type":  {handle, []string{done}, func(t testing.TB, x *e2e.Task) { e2e.TaskResult[int](t, x) }, "the output is not a int"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var answers []string
			for _, members := range test.answers {
				answers = append(answers, task(members))
			}
			srv := ruleBreaker(t, task(test.handle), answers...)
			run := func(t testing.TB) {
				test.do(t, e2e.StartTask(t, srv.Connect(t, e2e.Latest), "work", nil))
			}
			if test.says == "" {
				run(t)
				return
			}
			if said := failing(t, run); !strings.Contains(said, test.says) || !strings.Contains(said, "work null") {
				t.Errorf("did not say %q, but:\n%s", test.says, said)
			}
		})
	}
}

// A session of an older revision, and a server without tasks, answer in the call.
func TestNoTaskIsSaid(t *testing.T) {
	t.Parallel()
	srv := startDemo(t)
	for _, test := range []struct {
		revision e2e.Revision
		tool     string
		in       any
	}{
		{"2025-11-25", "audit", audit(2, 1)},
		{e2e.Latest, "add", addIn{1, 2}},
	} {
		said := failing(t, func(t testing.TB) { e2e.StartTask(t, srv.Connect(t, test.revision), test.tool, test.in) })
		if want := "want a task, got the result"; !strings.Contains(said, want) {
			t.Errorf("%s with %s: did not say %q, but:\n%s", test.tool, test.revision, want, said)
		}
	}
}
