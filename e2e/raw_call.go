package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"mime"
	"net/http"
	"time"

	"github.com/sluice-mcp/sluice/internal/sse"
)

// A Message is one message of a stream.
type Message struct {
	EventID string          `json:"-"` // "" in a JSON answer
	ID      json.RawMessage `json:"id"`
	Method  string          `json:"method"`
	Params  json.RawMessage `json:"params"`
	Result  json.RawMessage `json:"result"`
	Error   *RPCError       `json:"error"`
}

// IsResponse reports whether the message is the end of a call.
func (m Message) IsResponse() bool { return m.Method == "" }

// An RPCError is a JSON-RPC error.
type RPCError struct {
	Code    int             `json:"code"`
	Message string          `json:"message"`
	Data    json.RawMessage `json:"data"`
}

func (e *RPCError) Error() string { return fmt.Sprintf("JSON-RPC error %d: %s", e.Code, e.Message) }

// StreamStats says what a call has been through.
type StreamStats struct {
	Events     int      // with an ID or data
	Resumes    int      // GET requests with Last-Event-ID that were answered by a stream
	Attempts   int      // those and the ones that failed
	Repeats    int      // how often the request was sent again, with its idempotency key
	Duplicates int      // events whose ID had come before, and messages after the response
	OutOfOrder int      // progress that did not go up
	Backends   []string // the [BackendHeader] of each answer
}

// A RawCall is a request and the stream that it owes its client. It is for one goroutine.
type RawCall struct {
	// ID is the JSON-RPC ID of the request.
	ID    int64
	Stats StreamStats

	s      *RawSession
	ctx    context.Context
	body   message // nil: Listen
	header http.Header

	again  bool // the request can be sent again: it is executed once
	opened bool
	stream *rawStream // nil between connections
	single *Message   // a JSON answer that has not been returned yet

	lastEventID string
	retry       time.Duration
	seen        map[string]bool
	progress    map[string]float64
	done        bool
}

// Messages iterates over what the server says, up to the response, or an error after which nothing comes.
func (c *RawCall) Messages() iter.Seq2[Message, error] {
	return func(yield func(Message, error) bool) {
		defer c.close()
		for {
			m, err := c.Next()
			if errors.Is(err, io.EOF) || !yield(m, err) || err != nil {
				return
			}
		}
	}
}

// Result reads up to the response and returns its result. A JSON-RPC error is an [*RPCError].
func (c *RawCall) Result() (json.RawMessage, error) {
	for m, err := range c.Messages() {
		switch {
		case err != nil:
			return nil, err
		case m.IsResponse() && m.Error != nil:
			return nil, m.Error
		case m.IsResponse():
			return m.Result, nil
		}
	}
	return nil, errors.New("e2e: the call has been read to its end already")
}

// Next returns the next message, over as many connections as that takes. After the response it returns [io.EOF].
func (c *RawCall) Next() (Message, error) {
	if c.done {
		return Message{}, io.EOF
	}
	m, err := c.next()
	if err != nil || m.IsResponse() {
		c.done = true
	}
	if err == nil && m.IsResponse() {
		c.finish()
	}
	return m, err
}

func (c *RawCall) next() (Message, error) {
	deadline := time.Now().Add(c.s.Patience)
	var wait backoff
	for {
		if c.single != nil {
			m := *c.single
			c.single = nil
			return m, nil
		}
		if c.stream == nil {
			if err := c.open(&wait); err != nil {
				if again, ok := errors.AsType[*retryError](err); ok {
					err = again.err
				} else if !c.repeat(err, &wait) {
					return Message{}, err
				}
				if time.Now().After(deadline) {
					return Message{}, fmt.Errorf("e2e: nothing new in %v, gave up: %w", c.s.Patience, err)
				}
			}
			continue
		}
		ev, err := c.stream.Next()
		if d := c.stream.Retry(); d > 0 {
			c.retry = d
		}
		if err != nil {
			c.close()
			if c.ctx.Err() != nil {
				return Message{}, c.ctx.Err()
			}
			if c.lastEventID == "" && c.body != nil {
				err = fmt.Errorf("%w: the stream ended (%w) before an event with an ID", ErrUnknownOutcome, err)
				if time.Now().After(deadline) || !c.repeat(err, &wait) {
					return Message{}, err
				}
			}
			continue
		}
		m, ok, err := c.take(ev)
		if err == nil && ok && m.Error != nil && m.Error.Code == codeBusy && time.Now().Before(deadline) && c.repeat(ErrUnknownOutcome, &wait) {
			c.close()
			c.lastEventID = ""
			continue
		}
		if err != nil || ok {
			return m, err
		}
		deadline = time.Now().Add(c.s.Patience)
	}
}

// codeBusy says that nothing has begun. It comes on a stream when the server has taken its time to find out.
const codeBusy = -31010

// repeat has the request sent again, after a moment, if that can do no harm.
func (c *RawCall) repeat(err error, wait *backoff) bool {
	if !c.again || !errors.Is(err, ErrUnknownOutcome) || wait.pause(c.ctx, 0) != nil {
		return false
	}
	c.opened = false
	c.Stats.Repeats++
	return true
}

