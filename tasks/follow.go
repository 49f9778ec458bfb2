package tasks

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

const (
	// defaultPause is between two looks at a task whose server does not say.
	defaultPause = time.Second
	// longestPause is between two attempts to reach a server that is away, unless it wants longer ones.
	longestPause = 10 * time.Second
	// patience is how long a server may be away. A replica may be lost or replaced, and the task goes on at another.
	patience = time.Minute
	// codeRejected is what the SDK's transport says of a request that was not sent, or answered with an HTTP status alone.
	codeRejected = -32005
)

// errUnanswered is for a question that the client could not answer: its task cannot come to an end.
var errUnanswered = errors.New("a question stays without an answer")

// A follower looks after one task.
type follower struct {
	cs      *mcp.ClientSession
	client  *mcp.Client // nil: it was never enabled
	id      string
	last    *Task // seen; at first what there is from elsewhere, without a status if that is nothing
	changed func(*Task)

	questions map[string]*question // all that were ever asked
	answers   chan answer

	next     *time.Timer // for the next look
	away     time.Time   // since when the server cannot be reached; zero while it can
	attempts int         // to reach it, in vain
}

// A question is an input request, which is passed on once.
type question struct {
	stop     context.CancelFunc // ends its handler
	response mcp.InputResponse  // nil: the handler is at work
	sent     bool               // the server has acknowledged the answer
}

// An answer is what a handler made of a question.
type answer struct {
	key      string
	response mcp.InputResponse
	err      error
}

// follow looks after a task until its end. Its handlers of questions end with it.
func follow(ctx context.Context, cs *mcp.ClientSession, t *Task, o *Options) (*mcp.CallToolResult, error) {
	f := &follower{cs: cs, id: t.ID, last: t, questions: map[string]*question{}, answers: make(chan answer)}
	if o != nil {
		f.changed = o.Changed
	}
	result, err := f.run(ctx)
	if _, named := errors.AsType[*FailedError](err); err != nil && !named {
		err = fmt.Errorf("task %s: %w", t.ID, err)
	}
	return result, err
}

func (f *follower) run(ctx context.Context) (*mcp.CallToolResult, error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	f.next = time.NewTimer(0)
	defer f.next.Stop()
	if f.last.Status != "" {
		f.rest()
	}
	for {
		var err error
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case a := <-f.answers:
			if f.questions[a.key].response = a.response; a.err != nil && ctx.Err() == nil && f.isOpen(a.key) {
				return nil, fmt.Errorf("%w: %w", errUnanswered, a.err)
			}
		case <-f.next.C:
			if err = f.look(ctx); err == nil && f.last.Status != Working && f.last.Status != InputRequired {
				return f.last.end()
			}
		}
		if err == nil {
			err = f.send(ctx)
		}
		if err != nil && !f.mayPass(err) || ctx.Err() != nil {
			return nil, cmp.Or(context.Cause(ctx), err)
		}
	}
}

// rest puts the next look off.
func (f *follower) rest() {
	pause := f.last.PollInterval
	if pause <= 0 {
		pause = defaultPause
	}
	f.next.Reset(max(pause, min(pause<<min(f.attempts, 10), longestPause)))
}

// mayPass reports whether the next attempt may meet with better luck than the one that ended with this error.
func (f *follower) mayPass(err error) bool {
	said, ok := errors.AsType[*jsonrpc.Error](err)
	switch {
	case ok && said.Code != jsonrpc.CodeInternalError && said.Code != codeRejected,
		errors.Is(err, mcp.ErrConnectionClosed), errors.Is(err, errMalformed), errors.Is(err, errUnwanted), f.client == nil:
		return false
	}
	if f.attempts++; f.away.IsZero() {
		f.away = time.Now()
	}
	return time.Since(f.away) < patience
}

func (f *follower) reached() { f.away, f.attempts = time.Time{}, 0 }

// look asks for the task, tells what is new, and passes on new questions.
func (f *follower) look(ctx context.Context) error {
	defer f.rest()
	t, client, err := get(ctx, f.cs, f.id)
	f.client = client
	if err != nil {
		return err
	}
	f.reached()
	changed := f.last.differs(t)
	f.last = t
	if changed && f.changed != nil {
		f.changed(t)
	}
	for key, request := range t.InputRequests {
		if f.questions[key] == nil {
			f.ask(ctx, key, request)
		}
	}
	for key, q := range f.questions {
		if !f.isOpen(key) { // another client has answered it
			q.stop()
		}
	}
	return nil
}

func (f *follower) isOpen(key string) bool { return f.last.InputRequests[key] != nil }

// differs reports whether there is something new to tell of a task. That it was updated is nothing: some servers take
// each look for an update.
func (t *Task) differs(next *Task) bool {
	if t.Status != next.Status || t.StatusMessage != next.StatusMessage || len(t.InputRequests) != len(next.InputRequests) {
		return true
	}
	for key := range next.InputRequests {
		if t.InputRequests[key] == nil {
			return true
		}
	}
	return false
}

// ask has the client's handler answer a question.
func (f *follower) ask(ctx context.Context, key string, request mcp.InputRequest) {
	asked, stop := context.WithCancel(ctx)
	f.questions[key] = &question{stop: stop}
	client := f.client
	go func() {
		defer stop()
		response, err := respond(asked, client, f.cs, request)
		select {
		case f.answers <- answer{key, response, err}:
		case <-ctx.Done():
		}
	}()
}

// send answers what is open, all of it together: a server need not take a part.
func (f *follower) send(ctx context.Context) error {
	answers := mcp.InputResponseMap{}
	for key := range f.last.InputRequests {
		switch q := f.questions[key]; {
		case q.response == nil:
			return nil
		case !q.sent:
			answers[key] = q.response
		}
	}
	if len(answers) == 0 {
		return nil
	}
	if err := Update(ctx, f.cs, f.id, answers); err != nil {
		return err
	}
	f.reached()
	for key := range answers {
		f.questions[key].sent = true
	}
	return nil
}

// respond calls what a server's request of this kind is answered by: the client's receiving middleware, and then its handler.
func respond(ctx context.Context, c *mcp.Client, cs *mcp.ClientSession, request mcp.InputRequest) (mcp.InputResponse, error) {
	var handle mcp.MethodHandler
	c.AddReceivingMiddleware(func(next mcp.MethodHandler) mcp.MethodHandler { // the only way to get hold of it; nothing is added
		handle = next
		return next
	})
	var method string
	var req mcp.Request
	switch p := request.(type) {
	case *mcp.ElicitParams:
		method, req = "elicitation/create", &mcp.ElicitRequest{Session: cs, Params: p}
	case *mcp.CreateMessageWithToolsParams:
		method, req = "sampling/createMessage", &mcp.CreateMessageWithToolsRequest{Session: cs, Params: p}
	case *mcp.ListRootsParams:
		method, req = "roots/list", &mcp.ListRootsRequest{Session: cs, Params: p}
	default:
		return nil, fmt.Errorf("no way is known to answer a %T", request)
	}
	result, err := handle(ctx, method, req)
	if err != nil {
		return nil, err
	}
	response, ok := result.(mcp.InputResponse)
	if !ok {
		return nil, fmt.Errorf("a %T is no answer to %s", result, method)
	}
	return response, nil
}
