package sitetest

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/sluice-mcp/sluice/store"
)

// A Tap is one replica's way to the store that all share. It counts, and it can be closed, slowed
// down, frozen or made to lie about what was done, for one replica at a time.
type Tap struct {
	inner store.Store

	mu     sync.Mutex
	state  State
	away   int           // outages under way
	thaw   chan struct{} // closed when a frozen tap goes on
	subs   map[*tapSub]struct{}
	counts map[string]int
	// Before is called ahead of each operation, and says how it goes. It may take its time. Nil: all go well. Once the replica runs, it
	// is changed with Decide.
	Before func(op string) Fate
}

// A State is how a replica stands to the store.
type State int

// A tap is open at first.
const (
	Open   State = iota
	Away         // the store cannot be reached
	Frozen       // the process has been stopped: what it does waits, what it is told too
	Dead         // the process has been killed
)

// A Fate is what becomes of an operation.
type Fate int

// What becomes of operations.
const (
	Done   Fate = iota
	Failed      // not done, and the caller is told so
	Unsure      // done, but the answer is lost
)

// NewTap returns the way of a replica to a store.
func NewTap(inner store.Store) *Tap {
	return &Tap{inner: inner, subs: make(map[*tapSub]struct{}), counts: make(map[string]int)}
}

// errAway is what a real backend says.
func errAway(op string) error { return fmt.Errorf("tap: %s: %w", op, store.ErrUnavailable) }

// enter counts an operation and decides how it goes.
func (t *Tap) enter(op string) (Fate, error) {
	t.mu.Lock()
	t.counts[op]++
	before := t.Before
	t.mu.Unlock()
	f := Done
	if before != nil {
		f = before(op)
	}
	for {
		t.mu.Lock()
		state, thaw := t.state, t.thaw
		t.mu.Unlock()
		switch state {
		case Frozen:
			<-thaw
			continue
		case Away:
			return f, errAway(op)
		case Dead:
			return f, fmt.Errorf("tap: %s: %w", op, store.ErrClosed)
		}
		if f == Failed {
			return f, errAway(op)
		}
		return f, nil
	}
}

func (t *Tap) run(op string, f func() error) error {
	how, err := t.enter(op)
	if err != nil {
		return err
	}
	err = f()
	if how == Unsure {
		return errAway(op)
	}
	return err
}

// Decide sets Before while the replica runs.
func (t *Tap) Decide(before func(op string) Fate) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.Before = before
}

// Set changes the state. There is no way back from [Dead].
func (t *Tap) Set(state State) {
	t.mu.Lock()
	old := t.state
	if old == Dead {
		t.mu.Unlock()
		return // there is no way back
	}
	t.state = state
	switch {
	case state == Frozen && old != Frozen:
		t.thaw = make(chan struct{})
	case state != Frozen && old == Frozen:
		close(t.thaw)
	}
	subs := make([]*tapSub, 0, len(t.subs))
	for s := range t.subs {
		subs = append(subs, s)
	}
	t.mu.Unlock()
	for _, s := range subs {
		switch {
		case state == Away, state == Dead:
			s.disconnect(state == Dead)
		case state == Open && old == Away:
			_ = s.connect(true) // fails with the memory store's end only
		}
	}
}

// GoAway takes the store away, and [Tap.ComeBack] undoes that; they nest. What is worse than an outage hides it.
func (t *Tap) GoAway() {
	t.mu.Lock()
	t.away++
	t.mu.Unlock()
	if t.is(Open) {
		t.Set(Away)
	}
}

// ComeBack ends an outage that [Tap.GoAway] has begun.
func (t *Tap) ComeBack() {
	t.mu.Lock()
	t.away--
	over := t.away == 0
	t.mu.Unlock()
	if over && t.is(Away) {
		t.Set(Open)
	}
}

