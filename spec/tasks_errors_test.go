package spec_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice/store"
	"github.com/sluice-mcp/sluice/store/memory"
)

// This file has the statements on errors, headers, principals, and on what the extension is not.

// three are the methods for a task, with params that would do.
func three(id any) map[string]obj {
	return map[string]obj{
		"tasks/get":    {"taskId": id},
		"tasks/update": {"taskId": id, "inputResponses": obj{}},
		"tasks/cancel": {"taskId": id},
	}
}

// unknownTo fails unless each method says of each ID that there is no such task.
func unknownTo(t *testing.T, e *env, method string) {
	t.Helper()
	k := e.begun(t, "asks", obj{})
	for _, id := range []string{"unknown", "", strings.ToLower(k.id), k.id[:25], k.id + "A", " " + k.id, "task:" + k.id, "%", strings.Repeat("X", 5000)} {
		unknown(t, e.send26(t, declared(request(1, method, three(id)[method])), without("Mcp-Name")))
	}
	for _, id := range []any{7, nil, true, obj{}, []string{k.id}} {
		e.send26(t, declared(request(2, method, three(id)[method])), without("Mcp-Name")).fails(t, 400, -32602)
	}
	params := three("")[method]
	delete(params, "taskId")
	e.send26(t, declared(request(3, method, params)), without("Mcp-Name")).fails(t, 400, -32602)
	e.send26(t, declared(request(4, method, nil)), without("Mcp-Name")).fails(t, 400, -32602)
	k.until(t, "input_required")
}

func testK41(t *testing.T) {
	e := serveTasks(t)
	unknownTo(t, e, "tasks/update")
	k := e.begun(t, "asks", obj{})
	for _, answers := range []any{nil, 7, "x", []obj{}, true} {
		k.send(t, "update", obj{"inputResponses": answers}).fails(t, 400, -32602)
	}
	e.send26(t, declared(request(1, "tasks/update", obj{"taskId": k.id}))).fails(t, 400, -32602)
}

func testK46(t *testing.T) { unknownTo(t, serveTasks(t), "tasks/cancel") }

func testK59(t *testing.T) {
	e := serveTasks(t)
	k, other := e.begun(t, "asks", obj{}), e.begun(t, "asks", obj{})
	k.until(t, "input_required")
	twice := func(r *http.Request) { r.Header.Add("Mcp-Name", k.id) }
	for method, params := range three(k.id) {
		for what, bad := range map[string]edit{
			"no Mcp-Method":     without("Mcp-Method"),
			"other Mcp-Method":  with("Mcp-Method", "tools/list"),
			"Mcp-Method case":   with("Mcp-Method", strings.ToUpper(method)),
			"other Mcp-Name":    with("Mcp-Name", other.id),
			"Mcp-Name case":     with("Mcp-Name", strings.ToLower(k.id)),
			"empty Mcp-Name":    with("Mcp-Name", ""),
			"Mcp-Name of none":  with("Mcp-Name", "unknown"),
			"Mcp-Name, encoded": with("Mcp-Name", encoded(other.id)),
			"Mcp-Name, broken":  with("Mcp-Name", "=?base64?!!!?="),
			"Mcp-Name twice":    twice,
			"other version":     with("MCP-Protocol-Version", v11),
		} {
			t.Run(method+" "+what, func(t *testing.T) {
				e.send26(t, declared(request(1, method, params)), bad).fails(t, 400, -32020)
			})
		}
	}
	if got := k.get(t); got["status"] != "input_required" {
		t.Errorf("a request that was refused made it %v", got["status"])
	}
	// The other way of writing it is as good. That it is missing is the client's fault and does no harm: official clients leave it out.
	for method, params := range three(k.id) {
		e.send26(t, declared(request(1, method, params)), with("Mcp-Name", encoded(k.id))).has(t, 200).result(t)
		e.send26(t, declared(request(1, method, params)), without("Mcp-Name")).has(t, 200).result(t)
	}
	// A call that would become a task is held to its own.
	e.send26(t, declared(call(1, "work", obj{"key": "k"})), with("Mcp-Name", "rich")).fails(t, 400, -32020)
	e.send26(t, declared(call(1, "work", obj{"key": "k"})), with("Mcp-Method", "tasks/get")).fails(t, 400, -32020)
	if state, _ := e.get("k"); state != "" {
		t.Errorf("the tool was called, and is %s", state)
	}
}

