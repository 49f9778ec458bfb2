package session

import (
	"context"
	"encoding/json"
	"time"

	"github.com/sluice-mcp/sluice/internal/engine"
	"github.com/sluice-mcp/sluice/internal/run"
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
		s.moved = time.Now()
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

// watcher stands for the engine's, where SDK sessions are told apart.
type watcher struct{}

// Overhear tells the client what its server says to all, if it only listens: one that has been connected for a while hears it on its own
// SDK session. ctx is that of the speaker.
func (s *Session) Overhear(ctx context.Context, method string, params json.RawMessage) {
	if r := run.From(ctx); r != nil && r.Owner == s.ID && r.Open() {
		return // it goes to the call that it is said in, which keeps its SDK session where the speaker finds it
	}
	w, now := wordsOf(nil, method, params), time.Now()
	s.mu.Lock()
	listens := len(s.alone) > 0
	if method == "notifications/message" && !wire.LevelReaches(wire.Member(params, "level"), s.rec.LogLevel) {
		listens = false
	}
	// For a client that has been idle for a while nothing is remembered: such clients are many.
	if listens && (s.server != nil || len(s.runs) > 0 || !s.settled(now)) {
		listens = s.firstOf(w, watcher{}, now, s.server != nil && s.settled(now))
	}
	s.mu.Unlock()
	if listens {
		_ = s.SayAlone(wire.AppendCall(nil, "", method, params)) // without a stream the client has gone
	}
}

// heard reports whether the client has heard a notification already, as it was said on another SDK session.
func (s *Session) heard(ctx context.Context, m engine.Outgoing) bool {
	if wire.IsChange(m.Method) {
		return false // these have names
	}
	r, now := run.From(ctx), time.Now()
	if r != nil && r.Owner != s.ID {
		r = nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if r != nil && s.settled(now) {
		return false // and the watcher leaves it out
	}
	return !s.firstOf(wordsOf(r, m.Method, m.Params), m.Speaker, now, false)
}
