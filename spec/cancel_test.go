package spec_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-mcp/sluice"
)

var cancellation = []statement{
	{ID: "C-01", Revisions: "24 03 06 11", Level: "SHOULD", Text: "notifications/cancelled stops the work", Test: testC01},
	{ID: "C-02", Revisions: "24 03 06 11", Level: "SHOULD NOT", Text: "A cancelled request is answered; its stream ends", Test: testC02},
	{ID: "C-03", Revisions: "all", Level: "SHOULD", Text: "Unknown, finished and malformed cancellations are ignored", Test: testC03},
	{ID: "C-04", Revisions: "all", Level: "MUST", Text: "Races are handled, IDs have types, other sessions are untouched", Test: testC04},
	{ID: "C-05", Revisions: "24 03 06 11", Level: "MUST NOT", Text: "initialize is cancelled", Test: testC05},
	{ID: "C-06", Revisions: "26", Level: "MUST", Text: "A disconnect cancels; the server sends notifications/cancelled only for subscriptions", Test: testC06},
	{ID: "C-07", Revisions: "all", Level: "SHOULD", Text: "Requests to the client time out, and free what they held", Test: testC07},
	{ID: "C-08", Revisions: "all", Level: "MUST", Text: "The progress token comes back as it was; progress grows and stops at the end", Test: testC08},
}

func cancelled(id any) obj {
	return notification("notifications/cancelled", obj{"requestId": id, "reason": "changed my mind"})
}

func testC01(t *testing.T) {
	eachVersion(t, legacy, func(t *testing.T, v string) {
		s := serve(t).open(t, v)
		s.start(t, call(1, "slow", obj{"key": "silent"}))
		s.await(t, "silent", "running")
		s.send(t, cancelled(1)).accepted(t)
		s.await(t, "silent", "cancelled")
		if got := s.run(t, "slow_status", obj{"key": "silent"}); got != "cancelled" {
			t.Errorf("slow_status says %q", got)
		}
		// A tool that waits for its client's answer is freed too.
		asking := s.send(t, call(2, "elicit", obj{"key": "asking"})).events(t)
		asking.message(t)
		s.send(t, cancelled(2)).accepted(t)
		s.await(t, "asking", "failed")
	})
}

func testC02(t *testing.T) {
	eachVersion(t, legacy, func(t *testing.T, v string) {
		s := serve(t).open(t, v)
		get := s.listen(t, "")
		silent := s.start(t, call(1, "slow", obj{"key": "silent"}))
		s.await(t, "silent", "running")
		s.send(t, cancelled(1)).accepted(t)
		for _, m := range silent.reply(t).messages(t) { // to the end, which must come
			t.Errorf("a cancelled call that was silent got %v", m)
		}
		streaming := s.send(t, tokened(call(2, "steps", obj{"n": 1, "key": "streaming"}), 1)).events(t)
		_, ev := streaming.message(t)
		s.await(t, "streaming", "halfway")
		s.send(t, cancelled(2)).accepted(t)
		streaming.ended(t, "a cancelled call has no response")
		// Nor by another way.
		if r := s.get(t, ev.id); r.stream != nil {
			r.stream.ended(t, "a cancelled call has no response, also not later")
		}
		get.quiet(t, "nor elsewhere")
	})
}

func testC03(t *testing.T) {
	eachVersion(t, legacy, func(t *testing.T, v string) {
		s := serve(t).open(t, v)
		x := s.start(t, call(7, "slow", obj{"key": "k"}))
		s.await(t, "k", "running")
		s.send(t, request(8, "ping", nil)).result(t)
		for _, params := range []any{obj{"requestId": 99}, obj{"requestId": 8}, obj{"requestId": "no-such"}} {
			s.send(t, notification("notifications/cancelled", params)).accepted(t)
		}
		for _, params := range []any{nil, obj{}, obj{"requestId": nil}, obj{"requestId": obj{}}, obj{"requestId": true}, obj{"requestId": 7.5}} {
			s.send(t, notification("notifications/cancelled", params)).has(t, 202, 400)
		}
		s.stays(t, "k", "running", "none of them names it")
		s.release("k")
		x.reply(t).result(t)
	})
	t.Run(v26, func(t *testing.T) {
		e := serve(t)
		x := e.begin(t, e.modern(t, call(7, "slow", obj{"key": "k"})))
		e.await(t, "k", "running")
		m := cancelled(7) // means nothing on this transport
		e.do(t, e.post(t, m, mirror(m)...)).has(t, 202, 400)
		e.stays(t, "k", "running", "a notification from anyone must not cancel it")
		e.release("k")
		x.reply(t).result(t)
	})
}

