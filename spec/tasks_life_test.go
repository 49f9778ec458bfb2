package spec_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-mcp/sluice/store/memory"
)

// This file has the statements on a task's life: its status, what it asks, and its end.

func testK12(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := serveTasks(t, virtual)
		k := e.begun(t, "turns", obj{"n": 2})
		var seen []string
		for round := 1; round <= 2; round++ {
			got := k.until(t, "input_required")
			seen = append(seen, "input_required")
			for _, key := range keys(got) {
				k.update(t, obj{key: named(fmt.Sprint(round))})
			}
		}
		got := k.until(t, "completed")
		seen = append(seen, "completed")
		if said := content(t, got["result"].(obj)); said != "a=1 b=1 a=2 b=2" {
			t.Errorf("it ends with %q", said)
		}
		if want := []string{"input_required", "input_required", "completed"}; !slices.Equal(seen, want) {
			t.Errorf("it was %v, want %v", seen, want)
		}
		// From either state it may end in each way, and an end is final.
		ends := map[string]*task{
			"completed":                        k,
			"failed":                           e.begun(t, "fails", obj{}),
			"cancelled":                        e.begun(t, "work", obj{"key": "c"}),
			"cancelled, while it asks":         e.begun(t, "asks", obj{}),
			"failed, while it works too long":  e.begun(t, "short", obj{"key": "s"}),
			"failed, while it waits too long":  e.begun(t, "asks_shortly", obj{}),
			"completed, after it was answered": e.begun(t, "asks", obj{}),
		}
		for how, k := range ends {
			switch how {
			case "cancelled":
				e.await(t, "c", "running")
				k.cancel(t)
			case "cancelled, while it asks":
				k.until(t, "input_required")
				k.cancel(t)
			case "completed, after it was answered":
				k.update(t, obj{keys(k.until(t, "input_required"))[0]: named("Ann")})
			}
		}
		time.Sleep(3 * time.Second)
		for how, k := range ends {
			want, _, _ := strings.Cut(how, ",")
			k.until(t, want)
			before := k.get(t)
			k.cancel(t)
			k.update(t, obj{"name.1": named("late"), "a.1": named("late"), "b.2": named("late")})
			time.Sleep(time.Second)
			if diff := cmp.Diff(before, k.get(t)); diff != "" {
				t.Errorf("%s, and then: %s", how, diff)
			}
		}
	})
}

func testK13(t *testing.T) {
	e := serveTasks(t)
	e.release("k")
	for tool, isError := range map[string]bool{"fails": true, "panics": true, "errs": true, "wrong": false, "rich": false, "work": false} {
		want := "completed"
		if isError {
			want = "failed"
		}
		e.begun(t, tool, obj{"key": "k"}).until(t, want)
	}
	// A refusal of the person is none either.
	k := e.begun(t, "turns", obj{"n": 1})
	k.until(t, "input_required")
	k.update(t, obj{"a.1": obj{"action": "decline"}, "b.1": obj{"action": "cancel"}})
	k.until(t, "completed")
}

func testK14(t *testing.T) {
	e := serveTasks(t)
	got := e.begun(t, "wrong", obj{}).until(t, "completed")
	if inner := got["result"].(obj); !isError(inner) || content(t, inner) != "it went wrong" || got["error"] != nil {
		t.Errorf("a tool's error ends as %v", got)
	}
}

func testK20(t *testing.T) {
	e := serveTasks(t)
	k := e.begun(t, "work", obj{"key": "k"})
	for range 100 {
		k.get(t)
	}
	e.release("k")
	k.until(t, "completed")
}

// inEachStatus makes a task of each status.
func inEachStatus(t *testing.T, e *env) map[string]*task {
	t.Helper()
	all := map[string]*task{
		"working":        e.begun(t, "work", obj{"key": "w"}),
		"input_required": e.begun(t, "turns", obj{"n": 1}),
		"completed":      e.begun(t, "rich", obj{}),
		"failed":         e.begun(t, "fails", obj{}),
		"cancelled":      e.begun(t, "work", obj{"key": "c"}),
	}
	all["cancelled"].cancel(t)
	for status, k := range all {
		k.until(t, status)
	}
	e.await(t, "w", "running")
	return all
}

