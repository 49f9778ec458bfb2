package sluice

import (
	"context"
	"errors"
	"net/http"

	"github.com/sluice-mcp/sluice/internal/run"
	"github.com/sluice-mcp/sluice/internal/session"
	"github.com/sluice-mcp/sluice/internal/wire"
)

var errDraining = errors.New("the server is shutting down")

// Drain prepares for the end of the process: new work is refused, streams that carry no call are
// ended, listening clients are told, and the calls in flight are waited for. With a shared store, the
// clients of calls that have become streams are sent to other replicas, which show them what
// their handlers here go on to say. What a call still needs from its client, such as the answer to an elicitation, is let in.
//
// It returns nil when no call is left. When ctx ends first, it lets go of the rest as if the replica had died: another
// one takes over what it can, all other calls end in an error; it then returns ctx's error.
func (h *Handler) Drain(ctx context.Context) error {
	h.draining.Store(true)
	h.mu.Lock()
	for l := range h.listens {
		l.stop()
	}
	h.mu.Unlock()
	h.sessions.Each(func(s *session.Session) { s.LetGo(retryAfter, h.replica != nil) })
	select {
	case <-h.limits.wait():
		h.endHTTPSSE()
		return nil
	case <-ctx.Done():
		h.letGo()
		return context.Cause(ctx)
	}
}

// letGo ends what is still in flight. A stream that another replica can go on with is left without a word; every
// other call is answered.
func (h *Handler) letGo() {
	for _, rn := range h.limits.open() {
		if h.replica != nil && rn.Stream.Durable() {
			rn.Stream.Fail(run.ErrLost)
			continue
		}
		e := wire.Internal("The server was shut down before the call came to its end")
		// Not 503, which says that a call was not begun and can be sent again.
		rn.Answer(wire.AppendError(nil, rn.ID, e), http.StatusOK)
	}
	h.endHTTPSSE()
}

// Close lets go of what is in flight and frees everything. Sessions stay in a store that was given in
// the options. Close is idempotent.
func (h *Handler) Close() error {
	h.draining.Store(true)
	h.letGo()
	h.changes.stop()
	if h.replica != nil {
		h.replica.Stop()
	}
	h.sessions.Close()
	h.cancel()
	h.workers.close()
	h.engines.close()
	if h.ownStore {
		return h.store.Close()
	}
	return nil
}
