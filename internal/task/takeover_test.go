package task

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-mcp/sluice/internal/replica"
	"github.com/sluice-mcp/sluice/internal/wire"
	"github.com/sluice-mcp/sluice/store"
)

func repeatable(r *Record) { r.Repeatable = true }

// What a replica worked on when it died goes on at another one, or ends, without anybody asking.
func TestTakeover(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		edits []func(*Record)
		then  func(s *site, id string) // before it dies
		want  Status
		code  int64
	}{
		"it may run again":       {[]func(*Record){repeatable}, nil, Completed, 0},
		"it may not":             {nil, nil, Failed, wire.CodeReplicaLost},
		"it was to be cancelled": {[]func(*Record){repeatable}, mark, Cancelled, 0},
		"it was, and may not":    {nil, mark, Cancelled, 0},
		"its time is over":       {[]func(*Record){repeatable, func(r *Record) { r.TTL = 2 }}, nil, Failed, wire.CodeInternal},
		"too often":              {[]func(*Record){repeatable, func(r *Record) { r.Lost = maxClaims }}, nil, Failed, wire.CodeReplicaLost},
		"once more":              {[]func(*Record){repeatable, func(r *Record) { r.Lost = maxClaims - 1 }}, nil, Completed, 0},
	} {
		t.Run(name, func(t *testing.T) {
			virtually(t, func(t *testing.T) {
				b := newBench(t)
				dies, lives := b.replica("dies"), b.replica("lives")
				r := dies.create(t, nil, tt.edits...) // no round: it sleeps from now on
				if tt.then != nil {
					tt.then(dies, r.ID)
				}
				time.Sleep(time.Second)
				dies.stop()
				time.Sleep(5 * time.Second)
				got := lives.is(t, r.ID, tt.want)
				if tt.code != 0 && (got.Error == nil || got.Error.Code != tt.code || got.Message == "") {
					t.Errorf("its error is %+v, want %d", got.Error, tt.code)
				}
				if n := len(lives.resumed); (n == 1) != (tt.want == Completed) {
					t.Errorf("it was resumed %d times", n)
				}
				if tt.want == Completed && got.Claims != r.Claims+1 {
					t.Errorf("%d claims", got.Claims)
				}
				// Nothing of the dead one is left.
				time.Sleep(15 * time.Second)
				roster, _, err := readRoster(t.Context(), b.store)
				if err != nil || len(roster) > 0 {
					t.Errorf("the roster has %v, %v", roster, err)
				}
				if _, err := b.store.Get(t.Context(), pageKey("dies", 0)); !errors.Is(err, store.ErrNotFound) {
					t.Errorf("its page: %v", err)
				}
			})
		})
	}
}

// mark has the record say that its client wants the end, as when the replica dies before it hears of it.
func mark(s *site, id string) {
	_, _ = s.change(context.Background(), id, func(r *Record) (bool, error) {
		r.CancelWanted = true
		return true, nil
	})
}

// A task that waits is nobody's, and does not notice that its replica dies.
func TestWaitingSurvives(t *testing.T) {
	virtually(t, func(t *testing.T) {
		b := newBench(t)
		dies, lives := b.replica("dies"), b.replica("lives")
		id := dies.create(t, asks("a")).ID
		time.Sleep(time.Second)
		dies.stop()
		time.Sleep(10 * time.Second)
		lives.is(t, id, InputRequired)
		lives.answer(t, id, result(`1`), "a.1")
		time.Sleep(time.Second)
		lives.is(t, id, Completed)
		if len(lives.resumed) > 0 {
			t.Error("it was resumed")
		}
	})
}

// However many replicas find the dead one, each of its tasks goes on once.
func TestManyClaimers(t *testing.T) {
	virtually(t, func(t *testing.T) {
		b := newBench(t)
		more := func(c *Config) { c.Max, c.MaxPerPrincipal = 1000, 1000 }
		dies := b.replica("dies", more)
		var lives []*site
		for i := range 3 {
			lives = append(lives, b.replica(fmt.Sprint("lives", i)))
		}
		ids := map[string]bool{}
		for range 300 { // three pages, and more than any of the others may begin
			ids[dies.create(t, nil, repeatable).ID] = true
		}
		dies.stop()
		time.Sleep(10 * time.Second)
		ran := map[string]int{}
		for _, s := range lives {
			for range len(s.resumed) {
				ran[(<-s.resumed).ID]++
			}
		}
		for id := range ids {
			if lives[0].is(t, id, Completed); ran[id] != 1 {
				t.Errorf("%s ran %d times", id, ran[id])
			}
		}
	})
}