func testK23(t *testing.T) {
	e := serveTasks(t)
	for status, k := range inEachStatus(t, e) {
		t.Run(status, func(t *testing.T) {
			got := k.get(t) // which knows what each must have, and must not
			switch status {
			case "input_required":
				asked := got["inputRequests"].(obj)["a.1"].(obj)
				params := asked["params"].(obj)
				if asked["method"] != "elicitation/create" || params["message"] != "a?" || params["mode"] != "form" || params["requestedSchema"] == nil {
					t.Errorf("it asks %v", asked)
				}
			case "completed":
				if inner := got["result"].(obj); content(t, inner) != "<rich> & \u2028" || inner["structuredContent"] == nil {
					t.Errorf("its result is %v", inner)
				}
			case "failed":
				if diff := cmp.Diff(object(t, []byte(`{"code":-32602,"message":"not like this","data":{"why":["because",1.50]}}`)), got["error"]); diff != "" {
					t.Errorf("its error: %s", diff)
				}
			}
		})
	}
	e.release("w")
}

func testK24(t *testing.T) {
	shared := memory.New()
	t.Cleanup(func() { _ = shared.Close() })
	together := func(c *config) { c.options.Store = shared }
	e, other := serveTasks(t, together), serveTasks(t, together)
	k := e.begun(t, "turns", obj{"n": 1})
	k.until(t, "input_required")
	for range 3 {
		if got := keys(k.get(t)); !slices.Equal(got, []string{"a.1", "b.1"}) {
			t.Errorf("it asks %v", got)
		}
	}
	k.update(t, obj{"b.1": named("B")})
	for range 3 {
		if got := keys(k.at(other).get(t)); !slices.Equal(got, []string{"a.1"}) {
			t.Errorf("when b is answered, it asks %v", got)
		}
	}
	all := e.begun(t, "everything", obj{})
	asked := all.until(t, "input_required")["inputRequests"].(obj)
	methods := map[string]any{}
	for key, q := range asked {
		methods[key] = q.(obj)["method"]
	}
	if diff := cmp.Diff(map[string]any{"name.1": "elicitation/create", "words.1": "sampling/createMessage", "roots.1": "roots/list"}, methods); diff != "" {
		t.Errorf("of each kind: %s", diff)
	}
	all.update(t, obj{
		"name.1": named("Ann"), "roots.1": obj{"roots": []any{obj{"uri": "file:///x"}}},
		"words.1": obj{"role": "assistant", "model": "m", "content": obj{"type": "text", "text": "moon"}},
	})
	all.until(t, "completed")
}

func testK25(t *testing.T) {
	e := serveTasks(t)
	for status, k := range inEachStatus(t, e) {
		if got := k.send(t, "get", nil).has(t, 200).result(t); got["resultType"] != "complete" {
			t.Errorf("%s: resultType is %v", status, got["resultType"])
		}
	}
	e.release("w")
}

func testK26(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := serveTasks(t, virtual)
		for status, k := range inEachStatus(t, e) {
			before := k.send(t, "get", nil).has(t, 200).body
			time.Sleep(10 * time.Second)
			if after := k.send(t, "get", nil).has(t, 200).body; string(before) != string(after) {
				t.Errorf("%s: first %s, later %s", status, before, after)
			}
		}
		e.release("w")
	})
}

func testK28(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := serveTasks(t, virtual)
		working, asking := e.begun(t, "short", obj{"key": "k"}), e.begun(t, "asks_shortly", obj{})
		time.Sleep(time.Until(created(t, asking.handle).Add(2*time.Second - time.Millisecond)))
		working.until(t, "working")
		asking.until(t, "input_required")
		time.Sleep(2 * time.Millisecond)
		for what, k := range map[string]*task{"working": working, "asking": asking} {
			got := k.get(t)
			if e, _ := got["error"].(obj); got["status"] != "failed" || fmt.Sprint(e["code"]) != "-32603" || !strings.Contains(fmt.Sprint(got["statusMessage"]), "time to live") {
				t.Errorf("%s for too long, it is %v", what, got)
			}
		}
		e.await(t, "k", "cancelled") // the tool is not left behind
		time.Sleep(9 * time.Second)
		working.get(t)
		asking.get(t)
		time.Sleep(15 * time.Second)
		unknown(t, working.send(t, "get", nil))
		unknown(t, asking.send(t, "get", nil))
	})
}

