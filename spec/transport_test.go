package spec_test

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-mcp/sluice"
	serving "github.com/sluice-mcp/sluice/serve"
)

var transportCommon = []statement{
	{ID: "TL-01", Revisions: "03 06 11", Level: "MUST", Text: "One path takes POST and GET", Test: testTL01},
	{ID: "TL-02", Revisions: "03 06 11 26", Level: "MUST", Text: "Origin is validated on every method, also with a good Host", Test: testTL02},
	{ID: "TL-03", Revisions: "11 26", Level: "MUST", Text: "A bad Origin is answered 403, with no body or an error without an ID; good ones pass", Test: testTL03},
	{ID: "TL-04", Revisions: "03 06 11 26", Level: "SHOULD", Text: "A local server binds to 127.0.0.1", Test: testTL04},
	{ID: "TL-05", Revisions: "03 06 11 26", Level: "SHOULD", Text: "Every connection is authenticated", Test: testTL05},
	{ID: "TL-06", Revisions: "03 06 11", Level: "MUST", Text: "An accepted notification or response is answered 202 without a body", Test: testTL06},
	{ID: "TL-07", Revisions: "03 06 11 26", Level: "MUST", Text: "An unacceptable notification or response is an HTTP error", Test: testTL07},
	{ID: "TL-08", Revisions: "03 06 11 26", Level: "MUST", Text: "Every request is answered in JSON or SSE, also for unknown methods and invalid params", Test: testTL08},
	{ID: "TL-09", Revisions: "03 06 11", Level: "SHOULD", Text: "The stream of a POST carries the response and closes after it", Test: testTL09},
	{ID: "TL-10", Revisions: "03 06 11", Level: "SHOULD", Text: "What comes on the stream of a POST relates to its request", Test: testTL10},
	{ID: "TL-11", Revisions: "03 06", Level: "SHOULD NOT", Text: "The server closes a stream before the response", Test: testTL11},
	{ID: "TL-12", Revisions: "03 06 11", Level: "SHOULD NOT", Text: "A disconnection cancels", Test: testTL12},
	{ID: "TL-13", Revisions: "03 06 11", Level: "MUST", Text: "GET gives a stream or 405, also the second on a session", Test: testTL13},
	{ID: "TL-14", Revisions: "03 06 11", Level: "MUST NOT", Text: "A response comes on a standalone GET stream", Test: testTL14},
	{ID: "TL-15", Revisions: "03 06 11", Level: "MUST NOT", Text: "A message is sent on several streams", Test: testTL15},
	{ID: "TL-16", Revisions: "03 06 11", Level: "MUST", Text: "Event IDs are unique across all streams of a session", Test: testTL16},
	{ID: "TL-17", Revisions: "03 06 11", Level: "MAY/MUST NOT", Text: "Resuming replays exactly the missing events of that stream, once", Test: testTL17},
	{ID: "TL-18", Revisions: "03 06 11", Level: "MUST NOT", Text: "Messages of another stream are replayed, also not on a fresh GET", Test: testTL18},
	{ID: "TL-19", Revisions: "11", Level: "(text)", Text: "Streams opened by POST and by GET can both be resumed", Test: testTL19},
	{ID: "TL-20", Revisions: "03 06 11", Level: "MUST", Text: "Session IDs are visible ASCII, unique and unguessable", Test: testTL20},
	{ID: "TL-21", Revisions: "03 06 11", Level: "SHOULD", Text: "A request without a session ID, other than initialize, is answered 400", Test: testTL21},
	{ID: "TL-22", Revisions: "03 06 11", Level: "MUST", Text: "A terminated, expired or unknown session is 404 on every method", Test: testTL22},
	{ID: "TL-23", Revisions: "03 06 11", Level: "MAY", Text: "DELETE answers at once, also while calls run or wait for input", Test: testTL23},
	{ID: "TL-24", Revisions: "06 11", Level: "MUST", Text: "An invalid or unsupported MCP-Protocol-Version is 400 on every method", Test: testTL24},
	{ID: "TL-25", Revisions: "06 11", Level: "SHOULD", Text: "Without the version header the session's revision holds", Test: testTL25},
}

func testTL01(t *testing.T) {
	eachVersion(t, legacy, func(t *testing.T, v string) {
		s := serve(t).open(t, v)
		if r := s.get(t, ""); r.status != 405 {
			r.events(t)
		}
		for _, method := range []string{http.MethodPut, http.MethodPatch} {
			r := s.do(t, s.request(t, method, "/mcp", request(1, "ping", nil), s.own(nil)...)).has(t, 405)
			if r.header.Get("Allow") == "" {
				t.Errorf("%s: 405 without Allow", method)
			}
		}
	})
}

