package spec_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// An event is one block of an SSE stream as it came: fields that were absent are told from empty ones.
type event struct {
	id, name, data, retry, comment                string
	hasID, hasName, hasData, hasRetry, hasComment bool
}

// A stream is the body of a text/event-stream answer. A goroutine reads it, so that a
// wait which times out does not lose what comes after.
type stream struct {
	*link
	events chan event
	seen   []event
	over   bool  // the end has been read
	why    error // valid once events is closed
}

func readEvents(l *link, body io.Reader) *stream {
	s := &stream{link: l, events: make(chan event, 1<<14)}
	go func() {
		defer close(s.events)
		br := bufio.NewReader(body)
		var ev event
		for {
			line, err := br.ReadString('\n')
			if err != nil {
				s.why = err
				return
			}
			line = strings.TrimRight(line, "\r\n")
			if line == "" {
				if ev != (event{}) {
					select {
					case s.events <- ev:
					case <-l.over: // nobody reads any more
						return
					}
				}
				ev = event{}
				continue
			}
			field, value, _ := strings.Cut(line, ":")
			value = strings.TrimPrefix(value, " ")
			switch field {
			case "":
				ev.comment, ev.hasComment = value, true
			case "id":
				ev.id, ev.hasID = value, true
			case "event":
				ev.name, ev.hasName = value, true
			case "retry":
				ev.retry, ev.hasRetry = value, true
			case "data":
				if ev.hasData {
					ev.data += "\n"
				}
				ev.data, ev.hasData = ev.data+value, true
			}
		}
	}()
	return s
}

var errQuiet = errors.New("nothing came")

// poll returns the next event within d, errQuiet, or io.EOF when the stream has ended.
func (s *stream) poll(d time.Duration) (event, error) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case ev, ok := <-s.events:
		if !ok {
			s.over = true
			return event{}, io.EOF
		}
		s.seen = append(s.seen, ev)
		return ev, nil
	case <-timer.C:
		return event{}, errQuiet
	}
}

// event returns the next event that is more than a comment.
func (s *stream) event(t *testing.T) event {
	t.Helper()
	for {
		ev, err := s.poll(patience)
		switch {
		case errors.Is(err, io.EOF):
			t.Fatalf("the stream ended (%v) where an event was due; seen: %+.200v", s.why, s.seen)
		case err != nil:
			t.Fatalf("no event within %v; seen: %+.200v", patience, s.seen)
		}
		if ev.hasData || ev.hasID || ev.hasRetry {
			return ev
		}
	}
}

// message returns the next event that carries a JSON-RPC message, passing over priming and retry events.
func (s *stream) message(t *testing.T) (message, event) {
	t.Helper()
	for {
		ev := s.event(t)
		if ev.data != "" {
			return decode(t, []byte(ev.data)), ev
		}
	}
}

// rest reads the stream to its end and returns the messages still on it. They may be many; each comes in time.
func (s *stream) rest(t *testing.T) []message {
	t.Helper()
	var all []message
	deadline := time.Now().Add(patience)
	for {
		ev, err := s.poll(time.Until(deadline))
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatalf("neither a message nor the end of the stream within %v; seen: %+.200v", patience, s.seen)
		}
		if ev.data != "" {
			all = append(all, decode(t, []byte(ev.data)))
			deadline = time.Now().Add(patience)
		}
	}
}

// quiet fails when a message comes, or the stream ends, within the next moment.
func (s *stream) quiet(t *testing.T, why string) {
	t.Helper()
	deadline := time.Now().Add(quietly)
	for {
		ev, err := s.poll(time.Until(deadline))
		switch {
		case errors.Is(err, io.EOF):
			t.Fatalf("the stream ended (%v); %s", s.why, why)
		case err != nil:
			return
		case ev.data != "":
			t.Fatalf("unexpected message %s; %s", ev.data, why)
		}
	}
}

// ended waits for the end of the stream, failing on messages.
func (s *stream) ended(t *testing.T, why string) {
	t.Helper()
	if rest := s.rest(t); len(rest) > 0 {
		t.Fatalf("unexpected messages %v before the end; %s", rest, why)
	}
}

// ids returns the IDs of the events read so far.
func (s *stream) ids() []string {
	var ids []string
	for _, ev := range s.seen {
		if ev.hasID && ev.id != "" {
			ids = append(ids, ev.id)
		}
	}
	return ids
}

// A message is any JSON-RPC message. ID keeps the bytes as they came.
type message struct {
	JSONRPC string          `json:"jsonrpc"`
	ID      json.RawMessage `json:"id,omitempty"`
	Method  string          `json:"method,omitempty"`
	Params  json.RawMessage `json:"params,omitempty"`
	Result  json.RawMessage `json:"result,omitempty"`
	Error   *rpcError       `json:"error,omitempty"`
}

type rpcError struct {
	Code    int             `json:"code"`
	Message string          `json:"message"`
	Data    json.RawMessage `json:"data,omitempty"`
}

func (m message) String() string {
	b, _ := json.Marshal(m)
	return string(b)
}

// isResponse reports whether m answers a request.
func (m message) isResponse() bool { return m.Method == "" && (m.Result != nil || m.Error != nil) }

// isRequest reports whether m asks the client something.
func (m message) isRequest() bool { return m.Method != "" && m.ID != nil }

// decode demands a well-formed JSON-RPC 2.0 message, as L-01 and L-04 ask of all that the endpoint sends.
func decode(t *testing.T, data []byte) message {
	t.Helper()
	var m message
	if err := json.Unmarshal(data, &m); err != nil {
		t.Fatalf("not a JSON-RPC message: %v: %.300s", err, data)
	}
	if m.JSONRPC != "2.0" {
		t.Fatalf("no jsonrpc 2.0 in %.300s", data)
	}
	if m.Error != nil && m.Error.Message == "" {
		t.Fatalf("error without a message: %.300s", data)
	}
	return m
}

