package stateful

import (
	"bytes"
	"net/http"

	"github.com/sluice-mcp/sluice/internal/answer"
	"github.com/sluice-mcp/sluice/internal/run"
	"github.com/sluice-mcp/sluice/internal/session"
	"github.com/sluice-mcp/sluice/internal/view"
	"github.com/sluice-mcp/sluice/internal/wire"
	"github.com/sluice-mcp/sluice/observe"
)

// A request that comes again as it was is the one before: its client has lost the connection before it had an event ID to come back with.

// join shows a request that repeats one in flight what that one's stream has for it.
func (p *Endpoint) join(w http.ResponseWriter, r *http.Request, c *call, inFlight *run.Run) {
	before, _ := inFlight.Of.(*call)
	if before == nil || before.batch || inFlight.Method != c.run.Method || !bytes.Equal(before.params, c.params) {
		no := answer.Refuse(http.StatusBadRequest, session.ErrInFlight)
		c.told.ends(notBegun(no))
		no.Write(w, c.run.ID)
		return
	}
	c.told.ends(repeated)
	st := inFlight.Stream
	if st.Durable() {
		p.show(w, r, c.session, st, -1, observe.StreamCall)
		return
	}
	p.unread(w, r, st, p.view(r, c.session, st, before))
}

// unread shows a stream that is not durable.
func (p *Endpoint) unread(w http.ResponseWriter, r *http.Request, st *run.Stream, v view.View) {
	rd := st.AttachUnread()
	if rd == nil {
		answer.Error(w, http.StatusBadRequest, "", wire.InvalidRequest("The response to this request is no longer kept"))
		return
	}
	p.View.Respond(w, r, st, rd, v)
}

// again shows a request that repeats one which has ended what is kept of that one's stream.
func (p *Endpoint) again(w http.ResponseWriter, r *http.Request, s *session.Session, earlier *session.Earlier) {
	if st := earlier.Unread; st != nil {
		p.unread(w, r, st, view.View{Patience: view.Patience, Kind: observe.StreamCall})
		return
	}
	if st := s.Stream(earlier.Stream); st != nil {
		p.show(w, r, s, st, -1, observe.StreamCall)
		return
	}
	p.follow(w, r, s, earlier.Stream, -1)
}