func testK60(t *testing.T) { unknownTo(t, serveTasks(t), "tasks/get") }

// A brokenStore fails when it is told to, by an error that says nothing to a client.
type brokenStore struct {
	store.Store
	mu  sync.Mutex
	err error
}

func (s *brokenStore) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

func (s *brokenStore) failing() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

func (s *brokenStore) Get(ctx context.Context, key string) ([]byte, error) {
	if err := s.failing(); err != nil {
		return nil, err
	}
	return s.Store.Get(ctx, key)
}

func (s *brokenStore) Create(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	if err := s.failing(); err != nil {
		return err
	}
	return s.Store.Create(ctx, key, value, ttl)
}

// A muteStore hands nothing on of what is told about tasks.
type muteStore struct{ store.Store }

func (s *muteStore) Publish(ctx context.Context, topic string, data []byte) (int, error) {
	if strings.HasPrefix(topic, "task:") {
		return 0, nil
	}
	return s.Store.Publish(ctx, topic, data)
}

func testK61(t *testing.T) {
	shared := memory.New()
	t.Cleanup(func() { _ = shared.Close() })
	broken := &brokenStore{Store: shared}
	e := serveTasks(t, func(c *config) { c.options.Store = broken })
	k := e.begun(t, "asks", obj{})
	k.until(t, "input_required")
	broken.fail(errors.New("secret of the store"))
	requests := []obj{declared(call(1, "must", obj{"key": "k"})), declared(call(2, "work", obj{"key": "k"}))}
	for method, params := range three(k.id) {
		requests = append(requests, declared(request(3, method, params)))
	}
	for _, m := range requests {
		if got := e.send26(t, m).fails(t, 200, -32603); strings.Contains(got.String(), "secret") {
			t.Errorf("%v is answered %v", m, got)
		}
	}
	broken.fail(nil)
	if state, _ := e.get("k"); state != "" {
		t.Errorf("the tool was called without a task, and is %s", state)
	}
	k.cancel(t)
}

func testK62(t *testing.T) {
	e := serveTasks(t)
	k := e.begun(t, "asks", obj{})
	k.until(t, "input_required")
	for _, id := range []any{k.id, "unknown", 7} {
		for method, params := range three(id) {
			requires(t, e.send26(t, undeclared(request(1, method, params))))
			requires(t, e.send26(t, stateless(request(2, method, params), obj{}), without("Mcp-Name")))
		}
	}
	if got := k.get(t); got["status"] != "input_required" {
		t.Errorf("a request that was refused made it %v", got["status"])
	}
}

