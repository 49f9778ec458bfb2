package spec_test

import (
	"encoding/json"
	"strings"
	"testing"
)

var batching = []statement{
	{ID: "T03-01", Revisions: "03", Level: "MUST", Text: "Batches are received", Test: testT0301},
	{ID: "T03-02", Revisions: "03", Level: "MUST", Text: "A batch of only notifications and responses is answered 202 without a body", Test: testT0302},
	{ID: "T03-03", Revisions: "03", Level: "SHOULD", Text: "Each request of a batch gets one response, then the stream closes", Test: testT0303},
	{ID: "T03-04", Revisions: "03", Level: "MUST", Text: "An empty batch is an invalid request; a bad element is an error of its own", Test: testT0304},
	{ID: "T03-05", Revisions: "03", Level: "MUST NOT", Text: "initialize comes in a batch", Test: testT0305},
	{ID: "T03-06", Revisions: "06 11 26", Level: "MUST", Text: "A body is a single message: batches are refused", Test: testT0306},
	{ID: "T03-07", Revisions: "03", Level: "(robust)", Text: "The size of a batch is bounded, and so are repeated IDs", Test: testT0307},
}

// byID sorts responses by the ID they answer and fails on a second one.
func byID(t *testing.T, all []message) map[string]message {
	t.Helper()
	got := map[string]message{}
	for _, m := range all {
		if !m.isResponse() {
			continue
		}
		if _, twice := got[string(m.ID)]; twice && string(m.ID) != "null" {
			t.Fatalf("two responses for %s in %v", m.ID, all)
		}
		got[string(m.ID)] = m
	}
	return got
}

func testT0301(t *testing.T) {
	s := serve(t).open(t, v03)
	got := byID(t, s.send(t, []obj{request(1, "ping", nil), call("two", "echo", obj{"text": "hi"})}).has(t, 200).messages(t))
	if len(got) != 2 || got["1"].Error != nil || content(t, got[`"two"`].object(t)) != "hi" {
		t.Fatalf("got %v, want the two results", got)
	}
	s.send(t, []obj{request(5, "ping", nil)}).has(t, 200).result(t) // a batch of one
}

func testT0302(t *testing.T) {
	s := serve(t).open(t, v03)
	n := notification("notifications/roots/list_changed", nil)
	s.send(t, []obj{n, n}).accepted(t)

	stream := s.send(t, call(1, "elicit", obj{"key": "k"})).events(t)
	ask, _ := stream.message(t)
	s.send(t, []any{n, obj{"jsonrpc": "2.0", "id": ask.ID, "result": obj{"action": "accept", "content": obj{"name": "Ann"}}}}).accepted(t)
	if m, _ := stream.message(t); content(t, m.object(t)) != "accept Ann" {
		t.Fatalf("got %v", m)
	}
}

func testT0303(t *testing.T) {
	s := serve(t).open(t, v03)
	all := s.send(t, []obj{
		tokened(call(1, "steps", obj{"n": 1}), "a"), request(2, "ping", nil), notification("notifications/x", nil),
		tokened(call(3, "steps", obj{"n": 2}), "b"),
	}).has(t, 200).messages(t) // to the end
	if got := byID(t, all); len(got) != 3 {
		t.Fatalf("got responses %v, want 1, 2 and 3", got)
	}
	if n := methods(all)["notifications/progress"]; n != 2+4 {
		t.Errorf("%d progress notifications, want 6", n)
	}
	// A call of a batch may ask, too.
	stream := s.send(t, []obj{call(4, "elicit", obj{"key": "k"}), request(5, "ping", nil)}).events(t)
	var rest []message
	for {
		m, _ := stream.message(t)
		if m.Method == "elicitation/create" {
			s.answer(t, m, ann["name"].(obj)).accepted(t)
			break
		}
		rest = append(rest, m)
	}
	if got := byID(t, append(rest, stream.rest(t)...)); len(got) != 2 || content(t, got["4"].object(t)) != "accept Ann" {
		t.Fatalf("got responses %v, want 4 and 5", got)
	}
}

