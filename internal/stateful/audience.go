package stateful

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/sluice-mcp/sluice/internal/changes"
	"github.com/sluice-mcp/sluice/internal/engine"
	"github.com/sluice-mcp/sluice/internal/session"
	"github.com/sluice-mcp/sluice/internal/wire"
)

// each calls f for every session that is alive here, those of the old transport too.
func (p *Endpoint) each(f func(*session.Session)) {
	p.Sessions.Each(f)
	p.connections.each(func(c *connection) { f(c.session) })
}

// Tell implements [changes.Audience].
func (p *Endpoint) Tell(c changes.Change) {
	p.each(func(s *session.Session) { tell(s, c) })
}

// tell tells a session of a change, if it concerns it.
func tell(s *session.Session, c changes.Change) {
	switch {
	case c.Engine != nil && s.Engine != c.Engine:
	case c.Method != wire.ResourceUpdated:
		s.Changed(c.Name, c.Method)
	case slices.Contains(s.Subscribed(), c.URI()):
		s.SayAloneIfHere(c.Name, wire.AppendCall(nil, "", c.Method, c.Params))
	}
}

// TellRecent tells a session, whose own stream has come here from another replica, of the changes of the last moments. What
// the stream has had it does not say again.
func (p *Endpoint) TellRecent(s *session.Session) {
	for _, c := range p.Changes.Recent() {
		tell(s, c)
	}
}

// Subscribed implements [changes.Audience].
func (p *Endpoint) Subscribed() []string {
	var uris []string
	p.each(func(s *session.Session) { uris = append(uris, s.Subscribed()...) })
	return uris
}

// TellListeners tells the sessions that only listen what a server says to all of its sessions: those that are connected are
// told one by one.
func (p *Endpoint) TellListeners(ctx context.Context, e *engine.Engine, method string, params json.RawMessage) {
	p.Sessions.Each(func(s *session.Session) {
		if s.Engine == e {
			s.Overhear(ctx, method, params)
		}
	})
}

// CloseListeners ends the sessions that only listen, when a server has closed all of its sessions.
func (p *Endpoint) CloseListeners(e *engine.Engine) {
	p.Sessions.Each(func(s *session.Session) {
		if s.Engine == e && !s.Connected() {
			go s.Closed()
		}
	})
}
