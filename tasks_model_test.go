package sluice_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice"
	"github.com/sluice-mcp/sluice/internal/sitetest"
)

// TestTasksUnderTrouble plays random schedules, as TestOwnership does, of clients with tasks. Every task whose handle its client has
// ends in its right result or one definite error, whatever happens; an end stays as it is; what a task asks under one key stays the
// same, and is over when it is answered; what may not run twice does not; nobody works when all is over.
func TestTasksUnderTrouble(t *testing.T) {
	n, sum := playMany(t, amongTasks, 150)
	if n >= 100 && (sum.takeovers.Load() == 0 || sum.lost.Load() == 0 || sum.unknown.Load() == 0) {
		t.Errorf("the schedules did not try everything: %v", sum)
	}
}

// playTasks has a world's clients play with tasks.
func (w *world) playTasks() {
	w.opts.TaskAfter = time.Second
	w.model, w.player, w.settle = w.taskServer, w.taskClient, w.nobodyWorks
}

// The tools of a world with tasks. Those that may not run twice are counted, by key and round.
var taskTools = []struct {
	name       string
	mode       sluice.TaskMode
	repeatable bool
	ttl        time.Duration
}{
	{name: "count", mode: sluice.TaskPrefer, repeatable: true},
	{name: "silent", mode: sluice.TaskPrefer, repeatable: true},
	{name: "brief", mode: sluice.TaskPrefer, repeatable: true, ttl: 6 * time.Second},
	{name: "charge", mode: sluice.TaskPrefer},
	{name: "late"},
	{name: "pair", mode: sluice.TaskPrefer, repeatable: true},
	{name: "wizard", mode: sluice.TaskPrefer},
}

// wizardRounds is in how many rounds a wizard asks, and one.
const wizardRounds = 3

func (w *world) taskServer() *mcp.Server {
	server := mcp.NewServer(&mcp.Implementation{Name: "model", Version: "1"}, nil)
	type input struct {
		Key, Pad string
		N, MS    int
	}
	count := func(ctx context.Context, req *mcp.CallToolRequest, in input, silent bool) error {
		for i := 1; i <= in.N; i++ {
			select {
			case <-time.After(time.Duration(in.MS) * time.Millisecond):
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			if token := req.Params.GetProgressToken(); token != nil && !silent {
				_ = req.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{ProgressToken: token, Progress: float64(i)})
			}
		}
		return nil
	}
	question := func(what string) *mcp.ElicitParams {
		return &mcp.ElicitParams{Message: what, RequestedSchema: json.RawMessage(`{"type":"object","properties":{"x":{"type":"string"}},"required":["x"]}`)}
	}
	for _, tool := range taskTools {
		marked := &mcp.Tool{Name: tool.name, InputSchema: json.RawMessage(`{"type":"object"}`), Annotations: &mcp.ToolAnnotations{IdempotentHint: tool.repeatable}}
		sluice.MarkTask(marked, sluice.TaskOptions{Mode: tool.mode, TTL: tool.ttl})
		server.AddTool(marked, func(ctx context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			var in input
			if err := json.Unmarshal(req.Params.Arguments, &in); err != nil {
				return nil, err
			}
			round := strings.Count(req.Params.RequestState, "|")
			if !tool.repeatable {
				w.mu.Lock()
				w.ran[fmt.Sprint(in.Key, " in round ", round)]++
				w.mu.Unlock()
			}
			if err := count(ctx, req, in, tool.name == "silent"); err != nil {
				return nil, err
			}
			state := req.Params.RequestState
			answer := func(key string) (string, bool) {
				a, ok := req.Params.InputResponses[key].(*mcp.ElicitResult)
				if !ok {
					return "", false
				}
				return fmt.Sprint(a.Content["x"]), true
			}
			switch tool.name {
			case "pair":
				a, okA := answer("a")
				b, okB := answer("b")
				if !okA || !okB {
					return &mcp.CallToolResult{InputRequests: mcp.InputRequestMap{"a": question("a"), "b": question("b")}, RequestState: "pad " + in.Pad}, nil
				}
				return sitetest.Text(a + b + " " + state), nil
			case "wizard":
				if a, ok := answer("q"); ok {
					state += a + "|"
				}
				if strings.Count(state, "|") < wizardRounds {
					if state == "" {
						state = "|" // the round before the first answer
					}
					return &mcp.CallToolResult{InputRequests: mcp.InputRequestMap{"q": question(fmt.Sprint("q", strings.Count(state, "|")))}, RequestState: state}, nil
				}
				return sitetest.Text(state), nil
			}
			return sitetest.Text("done " + in.Key + in.Pad), nil
		})
	}
	return server
}

// taskOf is a task as its clients know it.
type taskOf struct {
	id, tool, key, want string

	mu        sync.Mutex
	cancelled bool              // a client has asked for it
	asked     map[string]string // by key
	answered  map[string]bool   // acknowledged
	end       string            // as it was first seen
}

