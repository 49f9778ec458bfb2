package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// rawRevision is the one that a [RawSession] speaks: the last with resumable streams.
const rawRevision = "2025-11-25"

// ErrUnknownOutcome says that the connection was lost before the stream could be resumed from anywhere:
// nobody on this side knows whether the request has been executed. With a server that heeds idempotency keys (docs/once.md) calls of
// tools have one, and are sent again instead.
var ErrUnknownOutcome = errors.New("connection lost, outcome unknown")

// A RawSession is a client of revision 2025-11-25 that hides nothing: each
// event can be looked at, and lost connections are resumed in the open. It is for tests of what happens
// to streams; for all else there is [Server.Connect]. It may be used by several goroutines.
type RawSession struct {
	// ID is the server's session ID.
	ID string
	// Idle, if not zero, is how long a stream may be silent, without even
	// a comment, until the client takes its connection for dead and resumes. Set it before the first call.
	Idle time.Duration
	// Patience is how long the client goes on trying without anything new from the server. The default is 30 s.
	Patience time.Duration

	url    string
	client *http.Client
	lastID atomic.Int64
	once   bool // the server heeds idempotency keys
}

// RawConnect opens a raw session, which declares these capabilities (nil: none). It is deleted at the end of the test.
func RawConnect(t testing.TB, e Endpoint, capabilities map[string]any) *RawSession {
	t.Helper()
	transport := newTransport()
	transport.MaxIdleConnsPerHost = 100
	s := &RawSession{url: e.URL(), Patience: 30 * time.Second, client: &http.Client{Transport: transport}}
	t.Cleanup(transport.CloseIdleConnections)
	ctx, cancel := context.WithTimeout(t.Context(), connectTimeout)
	defer cancel()
	if capabilities == nil {
		capabilities = map[string]any{}
	}
	var init *RawCall
	var result json.RawMessage
	err := s.insist(func() (err error) {
		init = s.Send(ctx, "initialize", map[string]any{
			"protocolVersion": rawRevision,
			"capabilities":    capabilities,
			"clientInfo":      map[string]any{"name": "e2e-raw", "version": "v1.0.0"},
		})
		result, err = init.Result()
		return err
	})
	if err != nil {
		t.Fatalf("e2e: initialize at %s: %v", s.url, err)
	}
	var negotiated struct {
		ProtocolVersion string `json:"protocolVersion"`
		Capabilities    struct {
			Experimental map[string]json.RawMessage `json:"experimental"`
		} `json:"capabilities"`
	}
	if err := json.Unmarshal(result, &negotiated); err != nil || negotiated.ProtocolVersion != rawRevision {
		t.Fatalf("e2e: initialize at %s: want revision %s, got %s", s.url, rawRevision, result)
	}
	s.once = negotiated.Capabilities.Experimental["io.github.sluice-mcp/once"] != nil
	s.ID = init.header.Get("Mcp-Session-Id")
	err = s.insist(func() error { return s.Notify(ctx, "notifications/initialized", nil) })
	if err != nil {
		t.Fatalf("e2e: notifications/initialized at %s: %v", s.url, err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = s.Delete(ctx) // the server may be gone
	})
	return s
}

// insist repeats a step of the handshake that was lost: doing it twice does no harm.
func (s *RawSession) insist(step func() error) error {
	deadline := time.Now().Add(s.Patience)
	for {
		err := step()
		if !errors.Is(err, ErrUnknownOutcome) || time.Now().After(deadline) {
			return err
		}
	}
}

// CallTool calls a tool and asks for progress. Where the server heeds idempotency keys, the call has one.
func (s *RawSession) CallTool(ctx context.Context, name string, args any) *RawCall {
	key := ""
	if s.once {
		key = rand.Text()
	}
	c := s.send(ctx, "tools/call", func(id int64) any {
		meta := map[string]any{"progressToken": "p" + strconv.FormatInt(id, 10)}
		if key != "" {
			meta["io.github.sluice-mcp/idempotencyKey"] = key
		}
		return map[string]any{"name": name, "arguments": args, "_meta": meta}
	})
	c.again = key != ""
	return c
}

