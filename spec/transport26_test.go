package spec_test

import (
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

var transport26 = []statement{
	{ID: "T26-01", Revisions: "26", Level: "MUST", Text: "One path takes POST", Test: testT2601},
	{ID: "T26-02", Revisions: "26", Level: "MUST", Text: "An accepted notification is 202 without a body, another an HTTP error", Test: testT2602},
	{ID: "T26-03", Revisions: "26", Level: "MUST", Text: "A request is answered in JSON or SSE", Test: testT2603},
	{ID: "T26-04", Revisions: "26", Level: "MUST", Text: "Notifications on a stream relate to its request, and no requests are on it", Test: testT2604},
	{ID: "T26-05", Revisions: "26", Level: "SHOULD", Text: "The final response ends the stream", Test: testT2605},
	{ID: "T26-06", Revisions: "26", Level: "SHOULD", Text: "Streams carry X-Accel-Buffering: no", Test: testT2606},
	{ID: "T26-07", Revisions: "26", Level: "(encouraged)", Text: "Quiet streams carry keep-alive comments", Test: testT2607},
	{ID: "T26-08", Revisions: "26", Level: "MUST", Text: "Closing the response stream cancels the request", Test: testT2608},
	{ID: "T26-09", Revisions: "26", Level: "MUST", Text: "MCP-Protocol-Version is on every POST and equals the body's, else -32020", Test: testT2609},
	{ID: "T26-10", Revisions: "26", Level: "MUST", Text: "An unsupported version is 400 and -32022 with the supported ones, older or newer", Test: testT2610},
	{ID: "T26-11", Revisions: "26", Level: "MUST", Text: "Every version that is said to be supported is served", Test: testT2611},
	{ID: "T26-12", Revisions: "26", Level: "MUST", Text: "An unknown method is 404 and -32601 with the request's ID", Test: testT2612},
	{ID: "T26-13", Revisions: "26", Level: "MAY/MUST", Text: "Without a version header a request is of 2025-03-26, or refused", Test: testT2613},
	{ID: "T26-14", Revisions: "26", Level: "MUST", Text: "Mcp-Method and Mcp-Name are there and equal the body's, else -32020", Test: testT2614},
	{ID: "T26-15", Revisions: "26", Level: "MUST", Text: "Mcp-Name in base64 is decoded before it is compared", Test: testT2615},
	{ID: "T26-16", Revisions: "26", Level: "MUST", Text: "A header value with invalid characters is -32020", Test: testT2616},
	{ID: "T26-17", Revisions: "26", Level: "MUST", Text: "Mcp-Param-* headers equal the arguments: missing, differing, null, absent", Test: testT2617},
	{ID: "T26-18", Revisions: "26", Level: "SHOULD", Text: "Integers are compared as numbers", Test: testT2618},
	{ID: "T26-19", Revisions: "26", Level: "MUST", Text: "Header names are case-insensitive", Test: testT2619},
	{ID: "T26-20", Revisions: "26", Level: "(sec)", Text: "A header that comes twice is refused", Test: testT2620},
	{ID: "T26-21", Revisions: "26", Level: "SHOULD", Text: "GET and DELETE are 405, session and event IDs are ignored and none is made", Test: testT2621},
	{ID: "T26-22", Revisions: "26", Level: "MUST NOT", Text: "Reserved error codes are sent with another meaning, or retired ones at all", Test: testT2622},
	{ID: "T26-23", Revisions: "26", Level: "MUST", Text: "An error after the stream began is an event on it", Test: testT2623},
	{ID: "T26-24", Revisions: "26", Level: "MAY", Text: "Both eras are served on one path", Test: testT2624},
	{ID: "T26-25", Revisions: "26", Level: "SHOULD", Text: "A server without the old era names its versions to initialize", Test: testT2625},
}

func testT2601(t *testing.T) {
	e := serve(t)
	r := e.send26(t, request(1, "server/discover", nil)).has(t, 200)
	if versions, _ := r.result(t)["supportedVersions"].([]any); !slices.Contains(versions, any(v26)) {
		t.Fatalf("supportedVersions is %v", versions)
	}
}

func testT2602(t *testing.T) {
	e := serve(t)
	for _, m := range []obj{notification("notifications/cancelled", obj{"requestId": 99}), notification("notifications/no/such", nil)} {
		e.do(t, e.post(t, m, mirror(m)...)).accepted(t)
	}
	bad := obj{"jsonrpc": "2.0", "method": "notifications/x", "params": 1}
	e.do(t, e.post(t, bad, mirror(bad)...)).has(t, 400)
}

func testT2603(t *testing.T) {
	e := serve(t)
	if got := content(t, e.send26(t, call(1, "echo", obj{"text": "at once"})).has(t, 200).result(t)); got != "at once" {
		t.Errorf("got %q", got)
	}
	r := e.send26(t, tokened(call(2, "steps", obj{"n": 1}), 1))
	r.events(t)
	if got := r.result(t); isError(got) {
		t.Errorf("got %v", got)
	}
	// A tool that panics is an error to its caller.
	m := e.send26(t, call(3, "panic", obj{})).response(t)
	if m.Error == nil && !isError(m.object(t)) {
		t.Errorf("a panic was answered %v", m)
	}
	e.send26(t, request(4, "tools/list", nil)).has(t, 200)
	if got := content(t, e.send26(t, call(5, "big", obj{"n": 3 << 20})).has(t, 200).result(t)); len(got) != 3<<20 {
		t.Errorf("%d bytes of 3 MiB came", len(got))
	}
}

func testT2604(t *testing.T) {
	e := serve(t)
	a := e.begin(t, e.modern(t, tokened(call(1, "steps", obj{"n": 2, "key": "a"}), "tok-a")))
	b := e.begin(t, e.modern(t, tokened(call(1, "steps", obj{"n": 2, "key": "b"}), "tok-b"))) // the same ID, another client
	e.await(t, "a", "halfway")
	e.await(t, "b", "halfway")
	e.release("a")
	e.release("b")
	for token, x := range map[string]*exchange{"tok-a": a, "tok-b": b} {
		all := x.reply(t).messages(t)
		if len(all) != 5 {
			t.Fatalf("%s: got %v, want four notifications and a response", token, all)
		}
		for _, m := range all[:4] {
			if m.params(t)["progressToken"] != token {
				t.Errorf("%s: foreign message %v", token, m)
			}
		}
	}
	for _, tool := range []string{"elicit", "sample", "roots"} {
		key := "old-" + tool
		for _, m := range e.send26(t, call(2, tool, obj{"key": key})).messages(t) {
			if m.isRequest() {
				t.Errorf("%s: the server asks %v", tool, m)
			}
		}
		e.await(t, key, "failed")
	}
}

func testT2605(t *testing.T) {
	e := serve(t)
	r := e.send26(t, tokened(call(1, "steps", obj{"n": 1}), 1))
	r.events(t)
	all := r.messages(t) // to the end
	if last := all[len(all)-1]; !last.isResponse() {
		t.Fatalf("last message is %v", last)
	}
	for text, n := range map[string]int{strings.Repeat("x", 200_000): 50, "": 1500} { // however much there is
		got := methods(e.send26(t, tokened(call(2, "steps", obj{"n": n, "text": text}), "t")).messages(t))
		if got["notifications/progress"] != 2*n || got["response"] != 1 {
			t.Errorf("got %v, want %d progress notifications and the response", got, 2*n)
		}
	}
}

func testT2606(t *testing.T) {
	e := serve(t)
	check := func(what string, r *reply) {
		t.Helper()
		r.events(t)
		if v := r.header.Get("X-Accel-Buffering"); v != "no" {
			t.Errorf("%s: X-Accel-Buffering is %q", what, v)
		}
		if v := r.header.Get("Cache-Control"); !strings.Contains(v, "no-cache") && !strings.Contains(v, "no-store") {
			t.Errorf("%s: Cache-Control is %q", what, v)
		}
	}
	check("call", e.send26(t, tokened(call(1, "steps", obj{"n": 1}), 1)))
	check("listen", e.send26(t, request(2, "subscriptions/listen", obj{"notifications": obj{"toolsListChanged": true}})))
	for _, v := range legacy {
		s := e.open(t, v)
		check(v+" call", s.send(t, tokened(call(1, "steps", obj{"n": 1}), 1)))
		check(v+" GET", s.get(t, ""))
	}
}

func testT2607(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := serve(t, virtual)
		s := e.open(t, v11)
		slow := s.start(t, call(1, "slow", obj{"key": "legacy"}))
		modern := e.begin(t, e.modern(t, call(1, "slow", obj{"key": "modern"})))
		streams := map[string]*stream{
			"listen":      e.send26(t, request(2, "subscriptions/listen", obj{"notifications": obj{"toolsListChanged": true}})).events(t),
			"GET":         s.listen(t, ""),
			"call":        slow.reply(t).events(t),
			"modern call": modern.reply(t).events(t),
		}
		start := time.Now()
		for what, st := range streams {
			comments := 0
			for comments < 3 {
				ev, err := st.poll(time.Minute)
				if err != nil {
					t.Errorf("%s: no comment within a minute: %v", what, err)
					break
				}
				if ev.hasComment {
					comments++
				}
			}
		}
		if d := time.Since(start); d > time.Minute {
			t.Errorf("three comments on each stream took %v, want one every 15s or so", d)
		}
		e.release("legacy")
		e.release("modern")
	})
}

