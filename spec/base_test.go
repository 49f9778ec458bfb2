package spec_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

var base = []statement{
	{ID: "L-01", Revisions: "all", Level: "MUST", Text: "Messages are JSON-RPC 2.0 in UTF-8; others are refused", Test: testL01},
	{ID: "L-02", Revisions: "all", Level: "MUST", Text: "An ID is a string or an integer and comes back as it was", Test: testL02},
	{ID: "L-03", Revisions: "all", Level: "MUST NOT", Text: "An ID in flight is used again; responses are never mixed", Test: testL03},
	{ID: "L-04", Revisions: "all", Level: "MUST", Text: "An error has an integer code, a message and the request's ID", Test: testL04},
	{ID: "L-05", Revisions: "all", Level: "MUST NOT", Text: "A notification is answered", Test: testL05},
	{ID: "L-06", Revisions: "24 03 06 11", Level: "MUST", Text: "initialize comes first and gives capabilities and identity", Test: testL06},
	{ID: "L-07", Revisions: "24 03 06 11", Level: "MUST", Text: "A supported version is kept, another answered with the latest", Test: testL07},
	{ID: "L-08", Revisions: "24 03 06 11", Level: "SHOULD NOT", Text: "The server asks anything before `initialized`", Test: testL08},
	{ID: "L-09", Revisions: "24 03 06 11", Level: "MUST", Text: "Only negotiated capabilities are used", Test: testL09},
	{ID: "L-10", Revisions: "24 03 06 11", Level: "(robust)", Text: "initialize without params is refused; another one opens another session, whatever session it names", Test: testL10},
	{ID: "L-11", Revisions: "24 03 06 11", Level: "MUST", Text: "ping is answered promptly with {}", Test: testL11},
	{ID: "L-12", Revisions: "26", Level: "MUST", Text: "A missing required `_meta` field is -32602; clientInfo is optional", Test: testL12},
	{ID: "L-13", Revisions: "26", Level: "MUST", Text: "`_meta` fields of a wrong type are invalid params", Test: testL13},
	{ID: "L-14", Revisions: "26", Level: "MUST", Text: "Needing an undeclared capability is -32021 with the required ones", Test: testL14},
	{ID: "L-15", Revisions: "26", Level: "MUST", Text: "server/discover is there and tells the truth", Test: testL15},
	{ID: "L-16", Revisions: "26", Level: "MUST", Text: "Every result has a resultType", Test: testL16},
	{ID: "L-17", Revisions: "26", Level: "SHOULD", Text: "Every result names the server in `_meta`", Test: testL17},
	{ID: "L-18", Revisions: "26", Level: "MUST NOT", Text: "Anything is kept from earlier requests on the connection", Test: testL18},
	{ID: "L-19", Revisions: "26", Level: "MUST", Text: "Cacheable results have ttlMs ≥ 0 and one cacheScope on all pages; input requests have none", Test: testL19},
	{ID: "L-20", Revisions: "26", Level: "MUST", Text: "A requestState that was changed, or belongs to another user, request or time, is rejected", Test: testL20},
	{ID: "L-21", Revisions: "26", Level: "MUST", Text: "An InputRequiredResult has requests or state, and answers only calls, prompts and reads", Test: testL21},
	{ID: "L-22", Revisions: "26", Level: "SHOULD", Text: "Input responses are validated, also against the schema that was asked", Test: testL22},
	{ID: "L-23", Revisions: "26", Level: "MUST", Text: "subscriptions/listen acknowledges first, tags everything, and sends only what was asked", Test: testL23},
	{ID: "L-24", Revisions: "26", Level: "MUST", Text: "Two subscriptions are apart, also with the same ID", Test: testL24},
	{ID: "L-25", Revisions: "26", Level: "SHOULD/MUST", Text: "A subscription that the server ends gets its final response", Test: testL25},
	{ID: "L-26", Revisions: "26", Level: "MUST NOT", Text: "Log messages come without a logLevel; an unknown level is -32602", Test: testL26},
	{ID: "L-27", Revisions: "26", Level: "SHOULD", Text: "tools/list has one order, whatever the connection", Test: testL27},
	{ID: "L-28", Revisions: "all", Level: "SHOULD/MUST", Text: "An unknown resource is -32002 in the old era, -32602 in the new", Test: testL28},
	{ID: "L-29", Revisions: "all", Level: "SHOULD", Text: "An invalid cursor is -32602", Test: testL29},
	{ID: "L-30", Revisions: "all", Level: "MUST", Text: "Tool inputs are validated; an unknown tool is -32602", Test: testL30},
}

func testL01(t *testing.T) {
	bad := map[string]struct {
		body string
		code int
	}{
		"no version":     {`{"id":1,"method":"ping"}`, -32600},
		"version 1.0":    {`{"jsonrpc":"1.0","id":1,"method":"ping"}`, -32600},
		"version number": {`{"jsonrpc":2.0,"id":1,"method":"ping"}`, -32600},
		"invalid UTF-8":  {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\",\"params\":{\"x\":\"\xff\xfe\"}}", -32700},
		"UTF-16":         {"\xff\xfe{\x00}\x00", -32700},
		"byte order":     {"\xef\xbb\xbf" + `{"jsonrpc":"2.0","id":1,"method":"ping"}`, -32700},
		"trailing":       {`{"jsonrpc":"2.0","id":1,"method":"ping"} x`, -32700},
		"two messages":   {`{"jsonrpc":"2.0","id":1,"method":"ping"}{"jsonrpc":"2.0","id":2,"method":"ping"}`, -32700},
		"nothing":        {``, -32700},
		"null":           {`null`, -32600},
		"text":           {`"ping"`, -32600},
	}
	s := serve(t).open(t, v11)
	for name, tt := range bad {
		t.Run(name, func(t *testing.T) { s.send(t, tt.body).fails(t, 400, tt.code) })
	}
	t.Run("texts survive", func(t *testing.T) {
		for _, text := range []string{"Grüezi 世界 \U0001f600", "\u0000\u001f\u2028", `</script>&"\`} {
			if got := s.run(t, "echo", obj{"text": text}); got != text {
				t.Errorf("%q came back as %q", text, got)
			}
		}
	})
}

func testL02(t *testing.T) {
	e := serve(t)
	s := e.open(t, v11)
	send := map[string]func(id string) *reply{
		v11: func(id string) *reply {
			return s.send(t, fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"method":"tools/list"}`, id))
		},
		v26: func(id string) *reply { return e.send26(t, request(json.RawMessage(id), "tools/list", nil)) },
	}
	for v, send := range send {
		for _, id := range []string{`0`, `-5`, `9007199254740993`, `9223372036854775807`, `""`, `"a"`, `"1"`, `"ü\n"`} {
			if m := send(id).has(t, 200).response(t); !sameJSON(m.ID, id) || m.Error != nil {
				t.Errorf("%s: ID %s came back as %v", v, id, m)
			}
		}
		for _, id := range []string{`null`, `1.5`, `{}`, `[]`, `true`, `[1]`} {
			if m := send(id).fails(t, 400, -32600); m.ID != nil && string(m.ID) != "null" {
				t.Errorf("%s: error for ID %s carries %s", v, id, m.ID)
			}
		}
		// Not decided by the specification: refused, or as it was.
		for _, id := range []string{`1e300`, `1.0`, `123456789012345678901234567890`} {
			r := send(id).has(t, 200, 400)
			if m := r.response(t); r.status == 200 && string(m.ID) != id {
				t.Errorf("%s: ID %s came back as %s", v, id, m.ID)
			}
		}
	}
}

