package sluice

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/sluice-mcp/sluice/store"
)

// A tap is one replica's way to the store that all share. It counts, and it can be closed, slowed
// down, frozen or made to lie about what was done, for one replica at a time.
type tap struct {
	name  string
	inner store.Store

	mu     sync.Mutex
	state  tapState
	away   int           // outages under way
	thaw   chan struct{} // closed when a frozen tap goes on
	subs   map[*tapSub]struct{}
	counts map[string]int
	// before is called ahead of each operation, and says how it goes. It may take its time. Nil: all go well.
	before func(op string) fate
}

type tapState int

const (
	tapOpen   tapState = iota
	tapAway            // the store cannot be reached
	tapFrozen          // the process has been stopped: what it does waits, what it is told too
	tapDead            // the process has been killed
)

// A fate is what becomes of an operation.
type fate int

const (
	done   fate = iota
	failed      // not done, and the caller is told so
	unsure      // done, but the answer is lost
)

func newTap(name string, inner store.Store) *tap {
	return &tap{name: name, inner: inner, subs: make(map[*tapSub]struct{}), counts: make(map[string]int)}
}

// errAway is what a real backend says.
func errAway(op string) error { return fmt.Errorf("tap: %s: %w", op, store.ErrUnavailable) }

// enter counts an operation and decides how it goes.
func (t *tap) enter(op string) (fate, error) {
	t.mu.Lock()
	t.counts[op]++
	before := t.before
	t.mu.Unlock()
	f := done
	if before != nil {
		f = before(op)
	}
	for {
		t.mu.Lock()
		state, thaw := t.state, t.thaw
		t.mu.Unlock()
		switch state {
		case tapFrozen:
			<-thaw
			continue
		case tapAway:
			return f, errAway(op)
		case tapDead:
			return f, fmt.Errorf("tap: %s: %w", op, store.ErrClosed)
		}
		if f == failed {
			return f, errAway(op)
		}
		return f, nil
	}
}

func (t *tap) run(op string, f func() error) error {
	how, err := t.enter(op)
	if err != nil {
		return err
	}
	err = f()
	if how == unsure {
		return errAway(op)
	}
	return err
}

func (t *tap) set(state tapState) {
	t.mu.Lock()
	old := t.state
	if old == tapDead {
		t.mu.Unlock()
		return // there is no way back
	}
	t.state = state
	switch {
	case state == tapFrozen && old != tapFrozen:
		t.thaw = make(chan struct{})
	case state != tapFrozen && old == tapFrozen:
		close(t.thaw)
	}
	subs := make([]*tapSub, 0, len(t.subs))
	for s := range t.subs {
		subs = append(subs, s)
	}
	t.mu.Unlock()
	for _, s := range subs {
		switch {
		case state == tapAway, state == tapDead:
			s.disconnect(state == tapDead)
		case state == tapOpen && old == tapAway:
			_ = s.connect(true) // fails with the memory store's end only
		}
	}
}

// goAway takes the store away, and comeBack undoes that; they nest. What is worse than an outage hides it.
func (t *tap) goAway() {
	t.mu.Lock()
	t.away++
	t.mu.Unlock()
	if t.is(tapOpen) {
		t.set(tapAway)
	}
}

func (t *tap) comeBack() {
	t.mu.Lock()
	t.away--
	over := t.away == 0
	t.mu.Unlock()
	if over && t.is(tapAway) {
		t.set(tapOpen)
	}
}

// open lets the replica at the store again, unless there is an outage.
func (t *tap) open() {
	t.mu.Lock()
	away := t.away > 0
	t.mu.Unlock()
	if away {
		t.set(tapAway)
	} else {
		t.set(tapOpen)
	}
}

func (t *tap) is(state tapState) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.state == state
}

// loseNotes breaks the connection of the subscriptions and mends it a moment later.
func (t *tap) loseNotes(d time.Duration) {
	t.mu.Lock()
	subs := make([]*tapSub, 0, len(t.subs))
	for s := range t.subs {
		subs = append(subs, s)
	}
	t.mu.Unlock()
	for _, s := range subs {
		s.disconnect(false)
	}
	time.Sleep(d)
	if t.is(tapOpen) {
		for _, s := range subs {
			_ = s.connect(true)
		}
	}
}

// tell brings a note to the replica once more.
func (t *tap) tell(m store.Message) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for s := range t.subs {
		s.mu.Lock()
		if s.inner != nil && s.topics[m.Topic] {
			s.out <- m // has room
		}
		s.mu.Unlock()
	}
}

// spent returns the operations since the last call, without those that replicas make by the clock.
func (t *tap) spent() map[string]int {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := maps.Clone(t.counts)
	clear(t.counts)
	return out
}

func (t *tap) Get(ctx context.Context, key string) (v []byte, err error) {
	op := "get"
	if strings.HasPrefix(key, "lease:") {
		op = "get lease"
	}
	if key == "task-owners" {
		op = "lease" // by the clock, too
	}
	err = t.run(op, func() error {
		var err error
		v, err = t.inner.Get(ctx, key)
		return err
	})
	return v, err
}

