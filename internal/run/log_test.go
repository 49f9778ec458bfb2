package run

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/sluice-mcp/sluice/store"
	"github.com/sluice-mcp/sluice/store/memory"
)

// fault is what goes wrong with one call of a log.
type fault int

const (
	none     fault = iota
	refused        // it was not done
	unheard        // it was done, but the caller is not told
	hanging        // it was not done, and the caller waits until it gives up
	silenced       // it was done, and the caller waits until it gives up
)

// faultyLog is a log whose calls fail as planned.
type faultyLog struct {
	store.Log

	mu      sync.Mutex
	plan    func(read bool) fault
	appends int
}

func newFaultyLog(plan func(read bool) fault) *faultyLog {
	return &faultyLog{Log: memory.New(), plan: plan}
}

// faults returns a log whose appends fail as listed, and then no more.
func faults(list ...fault) *faultyLog {
	return newFaultyLog(func(read bool) fault {
		if read || len(list) == 0 {
			return none
		}
		f := list[0]
		list = list[1:]
		return f
	})
}

var errAway = fmt.Errorf("the store is away: %w", store.ErrUnavailable)

func (l *faultyLog) next(read bool) fault {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !read {
		l.appends++
	}
	return l.plan(read)
}

// mend ends all faults.
func (l *faultyLog) mend() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.plan = func(bool) fault { return none }
}

func (l *faultyLog) Append(ctx context.Context, log string, at int64, entries [][]byte, b store.Bounds) error {
	f := l.next(false)
	if f == none || f == unheard || f == silenced {
		if err := l.Log.Append(ctx, log, at, entries, b); err != nil || f == none {
			return err
		}
	}
	if f == hanging || f == silenced {
		<-ctx.Done()
	}
	return errAway
}

func (l *faultyLog) Read(ctx context.Context, log string, from int64, limit int) ([]store.Entry, int64, error) {
	if l.next(true) != none {
		return nil, 0, errAway
	}
	return l.Log.Read(ctx, log, from, limit)
}

// logged returns the events in the log after the given index.
func logged(t *testing.T, log store.Log, name string, after int64) []Event {
	t.Helper()
	entries, _, err := log.Read(t.Context(), name, after+1, MaxEvents)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		t.Fatal(err)
	}
	var events []Event
	for _, e := range entries {
		events = append(events, Decode(e))
	}
	return events
}
