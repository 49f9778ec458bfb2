package stateless

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice/internal/caller"
	"github.com/sluice-mcp/sluice/internal/engine"
	"github.com/sluice-mcp/sluice/internal/observed"
	"github.com/sluice-mcp/sluice/internal/run"
	"github.com/sluice-mcp/sluice/internal/task"
	"github.com/sluice-mcp/sluice/internal/wire"
	"github.com/sluice-mcp/sluice/observe"
	"github.com/sluice-mcp/sluice/store"
)

// This file is where calls and tasks meet (SEP-2663, the Tasks extension): which call becomes a task, what executes a task's
// rounds, and what the methods of the extension answer.

// Tasks has what the endpoint needs for tasks.
type Tasks struct {
	Keeper *task.Keeper
	// TTL, Keep and Poll are for tools that say nothing else, in milliseconds.
	TTL, Keep, Poll int64
	// After is how long a call of a tool that says nothing of tasks may take before it becomes one; 0 is for ever.
	After time.Duration
}

// declaresTasks reports whether this very request declares the extension. What an earlier one declared means nothing.
func (c *call) declaresTasks() bool {
	said := wire.Member(wire.Member(c.meta.ClientCapabilities, "extensions"), wire.ExtensionTasks)
	return len(said) > 0 && said[0] == '{'
}

// errUndeclared is for a client that cannot be served without the extension (Tasks, "Capability Negotiation").
func errUndeclared() *wire.Error {
	return &wire.Error{
		Code:    wire.CodeMissingCapability,
		Message: "Missing required client capability: the extension " + wire.ExtensionTasks,
		Data:    json.RawMessage(`{"requiredCapabilities":{"extensions":{"` + wire.ExtensionTasks + `":{}}}}`),
	}
}

// becomesTask reports whether a call of a tool becomes a task, or that it must and cannot.
func (p *Endpoint) becomesTask(c *call, hint *engine.TaskHint) (bool, *wire.Error) {
	if hint == nil || p.Tasks == nil || hint.Mode != "prefer" && hint.Mode != "require" {
		return false, nil
	}
	if !c.declaresTasks() {
		if hint.Mode == "require" {
			return false, errUndeclared()
		}
		return false, nil
	}
	// What is asked before the task begins is asked in the call (Tasks, "Task Creation").
	first := c.params.InputResponses == nil && c.params.RequestState == nil
	return !(hint.AskFirst && first), nil
}

// create keeps a task for a call. asked is checked, and has what the client has answered so far.
func (p *Endpoint) create(ctx context.Context, c *call, tool engine.Tool, asked *engine.Call) (*task.Record, error) {
	hint := cmp.Or(tool.Task, &engine.TaskHint{})
	return p.Tasks.Keeper.Create(ctx, &task.Record{
		Principal:  c.principal,
		TTL:        cmp.Or(hint.TTL, p.Tasks.TTL),
		Keep:       cmp.Or(hint.Keep, p.Tasks.Keep),
		Poll:       cmp.Or(hint.PollInterval, p.Tasks.Poll),
		Repeatable: tool.Repeatable,
		Origin:     caller.Origin(c.request),
		Told:       c.told,
	}, asked.Params)
}

// begin makes a task of a call, and appends its handle to dst.
func (p *Endpoint) begin(dst []byte, rn *run.Run, c *call, tool engine.Tool, asked *engine.Call) ([]byte, error) {
	ctx := rn.Context()
	r, err := p.create(ctx, c, tool, asked)
	if err != nil {
		return nil, p.taskError(ctx, err)
	}
	if !rn.Open() { // its client has left without the handle: nobody could ever ask for it
		p.Tasks.Keeper.Abandon(r)
		return nil, run.ErrCancelled
	}
	p.Tasks.Keeper.Begin(r, p.round(run.Outside(ctx), c.engine, c.extra, 0))
	return p.appendHandle(ctx, dst, c, r), nil
}

