package spec_test

import (
	"context"
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice"
	"github.com/sluice-mcp/sluice/store"
	"github.com/sluice-mcp/sluice/store/memory"
)

// This file has the statements on calls: who can have a task, which call becomes one, and what its handle is.

// extensions returns what server/discover says of extensions.
func (e *env) extensions(t *testing.T) (capabilities, extensions obj) {
	t.Helper()
	capabilities, _ = e.send26(t, request(1, "server/discover", nil)).has(t, 200).result(t)["capabilities"].(obj)
	extensions, _ = capabilities["extensions"].(obj)
	return capabilities, extensions
}

func testK01(t *testing.T) {
	e := serveTasks(t)
	_, has := e.extensions(t)
	if diff := cmp.Diff(obj{}, has[extension]); diff != "" {
		t.Errorf("the extension in server/discover: %s", diff)
	}
	without := func(c *config) { c.options.NoTasks = true }
	for what, e := range map[string]*env{"no tool has tasks": serve(t), "tasks are off": serveTasks(t, without)} {
		if _, has := e.extensions(t); has[extension] != nil {
			t.Errorf("%s, and server/discover says %v", what, has)
		}
	}
	// A tool without a word on tasks may have some when calls may become tasks by their time.
	if _, has := serve(t, func(c *config) { c.options.TaskAfter = time.Minute }).extensions(t); has[extension] == nil {
		t.Errorf("calls may become tasks, and server/discover says %v", has)
	}
	// The declaration of a client is its key with an object.
	for caps, declares := range map[string]bool{
		`{"extensions":{"io.modelcontextprotocol/tasks":{}}}`:                   true,
		`{"extensions":{"io.modelcontextprotocol/tasks":{"later":1},"x/y":{}}}`: true,
		`{"extensions":{"io.modelcontextprotocol/tasks":null}}`:                 false,
		`{"extensions":{"io.modelcontextprotocol/tasks":false}}`:                false,
		`{"extensions":{"io.modelcontextprotocol/tasks":[]}}`:                   false,
		`{"extensions":{"io.modelcontextprotocol/task":{}}}`:                    false,
		`{"extensions":["io.modelcontextprotocol/tasks"]}`:                      false,
		`{"experimental":{"io.modelcontextprotocol/tasks":{}}}`:                 false,
		`{"io.modelcontextprotocol/tasks":{}}`:                                  false,
		`{}`:                                                                    false,
	} {
		m := e.send26(t, stateless(call(1, "must", obj{"key": "k"}), json.RawMessage(caps))).response(t)
		switch {
		case declares:
			(&task{env: e, id: m.object(t)["taskId"].(string)}).cancel(t)
		case m.Error == nil || m.Error.Code != -32021 && m.Error.Code != -32602: // the second for what is no object where one must be
			t.Errorf("%s is answered %v", caps, m)
		}
	}
}

func testK02(t *testing.T) {
	e := serveTasks(t)
	e.release("k")
	for tool, isTask := range map[string]bool{"work": true, "must": true, "rich": true, "wrong": true, "never": false, "echo": false, "add": false} {
		got := e.send26(t, declared(call(1, tool, obj{"key": "k", "text": "x", "a": 1, "b": 2}))).has(t, 200).result(t)
		if _, ok := got["taskId"]; ok != isTask {
			t.Errorf("%s is answered %v", tool, got)
		}
	}
	// One that never makes a task is compliant, too.
	plain := serveTasks(t, func(c *config) { c.options.NoTasks = true })
	if got := plain.send26(t, declared(call(1, "rich", obj{}))).has(t, 200).result(t); got["resultType"] != "complete" {
		t.Errorf("where tasks are off, a call is answered %v", got)
	}
	// By its time: a call that is still running becomes a task, also when it has spoken before.
	synctest.Test(t, func(t *testing.T) {
		e := serve(t, virtual, func(c *config) { c.options.TaskAfter = 10 * time.Second })
		for _, m := range []obj{call(1, "slow", obj{"key": "silent"}), tokened(call(1, "steps", obj{"key": "speaking", "n": 1}), "t")} {
			begun := time.Now()
			key := m["params"].(obj)["arguments"].(obj)["key"].(string)
			all := e.send26(t, declared(m)).messages(t)
			handle := all[len(all)-1].object(t)
			checkTask(t, handle)
			if took := time.Since(begun); took < 10*time.Second || took > 11*time.Second || handle["resultType"] != "task" {
				t.Errorf("%s: after %v, answered %v", key, took, handle)
			}
			e.release(key)
			k := &task{env: e, id: handle["taskId"].(string)}
			if got := k.until(t, "completed"); content(t, got["result"].(obj)) == "" {
				t.Errorf("%s: its task ends as %v", key, got)
			}
		}
	})
}

