package sluice

import (
	"maps"
	"net/http"
	"slices"
	"sync"

	"github.com/sluice-mcp/sluice/internal/run"
	"github.com/sluice-mcp/sluice/internal/wire"
)

// limits bounds the calls in flight, in all and for each principal, and lets Drain wait for them.
type limits struct {
	all, each int

	mu   sync.Mutex
	n    int
	by   map[string]int
	runs map[*run.Run]struct{}
	idle chan struct{} // closed when n becomes zero; nil while nobody waits
}

// admit counts a call, for leave to take back, or says which limit is reached.
func (l *limits) admit(principal string, r *run.Run) *wire.Error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.n >= l.all {
		return &wire.Error{Code: wire.CodeBusy, Message: "Too many calls in flight at this server"}
	}
	if principal != "" {
		if l.by[principal] >= l.each {
			return &wire.Error{Code: wire.CodeBusy, Message: tooManyOfYours}
		}
		if l.by == nil {
			l.by = make(map[string]int)
		}
		l.by[principal]++
	}
	l.add(r)
	return nil
}

func (l *limits) add(r *run.Run) {
	if l.runs == nil {
		l.runs = make(map[*run.Run]struct{})
	}
	l.runs[r] = struct{}{}
	l.n++
}

// force counts a call that is past the limits because it was accepted elsewhere.
func (l *limits) force(principal string, r *run.Run) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if principal != "" {
		if l.by == nil {
			l.by = make(map[string]int)
		}
		l.by[principal]++
	}
	l.add(r)
}

const tooManyOfYours = "Too many calls in flight for this client"

// busyStatus tells a client that itself asks too much from one that meets a crowd.
func busyStatus(e *wire.Error) int {
	if e.Message == tooManyOfYours {
		return http.StatusTooManyRequests
	}
	return http.StatusServiceUnavailable
}

func (l *limits) leave(principal string, r *run.Run) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if principal != "" {
		if l.by[principal]--; l.by[principal] == 0 {
			delete(l.by, principal)
		}
	}
	delete(l.runs, r)
	if l.n--; l.n == 0 && l.idle != nil {
		close(l.idle)
		l.idle = nil
	}
}

// open returns the calls in flight.
func (l *limits) open() []*run.Run {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Collect(maps.Keys(l.runs))
}

// wait returns a channel that is closed when no call is in flight.
func (l *limits) wait() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.n == 0 {
		done := make(chan struct{})
		close(done)
		return done
	}
	if l.idle == nil {
		l.idle = make(chan struct{})
	}
	return l.idle
}