// Send sends a request. It returns at once; what comes of it is in the call.
func (s *RawSession) Send(ctx context.Context, method string, params any) *RawCall {
	return s.send(ctx, method, func(int64) any { return params })
}

func (s *RawSession) send(ctx context.Context, method string, params func(id int64) any) *RawCall {
	id := s.lastID.Add(1)
	c := &RawCall{s: s, ctx: ctx, ID: id}
	c.body = message{"jsonrpc": "2.0", "id": id, "method": method}
	if p := params(id); p != nil {
		c.body["params"] = p
	}
	return c
}

// Listen opens the session's own stream, on which the server speaks when no request is its reason.
// The call never has a result.
func (s *RawSession) Listen(ctx context.Context) *RawCall {
	return &RawCall{s: s, ctx: ctx}
}

// Notify sends a notification.
func (s *RawSession) Notify(ctx context.Context, method string, params any) error {
	msg := message{"jsonrpc": "2.0", "method": method}
	if params != nil {
		msg["params"] = params
	}
	return s.accepted(ctx, msg)
}

// Respond answers a request of the server's, by the ID it came with.
func (s *RawSession) Respond(ctx context.Context, id json.RawMessage, result any) error {
	return s.accepted(ctx, message{"jsonrpc": "2.0", "id": id, "result": result})
}

// Delete ends the session.
func (s *RawSession) Delete(ctx context.Context) error {
	resp, err := s.do(ctx, http.MethodDelete, nil, "")
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

type message = map[string]any

// accepted posts a message that has no answer.
func (s *RawSession) accepted(ctx context.Context, msg message) error {
	resp, err := s.post(ctx, msg)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// post sends a message, again and again while it is certain that nobody has taken it.
func (s *RawSession) post(ctx context.Context, msg message) (*http.Response, error) {
	body, err := json.Marshal(msg)
	if err != nil {
		return nil, err
	}
	var wait backoff
	deadline := time.Now().Add(s.Patience)
	for {
		resp, err := s.do(ctx, http.MethodPost, body, "")
		if err == nil {
			return resp, nil
		}
		var status *StatusError
		switch {
		case errors.As(err, &status) && status.Code == http.StatusServiceUnavailable:
		case errors.As(err, &status) && status.Code == http.StatusBadGateway:
			return nil, fmt.Errorf("%w: %w", ErrUnknownOutcome, err)
		case status != nil || ctx.Err() != nil:
			return nil, err
		case errors.Is(err, syscall.ECONNREFUSED):
		default:
			return nil, fmt.Errorf("%w: %w", ErrUnknownOutcome, err)
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("e2e: gave up after %v: %w", s.Patience, err)
		}
		if err := wait.pause(ctx, retryAfter(status)); err != nil {
			return nil, err
		}
	}
}

// do sends one HTTP request. Any status but 2xx is a [StatusError].
func (s *RawSession) do(ctx context.Context, method string, body []byte, lastEventID string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, s.url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("Accept", "application/json, text/event-stream")
	if s.ID != "" {
		req.Header.Set("Mcp-Session-Id", s.ID)
		req.Header.Set("Mcp-Protocol-Version", rawRevision)
	}
	if lastEventID != "" {
		req.Header.Set("Last-Event-ID", lastEventID)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode/100 == 2 {
		return resp, nil
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10)) // what has come of it
	return nil, &StatusError{Method: method, Code: resp.StatusCode, Body: string(text), header: resp.Header}
}

// A StatusError is an HTTP answer that is not a success.
type StatusError struct {
	Method string
	Code   int
	Body   string
	header http.Header
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("%s answered %d %s: %s", e.Method, e.Code, http.StatusText(e.Code), shorten(e.Body))
}

func retryAfter(e *StatusError) time.Duration {
	if e == nil {
		return 0
	}
	seconds, err := strconv.Atoi(e.header.Get("Retry-After"))
	if err != nil {
		return 0
	}
	return time.Duration(seconds) * time.Second
}

// backoff waits longer each time, up to a second.
type backoff struct{ last time.Duration }

// pause waits for the time that the server asked for, or its own.
func (b *backoff) pause(ctx context.Context, asked time.Duration) error {
	b.last = min(max(2*b.last, 10*time.Millisecond), time.Second)
	d := b.last
	if asked > 0 {
		d = asked
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
