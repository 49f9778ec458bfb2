package task

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-mcp/sluice/internal/replica"
	"github.com/sluice-mcp/sluice/internal/wire"
	"github.com/sluice-mcp/sluice/store"
	"github.com/sluice-mcp/sluice/store/memory"
)

// A tap stands before a store. Each operation asks it first, and again when it is done, what becomes of it.
type tap struct {
	store.Store
	mu            sync.Mutex
	before, after func(op, key string) error
	count         map[string]int // of operations, by their name and what is before the colon in their key
	subs          []*lossy
}

func (s *tap) set(before, after func(op, key string) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before, s.after = before, after
}

func (s *tap) of(what string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count[what]
}

func (s *tap) pass(op, key string, do func() error) error {
	s.mu.Lock()
	kind, _, _ := strings.Cut(key, ":")
	if s.count == nil {
		s.count = make(map[string]int)
	}
	s.count[op+" "+kind]++
	before, after := s.before, s.after
	s.mu.Unlock()
	if before != nil {
		if err := before(op, key); err != nil {
			return err
		}
	}
	err := do()
	if after != nil && err == nil {
		err = after(op, key)
	}
	return err
}

func (s *tap) Get(ctx context.Context, key string) (value []byte, err error) {
	err = s.pass("get", key, func() (err error) { value, err = s.Store.Get(ctx, key); return err })
	return value, err
}

func (s *tap) Put(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	return s.pass("put", key, func() error { return s.Store.Put(ctx, key, value, ttl) })
}

func (s *tap) Create(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	return s.pass("create", key, func() error { return s.Store.Create(ctx, key, value, ttl) })
}

func (s *tap) Swap(ctx context.Context, key string, old, value []byte, ttl time.Duration) error {
	return s.pass("swap", key, func() error { return s.Store.Swap(ctx, key, old, value, ttl) })
}

func (s *tap) Delete(ctx context.Context, key string) error {
	return s.pass("delete", key, func() error { return s.Store.Delete(ctx, key) })
}

func (s *tap) Append(ctx context.Context, log string, at int64, entries [][]byte, b store.Bounds) error {
	return s.pass("append", log, func() error { return s.Store.Append(ctx, log, at, entries, b) })
}

// A lossy subscription can be made to have missed something.
type lossy struct {
	store.Subscription
	c chan store.Message
}

func (s *lossy) C() <-chan store.Message { return s.c }

func (s *tap) Subscribe(ctx context.Context, topics ...string) (store.Subscription, error) {
	sub, err := s.Store.Subscribe(ctx, topics...)
	if err != nil {
		return nil, err
	}
	l := &lossy{sub, make(chan store.Message, 1000)}
	go func() {
		for m := range sub.C() {
			l.c <- m
		}
		close(l.c)
	}()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.subs = append(s.subs, l)
	return l, nil
}

// lose has all subscriptions hear that they have missed something.
func (s *tap) lose() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.subs {
		l.c <- store.Message{}
	}
}

// away has operations of these names fail.
func away(ops ...string) func(op, key string) error {
	return func(op, _ string) error {
		if slices.Contains(ops, op) {
			return fmt.Errorf("away: %w", store.ErrUnavailable)
		}
		return nil
	}
}

// A bench is a store, and the keepers that share it.
type bench struct {
	t     *testing.T
	store *tap
}

func newBench(t *testing.T) *bench {
	t.Helper()
	s := memory.New()
	t.Cleanup(func() { _ = s.Close() })
	return &bench{t, &tap{Store: s}}
}

// A site is one keeper, and what it has been given to do when it has taken a task over.
type site struct {
	*Keeper
	resumed chan *Record
	stopped bool
}

// alone starts a keeper that shares its store with nobody.
func (b *bench) alone(edits ...func(*Config)) *site { return b.start("alone", nil, edits...) }

// replica starts a keeper among others.
func (b *bench) replica(name string, edits ...func(*Config)) *site {
	return b.start(name, replica.New(b.store, slog.New(slog.DiscardHandler), name, nil), edits...)
}