func testK63(t *testing.T) {
	e := serveTasks(t)
	k := e.begun(t, "asks", obj{})
	k.until(t, "input_required")
	unknown := request(1, "tasks/get", obj{"taskId": "unknown"})
	for what, tt := range map[string]struct {
		r     *reply
		words string
	}{
		"unknown":         {e.send26(t, declared(unknown)), "no task taskId"},
		"no text":         {e.send26(t, declared(request(1, "tasks/get", obj{"taskId": 7})), without("Mcp-Name")), "taskId string"},
		"no text, header": {e.send26(t, declared(request(1, "tasks/get", obj{"taskId": 7}))), "taskId string"},
		"no answers":      {e.send26(t, declared(request(1, "tasks/update", obj{"taskId": k.id}))), "inputResponses object"},
		"a bad answer":    {k.send(t, "update", obj{"inputResponses": obj{"name.1": obj{"action": "maybe"}}}), "name action accept decline cancel"},
		"no object":       {k.send(t, "update", obj{"inputResponses": obj{"name.1": 7}}), "inputResponses object"},
		"undeclared":      {e.send26(t, undeclared(request(1, "tasks/get", obj{"taskId": "unknown"}))), extension},
		"other name":      {e.send26(t, declared(unknown), with("Mcp-Name", "other")), "Mcp-Name taskId"},
		"unknown method":  {e.send26(t, declared(request(1, "tasks/list", nil))), "tasks/list"},
		"too many":        {e.send26(t, listen(1, obj{"taskIds": make([]string, 1001)})), "taskIds 1000"},
	} {
		m := tt.r.response(t)
		for word := range strings.FieldsSeq(tt.words) {
			if m.Error == nil || !strings.Contains(m.Error.Message, word) {
				t.Errorf("%s: %v does not speak of %s", what, m, word)
			}
		}
	}
}

func testK64(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := serveTasks(t, virtual)
		all := inEachStatus(t, e)
		time.Sleep(time.Hour)
		for status, k := range all { // some have failed only now, and their end can be seen for a while
			switch status {
			case "working", "input_required":
				status = "failed"
			}
			k.until(t, status)
		}
		time.Sleep(40 * time.Minute)
		for status, k := range all {
			want := unknown(t, e.send26(t, declared(request(1, "tasks/get", obj{"taskId": "unknown"}))))
			for method, params := range three(k.id) {
				if diff := cmp.Diff(want, unknown(t, e.send26(t, declared(request(1, method, params))))); diff != "" {
					t.Errorf("%s of what was %s: %s", method, status, diff)
				}
			}
		}
	})
}

func testK68(t *testing.T) {
	e := serveTasks(t)
	type params struct{ mcp.ParamsBase }
	type result struct{ mcp.ResultBase }
	for _, method := range []string{"tasks/own", "tasks/result"} {
		if err := mcp.AddReceivingCustomMethod(e.srv, method, func(context.Context, *mcp.ServerSession, *params) (*result, error) { return &result{}, nil }); err != nil {
			t.Fatal(err)
		}
	}
	for _, method := range []string{"tasks/own", "tasks/result", "tasks/", "tasks/get/", "tasks/Get", "notifications/tasks", "tasks"} {
		e.send26(t, declared(request(1, method, obj{"taskId": "x"}))).fails(t, 404, -32601)
	}
	e.do(t, e.post(t, declared(notification("notifications/tasks", obj{"taskId": "x"})), mirror(notification("notifications/tasks", nil))...)).accepted(t)
}

func testK70(t *testing.T) {
	e := serveTasks(t)
	k := e.begun(t, "asks", obj{}) // each request is a connection of its own
	k.until(t, "input_required")
	k.at(e, with("User-Agent", "another")).update(t, obj{"name.1": named("Ann")})
	if got := k.until(t, "completed"); content(t, got["result"].(obj)) != "Hello, Ann after plain-name" {
		t.Errorf("it ends as %v", got)
	}
}

func testK71(t *testing.T) {
	e := serveTasks(t, authenticated)
	for _, people := range [][2]string{{"alice", "bob"}, {"anonymous-1", "anonymous-2"}, {"alice", "anonymous-1"}} {
		owner, other := as(people[0]), as(people[1])
		k := e.begun(t, "asks", obj{}, owner)
		k.until(t, "input_required")
		params := three(k.id)
		params["tasks/update"]["inputResponses"] = obj{"name.1": named("stolen")}
		nobody := unknown(t, e.send26(t, declared(request(1, "tasks/get", obj{"taskId": "unknown"})), other))
		for method, params := range params {
			m := declared(request(1, method, params))
			e.send26(t, m).has(t, 401)
			e.send26(t, m, as("stranger")).has(t, 401)
			// What another one is told is what would be told of none.
			if diff := cmp.Diff(nobody, unknown(t, e.send26(t, m, other))); diff != "" {
				t.Errorf("%s of another's task: %s", method, diff)
			}
		}
		if got := k.get(t); got["status"] != "input_required" || len(keys(got)) != 1 {
			t.Errorf("another one made it %v", got)
		}
		k.update(t, obj{"name.1": named("mine")})
		k.until(t, "completed")
	}
}

