package run

import (
	"sync"
	"time"
)

// Workers run calls on goroutines that are kept a moment for the next call. A new goroutine begins with a small
// stack, and growing it to what a handler needs is a quarter of the cost of a fast call (5 of 20 µs);
// one that has run a call has its stack already.
type Workers struct {
	next chan func() // taken by a waiting worker, if there is one
	done chan struct{}

	mu      sync.Mutex
	waiting int
	sweep   *time.Timer
}

const (
	// maxWaiting bounds the goroutines that wait for a call, and waitFor the time that they wait when none comes.
	maxWaiting = 64
	waitFor    = time.Second
)

// NewWorkers returns workers without goroutines. Call [Workers.Close] when done with them.
func NewWorkers() *Workers { return &Workers{next: make(chan func()), done: make(chan struct{})} }

// Run calls f on a goroutine of its own.
func (w *Workers) Run(f func()) {
	select {
	case w.next <- f:
	default:
		go w.work(f)
	}
}

func (w *Workers) work(f func()) {
	for f != nil {
		f()
		if !w.wait() {
			return
		}
		select {
		case f = <-w.next:
		case <-w.done:
			return
		}
		w.mu.Lock()
		w.waiting--
		w.mu.Unlock()
	}
}

// Close sends all home that wait, or will.
func (w *Workers) Close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case <-w.done:
	default:
		close(w.done)
	}
	if w.sweep != nil {
		w.sweep.Stop()
	}
}

// wait counts a worker that waits, and sees to it that it does not wait for ever.
func (w *Workers) wait() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.waiting == maxWaiting {
		return false
	}
	w.waiting++
	if w.sweep == nil {
		w.sweep = time.AfterFunc(waitFor, w.dismiss)
	}
	return true
}

// dismiss sends those home that wait. Under load, which lets few of them wait, new ones cost next to nothing.
func (w *Workers) dismiss() {
	w.mu.Lock()
	n := w.waiting
	w.sweep = nil
	w.mu.Unlock()
	for range n {
		select {
		case w.next <- nil:
		default: // it is about to wait, or at work again
			w.mu.Lock()
			if w.sweep == nil {
				w.sweep = time.AfterFunc(waitFor, w.dismiss)
			}
			w.mu.Unlock()
			return
		}
	}
}
