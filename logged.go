package sluice

import (
	"errors"
	"net/http"

	"github.com/sluice-mcp/sluice/internal/run"
	"github.com/sluice-mcp/sluice/internal/session"
	"github.com/sluice-mcp/sluice/internal/wire"
	"github.com/sluice-mcp/sluice/store"
)

// serveLogged shows a stream that is not written here, from its log.
func (h *Handler) serveLogged(w http.ResponseWriter, r *http.Request, s *session.Session, stream string, after int64) {
	events, err := s.ReadLog(r.Context(), stream, after)
	switch {
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
	st := run.Replay(stream, after, events)
	show(w, r, st, st.Attach(after), view{ids: true, gone: func() {}, keepAlive: h.opts.KeepAlive})
}
