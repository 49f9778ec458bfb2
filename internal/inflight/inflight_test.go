package inflight

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-mcp/sluice/internal/run"
	"github.com/sluice-mcp/sluice/store"
	"github.com/sluice-mcp/sluice/store/memory"
)

func newRun(t *testing.T) *run.Run {
	return run.Start(t.Context(), "", "7", "tools/call", run.NewStream("S", 1))
}

func TestLimits(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		all, each int
		running   []string // principals of the calls in flight
		next      string
		status    int // of the refusal; 0: it is taken
	}{
		"the first":                        {2, 1, nil, "a", 0},
		"one more of all":                  {2, 2, []string{"a", "b"}, "c", http.StatusServiceUnavailable},
		"one more of a principal":          {9, 2, []string{"a", "a"}, "a", http.StatusTooManyRequests},
		"another principal":                {9, 2, []string{"a", "a"}, "b", 0},
		"nobody in particular":             {9, 2, []string{"", "", ""}, "", 0},
		"nobody in particular, all in use": {2, 2, []string{"", ""}, "", http.StatusServiceUnavailable},
		"both":                             {2, 2, []string{"a", "a"}, "a", http.StatusServiceUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			calls := New(c.all, c.each)
			var last *run.Run
			for _, principal := range c.running {
				last = newRun(t)
				if f := calls.Admit(principal, last); f != nil {
					t.Fatalf("%q is refused: %v", principal, f.Err)
				}
			}
			f := calls.Admit(c.next, newRun(t))
			switch {
			case c.status == 0:
				if f != nil {
					t.Fatalf("refused: %v", f.Err)
				}
				return
			case f == nil:
				t.Fatal("not refused")
			case f.Status != c.status || f.After <= 0:
				t.Errorf("HTTP %d, again after %v", f.Status, f.After)
			}
			if got := len(calls.Open()); got != len(c.running) {
				t.Errorf("%d calls are counted", got)
			}
			calls.Leave(c.running[len(c.running)-1], last)
			if f := calls.Admit(c.next, newRun(t)); f != nil {
				t.Errorf("refused though one has left: %v", f.Err)
			}
		})
	}
}

// A call that was accepted elsewhere comes past the limits, and counts.
func TestForce(t *testing.T) {
	t.Parallel()
	calls := New(1, 1)
	first, second := newRun(t), newRun(t)
	if f := calls.Admit("a", first); f != nil {
		t.Fatal(f.Err)
	}
	calls.Force("a", second)
	if got := len(calls.Open()); got != 2 {
		t.Errorf("%d calls are counted", got)
	}
	calls.Leave("a", first)
	if calls.Admit("a", newRun(t)) == nil {
		t.Error("the forced call does not count")
	}
	calls.Leave("a", second)
	if f := calls.Admit("a", newRun(t)); f != nil {
		t.Errorf("refused when none is left: %v", f.Err)
	}
	if len(calls.by) != 1 {
		t.Errorf("principals without a call are kept: %v", calls.by)
	}
}

func TestIdle(t *testing.T) {
	t.Parallel()
	calls := New(9, 9)
	if !closed(calls.Idle()) {
		t.Error("not idle at first")
	}
	a, b := newRun(t), newRun(t)
	calls.Force("", a)
	calls.Force("", b)
	one, another := calls.Idle(), calls.Idle()
	calls.Leave("", a)
	if closed(one) || closed(another) {
		t.Error("idle though a call is left")
	}
	calls.Leave("", b)
	if !closed(one) || !closed(another) {
		t.Error("not told that none is left")
	}
	calls.Force("", a)
	if closed(calls.Idle()) {
		t.Error("idle though a call has come")
	}
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// Once Close has returned, what is in flight only gets less: nobody who then waits for Idle is surprised by a late call.
func TestNoCallGetsInBehindClose(t *testing.T) {
	t.Parallel()
	for range 50 {
		calls := New(1<<20, 1<<20)
		var before atomic.Int64
		var all sync.WaitGroup
		start := make(chan struct{})
		for range 8 {
			all.Go(func() {
				<-start
				for range 1000 {
					r := newRun(t)
					f := calls.Admit("a", r)
					if f == nil {
						before.Add(1)
						continue
					}
					if f.Status != http.StatusServiceUnavailable || !calls.Leaving() {
						t.Errorf("HTTP %d, leaving: %v", f.Status, calls.Leaving())
					}
					return
				}
			})
		}
		close(start)
		calls.Close()
		at := len(calls.Open())
		all.Wait()
		if got := len(calls.Open()); got != at || int64(got) != before.Load() {
			t.Fatalf("%d calls in flight at Close, %d after it, %d taken", at, got, before.Load())
		}
	}
}

// What is let go is answered, unless another replica can go on with it and its client has an event ID to go there with.
func TestLetGo(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		shared, durable, spoken bool
		left                    bool // without a word, for another replica
	}{
		"volatile":                             {true, false, false, false},
		"volatile, spoken":                     {true, false, true, false},
		"durable":                              {true, true, true, true},
		"durable, nothing said":                {true, true, false, false},
		"durable, but nobody shares the store": {false, true, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				shared := memory.New()
				defer func() { _ = shared.Close() }()
				calls, r := New(9, 9), newRun(t)
				calls.Force("", r)
				if c.durable {
					r.Stream.Persist(shared, "log", false)
				}
				if c.spoken {
					if err := r.Send(t.Context(), []byte(`{}`)); err != nil {
						t.Fatal(err)
					}
				}
				synctest.Wait()
				reader := r.Stream.Attach(-1)
				calls.LetGo(c.shared)
				events, ended, err := reader.Next()
				if c.left {
					if err == nil || ended || !r.Open() {
						t.Errorf("not left to another: %v, ended %v, open %v", err, ended, r.Open())
					}
					return
				}
				if err != nil || !ended || len(events) == 0 {
					t.Fatalf("not answered: %v, ended %v, %v", err, ended, events)
				}
				last := events[len(events)-1]
				if !strings.Contains(string(last.Data), `"id":7,"error":{"code":-32603`) || last.Status != http.StatusOK {
					t.Errorf("HTTP %d: %s", last.Status, last.Data)
				}
			})
		})
	}
}

// The calls of a batch share their stream: each is answered, also those after the first.
func TestLetGoOfABatch(t *testing.T) {
	t.Parallel()
	calls, stream := New(9, 9), run.NewStream("S", 2)
	for range 2 {
		calls.Force("", run.Start(t.Context(), "", "7", "tools/call", stream))
	}
	calls.LetGo(true)
	if responses, whole, _ := stream.Attach(-1).Whole(); !whole || len(responses) != 2 {
		t.Errorf("answered with %v, whole: %v", responses, whole)
	}
}

// A log that takes nothing does not hold the process up.
func TestLetGoDoesNotWaitForTheStore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		calls := New(9, 9)
		for range 3 {
			r := newRun(t)
			r.Stream.Persist(away{}, "log", true)
			calls.Force("", r)
		}
		begun := time.Now()
		calls.LetGo(false)
		if took := time.Since(begun); took != time.Second {
			t.Errorf("took %v", took)
		}
		for _, r := range calls.Open() {
			r.Stream.Fail(run.ErrLost)
		}
		time.Sleep(10 * time.Second) // the streams notice
	})
}

// away is a store that is out of reach.
type away struct{ store.Log }

func (away) Append(context.Context, string, int64, [][]byte, store.Bounds) error {
	return store.ErrUnavailable
}
