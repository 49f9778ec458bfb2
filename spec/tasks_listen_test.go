package spec_test

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-mcp/sluice/store/memory"
)

// This file has the statements on subscriptions/listen.

// A listener is a subscription to tasks.
type listener struct {
	*stream
	id     string // of the request, as JSON
	agreed []any  // the tasks that were agreed to
}

// listen makes the request for a subscription.
func listen(id any, filter obj) obj {
	return declared(request(id, "subscriptions/listen", obj{"notifications": filter}))
}

// listenTo subscribes to tasks.
func (e *env) listenTo(t *testing.T, id any, taskIDs ...string) *listener {
	t.Helper()
	return e.listens(t, id, obj{"taskIds": taskIDs})
}

// listens subscribes, and reads the acknowledgement, which must come first.
func (e *env) listens(t *testing.T, id any, filter obj, edits ...edit) *listener {
	t.Helper()
	l := &listener{e.send26(t, listen(id, filter), edits...).events(t), string(mustJSON(t, id)), nil}
	method, params := l.next(t)
	if method != "notifications/subscriptions/acknowledged" {
		t.Fatalf("first comes %s", method)
	}
	notifications, _ := params["notifications"].(obj)
	l.agreed, _ = notifications["taskIds"].([]any)
	return l
}

// next returns the next notification, which must name the subscription.
func (l *listener) next(t *testing.T) (method string, params obj) {
	t.Helper()
	m, _ := l.message(t)
	var says struct {
		Meta struct {
			ID json.RawMessage `json:"io.modelcontextprotocol/subscriptionId"`
		} `json:"_meta"`
	}
	if err := json.Unmarshal(m.Params, &says); err != nil {
		t.Fatal(err)
	}
	if string(says.Meta.ID) != l.id {
		t.Errorf("%s names the subscription %s, not %s", m.Method, says.Meta.ID, l.id)
	}
	return m.Method, m.params(t)
}

// told returns the next notification, which must be of a task.
func (l *listener) told(t *testing.T) obj {
	t.Helper()
	method, params := l.next(t)
	if method != "notifications/tasks" {
		t.Fatalf("told %s %v, want notifications/tasks", method, params)
	}
	checkTask(t, params)
	return params
}

// until reads on until a task is told of that has the status.
func (l *listener) until(t *testing.T, status string) obj {
	t.Helper()
	for {
		if got := l.told(t); got["status"] == status {
			return got
		}
	}
}

func testK51(t *testing.T) {
	shared := memory.New()
	t.Cleanup(func() { _ = shared.Close() })
	together := func(c *config) { c.options.Store = shared }
	e, other := serveTasks(t, together), serveTasks(t, together)
	k := e.begun(t, "turns", obj{"n": 1})
	k.until(t, "input_required")
	all := []*listener{e.listenTo(t, 1, k.id), other.listenTo(t, 2, k.id)}
	told := func(asks ...string) {
		t.Helper()
		for _, l := range all {
			if got := l.told(t); !slices.Equal(keys(got), asks) {
				t.Errorf("told %v, want that it asks %v", got, asks)
			}
		}
	}
	told("a.1", "b.1")
	k.update(t, obj{"a.1": named("A")})
	told("b.1")
	k.update(t, obj{"b.1": named("B")})
	for _, l := range all {
		if got := l.until(t, "completed"); content(t, got["result"].(obj)) != "a=A b=B" {
			t.Errorf("at the end, told %v", got)
		}
		l.quiet(t, "a task that is over does not change") // and the stream goes on: who listens again would be told the same
	}
}

func testK52(t *testing.T) {
	e := serveTasks(t, authenticated)
	alice, bob := as("alice"), as("bob")
	mine, over, foreign := e.begun(t, "asks", obj{}, alice), e.begun(t, "rich", obj{}, alice), e.begun(t, "asks", obj{}, bob)
	over.until(t, "completed")
	filter := obj{"taskIds": []string{foreign.id, mine.id, "unknown", over.id}, "toolsListChanged": true}
	l := e.listens(t, 1, filter, alice)
	if diff := cmp.Diff([]any{mine.id, over.id}, l.agreed); diff != "" {
		t.Errorf("agreed to: %s", diff)
	}
	told := map[any]bool{l.told(t)["taskId"]: true, l.told(t)["taskId"]: true}
	if !told[mine.id] || !told[over.id] {
		t.Errorf("told of %v", told)
	}
	foreign.cancel(t)
	l.quiet(t, "another's task is nobody's business")
	// Nothing to agree to: the acknowledgement says so, and there is nothing to wait for.
	for _, ids := range []any{[]string{foreign.id}, []string{"unknown"}, []string{}} {
		all := e.send26(t, listen(2, obj{"taskIds": ids}), alice).messages(t)
		if len(all) != 2 || all[0].Method != "notifications/subscriptions/acknowledged" || !all[1].isResponse() || all[1].Error != nil {
			t.Fatalf("%v: got %v, want an acknowledgement and the end", ids, all)
		}
		if agreed, _ := all[0].params(t)["notifications"].(obj)["taskIds"].([]any); len(agreed) > 0 {
			t.Errorf("%v: agreed to %v", ids, agreed)
		}
	}
	// Twice is once.
	twice := e.listens(t, 3, obj{"taskIds": []string{mine.id, mine.id}}, alice)
	if len(twice.agreed) != 1 {
		t.Errorf("agreed to %v", twice.agreed)
	}
	twice.told(t)
	twice.quiet(t, "a task that is named twice is told of once")
}