func testK03(t *testing.T) {
	e := serveTasks(t)
	e.release("k")
	l := e.dial(t)
	for range 2 {
		if got := l.begin(t, e.modern(t, declared(call(1, "work", obj{"key": "k"})))).reply(t).result(t); got["resultType"] != "task" {
			t.Fatalf("with the declaration: %v", got)
		}
		// The same connection, the same client, the same tool.
		if got := l.begin(t, e.modern(t, undeclared(call(2, "work", obj{"key": "k"})))).reply(t).result(t); got["resultType"] != "complete" || content(t, got) != "worked k" {
			t.Errorf("without the declaration: %v", got)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		e := serve(t, virtual, func(c *config) { c.options.TaskAfter = time.Second })
		x := e.begin(t, e.modern(t, undeclared(call(1, "slow", obj{"key": "k"}))))
		r := x.reply(t)
		time.Sleep(time.Minute)
		e.release("k")
		if got := r.result(t); content(t, got) != "slow k" {
			t.Errorf("a long call without the declaration: %v", got)
		}
	})
}

func testK06(t *testing.T) {
	e := serveTasks(t)
	for _, tool := range []string{"must", "must_ask_first"} {
		requires(t, e.send26(t, undeclared(call(1, tool, obj{"key": "k"}))))
		requires(t, e.send26(t, stateless(call(2, tool, obj{"key": "k"}), obj{})))
	}
	if state, _ := e.get("k"); state != "" {
		t.Errorf("the tool was called, and is %s", state)
	}
}

func testK07(t *testing.T) {
	e := serveTasks(t, func(c *config) { c.options.TaskAfter = time.Nanosecond })
	for _, m := range []obj{
		request(1, "tools/list", nil), request(2, "prompts/list", nil), request(3, "server/discover", nil),
		request(4, "prompts/get", obj{"name": "greet", "arguments": obj{"name": "Ann"}}),
		request(5, "resources/read", obj{"uri": "test://item/01"}),
		request(6, "completion/complete", obj{"ref": obj{"type": "ref/prompt", "name": "greet"}, "argument": obj{"name": "name", "value": "A"}}),
	} {
		if got := e.send26(t, declared(m)).has(t, 200).result(t); got["resultType"] != "complete" || got["taskId"] != nil {
			t.Errorf("%v is answered %v", m["method"], got)
		}
	}
}

func testK08(t *testing.T) {
	e := serveTasks(t)
	// Handles and results of the three methods are looked at by begun, get and acknowledged.
	k := e.begun(t, "asks", obj{})
	k.until(t, "input_required")
	k.update(t, obj{})
	k.update(t, obj{"name.1": named("Ann")})
	got := k.until(t, "completed")
	if inner := got["result"].(obj); inner["resultType"] != "complete" {
		t.Errorf("the result of the call is %v", inner)
	}
	k.cancel(t)
	for _, m := range []obj{call(1, "echo", obj{"text": "x"}), call(2, "never", obj{}), request(3, "tools/list", nil), call(4, "asks_first", obj{})} {
		if got := e.send26(t, declared(m)).has(t, 200).result(t); got["resultType"] == "task" {
			t.Errorf("%v is answered %v", m, got)
		}
	}
	st := e.listenTo(t, "L", k.id)
	if n := st.told(t); n["resultType"] != nil {
		t.Errorf("a notification has a resultType: %v", n)
	}
	// A handle says nothing of what there is not yet, and has no state to bring back.
	for name := range k.handle {
		if !slices.Contains([]string{"resultType", "taskId", "status", "createdAt", "lastUpdatedAt", "ttlMs", "pollIntervalMs", "_meta"}, name) {
			t.Errorf("the handle has %s: %v", name, k.handle)
		}
	}
}

