package stateless

import (
	"context"
	"errors"
	"net/http"
	"sync"

	"github.com/sluice-mcp/sluice/internal/answer"
	"github.com/sluice-mcp/sluice/internal/engine"
	"github.com/sluice-mcp/sluice/internal/observed"
	"github.com/sluice-mcp/sluice/internal/task"
	"github.com/sluice-mcp/sluice/internal/wire"
	"github.com/sluice-mcp/sluice/observe"
)

// observe tells of a call that begins, and returns the context whose values it has. c is nil for one that is refused.
func (p *Endpoint) observe(r *http.Request, m wire.Message, c *call) (context.Context, func(observe.End)) {
	if p.Observer == nil {
		return r.Context(), nil
	}
	told := observe.Call{
		Method:    observed.Method(m.Method),
		Revision:  wire.Rev2026,
		Transport: observe.StreamableHTTP,
		ID:        string(m.ID),
		Trace:     observed.Trace(m.Params),
	}
	if c != nil {
		told.Target, told.Principal = p.target(r.Context(), c), c.principal
		c.told = observed.Keep(told)
	} else {
		told.Target, told.Principal = engine.NoTarget(m.Method), p.Principal(r)
	}
	return p.Observer.Call(r.Context(), told)
}

// target is what an observer is told that a call is about.
func (p *Endpoint) target(ctx context.Context, c *call) string {
	return c.engine.Target(c.method, c.params.Name, func(name string) bool {
		server, err := c.engine.Lend(c.principal, c.meta, engine.Mute{})
		if err != nil { // the call itself will say why
			return false
		}
		defer server.Return()
		return server.Lists(ctx, c.method, name, c.extra)
	})
}

// observeRound tells of a round of work on a task, and returns the context whose values it has. values are those of the request
// that began it.
func (p *Endpoint) observeRound(values context.Context, r *task.Record, takeover int) (context.Context, func(context.Context, task.Outcome)) {
	if p.Observer == nil {
		return values, func(context.Context, task.Outcome) {}
	}
	values, end := p.Observer.Call(values, r.Call(takeover))
	return values, func(round context.Context, o task.Outcome) { end(endOf(context.Cause(round), o)) }
}

// endOf is the end of a round with the given outcome, whose context has ended because of why, if it has.
func endOf(why error, o task.Outcome) observe.End {
	e := observe.End{Outcome: observe.OK, Shape: observe.Task, Bytes: int64(len(o.Result))}
	if o.Err != nil {
		e.Outcome, e.Code = observe.Failed, o.Err.Code
	}
	switch unfinished := o.Err != nil || o.IsError || len(o.Asked) > 0; {
	case unfinished && errors.Is(why, task.ErrCancelled):
		e = observe.End{Outcome: observe.Cancelled}
	case o.Err != nil && errors.Is(why, task.ErrLost):
		e = observe.End{Outcome: observe.TakenOver}
	case len(o.Asked) > 0:
		e.Outcome = observe.InputRequired
	case o.IsError:
		e.Outcome = observe.ToolError
	}
	return e
}

// refuse answers a request that does not begin. ctx and end are what [Endpoint.observe] has returned.
func (p *Endpoint) refuse(ctx context.Context, w http.ResponseWriter, m wire.Message, end func(observe.End), f *answer.Refusal) {
	f.Tell(ctx, p.Observer)
	if end != nil {
		end(observe.End{Outcome: observe.Failed, Code: f.Err.Code, Shape: observe.JSON})
	}
	f.Write(w, m.ID)
}

// once returns what tells the end of the call, the first time that it is called.
func (c *call) once() func(observe.End) {
	end := c.end
	if end == nil {
		return func(observe.End) {}
	}
	var once sync.Once
	return func(e observe.End) { once.Do(func() { end(e) }) }
}
