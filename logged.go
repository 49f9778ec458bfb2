package sluice

import (
	"errors"
	"net/http"

	"github.com/sluice-mcp/sluice/internal/run"
	"github.com/sluice-mcp/sluice/internal/session"
	"github.com/sluice-mcp/sluice/internal/wire"
	"github.com/sluice-mcp/sluice/store"
)

// serveLogged shows a stream that is not written here: from its log, as it grows, and, should
// the replica that writes it be lost, as this one goes on with it.
func (h *Handler) serveLogged(w http.ResponseWriter, r *http.Request, s *session.Session, stream string, after int64) {
	st, err := s.Follow(r.Context(), stream, after, func() bool { return !h.draining.Load() }, h.rerun(r, s))
	switch {
	case errors.Is(err, store.ErrNotFound) && session.IsStandalone(stream):
		// The client was away for longer than its stream is kept. It gets another: what it missed it can ask for, but a refusal, or
		// a stream that ends at once, would have it come again and again, or give the session up (the SDK's).
		h.serveStandalone(w, r, s)
		return
	case errors.Is(err, store.ErrNotFound):
		writeError(w, http.StatusBadRequest, "", wire.InvalidRequest("This session has no stream with this Last-Event-ID"))
		return
	case errors.Is(err, store.ErrTrimmed):
		writeError(w, http.StatusBadRequest, "", tooFarBehind())
		return
	case err != nil:
		h.writeSessionError(w, "", err)
		return
	}
	h.showAgain(w, r, s, st, after)
}

// rerun executes a call again that a lost replica had begun. It comes with the credentials of the client that
// has come back for it, who is the same principal.
func (h *Handler) rerun(r *http.Request, s *session.Session) session.Rerun {
	principal := h.opts.Principal(r)
	return func(p session.Pending, st *run.Stream) {
		var token []byte
		if meta, e := wire.ParseMeta(wire.Member(p.Params, "_meta")); e == nil {
			token = meta.ProgressToken
		}
		c := newLegacyCall(r, s, wire.ID(p.ID), p.Method, p.Params, token, st)
		c.principal = principal
		if err := s.Begin(c.run); err != nil {
			if errors.Is(err, session.ErrEnded) {
				st.Fail(run.ErrLost)
				return
			}
			_ = st.Respond(wire.AppendError(nil, c.run.ID, wire.Internal(err.Error())), 0)
			return
		}
		h.limits.force(principal, c.run)
		go h.runLegacy(c)
	}
}
