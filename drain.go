package sluice

import (
	"context"
	"time"

	"github.com/sluice-mcp/sluice/internal/observed"
	"github.com/sluice-mcp/sluice/observe"
)

// Drain prepares for the end of the process: new work is refused, streams that carry no call are
// ended, listening clients are told, and the calls in flight are waited for. With a shared store, the
// clients of calls that have become streams are sent to other replicas, which show them what
// their handlers here go on to say. What a call still needs from its client, such as the answer to an elicitation, is let in.
//
// It returns nil when no call is left; the last answers may still be on their way, which [http.Server.Shutdown] waits for.
// When ctx ends first, it lets go of the rest as if the replica had died: another
// one takes over what it can, all other calls end in an error; it then returns ctx's error.
func (h *Handler) Drain(ctx context.Context) error {
	begun := time.Now()
	h.calls.Close()
	if h.tasks != nil {
		h.tasks.Rest()
	}
	observed.Tell(ctx, h.observer, observe.DrainBegun{Calls: h.calls.Len()})
	h.stateless.EndListens()
	if h.replica != nil {
		h.stateful.SendAway(true)
	}
	var err error
	left := 0
	select {
	case <-h.calls.Idle():
		select { // none is begun any more: what begins a task is a call, and none is taken over
		case <-h.tasksDone():
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
	case <-ctx.Done():
		err = context.Cause(ctx)
		left = h.calls.Len()
		h.calls.LetGo(h.replica != nil)
	}
	observed.Tell(ctx, h.observer, observe.DrainEnded{Duration: time.Since(begun), Left: left})
	h.stateful.Leave()
	return err
}

// tasksDone returns a channel that is closed when this replica works on no task.
func (h *Handler) tasksDone() <-chan struct{} {
	if h.tasks != nil {
		return h.tasks.Idle()
	}
	done := make(chan struct{})
	close(done)
	return done
}

// Close lets go of what is in flight and frees everything. Sessions stay in a store that was given in
// the options. Close is idempotent.
func (h *Handler) Close() error {
	h.calls.Close()
	h.once.Close()
	h.calls.LetGo(h.replica != nil)
	h.stateful.EndConnections()
	h.changes.Stop()
	if h.tasks != nil {
		h.tasks.Close() // other replicas go on with what is not finished
	}
	if h.replica != nil {
		h.replica.Stop()
	}
	h.sessions.Close()
	for _, r := range h.calls.Open() {
		r.Cancel()
	}
	h.stateful.Close()
	h.workers.Close()
	h.servers.Close()
	if h.replica == nil { // then the store is our own
		return h.store.Close()
	}
	return nil
}