// sameJSON compares strings by value and numbers by their digits.
func sameJSON(got json.RawMessage, want string) bool {
	var a, b string
	if json.Unmarshal(got, &a) == nil && json.Unmarshal([]byte(want), &b) == nil {
		return a == b
	}
	return string(got) == want
}

func testL03(t *testing.T) {
	eachVersion(t, legacy, func(t *testing.T, v string) {
		s := serve(t).open(t, v)
		x := s.start(t, call(7, "slow", obj{"key": "k"}))
		s.await(t, "k", "running")
		for _, m := range []obj{request(7, "ping", nil), call(7, "echo", obj{"text": "x"})} {
			if got := s.send(t, m).has(t, 200, 400).response(t); got.Error == nil || got.Error.Code != -32600 {
				t.Errorf("the second 7 was answered %v, want -32600", got)
			}
		}
		s.send(t, request("7", "ping", nil)).result(t) // another ID
		s.release("k")
		if got := content(t, x.reply(t).result(t)); got != "slow k" {
			t.Errorf("the first 7 was answered %q", got)
		}
		s.send(t, request(7, "ping", nil)).result(t) // free again
	})
}

func testL04(t *testing.T) {
	e := serve(t)
	s := e.open(t, v11)
	for _, m := range []obj{
		request("x", "no/such", nil), request("x", "tools/call", obj{"name": "nope"}), request("x", "tools/call", nil),
		request("x", "resources/read", obj{"uri": "test://none"}), request("x", "prompts/get", obj{"name": "nope"}),
		request("x", "tools/list", obj{"cursor": "garbage"}), request("x", "logging/setLevel", obj{"level": "loud"}),
		request("x", "completion/complete", obj{}), call("x", "fail_late", obj{}),
	} {
		for v, r := range map[string]*reply{v11: s.send(t, m), v26: e.send26(t, merge(m, obj{"params": merge(m["params"], nil)}))} {
			got := r.response(t)
			if got.Error == nil || got.Error.Code == 0 || got.Error.Message == "" || string(got.ID) != `"x"` {
				t.Errorf("%s %v: got %v, want an error with code, message and ID", v, m, got)
			}
		}
	}
	// Where the ID cannot be read there is none.
	for _, body := range []string{`{`, `{"jsonrpc":"2.0","id":{},"method":"ping"}`, `[]`} {
		if m := s.send(t, body).has(t, 400).response(t); m.ID != nil && string(m.ID) != "null" {
			t.Errorf("%s: error carries ID %s", body, m.ID)
		}
	}
}

func testL05(t *testing.T) {
	eachVersion(t, legacy, func(t *testing.T, v string) {
		s := serve(t).open(t, v)
		get := s.listen(t, "")
		for _, method := range []string{"notifications/no/such", "notifications/progress", "notifications/roots/list_changed"} {
			s.send(t, notification(method, obj{"progressToken": 1, "progress": 1})).accepted(t)
		}
		get.quiet(t, "notifications have no answer")
	})
	t.Run(v26, func(t *testing.T) {
		e := serve(t)
		n := notification("notifications/no/such", nil)
		e.do(t, e.post(t, n, mirror(n)...)).accepted(t)
	})
}

func testL06(t *testing.T) {
	eachVersion(t, legacy, func(t *testing.T, v string) {
		e := serve(t)
		got := e.do(t, e.post(t, initialize("i", v, everything))).has(t, 200).result(t)
		caps, _ := got["capabilities"].(obj)
		for _, name := range []string{"tools", "prompts", "resources", "completions", "logging"} {
			if caps[name] == nil {
				t.Errorf("capability %s is missing in %v", name, caps)
			}
		}
		info, _ := got["serverInfo"].(obj)
		if info["name"] != "spec" || info["version"] != "v1" || got["instructions"] != "Tools for the statements." {
			t.Errorf("server introduces itself as %v", got)
		}
		for _, method := range []string{"tools/list", "tools/call"} { // not first
			e.do(t, e.post(t, request(1, method, nil))).fails(t, 400, -32600)
		}
	})
}

func testL07(t *testing.T) {
	e := serve(t)
	for asked, want := range map[string]string{
		v24: v24, v03: v03, v06: v06, v11: v11, v26: v11, "1999-01-01": v11, "2099-01-01": v11, "garbage": v11, "": v11,
	} {
		if got := e.do(t, e.post(t, initialize(1, asked, obj{}))).has(t, 200).result(t)["protocolVersion"]; got != want {
			t.Errorf("asked for %q, got %v, want %s", asked, got, want)
		}
	}
}