func testTL02(t *testing.T) {
	foreign := []edit{
		with("Origin", "http://evil.example"), with("Origin", "null"), with("Origin", "http://127.0.0.1.evil.example"),
		with("Host", "evil.example"), with("Host", "127.0.0.1.evil.example"), with("Host", "evil.example:80"),
	}
	eachVersion(t, legacy, func(t *testing.T, v string) {
		s := serve(t).open(t, v)
		for _, bad := range foreign {
			s.do(t, s.env.post(t, initialize(1, v, obj{}), bad)).has(t, 403)
			s.send(t, request(2, "ping", nil), bad).has(t, 403)
			s.get(t, "", bad).has(t, 403)
			s.delete(t, bad).has(t, 403)
		}
		s.send(t, request(3, "ping", nil)).result(t) // the DELETE did nothing
	})
	t.Run(v26, func(t *testing.T) {
		t.Parallel()
		e := serve(t)
		for _, bad := range foreign {
			e.send26(t, request(1, "tools/list", nil), bad).has(t, 403)
		}
	})
}

func testTL03(t *testing.T) {
	e := serve(t, func(c *config) { c.options.AllowedOrigins = []string{"https://app.example.com"} })
	t.Run("foreign", func(t *testing.T) {
		r := e.do(t, e.post(t, initialize(1, v11, obj{}), with("Origin", "http://evil.example"))).has(t, 403)
		if len(r.body) > 0 {
			if m := decode(t, r.body); m.Error == nil || (m.ID != nil && string(m.ID) != "null") {
				t.Errorf("body is %s, want an error without an ID", r.body)
			}
		}
		if v := r.header.Get("Access-Control-Allow-Origin"); v != "" {
			t.Errorf("a foreign origin is allowed to read: %q", v)
		}
	})
	t.Run("allowed", func(t *testing.T) {
		r := e.do(t, e.post(t, initialize(1, v11, obj{}), with("Origin", "https://app.example.com"))).has(t, 200)
		if v := r.header.Get("Access-Control-Allow-Origin"); v != "https://app.example.com" {
			t.Errorf("Access-Control-Allow-Origin is %q", v)
		}
		if v := r.header.Get("Access-Control-Expose-Headers"); !strings.Contains(strings.ToLower(v), "mcp-session-id") {
			t.Errorf("the session ID is not exposed: %q", v)
		}
	})
	t.Run("preflight", func(t *testing.T) {
		r := e.do(t, e.request(t, http.MethodOptions, "/mcp", nil, with("Origin", "https://app.example.com"),
			with("Access-Control-Request-Method", "POST"), with("Access-Control-Request-Headers", "content-type,mcp-protocol-version")))
		r.has(t, 200, 204)
		for name, want := range map[string]string{"Access-Control-Allow-Origin": "https://app.example.com", "Access-Control-Allow-Methods": "POST", "Access-Control-Allow-Headers": "mcp-protocol-version"} {
			if v := r.header.Get(name); !strings.Contains(strings.ToLower(v), strings.ToLower(want)) {
				t.Errorf("%s is %q, want %q in it", name, v, want)
			}
		}
	})
	t.Run("foreign preflight", func(t *testing.T) {
		r := e.do(t, e.request(t, http.MethodOptions, "/mcp", nil, with("Origin", "http://evil.example"), with("Access-Control-Request-Method", "POST")))
		if v := r.header.Get("Access-Control-Allow-Origin"); v != "" {
			t.Errorf("a foreign origin is allowed to call: %q", v)
		}
	})
	t.Run("almost allowed", func(t *testing.T) {
		for _, origin := range []string{"http://app.example.com", "https://app.example.com:8443", "https://app.example.com.evil.example", "https://evil-app.example.com"} {
			e.do(t, e.post(t, initialize(1, v11, obj{}), with("Origin", origin))).has(t, 403)
		}
	})
	t.Run("same", func(t *testing.T) {
		e.do(t, e.post(t, initialize(1, v11, obj{}), with("Origin", "http://"+e.addr))).has(t, 200)
	})
	t.Run("local host name", func(t *testing.T) {
		_, port, _ := strings.Cut(e.addr, ":")
		host := "localhost:" + port
		e.do(t, e.post(t, initialize(1, v11, obj{}), with("Host", host), with("Origin", "http://"+host))).has(t, 200)
	})
}

func testTL04(t *testing.T) { bindsLocally(t, serving.Config{}) }

// bindsLocally starts the process around the endpoint as it comes and looks at its address.
func bindsLocally(t *testing.T, cfg serving.Config) {
	t.Helper()
	cfg.LogLevel = "error"
	app, err := serving.New(newServer(newProbe(), nil), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := app.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := app.Stop(); err != nil {
			t.Error(err)
		}
	}()
	if tcp, ok := app.Addr().(*net.TCPAddr); !ok || !tcp.IP.IsLoopback() {
		t.Errorf("listens on %v", app.Addr())
	}
}