func testT2608(t *testing.T) {
	// How a client may go: reset, or closed in order.
	leave := map[string]func(*link){"reset": (*link).cut, "closed": func(l *link) { l.conn.Close() }}
	for how, leave := range leave {
		t.Run(how, func(t *testing.T) {
			e := serve(t)
			for what, m := range map[string]obj{
				"before the headers": call(1, "slow", obj{"key": "x"}),
				"on the stream":      tokened(call(1, "steps", obj{"n": 1, "key": "x"}), 1),
			} {
				t.Run(what, func(t *testing.T) {
					key := strings.ReplaceAll(how+" "+what, " ", "-")
					m["params"].(obj)["arguments"].(obj)["key"] = key
					x := e.begin(t, e.modern(t, m))
					if what == "on the stream" {
						st := x.reply(t).events(t)
						st.message(t)
						e.await(t, key, "halfway")
					} else {
						e.await(t, key, "running")
					}
					leave(x.link)
					e.await(t, key, "cancelled")
					if got := content(t, e.send26(t, call(2, "slow_status", obj{"key": key})).result(t)); got != "cancelled" {
						t.Errorf("slow_status says %q", got)
					}
				})
			}
		})
	}
}

func testT2609(t *testing.T) {
	e := serve(t)
	for _, m := range []obj{request(1, "server/discover", nil), request(2, "tools/list", nil), call(3, "echo", obj{"text": "x"})} {
		e.send26(t, m, without("MCP-Protocol-Version")).fails(t, 400, -32020)
		e.send26(t, m, with("MCP-Protocol-Version", v11)).fails(t, 400, -32020)
		e.send26(t, m, with("MCP-Protocol-Version", v26)).has(t, 200)
	}
	other := request(1, "tools/list", obj{"_meta": obj{mcp.MetaKeyProtocolVersion: v11}})
	e.send26(t, other).fails(t, 400, -32020)
}

func testT2610(t *testing.T) {
	e := serve(t)
	for _, version := range []string{"1900-01-01", "2024-10-07", "2099-01-01", "garbage", "v999.0.0", "2026-07-29"} {
		for _, m := range []obj{
			request("r", "server/discover", nil), request("r", "tools/list", nil), call("r", "echo", obj{"text": "x"}), request("r", "no/such", nil),
		} {
			m["params"] = merge(m["params"], obj{"_meta": obj{mcp.MetaKeyProtocolVersion: version}})
			got := e.send26(t, m, with("MCP-Protocol-Version", version)).fails(t, 400, -32022)
			var data struct {
				Supported []string `json:"supported"`
				Requested string   `json:"requested"`
			}
			if err := json.Unmarshal(got.Error.Data, &data); err != nil || data.Requested != version || !slices.Equal(data.Supported, newest) {
				t.Errorf("%s of %q: data is %s", m["method"], version, got.Error.Data)
			}
			if string(got.ID) != `"r"` {
				t.Errorf("%s of %q: ID is %s", m["method"], version, got.ID)
			}
		}
	}
}

// merge returns a copy of an object, or of nothing, with more fields.
func merge(base any, more obj) obj {
	all := obj{}
	if b, ok := base.(obj); ok {
		maps.Copy(all, b)
	}
	maps.Copy(all, more)
	return all
}

// served lists the tools in the given revision, by the rules of its era.
func (e *env) served(t *testing.T, version string) {
	t.Helper()
	if version == v26 {
		e.send26(t, request(1, "tools/list", nil)).has(t, 200).result(t)
		return
	}
	e.open(t, version).run(t, "echo", obj{"text": "x"})
}

func testT2611(t *testing.T) {
	e := serve(t)
	m := e.send26(t, request(1, "tools/list", obj{"_meta": obj{mcp.MetaKeyProtocolVersion: "1900-01-01"}}), with("MCP-Protocol-Version", "1900-01-01")).fails(t, 400, -32022)
	var data struct {
		Supported []string `json:"supported"`
	}
	if err := json.Unmarshal(m.Error.Data, &data); err != nil || len(data.Supported) == 0 {
		t.Fatalf("error data is %s", m.Error.Data)
	}
	discovered, _ := e.send26(t, request(2, "server/discover", nil)).result(t)["supportedVersions"].([]any)
	if len(discovered) == 0 {
		t.Error("server/discover lists no versions")
	}
	for _, v := range discovered {
		data.Supported = append(data.Supported, v.(string))
	}
	for _, v := range data.Supported {
		t.Run(v, func(t *testing.T) { e.served(t, v) })
	}
}

func testT2612(t *testing.T) {
	e := serve(t)
	for _, method := range []string{
		"no/such", "initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe",
		"roots/list", "sampling/createMessage", "elicitation/create", "Tools/List",
	} {
		if m := e.send26(t, request("id-"+method, method, obj{"level": "info", "uri": "test://item/01"})).fails(t, 404, -32601); string(m.ID) != `"id-`+method+`"` {
			t.Errorf("%s: ID is %s", method, m.ID)
		}
	}
}

func testT2613(t *testing.T) {
	e := serve(t)
	e.do(t, e.post(t, request(1, "tools/list", nil))).fails(t, 400, -32600)
	e.open(t, v03) // which sends no header
}

func testT2614(t *testing.T) {
	e := serve(t)
	for name, m := range map[string]obj{
		"echo": call(1, "echo", obj{"text": "x"}), "greet": request(2, "prompts/get", obj{"name": "greet", "arguments": obj{"name": "Ann"}}),
		"test://item/01": request(3, "resources/read", obj{"uri": "test://item/01"}),
	} {
		e.send26(t, m).has(t, 200).result(t)
		for what, bad := range map[string]edit{
			"no Mcp-Method":    without("Mcp-Method"),
			"other Mcp-Method": with("Mcp-Method", "tools/list"),
			"Mcp-Method case":  with("Mcp-Method", strings.ToUpper(m["method"].(string))),
			"no Mcp-Name":      without("Mcp-Name"),
			"other Mcp-Name":   with("Mcp-Name", "other"),
			"Mcp-Name case":    with("Mcp-Name", strings.ToUpper(name)),
			"Mcp-Name prefix":  with("Mcp-Name", name+"x"),
		} {
			t.Run(m["method"].(string)+" "+what, func(t *testing.T) { e.send26(t, m, bad).fails(t, 400, -32020) })
		}
	}
	list := request(4, "tools/list", nil)
	e.send26(t, list, without("Mcp-Method")).fails(t, 400, -32020)
	e.send26(t, list, with("Mcp-Method", "prompts/list")).fails(t, 400, -32020)
}

func encoded(s string) string {
	return "=?base64?" + base64.StdEncoding.EncodeToString([]byte(s)) + "?="
}

func testT2615(t *testing.T) {
	e := serve(t)
	echo := call(1, "echo", obj{"text": "x"})
	e.send26(t, echo, with("Mcp-Name", encoded("echo"))).has(t, 200).result(t)
	e.send26(t, echo, with("Mcp-Name", encoded("other"))).fails(t, 400, -32020)
	accent := request(2, "resources/read", obj{"uri": "test://café"})
	e.send26(t, accent, with("Mcp-Name", encoded("test://café"))).has(t, 200).result(t)
	// A name that looks encoded is compared decoded, so that it must be encoded itself.
	looks := call(3, encoded("echo"), obj{})
	e.send26(t, looks, with("Mcp-Name", encoded("echo"))).fails(t, 400, -32020)
	e.send26(t, looks, with("Mcp-Name", encoded(encoded("echo")))).fails(t, 400, -32602) // the headers are right, the tool unknown
	e.send26(t, echo, with("Mcp-Name", "=?BASE64?"+encoded("echo")[9:])).fails(t, 400, -32020)
}

func testT2616(t *testing.T) {
	e := serve(t)
	accent := request(1, "resources/read", obj{"uri": "test://café"})
	e.send26(t, accent, with("Mcp-Name", "test://café")).fails(t, 400, -32020)
	hdr := call(2, "hdr", obj{"region": "Zürich"})
	e.send26(t, hdr, with("Mcp-Param-Region", "Zürich")).fails(t, 400, -32020)
	for _, bad := range []string{"=?base64?!!!?=", "=?base64?YQ?=", "=?base64?YQ==YQ==?=", "=?base64?" + base64.StdEncoding.EncodeToString([]byte{0xff, 0xfe}) + "?="} {
		e.send26(t, hdr, with("Mcp-Param-Region", bad)).fails(t, 400, -32020)
	}
	e.send26(t, call(3, "echo", obj{}), with("Mcp-Name", "=?base64?!!!?=")).fails(t, 400, -32020)
	e.send26(t, hdr, with("Mcp-Param-Region", encoded("Zürich"))).has(t, 200).result(t)
}

