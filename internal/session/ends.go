package session

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/sluice-mcp/sluice/internal/observed"
	"github.com/sluice-mcp/sluice/store"
)

// A program wants to know when a session is over, once. At one replica that is simple. Where several share a store, each that has
// known the session finds its record gone sooner or later, and a mark in the store has the first of them say so.

// ends are the sessions that are over, on their way to [Config.Ended].
type ends struct {
	mu      sync.Mutex
	waiting []end
	telling bool
	closed  chan struct{} // from the first end on
	idle    chan struct{} // closed when the last that waited has been told
}

type end struct {
	id     string
	stored bool // other replicas may know the session
}

func endedKey(id string) string { return "ended:" + id }

// over has the program told that a session is over, unless it lives on at another replica, or that one has told of it. It does
// not wait: one goroutine tells of all, one after the other.
func (m *Manager) over(id string, stored bool) {
	if m.Ended == nil {
		return
	}
	q := &m.ends
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting = append(q.waiting, end{id, stored})
	if q.telling {
		return
	}
	q.telling = true
	q.idle = make(chan struct{})
	if q.closed == nil {
		q.closed = make(chan struct{})
	}
	go m.tellEnds()
}

func (m *Manager) tellEnds() {
	q := &m.ends
	for {
		q.mu.Lock()
		if len(q.waiting) == 0 {
			q.waiting, q.telling = nil, false
			close(q.idle)
			q.mu.Unlock()
			return
		}
		e := q.waiting[0]
		q.waiting = q.waiting[1:]
		q.mu.Unlock()
		if m.isOver(e) {
			m.tellEnd(e.id)
		}
	}
}

func (m *Manager) tellEnd(id string) {
	defer func() {
		if p := recover(); p != nil {
			m.Log.Error("the program panicked when it was told that a session has ended", "panic", p, "stack", string(debug.Stack()))
		}
	}()
	m.Ended(id)
}

// isOver reports whether a session is over and it is for this replica to say so. It waits for a store that is away.
func (m *Manager) isOver(e end) bool {
	if m.Replica == nil || !e.stored {
		return true
	}
	for {
		first, err := m.firstToTell(e.id)
		if err == nil {
			return first
		}
		m.Log.Warn("whether a session has ended is not known", "session", observed.Name(e.id), "error", err)
		select {
		case <-time.After(time.Second):
		case <-m.ends.closed:
			return false
		}
	}
}

func (m *Manager) firstToTell(id string) (bool, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if _, err := m.Store.Get(ctx, recordKey(id)); !errors.Is(err, store.ErrNotFound) {
		return false, err // it lives
	}
	// The others have noticed it by the time that the mark is gone.
	err := m.Store.Create(ctx, endedKey(id), []byte(m.Name), 2*m.keep())
	if errors.Is(err, store.ErrExists) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("marking a session that has ended: %w", err)
	}
	return true, nil
}

// close waits for what is on its way, for a while if it depends on a store that is shared.
func (q *ends) close(mustTell bool) {
	q.mu.Lock()
	idle, closed := q.idle, q.closed
	q.mu.Unlock()
	if idle == nil {
		return
	}
	if mustTell {
		<-idle
		return
	}
	select {
	case <-idle:
	case <-time.After(2 * time.Second):
		q.mu.Lock()
		defer q.mu.Unlock()
		select {
		case <-closed:
		default:
			close(closed)
		}
	}
}
