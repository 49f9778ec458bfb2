// Package tasks has the official Go SDK's client call tools that take longer than a request may: by the Tasks extension
// (SEP-2663, io.modelcontextprotocol/tasks), with any server of revision 2026-07-28 that has it.
//
//	client := mcp.NewClient(&mcp.Implementation{Name: "reporter", Version: "v1.0.0"}, nil)
//	transport := &mcp.StreamableClientTransport{Endpoint: url}
//	if err := tasks.Enable(client, transport); err != nil { … }
//	session, err := client.Connect(ctx, transport, nil)
//	…
//	result, err := tasks.Call(ctx, session, &mcp.CallToolParams{Name: "audit"}, &tasks.Options{
//		Created: func(t *tasks.Task) { save(t.ID) }, // for Wait, in whatever process
//	})
//
// [Call] is [mcp.ClientSession.CallTool] with a longer breath. When the server makes a task of the call, Call looks after it to its
// end. What the task asks is answered by the client's own handlers, through its receiving middleware, as if the server had asked
// directly. A server without tasks, or of an older revision, answers the call as ever, and so does one that prefers to.
//
// Only the calls of this package tell the server that the client knows tasks. CallTool itself goes on as if there were none. A server that
// makes a task of it, or of any other request, has sent an invalid response, which is an error.
//
// With a server that heeds idempotency keys, as those of sluice do, a call that loses its connection is sent again, and is executed once
// all the same.
package tasks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// Extension is the name by which clients and servers declare the Tasks extension.
const Extension = "io.modelcontextprotocol/tasks"

// The methods of the extension.
const (
	methodGet    = "tasks/get"
	methodUpdate = "tasks/update"
	methodCancel = "tasks/cancel"
)

// Options say what to tell of a task on its way. Its functions are called one at a time, by the goroutine that waits, which goes on
// when they return.
type Options struct {
	// Created is called by [Call] with the handle of the task that the call has become, before anything else happens.
	// Who keeps its ID can come back to the task with [Wait].
	Created func(*Task)
	// Changed is called when the status, its message or the open questions have changed.
	Changed func(*Task)
}

// ErrCancelled says that a task was cancelled.
var ErrCancelled = errors.New("the task was cancelled")

// A FailedError says that a task has failed: the call was answered with a JSON-RPC error, or has not come to its end. A tool's
// own error is a result.
type FailedError struct {
	Task *Task
}

// Error implements error.
func (e *FailedError) Error() string {
	return fmt.Sprintf("task %s failed: %s", e.Task.ID, e.Task.Error.Message)
}

// Unwrap returns the JSON-RPC error.
func (e *FailedError) Unwrap() error { return e.Task.Error }

// errUnwanted is for a handle that answers a request which cannot become a task, or whose client did not say that it knows tasks: an
// invalid response (Tasks, "Capability Negotiation").
var errUnwanted = errors.New("the server has made a task of what was not to be one")

// Enable prepares a client and its transport for the functions of this package, before [mcp.Client.Connect]. It gives the transport
// another HTTPClient, which sends by the one that the transport has.
func Enable(c *mcp.Client, t *mcp.StreamableClientTransport) error {
	if err := errors.Join(
		mcp.AddSendingCustomMethod[*idParams, *Task](c, methodGet),
		mcp.AddSendingCustomMethod[*updateParams, *acknowledgement](c, methodUpdate),
		mcp.AddSendingCustomMethod[*idParams, *acknowledgement](c, methodCancel),
	); err != nil {
		return err
	}
	c.AddSendingMiddleware(func(next mcp.MethodHandler) mcp.MethodHandler {
		return func(ctx context.Context, method string, req mcp.Request) (mcp.Result, error) {
			x, ours := ctx.Value(exchangeKey{}).(*exchange)
			if !ours { // of the client's own
				x = new(exchange)
				ctx = context.WithValue(ctx, exchangeKey{}, x)
			}
			x.client = c
			if x.declares {
				if method == "tools/call" && heedsKeys(req.GetSession()) {
					x.keyed(req.GetParams())
				}
				if err := declare(req.GetParams()); err != nil {
					return nil, err
				}
			}
			result, err := next(ctx, method, req)
			if !x.takesHandle && x.handle.Load() != nil {
				return nil, fmt.Errorf("%s: %w", method, errUnwanted) // the SDK has taken it for a result that is empty
			}
			return result, err
		}
	})
	base := t.HTTPClient
	if base == nil {
		base = http.DefaultClient
	}
	carried := *base
	carried.Transport = &carrier{base: base.Transport}
	t.HTTPClient = &carried
	return nil
}

// declare adds the extension to the capabilities in a request's metadata. A request of an older revision has none there.
func declare(params mcp.Params) error {
	meta := params.GetMeta()
	said, ok := meta[mcp.MetaKeyClientCapabilities]
	if !ok {
		return nil
	}
	text, err := json.Marshal(said) // the SDK has a type of its own for them
	if err != nil {
		return err
	}
	caps := map[string]json.RawMessage{}
	if err := json.Unmarshal(text, &caps); err != nil {
		return err
	}
	extensions := map[string]json.RawMessage{}
	if caps["extensions"] != nil { // the SDK leaves out what is empty
		if err := json.Unmarshal(caps["extensions"], &extensions); err != nil {
			return err
		}
	}
	extensions[Extension] = json.RawMessage("{}")
	if caps["extensions"], err = json.Marshal(extensions); err != nil {
		return err
	}
	meta[mcp.MetaKeyClientCapabilities] = caps
	return nil
}

