package stateful

import (
	"net/http"

	"github.com/sluice-mcp/sluice/internal/caller"
	"github.com/sluice-mcp/sluice/internal/session"
	"github.com/sluice-mcp/sluice/internal/wire"
)

// notified takes a notification of the client. Errors: a *wire.Error, or one of the session.
func (p *Endpoint) notified(r *http.Request, s *session.Session, m wire.Message) error {
	switch m.Method {
	case "notifications/cancelled":
		if id := wire.ID(wire.Member(m.Params, "requestId")); id != "" {
			s.CancelAnywhere(id)
		}
		return nil // what is unknown, done or malformed is ignored (Cancellation, "Error Handling")
	case "notifications/initialized":
		return s.Initialized(r.Context(), m.Params, caller.Extra(r))
	case "notifications/progress":
		if m.Params == nil {
			return wire.InvalidParams("Invalid params: notifications/progress needs params")
		}
	case "notifications/roots/list_changed":
	default: // one that is not known is none of our business
		if e := m.CheckNotification(); e != nil {
			return e
		}
		return nil
	}
	server, err := s.Server(r.Context())
	if err != nil {
		return err
	}
	return server.Notify(m.Method, m.Params, caller.Extra(r))
}

// answered takes a response of the client. One that is malformed ends the wait for it, too: no better one will come. Errors: that one,
// or one of the session.
func answered(r *http.Request, s *session.Session, m wire.Message, malformed *wire.Error) error {
	if malformed == nil {
		return s.Answer(r.Context(), m)
	}
	if err := s.Answer(r.Context(), m.Malformed(malformed)); err != nil {
		return err
	}
	return malformed
}