// open lets the replica at the store again, unless there is an outage.
func (t *Tap) open() {
	t.mu.Lock()
	away := t.away > 0
	t.mu.Unlock()
	if away {
		t.Set(Away)
	} else {
		t.Set(Open)
	}
}

func (t *Tap) is(state State) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.state == state
}

// LoseNotes breaks the connection of the subscriptions and mends it a moment later.
func (t *Tap) LoseNotes(d time.Duration) {
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
	if t.is(Open) {
		for _, s := range subs {
			_ = s.connect(true)
		}
	}
}

// Tell brings a note to the replica once more.
func (t *Tap) Tell(m store.Message) {
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

// Spent returns the operations since the last call, without those that replicas make by the clock.
func (t *Tap) Spent() map[string]int {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := maps.Clone(t.counts)
	clear(t.counts)
	return out
}

// Get implements [store.KV].
func (t *Tap) Get(ctx context.Context, key string) (v []byte, err error) {
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

// Put implements [store.KV].
func (t *Tap) Put(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	op := "put"
	if strings.HasPrefix(key, "lease:") {
		op = "lease"
	}
	return t.run(op, func() error { return t.inner.Put(ctx, key, value, ttl) })
}

// Create implements [store.KV].
func (t *Tap) Create(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	return t.run("create", func() error { return t.inner.Create(ctx, key, value, ttl) })
}

// Swap implements [store.KV].
func (t *Tap) Swap(ctx context.Context, key string, old, value []byte, ttl time.Duration) error {
	op := "swap"
	if strings.HasPrefix(key, "task-own") {
		op = "list" // who works on what
	}
	return t.run(op, func() error { return t.inner.Swap(ctx, key, old, value, ttl) })
}

// Touch implements [store.KV].
func (t *Tap) Touch(ctx context.Context, key string, ttl time.Duration) error {
	return t.run("touch", func() error { return t.inner.Touch(ctx, key, ttl) })
}

// Delete implements [store.KV].
func (t *Tap) Delete(ctx context.Context, key string) error {
	return t.run("delete", func() error { return t.inner.Delete(ctx, key) })
}

// Append implements [store.Log].
func (t *Tap) Append(ctx context.Context, log string, at int64, entries [][]byte, b store.Bounds) error {
	return t.run("append", func() error { return t.inner.Append(ctx, log, at, entries, b) })
}

// Read implements [store.Log].
func (t *Tap) Read(ctx context.Context, log string, from int64, limit int) (entries []store.Entry, next int64, err error) {
	err = t.run("read", func() error {
		var err error
		entries, next, err = t.inner.Read(ctx, log, from, limit)
		return err
	})
	return entries, next, err
}

// Drop implements [store.Log].
func (t *Tap) Drop(ctx context.Context, log string) error {
	return t.run("drop", func() error { return t.inner.Drop(ctx, log) })
}

// Publish implements [store.Bus].
func (t *Tap) Publish(ctx context.Context, topic string, data []byte) (n int, err error) {
	err = t.run("publish", func() error {
		var err error
		n, err = t.inner.Publish(ctx, topic, data)
		return err
	})
	return n, err
}

// Receivers implements [store.Bus].
func (t *Tap) Receivers(ctx context.Context, topic string) (n int, err error) {
	err = t.run("receivers", func() error {
		var err error
		n, err = t.inner.Receivers(ctx, topic)
		return err
	})
	return n, err
}

// Ping implements [store.Store].
func (t *Tap) Ping(ctx context.Context) error {
	return t.run("ping", func() error { return t.inner.Ping(ctx) })
}

// Close is never called by a handler that was given the store.
func (t *Tap) Close() error {
	panic("closed by who does not own it") //nolint:forbidigo // a test is to fail that comes here
}

// Subscribe implements [store.Bus].
func (t *Tap) Subscribe(ctx context.Context, topics ...string) (store.Subscription, error) {
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
	tap *Tap
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
			frozen, thaw := s.tap.state == Frozen, s.tap.thaw
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