func (p *Endpoint) appendHandle(ctx context.Context, dst []byte, c *call, r *task.Record) []byte {
	c.ended.Shape = observe.Task
	handle := wire.Complete(r.AppendHandle(nil), `"task"`, c.engine.Describe(ctx, c.extra).ServerInfo)
	return append(dst, handle...)
}

// round executes rounds of a task with a server, on behalf of the client that extra tells of. values has what HTTP middleware knew
// of the request. takeover is how often the task has come to another replica, for one that comes here without a request.
func (p *Endpoint) round(values context.Context, e *engine.Engine, extra *mcp.RequestExtra, takeover int) task.Round {
	return func(ctx context.Context, r *task.Record, params json.RawMessage, say func(string)) task.Outcome {
		values, end := p.observeRound(values, r, takeover)
		o := outcomeOf(e, p.execute(&roundContext{ctx, values}, e, extra, r, params, &taskOutlet{say: say}))
		end(ctx, o)
		return o
	}
}

// finished is what a handler has returned, and what its client is able to do.
type finished struct {
	res  mcp.Result
	caps *mcp.ClientCapabilities
	err  error
}

// roundContext ends with the round and has the values of the request.
type roundContext struct {
	context.Context
	values context.Context
}

// Value implements [context.Context].
func (c *roundContext) Value(key any) any {
	if v := c.Context.Value(key); v != nil {
		return v
	}
	return c.values.Value(key)
}

// execute calls the handler for a round. A panic of its is its error.
func (p *Endpoint) execute(ctx context.Context, e *engine.Engine, extra *mcp.RequestExtra, r *task.Record, params json.RawMessage, out *taskOutlet) (f finished) {
	f.err = e.Safely("tools/call", func() (err error) {
		f.res, f.caps, err = p.callRound(ctx, e, extra, r, params, out)
		return err
	})
	return f
}

func (p *Endpoint) callRound(ctx context.Context, e *engine.Engine, extra *mcp.RequestExtra, r *task.Record, params json.RawMessage, out *taskOutlet) (mcp.Result, *mcp.ClientCapabilities, error) {
	if r.Round > 1 {
		again := []wire.Pair{}
		params = wire.RemoveMembers(params, "inputResponses", "requestState")
		if len(r.Answers) > 0 {
			answers, err := json.Marshal(r.Answers)
			if err != nil {
				return nil, nil, err
			}
			again = append(again, wire.Pair{Key: "inputResponses", Value: answers})
		}
		if r.State != nil {
			again = append(again, wire.Pair{Key: "requestState", Value: wire.AppendString(nil, *r.State)})
		}
		params = wire.SetMembers(params, again...)
	}
	meta, bad := wire.ParseMeta(wire.Member(params, "_meta"))
	if bad != nil {
		return nil, nil, bad
	}
	if meta.ProgressToken == nil { // tools say nothing of their progress to a client that has not asked
		meta.ProgressToken = wire.AppendString(nil, r.ID)
		all := wire.SetMembers(wire.RemoveMembers(wire.Member(params, "_meta"), "progressToken"), wire.Pair{Key: "progressToken", Value: meta.ProgressToken})
		params = wire.ReplaceMember(params, "_meta", all)
	}
	server, err := e.Lend(r.Principal, meta, out)
	if err != nil {
		return nil, nil, err
	}
	defer server.Return()
	ctx = context.WithValue(ctx, outletKey{}, out)
	if r.ID != "" {
		ctx = task.With(ctx, r.ID)
	}
	res, err := server.Do(ctx, &engine.Call{Method: "tools/call", Params: params, Token: meta.ProgressToken, Extra: extra})
	return res, server.Capabilities(), err
}

