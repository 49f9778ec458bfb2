// Package fanout hands messages to the subscriptions of this process. It owns the
// buffers and the rule for receivers that fall behind; it knows no backend and starts no goroutine.
package fanout

import (
	"sync"

	"github.com/sluice-mcp/sluice/store"
)

// buffer is how many messages a receiver may be behind: 5 KB a subscription.
const buffer = 128

// A Hub is the set of subscriptions by topic. Its methods are safe for concurrent use.
type Hub struct {
	mu     sync.RWMutex
	topics map[string][]*Sub
	subs   map[*Sub]struct{}
	closed bool
}

// A Sub is one subscription. It belongs to the Hub that opened it.
type Sub struct {
	topics map[string]struct{} // guarded by Hub.mu; nil once closed

	mu     sync.Mutex // held to send, so that len(c) only falls meanwhile
	c      chan store.Message
	behind bool // the newest message in c is the empty one
}

// NewHub returns an empty Hub.
func NewHub() *Hub {
	return &Hub{topics: make(map[string][]*Sub), subs: make(map[*Sub]struct{})}
}

// Open returns a subscription to no topic yet, or store.ErrClosed.
func (h *Hub) Open() (*Sub, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, store.ErrClosed
	}
	s := &Sub{topics: make(map[string]struct{}), c: make(chan store.Message, buffer)}
	h.subs[s] = struct{}{}
	return s, nil
}

// C is closed by Hub.CloseSub and Hub.Close.
func (s *Sub) C() <-chan store.Message { return s.c }

// Add adds topics. A topic that it has already is skipped. It returns those that were new. Error: store.ErrClosed.
func (h *Hub) Add(s *Sub, topics ...string) (added []string, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s.topics == nil {
		return nil, store.ErrClosed
	}
	for _, t := range topics {
		if _, ok := s.topics[t]; !ok {
			s.topics[t] = struct{}{}
			h.topics[t] = append(h.topics[t], s)
			added = append(added, t)
		}
	}
	return added, nil
}

// Remove removes topics. A topic that it does not have is skipped. Error: store.ErrClosed.
func (h *Hub) Remove(s *Sub, topics ...string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s.topics == nil {
		return store.ErrClosed
	}
	for _, t := range topics {
		if _, ok := s.topics[t]; ok {
			delete(s.topics, t)
			h.leave(s, t)
		}
	}
	return nil
}

// leave takes s out of topic t. h.mu is held.
func (h *Hub) leave(s *Sub, t string) {
	subs := h.topics[t]
	for i := range subs {
		if subs[i] == s {
			last := len(subs) - 1
			subs[i], subs[last] = subs[last], nil
			subs = subs[:last]
			break
		}
	}
	if len(subs) > 0 {
		h.topics[t] = subs
		return
	}
	delete(h.topics, t)
	if len(h.topics) == 0 {
		h.topics = make(map[string][]*Sub) // a Go map does not shrink
	}
}

// CloseSub ends s, closes its channel and returns the topics that it had. It is idempotent.
func (h *Hub) CloseSub(s *Sub) map[string]struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	topics := s.topics
	if topics == nil {
		return nil
	}
	for t := range topics {
		h.leave(s, t)
	}
	delete(h.subs, s)
	s.topics = nil
	close(s.c)
	return topics
}

// Close ends all subscriptions. It is idempotent.
func (h *Hub) Close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for s := range h.subs {
		s.topics = nil
		close(s.c)
	}
	h.closed, h.subs, h.topics = true, nil, nil
}

// Publish hands m to every subscription of its topic, and returns how many those are. It never blocks.
func (h *Hub) Publish(m store.Message) (int, error) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	if h.closed {
		return 0, store.ErrClosed
	}
	subs := h.topics[m.Topic]
	for _, s := range subs {
		s.send(m)
	}
	return len(subs), nil
}

// Lost hands the empty message to every subscription: messages may be missing before it.
func (h *Hub) Lost() {
	h.mu.RLock()
	defer h.mu.RUnlock()
	for s := range h.subs {
		s.send(store.Message{})
	}
}

// Receivers returns how many subscriptions topic has. Error: store.ErrClosed.
func (h *Hub) Receivers(topic string) (int, error) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	if h.closed {
		return 0, store.ErrClosed
	}
	return len(h.topics[topic]), nil
}

// Topics returns all topics that have a subscription.
func (h *Hub) Topics() []string {
	h.mu.RLock()
	defer h.mu.RUnlock()
	topics := make([]string, 0, len(h.topics))
	for t := range h.topics {
		topics = append(topics, t)
	}
	return topics
}

// send keeps the last place of the buffer for the empty message. While that one waits to be read
// whatever comes is dropped: it was sent before the receiver will read afresh, so nothing is missed.
func (s *Sub) send(m store.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.behind {
		if len(s.c) > 0 {
			return
		}
		s.behind = false
	}
	if len(s.c) == buffer-1 {
		s.behind = true
		m = store.Message{}
	}
	s.c <- m
}
