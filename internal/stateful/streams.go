package stateful

import (
	"errors"
	"net/http"
	"time"

	"github.com/sluice-mcp/sluice/internal/answer"
	"github.com/sluice-mcp/sluice/internal/era"
	"github.com/sluice-mcp/sluice/internal/observed"
	"github.com/sluice-mcp/sluice/internal/run"
	"github.com/sluice-mcp/sluice/internal/session"
	"github.com/sluice-mcp/sluice/internal/view"
	"github.com/sluice-mcp/sluice/internal/wire"
	"github.com/sluice-mcp/sluice/observe"
	"github.com/sluice-mcp/sluice/store"
)

// Get opens the stream of a session that belongs to no request, or goes on with one that the client comes back to.
func (p *Endpoint) Get(w http.ResponseWriter, r *http.Request) {
	if !era.AcceptsEvents(r) {
		answer.Error(w, http.StatusNotAcceptable, "", wire.InvalidRequest("Accept must list text/event-stream"))
		return
	}
	s := p.find(w, r, "")
	if s == nil {
		return
	}
	defer s.Release()
	defer p.Listen(s.Engine)()
	if last := r.Header["Last-Event-Id"]; len(last) > 0 {
		p.resume(w, r, s, last)
		return
	}
	p.standalone(w, r, s)
}

// standalone opens the stream of a session that belongs to no request.
func (p *Endpoint) standalone(w http.ResponseWriter, r *http.Request, s *session.Session) {
	if p.Calls.Leaving() {
		view.SendBack(w, "", -1)
		return
	}
	st, err := s.OpenStandalone(r.Context())
	if err != nil {
		p.refuse(w, r, "", p.refusal(err))
		return
	}
	s.CatchUp()
	p.show(w, r, s, st, -1, observe.StreamStandalone)
}

// resume goes on with a stream after the last event that the client has.
func (p *Endpoint) resume(w http.ResponseWriter, r *http.Request, s *session.Session, last []string) {
	stream, index, ok := "", int64(0), false
	if len(last) == 1 {
		stream, index, ok = wire.ParseEventID(last[0])
	}
	if !ok {
		p.resumed(r, s, observe.ResumeUnknown)
		answer.Error(w, http.StatusBadRequest, "", wire.InvalidRequest("Last-Event-ID is not one of this server's event IDs"))
		return
	}
	st := s.Stream(stream)
	// Verify comes first: a stream that this replica has lost without knowing would keep it from taking it over again.
	if st != nil && p.Shared && (st.Verify(r.Context()) != nil || index >= st.Next()) {
		st = nil // it has been taken over
	}
	leaving := p.drained.Load() || p.leaving()
	if st != nil && !(leaving && s.Standalone(st)) { // a standalone stream would not end
		kind := observe.StreamCall
		if s.Standalone(st) {
			kind = observe.StreamStandalone
		}
		p.show(w, r, s, st, index, kind)
		return
	}
	if leaving {
		p.resumed(r, s, observe.ResumeSentBack)
		view.SendBack(w, stream, index)
		return
	}
	p.follow(w, r, s, stream, index)
}

// follow shows a stream that is not written here: from its log, as it grows, and, should
// the replica that writes it be lost, as this one goes on with it.
func (p *Endpoint) follow(w http.ResponseWriter, r *http.Request, s *session.Session, stream string, after int64) {
	st, err := s.Follow(r.Context(), stream, after, func() bool { return !p.Calls.Leaving() }, p.rerun(r, s))
	switch {
	case errors.Is(err, store.ErrNotFound) && session.IsStandalone(stream):
		// The client was away for longer than its stream is kept. It gets another: what it missed it can ask for, but a refusal, or
		// a stream that ends at once, would have it come again and again, or give the session up (the SDK's).
		p.resumed(r, s, observe.ResumeUnknown)
		p.standalone(w, r, s)
	case errors.Is(err, store.ErrNotFound):
		p.resumed(r, s, observe.ResumeUnknown)
		answer.Error(w, http.StatusBadRequest, "", wire.InvalidRequest("This session has no stream with this Last-Event-ID"))
	case errors.Is(err, store.ErrTrimmed):
		p.resumed(r, s, observe.ResumeBehind)
		answer.Error(w, http.StatusBadRequest, "", tooFarBehind())
	case err != nil:
		p.resumed(r, s, observe.ResumeFailed)
		p.refuse(w, r, "", p.refusal(err))
	default:
		p.show(w, r, s, st, after, observe.StreamMirror)
	}
}

// show shows a stream of this replica after the event with the index after.
func (p *Endpoint) show(w http.ResponseWriter, r *http.Request, s *session.Session, st *run.Stream, after int64, kind observe.StreamKind) {
	rd := st.Attach(after)
	defer rd.Detach()
	if rd.Behind() {
		p.resumed(r, s, observe.ResumeBehind)
		answer.Error(w, http.StatusBadRequest, "", tooFarBehind())
		return
	}
	switch {
	case kind == observe.StreamMirror:
		p.resumed(r, s, observe.ResumeMirrored)
	case after >= 0:
		p.resumed(r, s, observe.ResumeHere)
	}
	v := view.View{IDs: true, Resumed: after >= 0, After: after, Kind: kind}
	if s.Version() >= wire.Rev1125 { // whose clients know of IDs without data
		v.Remind = time.Second
	}
	p.View.Show(w, r, st, rd, v)
}

// resumed tells how a client fares that comes back for a stream.
func (p *Endpoint) resumed(r *http.Request, s *session.Session, result observe.ResumeResult) {
	if p.Observer != nil {
		p.Observer.Event(r.Context(), observe.StreamResumed{Session: observed.Name(s.ID), Result: result})
	}
}

func tooFarBehind() *wire.Error {
	return wire.InvalidRequest("The events after this Last-Event-ID are no longer kept")
}

// SendAway closes the connections of standalone streams, and with calls those of calls that have become streams; clients
// are told to come back.
func (p *Endpoint) SendAway(calls bool) {
	p.Sessions.Each(func(s *session.Session) { s.LetGo(answer.RetryAfter, calls) })
}

// Leave ends what carries no call, once nothing is in flight any more.
func (p *Endpoint) Leave() {
	p.drained.Store(true)
	// Alone, a standalone stream stays until now: its client has nowhere else to go, and some (the SDK's)
	// give up their calls, too, when it cannot be had.
	p.SendAway(p.Shared)
	p.EndConnections()
}