// outcomeOf is what it means for a task that its handler has returned.
func outcomeOf(e *engine.Engine, f finished) (o task.Outcome) {
	err := f.err
	if err == nil {
		err = e.Safely("tools/call", func() (err error) { // writing a result calls code of the handler's types, too
			if interim := asInterim(f.res); interim != nil {
				o, err = askedOf(f.caps, interim)
				return err
			}
			if call, ok := f.res.(*mcp.CallToolResult); ok {
				o.IsError = call.IsError
			}
			o.Result, err = e.AppendModern(nil, f.res, "complete", nil)
			return err
		})
	}
	if err != nil {
		failed := *engine.ToError(err)
		failed.Code = wire.ModernCode(failed.Code)
		return task.Outcome{Err: &failed}
	}
	return o
}

// askedOf is the outcome of a round that asks.
func askedOf(caps *mcp.ClientCapabilities, i *interim) (o task.Outcome, err error) {
	if e := mayAsk(caps, i.requests); e != nil {
		return o, e
	}
	schemas, err := i.schemas()
	if err != nil {
		return o, err
	}
	for key := range i.requests {
		request, err := json.Marshal(mcp.InputRequestMap{key: i.requests[key]})
		if err != nil {
			return o, fmt.Errorf("input request %q: %w", key, err)
		}
		o.Asked = append(o.Asked, task.Ask{Key: key, Request: wire.Member(request, key), Schema: schemas[key]})
	}
	if len(o.Asked) == 0 {
		return o, wire.Internal("Internal error: the tool asks for nothing")
	}
	if *i.state != "" {
		o.State = i.state
	}
	return o, nil
}

// Resume implements [task.Config].Resume: a round without a request of the client.
func (p *Endpoint) Resume(r *task.Record) task.Round {
	return func(ctx context.Context, r *task.Record, params json.RawMessage, say func(string)) task.Outcome {
		request, err := caller.Recall(ctx, r.Origin)
		if err != nil {
			return task.Outcome{Err: wire.Internal(err.Error())}
		}
		e := p.Server(request)
		if e == nil {
			return task.Outcome{Err: wire.Internal(errNoServer.Error())}
		}
		return p.round(request.Context(), e, caller.Extra(request), r.Claims)(ctx, r, params, say)
	}
}

type outletKey struct{}

// A taskOutlet takes what a handler says while it works on a task.
type taskOutlet struct {
	say func(string)
	// before, if not nil, takes it as long as the call is no task yet.
	before *promotion
}

// Say implements [engine.Outlet]. Progress becomes the status message; there is nobody to tell anything else.
func (o *taskOutlet) Say(ctx context.Context, m engine.Outgoing) error {
	if m.Reply != nil {
		return errNoRequests
	}
	if ctx.Value(outletKey{}) != o { // of a handler that has outlived its round
		return errNotThisCall
	}
	if o.before != nil {
		return o.before.heard(ctx, m)
	}
	if m.Method == "notifications/progress" {
		o.say(progressText(m.Params))
	}
	return nil
}

// progressText is what progress says, else how far it is: "3 of 10".
func progressText(params json.RawMessage) string {
	if text := wire.Member(params, "message"); len(text) > 0 && text[0] == '"' && string(text) != `""` {
		return wire.Unquote(text)
	}
	text := string(wire.Member(params, "progress"))
	if total := wire.Member(params, "total"); len(total) > 0 && string(total) != "0" {
		text += " of " + string(total)
	}
	return text
}

// ofTask reports whether a request is for a task. All methods of the name are the extension's (Tasks, "Reserved Names").
func (c *call) ofTask() bool { return strings.HasPrefix(c.method, "tasks/") }

// methods of the extension.
var taskMethods = map[string]func(*Endpoint, context.Context, *call) ([]byte, error){
	"tasks/get":    (*Endpoint).getTask,
	"tasks/update": (*Endpoint).updateTask,
	"tasks/cancel": (*Endpoint).cancelTask,
}

