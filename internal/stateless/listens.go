package stateless

import (
	"sync"

	"github.com/sluice-mcp/sluice/internal/changes"
)

// listens are the open subscriptions/listen of this replica.
type listens struct {
	mu   sync.Mutex
	open map[*listen]struct{}
}

func (s *listens) add(l *listen) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open = make(map[*listen]struct{})
	}
	s.open[l] = struct{}{}
}

func (s *listens) remove(l *listen) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, l)
}

// each calls f for each, one after the other. f must not wait.
func (s *listens) each(f func(*listen)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for l := range s.open {
		f(l)
	}
}

// EndListens ends every subscriptions/listen with its result, because the replica leaves.
func (p *Endpoint) EndListens() { p.listens.each(func(l *listen) { l.stop() }) }

// Tell implements [changes.Audience]. A change of this replica's own server is told by the SDK, on the session that each
// listener has.
func (p *Endpoint) Tell(c changes.Change) {
	if c.Engine == nil {
		p.listens.each(func(l *listen) { l.tell(c.Method, c.Params) })
	}
}

// Subscribed implements [changes.Audience].
func (p *Endpoint) Subscribed() []string {
	var uris []string
	p.listens.each(func(l *listen) {
		if w := l.wants.Load(); w != nil {
			uris = append(uris, w.ResourceSubscriptions...)
		}
	})
	return uris
}