func testTL05(t *testing.T) {
	e := serve(t, authenticated)
	for _, v := range legacy {
		s := e.open(t, v, as("alice"))
		s.send(t, request(1, "ping", nil), without("Authorization")).has(t, 401)
		s.get(t, "", without("Authorization")).has(t, 401)
		s.delete(t, without("Authorization")).has(t, 401)
		if got := s.run(t, "whoami", obj{}); !strings.HasSuffix(got, "user=alice") {
			t.Errorf("%s: the tool sees %q, want alice", v, got)
		}
	}
	e.send26(t, request(1, "tools/list", nil)).has(t, 401)
	if got := content(t, e.send26(t, call(1, "whoami", obj{}), as("bob")).result(t)); !strings.HasSuffix(got, "user=bob") {
		t.Errorf("2026-07-28: the tool sees %q, want bob", got)
	}
}

func testTL06(t *testing.T) {
	eachVersion(t, legacy, func(t *testing.T, v string) {
		s := serve(t).open(t, v)
		s.send(t, notification("notifications/roots/list_changed", nil)).accepted(t)
		s.send(t, notification("notifications/no/such", obj{"x": 1})).accepted(t)
		stream := s.send(t, call(5, "elicit", obj{"key": "k"})).events(t)
		ask, _ := stream.message(t)
		s.answer(t, ask, obj{"action": "decline"}).accepted(t)
		if m, _ := stream.message(t); string(m.ID) != "5" {
			t.Fatalf("got %v, want the response to the call", m)
		}
	})
}

func testTL07(t *testing.T) {
	bad := map[string]string{
		"neither":       `{"jsonrpc":"2.0","id":1}`,
		"nothing":       `{"jsonrpc":"2.0"}`,
		"method number": `{"jsonrpc":"2.0","method":1}`,
		"params number": `{"jsonrpc":"2.0","method":"notifications/initialized","params":1}`,
		"both":          `{"jsonrpc":"2.0","id":1,"result":{},"error":{"code":1,"message":"x"}}`,
		"id of object":  `{"jsonrpc":"2.0","id":{},"result":{}}`,
		"a string":      `"hello"`,
		"not JSON":      `{"jsonrpc":`,
		"empty":         ``,
		"two":           `{"jsonrpc":"2.0","method":"notifications/a"}{"jsonrpc":"2.0","method":"notifications/b"}`,
	}
	check := func(t *testing.T, r *reply) {
		t.Helper()
		r.has(t, 400)
		if m := r.response(t); m.Error == nil {
			t.Fatalf("body is %s, want a JSON-RPC error", r.body)
		}
	}
	eachVersion(t, legacy, func(t *testing.T, v string) {
		s := serve(t).open(t, v)
		for name, body := range bad {
			t.Run(name, func(t *testing.T) { check(t, s.send(t, body)) })
		}
	})
	t.Run(v26, func(t *testing.T) {
		e := serve(t)
		for name, body := range bad {
			t.Run(name, func(t *testing.T) {
				check(t, e.do(t, e.post(t, body, with("MCP-Protocol-Version", v26), with("Mcp-Method", "x"))))
			})
		}
	})
	t.Run("envelope", func(t *testing.T) {
		s := serve(t).open(t, v11)
		s.send(t, request(1, "ping", nil), without("Accept")).fails(t, 406, -32600)
		s.send(t, request(1, "ping", nil), with("Accept", "text/html")).fails(t, 406, -32600)
		s.get(t, "", with("Accept", "application/json")).has(t, 406)
		s.send(t, request(1, "ping", nil), with("Content-Type", "text/plain")).fails(t, 415, -32600)
		s.send(t, request(1, "ping", nil), without("Content-Type")).fails(t, 415, -32600)
		s.send(t, request(1, "ping", nil), with("Content-Type", "application/json; charset=utf-8"), with("Accept", "*/*")).has(t, 200)
	})
}

func testTL08(t *testing.T) {
	eachVersion(t, legacy, func(t *testing.T, v string) {
		s := serve(t).open(t, v)
		for id, m := range map[string]obj{
			`"u1"`: request("u1", "no/such", nil),
			`"u2"`: request("u2", "", nil),
		} {
			if got := s.send(t, m).fails(t, 200, -32601); string(got.ID) != id {
				t.Errorf("error for %s carries ID %s", id, got.ID)
			}
		}
		for _, params := range []any{nil, obj{}, obj{"name": 7}, obj{"name": "nope"}, obj{"name": "echo", "arguments": []int{1}}, []int{1}} {
			r := s.send(t, request(11, "tools/call", params)).has(t, 200, 400)
			if m := r.response(t); string(m.ID) != "11" || m.Error == nil || m.Error.Code != -32602 && m.Error.Code != -32600 {
				t.Errorf("params %v: got %v, want -32602 for 11", params, m)
			}
		}
	})
	t.Run(v26, func(t *testing.T) {
		e := serve(t)
		if m := e.send26(t, request("u", "no/such", nil)).fails(t, 404, -32601); string(m.ID) != `"u"` {
			t.Errorf("error carries ID %s", m.ID)
		}
		if m := e.send26(t, call(9, "nope", obj{})).fails(t, 400, -32602); string(m.ID) != "9" {
			t.Errorf("error carries ID %s", m.ID)
		}
	})
}

