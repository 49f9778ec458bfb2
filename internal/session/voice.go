package session

import (
	"context"

	"github.com/sluice-mcp/sluice/internal/engine"
)

// Voice is the [engine.Voice] of a session's handlers, which may speak long after their calls. It does not count as a use
// of the session: a server that never falls silent must not keep it for ever.
func (m *Manager) Voice(ctx context.Context, e *engine.Engine, id string) (*engine.Session, func(), error) {
	m.mu.Lock()
	s := m.live[id]
	m.mu.Unlock()
	if s == nil || !s.hold() {
		read := m.read(id)
		defer read()
		rec, err := m.record(ctx, id)
		if err != nil {
			return nil, nil, err
		}
		if s, err = m.revive(id, e, rec); err != nil {
			return nil, nil, err
		}
	}
	s.speaks(1)
	done := func() {
		s.speaks(-1)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.using--
	}
	server, err := s.Server(context.Background()) // ctx may be that of a call, which is another session's by now
	if err != nil {
		done()
		return nil, nil, err
	}
	return server, done, nil
}

// speaks counts the handlers that have something to say, for which the SDK's session must stay.
func (s *Session) speaks(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.voices += n
}

func (s *Session) hold() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.using++
	return true
}