// turned takes a task with two keys a round through its rounds, and returns the keys of each.
func turned(t *testing.T, k *task, rounds int, between func(round int, asked []string)) [][]string {
	t.Helper()
	var all [][]string
	for round := range rounds {
		asked := keys(k.until(t, "input_required"))
		all = append(all, asked)
		between(round+1, asked)
		answers := obj{}
		for _, key := range asked {
			answers[key] = named(fmt.Sprint(round + 1))
		}
		k.update(t, answers)
	}
	return all
}

func testK35(t *testing.T) {
	e := serveTasks(t)
	k := e.begun(t, "turns", obj{"n": 4})
	seen := map[string]int{}
	for round, asked := range turned(t, k, 4, func(int, []string) {}) {
		for _, key := range asked {
			if before, ok := seen[key]; ok {
				t.Errorf("%s is asked in the rounds %d and %d", key, before+1, round+1)
			}
			seen[key] = round
		}
	}
	k.until(t, "completed")
}

func testK36(t *testing.T) {
	e := serveTasks(t)
	k := e.begun(t, "turns", obj{"n": 3})
	answered := map[string]bool{}
	turned(t, k, 3, func(_ int, asked []string) {
		// One after the other, and what is answered is asked no more.
		k.update(t, obj{asked[0]: named("first")})
		answered[asked[0]] = true
		for _, key := range keys(k.get(t)) {
			if answered[key] {
				t.Errorf("%s is asked again", key)
			}
		}
		answered[asked[1]] = true
	})
	k.until(t, "completed")
}

func testK37(t *testing.T) {
	e := serveTasks(t)
	k := e.begun(t, "turns", obj{"n": 3})
	means := map[string]any{}
	turned(t, k, 3, func(_ int, asked []string) {
		for range 2 {
			for key, q := range k.get(t)["inputRequests"].(obj) {
				if was, ok := means[key]; ok && cmp.Diff(was, q) != "" {
					t.Errorf("%s means two things: %s", key, cmp.Diff(was, q))
				}
				means[key] = q
			}
		}
	})
	if said := content(t, k.until(t, "completed")["result"].(obj)); said != "a=1 b=1 a=2 b=2 a=3 b=3" || len(means) != 6 {
		t.Errorf("%d keys, and it ends with %q", len(means), said)
	}
	// Keys of the tool's own that look like ours are told apart, too.
	odd := e.begun(t, "odd_keys", obj{})
	first := keys(odd.until(t, "input_required"))
	odd.update(t, obj{first[0]: named("1")})
	if second := keys(odd.until(t, "input_required")); slices.Equal(first, second) {
		t.Errorf("%v means two things", second)
	}
	odd.cancel(t)
}

func testK39(t *testing.T) {
	e := serveTasks(t)
	k := e.begun(t, "turns", obj{"n": 1})
	k.until(t, "input_required")
	k.update(t, obj{}) // nothing
	k.update(t, obj{"a.1": named("A")})
	k.update(t, obj{"a.1": named("A")}) // again
	k.update(t, obj{"b.1": named("B")})
	k.update(t, obj{"b.1": named("B")})
	k.until(t, "completed")
	k.update(t, obj{"b.1": named("B")}) // when it is over
}

func testK40(t *testing.T) {
	shared := memory.New()
	t.Cleanup(func() { _ = shared.Close() })
	together := func(c *config) { c.options.Store = shared }
	e, other := serveTasks(t, together), serveTasks(t, together)
	for range 20 {
		k := e.begun(t, "turns", obj{"n": 1})
		k.until(t, "input_required")
		k.update(t, obj{"a.1": named("A")})
		if got := k.at(other).get(t); !slices.Equal(keys(got), []string{"b.1"}) {
			t.Fatalf("a part is answered, and it asks %v", keys(got))
		}
		k.at(other).update(t, obj{"b.1": named("B")})
		if got := k.get(t); got["status"] == "input_required" {
			t.Fatalf("all is answered, and it asks %v", keys(got))
		}
		k.until(t, "completed")
	}
}