// taskReply is what a client hears of a task, or in its place.
type taskReply struct {
	ResultType    string
	TaskID        string
	State         string `json:"status"`
	Message       string `json:"statusMessage"`
	LastUpdatedAt string
	InputRequests map[string]struct{ Params json.RawMessage }
	Result        struct{ Content []struct{ Text string } }
	Content       []struct{ Text string } // of a result that is no task
	Error         *taskError
}

type taskError struct {
	Code    int
	Message string
}

func (r *taskReply) text() string {
	if len(r.Result.Content) == 0 {
		return ""
	}
	return r.Result.Content[0].Text
}

// taskClient is a client with a few tasks, some of them at the same time.
func (w *world) taskClient(ctx context.Context, rng *rand.Rand, n int) {
	var all sync.WaitGroup
	for i := range 3 + rng.IntN(5) {
		own := rand.New(rand.NewPCG(rng.Uint64(), 0))
		all.Go(func() { w.task(ctx, own, fmt.Sprintf("%d.%d", n, i)) })
		time.Sleep(between(rng, 0, 3*time.Second))
	}
	all.Wait()
}

// ask sends a request to any replica. It gives up after a while, as clients do.
func (w *world) ask(ctx context.Context, rng *rand.Rand, method, name, params string) (*taskReply, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer time.AfterFunc(5*time.Second, cancel).Stop()
	w.mu.Lock()
	at := w.sites[rng.IntN(len(w.sites))]
	w.mu.Unlock()
	const caps = `{"elicitation":{},"extensions":{"io.modelcontextprotocol/tasks":{}}}`
	body := fmt.Sprintf(`{"jsonrpc":"2.0","id":"m","method":%q,"params":{%s,"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":%s}}}`, method, params, caps)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://127.0.0.1/mcp", strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	for k, v := range map[string]string{"Accept": "application/json, text/event-stream", "Content-Type": "application/json", "Mcp-Protocol-Version": "2026-07-28", "Mcp-Method": method, "Mcp-Name": name} {
		req.Header.Set(k, v)
	}
	resp, err := at.RoundTrip(req) //nolint:bodyclose // the response's reader closes it
	if err != nil {
		return nil, err
	}
	a := sitetest.NewResponse(resp)
	defer a.Leave()
	var data []byte
	if !a.Stream() {
		if data, err = io.ReadAll(a.Body); err != nil {
			return nil, err
		}
	}
	for data == nil { // what comes before the response is no answer
		e, err := a.Next()
		if err != nil {
			return nil, err
		}
		if e.Message().ID != nil {
			data = []byte(e.Data)
		}
	}
	var m struct {
		Result taskReply
		Error  *taskError
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, err
	}
	if m.Error != nil {
		m.Result = taskReply{Error: m.Error}
	}
	return &m.Result, nil
}

func (w *world) task(ctx context.Context, rng *rand.Rand, key string) {
	tool := taskTools[rng.IntN(len(taskTools))]
	pad := ""
	if rng.IntN(4) == 0 {
		pad = strings.Repeat("p", 33<<10) // neither fits into the record
	}
	n, ms := 1+rng.IntN(8), 20+rng.IntN(1000)
	w.sum.calls.Add(1)
	w.pend(key+" "+tool.name, true)
	defer w.pend(key+" "+tool.name, false)
	r, err := w.ask(ctx, rng, "tools/call", tool.name, fmt.Sprintf(`"name":%q,"arguments":{"Key":%q,"Pad":%q,"N":%d,"MS":%d}`, tool.name, key, pad, n, ms))
	task := &taskOf{tool: tool.name, key: key, asked: make(map[string]string), answered: make(map[string]bool)}
	switch tool.name {
	case "pair":
		task.want = "AB pad " + pad
	case "wizard":
		task.want = "|Q|Q|"
	default:
		task.want = "done " + key + pad
	}
	switch {
	case err != nil:
		w.sum.unknown.Add(1) // it knows of no task, and must not call again
		return
	case r.Error != nil:
		if r.Error.Code != -31010 && r.Error.Code != -32603 {
			w.errorf("%s %s is refused: %+v", tool.name, key, r.Error)
		}
		return
	case r.ResultType == "complete" && tool.name == "late":
		if len(r.Content) != 1 || r.Content[0].Text != task.want {
			w.errorf("%s %s: %+v", tool.name, key, r)
		}
		return
	case r.ResultType != "task" || r.TaskID == "":
		w.errorf("%s %s is no task: %+v", tool.name, key, r)
		return
	}
	task.id = r.TaskID
	w.note("task %s is %s %s", task.id[:4], tool.name, key)
	var clients sync.WaitGroup
	for range 2 {
		own := rand.New(rand.NewPCG(rng.Uint64(), 0))
		clients.Go(func() { w.follow(ctx, own, task) })
	}
	if rng.IntN(6) == 0 {
		time.Sleep(between(rng, 0, 8*time.Second))
		task.mu.Lock()
		task.cancelled = true
		task.mu.Unlock()
		w.note("task %s is cancelled", task.id[:4])
		_, _ = w.ask(ctx, rng, "tasks/cancel", task.id, fmt.Sprintf(`"taskId":%q`, task.id))
	}
	clients.Wait()
}