func testK73(t *testing.T) {
	eachVersion(t, legacy, func(t *testing.T, v string) {
		e := serveTasks(t, func(c *config) { c.options.TaskAfter = time.Millisecond })
		e.release("k")
		s := e.greet(t, v, declaring)
		e.do(t, s.post(t, notification("notifications/initialized", nil))).accepted(t)
		for _, tool := range []string{"work", "must", "rich"} {
			m := call(s.next(), tool, obj{"key": "k"})
			m["params"].(obj)["_meta"] = obj{mcp.MetaKeyClientCapabilities: declaring}
			if got := s.send(t, m).has(t, 200).result(t); got["taskId"] != nil || content(t, got) == "" {
				t.Errorf("%s is answered %v", tool, got)
			}
		}
		x := s.start(t, call(s.next(), "slow", obj{"key": "long"}))
		e.await(t, "long", "running")
		time.Sleep(20 * time.Millisecond)
		e.release("long")
		if got := x.reply(t).result(t); content(t, got) != "slow long" {
			t.Errorf("a long call is answered %v", got)
		}
	})
}

func testK74(t *testing.T) {
	e := serveTasks(t)
	k := e.begun(t, "asks", obj{})
	old := obj{"tasks": obj{"list": obj{}, "cancel": obj{}, "requests": obj{"elicitation": obj{"create": obj{}}}}}
	requires(t, e.send26(t, stateless(call(1, "must", obj{}), old)))
	for method, params := range three(k.id) {
		requires(t, e.send26(t, stateless(request(1, method, params), old)))
	}
	if got := e.send26(t, stateless(call(2, "rich", obj{}), old)).has(t, 200).result(t); got["resultType"] != "complete" {
		t.Errorf("a call is answered %v", got)
	}
}

func testK75(t *testing.T) {
	e := serveTasks(t)
	k := e.begun(t, "rich", obj{})
	eachVersion(t, legacy, func(t *testing.T, v string) {
		s := e.open(t, v)
		for _, method := range []string{"tasks/get", "tasks/cancel", "tasks/update", "tasks/result", "tasks/list"} {
			m := s.send(t, request(s.next(), method, obj{"taskId": k.id})).response(t)
			if m.Error == nil || m.Error.Code != -32601 {
				t.Errorf("%s is answered %v", method, m)
			}
		}
	})
}

func testK76(t *testing.T) {
	e := serveTasks(t)
	k := e.begun(t, "rich", obj{})
	for _, method := range []string{"tasks/result", "tasks/list"} {
		for _, m := range []obj{declared(request(1, method, obj{"taskId": k.id})), undeclared(request(2, method, nil))} {
			e.send26(t, m).fails(t, 404, -32601)
		}
	}
}

func testK77(t *testing.T) {
	e := serveTasks(t)
	e.release("k")
	for _, hint := range []any{obj{}, obj{"ttl": 60000}, obj{"ttl": "x"}, nil, 7, []any{}} {
		with := func(m obj) obj { m["params"].(obj)["task"] = hint; return m }
		if got := e.send26(t, with(declared(call(1, "echo", obj{"text": "x"})))).has(t, 200).result(t); got["resultType"] != "complete" {
			t.Errorf("task: %v: a tool without tasks is answered %v", hint, got)
		}
		if got := e.send26(t, with(undeclared(call(2, "work", obj{"key": "k"})))).has(t, 200).result(t); got["resultType"] != "complete" {
			t.Errorf("task: %v: an undeclared call is answered %v", hint, got)
		}
		requires(t, e.send26(t, with(undeclared(call(3, "must", obj{})))))
		got := e.send26(t, with(declared(call(4, "work", obj{"key": "k"})))).has(t, 200).result(t)
		if checkTask(t, got); millis(t, got["ttlMs"]) != time.Hour {
			t.Errorf("task: %v: the handle is %v", hint, got)
		}
	}
}