// Call calls a tool and returns its result, also when the call becomes a task. A task that has failed or was cancelled is a
// [FailedError] or [ErrCancelled].
//
// The task is the call's: when ctx is done or a question cannot be answered, Call cancels it. When Call only loses sight of it, because
// the server is away for longer than a minute or the session has broken, the task goes on, and [Wait] finds it.
func Call(ctx context.Context, cs *mcp.ClientSession, params *mcp.CallToolParams, o *Options) (*mcp.CallToolResult, error) {
	t, result, err := Start(ctx, cs, params)
	if t == nil {
		return result, err
	}
	if o != nil && o.Created != nil {
		o.Created(t)
	}
	result, err = follow(ctx, cs, t, o)
	if err != nil && (ctx.Err() != nil || errors.Is(err, errUnanswered)) {
		abandon(ctx, cs, t.ID)
	}
	return result, err
}

// Start calls a tool and does not wait for a task. It returns the handle of the task that the call has become, or else the result.
func Start(ctx context.Context, cs *mcp.ClientSession, params *mcp.CallToolParams) (*Task, *mcp.CallToolResult, error) {
	var own mcp.CallToolParams
	if params != nil {
		own = *params // the caller may use its own again, for a call that declares nothing
		own.Meta = maps.Clone(params.Meta)
	}
	x := &exchange{declares: true, takesHandle: true}
	result, err := cs.CallTool(context.WithValue(ctx, exchangeKey{}, x), &own)
	t := x.handle.Load()
	switch {
	case t != nil && ctx.Err() != nil: // nobody is left to be told of it
		abandon(ctx, cs, t.ID)
		return nil, nil, context.Cause(ctx)
	case t != nil:
		return t, nil, nil
	case err == nil && isHandle(result):
		return nil, nil, fmt.Errorf("%s has become a task whose handle cannot be read: is the session's transport that of tasks.Enable?", own.Name)
	}
	return nil, result, err
}

// Wait waits for the end of a task that was begun by whomever, and answers what it asks until then. When ctx is done, the task
// goes on.
func Wait(ctx context.Context, cs *mcp.ClientSession, id string, o *Options) (*mcp.CallToolResult, error) {
	return follow(ctx, cs, &Task{ID: id}, o)
}

// Get returns what the server says of a task now.
func Get(ctx context.Context, cs *mcp.ClientSession, id string) (*Task, error) {
	t, _, err := get(ctx, cs, id)
	return t, err
}

func get(ctx context.Context, cs *mcp.ClientSession, id string) (*Task, *mcp.Client, error) {
	// Servers that follow the examples of SEP-2663, and not its text, have the resultType of a handle here.
	x := &exchange{name: id, declares: true, takesHandle: true}
	t, err := mcp.CallCustomMethod[*idParams, *Task](context.WithValue(ctx, exchangeKey{}, x), cs, methodGet, &idParams{TaskID: id})
	return t, x.client, err
}

// Update answers questions of a task, by the keys of [Task.InputRequests]. It may be repeated: a server takes the first answer to each.
func Update(ctx context.Context, cs *mcp.ClientSession, id string, answers mcp.InputResponseMap) error {
	if answers == nil {
		answers = mcp.InputResponseMap{}
	}
	ctx = context.WithValue(ctx, exchangeKey{}, &exchange{name: id, declares: true})
	_, err := mcp.CallCustomMethod[*updateParams, *acknowledgement](ctx, cs, methodUpdate, &updateParams{TaskID: id, InputResponses: answers})
	return err
}

// Cancel asks the server to end a task. That it returns nil says that the server has heard it; the task may still come to another end.
func Cancel(ctx context.Context, cs *mcp.ClientSession, id string) error {
	ctx = context.WithValue(ctx, exchangeKey{}, &exchange{name: id, declares: true})
	_, err := mcp.CallCustomMethod[*idParams, *acknowledgement](ctx, cs, methodCancel, &idParams{TaskID: id})
	return err
}

// farewell is how long a caller whose context is done is kept for the cancellation of its task.
const farewell = 5 * time.Second

// abandon cancels a task for a caller that is gone. If that fails, the server's time limit for tasks ends it.
func abandon(ctx context.Context, cs *mcp.ClientSession, id string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewell)
	defer cancel()
	_ = Cancel(ctx, cs, id)
}

type idParams struct {
	mcp.ParamsBase
	TaskID string `json:"taskId"`
}

type updateParams struct {
	mcp.ParamsBase
	TaskID         string               `json:"taskId"`
	InputResponses mcp.InputResponseMap `json:"inputResponses"`
}

type acknowledgement struct{ mcp.ResultBase }
