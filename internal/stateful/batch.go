package stateful

import (
	"net/http"

	"github.com/sluice-mcp/sluice/internal/answer"
	"github.com/sluice-mcp/sluice/internal/once"
	"github.com/sluice-mcp/sluice/internal/run"
	"github.com/sluice-mcp/sluice/internal/session"
	"github.com/sluice-mcp/sluice/internal/wire"
)

// batch takes a batch, which only revision 2025-03-26 has: its requests run at the same
// time and share one response. An element that is wrong spoils itself only.
func (p *Endpoint) batch(w http.ResponseWriter, r *http.Request, s *session.Session, batch []wire.Element) {
	if s.Version() > wire.Rev0326 {
		answer.Error(w, http.StatusBadRequest, "", wire.InvalidRequest("Invalid request: batches ended with revision 2025-03-26"))
		return
	}
	if len(batch) > 1 && r.Header[once.Header] != nil {
		answer.Error(w, http.StatusBadRequest, "", wire.InvalidRequest("Invalid request: the header "+once.Header+" does not say which call of a batch it is for; put the key into _meta"))
		return
	}
	owed := 0
	for _, e := range batch {
		if e.Err == nil && e.Message.Kind == wire.Request && e.Message.Method == "initialize" {
			answer.Error(w, http.StatusBadRequest, "", wire.InvalidRequest("Invalid request: initialize cannot be part of a batch"))
			return
		}
		if e.Owed() {
			owed++
		}
	}
	st := run.NewStream("", owed)
	rd := st.Attach(-1)
	var calls []*call
	for _, e := range batch {
		if c := p.element(r, s, st, e); c != nil {
			calls = append(calls, c)
		}
	}
	if owed == 0 {
		answer.Accepted(w)
		return
	}
	v := p.view(r, s, st, calls...)
	v.Batch = true
	p.View.Respond(w, r, st, rd, v)
}

// element takes one element of a batch; it returns the call that it began, if it did.
func (p *Endpoint) element(r *http.Request, s *session.Session, st *run.Stream, e wire.Element) *call {
	m, refused := e.Message, e.Err
	if m.Kind == wire.Response {
		if err := answered(r, s, m, e.Err); err != nil {
			p.Log.Debug("answer in a batch not handed on", "error", err)
		}
		return nil
	}
	if refused == nil {
		if m.Kind == wire.Notification {
			if err := p.notified(r, s, m); err != nil {
				p.Log.Debug("notification in a batch refused", "method", m.Method, "error", err)
			}
			return nil
		}
		c, inFlight, no := p.begin(r, s, m, st)
		if inFlight != nil {
			no = answer.Refuse(http.StatusOK, session.ErrInFlight)
			c.told.ends(notBegun(no))
		}
		if no == nil {
			c.batch = true
			go p.run(c)
			return c
		}
		refused = no.Err
	}
	_ = st.Respond(wire.AppendError(nil, m.ID, refused), http.StatusOK) // fails when the client is gone
	return nil
}