func testL08(t *testing.T) {
	eachVersion(t, legacy, func(t *testing.T, v string) {
		s := serve(t).greet(t, v, everything)
		get := s.listen(t, "")
		for _, tool := range []string{"elicit", "sample", "roots"} {
			x := s.start(t, call(s.next(), tool, obj{"key": tool}))
			// It is refused, or waits for the client; then the wait is the proof.
			_ = x.conn.SetReadDeadline(time.Now().Add(quietly))
			if _, err := x.br.Peek(1); err != nil && isTimeout(err) {
				continue
			}
			r := x.reply(t)
			if r.stream == nil {
				continue
			}
			for {
				ev, err := r.stream.poll(quietly)
				if err != nil {
					break
				}
				if ev.data != "" {
					if m := decode(t, []byte(ev.data)); m.isRequest() {
						t.Errorf("%s before initialized", m.Method)
					}
				}
			}
		}
		get.quiet(t, "the server must not ask before it may")
	})
}

func testL09(t *testing.T) {
	eachVersion(t, legacy, func(t *testing.T, v string) {
		s := serve(t).greet(t, v, obj{})
		s.send(t, notification("notifications/initialized", nil)).accepted(t)
		get := s.listen(t, "")
		for _, tool := range []string{"elicit", "sample", "roots", "ask"} {
			for _, m := range s.send(t, call(s.next(), tool, obj{"key": tool})).messages(t) {
				if m.isRequest() {
					t.Errorf("%s: the server asks a client that cannot: %v", tool, m)
				}
				if m.isResponse() && m.Error == nil && !isError(m.object(t)) {
					t.Errorf("%s: answered %v, want an error", tool, m)
				}
			}
		}
		get.quiet(t, "nor on another stream")
	})
}

func testL10(t *testing.T) {
	eachVersion(t, legacy, func(t *testing.T, v string) {
		e := serve(t)
		for _, params := range []any{nil, obj{}, obj{"protocolVersion": 5}, []int{}, obj{"protocolVersion": v, "capabilities": 1}} {
			r := e.do(t, e.post(t, request(1, "initialize", params))).has(t, 200, 400)
			if m := r.response(t); m.Error == nil || m.Error.Code != -32602 && m.Error.Code != -32600 {
				t.Errorf("initialize with %v was answered %v", params, m)
			}
			if id := r.header.Get("Mcp-Session-Id"); id != "" {
				t.Errorf("initialize with %v made session %s", params, id)
			}
		}
		s := e.open(t, v)
		stale := e.open(t, v)
		stale.delete(t).has(t, 200, 204)
		for name, header := range map[string][]string{
			"empty":    {""},
			"stale":    {stale.id},
			"unknown":  {"none"},
			"overlong": {strings.Repeat("x", 5000)},
			"not text": {"\xff\x80"},
			"several":  {s.id, stale.id},
			"its own":  {s.id},
		} {
			r := s.send(t, initialize(9, v, obj{}), func(r *http.Request) { r.Header["Mcp-Session-Id"] = header }).has(t, 200)
			fresh := r.header.Get("Mcp-Session-Id")
			if fresh == "" || fresh == s.id || fresh == stale.id || r.result(t)["protocolVersion"] != v {
				t.Errorf("%s: initialize was answered %v in session %q", name, r.response(t), fresh)
			}
			other := &session{env: e, id: fresh, version: v}
			other.send(t, notification("notifications/initialized", nil)).accepted(t)
			if got := other.run(t, "whoami", obj{}); strings.Contains(got, "elicitation=true") {
				t.Errorf("%s: the new session is another's: %s", name, got)
			}
		}
		if got := s.run(t, "whoami", obj{}); !strings.Contains(got, "elicitation=true") {
			t.Errorf("another initialize changed the session: %s", got)
		}
	})
}

func testL11(t *testing.T) {
	eachVersion(t, legacy, func(t *testing.T, v string) {
		s := serve(t).open(t, v)
		x := s.start(t, call(1, "slow", obj{"key": "k"}))
		s.await(t, "k", "running")
		if got := s.send(t, request(2, "ping", nil)).result(t); len(got) != 0 {
			t.Errorf("ping was answered %v, want {}", got)
		}
		s.release("k")
		x.reply(t).result(t)
		// Also before initialized.
		s.greet(t, v, obj{}).send(t, request(3, "ping", nil)).result(t)
	})
}

func testL12(t *testing.T) {
	e := serve(t)
	for _, method := range []string{"server/discover", "tools/list", "resources/list"} {
		drop := func(key string) *http26 {
			m := stateless(request(1, method, nil), everything)
			delete(meta(m), key)
			return &http26{e, m}
		}
		drop(mcp.MetaKeyClientCapabilities).send(t).fails(t, 400, -32602)
		drop(mcp.MetaKeyClientInfo).send(t).has(t, 200).result(t)
		// Without the version the header has nothing to match: both codes name the fault.
		if m := drop(mcp.MetaKeyProtocolVersion).send(t).has(t, 400).response(t); m.Error == nil || m.Error.Code != -32602 && m.Error.Code != -32020 {
			t.Errorf("%s without a version was answered %v", method, m)
		}
		none := request(1, method, nil)
		if m := (&http26{e, none}).send(t).has(t, 400).response(t); m.Error == nil || m.Error.Code != -32602 && m.Error.Code != -32020 {
			t.Errorf("%s without params was answered %v", method, m)
		}
	}
}

// http26 is a request of 2026-07-28 whose body goes out exactly as it is.
type http26 struct {
	*env
	m obj
}

func (h *http26) send(t *testing.T, edits ...edit) *reply {
	t.Helper()
	return h.do(t, h.post(t, h.m, append(mirror(h.m), edits...)...))
}

