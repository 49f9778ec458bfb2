package sluice

import (
	"net/http"
	"time"

	"github.com/sluice-mcp/sluice/internal/run"
	"github.com/sluice-mcp/sluice/internal/session"
	"github.com/sluice-mcp/sluice/internal/wire"
)

// This file is GET and DELETE of the session era: streams that belong to no POST, streams that
// a client comes back to, and the end of a session.

func (h *Handler) serveGet(w http.ResponseWriter, r *http.Request) {
	if _, stream := accepts(r.Header); !stream {
		writeError(w, http.StatusNotAcceptable, "", wire.InvalidRequest("Accept must list text/event-stream"))
		return
	}
	s := h.findSession(w, r, "")
	if s == nil {
		return
	}
	defer s.Release()
	if last := r.Header["Last-Event-Id"]; len(last) > 0 {
		h.serveResume(w, r, s, last)
		return
	}
	h.serveStandalone(w, r, s)
}

// serveStandalone opens the stream of a session that belongs to no request.
func (h *Handler) serveStandalone(w http.ResponseWriter, r *http.Request, s *session.Session) {
	if h.draining.Load() {
		sendBack(w, "", -1)
		return
	}
	st, err := s.OpenStandalone(r.Context())
	if err != nil {
		h.writeSessionError(w, "", err)
		return
	}
	h.engines.watch(s.Engine) // now somebody is there to be told of changes
	h.showAgain(w, r, s, st, -1)
}

// serveResume goes on with a stream after the last event that the client has.
func (h *Handler) serveResume(w http.ResponseWriter, r *http.Request, s *session.Session, last []string) {
	stream, index, ok := "", int64(0), false
	if len(last) == 1 {
		stream, index, ok = wire.ParseEventID(last[0])
	}
	if !ok {
		writeError(w, http.StatusBadRequest, "", wire.InvalidRequest("Last-Event-ID is not one of this server's event IDs"))
		return
	}
	st := s.Stream(stream)
	// Verify comes first: a stream that this replica has lost without knowing would keep it from taking it over again.
	if st != nil && h.replica != nil && (st.Verify(r.Context()) != nil || index >= st.Next()) {
		st = nil // it has been taken over
	}
	leaving := h.drained.Load() || h.draining.Load() && h.replica != nil
	if st != nil && !(leaving && s.Standalone(st)) { // a standalone stream would not end
		h.showAgain(w, r, s, st, index)
		return
	}
	if leaving {
		sendBack(w, stream, index)
		return
	}
	h.serveLogged(w, r, s, stream, index)
}

// sendBack asks a client to come back for its stream in a moment, when the balancer has noticed that this replica leaves. after
// is the last event that it has, -1 if none. It is an answer rather than a refusal because a GET has only this one
// (Streamable HTTP, "Listening for Messages from the Server"), and some clients (the SDK's) give the whole session up when they
// are refused a stream, with the calls that run in it.
func sendBack(w http.ResponseWriter, stream string, after int64) {
	out := startEvents(w)
	if after >= 0 {
		out.lastID(stream, after)
	}
	out.buf = wire.AppendRetry(out.buf, 4*retryAfter)
	out.flush()
}

// showAgain shows a stream of this replica after the given index.
func (h *Handler) showAgain(w http.ResponseWriter, r *http.Request, s *session.Session, st *run.Stream, after int64) {
	rd := st.Attach(after)
	defer rd.Detach()
	if rd.Behind() {
		writeError(w, http.StatusBadRequest, "", tooFarBehind())
		return
	}
	v := view{ids: true, resumed: after >= 0, after: after, gone: func() {}, keepAlive: h.opts.KeepAlive}
	if s.Version() >= wire.Rev1125 { // whose clients know of IDs without data
		v.remind = time.Second
	}
	show(w, r, st, rd, v)
}

func tooFarBehind() *wire.Error {
	return wire.InvalidRequest("The events after this Last-Event-ID are no longer kept")
}

func (h *Handler) serveDelete(w http.ResponseWriter, r *http.Request) {
	s := h.findSession(w, r, "")
	if s == nil {
		return
	}
	defer s.Release()
	if err := h.sessions.End(r.Context(), s); err != nil {
		h.writeSessionError(w, "", err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
