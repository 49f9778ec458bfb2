package session

import (
	"context"
	"time"

	"github.com/sluice-mcp/sluice/internal/engine"
	"github.com/sluice-mcp/sluice/internal/observed"
	"github.com/sluice-mcp/sluice/internal/wire"
	"github.com/sluice-mcp/sluice/observe"
)

// Transport is the one that the session is served over.
func (s *Session) Transport() observe.Transport {
	s.mu.Lock()
	defer s.mu.Unlock()
	return transportOf(s.unstored)
}

func transportOf(carried bool) observe.Transport {
	if carried {
		return observe.HTTPSSE
	}
	return observe.StreamableHTTP
}

// Told is what an observer is told of a call of the session that has been claimed so often, here the last time.
func (s *Session) Told(p Pending, claim int) observe.Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return observe.Call{
		Method:    observed.Method(p.Method),
		Target:    p.Told.Target,
		Revision:  s.rec.Version,
		Transport: observe.StreamableHTTP,
		ID:        string(p.ID),
		Session:   observed.Name(s.ID),
		Principal: s.rec.Principal,
		Trace:     p.Told.Trace(),
		Takeover:  claim,
	}
}

// observeLost tells of a call whose replica was lost, and which ends with e.
func (s *Session) observeLost(ctx context.Context, p Pending, claim int, e *wire.Error) {
	if s.m.Observer == nil {
		return
	}
	_, end := s.m.Observer.Call(ctx, s.Told(p, claim))
	end(observe.End{Outcome: observe.Lost, Code: e.Code, Shape: observe.Stream})
}

func (m *Manager) observeOpened(ctx context.Context, s *Session, revision string) {
	if m.Observer != nil {
		m.Observer.Event(ctx, observe.SessionOpened{Session: observed.Name(s.ID), Revision: revision, Transport: s.Transport()})
	}
}

// observeAdopted tells so aside: m.mu is held.
func (m *Manager) observeAdopted(id, revision string) {
	if m.Observer != nil {
		go m.Observer.Event(context.Background(), observe.SessionAdopted{Session: observed.Name(id), Revision: revision})
	}
}

func (m *Manager) observeEnded(why observe.EndReason, id string, r resident) {
	if m.Observer != nil {
		m.Observer.Event(context.Background(), observe.SessionEnded{
			Session:   observed.Name(id),
			Revision:  r.revision,
			Transport: transportOf(r.carried),
			Reason:    why,
			Adopted:   !r.counted,
			Duration:  time.Since(time.Unix(0, r.since)),
		})
	}
}

// observeQuestion tells of a request to the client, and returns its params as they are sent.
func (s *Session) observeQuestion(ctx context.Context, id wire.ID, m engine.Outgoing) []byte {
	if s.m.Observer == nil {
		return m.Params
	}
	trace, end := s.m.Observer.Ask(ctx, observe.Ask{
		Method: m.Method, Revision: s.Version(), Transport: s.Transport(), ID: string(id), Session: observed.Name(s.ID),
	})
	s.mu.Lock()
	q := s.waiting[id]
	if q != nil {
		q.end = end
	}
	s.mu.Unlock()
	if q == nil { // the session has ended meanwhile
		end(observe.End{Outcome: observe.Cancelled})
	}
	return withTrace(m.Params, trace)
}

// withTrace puts a trace context into the params of a request (SEP-414). What its sender has put there stays.
func withTrace(params []byte, t observe.Trace) []byte {
	meta := wire.Member(params, "_meta")
	var add []wire.Pair
	for _, p := range []struct{ key, value string }{{"traceparent", t.Parent}, {"tracestate", t.State}, {"baggage", t.Baggage}} {
		if p.value != "" && wire.Member(meta, p.key) == nil {
			add = append(add, wire.Pair{Key: p.key, Value: wire.AppendString(nil, p.value)})
		}
	}
	if len(add) == 0 {
		return params
	}
	if len(meta) == 0 || meta[0] != '{' {
		meta = []byte("{}")
	}
	if len(params) == 0 {
		params = []byte("{}")
	}
	return wire.SetMembers(wire.RemoveMembers(params, "_meta"), wire.Pair{Key: "_meta", Value: wire.SetMembers(meta, add...)})
}