func testTL09(t *testing.T) {
	eachVersion(t, legacy, func(t *testing.T, v string) {
		s := serve(t).open(t, v)
		all := s.send(t, tokened(call(7, "steps", obj{"n": 2}), "t")).messages(t) // reads to the end
		if n := methods(all); n["notifications/progress"] != 4 || n["response"] != 1 || len(all) != 5 {
			t.Fatalf("got %v, want four progress notifications and the response", all)
		}
		if last := all[4]; string(last.ID) != "7" {
			t.Fatalf("last message is %v, want the response", last)
		}
		// More than any bound of what is kept, faster than it can be read: a client that reads gets all.
		for text, n := range map[string]int{strings.Repeat("x", 200_000): 50, "": 1500} {
			got := methods(s.send(t, tokened(call(8, "steps", obj{"n": n, "text": text}), "t")).messages(t))
			if got["notifications/progress"] != 2*n || got["response"] != 1 {
				t.Errorf("got %v, want %d progress notifications and the response", got, 2*n)
			}
		}
	})
}

func testTL10(t *testing.T) {
	eachVersion(t, legacy, func(t *testing.T, v string) {
		s := serve(t).open(t, v)
		standalone := s.listen(t, "")
		a := s.start(t, tokened(call(1, "steps", obj{"n": 3, "key": "a"}), "token-a"))
		b := s.start(t, tokened(call(2, "steps", obj{"n": 3, "key": "b"}), "token-b"))
		s.await(t, "a", "halfway")
		s.await(t, "b", "halfway")
		s.release("a")
		s.release("b")
		for token, x := range map[string]*exchange{"token-a": a, "token-b": b} {
			all := x.reply(t).messages(t)
			if len(all) != 7 {
				t.Fatalf("%s: %d messages, want 7: %v", token, len(all), all)
			}
			for _, m := range all[:6] {
				if m.Method != "notifications/progress" || m.params(t)["progressToken"] != token {
					t.Errorf("%s: foreign message %v", token, m)
				}
			}
		}
		standalone.quiet(t, "progress belongs to its call's stream")
	})
}

func testTL11(t *testing.T) {
	eachVersion(t, []string{v03, v06}, func(t *testing.T, v string) {
		s := serve(t).open(t, v)
		stream := s.send(t, tokened(call(1, "steps", obj{"n": 1, "key": "k"}), 1)).events(t)
		stream.message(t)
		s.await(t, "k", "halfway")
		stream.quiet(t, "the call still runs")
		s.release("k")
		rest := stream.rest(t)
		if len(rest) != 2 || string(rest[1].ID) != "1" {
			t.Fatalf("got %v, want progress and the response", rest)
		}
	})
}

func testTL12(t *testing.T) {
	eachVersion(t, legacy, func(t *testing.T, v string) {
		s := serve(t).open(t, v)
		silent := s.start(t, call(1, "slow", obj{"key": "silent"}))
		s.await(t, "silent", "running")
		silent.cut()
		streaming := s.send(t, tokened(call(2, "steps", obj{"n": 1, "key": "streaming"}), 1)).events(t)
		streaming.message(t)
		s.await(t, "streaming", "halfway")
		streaming.cut()
		s.stays(t, "silent", "running", "a cut connection is not a cancellation")
		s.stays(t, "streaming", "halfway", "a cut connection is not a cancellation")
		if got := s.run(t, "slow_status", obj{"key": "silent"}); got != "running" {
			t.Fatalf("slow_status says %q", got)
		}
		for _, key := range []string{"silent", "streaming"} {
			s.release(key)
			s.await(t, key, "done")
		}
	})
}

func testTL13(t *testing.T) {
	eachVersion(t, legacy, func(t *testing.T, v string) {
		s := serve(t).open(t, v)
		for range 3 {
			if r := s.get(t, ""); r.status != 405 {
				r.events(t)
			}
		}
	})
}