func (t *tap) Put(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	op := "put"
	if strings.HasPrefix(key, "lease:") {
		op = "lease"
	}
	return t.run(op, func() error { return t.inner.Put(ctx, key, value, ttl) })
}

func (t *tap) Create(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	return t.run("create", func() error { return t.inner.Create(ctx, key, value, ttl) })
}

func (t *tap) Swap(ctx context.Context, key string, old, value []byte, ttl time.Duration) error {
	return t.run("swap", func() error { return t.inner.Swap(ctx, key, old, value, ttl) })
}

func (t *tap) Touch(ctx context.Context, key string, ttl time.Duration) error {
	return t.run("touch", func() error { return t.inner.Touch(ctx, key, ttl) })
}

func (t *tap) Delete(ctx context.Context, key string) error {
	return t.run("delete", func() error { return t.inner.Delete(ctx, key) })
}

func (t *tap) Append(ctx context.Context, log string, at int64, entries [][]byte, b store.Bounds) error {
	return t.run("append", func() error { return t.inner.Append(ctx, log, at, entries, b) })
}

func (t *tap) Read(ctx context.Context, log string, from int64, limit int) (entries []store.Entry, next int64, err error) {
	err = t.run("read", func() error {
		var err error
		entries, next, err = t.inner.Read(ctx, log, from, limit)
		return err
	})
	return entries, next, err
}

func (t *tap) Drop(ctx context.Context, log string) error {
	return t.run("drop", func() error { return t.inner.Drop(ctx, log) })
}

func (t *tap) Publish(ctx context.Context, topic string, data []byte) (n int, err error) {
	err = t.run("publish", func() error {
		var err error
		n, err = t.inner.Publish(ctx, topic, data)
		return err
	})
	return n, err
}

func (t *tap) Receivers(ctx context.Context, topic string) (n int, err error) {
	err = t.run("receivers", func() error {
		var err error
		n, err = t.inner.Receivers(ctx, topic)
		return err
	})
	return n, err
}

func (t *tap) Ping(ctx context.Context) error {
	return t.run("ping", func() error { return t.inner.Ping(ctx) })
}

// Close is never called by a handler that was given the store.
func (t *tap) Close() error { panic("closed by who does not own it") }

func (t *tap) Subscribe(ctx context.Context, topics ...string) (store.Subscription, error) {
	s := &tapSub{tap: t, out: make(chan store.Message, 1024), topics: make(map[string]bool)}
	err := t.run("subscribe", func() error {
		for _, topic := range topics {
			s.topics[topic] = true
		}
		return s.connect(false)
	})
	if err != nil {
		_ = s.Close()
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.subs[s] = struct{}{}
	return s, nil
}

// A tapSub is a subscription whose connection can be lost.
type tapSub struct {
	tap *tap
	out chan store.Message

	mu     sync.Mutex
	topics map[string]bool
	inner  store.Subscription // nil while disconnected
	closed bool
	pumps  sync.WaitGroup
}

func (s *tapSub) C() <-chan store.Message { return s.out }

func (s *tapSub) connect(again bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.inner != nil {
		return nil
	}
	names := make([]string, 0, len(s.topics))
	for topic := range s.topics {
		names = append(names, topic)
	}
	inner, err := s.tap.inner.Subscribe(context.Background(), names...)
	if err != nil {
		return err
	}
	s.inner = inner
	if again {
		s.out <- store.Message{} // has room
	}
	s.pumps.Go(func() {
		for m := range inner.C() {
			s.tap.mu.Lock()
			frozen, thaw := s.tap.state == tapFrozen, s.tap.thaw
			s.tap.mu.Unlock()
			if frozen {
				<-thaw
			}
			s.mu.Lock()
			if s.inner == inner && !s.closed {
				select {
				case s.out <- m:
				default: // a receiver that is this far behind has lost more
				}
			}
			s.mu.Unlock()
		}
	})
	return nil
}

func (s *tapSub) disconnect(forGood bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.inner != nil {
		_ = s.inner.Close()
		s.inner = nil
	}
	if forGood && !s.closed {
		s.closed = true
		close(s.out)
	}
}

func (s *tapSub) Add(ctx context.Context, topics ...string) error {
	return s.tap.run("subscribe", func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, topic := range topics {
			s.topics[topic] = true
		}
		if s.inner == nil {
			return errAway("subscribe")
		}
		return s.inner.Add(ctx, topics...)
	})
}

func (s *tapSub) Remove(ctx context.Context, topics ...string) error {
	return s.tap.run("unsubscribe", func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, topic := range topics {
			delete(s.topics, topic)
		}
		if s.inner == nil {
			return nil
		}
		return s.inner.Remove(ctx, topics...)
	})
}

func (s *tapSub) Close() error {
	s.disconnect(true)
	s.tap.mu.Lock()
	defer s.tap.mu.Unlock()
	delete(s.tap.subs, s)
	return nil
}