func testK42(t *testing.T) {
	e := serveTasks(t)
	k := e.begun(t, "turns", obj{"n": 2})
	k.until(t, "input_required")
	before := k.get(t)
	for _, never := range []obj{{"x": named("X")}, {"a": named("X")}, {"a.2": named("X")}, {"": true}, {"ignored": []int{1}, "too": nil}} {
		k.update(t, never)
	}
	if diff := cmp.Diff(before, k.get(t)); diff != "" {
		t.Errorf("keys that were never issued changed it: %s", diff)
	}
	k.update(t, obj{"a.1": named("first"), "ignored": true})
	k.update(t, obj{"a.1": named("second")})
	k.update(t, obj{"a.1": "no answer at all"})
	k.update(t, obj{"b.1": named("B")})
	second := k.until(t, "input_required")
	k.update(t, obj{"a.1": named("late"), "b.1": named("late")}) // of the round before
	if diff := cmp.Diff(second, k.get(t)); diff != "" {
		t.Errorf("answers to an earlier round changed it: %s", diff)
	}
	k.update(t, obj{"a.2": named("A2"), "b.2": named("B2")})
	if said := content(t, k.until(t, "completed")["result"].(obj)); said != "a=first b=B a=A2 b=B2" {
		t.Errorf("it ends with %q", said)
	}
}

func testK43(t *testing.T) {
	e := serveTasks(t)
	k := e.begun(t, "turns", obj{"n": 1})
	k.until(t, "input_required")
	k.update(t, obj{"b.1": named("B")})
	if got := k.get(t); got["status"] != "input_required" || !slices.Equal(keys(got), []string{"a.1"}) {
		t.Errorf("with one of two answers it is %v", got)
	}
	// One that does not fit takes nothing, not even what fits.
	two := e.begun(t, "turns", obj{"n": 1})
	two.until(t, "input_required")
	before := two.get(t)
	two.send(t, "update", obj{"inputResponses": obj{"a.1": named("A"), "b.1": obj{"action": "accept", "content": obj{"name": 7}}}}).fails(t, 400, -32602)
	if diff := cmp.Diff(before, two.get(t)); diff != "" {
		t.Errorf("a refused update changed it: %s", diff)
	}
	two.update(t, obj{"a.1": named("A"), "b.1": named("B")})
	for _, k := range []*task{k, two} {
		if k == two {
			k.until(t, "completed")
			continue
		}
		k.update(t, obj{"a.1": named("A")})
		if said := content(t, k.until(t, "completed")["result"].(obj)); said != "a=A b=B" {
			t.Errorf("it ends with %q", said)
		}
	}
}

func testK45(t *testing.T) {
	e := serveTasks(t)
	for _, k := range inEachStatus(t, e) {
		k.cancel(t)
		k.cancel(t)
	}
}

func testK47(t *testing.T) {
	e := serveTasks(t)
	k := e.begun(t, "deaf", obj{"key": "k"})
	e.await(t, "k", "running")
	k.cancel(t)
	if got := k.get(t); got["status"] != "working" {
		t.Errorf("while its tool works on, it is %v", got)
	}
	e.release("k")
	k.until(t, "completed")
}

func testK48(t *testing.T) {
	e := serveTasks(t)
	k := e.begun(t, "deaf", obj{"key": "k"})
	e.await(t, "k", "running")
	k.cancel(t)
	e.release("k")
	if got := k.until(t, "completed"); content(t, got["result"].(obj)) != "worked k" {
		t.Errorf("its work was done, and it is %v", got)
	}
}

func testK49(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := serveTasks(t, virtual)
		k := e.begun(t, "deaf", obj{"key": "k"})
		e.await(t, "k", "running")
		begun := time.Now()
		k.cancel(t)
		if took := time.Since(begun); took > time.Second {
			t.Errorf("the acknowledgement took %v", took)
		}
		k.until(t, "cancelled")
		if took := time.Since(begun); took < 4*time.Second || took > 6*time.Second {
			t.Errorf("the end took %v, a tool has five seconds for it", took)
		}
		e.release("k")
		time.Sleep(time.Second)
		k.until(t, "cancelled") // what the tool brings now comes too late
	})
}