func testK09(t *testing.T) {
	e := serveTasks(t)
	before := time.Now().Add(-time.Millisecond)
	k := e.begun(t, "work", obj{"key": "k"})
	if at := created(t, k.handle); at.Before(before) || at.After(time.Now()) || k.handle["lastUpdatedAt"] != k.handle["createdAt"] {
		t.Errorf("the handle is %v", k.handle)
	}
	if ttl, poll := millis(t, k.handle["ttlMs"]), millis(t, k.handle["pollIntervalMs"]); ttl != time.Hour || poll != brief {
		t.Errorf("a time to live of %v, polled every %v", ttl, poll)
	}
	e.release("k")
	if got := k.until(t, "completed"); got["createdAt"] != k.handle["createdAt"] {
		t.Errorf("created at %v, and at %v", k.handle["createdAt"], got["createdAt"])
	}
	// What is less than nothing means nothing.
	add := &mcp.Tool{Name: "odd", InputSchema: json.RawMessage(anyInput)}
	sluice.MarkTask(add, sluice.TaskOptions{Mode: sluice.TaskPrefer, TTL: -time.Second, Keep: -time.Second, PollInterval: -time.Second})
	e.srv.AddTool(add, func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) { return text("odd"), nil })
	e.begun(t, "odd", obj{}).until(t, "completed")

	synctest.Test(t, func(t *testing.T) {
		e := serveTasks(t, virtual)
		k := e.begun(t, "work", obj{"key": "k"})
		e.await(t, "k", "running")
		e.release("k")
		k.until(t, "completed")
		// It is there for all of its time.
		time.Sleep(time.Until(created(t, k.handle).Add(millis(t, k.handle["ttlMs"])).Add(-time.Millisecond)))
		if got := k.get(t); got["status"] != "completed" {
			t.Errorf("within its time it is %v", got)
		}
	})
}

func testK10(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := serveTasks(t, virtual)
		early, late := e.begun(t, "short", obj{"key": "early"}), e.begun(t, "short", obj{"key": "late"})
		e.release("early")
		if got := early.until(t, "completed"); millis(t, got["ttlMs"]) < 10*time.Second {
			t.Errorf("its end can be seen for %v, want 10s", got["ttlMs"])
		}
		time.Sleep(1900 * time.Millisecond)
		ttl := millis(t, late.get(t)["ttlMs"])
		e.release("late")
		// Its end can be seen for as long as any other.
		if got := millis(t, late.until(t, "completed")["ttlMs"]); ttl != 2*time.Second || got < 11900*time.Millisecond {
			t.Errorf("a time to live of %v, and %v at its end", ttl, got)
		}
	})
}

func testK15(t *testing.T) {
	shared := memory.New()
	t.Cleanup(func() { _ = shared.Close() })
	together := func(c *config) { c.options.Store = shared }
	a, b := serveTasks(t, together), serveTasks(t, together)
	for range 50 {
		k := a.begun(t, "rich", obj{})
		k.at(b).get(t)
		k.get(t)
	}
	// Also one that a call has become on its way.
	late := serve(t, together, func(c *config) { c.options.TaskAfter = 10 * time.Millisecond })
	k := late.begun(t, "slow", obj{"key": "k"})
	k.at(b).get(t)
	late.release("k")
	k.at(b).until(t, "completed")
}