func testTL14(t *testing.T) {
	eachVersion(t, legacy, func(t *testing.T, v string) {
		s := serve(t).open(t, v)
		standalone := s.listen(t, "")
		s.run(t, "echo", obj{"text": "x"})
		gone := s.start(t, call(2, "slow", obj{"key": "gone"}))
		s.await(t, "gone", "running")
		gone.cut()
		s.start(t, call(3, "slow", obj{"key": "cancelled"}))
		s.await(t, "cancelled", "running")
		s.send(t, notification("notifications/cancelled", obj{"requestId": 3})).accepted(t)
		s.await(t, "cancelled", "cancelled")
		s.release("gone")
		s.await(t, "gone", "done")
		standalone.quiet(t, "responses belong to the stream of their request")
	})
}

func testTL15(t *testing.T) {
	eachVersion(t, legacy, func(t *testing.T, v string) {
		s := serve(t).open(t, v)
		streams := []*stream{s.listen(t, ""), s.listen(t, "")}
		post := s.send(t, tokened(call(2, "steps", obj{"n": 1, "key": "k"}), 1)).events(t)
		post.message(t)
		s.touch(t, "one_more")
		got := make(chan string, 8)
		for i, st := range streams {
			go func() {
				for ev := range st.events {
					if ev.data != "" {
						got <- fmt.Sprint(ev.data, " on stream ", i)
					}
				}
			}()
		}
		select {
		case m := <-got:
			if !strings.Contains(m, "notifications/tools/list_changed") {
				t.Fatalf("got %s, want list_changed", m)
			}
		case <-time.After(patience):
			t.Fatal("no list_changed on either stream")
		}
		select {
		case m := <-got:
			t.Fatalf("a second time: %s", m)
		case <-time.After(quietly):
		}
		s.send(t, request(3, "resources/subscribe", obj{"uri": "test://item/01"})).result(t)
		other := s.env.open(t, v)
		unsubscribed := other.listen(t, "")
		s.updated(t, "test://item/01")
		select {
		case m := <-got:
			if !strings.Contains(m, "notifications/resources/updated") {
				t.Fatalf("got %s, want the update", m)
			}
		case <-time.After(patience):
			t.Fatal("no update on either stream")
		}
		s.send(t, request(4, "resources/unsubscribe", obj{"uri": "test://item/01"})).result(t)
		s.updated(t, "test://item/01")
		unsubscribed.quiet(t, "a session that did not subscribe")
		select {
		case m := <-got:
			t.Fatalf("after unsubscribing: %s", m)
		default:
		}
		s.release("k")
		if n := methods(post.rest(t)); n["notifications/progress"] != 1 || n["response"] != 1 || len(n) != 2 {
			t.Fatalf("the call's stream carries %v", n)
		}
	})
}

func testTL16(t *testing.T) {
	eachVersion(t, legacy, func(t *testing.T, v string) {
		s := serve(t).open(t, v)
		get := s.listen(t, "")
		seen := map[string]bool{}
		note := func(ids []string) {
			for _, id := range ids {
				if seen[id] {
					t.Errorf("event ID %q came twice", id)
				}
				seen[id] = true
			}
		}
		for i := range 5 {
			r := s.send(t, tokened(call(i+10, "steps", obj{"n": 2}), i))
			r.messages(t)
			if r.stream == nil {
				t.Fatal("progress came without a stream")
			}
			note(r.stream.ids())
		}
		s.touch(t, "one_more")
		get.message(t)
		note(get.ids())
		if len(seen) < 5*5+1 {
			t.Errorf("%d event IDs, want one for every message", len(seen))
		}
	})
}

// broken starts a call of 2n+1 messages, reads n of them, cuts the connection, lets the call end, and
// returns the ID of the last event read.
func (s *session) broken(t *testing.T, id int, key string, n int) string {
	t.Helper()
	stream := s.send(t, tokened(call(id, "steps", obj{"n": n, "key": key}), key)).events(t)
	var last string
	for range n {
		_, ev := stream.message(t)
		last = ev.id
	}
	if last == "" {
		t.Fatal("events carry no ID")
	}
	s.await(t, key, "halfway")
	stream.cut()
	s.release(key)
	s.await(t, key, "done")
	return last
}