func (b *bench) start(name string, r *replica.Replica, edits ...func(*Config)) *site {
	s := &site{resumed: make(chan *Record, 1000)}
	c := Config{
		Store: b.store, Log: slog.New(slog.DiscardHandler), Name: name, Replica: r, Max: 10, MaxPerPrincipal: 3,
		Resume: func(r *Record) Round {
			s.resumed <- r
			return result(`"resumed"`)
		},
	}
	for _, edit := range edits {
		edit(&c)
	}
	s.Keeper = New(c)
	if r != nil {
		r.Start(func(n replica.Note) { s.Take(n) }, s.Doubt)
		s.Keeper.Start()
	}
	b.t.Cleanup(s.stop)
	return s
}

// stop ends a keeper. To the others it is as if it had died.
func (s *site) stop() {
	if s.stopped {
		return
	}
	s.stopped = true
	s.Close()
	if s.Replica != nil {
		s.Replica.Stop()
	}
}

// Rounds.
func result(text string) Round {
	return func(context.Context, *Record, json.RawMessage, func(string)) Outcome {
		return Outcome{Result: []byte(text)}
	}
}

func failure(message string) Round {
	return func(context.Context, *Record, json.RawMessage, func(string)) Outcome {
		return Outcome{Err: wire.Internal(message)}
	}
}

func asks(keys ...string) Round {
	return func(context.Context, *Record, json.RawMessage, func(string)) (o Outcome) {
		for _, k := range keys {
			o.Asked = append(o.Asked, Ask{Key: k, Request: []byte(`{"method":"roots/list"}`)})
		}
		return o
	}
}

// waits ends when its context does, with an error.
func waits(ctx context.Context, _ *Record, _ json.RawMessage, _ func(string)) Outcome {
	<-ctx.Done()
	return Outcome{Err: wire.Internal(context.Cause(ctx).Error())}
}

// sleeps is deaf, and has its result after a while.
func sleeps(d time.Duration) Round {
	return func(context.Context, *Record, json.RawMessage, func(string)) Outcome {
		time.Sleep(d)
		return Outcome{Result: []byte(`"slept"`)}
	}
}

// create makes a task of alice.
func (s *site) create(t *testing.T, round Round, edits ...func(*Record)) *Record {
	t.Helper()
	r := &Record{Principal: "alice", TTL: time.Hour.Milliseconds(), Keep: (15 * time.Minute).Milliseconds(), Poll: 1000}
	for _, edit := range edits {
		edit(r)
	}
	r, err := s.Create(t.Context(), r, []byte(`{"name":"x"}`))
	if err != nil {
		t.Fatal(err)
	}
	if round != nil {
		s.Begin(r, round)
	}
	return r
}

// is demands a status, and returns the record.
func (s *site) is(t *testing.T, id string, want Status) *Record {
	t.Helper()
	r, _, err := s.Get(t.Context(), id, "alice")
	if err != nil {
		t.Fatal(err)
	}
	if r.Status != want {
		t.Fatalf("it is %s (%v), want %s", r.Status, r.Error, want)
	}
	return r
}

func any1(Ask, json.RawMessage) error { return nil }

func (s *site) answer(t *testing.T, id string, round Round, keys ...string) {
	t.Helper()
	answers := map[string]json.RawMessage{}
	for _, k := range keys {
		answers[k] = []byte(`{}`)
	}
	if err := s.Update(t.Context(), id, "alice", answers, any1, round); err != nil {
		t.Fatal(err)
	}
}

func virtually(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, f)
}

func TestLife(t *testing.T) {
	virtually(t, func(t *testing.T) {
		s := newBench(t).alone()
		r := s.create(t, asks("a", "b"))
		time.Sleep(time.Second)
		if r := s.is(t, r.ID, InputRequired); r.Owner != "" || s.Working() != 0 {
			t.Errorf("a task that waits is somebody's: %+v, %d", r, s.Working())
		}
		s.answer(t, r.ID, nil, "a.1")
		s.is(t, r.ID, InputRequired)
		s.answer(t, r.ID, func(_ context.Context, r *Record, params json.RawMessage, _ func(string)) Outcome {
			if r.Round != 2 || len(r.Answers) != 2 || string(params) != `{"name":"x"}` {
				t.Errorf("round %d with %v and %s", r.Round, r.Answers, params)
			}
			return Outcome{Result: []byte(`"done"`)}
		}, "b.1")
		time.Sleep(time.Second)
		s.is(t, r.ID, Completed)
		if _, got, err := s.Get(t.Context(), r.ID, "alice"); err != nil || string(got) != `"done"` {
			t.Errorf("the result is %s, %v", got, err)
		}
	})
}