// A replica that was only thought dead finds that its task is another one's, and what it brings counts for nothing.
func TestSleeper(t *testing.T) {
	virtually(t, func(t *testing.T) {
		b := newBench(t)
		sleeper, other := b.replica("sleeper"), b.replica("other")
		gate, told := make(chan struct{}), make(chan error, 1)
		id := sleeper.create(t, func(ctx context.Context, _ *Record, _ json.RawMessage, say func(string)) Outcome {
			<-gate
			say("still here")
			<-ctx.Done()
			told <- context.Cause(ctx)
			return Outcome{Result: []byte(`"late"`)}
		}, repeatable).ID
		if err := other.claim(t.Context(), id, "sleeper"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		other.is(t, id, Completed)
		close(gate)
		if err := <-told; !errors.Is(err, ErrLost) {
			t.Errorf("the sleeper was told %v", err)
		}
		time.Sleep(time.Second)
		if _, got, err := sleeper.Get(t.Context(), id, "alice"); err != nil || string(got) != `"resumed"` {
			t.Errorf("its result is %s, %v", got, err)
		}
		if n := sleeper.Working() + other.Working(); n > 0 {
			t.Errorf("%d are worked on", n)
		}
		// What is another's already, or over, is not to be claimed.
		for _, of := range []string{"sleeper", "nobody"} {
			if err := other.claim(t.Context(), id, of); err != nil {
				t.Error(err)
			}
		}
		if err := other.claim(t.Context(), "unknown", "sleeper"); !errors.Is(err, ErrUnknown) {
			t.Errorf("a task that is gone: %v", err)
		}
	})
}

// Who comes back to the others, which have taken it for dead, is listed anew.
func TestDoubt(t *testing.T) {
	virtually(t, func(t *testing.T) {
		b := newBench(t)
		s := b.replica("me")
		id := s.create(t, waits).ID
		if err := b.store.Delete(t.Context(), pageKey("me", 0)); err != nil {
			t.Fatal(err)
		}
		if err := b.store.Delete(t.Context(), rosterKey); err != nil {
			t.Fatal(err)
		}
		b.store.set(away("put", "get"), nil)
		s.Doubt() // in vain, and says so
		b.store.set(nil, nil)
		s.Doubt()
		time.Sleep(time.Second)
		if ids, n := b.listed(t, "me"); n != 1 || len(ids) != 1 || ids[0] != id {
			t.Errorf("%v are listed on %d pages", ids, n)
		}
	})
}

// A takeover that the store interrupts is made again.
func TestTakeoverInterrupted(t *testing.T) {
	t.Parallel()
	for _, op := range []string{"get", "swap", "put", "delete"} {
		t.Run(op, func(t *testing.T) {
			virtually(t, func(t *testing.T) {
				b := newBench(t)
				dies, lives := b.replica("dies"), b.replica("lives")
				id := dies.create(t, nil, repeatable).ID
				time.Sleep(time.Second)
				dies.stop()
				b.store.set(func(o, key string) error {
					if strings.HasPrefix(key, "lease") {
						return nil
					}
					return away(op)(o, key)
				}, nil)
				time.Sleep(10 * time.Second)
				b.store.set(nil, nil)
				time.Sleep(10 * time.Second)
				if lives.is(t, id, Completed); len(lives.resumed) != 1 {
					t.Errorf("it was resumed %d times", len(lives.resumed))
				}
				time.Sleep(15 * time.Second)
				if _, n := b.listed(t, "dies"); n != 0 {
					t.Errorf("the dead one is listed with %d pages", n)
				}
			})
		})
	}
}

// Notes that are not for tasks are left to others, and one that cannot be read does no harm.
func TestTake(t *testing.T) {
	virtually(t, func(t *testing.T) {
		s := newBench(t).alone()
		for kind, ours := range map[string]bool{noteCancel: true, noteOwner: true, "session.moved": false, "": false} {
			for range 2 {
				if got := s.Take(replica.Note{Kind: kind, Body: []byte(`{`)}); got != ours {
					t.Errorf("%q is taken: %v", kind, got)
				}
			}
		}
	})
}

// A cancellation reaches the replica that works, and the mark stands for one that the note does not reach.
func TestCancelElsewhere(t *testing.T) {
	virtually(t, func(t *testing.T) {
		b := newBench(t)
		works, other := b.replica("works"), b.replica("other")
		id := works.create(t, waits).ID
		time.Sleep(time.Second)
		if err := other.Cancel(t.Context(), id, "alice"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		other.is(t, id, Cancelled)

		talks := works.create(t, func(ctx context.Context, _ *Record, _ json.RawMessage, say func(string)) Outcome {
			for ctx.Err() == nil {
				say(time.Now().String())
				time.Sleep(100 * time.Millisecond)
			}
			return Outcome{Err: wire.Internal(context.Cause(ctx).Error())}
		}).ID
		time.Sleep(time.Second)
		mark(other, talks) // and no note
		time.Sleep(3 * time.Second)
		other.is(t, talks, Cancelled)
	})
}

// Clocks differ: who does not work on a task waits a while longer before it calls it too late.
func TestGrace(t *testing.T) {
	virtually(t, func(t *testing.T) {
		b := newBench(t)
		works, other := b.replica("works"), b.replica("other")
		id := works.create(t, nil, func(r *Record) { r.TTL = 10_000 }).ID
		time.Sleep(14 * time.Second)
		other.is(t, id, Working)
		works.is(t, id, Failed)

		id = works.create(t, nil, func(r *Record) { r.TTL = 10_000 }).ID
		time.Sleep(16 * time.Second)
		other.is(t, id, Failed)
	})
}

// Pages.

func (b *bench) listed(t *testing.T, name string) (ids []string, pages int) {
	t.Helper()
	roster, _, err := readRoster(t.Context(), b.store)
	if err != nil {
		t.Fatal(err)
	}
	for n := range roster[name].Pages {
		raw, err := b.store.Get(t.Context(), pageKey(name, n))
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			t.Fatal(err)
		}
		if words := strings.Fields(string(raw)); len(words) > 0 { // the first is the page's version
			ids = append(ids, words[1:]...)
		}
	}
	return ids, roster[name].Pages
}

func TestPages(t *testing.T) {
	virtually(t, func(t *testing.T) {
		b := newBench(t)
		told := 0
		p := &pages{store: b.store, replica: "me", shared: true, enlisted: func(context.Context) { told++ }, roster: make(chan struct{}, 1)}
		until := time.Now().Add(time.Hour)
		add := func(from, to int) {
			t.Helper()
			var all sync.WaitGroup
			for i := from; i < to; i++ {
				all.Go(func() {
					for range 2 { // again is no more
						if err := p.add(t.Context(), fmt.Sprint("id", i), until); err != nil {
							t.Error(err)
						}
					}
				})
			}
			all.Wait()
		}
		b.store.set(func(op, _ string) error {
			if op == "put" || op == "swap" {
				time.Sleep(time.Millisecond) // in which all others come
			}
			return nil
		}, nil)
		add(0, 300)
		if ids, n := b.listed(t, "me"); len(ids) != 300 || n != 3 || told != 1 {
			t.Errorf("%d are listed on %d pages, told %d times", len(ids), n, told)
		}
		if n := b.store.of("put task-own"); n > 6 { // what waits for a page is written together
			t.Errorf("%d writes for 300", n)
		}
		for i := range 200 {
			p.remove(fmt.Sprint("id", i))
			p.remove("unknown")
		}
		time.Sleep(time.Second)
		if ids, _ := b.listed(t, "me"); len(ids) != 100 {
			t.Errorf("%d are left", len(ids))
		}
		add(1000, 1100) // into the places that are free
		if ids, n := b.listed(t, "me"); len(ids) != 200 || n != 3 {
			t.Errorf("%d are listed on %d pages", len(ids), n)
		}
		// The others have done away with it, and it lives.
		for n := range 3 {
			if err := b.store.Delete(t.Context(), pageKey("me", n)); err != nil {
				t.Fatal(err)
			}
		}
		if err := b.store.Delete(t.Context(), rosterKey); err != nil {
			t.Fatal(err)
		}
		if err := p.again(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if ids, n := b.listed(t, "me"); len(ids) != 200 || n != 3 {
			t.Errorf("anew, %d are listed on %d pages", len(ids), n)
		}
		// Who works on something stays on the roster, who works on nothing leaves it.
		if err := p.retire(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, n := b.listed(t, "me"); n != 3 {
			t.Errorf("busy, and %d pages are listed", n)
		}
		for id := range maps.Clone(p.at) {
			p.remove(id)
		}
		time.Sleep(time.Second)
		for range 2 {
			if err := p.retire(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if _, n := b.listed(t, "me"); n != 0 {
			t.Errorf("idle, and %d pages are listed", n)
		}
		add(0, 1)
		if ids, _ := b.listed(t, "me"); len(ids) != 1 {
			t.Errorf("back, and %v are listed", ids)
		}
	})
}

func TestPagesOutage(t *testing.T) {
	virtually(t, func(t *testing.T) {
		b := newBench(t)
		var p *pages
		for _, op := range []string{"get", "create", "put"} {
			p = &pages{store: b.store, replica: "me", shared: true, enlisted: func(context.Context) {}, roster: make(chan struct{}, 1)}
			b.store.set(away(op), nil)
			if err := p.add(t.Context(), "a", time.Now()); !errors.Is(err, store.ErrUnavailable) {
				t.Errorf("without %s: %v", op, err)
			}
			p.remove("a")
		}
		b.store.set(func(op, _ string) error {
			if op == "put" {
				time.Sleep(time.Minute)
			}
			return nil
		}, nil)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := p.add(ctx, "b", time.Now()); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("when it takes too long: %v", err)
		}
		time.Sleep(2 * time.Minute)
		alone := &pages{store: b.store, replica: "me", roster: make(chan struct{}, 1)}
		b.store.set(away("put", "get", "create", "swap"), nil)
		if err := errors.Join(alone.add(t.Context(), "a", time.Now()), alone.again(t.Context()), alone.retire(t.Context())); err != nil {
			t.Errorf("who shares with nobody lists nothing: %v", err)
		}
		alone.remove("a")
	})
}
