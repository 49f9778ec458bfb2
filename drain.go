package sluice

import (
	"context"
	"errors"
	"net/http"
	"time"

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
// It returns nil when no call is left; the last answers may still be on their way, which [http.Server.Shutdown] waits for. When ctx ends first, it lets go of the rest as if the replica had died: another
// one takes over what it can, all other calls end in an error; it then returns ctx's error.
func (h *Handler) Drain(ctx context.Context) error {
	h.draining.Store(true)
	h.mu.Lock()
	for l := range h.listens {
		l.stop()
	}
	h.mu.Unlock()
	shared := h.replica != nil
	if shared {
		h.sendAway(true)
	}
	var err error
	select {
	case <-h.limits.wait():
	case <-ctx.Done():
		err = context.Cause(ctx)
		h.letGo()
	}
	h.drained.Store(true)
	// Alone, a standalone stream stays to the end: its client has nowhere else to go, and some (the SDK's)
	// give up their calls, too, when it cannot be had.
	h.sendAway(shared)
	h.endHTTPSSE()
	return err
}

// sendAway closes the connections of standalone streams, and with calls those of calls that have become streams; clients
// are told to come back.
func (h *Handler) sendAway(calls bool) {
	h.sessions.Each(func(s *session.Session) { s.LetGo(retryAfter, calls) })
}

// letGo ends what is still in flight. A stream that another replica can go on with is left without a word; every
// other call is answered, also one that has said nothing yet: without an event ID its client cannot come back for it.
func (h *Handler) letGo() {
	open := h.limits.open()
	var here []*run.Run // of all before any is answered: the calls of a batch share their stream
	for _, rn := range open {
		if h.replica != nil && rn.Stream.Durable() && rn.Stream.Next() > 0 {
			rn.Stream.Fail(run.ErrLost)
			continue
		}
		here = append(here, rn)
	}
	for _, rn := range here {
		e := wire.Internal("The server was shut down before the call came to its end")
		// Not 503, which says that a call was not begun and can be sent again.
		rn.Answer(wire.AppendError(nil, rn.ID, e), http.StatusOK)
	}
	bound := time.After(time.Second)
	for _, rn := range open { // an answer that goes through a log is shown when it is there
		select {
		case <-rn.Stream.Safe():
		case <-bound:
		}
	}
}

// Close lets go of what is in flight and frees everything. Sessions stay in a store that was given in
// the options. Close is idempotent.
func (h *Handler) Close() error {
	h.draining.Store(true)
	h.letGo()
	h.endHTTPSSE()
	h.changes.stop()
	if h.replica != nil {
		h.replica.Stop()
	}
	h.sessions.Close()
	for _, rn := range h.limits.open() {
		rn.Cancel()
	}
	h.cancel()
	h.workers.close()
	h.engines.close()
	if h.ownStore {
		return h.store.Close()
	}
	return nil
}