func TestUnknown(t *testing.T) {
	virtually(t, func(t *testing.T) {
		s := newBench(t).alone()
		id := s.create(t, asks("a")).ID
		time.Sleep(time.Second)
		for _, whose := range [][2]string{{id, "bob"}, {id, ""}, {"other", "alice"}, {"", "alice"}} {
			_, _, get := s.Get(t.Context(), whose[0], whose[1])
			update := s.Update(t.Context(), whose[0], whose[1], map[string]json.RawMessage{"a.1": []byte(`{}`)}, any1, result(`1`))
			for _, err := range []error{get, update, s.Cancel(t.Context(), whose[0], whose[1])} {
				if !errors.Is(err, ErrUnknown) {
					t.Errorf("%v: %v", whose, err)
				}
			}
		}
		s.is(t, id, InputRequired)
		time.Sleep(2 * time.Hour)
		if _, _, err := s.Get(t.Context(), id, "alice"); !errors.Is(err, ErrUnknown) {
			t.Errorf("when it should be gone: %v", err)
		}
	})
}

func TestLimits(t *testing.T) {
	virtually(t, func(t *testing.T) {
		s := newBench(t).alone()
		create := func(principal string) error {
			r, err := s.Create(t.Context(), &Record{Principal: principal, TTL: 1e7, Keep: 1e5}, nil)
			if err == nil {
				s.Begin(r, waits)
			}
			return err
		}
		for range 3 {
			if err := create("bob"); err != nil {
				t.Fatal(err)
			}
		}
		if err := create("bob"); !errors.Is(err, ErrTooManyOfYours) || !errors.Is(err, ErrTooMany) {
			t.Errorf("a fourth of one principal: %v", err)
		}
		waiting := s.create(t, asks("a")).ID
		time.Sleep(time.Second) // it counts no more
		for range 7 {           // of nobody there may be any number, up to all
			if err := create(""); err != nil {
				t.Fatal(err)
			}
		}
		if err := create("carol"); !errors.Is(err, ErrTooMany) || errors.Is(err, ErrTooManyOfYours) {
			t.Errorf("an eleventh: %v", err)
		}
		// An answer that cannot be acted on is not taken, so that it can be sent again.
		answers := map[string]json.RawMessage{"a.1": []byte(`{}`)}
		if err := s.Update(t.Context(), waiting, "alice", answers, any1, result(`1`)); !errors.Is(err, ErrTooMany) {
			t.Errorf("an answer when all places are taken: %v", err)
		}
		if r := s.is(t, waiting, InputRequired); len(r.Asked) != 1 {
			t.Errorf("its answer was taken: %+v", r)
		}
		if n := s.Working(); n != 10 {
			t.Errorf("works on %d", n)
		}
	})
}

// Which of two writers comes first is decided by the store; the other one reads again.
func TestConflict(t *testing.T) {
	virtually(t, func(t *testing.T) {
		b := newBench(t)
		s := b.alone()
		id := s.create(t, asks("a", "b")).ID
		time.Sleep(time.Second)
		between := true
		b.store.set(func(op, _ string) error {
			if op == "swap" && between {
				between = false
				s.answer(t, id, nil, "a.1")
			}
			return nil
		}, nil)
		s.answer(t, id, result(`"done"`), "b.1") // alone it would not be the last
		time.Sleep(time.Second)
		s.is(t, id, Completed)
	})
}

// When the store does not say what became of a write, what stands there says it.
func TestOutcomeUnknown(t *testing.T) {
	virtually(t, func(t *testing.T) {
		b := newBench(t)
		s := b.alone()
		id := s.create(t, asks("a")).ID
		time.Sleep(time.Second)
		b.store.set(nil, away("swap")) // it is written, and the answer is lost
		ran := 0
		s.answer(t, id, func(context.Context, *Record, json.RawMessage, func(string)) Outcome {
			ran++
			return Outcome{Result: []byte(`1`)}
		}, "a.1")
		time.Sleep(time.Minute)
		b.store.set(away("swap"), nil)
		if s.is(t, id, Completed); ran != 1 {
			t.Errorf("it ran %d times", ran)
		}
		other := s.create(t, nil)
		if err := s.Cancel(t.Context(), other.ID, "alice"); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("what is not written is %v", err)
		}
		b.store.set(nil, nil)
		s.is(t, other.ID, Working)
		s.Abandon(other)
	})
}

