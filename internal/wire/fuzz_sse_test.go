package wire

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

// sseEvent is what a client's parser dispatches.
type sseEvent struct {
	name, id, data string
}

// parseSSE interprets an event stream as the WHATWG's HTML standard says ("Interpreting an event stream").
func parseSSE(stream []byte) (events []sseEvent, comments int) {
	text := strings.ReplaceAll(string(stream), "\r\n", "\n")
	text = strings.ReplaceAll(text, "\r", "\n")
	var name, data, lastID string
	for line := range strings.Lines(text) {
		if !strings.HasSuffix(line, "\n") {
			break // an event that is not complete is not dispatched
		}
		line = strings.TrimSuffix(line, "\n")
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case line == "":
			if data != "" {
				events = append(events, sseEvent{name, lastID, strings.TrimSuffix(data, "\n")})
			}
			name, data = "", ""
		case strings.HasPrefix(line, ":"):
			comments++
		case field == "event":
			name = value
		case field == "data":
			data += value + "\n"
		case field == "id" && !strings.Contains(value, "\x00"):
			lastID = value
		}
	}
	return events, comments
}

func FuzzAppendEvent(f *testing.F) {
	f.Fuzz(func(t *testing.T, named bool, index int64, data []byte) {
		name, id := "", ""
		if named {
			name = "message"
		}
		if index >= 0 {
			id = EventID("ABC234", index)
		}
		// Something before and after, for nothing may leak into a neighbour.
		stream := AppendEvent([]byte(KeepAlive), "", "", []byte("before"))
		stream = AppendEvent(stream, name, id, data)
		stream = AppendRetry(stream, 250*time.Millisecond)
		stream = AppendEvent(stream, "", "", []byte("after"))

		want := string(bytes.ReplaceAll(bytes.ReplaceAll(data, []byte("\r\n"), []byte("\n")), []byte("\r"), []byte("\n")))
		events, comments := parseSSE(stream)
		if len(events) != 3 || comments != 1 {
			t.Fatalf("%q shows %d events and %d comments", stream, len(events), comments)
		}
		for i, e := range []sseEvent{{"", "", "before"}, {name, id, want}, {"", id, "after"}} {
			if events[i] != e {
				t.Fatalf("event %d of %q is %+v, want %+v", i, stream, events[i], e)
			}
		}
	})
}

func FuzzParseEventID(f *testing.F) {
	f.Fuzz(func(t *testing.T, id, stream string, index int64) {
		if s, i, ok := ParseEventID(id); ok {
			if EventID(s, i) != id || s == "" || i < 0 {
				t.Fatalf("%q was read as %q, %d", id, s, i)
			}
		} else if s != "" || i != 0 {
			t.Fatalf("%q failed with %q, %d", id, s, i)
		}
		const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
		made := EventID(stream, index)
		s, i, ok := ParseEventID(made)
		if want := stream != "" && strings.Trim(stream, alphabet) == "" && index >= 0 && len(made) <= 128; ok != want {
			t.Fatalf("%q: %v, want %v", made, ok, want)
		}
		if ok && (s != stream || i != index) {
			t.Fatalf("%q is not %q, %d", made, s, i)
		}
	})
}