func testK53(t *testing.T) {
	e := serveTasks(t)
	k := e.begun(t, "asks", obj{})
	for _, ids := range []any{[]string{k.id}, []string{"unknown"}, []string{}, 7, []int{1}} {
		for _, more := range []obj{{}, {"toolsListChanged": true}} {
			requires(t, e.send26(t, undeclared(request(1, "subscriptions/listen", obj{"notifications": merge(more, obj{"taskIds": ids})}))))
		}
	}
	for _, ids := range []any{7, "x", []any{1}, obj{}, make([]string, 1001)} {
		e.send26(t, listen(2, obj{"taskIds": ids})).fails(t, 400, -32602)
	}
	// Without them, nothing of tasks is needed.
	st := e.send26(t, undeclared(request(3, "subscriptions/listen", obj{"notifications": obj{"toolsListChanged": true}}))).events(t)
	if m, _ := st.message(t); m.Method != "notifications/subscriptions/acknowledged" {
		t.Errorf("first comes %v", m)
	}
}

func testK54(t *testing.T) {
	e := serveTasks(t)
	all := inEachStatus(t, e)
	for status, k := range all {
		want := k.get(t)
		delete(want, "resultType")
		delete(want, "_meta")
		got := e.listenTo(t, "L", k.id).told(t)
		delete(got, "_meta")
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: what is told is not what is there: %s", status, diff)
		}
	}
	// So it is with each later one, as long as nothing else happens.
	k := all["input_required"]
	l := e.listenTo(t, "L", k.id)
	l.told(t)
	k.update(t, obj{"a.1": named("A")})
	got, want := l.told(t), k.get(t)
	for _, o := range []obj{got, want} {
		delete(o, "_meta")
		delete(o, "resultType")
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	e.release("w")
}

func testK56(t *testing.T) {
	e := serveTasks(t)
	l := e.listens(t, "all", obj{"toolsListChanged": true, "resourcesListChanged": true})
	m := tokened(declared(call(1, "work", obj{"key": "k", "text": "half of it"})), "token")
	meta(m)["io.modelcontextprotocol/logLevel"] = "debug"
	r := e.send26(t, m).has(t, 200)
	all := r.messages(t)
	if len(all) != 1 {
		t.Errorf("the call is answered %v, want the handle alone", all)
	}
	own := e.listenTo(t, "own", all[0].object(t)["taskId"].(string))
	e.await(t, "k", "running")
	for got := own.told(t); got["statusMessage"] != "half of it"; got = own.told(t) {
		if got["status"] != "working" {
			t.Fatalf("the progress became no status message: %v", got)
		}
	}
	e.release("k")
	own.until(t, "completed")
	own.quiet(t, "there is nothing more to tell")
	l.quiet(t, "who listens to something else hears nothing of tasks")
}

func testK57(t *testing.T) {
	e := serveTasks(t)
	for _, id := range []any{"L", "", 7, json.RawMessage("9007199254740993"), -1} {
		k := e.begun(t, "asks", obj{})
		l := e.listenTo(t, id, k.id) // which knows that all name the subscription, and what comes first
		l.told(t)
		k.cancel(t)
		l.until(t, "cancelled")
	}
	// A task that changes while its subscription begins is not told of before the acknowledgement, nor forgotten.
	for range 20 {
		k := e.begun(t, "rich", obj{})
		e.listenTo(t, "L", k.id).until(t, "completed")
	}
	// The subscription ends with a result that names it, too.
	k := e.begun(t, "asks", obj{})
	l := e.listenTo(t, "last", k.id)
	l.told(t)
	if err := e.h.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	rest := l.rest(t)
	if len(rest) != 1 || !rest[0].isResponse() || rest[0].Error != nil {
		t.Fatalf("at the end comes %v", rest)
	}
	if named := rest[0].object(t)["_meta"].(obj)["io.modelcontextprotocol/subscriptionId"]; named != "last" {
		t.Errorf("the result names %v", named)
	}
}