func testL13(t *testing.T) {
	e := serve(t)
	for key, values := range map[string][]any{
		mcp.MetaKeyClientCapabilities: {"all", 5, []int{1}, true, nil, obj{"elicitation": 5}},
		mcp.MetaKeyClientInfo:         {"me", 5, []int{1}, true, obj{"name": 5}},
		mcp.MetaKeyLogLevel:           {5, obj{}, []string{"info"}},
	} {
		for _, value := range values {
			m := request(1, "tools/list", obj{"_meta": obj{key: value}})
			if got := e.send26(t, m).fails(t, 400, -32602); string(got.ID) != "1" {
				t.Errorf("%s = %v: ID is %s", key, value, got.ID)
			}
		}
	}
	for _, value := range []any{5, obj{}, []string{v26}, true} {
		m := request(1, "tools/list", obj{"_meta": obj{mcp.MetaKeyProtocolVersion: value}})
		if got := e.send26(t, m).has(t, 400).response(t); got.Error == nil || got.Error.Code != -32602 && got.Error.Code != -32020 {
			t.Errorf("version %v was answered %v", value, got)
		}
	}
	for _, params := range []any{5, "x", []int{1}, obj{"_meta": 5}, obj{"_meta": []int{}}} {
		m := request(1, "tools/list", params)
		if got := (&http26{e, m}).send(t).has(t, 400).response(t); got.Error == nil {
			t.Errorf("params %v were answered %v", params, got)
		}
	}
}

func testL14(t *testing.T) {
	e := serve(t)
	for kind, capability := range map[string]string{"elicit": "elicitation", "sample": "sampling", "roots": "roots"} {
		m := stateless(call(1, "ask", obj{"text": kind}), obj{})
		got := e.send26(t, m).fails(t, 400, -32021)
		data := object(t, got.Error.Data)
		if required, _ := data["requiredCapabilities"].(obj); required[capability] == nil {
			t.Errorf("%s: data is %s, want %s in requiredCapabilities", kind, got.Error.Data, capability)
		}
		// Another capability does not help, the right one does.
		other := map[string]string{"elicit": "sampling", "sample": "roots", "roots": "elicitation"}[kind]
		e.send26(t, stateless(call(2, "ask", obj{"text": kind}), obj{other: obj{}})).fails(t, 400, -32021)
		if got := e.send26(t, stateless(call(3, "ask", obj{"text": kind}), obj{capability: obj{}})).has(t, 200).result(t); got["resultType"] != "input_required" {
			t.Errorf("%s: got %v", kind, got)
		}
	}
	for _, m := range []obj{request(4, "prompts/get", obj{"name": "ask_prompt"}), request(5, "resources/read", obj{"uri": "test://ask"})} {
		e.send26(t, stateless(m, obj{})).fails(t, 400, -32021)
	}
	// Elicitation by URL only is not elicitation by form.
	e.send26(t, stateless(call(6, "ask", obj{"text": "elicit"}), obj{"elicitation": obj{"url": obj{}}})).fails(t, 400, -32021)
}

func testL15(t *testing.T) {
	e := serve(t)
	got := e.send26(t, request("d", "server/discover", nil)).has(t, 200).result(t)
	versions, _ := got["supportedVersions"].([]any)
	var list []string
	for _, v := range versions {
		list = append(list, fmt.Sprint(v))
	}
	slices.Sort(list)
	want := slices.Sorted(slices.Values(newest))
	if diff := cmp.Diff(want, list); diff != "" {
		t.Errorf("supportedVersions (-want +got):\n%s", diff)
	}
	caps, _ := got["capabilities"].(obj)
	for name, method := range map[string]string{"tools": "tools/list", "prompts": "prompts/list", "resources": "resources/list"} {
		if caps[name] == nil {
			t.Errorf("capability %s is missing in %v", name, caps)
		}
		e.send26(t, request(1, method, nil)).has(t, 200).result(t)
	}
	if caps["completions"] == nil {
		t.Errorf("completions are not declared in %v", caps)
	}
	if got["instructions"] != "Tools for the statements." {
		t.Errorf("instructions are %v", got["instructions"])
	}
	// A server with less says less.
	bare := serve(t, func(c *config) {
		c.server = func(o *mcp.ServerOptions) {
			o.CompletionHandler, o.SubscribeHandler, o.UnsubscribeHandler = nil, nil, nil
		}
	})
	caps, _ = bare.send26(t, request(2, "server/discover", nil)).result(t)["capabilities"].(obj)
	if resources, _ := caps["resources"].(obj); caps["completions"] != nil || resources["subscribe"] == true {
		t.Errorf("capabilities claim what the server has not: %v", caps)
	}
}

// everyResult has a request for every method that gives a result, by name.
func everyResult() map[string]obj {
	return map[string]obj{
		"server/discover":          request(1, "server/discover", nil),
		"tools/list":               request(2, "tools/list", nil),
		"tools/call":               call(3, "echo", obj{"text": "x"}),
		"tools/call error":         call(4, "add", obj{"a": "x"}),
		"tools/call streamed":      tokened(call(5, "steps", obj{"n": 1}), 1),
		"tools/call asking":        call(6, "ask", obj{}),
		"prompts/list":             request(7, "prompts/list", nil),
		"prompts/get":              request(8, "prompts/get", obj{"name": "greet", "arguments": obj{"name": "Ann"}}),
		"prompts/get asking":       request(9, "prompts/get", obj{"name": "ask_prompt"}),
		"resources/list":           request(10, "resources/list", nil),
		"resources/templates/list": request(11, "resources/templates/list", nil),
		"resources/read":           request(12, "resources/read", obj{"uri": "test://item/01"}),
		"resources/read template":  request(13, "resources/read", obj{"uri": "test://thing/5"}),
		"resources/read asking":    request(14, "resources/read", obj{"uri": "test://ask"}),
		"completion/complete": request(15, "completion/complete", obj{
			"ref": obj{"type": "ref/prompt", "name": "greet"}, "argument": obj{"name": "name", "value": "A"},
		}),
	}
}

func testL16(t *testing.T) {
	e := serve(t)
	s := e.open(t, v11)
	for name, m := range everyResult() {
		want := "complete"
		if strings.HasSuffix(name, "asking") {
			want = "input_required"
		}
		if got := e.send26(t, m).has(t, 200).result(t)["resultType"]; got != want {
			t.Errorf("%s: resultType is %v, want %s", name, got, want)
		}
		// The old era has no such field.
		if m := everyResult()[name]; want == "complete" && name != "server/discover" {
			if got, ok := s.send(t, m).has(t, 200).result(t)["resultType"]; ok {
				t.Errorf("%s in a session: resultType is %v", name, got)
			}
		}
	}
}

