package sitetest

import "sync"

// Executions counts how often a tool has begun, by its argument, at all replicas. The zero value has counted none. It is safe for
// concurrent use.
type Executions struct {
	mu sync.Mutex
	n  map[string]int
}

// Add counts one.
func (e *Executions) Add(what string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.n == nil {
		e.n = make(map[string]int)
	}
	e.n[what]++
}

// Of returns how many there were.
func (e *Executions) Of(what string) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.n[what]
}