// checkTask checks a request for a task as far as it can be without the task. That the client has declared the extension comes first, so
// that one that has not learns nothing.
func (p *Endpoint) checkTask(c *call) *wire.Error {
	switch id := c.params.TaskID; {
	case taskMethods[c.method] == nil || p.Tasks == nil:
		return wire.MethodNotFound(c.method)
	case !c.declaresTasks():
		return errUndeclared()
	case len(id) == 0 || id[0] != '"':
		return wire.InvalidParams("Invalid params: " + c.method + " needs a taskId that is a string")
	}
	return nil
}

// appendTask answers a method of the extension.
func (p *Endpoint) appendTask(dst []byte, rn *run.Run, c *call) ([]byte, error) {
	result, err := taskMethods[c.method](p, rn.Context(), c)
	if err != nil {
		return nil, err
	}
	return append(dst, wire.Complete(result, `"complete"`, c.engine.Describe(rn.Context(), c.extra).ServerInfo)...), nil
}

func (p *Endpoint) getTask(ctx context.Context, c *call) ([]byte, error) {
	r, result, err := p.Tasks.Keeper.Get(ctx, wire.Unquote(c.params.TaskID), c.principal)
	if err != nil {
		return nil, p.taskError(ctx, err)
	}
	return r.AppendDetail(nil, result), nil
}

func (p *Endpoint) updateTask(ctx context.Context, c *call) ([]byte, error) {
	var answers map[string]json.RawMessage
	if err := json.Unmarshal(c.params.InputResponses, &answers); err != nil || answers == nil {
		return nil, wire.InvalidParams("Invalid params: tasks/update needs inputResponses that are an object")
	}
	check := func(a task.Ask, answer json.RawMessage) error {
		if len(answer) == 0 || answer[0] != '{' {
			return wire.InvalidParams("Invalid params: inputResponses: an answer must be an object")
		}
		if len(a.Schema) == 0 {
			return nil
		}
		if err := checkInput(a.Key, a.Schema, answer); err != nil {
			return wire.InvalidParams("Invalid params: " + err.Error())
		}
		return nil
	}
	err := p.Tasks.Keeper.Update(ctx, wire.Unquote(c.params.TaskID), c.principal, answers, check, p.round(run.Outside(ctx), c.engine, c.extra, 0))
	if err != nil {
		return nil, p.taskError(ctx, err)
	}
	return []byte("{}"), nil
}

func (p *Endpoint) cancelTask(ctx context.Context, c *call) ([]byte, error) {
	if err := p.Tasks.Keeper.Cancel(ctx, wire.Unquote(c.params.TaskID), c.principal); err != nil {
		return nil, p.taskError(ctx, err)
	}
	return []byte("{}"), nil
}

func (p *Endpoint) taskError(ctx context.Context, err error) error {
	if e, ok := errors.AsType[*wire.Error](err); ok {
		return e
	}
	told := task.Error(err)
	if told.Code == wire.CodeBusy {
		reason := observe.RefusedStore
		if errors.Is(err, task.ErrTooMany) {
			reason = observe.RefusedTasks
		}
		observed.Tell(ctx, p.Observer, observe.Refused{Reason: reason})
	}
	if told.Code == wire.CodeInternal || errors.Is(err, store.ErrUnavailable) {
		p.Log.Error("tasks are out of reach", "error", err)
	}
	return told
}

// advertises reports whether a task can arise.
func (p *Endpoint) advertises(ctx context.Context, c *call, server *engine.Session) bool {
	return p.Tasks != nil && (p.Tasks.After > 0 || server.HasTasks(ctx, c.extra))
}

// busyStatus is the HTTP status of an error of this room.
func busyStatus(e *wire.Error) int {
	if e.Code != wire.CodeBusy {
		return wire.ModernStatus(e.Code)
	}
	if e.Message == task.ErrTooManyOfYours.Error() {
		return http.StatusTooManyRequests
	}
	return http.StatusServiceUnavailable
}