func testL17(t *testing.T) {
	e := serve(t)
	for name, m := range everyResult() {
		meta, _ := e.send26(t, m).has(t, 200).result(t)["_meta"].(obj)
		if info, _ := meta[mcp.MetaKeyServerInfo].(obj); info["name"] != "spec" || info["version"] != "v1" {
			t.Errorf("%s: _meta is %v", name, meta)
		}
	}
}

func testL18(t *testing.T) {
	e := serve(t, authenticated)
	l := e.dial(t) // one connection for all
	for i := range 6 {
		name, user, caps, can := "first", "alice", obj{"elicitation": obj{}}, true
		if i%2 == 1 {
			name, user, caps, can = "second", "bob", obj{}, false
		}
		m := call(1, "whoami", obj{})
		m["params"].(obj)["_meta"] = obj{mcp.MetaKeyClientInfo: obj{"name": name, "version": "1"}}
		got := content(t, l.begin(t, e.modern(t, stateless(m, caps), as(user))).reply(t).result(t))
		if want := fmt.Sprintf("%s elicitation=%t version=%s user=%s", name, can, v26, user); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	m := call(1, "whoami", obj{})
	m = stateless(m, obj{})
	delete(meta(m), mcp.MetaKeyClientCapabilities)
	l.begin(t, e.post(t, m, append(mirror(m), as("alice"))...)).reply(t).fails(t, 400, -32602)
}

func testL19(t *testing.T) {
	e := serve(t)
	check := func(name string, result obj) (scope any) {
		t.Helper()
		if ttl, err := strconv.ParseUint(fmt.Sprint(result["ttlMs"]), 10, 64); err != nil || ttl >= 1<<53 {
			t.Errorf("%s: ttlMs is %v", name, result["ttlMs"])
		}
		if scope = result["cacheScope"]; scope != "public" && scope != "private" {
			t.Errorf("%s: cacheScope is %v", name, scope)
		}
		return scope
	}
	for name, m := range everyResult() {
		result := e.send26(t, m).has(t, 200).result(t)
		switch {
		case strings.HasSuffix(name, "asking"), strings.HasPrefix(name, "tools/call"), strings.HasPrefix(name, "prompts/get"), strings.HasPrefix(name, "completion"):
			if result["ttlMs"] != nil || result["cacheScope"] != nil {
				t.Errorf("%s: result that cannot be kept has caching hints: %v", name, result)
			}
		default:
			check(name, result)
		}
	}
	for _, method := range []string{"tools/list", "resources/list"} {
		var cursor any
		var scopes []any
		for page := 0; page == 0 || cursor != nil; page++ {
			params := obj{}
			if cursor != nil {
				params["cursor"] = cursor
			}
			result := e.send26(t, request(1, method, params)).has(t, 200).result(t)
			scopes = append(scopes, check(method, result))
			cursor = result["nextCursor"]
		}
		if len(scopes) < 2 || len(slices.Compact(scopes)) != 1 {
			t.Errorf("%s: scopes of the pages are %v, want several that are the same", method, scopes)
		}
	}
	// Behind authorization nothing is public.
	private := serve(t, authenticated)
	for _, name := range []string{"server/discover", "tools/list", "resources/read"} {
		if scope := check(name, private.send26(t, everyResult()[name], as("alice")).has(t, 200).result(t)); scope != "private" {
			t.Errorf("%s of a user: cacheScope is %v", name, scope)
		}
	}
}

// round is a call of a tool that asks, with the client's answers and the state of the round before.
func round(id int, tool, kind string, responses obj, state any) obj {
	m := call(id, tool, obj{"text": kind})
	params := m["params"].(obj)
	if responses != nil {
		params["inputResponses"] = responses
	}
	if state != nil {
		params["requestState"] = state
	}
	return m
}

var ann = obj{"name": obj{"action": "accept", "content": obj{"name": "Ann"}}}

func testL20(t *testing.T) {
	e := serve(t, authenticated)
	asked := e.send26(t, round(1, "ask", "elicit", nil, nil), as("alice")).has(t, 200).result(t)
	state, _ := asked["requestState"].(string)
	if state == "" || strings.Contains(state, "plain") {
		t.Fatalf("requestState is %q, want something sealed", state)
	}
	t.Run("good", func(t *testing.T) {
		if got := content(t, e.send26(t, round(2, "ask", "elicit", ann, state), as("alice")).has(t, 200).result(t)); got != "Hello, Ann after plain-name" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("changed", func(t *testing.T) {
		for i := 0; i < len(state); i += 7 {
			b := []byte(state)
			if b[i] == 'A' {
				b[i] = 'B'
			} else {
				b[i] = 'A'
			}
			e.send26(t, round(3, "ask", "elicit", ann, string(b)), as("alice")).fails(t, 400, -32602)
		}
		for _, s := range []string{"plain-name", "x", state + "A", state[:len(state)-1], state[1:], strings.Repeat("A", 100_000)} {
			e.send26(t, round(4, "ask", "elicit", ann, s), as("alice")).fails(t, 400, -32602)
		}
	})
	t.Run("other user", func(t *testing.T) {
		e.send26(t, round(5, "ask", "elicit", ann, state), as("bob")).fails(t, 400, -32602)
	})
	t.Run("other tool", func(t *testing.T) {
		e.send26(t, round(6, "ask_other", "elicit", ann, state), as("alice")).fails(t, 400, -32602)
	})
	t.Run("other arguments", func(t *testing.T) {
		e.send26(t, round(7, "ask", "rounds", ann, state), as("alice")).fails(t, 400, -32602)
	})
	t.Run("same arguments in another order", func(t *testing.T) {
		first := round(9, "ask", "elicit", nil, nil)
		first["params"].(obj)["arguments"] = json.RawMessage(`{"n":1,"text":"elicit"}`)
		state := e.send26(t, first, as("alice")).has(t, 200).result(t)["requestState"]
		second := round(10, "ask", "elicit", ann, state)
		second["params"].(obj)["arguments"] = json.RawMessage(`{ "text":"elicit", "n":1 }`)
		e.send26(t, second, as("alice")).has(t, 200).result(t)
	})
	t.Run("other method", func(t *testing.T) {
		m := request(11, "prompts/get", obj{"name": "ask_prompt", "inputResponses": ann, "requestState": state})
		e.send26(t, m, as("alice")).fails(t, 400, -32602)
	})
	t.Run("late", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			e := serve(t, virtual)
			state := e.send26(t, round(1, "ask", "elicit", nil, nil)).has(t, 200).result(t)["requestState"]
			time.Sleep(time.Minute) // a person needs some time
			e.send26(t, round(2, "ask", "elicit", ann, state)).has(t, 200).result(t)
			time.Sleep(25 * time.Hour)
			e.send26(t, round(3, "ask", "elicit", ann, state)).fails(t, 400, -32602)
		})
	})
	t.Run("keys rotate", func(t *testing.T) {
		key := func(b byte) []byte { return []byte(strings.Repeat(string(rune(b)), 32)) }
		one := serve(t, func(c *config) { c.options.StateKeys = [][]byte{key('a')} })
		two := serve(t, func(c *config) { c.options.StateKeys = [][]byte{key('b'), key('a')} })
		three := serve(t, func(c *config) { c.options.StateKeys = [][]byte{key('b')} })
		state := one.send26(t, round(1, "ask", "elicit", nil, nil)).has(t, 200).result(t)["requestState"]
		two.send26(t, round(2, "ask", "elicit", ann, state)).has(t, 200).result(t)
		three.send26(t, round(3, "ask", "elicit", ann, state)).fails(t, 400, -32602)
	})
}