func testTL17(t *testing.T) {
	// remaining demands progress from first to last of token, then the response to id.
	remaining := func(t *testing.T, got []message, token string, first, last, id int) {
		t.Helper()
		var want, have []string
		for i := first; i <= last; i++ {
			want = append(want, fmt.Sprint(token, " ", i))
		}
		want = append(want, fmt.Sprint("response ", id))
		for _, m := range got {
			if m.isResponse() {
				have = append(have, fmt.Sprint("response ", string(m.ID)))
			} else {
				p := m.params(t)
				have = append(have, fmt.Sprint(p["progressToken"], " ", p["progress"]))
			}
		}
		if diff := cmp.Diff(want, have); diff != "" {
			t.Fatalf("replayed (-want +got):\n%s", diff)
		}
	}
	eachVersion(t, legacy, func(t *testing.T, v string) {
		s := serve(t).open(t, v)
		standalone := s.listen(t, "")
		last := s.broken(t, 21, "a", 3)
		other := s.broken(t, 22, "b", 2)
		remaining(t, s.listen(t, last).rest(t), "a", 4, 6, 21)
		remaining(t, s.listen(t, other).rest(t), "b", 3, 4, 22)
		standalone.quiet(t, "nothing of a resumed stream goes elsewhere")

		t.Run("while it runs", func(t *testing.T) {
			stream := s.send(t, tokened(call(23, "steps", obj{"n": 1, "key": "c"}), "c")).events(t)
			_, ev := stream.message(t)
			stream.cut()
			resumed := s.listen(t, ev.id)
			resumed.quiet(t, "the call waits")
			s.release("c")
			remaining(t, resumed.rest(t), "c", 2, 2, 23)
		})
		t.Run("while the old connection is half open", func(t *testing.T) {
			stream := s.send(t, tokened(call(24, "steps", obj{"n": 1, "key": "d"}), "d")).events(t)
			_, ev := stream.message(t)
			resumed := s.listen(t, ev.id) // the old connection is still there
			s.release("d")
			remaining(t, resumed.rest(t), "d", 2, 2, 24)
			stream.ended(t, "the stream was taken over")
		})
		t.Run("no longer kept", func(t *testing.T) {
			stream := s.send(t, tokened(call(25, "steps", obj{"n": 5000, "key": "e"}), "e")).events(t)
			_, ev := stream.message(t)
			stream.cut()
			s.await(t, "e", "halfway") // nobody reads, and still it goes on
			r := s.get(t, ev.id)
			if r.status != 400 || r.response(t).Error == nil {
				t.Errorf("behind what is kept: HTTP %d, want 400 and an error", r.status)
			}
			s.release("e")
			s.await(t, "e", "done")
		})
		t.Run("no longer kept, by size", func(t *testing.T) {
			stream := s.send(t, tokened(call(27, "steps", obj{"n": 100, "text": strings.Repeat("x", 200_000), "key": "g"}), "g")).events(t)
			_, ev := stream.message(t)
			stream.cut()
			s.await(t, "g", "halfway")
			r := s.get(t, ev.id)
			if r.status != 400 || r.response(t).Error == nil {
				t.Errorf("behind what is kept: HTTP %d, want 400 and an error", r.status)
			}
			s.release("g")
			s.await(t, "g", "done")
		})
		t.Run("twice at once", func(t *testing.T) {
			stream := s.send(t, tokened(call(26, "steps", obj{"n": 1, "key": "f"}), "f")).events(t)
			_, ev := stream.message(t)
			stream.cut()
			first, second := s.listen(t, ev.id), s.listen(t, ev.id)
			s.release("f")
			first.ended(t, "the newer connection has the stream")
			remaining(t, second.rest(t), "f", 2, 2, 26)
		})
		t.Run("unknown position", func(t *testing.T) {
			for _, id := range []string{"nonsense", "AAAAAAAAAAAAAAAAAAAAAA-0", last + "9999", "-1", strings.Repeat("x", 5000)} {
				if r := s.get(t, id); r.status != 400 || r.response(t).Error == nil {
					t.Errorf("Last-Event-ID %.30q: HTTP %d %s, want 400 and an error", id, r.status, r.body)
				}
			}
		})
	})
}

func testTL18(t *testing.T) {
	eachVersion(t, legacy, func(t *testing.T, v string) {
		s := serve(t).open(t, v)
		first := s.listen(t, "")
		s.touch(t, "one_more")
		if m, _ := first.message(t); m.Method != "notifications/tools/list_changed" {
			t.Fatalf("got %v", m)
		}
		first.cut()
		second := s.listen(t, "")
		second.quiet(t, "what another stream has delivered must not come again")
		second.cut()
		// A call's stream that was cut is not for a fresh GET either.
		s.broken(t, 5, "k", 1)
		s.listen(t, "").quiet(t, "the rest of a call's stream comes only when it is resumed")
	})
}

