package spec_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice/store/memory"
)

// pair starts two replicas.
func pair(t *testing.T, edits ...func(*config)) (a, b *env) {
	t.Helper()
	shared := memory.New()
	t.Cleanup(func() { _ = shared.Close() })
	edits = append(slices.Clone(edits), func(c *config) { c.options.Store = shared })
	return serveTasks(t, edits...), serveTasks(t, edits...)
}

// together does things at the same time, and waits for all of them.
func together(all ...func()) {
	var wg sync.WaitGroup
	start := make(chan struct{})
	for _, f := range all {
		wg.Go(func() {
			<-start
			f()
		})
	}
	close(start)
	wg.Wait()
}

// ended waits for the end of a task, and demands that it is one of these and stays.
func ended(t *testing.T, k *task, ends ...string) obj {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		got := k.get(t)
		if final(got) {
			if status, _ := got["status"].(string); !slices.Contains(ends, status) {
				t.Errorf("it ends as %v, want one of %v", got, ends)
			}
			if diff := cmp.Diff(got, k.get(t)); diff != "" {
				t.Errorf("its end changes: %s", diff)
			}
			return got
		}
		if time.Now().After(deadline) {
			t.Fatalf("it does not end: %v", got)
		}
		time.Sleep(brief / 4)
	}
}

// A raced tool asks once in each of its rounds but the last, and waits in all but the first. What it does with ctx is up to the test.
type raced struct {
	env    *env
	rounds int32
	deaf   bool
	calls  atomic.Int32
	gate   chan struct{} // one element for each round that may go on
	seen   chan struct{} // one for each round that has begun, but the first
}

func (r *raced) add(name string) {
	r.gate, r.seen = make(chan struct{}, 100), make(chan struct{}, 100)
	r.env.srv.AddTool(marked(name), func(ctx context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		round := r.calls.Add(1)
		if round > 1 {
			r.seen <- struct{}{}
			if r.deaf {
				ctx = context.WithoutCancel(ctx)
			}
			select {
			case <-r.gate:
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		if round < r.rounds {
			return &mcp.CallToolResult{InputRequests: mcp.InputRequestMap{"q": question("?")}}, nil
		}
		answer, err := json.Marshal(req.Params.InputResponses["q"])
		return text("round %d: %s", round, answer), err
	})
}

// TestTaskRaces has what the statements leave to the server: who wins when two things happen to a task at a time.
func TestTaskRaces(t *testing.T) {
	t.Parallel()
	for name, race := range map[string]func(t *testing.T){
		"cancel and completion":           raceCancelCompletion,
		"cancel, then update":             raceCancelUpdate,
		"update, then cancel":             raceUpdateCancel,
		"update and cancel":               raceBoth,
		"update and expiry":               raceUpdateExpiry,
		"two answers":                     raceTwoAnswers,
		"two parts":                       raceTwoParts,
		"two cancellations":               raceTwoCancels,
		"a listener and the end":          raceListen,
		"a time to live and the work":     raceExpiry,
		"a time to live, and a deaf one":  raceExpiryDeaf,
		"the handle and its client":       raceHandle,
		"the same call twice":             raceRepeated,
		"a change that is told to nobody": raceUntold,
	} {
		t.Run(name, func(t *testing.T) { t.Parallel(); race(t) })
	}
}

// The first of the two wins, and the result of work that was done is not thrown away.
func raceCancelCompletion(t *testing.T) {
	a, b := pair(t)
	seen := map[any]int{}
	for i := range 40 {
		key := fmt.Sprint(i)
		k := a.begun(t, "work", obj{"key": key})
		a.await(t, key, "running")
		together(func() { a.release(key) }, func() { k.at(b).cancel(t) })
		got := ended(t, k.at(b), "completed", "cancelled")
		if got["status"] == "completed" && content(t, got["result"].(obj)) != "worked "+key {
			t.Errorf("its result is %v", got)
		}
		seen[got["status"]]++
	}
	t.Logf("ends: %v", seen)
}

func raceCancelUpdate(t *testing.T) {
	a, b := pair(t)
	r := &raced{env: a, rounds: 2}
	r.add("raced")
	k := a.begun(t, "raced", obj{})
	k.until(t, "input_required")
	k.at(b).cancel(t)
	k.update(t, obj{"q.1": named("Ann")})
	ended(t, k, "cancelled")
	if n := r.calls.Load(); n != 1 {
		t.Errorf("the tool was called %d times", n)
	}
}

// Whatever the next round would have brought but a result: the client wanted the end.
func raceUpdateCancel(t *testing.T) {
	for what, tt := range map[string]struct {
		rounds int32
		deaf   bool
		end    string
	}{
		"the tool hears of it":           {2, false, "cancelled"},
		"it does not, and asks for more": {3, true, "cancelled"},
		"it does not, and is done":       {2, true, "completed"},
	} {
		a, b := pair(t)
		r := &raced{env: a, rounds: tt.rounds, deaf: tt.deaf}
		r.add("raced")
		k := a.begun(t, "raced", obj{})
		k.until(t, "input_required")
		k.update(t, obj{"q.1": named("Ann")})
		<-r.seen
		k.at(b).cancel(t)
		if tt.deaf {
			r.gate <- struct{}{}
		}
		if got := ended(t, k.at(b), tt.end); tt.end == "completed" && !strings.Contains(content(t, got["result"].(obj)), "Ann") {
			t.Errorf("%s: %v", what, got)
		}
		if n := r.calls.Load(); n != 2 {
			t.Errorf("%s: the tool was called %d times", what, n)
		}
	}
}

func raceBoth(t *testing.T) {
	a, b := pair(t)
	for range 30 {
		k := a.begun(t, "asks", obj{})
		k.until(t, "input_required")
		together(func() { k.update(t, obj{"name.1": named("Ann")}) }, func() { k.at(b).cancel(t) })
		ended(t, k, "completed", "cancelled")
	}
}

// Until the last moment an answer is taken. From then on it is acknowledged and changes nothing, until the task is gone.
func raceUpdateExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := pair(t, virtual)
		answer := obj{"name.1": named("Ann")}
		for early, end := range map[time.Duration]string{time.Millisecond: "completed", 0: "failed", -time.Second: "failed"} {
			k := a.begun(t, "asks_shortly", obj{})
			k.until(t, "input_required")
			time.Sleep(time.Until(created(t, k.handle).Add(2*time.Second - early)))
			k.at(b).update(t, answer)
			if got := ended(t, k, end); end == "failed" && !strings.Contains(fmt.Sprint(got["error"]), "time to live") {
				t.Errorf("%v before its end: %v", early, got)
			}
			time.Sleep(time.Minute)
			unknown(t, k.at(b).send(t, "update", obj{"inputResponses": answer}))
		}
	})
}