func TestCreateFails(t *testing.T) {
	virtually(t, func(t *testing.T) {
		b := newBench(t)
		s := b.replica("me")
		for op, kind := range map[string]string{"create": "task:", "put": "task-own"} { // the record, and the page
			b.store.set(func(o, key string) error {
				if !strings.HasPrefix(key, kind) {
					return nil
				}
				return away(op, "swap")(o, key)
			}, nil)
			r, err := s.Create(t.Context(), &Record{TTL: 1e7, Keep: 1e5}, nil)
			if r != nil || !errors.Is(err, store.ErrUnavailable) {
				t.Errorf("%s: %+v, %v", op, r, err)
			}
			if s.Working() != 0 {
				t.Errorf("%s: a place is taken by nothing", op)
			}
		}
		b.store.set(nil, nil)
		if _, err := s.Create(t.Context(), &Record{TTL: 1e7, Keep: 1e5, Origin: []byte(`"` + strings.Repeat("x", maxRecord) + `"`)}, nil); !errors.Is(err, ErrTooLarge) {
			t.Errorf("what is too large: %v", err)
		}
		r := s.create(t, nil)
		s.Abandon(r)
		if _, _, err := s.Get(t.Context(), r.ID, "alice"); !errors.Is(err, ErrUnknown) || s.Working() != 0 {
			t.Errorf("what nobody wanted: %v, %d", err, s.Working())
		}
	})
}

// A round that asks for more than a record may have is an error of the task, and an update of the request.
func TestTooLarge(t *testing.T) {
	virtually(t, func(t *testing.T) {
		s := newBench(t).alone()
		large := []byte(`"` + strings.Repeat("x", maxRecord) + `"`)
		id := s.create(t, func(context.Context, *Record, json.RawMessage, func(string)) Outcome {
			return Outcome{Asked: []Ask{{Key: "a", Request: large}}}
		}).ID
		time.Sleep(time.Second)
		s.is(t, id, Failed)
		id = s.create(t, asks("a")).ID
		time.Sleep(time.Second)
		if err := s.Update(t.Context(), id, "alice", map[string]json.RawMessage{"a.1": large}, any1, result(`1`)); !errors.Is(err, ErrTooLarge) {
			t.Errorf("an answer that is too large: %v", err)
		}
		if s.is(t, id, InputRequired); s.Working() != 0 {
			t.Errorf("works on %d", s.Working())
		}
	})
}

// A check that refuses one answer refuses all of them. Of what is not asked it does not hear.
func TestCheck(t *testing.T) {
	virtually(t, func(t *testing.T) {
		s := newBench(t).alone()
		id := s.create(t, asks("a", "b")).ID
		time.Sleep(time.Second)
		no := errors.New("not that")
		err := s.Update(t.Context(), id, "alice", map[string]json.RawMessage{"a.1": []byte(`1`), "b.1": []byte(`2`), "c.1": []byte(`3`)}, func(a Ask, v json.RawMessage) error {
			if a.Key != "a" && a.Key != "b" {
				t.Errorf("asked about %s", a.Key)
			}
			if string(v) == `2` {
				return no
			}
			return nil
		}, result(`1`))
		if r := s.is(t, id, InputRequired); !errors.Is(err, no) || len(r.Asked) != 2 {
			t.Errorf("%v, and it asks %v", err, r.Asked)
		}
	})
}

func TestError(t *testing.T) {
	t.Parallel()
	for code, errs := range map[int64][]error{
		wire.CodeInvalidParams: {ErrUnknown, fmt.Errorf("x: %w", ErrTooLarge)},
		wire.CodeBusy:          {ErrTooMany, ErrTooManyOfYours, fmt.Errorf("x: %w", store.ErrUnavailable)},
		wire.CodeInternal:      {errors.New("secret"), store.ErrConflict, context.Canceled},
	} {
		for _, err := range errs {
			if got := Error(err); got.Code != code || strings.Contains(got.Message, "secret") {
				t.Errorf("%v is told as %+v, want %d", err, got, code)
			}
		}
	}
}