// take notes an event and returns its message, if it has one.
func (c *RawCall) take(ev sse.Event) (m Message, ok bool, err error) {
	if ev.HasID {
		// Without data it is no event: a server that sends its client away says again where to go on.
		if c.seen[ev.ID] && len(ev.Data) > 0 {
			c.Stats.Duplicates++
		}
		if c.seen == nil {
			c.seen = map[string]bool{}
		}
		c.seen[ev.ID] = true
		c.lastEventID = ev.ID
	}
	if ev.HasID || len(ev.Data) > 0 {
		c.Stats.Events++
	}
	if len(ev.Data) == 0 || ev.Name != "" && ev.Name != "message" {
		return m, false, nil
	}
	if err := json.Unmarshal(ev.Data, &m); err != nil {
		return m, false, fmt.Errorf("e2e: event %q is not a message: %w\n%s", ev.ID, err, shorten(string(ev.Data)))
	}
	if m.IsResponse() && m.Result == nil && m.Error == nil {
		return m, false, fmt.Errorf("e2e: event %q is not a message: %s", ev.ID, shorten(string(ev.Data)))
	}
	m.EventID = ev.ID
	c.checkOrder(m)
	return m, true, nil
}

func (c *RawCall) checkOrder(m Message) {
	if m.Method != "notifications/progress" {
		return
	}
	var p struct {
		Token    json.RawMessage `json:"progressToken"`
		Progress float64         `json:"progress"`
	}
	if json.Unmarshal(m.Params, &p) != nil {
		return
	}
	if last, ok := c.progress[string(p.Token)]; ok && p.Progress <= last {
		c.Stats.OutOfOrder++
	}
	if c.progress == nil {
		c.progress = map[string]float64{}
	}
	c.progress[string(p.Token)] = p.Progress
}

// A retryError is worth another attempt.
type retryError struct{ err error }

func (e *retryError) Error() string { return e.err.Error() }

// open makes the first request of the call, or resumes its stream.
func (c *RawCall) open(wait *backoff) error {
	first := !c.opened
	c.opened = true
	ctx, cancel := context.WithCancel(c.ctx)
	var resp *http.Response
	var err error
	if first && c.body != nil {
		resp, err = c.s.post(ctx, c.body)
	} else {
		resp, err = c.resume(ctx, wait, first)
	}
	if err != nil {
		cancel()
		return err
	}
	c.header = resp.Header
	c.Stats.Backends = append(c.Stats.Backends, resp.Header.Get(BackendHeader))
	mediaType, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	switch mediaType {
	case "text/event-stream":
		c.stream = newRawStream(resp.Body, cancel, c.s.Idle)
		return nil
	case "application/json":
		defer cancel()
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrUnknownOutcome, err)
		}
		c.single = new(Message)
		if err := json.Unmarshal(body, c.single); err != nil {
			return fmt.Errorf("e2e: the answer is not a message: %w\n%s", err, shorten(string(body)))
		}
		return nil
	}
	cancel()
	_ = resp.Body.Close()
	return fmt.Errorf("e2e: answer with status %d and content type %q", resp.StatusCode, mediaType)
}

// resume asks for the rest of the stream. Except for the first time, it waits before, as long as the server asked for.
func (c *RawCall) resume(ctx context.Context, wait *backoff, first bool) (*http.Response, error) {
	if !first {
		if err := wait.pause(ctx, c.retry); err != nil {
			return nil, err
		}
		c.Stats.Attempts++
	}
	resp, err := c.s.do(ctx, http.MethodGet, nil, c.lastEventID)
	if err == nil {
		if !first {
			c.Stats.Resumes++
		}
		return resp, nil
	}
	if c.ctx.Err() != nil {
		return nil, c.ctx.Err()
	}
	if status, ok := errors.AsType[*StatusError](err); ok {
		switch {
		case status.Code == http.StatusConflict: // some servers need a moment to see that the old connection is gone
		case status.Code == http.StatusTooManyRequests:
		case status.Code < 500:
			return nil, err
		}
	}
	return nil, &retryError{err}
}

// finish looks whether anything comes after the response, which must not be.
func (c *RawCall) finish() {
	if c.stream == nil {
		return
	}
	defer c.close()
	timer := time.AfterFunc(time.Second, c.stream.cancel)
	defer timer.Stop()
	for {
		ev, err := c.stream.Next()
		if err != nil {
			return
		}
		if len(ev.Data) > 0 {
			c.Stats.Duplicates++
		}
	}
}

func (c *RawCall) close() {
	if c.stream != nil {
		c.stream.close()
		c.stream = nil
	}
}

// A rawStream is one connection's part of a stream.
type rawStream struct {
	*sse.Reader
	body   io.ReadCloser
	cancel context.CancelFunc
	idle   *time.Timer
}

func newRawStream(body io.ReadCloser, cancel context.CancelFunc, idle time.Duration) *rawStream {
	s := &rawStream{body: body, cancel: cancel}
	var r io.Reader = body
	if idle > 0 {
		s.idle = time.AfterFunc(idle, cancel)
		r = readFunc(func(p []byte) (int, error) {
			n, err := body.Read(p)
			s.idle.Reset(idle)
			return n, err
		})
	}
	s.Reader = sse.NewReader(r)
	return s
}

func (s *rawStream) close() {
	if s.idle != nil {
		s.idle.Stop()
	}
	s.cancel()
	_ = s.body.Close()
}

type readFunc func([]byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }
