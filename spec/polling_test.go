package spec_test

import (
	"context"
	"regexp"
	"strconv"
	"testing"
	"time"
)

var polling = []statement{
	{ID: "T11-01", Revisions: "11", Level: "SHOULD", Text: "A stream begins with an event that has an ID and no data", Test: testT1101},
	{ID: "T11-02", Revisions: "24 03 06", Level: "(compat)", Text: "Older revisions see no such event, for empty data breaks their clients", Test: testT1102},
	{ID: "T11-03", Revisions: "11", Level: "SHOULD", Text: "`retry` comes before the server closes a connection early", Test: testT1103},
	{ID: "T11-04", Revisions: "11", Level: "(text)", Text: "After such a close, GET with Last-Event-ID gives the response", Test: testT1104},
	{ID: "T11-05", Revisions: "11", Level: "SHOULD", Text: "A GET stream does the same: ID first, `retry` before a close", Test: testT1105},
	{ID: "T11-06", Revisions: "11", Level: "SHOULD", Text: "An event ID names its stream", Test: testT1106},
}

// primed demands that the stream begins with an ID and empty data.
func primed(t *testing.T, s *stream) string {
	t.Helper()
	ev := s.event(t)
	if !ev.hasID || ev.id == "" || ev.data != "" {
		t.Fatalf("first event is %+v, want an ID and empty data", ev)
	}
	if !ev.hasData {
		t.Fatalf("first event %+v has no data field, so that clients do not dispatch it", ev)
	}
	return ev.id
}

func testT1101(t *testing.T) {
	s := serve(t).open(t, v11)
	x := s.start(t, call(1, "slow", obj{"key": "k"}))
	s.await(t, "k", "running")
	stream := x.reply(t).events(t) // silent: still, headers and the first event come
	first := primed(t, stream)
	stream.cut()
	resumed := s.listen(t, first)
	s.release("k")
	if rest := resumed.rest(t); len(rest) != 1 || string(rest[0].ID) != "1" {
		t.Fatalf("resuming from the first event gave %v, want the response", rest)
	}
}

func testT1102(t *testing.T) {
	eachVersion(t, []string{v03, v06}, func(t *testing.T, v string) {
		s := serve(t).open(t, v)
		r := s.send(t, tokened(call(1, "steps", obj{"n": 1}), 1))
		r.messages(t)
		get := s.listen(t, "")
		s.touch(t, "one_more")
		get.message(t)
		for _, ev := range append(r.stream.seen, get.seen...) {
			if ev.hasData && ev.data == "" {
				t.Errorf("event %+v has empty data", ev)
			}
		}
	})
	t.Run(v24, func(t *testing.T) {
		c := serve(t).openSSE(t).initialized(t)
		for _, ev := range c.seen {
			if ev.hasData && ev.data == "" {
				t.Errorf("event %+v has empty data", ev)
			}
		}
	})
}

// closed calls close_stream and reads its stream to the early end; it returns the last event's ID.
func (s *session) closed(t *testing.T, id int, key string) (last string, retry time.Duration) {
	t.Helper()
	stream := s.send(t, call(id, "close_stream", obj{"key": key})).events(t)
	s.await(t, key, "closed")
	stream.ended(t, "the response is not due yet")
	for _, ev := range stream.seen {
		if ev.hasID && ev.id != "" {
			last = ev.id
		}
		if ev.hasRetry {
			ms, err := strconv.Atoi(ev.retry)
			if err != nil {
				t.Fatalf("retry is %q", ev.retry)
			}
			retry = time.Duration(ms) * time.Millisecond
		}
	}
	return last, retry
}

func testT1103(t *testing.T) {
	s := serve(t).open(t, v11)
	if _, retry := s.closed(t, 1, "k"); retry != 10*time.Millisecond {
		t.Fatalf("retry is %v, want the 10ms that the tool asked for", retry)
	}
	s.release("k")
}

func testT1104(t *testing.T) {
	s := serve(t).open(t, v11)
	last, _ := s.closed(t, 1, "k")
	resumed := s.listen(t, last)
	resumed.quiet(t, "the tool waits")
	s.release("k")
	if rest := resumed.rest(t); len(rest) != 1 || content(t, rest[0].object(t)) != "after the close" {
		t.Fatalf("got %v, want the response", rest)
	}
	// The same when the response is there before the client comes back.
	last, _ = s.closed(t, 2, "l")
	s.release("l")
	if rest := s.listen(t, last).rest(t); len(rest) != 1 || string(rest[0].ID) != "2" {
		t.Fatalf("got %v, want the response", rest)
	}
}

func testT1105(t *testing.T) {
	e := serve(t)
	s := e.open(t, v11)
	get := s.listen(t, "")
	primed(t, get)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := e.h.Drain(ctx); err != nil { // the server closes the connection on its own
		t.Fatalf("Drain: %v", err)
	}
	get.ended(t, "nothing was due")
	retry := false
	for _, ev := range get.seen {
		retry = retry || ev.hasRetry
	}
	if !retry {
		t.Fatalf("the stream was closed without retry: %+v", get.seen)
	}
}

func testT1106(t *testing.T) {
	s := serve(t).open(t, v11)
	a := s.broken(t, 1, "a", 1)
	b := s.broken(t, 2, "b", 1)
	shape := regexp.MustCompile(`^[!-~]+-[0-9]+$`)
	for _, id := range []string{a, b} {
		if !shape.MatchString(id) {
			t.Errorf("event ID %q is not <stream>-<index>", id)
		}
	}
	// Resumed in the other order, by the ID alone.
	for id, last := range map[string]string{"2": b, "1": a} {
		rest := s.listen(t, last).rest(t)
		if len(rest) != 2 || string(rest[1].ID) != id {
			t.Errorf("resuming %q gave %v, want the rest of call %s", last, rest, id)
		}
	}
}