func (w *world) pend(call string, is bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if is {
		w.pending[call] = true
	} else {
		delete(w.pending, call)
	}
}

// follow looks at a task and answers what it asks, until it has seen its end a few times.
func (w *world) follow(ctx context.Context, rng *rand.Rand, task *taskOf) {
	for seen := 0; seen < 3 && ctx.Err() == nil; {
		time.Sleep(between(rng, 0, 3*time.Second))
		task.mu.Lock()
		over := make(map[string]bool)
		for k := range task.answered {
			over[k] = true
		}
		task.mu.Unlock()
		r, err := w.ask(ctx, rng, "tasks/get", task.id, fmt.Sprintf(`"taskId":%q`, task.id))
		switch {
		case err != nil:
		case r.Error != nil && r.State == "":
			if r.Error.Code == -32602 {
				w.errorf("task %s (%s %s) is lost", task.id[:4], task.tool, task.key)
				return
			}
		case r.State == "working":
		case r.State == "input_required":
			w.answer(ctx, rng, task, r, over)
		default:
			seen++
			w.ended(task, r)
		}
	}
}

// answer answers some of what a task asks. over is what was answered before it was asked how it is.
func (w *world) answer(ctx context.Context, rng *rand.Rand, task *taskOf, r *taskReply, over map[string]bool) {
	answers := make(map[string]json.RawMessage)
	for key, asked := range r.InputRequests {
		what := string(asked.Params)
		task.mu.Lock()
		if before, known := task.asked[key]; known && before != what {
			w.errorf("task %s asks %s under the key %s, and asked %s", task.id[:4], what, key, before)
		}
		task.asked[key] = what
		task.mu.Unlock()
		if over[key] {
			w.errorf("task %s asks %s again, which was answered", task.id[:4], key)
		}
		if rng.IntN(3) > 0 {
			x := strings.ToUpper(key[:1])
			answers[key] = json.RawMessage(fmt.Sprintf(`{"action":"accept","content":{"x":%q}}`, x))
		}
	}
	raw, _ := json.Marshal(answers)
	reply, err := w.ask(ctx, rng, "tasks/update", task.id, fmt.Sprintf(`"taskId":%q,"inputResponses":%s`, task.id, raw))
	if err != nil || reply.Error != nil {
		if err == nil && reply.Error.Code == -32602 {
			w.errorf("task %s refuses %s: %+v", task.id[:4], raw, reply.Error)
		}
		return
	}
	task.mu.Lock()
	defer task.mu.Unlock()
	for key := range answers {
		task.answered[key] = true
	}
}

// ended looks whether a task has ended as it may, and as it did before.
func (w *world) ended(task *taskOf, r *taskReply) {
	task.mu.Lock()
	defer task.mu.Unlock()
	end := fmt.Sprint(r.State, " ", r.Message, " ", r.text(), " ", r.LastUpdatedAt)
	if r.Error != nil {
		end += fmt.Sprintf(" %+v", *r.Error)
	}
	if task.end != "" {
		if task.end != end {
			w.errorf("task %s (%s %s) has ended twice:\n%s\n%s", task.id[:4], task.tool, task.key, task.end, end)
		}
		return
	}
	task.end = end
	w.note("task %s has ended: %.100s", task.id[:4], end)
	repeatable, ttl := false, time.Duration(0)
	for _, tool := range taskTools {
		if tool.name == task.tool {
			repeatable, ttl = tool.repeatable, tool.ttl
		}
	}
	switch {
	case r.State == "completed" && r.text() == task.want:
		w.sum.results.Add(1)
	case r.State == "cancelled" && task.cancelled:
	case r.State == "failed" && r.Error.Code == -31011 && (!repeatable || strings.Contains(r.Message, "one after the other")):
		w.sum.lost.Add(1)
	case r.State == "failed" && r.Error.Code == -32603 && ttl > 0 && strings.Contains(r.Message, "time to live"):
	default:
		w.errorf("task %s (%s %s) has ended as %.300s", task.id[:4], task.tool, task.key, end)
	}
}

// nobodyWorks looks whether anybody still works on a task, or is thought to, now that all have ended.
func (w *world) nobodyWorks() {
	time.Sleep(2 * time.Minute) // tasks that nobody knows of end, too; and so do rounds of handlers that nobody waits for
	w.mu.Lock()
	w.sum.takeovers.Add(int64(strings.Count(strings.Join(w.script, "\n"), "goes on here")))
	w.mu.Unlock()
	if roster, err := w.shared.Get(context.Background(), "task-owners"); err == nil && string(roster) != "{}" {
		w.errorf("owners are left: %s", roster)
	}
	for _, s := range w.sites {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		if err := s.Handler.Drain(ctx); err != nil {
			w.errorf("%s still works: %v", s.Name, err)
		}
		cancel()
	}
}