// A slow store keeps one task, when the test lets it, whether or not anybody waits for that any more.
type slowStore struct {
	store.Store
	asked, left, gate chan struct{} // closed when it is asked, when nobody waits, and by the test
}

func newSlowStore(t *testing.T) *slowStore {
	shared := memory.New()
	t.Cleanup(func() { _ = shared.Close() })
	return &slowStore{shared, make(chan struct{}), make(chan struct{}), make(chan struct{})}
}

func (s *slowStore) Create(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	if strings.HasPrefix(key, "task:") {
		close(s.asked)
		select {
		case <-s.gate:
		case <-ctx.Done():
			close(s.left)
			<-s.gate
			ctx = context.WithoutCancel(ctx)
		}
	}
	return s.Store.Create(ctx, key, value, ttl)
}

func testK16(t *testing.T) {
	slow := newSlowStore(t)
	e := serveTasks(t, func(c *config) { c.options.Store = slow })
	x := e.begin(t, e.modern(t, declared(call(1, "work", obj{"key": "k"}))))
	<-slow.asked
	if state, _ := e.get("k"); state != "" {
		t.Errorf("the tool is %s, and nobody knows of its task", state)
	}
	_ = x.conn.SetReadDeadline(time.Now().Add(quietly))
	if _, err := x.br.Peek(1); !isTimeout(err) {
		t.Errorf("an answer before the task is kept: %v", err)
	}
	close(slow.gate)
	handle := x.reply(t).result(t)
	k := &task{env: e, id: handle["taskId"].(string)}
	k.get(t)
	e.release("k")
	k.until(t, "completed")
}

func testK17(t *testing.T) {
	for _, tool := range []string{"asks_first", "must_ask_first"} {
		e := serveTasks(t)
		first := e.send26(t, declared(call(1, tool, obj{}))).has(t, 200).result(t)
		state, _ := first["requestState"].(string)
		if asked, _ := first["inputRequests"].(obj); first["resultType"] != "input_required" || first["taskId"] != nil || len(asked) != 1 || state == "" {
			t.Fatalf("%s: the call is answered %v", tool, first)
		}
		second := declared(call(2, tool, obj{}))
		maps.Copy(second["params"].(obj), obj{"requestState": state, "inputResponses": obj{"name": named("Ann")}})
		handle := e.send26(t, second).has(t, 200).result(t)
		checkTask(t, handle)
		if handle["resultType"] != "task" {
			t.Fatalf("%s: with its answers it is answered %v", tool, handle)
		}
		got := (&task{env: e, id: handle["taskId"].(string)}).until(t, "completed")
		if said := content(t, got["result"].(obj)); said != "Hello, Ann after plain-name" {
			t.Errorf("%s: the task says %q", tool, said)
		}
		// What does not fit what was asked makes no task.
		bad := declared(call(3, tool, obj{}))
		maps.Copy(bad["params"].(obj), obj{"requestState": state, "inputResponses": obj{"name": named("Ann")["action"]}})
		e.send26(t, bad).fails(t, 400, -32602)
	}
}

func testK18(t *testing.T) {
	e := serveTasks(t)
	first := e.send26(t, declared(call(1, "asks_first", obj{"text": "rounds"}))).has(t, 200).result(t)
	second := declared(call(2, "asks_first", obj{"text": "rounds"}))
	maps.Copy(second["params"].(obj), obj{"requestState": first["requestState"], "inputResponses": obj{"name": named("early")}})
	k := &task{env: e, id: e.send26(t, second).has(t, 200).result(t)["taskId"].(string)}
	// The tool's key is the same, and yet it is asked again.
	got := k.until(t, "input_required")
	if slices.Contains(keys(got), "name") || len(keys(got)) != 1 {
		t.Errorf("the task asks by the keys %v, that of the call was name", keys(got))
	}
	k.update(t, obj{"name": named("stray")}) // that key is not the task's
	if again := k.get(t); again["status"] != "input_required" {
		t.Errorf("an answer by the call's key: %v", again)
	}
	k.update(t, obj{keys(got)[0]: named("late")})
	if said := content(t, k.until(t, "completed")["result"].(obj)); said != "late after round-2 early" {
		t.Errorf("it ends with %q", said)
	}
}

