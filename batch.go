package sluice

import (
	"net/http"

	"github.com/sluice-mcp/sluice/internal/run"
	"github.com/sluice-mcp/sluice/internal/session"
	"github.com/sluice-mcp/sluice/internal/wire"
)

// serveBatch takes a batch, which only revision 2025-03-26 has: its requests run at the same
// time and share one response. An element that is wrong spoils itself only.
func (h *Handler) serveBatch(w http.ResponseWriter, r *http.Request, batch []wire.Element) {
	s := h.findSession(w, r, "")
	if s == nil {
		return
	}
	defer s.Release()
	if s.Version() > wire.Rev0326 {
		writeError(w, http.StatusBadRequest, "", wire.InvalidRequest("Invalid request: batches ended with revision 2025-03-26"))
		return
	}
	owed := 0
	for _, e := range batch {
		if e.Err == nil && e.Message.Kind == wire.Request && e.Message.Method == "initialize" {
			writeError(w, http.StatusBadRequest, "", wire.InvalidRequest("Invalid request: initialize cannot be part of a batch"))
			return
		}
		if e.Owed() {
			owed++
		}
	}
	st := run.NewStream("", owed)
	rd := st.Attach(-1)
	var calls []*legacyCall
	for _, e := range batch {
		if c := h.beginElement(r, s, st, e); c != nil {
			calls = append(calls, c)
		}
	}
	if owed == 0 {
		w.WriteHeader(http.StatusAccepted)
		return
	}
	h.respond(w, r, st, rd, h.sessionView(r, s, st, true, calls...))
}

// beginElement takes one element of a batch; it returns the call that it began, if it did.
func (h *Handler) beginElement(r *http.Request, s *session.Session, st *run.Stream, e wire.Element) *legacyCall {
	m, refused := e.Message, e.Err
	if refused == nil {
		switch m.Kind {
		case wire.Notification:
			if err := h.notify(r, s, m); err != nil {
				h.log.Debug("notification in a batch refused", "method", m.Method, "error", err)
			}
			return nil
		case wire.Response:
			if err := s.Answer(r.Context(), m); err != nil {
				h.log.Debug("answer in a batch not handed on", "error", err)
			}
			return nil
		}
		var c *legacyCall
		if c, _, refused = h.startCall(r, s, m, st); refused == nil {
			go h.runLegacy(c)
			return c
		}
	}
	_ = st.Respond(wire.AppendError(nil, m.ID, refused), http.StatusOK)
	return nil
}