// messages returns everything an answer carries: of a JSON body (one message or a batch), or of a stream to its end.
func (r *reply) messages(t *testing.T) []message {
	t.Helper()
	if r.stream != nil {
		var all []message
		deadline := time.Now().Add(patience)
		for {
			ev, err := r.stream.poll(time.Until(deadline))
			if errors.Is(err, io.EOF) {
				return all
			}
			if err != nil {
				t.Fatalf("neither a message nor the end of the stream within %v; seen: %+.200v", patience, r.stream.seen)
			}
			if ev.data != "" {
				all = append(all, decodeAll(t, []byte(ev.data))...)
				deadline = time.Now().Add(patience)
			}
		}
	}
	if len(r.body) == 0 {
		return nil
	}
	return decodeAll(t, r.body)
}

func decodeAll(t *testing.T, data []byte) []message {
	t.Helper()
	if data[0] != '[' {
		return []message{decode(t, data)}
	}
	var raw []json.RawMessage
	if err := json.Unmarshal(data, &raw); err != nil {
		t.Fatalf("not a batch: %v: %.300s", err, data)
	}
	var all []message
	for _, r := range raw {
		all = append(all, decode(t, r))
	}
	return all
}

// response reads the answer to its end and returns the one response in it.
func (r *reply) response(t *testing.T) message {
	t.Helper()
	var responses []message
	all := r.messages(t)
	for _, m := range all {
		if m.isResponse() {
			responses = append(responses, m)
		}
	}
	if len(responses) != 1 {
		t.Fatalf("HTTP %d (%s) with %d responses, want one: %v %.300s", r.status, r.header.Get("Content-Type"), len(responses), all, r.body)
	}
	return responses[0]
}

// result returns the result of the one response, decoded into a generic object.
func (r *reply) result(t *testing.T) obj {
	t.Helper()
	m := r.response(t)
	if m.Error != nil {
		t.Fatalf("HTTP %d: error %d %q (data %s), want a result", r.status, m.Error.Code, m.Error.Message, m.Error.Data)
	}
	return m.object(t)
}

// object decodes m's result.
func (m message) object(t *testing.T) obj {
	t.Helper()
	if m.Result == nil {
		t.Fatalf("no result in %v", m)
	}
	return object(t, m.Result)
}

// params decodes m's params.
func (m message) params(t *testing.T) obj {
	t.Helper()
	return object(t, m.Params)
}

// object decodes numbers as json.Number, so that large ones keep their digits.
func object(t *testing.T, data []byte) obj {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(string(data)))
	d.UseNumber()
	var o obj
	if err := d.Decode(&o); err != nil {
		t.Fatalf("not an object: %v: %.300s", err, data)
	}
	return o
}

// late reports whether the answer took so long that it has begun as a stream, as on a machine that is busy. Its status is that of the
// stream then, and an error is an event on it (T26-23).
func (r *reply) late() bool { return r.stream != nil && r.took >= 250*time.Millisecond }

// fails demands the HTTP status and a JSON-RPC error with the code, as JSON, and returns the error.
func (r *reply) fails(t *testing.T, status, code int) message {
	t.Helper()
	if !r.late() {
		r.has(t, status)
	}
	if r.stream == nil {
		if ct := r.header.Get("Content-Type"); !strings.HasPrefix(ct, "application/json") {
			t.Fatalf("HTTP %d error body is %q, want application/json: %.300s", r.status, ct, r.body)
		}
	}
	m := r.response(t)
	if m.Error == nil {
		t.Fatalf("HTTP %d: result %s, want error %d", r.status, m.Result, code)
	}
	if m.Error.Code != code {
		t.Fatalf("HTTP %d: error %d %q, want %d", r.status, m.Error.Code, m.Error.Message, code)
	}
	return m
}

// has demands one of the statuses.
func (r *reply) has(t *testing.T, statuses ...int) *reply {
	t.Helper()
	if !slices.Contains(statuses, r.status) {
		r.refuse(t)
	}
	if !slices.Contains(statuses, r.status) {
		t.Fatalf("HTTP %d, want %v: %.300s", r.status, statuses, r.body)
	}
	return r
}

// moment is how long an answer may take, after which the endpoint begins an event stream for it.
const moment = 250 * time.Millisecond

// refuse gives an error that has come on a stream the status that it would have had, had the machine not been too busy to find it at once.
func (r *reply) refuse(t *testing.T) {
	t.Helper()
	if r.stream == nil || r.took < moment {
		return
	}
	m, ev := r.stream.message(t)
	if m.Error == nil {
		t.Fatalf("HTTP %d with %s, want an error", r.status, ev.data)
	}
	r.stream.cut()
	r.stream, r.body, r.status = nil, []byte(ev.data), http.StatusBadRequest
	r.header.Set("Content-Type", "application/json")
	if m.Error.Code == -32601 {
		r.status = http.StatusNotFound
	}
}

// accepted demands 202 and no body, the answer to every notification and response.
func (r *reply) accepted(t *testing.T) {
	t.Helper()
	r.has(t, 202)
	if len(r.body) != 0 || r.stream != nil {
		t.Fatalf("202 with a body: %.300s", r.body)
	}
}

// events demands a stream.
func (r *reply) events(t *testing.T) *stream {
	t.Helper()
	r.has(t, 200)
	if r.stream == nil {
		t.Fatalf("Content-Type %q, want text/event-stream: %.300s", r.header.Get("Content-Type"), r.body)
	}
	return r.stream
}

// isTimeout tells a deadline from a closed connection.
func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}