func testC04(t *testing.T) {
	e := serve(t)
	eachVersion(t, legacy, func(t *testing.T, v string) {
		s, other := e.open(t, v), e.open(t, v)
		key := func(name string) string { return name + "-" + v }
		number := s.start(t, call(603, "slow", obj{"key": key("number")}))
		s.start(t, call("603", "slow", obj{"key": key("word")}))
		foreign := other.start(t, call(603, "slow", obj{"key": key("foreign")}))
		for _, name := range []string{"number", "word", "foreign"} {
			e.await(t, key(name), "running")
		}
		s.send(t, cancelled("603")).accepted(t)
		e.await(t, key("word"), "cancelled")
		e.stays(t, key("number"), "running", `603 is not "603"`)
		e.stays(t, key("foreign"), "running", "another session's call")
		for name, x := range map[string]*exchange{"number": number, "foreign": foreign} {
			e.release(key(name))
			if got := content(t, x.reply(t).result(t)); got != "slow "+key(name) {
				t.Errorf("%s was answered %q", name, got)
			}
		}
		// Cancellations that race with the answer: nothing breaks.
		for i := range 20 {
			x := s.start(t, call(i, "echo", obj{"text": "x"}))
			s.send(t, cancelled(i)).accepted(t)
			x.reply(t).messages(t)
		}
		s.send(t, request("after", "ping", nil)).result(t)
	})
}

func testC05(t *testing.T) {
	eachVersion(t, legacy, func(t *testing.T, v string) {
		s := serve(t).greet(t, v, everything)
		s.send(t, cancelled(1)).accepted(t) // the ID of its initialize
		s.send(t, notification("notifications/initialized", nil)).accepted(t)
		s.send(t, cancelled(1)).accepted(t)
		if got := s.run(t, "echo", obj{"text": "alive"}); got != "alive" {
			t.Errorf("got %q", got)
		}
	})
}

func testC06(t *testing.T) {
	e := serve(t)
	for i := range 5 {
		key := fmt.Sprint("k", i)
		x := e.begin(t, e.modern(t, tokened(call(1, "steps", obj{"n": 1, "key": key}), i)))
		st := x.reply(t).events(t)
		st.message(t)
		e.await(t, key, "halfway")
		st.cut()
		e.await(t, key, "cancelled")
	}
	for name, m := range everyResult() {
		if methods(e.send26(t, m).messages(t))["notifications/cancelled"] > 0 {
			t.Errorf("%s: the server cancels", name)
		}
	}
}

func testC07(t *testing.T) {
	for _, tool := range []string{"elicit", "sample", "roots"} {
		t.Run(tool, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := serve(t, virtual)
				s := e.open(t, v11)
				stream := s.send(t, call(1, tool, obj{"key": "k"})).events(t)
				ask, _ := stream.message(t)
				e.awaitWithin(t, "k", "failed", 48*time.Hour)
				var answer *message
				retracted := false
				for _, m := range stream.rest(t) {
					if m.isResponse() {
						answer = &m
					}
					if m.Method == "notifications/cancelled" { // which the sender of the request SHOULD send
						retracted = string(mustJSON(t, m.params(t)["requestId"])) == string(ask.ID)
					}
				}
				if !retracted {
					t.Errorf("the client is not told that %s has timed out", ask.ID)
				}
				if answer == nil || answer.Error == nil && !isError(answer.object(t)) {
					t.Errorf("the call was answered %v, want an error", answer)
				}
			})
		})
	}
	t.Run("vanished", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			e := serve(t, virtual, func(c *config) { c.options = sluice.Options{SessionTimeout: time.Minute} })
			s := e.open(t, v11)
			stream := s.send(t, call(1, "elicit", obj{"key": "k"})).events(t)
			stream.message(t)
			stream.conn.Close()
			e.awaitWithin(t, "k", "failed", 48*time.Hour)
			time.Sleep(time.Hour)
			s.send(t, request(2, "ping", nil)).has(t, 404)
		})
	})
}

func testC08(t *testing.T) {
	e := serve(t)
	sessions := map[string]*session{}
	for _, v := range legacy {
		sessions[v] = e.open(t, v)
	}
	send := func(v string, m obj) *reply {
		if v == v26 {
			return e.send26(t, m)
		}
		return sessions[v].send(t, m)
	}
	for _, v := range append([]string{v26}, legacy...) {
		for i, token := range []string{`"abc"`, `7`, `0`, `-1`, `""`, `"7"`, `9007199254740993`} {
			all := send(v, tokened(call(i, "steps", obj{"n": 2}), json.RawMessage(token))).messages(t)
			if len(all) != 5 {
				t.Errorf("%s, token %s: got %v, want four notifications and the response", v, token, all)
				continue
			}
			last := 0.0
			for _, m := range all[:4] {
				var p struct {
					Token    json.RawMessage `json:"progressToken"`
					Progress float64         `json:"progress"`
				}
				if err := json.Unmarshal(m.Params, &p); err != nil || !sameJSON(p.Token, token) {
					t.Errorf("%s: token %s came back in %v", v, token, m)
				}
				if p.Progress <= last {
					t.Errorf("%s: progress fell from %v to %v", v, last, p.Progress)
				}
				last = p.Progress
			}
		}
		// No token, no progress.
		if n := methods(send(v, call(50, "steps", obj{"n": 1})).messages(t)); n["notifications/progress"] != 0 {
			t.Errorf("%s: progress for a call that gave no token: %v", v, n)
		}
		// After the answer there is none, on no stream.
		var get *stream
		if v != v26 {
			get = sessions[v].listen(t, "")
		}
		key := "late-" + v
		all := send(v, tokened(call(51, "late", obj{"key": key}), "late")).messages(t)
		if n := methods(all); n["notifications/progress"] != 1 || n["response"] != 1 {
			t.Errorf("%s: got %v", v, all)
		}
		e.release(key)
		e.await(t, key, "late")
		if get != nil {
			get.quiet(t, "progress stops after completion")
		}
	}
}