func testT0304(t *testing.T) {
	s := serve(t).open(t, v03)
	if m := s.send(t, `[]`).fails(t, 400, -32600); m.ID != nil && string(m.ID) != "null" {
		t.Errorf("error for [] carries ID %s", m.ID)
	}
	all := s.send(t, `[{"jsonrpc":"2.0","id":1,"method":"ping"},
		{"jsonrpc":"2.0","id":2,"method":"no/such"},
		1,
		{"id":3,"method":"ping"},
		{"jsonrpc":"2.0","id":4,"method":"tools/call","params":{"name":"echo","arguments":{"text":"ok"}}}]`).has(t, 200).messages(t)
	got := byID(t, all)
	if m := got["1"]; m.Result == nil {
		t.Errorf("ping: %v", m)
	}
	if m := got["2"]; m.Error == nil || m.Error.Code != -32601 {
		t.Errorf("no/such: %v", m)
	}
	if m := got["4"]; m.Result == nil {
		t.Errorf("echo: %v", m)
	}
	invalid := 0
	for _, m := range all {
		if m.Error != nil && m.Error.Code == -32600 {
			invalid++
		}
	}
	if invalid != 2 || len(all) != 5 {
		t.Errorf("%d of %d messages are -32600, want 2 of 5: %v", invalid, len(all), all)
	}
}

func testT0305(t *testing.T) {
	e := serve(t)
	init := initialize(1, v03, obj{})
	e.do(t, e.post(t, []obj{init})).fails(t, 400, -32600)
	e.do(t, e.post(t, []obj{init, request(2, "ping", nil)})).fails(t, 400, -32600)
	s := e.open(t, v03)
	r := s.send(t, []obj{request(2, "ping", nil), init})
	for _, m := range r.messages(t) {
		if m.Result != nil && strings.Contains(string(m.Result), "protocolVersion") {
			t.Errorf("initialize was served in a batch: %v", m)
		}
	}
}

func testT0306(t *testing.T) {
	e := serve(t)
	eachVersion(t, []string{v06, v11}, func(t *testing.T, v string) {
		s := e.open(t, v)
		for _, body := range []any{[]obj{request(1, "ping", nil)}, []obj{notification("notifications/x", nil)}, `[]`, `[1]`} {
			s.send(t, body).fails(t, 400, -32600)
		}
	})
	t.Run(v26, func(t *testing.T) {
		m := stateless(request(1, "tools/list", nil), obj{})
		e.do(t, e.post(t, []obj{m}, mirror(m)...)).fails(t, 400, -32600)
	})
}

func testT0307(t *testing.T) {
	s := serve(t).open(t, v03)
	t.Run("flood", func(t *testing.T) {
		body := "[" + strings.Repeat(`{"jsonrpc":"2.0","id":1,"method":"ping"},`, 19_999) + `{"jsonrpc":"2.0","id":1,"method":"ping"}]`
		r := s.send(t, body).has(t, 400, 413, 429)
		if m := r.response(t); m.Error == nil {
			t.Fatalf("got %v, want one error", m)
		}
	})
	t.Run("same ID twice", func(t *testing.T) {
		all := s.send(t, []obj{request(1, "ping", nil), request(1, "ping", nil)}).has(t, 200, 400).messages(t)
		results, invalid := 0, 0
		for _, m := range all {
			if m.Result != nil {
				results++
			}
			if m.Error != nil && m.Error.Code == -32600 {
				invalid++
			}
		}
		if results > 1 || invalid == 0 {
			t.Fatalf("got %v, want at most one result, and an error for the second", all)
		}
	})
	t.Run("good ones pass", func(t *testing.T) {
		var batch []obj
		for i := range 20 {
			batch = append(batch, request(i+1, "ping", nil))
		}
		body, _ := json.Marshal(batch)
		if got := byID(t, s.send(t, body).has(t, 200).messages(t)); len(got) != 20 {
			t.Fatalf("%d responses, want 20", len(got))
		}
	})
}
