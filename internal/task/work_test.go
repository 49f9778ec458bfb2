package task

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-mcp/sluice/internal/large"
	"github.com/sluice-mcp/sluice/store"
)

func TestEnds(t *testing.T) {
	t.Parallel()
	short := func(r *Record) { r.TTL = 10_000 }
	for name, tt := range map[string]struct {
		round  Round
		edit   func(*Record)
		cancel time.Duration // after; never if zero
		look   time.Duration
		want   Status
	}{
		"a result":                     {result(`1`), nil, 0, time.Second, Completed},
		"an error":                     {failure("no"), nil, 0, time.Second, Failed},
		"more than may be kept":        {result(`"` + strings.Repeat("x", large.Max) + `"`), nil, 0, time.Second, Failed},
		"cancelled":                    {waits, nil, time.Second, 2 * time.Second, Cancelled},
		"cancelled, and done in time":  {sleeps(4 * time.Second), nil, time.Second, 5 * time.Second, Completed},
		"cancelled, and it is deaf":    {sleeps(time.Minute), nil, time.Second, 4 * time.Second, Working},
		"cancelled, and does not stop": {sleeps(time.Minute), nil, time.Second, 7 * time.Second, Cancelled},
		"it takes too long":            {waits, short, 0, 11 * time.Second, Failed},
		"it takes too long, deaf":      {sleeps(time.Minute), short, 0, 11 * time.Second, Failed},
		"it asks for too long":         {asks("a"), short, 0, 11 * time.Second, Failed},
		"cancelled while it asks":      {asks("a"), nil, time.Second, 2 * time.Second, Cancelled},
	} {
		t.Run(name, func(t *testing.T) {
			virtually(t, func(t *testing.T) {
				s := newBench(t).alone()
				id := s.create(t, tt.round, func(r *Record) {
					if tt.edit != nil {
						tt.edit(r)
					}
				}).ID
				begun := time.Now()
				if tt.cancel > 0 {
					time.Sleep(tt.cancel)
					for range 2 {
						if err := s.Cancel(t.Context(), id, "alice"); err != nil {
							t.Fatal(err)
						}
					}
				}
				time.Sleep(time.Until(begun.Add(tt.look)))
				s.is(t, id, tt.want)
				time.Sleep(time.Minute) // for what is deaf
				if tt.want.Final() {
					s.is(t, id, tt.want)
				}
				if n := s.Working(); n != 0 {
					t.Errorf("works on %d", n)
				}
			})
		})
	}
}

// What a handler says is written once a second, the last of it always.
func TestSay(t *testing.T) {
	virtually(t, func(t *testing.T) {
		b := newBench(t)
		s := b.alone()
		id := s.create(t, func(_ context.Context, _ *Record, _ json.RawMessage, say func(string)) Outcome {
			for i := range 200 { // ten seconds
				say(fmt.Sprint("step ", i))
				time.Sleep(50 * time.Millisecond)
			}
			say(strings.Repeat("x", 5000))
			return Outcome{Result: []byte(`1`)}
		}).ID
		time.Sleep(1500 * time.Millisecond)
		if r := s.is(t, id, Working); !strings.HasPrefix(r.Message, "step") || r.Updated == r.Created {
			t.Errorf("it says %q", r.Message)
		}
		time.Sleep(20 * time.Second)
		if r := s.is(t, id, Completed); r.Message != strings.Repeat("x", 1024) {
			t.Errorf("at last it says %d bytes", len(r.Message))
		}
		if n := b.store.of("swap task"); n > 13 {
			t.Errorf("%d writes in ten seconds", n)
		}
	})
}

// Work that is done is not lost to an outage of the store.
func TestOutageAtTheEnd(t *testing.T) {
	virtually(t, func(t *testing.T) {
		b := newBench(t)
		s := b.alone()
		small, large := s.create(t, sleeps(time.Second)).ID, s.create(t, func(context.Context, *Record, json.RawMessage, func(string)) Outcome {
			time.Sleep(time.Second)
			return Outcome{Result: []byte(`"` + strings.Repeat("x", 100<<10) + `"`)}
		}).ID
		b.store.set(away("swap", "append"), nil)
		time.Sleep(30 * time.Second)
		s.is(t, small, Working)
		b.store.set(nil, nil)
		time.Sleep(6 * time.Second)
		s.is(t, small, Completed)
		s.is(t, large, Completed)
	})
}

// Who leaves takes no more, and what it works on is left as it is, for another one.
func TestClose(t *testing.T) {
	virtually(t, func(t *testing.T) {
		b := newBench(t)
		s := b.alone()
		cause := make(chan error, 1)
		id := s.create(t, func(ctx context.Context, _ *Record, _ json.RawMessage, _ func(string)) Outcome {
			<-ctx.Done()
			cause <- context.Cause(ctx)
			return Outcome{Result: []byte(`1`)}
		}).ID
		select {
		case <-s.Idle():
			t.Error("it is idle")
		default:
		}
		idle := s.Idle()
		time.Sleep(time.Second)
		s.stop()
		<-idle
		<-s.Idle()
		if err := <-cause; !errors.Is(err, errLeft) {
			t.Errorf("its work was told %v", err)
		}
		s.is(t, id, Working)
		if _, err := s.Create(t.Context(), &Record{TTL: 1e7}, nil); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("a new task is answered %v", err)
		}
	})
}

func TestLarge(t *testing.T) {
	virtually(t, func(t *testing.T) {
		s := newBench(t).alone()
		// A result that is gone is a task that is gone.
		id := s.create(t, result(`"`+strings.Repeat("x", 100<<10)+`"`)).ID
		time.Sleep(time.Second)
		r := s.is(t, id, Completed)
		r.Result.Drop(t.Context(), s.Store)
		if _, _, err := s.Get(t.Context(), id, "alice"); !errors.Is(err, ErrUnknown) {
			t.Errorf("without its result: %v", err)
		}
		// Parameters that are gone are a task that cannot go on.
		lost := s.create(t, nil)
		lost.Params = large.Value{Log: "gone"}
		s.Begin(lost, result(`1`))
		time.Sleep(time.Second)
		s.is(t, lost.ID, Failed)
	})
}

func TestContext(t *testing.T) {
	t.Parallel()
	if _, ok := ID(t.Context()); ok {
		t.Error("an ordinary context is a task's")
	}
	if id, ok := ID(With(t.Context(), "T")); !ok || id != "T" {
		t.Errorf("the context is that of %q", id)
	}
}

func TestWatch(t *testing.T) {
	virtually(t, func(t *testing.T) {
		b := newBench(t)
		here, there := b.alone(), b.alone()
		id, other := here.create(t, asks("a")).ID, here.create(t, waits).ID
		time.Sleep(time.Second)
		watch := func(ids ...string) *Watch {
			t.Helper()
			w, err := there.Watch(t.Context(), ids)
			if err != nil {
				t.Fatal(err)
			}
			return w
		}
		changed := func(w *Watch, want ...string) {
			t.Helper()
			time.Sleep(time.Second)
			got := w.Changed()
			if strings.Join(got, " ") != strings.Join(want, " ") {
				t.Errorf("changed: %v, want %v", got, want)
			}
			select {
			case <-w.C():
				if len(want) == 0 {
					t.Error("woken for nothing")
				}
			default:
				if len(want) > 0 {
					t.Error("not woken")
				}
			}
		}
		one, both := watch(id), watch(id, other)
		changed(one)
		here.answer(t, id, asks("b"), "a.1")
		changed(one, id)
		changed(both, id)
		one.Close()
		here.answer(t, id, result(`1`), "b.2")
		changed(both, id)
		changed(one)
		// When something may have been missed, all have changed.
		third := watch(id)
		changed(third)
		b.store.lose()
		changed(third, id)
		changed(both, sorted(id, other)...)
		both.Close()
		third.Close()
		there.hearing.Lock()
		if len(there.heard) > 0 {
			t.Errorf("nobody listens, and %v is heard", there.heard)
		}
		there.hearing.Unlock()
	})
}

func sorted(ids ...string) []string { return slices.Sorted(slices.Values(ids)) }