func testTL19(t *testing.T) {
	eachVersion(t, []string{v11}, func(t *testing.T, v string) {
		s := serve(t).open(t, v)
		get := s.listen(t, "")
		s.touch(t, "first")
		_, ev := get.message(t)
		if ev.id == "" {
			t.Fatal("events of a GET stream carry no ID")
		}
		get.cut()
		s.touch(t, "second")
		resumed := s.listen(t, ev.id)
		if m, _ := resumed.message(t); m.Method != "notifications/tools/list_changed" {
			t.Fatalf("got %v, want the notification that was missed", m)
		}
		resumed.quiet(t, "only one was missed")
		s.touch(t, "third")
		if m, _ := resumed.message(t); m.Method != "notifications/tools/list_changed" {
			t.Fatalf("got %v, want the stream to go on", m)
		}

		taken := s.listen(t, resumed.ids()[0]) // while the other connection is half open
		if m, _ := taken.message(t); m.Method != "notifications/tools/list_changed" {
			t.Fatalf("got %v, want what came after the position", m)
		}
		s.touch(t, "fourth")
		if m, _ := taken.message(t); m.Method != "notifications/tools/list_changed" {
			t.Fatalf("got %v, want the stream to go on here", m)
		}
		resumed.ended(t, "the stream was taken over")

		t.Run("a question on a stream that was cut", func(t *testing.T) {
			stream := s.send(t, call(8, "elicit", obj{"key": "cut"})).events(t)
			first := stream.event(t).id
			stream.message(t)
			stream.cut()
			resumed := s.listen(t, first)
			ask, at := resumed.message(t)
			if ask.Method != "elicitation/create" {
				t.Fatalf("got %v, want the question", ask)
			}
			resumed.cut()
			s.answer(t, ask, ann["name"].(obj)).accepted(t)
			if rest := s.listen(t, at.id).rest(t); len(rest) != 1 || content(t, rest[0].object(t)) != "accept Ann" {
				t.Fatalf("got %v, want the result", rest)
			}
		})
		last := s.broken(t, 9, "post", 2)
		if rest := s.listen(t, last).rest(t); len(rest) != 3 || string(rest[2].ID) != "9" {
			t.Fatalf("got %v, want the rest of the call", rest)
		}
	})
}

func testTL20(t *testing.T) {
	e := serve(t)
	seen := map[string]bool{}
	var ids []string
	for range 200 {
		s := e.greet(t, v11, obj{})
		for _, c := range []byte(s.id) {
			if c < 0x21 || c > 0x7e {
				t.Fatalf("session ID %q has byte %#x", s.id, c)
			}
		}
		if seen[s.id] {
			t.Fatalf("session ID %q came twice", s.id)
		}
		seen[s.id] = true
		ids = append(ids, s.id)
	}
	// At least 128 bits: count, for each position, how evenly its characters are spread.
	var bits float64
	for i := range len(ids[0]) {
		chars := map[byte]bool{}
		for _, id := range ids {
			if len(id) != len(ids[0]) {
				t.Fatalf("session IDs differ in length: %q and %q", id, ids[0])
			}
			chars[id[i]] = true
		}
		switch n := len(chars); {
		case n >= 33:
			bits += 6
		case n >= 17:
			bits += 5
		case n >= 9:
			bits += 4
		}
	}
	if bits < 120 {
		t.Errorf("session IDs such as %q vary in about %.0f bits only", ids[0], bits)
	}
}

func testTL21(t *testing.T) {
	eachVersion(t, legacy, func(t *testing.T, v string) {
		e := serve(t)
		version := with("MCP-Protocol-Version", v)
		if v == v03 {
			version = without("MCP-Protocol-Version")
		}
		for _, m := range []obj{request(1, "tools/list", nil), request(1, "ping", nil), notification("notifications/initialized", nil), {"jsonrpc": "2.0", "id": 1, "result": obj{}}} {
			e.do(t, e.post(t, m, version)).fails(t, 400, -32600)
		}
		s := e.open(t, v)
		s.send(t, request(1, "ping", nil), func(r *http.Request) { r.Header.Add("Mcp-Session-Id", s.id) }).has(t, 400)
		s.send(t, request(1, "ping", nil), with("Mcp-Session-Id", "")).has(t, 400)
		e.do(t, e.request(t, http.MethodGet, "/mcp", nil, version)).has(t, 400)
		e.do(t, e.request(t, http.MethodDelete, "/mcp", nil, version)).has(t, 400)
	})
}