func testL21(t *testing.T) {
	e := serve(t)
	for name, m := range everyResult() {
		result := e.send26(t, m).has(t, 200).result(t)
		asks := strings.HasSuffix(name, "asking")
		if asks != (result["resultType"] == "input_required") {
			t.Errorf("%s: resultType is %v", name, result["resultType"])
		}
		if asks && result["inputRequests"] == nil && result["requestState"] == nil {
			t.Errorf("%s: neither requests nor state in %v", name, result)
		}
		if !asks && (result["inputRequests"] != nil || result["requestState"] != nil) {
			t.Errorf("%s: a complete result asks: %v", name, result)
		}
	}
	t.Run("kinds", func(t *testing.T) {
		for kind, want := range map[string]struct{ key, method, answer string }{
			"elicit": {"name", "elicitation/create", `{"action":"accept","content":{"name":"Ann"}}`},
			"sample": {"words", "sampling/createMessage", `{"role":"assistant","model":"m","content":{"type":"text","text":"hi"}}`},
			"roots":  {"roots", "roots/list", `{"roots":[{"uri":"file:///a"}]}`},
		} {
			asked := e.send26(t, round(1, "ask", kind, nil, nil)).has(t, 200).result(t)
			requests, _ := asked["inputRequests"].(obj)
			req, _ := requests[want.key].(obj)
			if req["method"] != want.method {
				t.Errorf("%s: asks %v", kind, asked)
			}
			got := e.send26(t, round(2, "ask", kind, obj{want.key: json.RawMessage(want.answer)}, asked["requestState"])).has(t, 200).result(t)
			if !strings.HasSuffix(content(t, got), "after plain-"+strings.ReplaceAll(kind, "elicit", "name")) {
				t.Errorf("%s: got %v", kind, got)
			}
		}
	})
	t.Run("state alone", func(t *testing.T) {
		asked := e.send26(t, round(1, "ask", "state", nil, nil)).has(t, 200).result(t)
		if asked["resultType"] != "input_required" || asked["requestState"] == nil {
			t.Fatalf("got %v", asked)
		}
		if got := content(t, e.send26(t, round(2, "ask", "state", nil, asked["requestState"])).result(t)); got != "back with plain-state" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("two rounds", func(t *testing.T) {
		one := e.send26(t, round(1, "ask", "rounds", nil, nil)).result(t)
		two := e.send26(t, round(2, "ask", "rounds", ann, one["requestState"])).result(t)
		if two["resultType"] != "input_required" || two["requestState"] == one["requestState"] {
			t.Fatalf("second round is %v", two)
		}
		bob := obj{"name": obj{"action": "accept", "content": obj{"name": "Bob"}}}
		if got := content(t, e.send26(t, round(3, "ask", "rounds", bob, two["requestState"])).result(t)); got != "Bob after round-2 Ann" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("old clients are asked the old way", func(t *testing.T) {
		for _, v := range legacy {
			s := e.open(t, v)
			stream := s.send(t, call(1, "ask", obj{"text": "elicit"})).events(t)
			ask, _ := stream.message(t)
			if ask.Method != "elicitation/create" {
				t.Fatalf("%s: got %v, want elicitation/create", v, ask)
			}
			s.answer(t, ask, ann["name"].(obj)).accepted(t)
			if m, _ := stream.message(t); content(t, m.object(t)) != "Hello, Ann after plain-name" {
				t.Errorf("%s: got %v", v, m)
			}
		}
	})
}

func testL22(t *testing.T) {
	e := serve(t)
	state := e.send26(t, round(1, "ask", "elicit", nil, nil)).has(t, 200).result(t)["requestState"]
	for what, responses := range map[string]any{
		"not an object":      5,
		"not a response":     obj{"name": 5},
		"unknown kind":       obj{"name": obj{"x": 1}},
		"another kind":       obj{"name": obj{"roots": []any{}}},
		"action unknown":     obj{"name": obj{"action": "maybe"}},
		"content of array":   obj{"name": obj{"action": "accept", "content": []int{1}}},
		"required is absent": obj{"name": obj{"action": "accept", "content": obj{"age": 3}}},
		"wrong type":         obj{"name": obj{"action": "accept", "content": obj{"name": 5}}},
		"wrong type besides": obj{"name": obj{"action": "accept", "content": obj{"name": "Ann", "age": "old"}}},
	} {
		t.Run(what, func(t *testing.T) {
			m := round(2, "ask", "elicit", nil, state)
			m["params"].(obj)["inputResponses"] = responses
			got := e.send26(t, m).has(t, 200, 400).response(t)
			// Refused, or asked again; never taken.
			if got.Error != nil && got.Error.Code != -32602 {
				t.Errorf("answered %v, want -32602", got)
			}
			if got.Error == nil && got.object(t)["resultType"] != "input_required" {
				t.Errorf("taken: %v", got)
			}
		})
	}
	t.Run("without the state", func(t *testing.T) { // which has the schema: leaving it out is no way around
		m := round(2, "ask", "elicit", obj{"name": obj{"action": "accept", "content": obj{"name": 5}}}, nil)
		if got := e.send26(t, m).has(t, 200, 400).response(t); got.Error == nil && got.object(t)["resultType"] != "input_required" {
			t.Errorf("taken: %v", got)
		}
	})
	extra := obj{"name": ann["name"], "more": obj{"action": "decline"}}
	e.send26(t, round(3, "ask", "elicit", extra, state)).has(t, 200).result(t) // what nobody asked is ignored
}

// subscribe opens a subscription and reads the acknowledgement.
func (e *env) subscribe(t *testing.T, id any, filter obj, edits ...edit) *stream {
	t.Helper()
	s := e.send26(t, request(id, "subscriptions/listen", obj{"notifications": filter}), edits...).events(t)
	m, _ := s.message(t)
	if m.Method != "notifications/subscriptions/acknowledged" {
		t.Fatalf("first message is %v, want the acknowledgement", m)
	}
	tagged(t, m, id)
	return s
}

// tagged demands the subscription's ID on a message, with its type.
func tagged(t *testing.T, m message, id any) {
	t.Helper()
	want, _ := json.Marshal(id)
	source := m.Params
	if m.Method == "" {
		source = m.Result
	}
	meta, _ := object(t, source)["_meta"].(obj)
	got, _ := json.Marshal(meta[mcp.MetaKeySubscriptionID])
	if string(got) != string(want) {
		t.Fatalf("subscriptionId is %s, want %s, in %v", got, want, m)
	}
}

func (e *env) updated(t *testing.T, uri string) {
	t.Helper()
	if err := e.srv.ResourceUpdated(t.Context(), &mcp.ResourceUpdatedNotificationParams{URI: uri}); err != nil {
		t.Fatal(err)
	}
}

func testL23(t *testing.T) {
	e := serve(t)
	t.Run("acknowledged as asked", func(t *testing.T) {
		filter := obj{"toolsListChanged": true, "resourceSubscriptions": []any{"test://item/01"}}
		s := e.send26(t, request("sub", "subscriptions/listen", obj{"notifications": filter})).events(t)
		m, _ := s.message(t)
		tagged(t, m, "sub")
		if diff := cmp.Diff(filter, m.params(t)["notifications"]); diff != "" {
			t.Errorf("acknowledged (-want +got):\n%s", diff)
		}
		s.conn.Close()
	})
	t.Run("only what was asked", func(t *testing.T) {
		s := e.subscribe(t, 9007199254740993, obj{"toolsListChanged": true, "resourceSubscriptions": []string{"test://item/01"}})
		e.updated(t, "test://item/02") // not asked
		e.srv.AddPrompt(&mcp.Prompt{Name: "one_more"}, nil)
		e.updated(t, "test://item/01")
		m, _ := s.message(t)
		if m.Method != "notifications/resources/updated" || m.params(t)["uri"] != "test://item/01" {
			t.Fatalf("got %v, want the update of test://item/01", m)
		}
		tagged(t, m, 9007199254740993)
		e.touch(t, "one_more")
		if m, _ := s.message(t); m.Method != "notifications/tools/list_changed" {
			t.Fatalf("got %v, want list_changed", m)
		} else {
			tagged(t, m, 9007199254740993)
		}
		e.send26(t, tokened(call(5, "steps", obj{"n": 1}), 1)).result(t) // not on this stream
		s.quiet(t, "nothing else was asked")
		s.conn.Close()
	})
	t.Run("every kind", func(t *testing.T) {
		s := e.subscribe(t, 3, obj{"toolsListChanged": true, "promptsListChanged": true, "resourcesListChanged": true})
		e.touch(t, "two_more")
		e.srv.RemovePrompts("one_more")
		e.srv.RemoveResources("test://item/11")
		got := map[string]bool{}
		for range 3 {
			m, _ := s.message(t)
			tagged(t, m, 3)
			got[m.Method] = true
		}
		if len(got) != 3 {
			t.Errorf("got %v", got)
		}
	})
	t.Run("acknowledged first, while things change", func(t *testing.T) {
		busy := serve(t)
		stop, stopped := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(stopped)
			for {
				select {
				case <-stop:
					return
				default:
					_ = busy.srv.ResourceUpdated(t.Context(), &mcp.ResourceUpdatedNotificationParams{URI: "test://item/01"})
				}
			}
		}()
		uris := []string{"test://item/01"}
		for i := range 200 { // which take their time
			uris = append(uris, fmt.Sprint("test://thing/", i))
		}
		for i := range 20 {
			busy.subscribe(t, i, obj{"resourceSubscriptions": uris}).cut()
		}
		close(stop)
		<-stopped
	})
	t.Run("unsupported kinds are left out", func(t *testing.T) {
		bare := serve(t, func(c *config) {
			c.server = func(o *mcp.ServerOptions) { o.SubscribeHandler, o.UnsubscribeHandler = nil, nil }
		})
		s := bare.send26(t, request(1, "subscriptions/listen", obj{"notifications": obj{"toolsListChanged": true, "resourceSubscriptions": []string{"test://item/01"}}})).events(t)
		m, _ := s.message(t)
		if got, _ := m.params(t)["notifications"].(obj); got["toolsListChanged"] != true || got["resourceSubscriptions"] != nil {
			t.Errorf("acknowledged %v", got)
		}
	})
}

func testL24(t *testing.T) {
	e := serve(t)
	a := e.subscribe(t, 1, obj{"resourceSubscriptions": []string{"test://item/01"}})
	b := e.subscribe(t, 1, obj{"resourceSubscriptions": []string{"test://item/02"}})
	c := e.subscribe(t, "1", obj{"resourceSubscriptions": []string{"test://item/01", "test://item/02"}})
	e.updated(t, "test://item/01")
	e.updated(t, "test://item/02")
	for _, tt := range []struct {
		s    *stream
		id   any
		uris []string
	}{{a, 1, []string{"test://item/01"}}, {b, 1, []string{"test://item/02"}}, {c, "1", []string{"test://item/01", "test://item/02"}}} {
		for _, uri := range tt.uris {
			m, _ := tt.s.message(t)
			tagged(t, m, tt.id)
			if m.params(t)["uri"] != uri {
				t.Errorf("got %v, want %s", m, uri)
			}
		}
		tt.s.quiet(t, "each message once, where it was asked")
	}
	a.cut() // the others go on
	e.updated(t, "test://item/02")
	b.message(t)
	c.message(t)
}

func testL25(t *testing.T) {
	e := serve(t)
	s := e.subscribe(t, "sub", obj{"toolsListChanged": true})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := e.h.Drain(ctx); err != nil {
		t.Fatalf("Drain: %v", err)
	}
	rest := s.rest(t)
	if len(rest) == 0 || !rest[len(rest)-1].isResponse() {
		t.Fatalf("the stream ended with %v, want the response last", rest)
	}
	last := rest[len(rest)-1]
	tagged(t, last, "sub")
	if string(last.ID) != `"sub"` || last.object(t)["resultType"] != "complete" {
		t.Errorf("final response is %v", last)
	}
	for _, m := range rest[:len(rest)-1] {
		if m.Method != "notifications/cancelled" { // which the other page of the specification asks for
			t.Errorf("unexpected %v", m)
		}
	}
}

func testL26(t *testing.T) {
	e := serve(t)
	logs := func(level any) (levels []any) {
		t.Helper()
		m := call(1, "log", obj{})
		if level != nil {
			m["params"].(obj)["_meta"] = obj{mcp.MetaKeyLogLevel: level}
		}
		for _, m := range e.send26(t, m).has(t, 200).messages(t) {
			if m.Method == "notifications/message" {
				levels = append(levels, m.params(t)["level"])
			}
		}
		return levels
	}
	for _, tt := range []struct {
		level any
		want  []any
	}{{nil, nil}, {"debug", []any{"debug", "info", "error"}}, {"info", []any{"info", "error"}}, {"emergency", nil}, {nil, nil}} {
		if diff := cmp.Diff(tt.want, logs(tt.level)); diff != "" {
			t.Errorf("level %v (-want +got):\n%s", tt.level, diff)
		}
	}
	m := call(2, "log", obj{})
	m["params"].(obj)["_meta"] = obj{mcp.MetaKeyLogLevel: "loud"}
	e.send26(t, m).fails(t, 400, -32602)

	// A session sets its level once, for itself.
	s, other := e.open(t, v11), e.open(t, v11)
	s.send(t, request(1, "logging/setLevel", obj{"level": "info"})).result(t)
	if n := methods(s.send(t, call(2, "log", obj{})).messages(t))["notifications/message"]; n != 2 {
		t.Errorf("%d log messages in a session at info, want 2", n)
	}
	if n := methods(other.send(t, call(2, "log", obj{})).messages(t))["notifications/message"]; n != 0 {
		t.Errorf("%d log messages in a session that asked for none", n)
	}
}

func testL27(t *testing.T) {
	e := serve(t)
	names := func(list func(params obj) obj) (names []string) {
		params := obj{}
		for {
			result := list(params)
			for _, tool := range result["tools"].([]any) {
				names = append(names, tool.(obj)["name"].(string))
			}
			if result["nextCursor"] == nil {
				return names
			}
			params = obj{"cursor": result["nextCursor"]}
		}
	}
	first := names(func(p obj) obj { return e.send26(t, request(1, "tools/list", p)).has(t, 200).result(t) })
	for range 4 {
		if diff := cmp.Diff(first, names(func(p obj) obj { return e.send26(t, request(1, "tools/list", p)).has(t, 200).result(t) })); diff != "" {
			t.Fatalf("another order:\n%s", diff)
		}
	}
	s := e.open(t, v11)
	if diff := cmp.Diff(first, names(func(p obj) obj { return s.send(t, request(s.next(), "tools/list", p)).has(t, 200).result(t) })); diff != "" {
		t.Fatalf("another order in a session:\n%s", diff)
	}
	if len(first) < 15 {
		t.Errorf("only %d tools", len(first))
	}
}

func testL28(t *testing.T) {
	e := serve(t)
	for _, v := range legacy {
		e.open(t, v).send(t, request(1, "resources/read", obj{"uri": "test://none"})).fails(t, 200, -32002)
	}
	m := e.send26(t, request(1, "resources/read", obj{"uri": "test://none"})).fails(t, 400, -32602)
	if object(t, m.Error.Data)["uri"] != "test://none" {
		t.Errorf("data is %s, want the URI", m.Error.Data)
	}
}

func testL29(t *testing.T) {
	e := serve(t)
	s := e.open(t, v11)
	for _, method := range []string{"tools/list", "prompts/list", "resources/list", "resources/templates/list"} {
		s.send(t, request(1, method, obj{"cursor": "garbage"})).fails(t, 200, -32602)
		e.send26(t, request(1, method, obj{"cursor": "garbage"})).fails(t, 400, -32602)
	}
}

func testL30(t *testing.T) {
	e := serve(t)
	s := e.open(t, v11)
	send := map[string]func(m obj) *reply{
		v11: func(m obj) *reply { return s.send(t, m) },
		v26: func(m obj) *reply { return e.send26(t, m) },
	}
	for v, send := range send {
		for what, arguments := range map[string]obj{"wrong type": {"a": "one", "b": 2}, "missing": {"a": 1}, "unknown": {"a": 1, "b": 2, "c": 3}} {
			// An error of the tool, so that a model sees it, that names the argument; or invalid params.
			m := send(call(1, "add", arguments)).response(t)
			if m.Error != nil && m.Error.Code != -32602 || m.Error == nil && !isError(m.object(t)) {
				t.Errorf("%s, %s: answered %v", v, what, m)
			}
		}
		if got := content(t, send(call(2, "add", obj{"a": 10, "b": 5})).result(t)); got != "15" {
			t.Errorf("%s: 10+5 is %s", v, got)
		}
		if m := send(call(3, "nope", obj{})).response(t); m.Error == nil || m.Error.Code != -32602 {
			t.Errorf("%s: unknown tool was answered %v", v, m)
		}
	}
}