func testT2617(t *testing.T) {
	e := serve(t)
	region, count, flag := with("Mcp-Param-Region", "eu"), with("Mcp-Param-Count", "7"), with("Mcp-Param-Flag", "true")
	for _, tt := range []struct {
		name      string
		arguments obj
		headers   []edit
		ok        bool
	}{
		{"all match", obj{"region": "eu", "count": 7, "flag": true, "note": "x"}, []edit{region, count, flag}, true},
		{"nested matches", obj{"place": obj{"city": "Bern"}}, []edit{with("Mcp-Param-City", "Bern")}, true},
		{"nested missing", obj{"place": obj{"city": "Bern"}}, nil, false},
		{"nested differs", obj{"place": obj{"city": "Bern"}}, []edit{with("Mcp-Param-City", "Basel")}, false},
		{"missing", obj{"region": "eu"}, nil, false},
		{"differs", obj{"region": "us"}, []edit{region}, false},
		{"differs in case", obj{"region": "EU"}, []edit{region}, false},
		{"null, no header", obj{"region": nil}, nil, true},
		{"null, header", obj{"region": nil}, []edit{region}, false},
		{"absent, no header", obj{"note": "x"}, nil, true},
		{"absent, header", obj{"note": "x"}, []edit{region}, false},
		{"no arguments, header", obj{}, []edit{region}, false},
		{"boolean differs", obj{"flag": false}, []edit{flag}, false},
		{"boolean spelled otherwise", obj{"flag": true}, []edit{with("Mcp-Param-Flag", "True")}, false},
		{"integer differs", obj{"count": 8}, []edit{count}, false},
		{"integer of another value", obj{"count": 7}, []edit{with("Mcp-Param-Count", "seven")}, false},
		{"encoded", obj{"region": "eu"}, []edit{with("Mcp-Param-Region", encoded("eu"))}, true},
		{"padded", obj{"region": " eu "}, []edit{with("Mcp-Param-Region", encoded(" eu "))}, true},
		{"empty string", obj{"region": ""}, []edit{with("Mcp-Param-Region", "")}, true},
		{"unknown parameter", obj{"note": "x"}, []edit{with("Mcp-Param-Unknown", "x")}, true},
		{"not annotated", obj{"note": "x"}, []edit{with("Mcp-Param-Note", "y")}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := e.send26(t, call(1, "hdr", tt.arguments), tt.headers...)
			if tt.ok {
				r.has(t, 200).result(t)
			} else {
				r.fails(t, 400, -32020)
			}
		})
	}
	// A session's calls carry no such headers and are not asked for them.
	e.open(t, v11).run(t, "hdr", obj{"region": "eu"})
}

func testT2618(t *testing.T) {
	e := serve(t)
	for header, ok := range map[string]bool{"42": true, "42.0": true, "4.2e1": true, "43": false, "42.5": false, "0x2a": false, "NaN": false} {
		r := e.send26(t, call(1, "hdr", obj{"count": 42}), with("Mcp-Param-Count", header))
		if ok {
			r.has(t, 200).result(t)
		} else {
			r.fails(t, 400, -32020)
		}
	}
	e.send26(t, call(2, "hdr", obj{"count": json.RawMessage("42.0")}), with("Mcp-Param-Count", "42")).has(t, 200).result(t)
}

func testT2619(t *testing.T) {
	e := serve(t)
	m := call(1, "hdr", obj{"region": "eu"})
	e.send26(t, m, lower("MCP-Protocol-Version", v26), lower("Mcp-Method", "tools/call"), lower("Mcp-Name", "hdr"), lower("Mcp-Param-Region", "eu")).has(t, 200).result(t)
	e.send26(t, m, lower("Mcp-Param-Region", "us")).fails(t, 400, -32020)
}

func testT2620(t *testing.T) {
	e := serve(t)
	twice := func(name, value string) edit {
		return func(r *http.Request) { r.Header.Add(name, value) }
	}
	echo := call(1, "echo", obj{"text": "x"})
	for name, value := range map[string]string{"MCP-Protocol-Version": v11, "Mcp-Method": "tools/list", "Mcp-Name": "other"} {
		e.send26(t, echo, twice(name, value)).fails(t, 400, -32020)
	}
	e.send26(t, call(2, "hdr", obj{"region": "eu"}), with("Mcp-Param-Region", "eu"), twice("Mcp-Param-Region", "us")).fails(t, 400, -32020)
}