func testTL22(t *testing.T) {
	// gone demands that the session is unknown to every method.
	gone := func(t *testing.T, s *session) {
		t.Helper()
		s.send(t, request(1, "ping", nil)).has(t, 404).response(t)
		s.send(t, notification("notifications/initialized", nil)).has(t, 404)
		s.get(t, "").has(t, 404)
		s.get(t, "some-1").has(t, 404)
		s.delete(t).has(t, 404)
	}
	eachVersion(t, legacy, func(t *testing.T, v string) {
		e := serve(t)
		s := e.open(t, v)
		get := s.listen(t, "")
		s.delete(t).has(t, 200, 202, 204)
		get.ended(t, "the session is gone")
		gone(t, s)
		s.id = "no-such-session"
		gone(t, s)
	})
	t.Run("expired", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			e := serve(t, virtual, func(c *config) { c.options = sluice.Options{SessionTimeout: time.Minute} })
			s := e.open(t, v11)
			for range 4 { // use keeps it alive
				time.Sleep(40 * time.Second)
				s.send(t, request(1, "ping", nil)).has(t, 200)
			}
			time.Sleep(3 * time.Minute)
			gone(t, s)
		})
	})
	t.Run("idle but not expired", func(t *testing.T) { // it gives its memory back and has lost nothing
		synctest.Test(t, func(t *testing.T) {
			e := serve(t, virtual)
			for _, v := range legacy {
				s := e.open(t, v)
				s.send(t, request(1, "logging/setLevel", obj{"level": "error"})).result(t)
				s.send(t, request(2, "resources/subscribe", obj{"uri": "test://item/01"})).result(t)
				time.Sleep(20 * time.Minute)
				if n := methods(s.send(t, call(3, "log", obj{})).messages(t))["notifications/message"]; n != 1 {
					t.Errorf("%s: %d log messages at level error, want 1", v, n)
				}
				time.Sleep(20 * time.Minute)
				if got, want := s.run(t, "whoami", obj{}), "spec-client elicitation=true version="+v+" user="; got != want {
					t.Errorf("%s: got %q, want %q", v, got, want)
				}
				stream := s.send(t, call(4, "elicit", obj{"key": "k-" + v})).events(t)
				ask, _ := stream.message(t)
				s.answer(t, ask, ann["name"].(obj)).accepted(t)
				stream.message(t)
				time.Sleep(20 * time.Minute)
				get := s.listen(t, "")
				s.updated(t, "test://item/01")
				if m, _ := get.message(t); m.Method != "notifications/resources/updated" {
					t.Errorf("%s: got %v, want the update", v, m)
				}
				get.conn.Close()
			}
		})
	})
	t.Run("busy is not idle", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			e := serve(t, virtual, func(c *config) { c.options = sluice.Options{SessionTimeout: time.Minute} })
			s := e.open(t, v11)
			r := s.send(t, call(2, "slow", obj{"key": "k"}))
			r.events(t)
			time.Sleep(5 * time.Minute)
			s.release("k")
			if got := content(t, r.result(t)); got != "slow k" {
				t.Fatalf("got %q", got)
			}
			s.send(t, request(3, "ping", nil)).has(t, 200)
		})
	})
}

func testTL23(t *testing.T) {
	eachVersion(t, legacy, func(t *testing.T, v string) {
		e := serve(t)
		del := func(t *testing.T, s *session) {
			t.Helper()
			s.delete(t).has(t, 200, 202, 204, 405) // while what runs would go on for longer than anybody waits here
		}
		t.Run("idle", func(t *testing.T) { del(t, e.open(t, v)) })
		t.Run("call in flight", func(t *testing.T) {
			s := e.open(t, v)
			key := "slow-" + v
			s.start(t, call(1, "slow", obj{"key": key}))
			s.await(t, key, "running")
			del(t, s)
			s.await(t, key, "cancelled")
		})
		t.Run("elicitation pending", func(t *testing.T) {
			s := e.open(t, v)
			key := "elicit-" + v
			stream := s.send(t, call(1, "elicit", obj{"key": key})).events(t)
			stream.message(t)
			del(t, s)
			s.await(t, key, "failed")
			stream.rest(t)
		})
	})
}

func testTL24(t *testing.T) {
	e := serve(t)
	for _, v := range []string{v06, v11} {
		s := e.open(t, v)
		for _, bad := range []string{"garbage", "1999-01-01", "2099-01-01", "2025-06-19", "2025-11-25, 2025-11-25"} {
			edit := with("MCP-Protocol-Version", bad)
			m := s.send(t, request(1, "ping", nil), edit).fails(t, 400, -32022)
			var data struct {
				Supported []string `json:"supported"`
				Requested string   `json:"requested"`
			}
			if err := json.Unmarshal(m.Error.Data, &data); err != nil || data.Requested != bad || !slices.Equal(data.Supported, newest) {
				t.Errorf("version %q: error data %s", bad, m.Error.Data)
			}
			s.get(t, "", edit).has(t, 400)
			s.delete(t, edit).has(t, 400)
			s.send(t, notification("notifications/initialized", nil), edit).has(t, 400)
		}
		s.send(t, request(2, "ping", nil)).has(t, 200) // the DELETEs did nothing
	}
}

func testTL25(t *testing.T) {
	e := serve(t)
	batch := []obj{request(1, "ping", nil), request(2, "ping", nil)}
	for _, v := range []string{v06, v11} {
		s := e.open(t, v)
		s.send(t, request(1, "tools/list", nil), without("MCP-Protocol-Version")).has(t, 200).result(t)
		s.send(t, batch, without("MCP-Protocol-Version")).fails(t, 400, -32600)
	}
	old := e.open(t, v03)
	if got := old.send(t, batch).has(t, 200).messages(t); len(got) != 2 {
		t.Fatalf("got %v, want two responses", got)
	}
}