func testK65(t *testing.T) {
	e := serveTasks(t)
	for _, tool := range []string{"fails", "panics", "errs"} {
		want := e.send26(t, undeclared(call(1, tool, obj{}))).response(t)
		got := e.begun(t, tool, obj{}).until(t, "failed")
		if want.Error == nil {
			t.Fatalf("%s: a call is answered %v", tool, want)
		}
		if diff := cmp.Diff(object(t, mustJSON(t, want.Error)), got["error"]); diff != "" {
			t.Errorf("%s: the task's error is not the call's: %s", tool, diff)
		}
	}
	// What the client cannot be asked is an error of the call, and so of the task.
	want := e.send26(t, stateless(call(1, "asks", obj{}), obj{})).fails(t, 400, -32021)
	handle := e.send26(t, stateless(call(2, "asks", obj{}), obj{"extensions": obj{extension: obj{}}})).has(t, 200).result(t)
	got := (&task{env: e, id: handle["taskId"].(string)}).until(t, "failed")
	if diff := cmp.Diff(object(t, mustJSON(t, want.Error)), got["error"]); diff != "" {
		t.Errorf("a client that cannot be asked: %s", diff)
	}
	// An error before the task is one of the call: there is nothing to be a task.
	e.send26(t, declared(call(3, "no_such_tool", obj{}))).fails(t, 400, -32602)
}

func testK66(t *testing.T) {
	e := serveTasks(t)
	for _, tool := range []string{"fails", "panics", "errs"} {
		if got := e.begun(t, tool, obj{}).until(t, "failed"); got["statusMessage"] == nil || got["statusMessage"] == "" {
			t.Errorf("%s: %v", tool, got)
		}
	}
}

func testK67(t *testing.T) {
	e := serveTasks(t)
	for tool, arguments := range map[string]obj{"rich": {}, "wrong": {}, "work": {"key": "k"}} {
		if tool == "work" {
			e.release("k")
		}
		want := e.send26(t, undeclared(call(1, tool, arguments))).has(t, 200).result(t)
		got := e.begun(t, tool, arguments).until(t, "completed")
		if diff := cmp.Diff(want, got["result"]); diff != "" {
			t.Errorf("%s: the task's result is not the call's: %s", tool, diff)
		}
	}
	// However large: it does not fit into a record then.
	e.srv.AddTool(marked("big_task"), func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		return text("%s", strings.Repeat("x", 3<<20)), nil
	})
	if got := content(t, e.begun(t, "big_task", obj{}).until(t, "completed")["result"].(obj)); len(got) != 3<<20 {
		t.Errorf("%d bytes of 3 MiB came", len(got))
	}
}

// marked is a tool whose calls become tasks.
func marked(name string) *mcp.Tool {
	tool := &mcp.Tool{Name: name, InputSchema: json.RawMessage(anyInput)}
	sluice.MarkTask(tool, sluice.TaskOptions{Mode: sluice.TaskPrefer, PollInterval: brief})
	return tool
}

func testK69(t *testing.T) {
	e := serveTasks(t)
	shape := regexp.MustCompile(`^[A-Z2-7]{26}$`) // 130 bits; never taken for a flag, fit for a header
	seen := map[string]bool{}
	same := make([]map[byte]bool, 26)
	for range 64 {
		id := e.begun(t, "rich", obj{}).id
		if !shape.MatchString(id) || seen[id] {
			t.Fatalf("the ID %q, after %d others", id, len(seen))
		}
		seen[id] = true
		for i := range same {
			if same[i] == nil {
				same[i] = map[byte]bool{}
			}
			same[i][id[i]] = true
		}
	}
	for i, letters := range same {
		if len(letters) < 10 { // of 32, by 64 tries: less is no chance
			t.Errorf("letter %d of an ID is one of %d", i, len(letters))
		}
	}
}