// One answer counts, and one round is run.
func raceTwoAnswers(t *testing.T) {
	a, b := pair(t, authenticated)
	alice := as("alice")
	for range 30 {
		r := [2]*raced{{env: a, rounds: 2, deaf: true}, {env: b, rounds: 1, deaf: true}}
		for _, r := range r {
			r.add("raced")
			r.gate <- struct{}{}
		}
		k := a.begun(t, "raced", obj{}, alice)
		k.until(t, "input_required")
		r[1].calls.Store(0)
		together(
			func() { k.update(t, obj{"q.1": named("one")}) },
			func() { k.at(b, alice).update(t, obj{"q.1": named("two")}) },
		)
		got := ended(t, k, "completed")
		if n := r[0].calls.Load() + r[1].calls.Load(); n != 2 {
			t.Errorf("the tool was called %d times: %v", n, got)
		}
	}
}

// Two parts of the answers that come at a time are both taken.
func raceTwoParts(t *testing.T) {
	a, b := pair(t)
	for range 30 {
		k := a.begun(t, "turns", obj{"n": 1})
		k.until(t, "input_required")
		together(
			func() { k.update(t, obj{"a.1": named("A")}) },
			func() { k.at(b).update(t, obj{"b.1": named("B")}) },
		)
		if said := content(t, ended(t, k, "completed")["result"].(obj)); said != "a=A b=B" {
			t.Errorf("it ends with %q", said)
		}
	}
}