func testT2621(t *testing.T) {
	e := serve(t)
	for _, method := range []string{http.MethodGet, http.MethodDelete} {
		r := e.do(t, e.request(t, method, "/mcp", nil, with("MCP-Protocol-Version", v26))).has(t, 405)
		if allow := r.header.Get("Allow"); !strings.Contains(allow, "POST") || strings.Contains(allow, method) {
			t.Errorf("%s: Allow is %q", method, allow)
		}
	}
	s := e.open(t, v11)
	for _, id := range []string{"no-such-session", s.id} {
		r := e.send26(t, call(1, "whoami", obj{}), with("Mcp-Session-Id", id), with("Last-Event-ID", "x-1")).has(t, 200)
		if _, ok := r.header["Mcp-Session-Id"]; ok {
			t.Errorf("the answer carries a session ID")
		}
		if got := content(t, r.result(t)); !strings.Contains(got, "version="+v26) {
			t.Errorf("the call was served as %q", got)
		}
	}
}

func testT2622(t *testing.T) {
	e := serve(t)
	for _, m := range []obj{
		request(1, "tools/call", obj{"name": "nope"}),
		request(2, "tools/call", obj{"name": "echo", "arguments": 5}),
		request(3, "prompts/get", obj{"name": "nope"}),
		request(4, "prompts/get", obj{"name": "greet", "arguments": []int{1}}),
		request(5, "resources/read", obj{"uri": "test://none"}),
		request(6, "resources/list", obj{"cursor": 5}),
		request(7, "completion/complete", obj{}),
		request(8, "completion/complete", obj{"ref": obj{"type": "ref/other"}, "argument": obj{"name": "n", "value": "v"}}),
		request(9, "subscriptions/listen", obj{}),
		request(10, "subscriptions/listen", obj{"notifications": 1}),
		request(11, "tools/call", obj{"name": "ask", "inputResponses": 1}),
		request(12, "tools/call", obj{"name": "ask", "requestState": 1}),
	} {
		e.send26(t, m).fails(t, 400, -32602)
	}
	// Codes of our own stay out of the whole range that JSON-RPC reserves (basic, "Error Codes").
	if err := e.h.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := e.send26(t, request(13, "tools/list", nil)).has(t, 503).response(t)
	if got.Error == nil || got.Error.Code <= -32000 && got.Error.Code >= -32099 {
		t.Errorf("a server that leaves answers %v, want no code of the reserved range", got)
	}
}

func testT2623(t *testing.T) {
	e := serve(t)
	r := e.send26(t, tokened(call("late", "fail_late", obj{}), 1))
	r.events(t)
	all := r.messages(t)
	if len(all) != 2 || all[1].Error == nil || all[1].Error.Code != -32602 || string(all[1].ID) != `"late"` {
		t.Fatalf("got %v, want progress and the error -32602", all)
	}
	for _, v := range legacy {
		all := e.open(t, v).send(t, tokened(call(1, "fail_late", obj{}), 1)).messages(t)
		if len(all) != 2 || all[1].Error == nil || all[1].Error.Code != -32602 {
			t.Errorf("%s: got %v, want progress and the error -32602", v, all)
		}
	}
}

func testT2624(t *testing.T) {
	e := serve(t)
	s := e.open(t, v11)
	for range 2 {
		if got := s.run(t, "whoami", obj{}); !strings.Contains(got, "version="+v11) {
			t.Errorf("the session is served as %q", got)
		}
		if got := content(t, e.send26(t, call(1, "whoami", obj{})).result(t)); !strings.Contains(got, "version="+v26) {
			t.Errorf("the stateless call is served as %q", got)
		}
	}
}

func testT2625(t *testing.T) {
	e := serve(t, func(c *config) {
		c.server = func(o *mcp.ServerOptions) { o.SupportedProtocolVersions = []string{v26} }
	})
	e.send26(t, request(1, "tools/list", nil)).has(t, 200).result(t)
	m := e.do(t, e.post(t, initialize(1, v11, obj{}))).has(t, 200, 400).response(t)
	if m.Error == nil || !strings.Contains(m.String(), v26) {
		t.Fatalf("initialize was answered %v, want an error that names %s", m, v26)
	}
}
