// Package inflight knows which calls run at this replica: it bounds them, in all and for each principal, and tells when none is
// left.
package inflight

import (
	"maps"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-mcp/sluice/internal/answer"
	"github.com/sluice-mcp/sluice/internal/run"
	"github.com/sluice-mcp/sluice/internal/wire"
	"github.com/sluice-mcp/sluice/observe"
)

// Calls are the calls in flight at a replica. It is safe for concurrent use.
type Calls struct {
	all, each int

	leaving atomic.Bool // set with the mutex held, so that no call gets in behind Close

	mu   sync.Mutex
	by   map[string]int // by principal
	runs map[*run.Run]struct{}
	idle chan struct{} // closed when no call is left; nil while nobody waits
}

// New returns an empty set that takes as many calls as all, and as many of one principal other than "" as each.
func New(all, each int) *Calls {
	return &Calls{all: all, each: each, by: make(map[string]int), runs: make(map[*run.Run]struct{})}
}

// Admit counts a call, for [Calls.Leave] to take back, or says why it must not begin.
func (c *Calls) Admit(principal string, r *run.Run) *answer.Refusal {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.leaving.Load():
		return answer.Leaving()
	case len(c.runs) >= c.all:
		return answer.Busy(observe.RefusedCalls, http.StatusServiceUnavailable, "Too many calls in flight at this server", 4*answer.RetryAfter)
	case principal != "" && c.by[principal] >= c.each:
		return answer.Busy(observe.RefusedCalls, http.StatusTooManyRequests, "Too many calls in flight for this client", 4*answer.RetryAfter)
	}
	c.add(principal, r)
	return nil
}

// Force counts a call past the limits, because it was accepted elsewhere.
func (c *Calls) Force(principal string, r *run.Run) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.add(principal, r)
}

func (c *Calls) add(principal string, r *run.Run) {
	if principal != "" {
		c.by[principal]++
	}
	c.runs[r] = struct{}{}
}

// Leave takes back what [Calls.Admit] or [Calls.Force] has counted.
func (c *Calls) Leave(principal string, r *run.Run) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if principal != "" {
		if c.by[principal]--; c.by[principal] == 0 {
			delete(c.by, principal)
		}
	}
	delete(c.runs, r)
	if len(c.runs) == 0 && c.idle != nil {
		close(c.idle)
		c.idle = nil
	}
}

// Open returns the calls in flight.
func (c *Calls) Open() []*run.Run {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Collect(maps.Keys(c.runs))
}

// Len returns how many calls are in flight.
func (c *Calls) Len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.runs)
}

// Close has new calls refused from now on: this replica leaves.
func (c *Calls) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.leaving.Store(true)
}

// Leaving reports whether [Calls.Close] was called.
func (c *Calls) Leaving() bool { return c.leaving.Load() }

// Idle returns a channel that is closed when no call is in flight.
func (c *Calls) Idle() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.runs) == 0 {
		done := make(chan struct{})
		close(done)
		return done
	}
	if c.idle == nil {
		c.idle = make(chan struct{})
	}
	return c.idle
}

// LetGo ends what is still in flight. A stream that another replica can go on with (shared) is left without a word; every
// other call is answered, also one that has said nothing yet: without an event ID its client cannot come back for it.
func (c *Calls) LetGo(shared bool) {
	open := c.Open()
	var here []*run.Run // of all before any is answered: the calls of a batch share their stream
	for _, r := range open {
		if shared && r.Stream.Durable() && r.Stream.Next() > 0 {
			r.Stream.Fail(run.ErrLeft)
			continue
		}
		here = append(here, r)
	}
	for _, r := range here {
		e := wire.Internal("The server was shut down before the call came to its end")
		// Not 503, which says that a call was not begun and can be sent again.
		r.Answer(wire.AppendError(nil, r.ID, e), http.StatusOK)
	}
	bound := time.After(time.Second) // for all of them: it comes once
	for _, r := range open {         // an answer that goes through a log is shown when it is there
		select {
		case <-r.Stream.Safe():
		case <-bound:
			return
		}
	}
}
