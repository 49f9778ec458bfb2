package stateful

import (
	"context"
	"net/http"

	"github.com/sluice-mcp/sluice/internal/answer"
	"github.com/sluice-mcp/sluice/internal/caller"
	"github.com/sluice-mcp/sluice/internal/engine"
	"github.com/sluice-mcp/sluice/internal/observed"
	"github.com/sluice-mcp/sluice/internal/session"
	"github.com/sluice-mcp/sluice/internal/wire"
	"github.com/sluice-mcp/sluice/observe"
)

// told is a call that an observer has been told of.
type told struct {
	kept observed.Kept
	end  func(observe.End)
}

// ends tells the end of a call. It does nothing when nobody observes.
func (t *told) ends(e observe.End) {
	if t != nil {
		t.end(e)
	}
}

// repeated is the end of a call which is one that was there before, and whose client is shown what that one says.
var repeated = observe.End{Outcome: observe.Repeated}

// observe tells of a call that begins, and returns the context whose values it has. told is nil when nobody observes.
func (p *Endpoint) observe(r *http.Request, s *session.Session, m wire.Message) (context.Context, *told) {
	if p.Observer == nil {
		return r.Context(), nil
	}
	c := observe.Call{
		Method:    observed.Method(m.Method),
		Target:    target(r, s, m),
		Revision:  s.Version(),
		Transport: s.Transport(),
		ID:        string(m.ID),
		Session:   observed.Name(s.ID),
		Principal: p.Principal(r),
		Trace:     observed.Trace(m.Params),
	}
	ctx, end := p.Observer.Call(r.Context(), c)
	return ctx, &told{observed.Keep(c), end}
}

// target is what an observer is told that a call is about.
func target(r *http.Request, s *session.Session, m wire.Message) string {
	return s.Engine.Target(m.Method, wire.Member(m.Params, "name"), func(name string) bool {
		server, err := s.Server(r.Context())
		return err == nil && server.Lists(r.Context(), m.Method, name, caller.Extra(r))
	})
}

// observeRerun is [Endpoint.observe] for a call that runs again.
func (p *Endpoint) observeRerun(r *http.Request, s *session.Session, pending session.Pending, claim int) (context.Context, *told) {
	if p.Observer == nil {
		return r.Context(), nil
	}
	ctx, end := p.Observer.Call(r.Context(), s.Told(pending, claim))
	return ctx, &told{pending.Told, end}
}

// observeInitialize tells of an initialize that begins.
func (p *Endpoint) observeInitialize(r *http.Request, m wire.Message, t observe.Transport) (context.Context, func(observe.End)) {
	if p.Observer == nil {
		return r.Context(), func(observe.End) {}
	}
	return p.Observer.Call(r.Context(), observe.Call{
		Method: m.Method, Transport: t, ID: string(m.ID), Principal: p.Principal(r), Trace: observed.Trace(m.Params),
	})
}

// refuse answers a request that does not begin.
func (p *Endpoint) refuse(w http.ResponseWriter, r *http.Request, id wire.ID, f *answer.Refusal) {
	f.Tell(r.Context(), p.Observer)
	f.Write(w, id)
}

// notBegun is the end of a call that is refused.
func notBegun(f *answer.Refusal) observe.End {
	return observe.End{Outcome: observe.Failed, Code: f.Err.Code, Shape: observe.JSON}
}

// failed is the end of a call whose response is the error.
func failed(err error) observe.End {
	return observe.End{Outcome: observe.Failed, Code: engine.ToError(err).Code}
}

// within returns ctx with the values of the first of the calls that a stream is of, which an observer has given to it.
func within(ctx context.Context, calls []*call) context.Context {
	if len(calls) == 0 || calls[0].told == nil {
		return ctx
	}
	return valued{ctx, calls[0].run.Context()}
}

// valued is a context with the values of another one.
type valued struct {
	context.Context
	values context.Context //nolint:containedctx // that is what it is
}

func (v valued) Value(key any) any { return v.values.Value(key) }