func testK78(t *testing.T) {
	e := serveTasks(t)
	capabilities, _ := e.extensions(t)
	if capabilities["tasks"] != nil {
		t.Errorf("server/discover says %v", capabilities)
	}
	tools := e.send26(t, request(1, "tools/list", nil)).has(t, 200).body
	for _, v := range legacy {
		if caps := e.do(t, e.post(t, initialize(1, v, declaring))).has(t, 200).result(t)["capabilities"].(obj); caps["tasks"] != nil {
			t.Errorf("%s: initialize says %v", v, caps)
		}
		s := e.open(t, v)
		tools = append(tools, s.send(t, request(s.next(), "tools/list", nil)).has(t, 200).body...)
	}
	if strings.Contains(string(tools), "taskSupport") || strings.Contains(string(tools), `"execution"`) {
		t.Error("a tool says whether it supports legacy tasks")
	}
}

// TestTaskErrors has the errors of the extension, each with its HTTP status, and which of two is told: headers, then metadata, then the
// declaration, then params, then what is there. So a client without the declaration learns nothing of a task.
func TestTaskErrors(t *testing.T) {
	t.Parallel()
	e := serveTasks(t)
	k := e.begun(t, "asks", obj{})
	k.until(t, "input_required")
	noVersion := obj{"_meta": obj{mcp.MetaKeyProtocolVersion: 7}}
	for name, tt := range map[string]struct {
		caps   obj
		method string
		params obj
		edits  []edit
		status int
		code   int
	}{
		"an unknown task":                            {declaring, "tasks/get", obj{"taskId": "unknown"}, nil, 400, -32602},
		"no task ID":                                 {declaring, "tasks/cancel", obj{}, []edit{without("Mcp-Name")}, 400, -32602},
		"no answers":                                 {declaring, "tasks/update", obj{"taskId": k.id}, nil, 400, -32602},
		"no answers for an unknown task":             {declaring, "tasks/update", obj{"taskId": "unknown"}, nil, 400, -32602},
		"undeclared":                                 {everything, "tasks/get", obj{"taskId": k.id}, nil, 400, -32021},
		"undeclared, and unknown":                    {everything, "tasks/get", obj{"taskId": "unknown"}, nil, 400, -32021},
		"undeclared, and no text":                    {everything, "tasks/get", obj{"taskId": 7}, nil, 400, -32021},
		"undeclared, and nothing":                    {everything, "tasks/get", obj{}, []edit{without("Mcp-Name")}, 400, -32021},
		"undeclared, and no answers":                 {everything, "tasks/update", obj{"taskId": k.id, "inputResponses": 7}, nil, 400, -32021},
		"undeclared, and no list":                    {everything, "subscriptions/listen", obj{"notifications": obj{"taskIds": 7}}, nil, 400, -32021},
		"undeclared, with another's header":          {everything, "tasks/get", obj{"taskId": k.id}, []edit{with("Mcp-Name", "other")}, 400, -32020},
		"undeclared, with another method":            {everything, "tasks/get", obj{"taskId": k.id}, []edit{with("Mcp-Method", "tasks/cancel")}, 400, -32020},
		"unknown, with another's header":             {declaring, "tasks/get", obj{"taskId": "unknown"}, []edit{with("Mcp-Name", "other")}, 400, -32020},
		"undeclared, and metadata that is no good":   {everything, "tasks/get", merge(obj{"taskId": k.id}, noVersion), nil, 400, -32602},
		"capabilities that are none":                 {nil, "tasks/get", obj{"taskId": k.id, "_meta": obj{mcp.MetaKeyClientCapabilities: 7}}, nil, 400, -32602},
		"an unknown method, undeclared":              {everything, "tasks/result", obj{"taskId": k.id}, nil, 404, -32601},
		"an unknown method, declared":                {declaring, "tasks/list", obj{}, nil, 404, -32601},
		"a tool that needs a task":                   {everything, "tools/call", obj{"name": "must"}, nil, 400, -32021},
		"a tool that needs a task, by its arguments": {everything, "tools/call", obj{"name": "must", "arguments": 7}, nil, 400, -32602},
		"a tool that needs a task, by its header":    {everything, "tools/call", obj{"name": "must"}, []edit{with("Mcp-Name", "work")}, 400, -32020},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			params := obj{}
			maps.Copy(params, tt.params)
			e.send26(t, stateless(request(1, tt.method, params), tt.caps), tt.edits...).fails(t, tt.status, tt.code)
		})
	}
	t.Run("tasks are off", func(t *testing.T) {
		t.Parallel()
		off := serveTasks(t, func(c *config) { c.options.NoTasks = true })
		for method, params := range three("x") {
			off.send26(t, declared(request(1, method, params))).fails(t, 404, -32601)
			off.send26(t, undeclared(request(1, method, params))).fails(t, 404, -32601)
		}
	})
	t.Run("no tasks to be had for a listener", func(t *testing.T) {
		t.Parallel()
		shared := memory.New()
		t.Cleanup(func() { _ = shared.Close() })
		broken := &brokenStore{Store: shared}
		e := serveTasks(t, func(c *config) { c.options.Store = broken })
		k := e.begun(t, "asks", obj{})
		k.until(t, "input_required")
		broken.fail(errors.New("the disk is full"))
		e.send26(t, listen(1, obj{"taskIds": []string{k.id}})).fails(t, 200, -32603)
		broken.fail(nil)
		if got := e.listenTo(t, "L", k.id).told(t); got["status"] != "input_required" {
			t.Errorf("told %v", got)
		}
	})
	t.Run("busy", func(t *testing.T) {
		t.Parallel()
		busy := func(r *reply, status int) {
			t.Helper()
			r.fails(t, status, -31010)
			if r.stream == nil && r.header.Get("Retry-After") == "" {
				t.Error("it does not say when to come back")
			}
		}
		full := serveTasks(t, authenticated, func(c *config) { c.options.MaxTasks, c.options.MaxTasksPerPrincipal = 2, 1 })
		for i, user := range []string{"alice", "bob"} {
			full.begun(t, "work", obj{"key": fmt.Sprint(i)}, as(user))
			if user == "alice" {
				busy(full.send26(t, declared(call(1, "work", obj{"key": "k"})), as(user)), 429)
			}
		}
		busy(full.send26(t, declared(call(1, "must", obj{"key": "k"})), as("anonymous-1")), 503)
		if state, _ := full.get("k"); state != "" {
			t.Errorf("a call that was refused is %s", state)
		}

		shared := memory.New()
		t.Cleanup(func() { _ = shared.Close() })
		broken := &brokenStore{Store: shared}
		e := serveTasks(t, func(c *config) { c.options.Store = broken })
		k := e.begun(t, "asks", obj{})
		k.until(t, "input_required")
		broken.fail(store.ErrUnavailable)
		for method, params := range three(k.id) {
			busy(e.send26(t, declared(request(1, method, params))), 503)
		}
		busy(e.send26(t, declared(call(1, "must", obj{}))), 503)
		busy(e.send26(t, listen(1, obj{"taskIds": []string{k.id}})), 503)
		broken.fail(nil)
		if err := e.h.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		busy(e.send26(t, declared(request(1, "tasks/get", three(k.id)["tasks/get"]))), 503)
	})
}
