package e2e

import (
	"slices"
	"sync"
	"testing"
	"time"
)

// An Inbox collects what arrives unasked: progress, logs. The zero value is ready for use.
// A notification may arrive shortly after the result that it precedes on the wire, so wait for
// what must come.
type Inbox[T any] struct {
	mu      sync.Mutex
	items   []T
	changed chan struct{} // closed and replaced on arrival; nil while nobody waits
}

func (in *Inbox[T]) add(item T) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.items = append(in.items, item)
	if in.changed != nil {
		close(in.changed)
		in.changed = nil
	}
}

// All returns what has arrived so far.
func (in *Inbox[T]) All() []T {
	in.mu.Lock()
	defer in.mu.Unlock()
	return slices.Clone(in.items)
}

// Wait returns all items as soon as there are n. It fails the test when they have not come after 10 s.
func (in *Inbox[T]) Wait(t testing.TB, n int) []T {
	t.Helper()
	timeout := time.NewTimer(10 * time.Second)
	defer timeout.Stop()
	for {
		in.mu.Lock()
		if len(in.items) >= n {
			defer in.mu.Unlock()
			return slices.Clone(in.items)
		}
		if in.changed == nil {
			in.changed = make(chan struct{})
		}
		changed := in.changed
		in.mu.Unlock()
		select {
		case <-changed:
		case <-timeout.C:
			got := in.All()
			t.Fatalf("e2e: waited 10 s for %d notifications, got %d: %s", n, len(got), toJSON(got))
		}
	}
}