func raceTwoCancels(t *testing.T) {
	a, b := pair(t)
	for i := range 20 {
		working, asking := a.begun(t, "work", obj{"key": fmt.Sprint(i)}), a.begun(t, "asks", obj{})
		a.await(t, fmt.Sprint(i), "running")
		asking.until(t, "input_required")
		for _, k := range []*task{working, asking} {
			together(func() { k.cancel(t) }, func() { k.at(b).cancel(t) })
			ended(t, k.at(b), "cancelled")
		}
	}
}

// Whoever begins to listen while the task ends, at whatever replica, is told of its end, once.
func raceListen(t *testing.T) {
	a, b := pair(t)
	for i := range 20 {
		key := fmt.Sprint(i)
		k := a.begun(t, "work", obj{"key": key})
		a.await(t, key, "running")
		var here, there *listener
		together(
			func() { a.release(key) },
			func() { here = a.listenTo(t, 1, k.id) },
			func() { there = b.listenTo(t, "2", k.id) },
		)
		for _, l := range []*listener{here, there} {
			l.until(t, "completed")
			l.cut()
		}
	}
}

func raceExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := pair(t, virtual)
		for i, early := range []time.Duration{time.Millisecond, 0, -time.Millisecond} {
			key := fmt.Sprint(i)
			k := a.begun(t, "short", obj{"key": key})
			a.await(t, key, "running")
			time.Sleep(time.Until(created(t, k.handle).Add(2*time.Second - early)))
			a.release(key)
			ends := []string{"completed", "failed"}
			switch {
			case early > 0:
				ends = ends[:1]
			case early < 0:
				ends = ends[1:]
			}
			got := ended(t, k.at(b), ends...)
			// The end can be seen for as long as any other, whichever it is.
			if ttl := millis(t, got["ttlMs"]); ttl < 11*time.Second {
				t.Errorf("%v before its end: a time to live of %v", early, ttl)
			}
			time.Sleep(10 * time.Second)
			ended(t, k.at(b), ends...)
		}
	})
}

// A tool that does not look whether it is wanted does not keep its task alive. It keeps its own place until it returns, and nobody else's.
func raceExpiryDeaf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := pair(t, virtual, func(c *config) { c.options.TaskTTL, c.options.MaxTasks = 2*time.Second, 2 })
		k := a.begun(t, "deaf", obj{"key": "k"})
		a.await(t, "k", "running")
		time.Sleep(time.Until(created(t, k.handle).Add(2 * time.Second)))
		got := ended(t, k.at(b), "failed")
		if e, _ := got["error"].(obj); fmt.Sprint(e["code"]) != "-32603" {
			t.Errorf("it ends as %v", got)
		}
		a.begun(t, "rich", obj{}).until(t, "completed")
		a.release("k")
		time.Sleep(time.Second)
		if diff := cmp.Diff(got, k.get(t)); diff != "" {
			t.Errorf("what comes too late changes it: %s", diff)
		}
	})
}

// Of a task whose client left before it had the handle, nobody could ever ask: its tool is not called.
func raceHandle(t *testing.T) {
	slow := newSlowStore(t)
	e := serveTasks(t, func(c *config) { c.options.Store = slow })
	x := e.begin(t, e.modern(t, declared(call(1, "work", obj{"key": "k"}))))
	<-slow.asked
	x.cut()
	<-slow.left
	close(slow.gate)
	e.stays(t, "k", "", "its client has left")
}

// The protocol has no name for a call: who sends it again gets another task.
func raceRepeated(t *testing.T) {
	e := serveTasks(t)
	e.release("k")
	first, second := e.begun(t, "work", obj{"key": "k"}), e.begun(t, "work", obj{"key": "k"})
	if first.id == second.id {
		t.Errorf("both are %s", first.id)
	}
	first.until(t, "completed")
	second.until(t, "completed")
}

// A listener that the bus tells nothing looks by itself, so that a lost message costs seconds and not the end.
func raceUntold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shared := memory.New()
		t.Cleanup(func() { _ = shared.Close() })
		e := serveTasks(t, virtual, func(c *config) { c.options.Store = &muteStore{shared} })
		k := e.begun(t, "work", obj{"key": "k"})
		e.await(t, "k", "running")
		l := e.listenTo(t, "L", k.id)
		l.told(t)
		e.release("k")
		begun := time.Now()
		l.until(t, "completed")
		if took := time.Since(begun); took > 6*time.Second {
			t.Errorf("the end was told after %v", took)
		}
	})
}
