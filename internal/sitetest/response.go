package sitetest

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// A Response is one of either shape.
type Response struct {
	*http.Response
	lines *bufio.Scanner
	Last  string // event ID
	Retry bool
}

// NewResponse returns the reader of a response.
func NewResponse(resp *http.Response) *Response {
	a := &Response{Response: resp, lines: bufio.NewScanner(resp.Body)}
	a.lines.Buffer(nil, 16<<20)
	return a
}

// Stream reports whether it is a stream of events.
func (a *Response) Stream() bool {
	return strings.HasPrefix(a.Header.Get("Content-Type"), "text/event-stream")
}

// A Message is a JSON-RPC message.
type Message struct {
	ID     json.RawMessage `json:"id"`
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
	Result json.RawMessage `json:"result"`
	Error  json.RawMessage `json:"error"`
}

// Text is what a tool has answered, or an error.
func (m Message) Text() string {
	if m.Error != nil {
		return "error " + string(m.Error)
	}
	var r struct {
		Content []struct{ Text string }
		IsError bool
	}
	_ = json.Unmarshal(m.Result, &r)
	var out strings.Builder
	if r.IsError {
		out.WriteString("tool error: ")
	}
	for _, c := range r.Content {
		out.WriteString(c.Text)
	}
	return out.String()
}

// An Event is one block of a stream.
type Event struct {
	ID    string
	Data  string
	Retry bool
}

// Message is what the event carries.
func (e Event) Message() (m Message) {
	_ = json.Unmarshal([]byte(e.Data), &m)
	return m
}

// Next returns the next event, io.EOF at an orderly end.
func (a *Response) Next() (Event, error) {
	var e Event
	some, isEvent := false, false
	for a.lines.Scan() {
		line := a.lines.Text()
		name, value, _ := strings.Cut(line, ": ")
		switch {
		case line == "" && some:
			if e.ID != "" {
				a.Last = e.ID
			}
			a.Retry = a.Retry || e.Retry
			if !isEvent {
				e.ID = "" // an ID without data is no event: it only says where to go on
			}
			if some = isEvent || e.Retry; some {
				return e, nil
			}
		case line == "":
		case name == "id":
			e.ID, some = value, true
		case name == "data" || line == "data:":
			e.Data, some, isEvent = value, true, true
		case name == "retry":
			e.Retry, some = true, true
		}
	}
	if err := a.lines.Err(); err != nil {
		return e, err
	}
	return e, io.EOF
}

// Message returns the next message, of a stream or the only one of a JSON body.
func (a *Response) Message(t testing.TB) Message {
	t.Helper()
	if !a.Stream() {
		var m Message
		body, err := io.ReadAll(a.Body)
		if err == nil {
			err = json.Unmarshal(body, &m)
		}
		if err != nil {
			t.Fatalf("status %d, body %q: %v", a.StatusCode, body, err)
		}
		return m
	}
	for {
		e, err := a.Next()
		if err != nil {
			t.Fatalf("after event %q: %v", a.Last, err)
		}
		if e.Data != "" {
			return e.Message()
		}
	}
}

// Rest returns the messages up to the stream's end.
func (a *Response) Rest(t testing.TB) []Message {
	t.Helper()
	var out []Message
	for {
		e, err := a.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatalf("after event %q: %v", a.Last, err)
		}
		if e.Data != "" {
			out = append(out, e.Message())
		}
	}
}

// Leave closes the connection.
func (a *Response) Leave() { _ = a.Body.Close() }

// Want checks the result of the next message.
func (a *Response) Want(t *testing.T, text string) {
	t.Helper()
	if m := a.Message(t); m.Text() != text {
		t.Errorf("want %q, got %s (status %d)", text, m.Text(), a.StatusCode)
	}
}

// WantStatus checks the status of HTTP.
func (a *Response) WantStatus(t *testing.T, what string, status int) {
	t.Helper()
	if a.StatusCode != status {
		body, _ := io.ReadAll(a.Body)
		t.Errorf("%s: status %d, want %d: %s", what, a.StatusCode, status, body)
	}
}

// WantBusy checks that the client is told to come back.
func (a *Response) WantBusy(t *testing.T, what string) {
	t.Helper()
	a.WantStatus(t, what, http.StatusServiceUnavailable)
	if a.StatusCode == http.StatusServiceUnavailable && a.Header.Get("Retry-After") == "" {
		t.Errorf("%s: 503 without Retry-After", what)
	}
}

// Progress is how far a notification says that its call has come.
func (m Message) Progress() int {
	var p struct{ Progress int }
	_ = json.Unmarshal(m.Params, &p)
	return p.Progress
}

// Levels returns the levels of the log messages of a call.
func Levels(t *testing.T, a *Response) string {
	t.Helper()
	var levels []string
	for {
		m := a.Message(t)
		if m.Method != "notifications/message" {
			return strings.Join(levels, " ")
		}
		var p struct{ Level string }
		_ = json.Unmarshal(m.Params, &p)
		levels = append(levels, p.Level)
	}
}

// A Listener collects the methods of what a stream says.
type Listener struct {
	Name     string
	Response *Response
	got      chan string
}

// Listen begins to read a stream.
func Listen(name string, a *Response) *Listener {
	l := &Listener{Name: name, Response: a, got: make(chan string, 1000)}
	go func() {
		for {
			e, err := a.Next()
			if err != nil {
				return
			}
			if e.Data != "" {
				l.got <- e.Message().Method
			}
		}
	}()
	return l
}

// Heard returns what has come since the last time, sorted.
func (l *Listener) Heard() []string {
	var out []string
	for len(l.got) > 0 {
		out = append(out, strings.TrimPrefix(<-l.got, "notifications/"))
	}
	slices.Sort(out)
	return out
}
