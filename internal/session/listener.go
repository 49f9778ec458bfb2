package session

import (
	"context"
	"encoding/json"

	"github.com/sluice-mcp/sluice/internal/engine"
	"github.com/sluice-mcp/sluice/internal/wire"
)

// Most clients listen most of the time. An SDK session for each would be a goroutine and 5 KB, so the
// engine's watcher stands for those that can only be told something.

// onlyListens reports whether nothing needs the SDK's session: the client is there for what it may be told, and for that
// the engine's watcher stands in, see [Session.Overhear]. One that can be asked is connected, because only
// its own session can ask it. s.mu is held.
func (s *Session) onlyListens() bool { return s.unneeded() && !s.canBeAsked() }

// unneeded reports whether nothing goes on for which the SDK's session must stay: the next request can have another. One of HTTP+SSE
// is not in the store, for another to be connected from. s.mu is held.
func (s *Session) unneeded() bool {
	return !s.unstored && len(s.runs) == 0 && len(s.waiting) == 0 && s.voices == 0 && len(s.rec.Subscriptions) == 0
}

// disconnect lets go of the SDK's session. The next that needs one connects it anew. s.mu is held.
func (s *Session) disconnect() {
	if s.server != nil {
		go s.server.Close() // it waits for handlers that may take their time
	}
	s.server, s.stale, s.runs = nil, false, nil
}

// Connected reports whether the SDK has a session for this one. A program finds it among its server's then.
func (s *Session) Connected() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.server != nil
}

// askable tells whether a client has declared that it can be asked something.
type askable byte

const (
	unknown askable = iota
	cannotBeAsked
	canBeAsked
)

func (s *Session) canBeAsked() bool {
	if s.asks == unknown {
		s.asks = canBeAsked
		if params, err := engine.ParseInitialize(s.rec.Initialize); err == nil {
			if c := params.Capabilities; c.Sampling == nil && c.Elicitation == nil && c.RootsV2 == nil {
				s.asks = cannotBeAsked
			}
		}
	}
	return s.asks == canBeAsked
}

// connectListener connects a client that listens, if it can be asked something: a program looks for it among its server's sessions.
func (s *Session) connectListener(ctx context.Context) error {
	s.mu.Lock()
	asks := s.canBeAsked()
	s.mu.Unlock()
	if !asks {
		return nil
	}
	_, err := s.Server(ctx)
	return err
}

// Overhear tells the client what its server says to all, if it only listens. Otherwise the SDK tells it, on its own session.
func (s *Session) Overhear(method string, params json.RawMessage) {
	s.mu.Lock()
	listens := s.server == nil && len(s.alone) > 0
	if method == "notifications/message" && !wire.LevelReaches(wire.Member(params, "level"), s.rec.LogLevel) {
		listens = false
	}
	s.mu.Unlock()
	if listens {
		s.SayAloneIfHere("", wire.AppendCall(nil, "", method, params))
	}
}
