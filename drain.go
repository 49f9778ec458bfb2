package sluice

import (
	"context"
	"errors"

	"github.com/sluice-mcp/sluice/internal/engine"
	"github.com/sluice-mcp/sluice/internal/session"
)

var errDraining = errors.New("the server is shutting down")

// Drain prepares for the end of the process: new work is refused, streams that carry no call are
// ended, listening clients are told, and the calls in flight are waited for. It
// returns nil when none is left, else ctx's error. What a call in flight still needs from
// its client, such as the answer to an elicitation, is let in.
func (h *Handler) Drain(ctx context.Context) error {
	h.draining.Store(true)
	h.mu.Lock()
	for l := range h.listens {
		l.stop()
	}
	h.mu.Unlock()
	h.sessions.Each(func(s *session.Session) { s.EndStandalone(retryAfter) })
	select {
	case <-h.limits.wait():
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Close cancels what is in flight and frees everything. Sessions stay in a store that was given in
// the options. Close is idempotent.
func (h *Handler) Close() error {
	h.draining.Store(true)
	h.cancel()
	h.sessions.Close()
	h.engines.close()
	if h.ownStore {
		return h.store.Close()
	}
	return nil
}

// listChanged tells clients of sessions that a list of their server has changed. Listening clients
// of 2026-07-28 are told by the SDK, on the session that each of them has.
func (h *Handler) listChanged(e *engine.Engine, method string) {
	h.sessions.Each(func(s *session.Session) {
		if s.Engine == e {
			s.Changed(method)
		}
	})
}
