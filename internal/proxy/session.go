package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-mcp/sluice/internal/wire"
)

// A session is what the bridge remembers for the revisions that have sessions: 2025-03-26 to 2025-11-25.
type session struct {
	mu          sync.Mutex
	id          string // "" for a server without sessions
	version     string
	initialize  *message // how the client opened it, to open another
	initialized *message
	stop        context.CancelFunc // ends the server's own stream
	again       func()             // opens it for another session

	vain atomic.Int32 // attempts to open it

	renewing sync.Mutex // one at a time
}

// begin notes a session that the server has just opened.
func (s *session) begin(initialize *message, id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.initialize, s.id = initialize, id
}

// negotiated notes the revision in the answer to initialize.
func (s *session) negotiated(answer *message) {
	var result struct {
		ProtocolVersion string `json:"protocolVersion"`
	}
	if json.Unmarshal(answer.Result, &result) == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.version = result.ProtocolVersion
	}
}

func (s *session) current() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.id
}

// stamp sets the headers of a request in the session, and returns its ID.
func (s *session) stamp(header http.Header) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.id != "" {
		header.Set(headerSession, s.id)
	}
	if s.version != "" {
		header.Set(headerVersion, s.version)
	}
	return s.id
}

// renew opens another session in place of the one that the server has forgotten, if nobody else has done so meanwhile. What the
// server knew of the old one beyond the handshake, such as subscriptions, is gone.
func (s *session) renew(ctx context.Context, b *Bridge, forgotten string) error {
	s.renewing.Lock()
	defer s.renewing.Unlock()
	s.mu.Lock()
	initialize, initialized, again := s.initialize, s.initialized, s.again
	done := s.id != forgotten
	s.mu.Unlock()
	if done {
		return nil
	}
	resp, err := b.post(ctx, b.URL, initialize, http.Header{}, nil)
	if err != nil {
		return err
	}
	answer, err := readAnswer(resp, initialize.ID)
	if err != nil {
		return err
	}
	if e := refusal(answer.raw); e != nil {
		return fmt.Errorf("initialize was refused: %s", e.Message)
	}
	s.begin(initialize, resp.Header.Get(headerSession))
	s.negotiated(answer)
	b.heeds(answer)
	b.Log.Warn("the server forgot the session; another was opened")
	if initialized != nil {
		b.notify(ctx, initialized)
		again()
	}
	return nil
}

// isGone asks a server that does not give a stream of a session whether it has forgotten that: an answer to GET may come
// from somebody between. If it has, another session is opened in its place.
func (b *Bridge) isGone(ctx context.Context, id string) bool {
	if b.session.current() != id {
		return true // somebody else has asked
	}
	header := http.Header{}
	b.session.stamp(header)
	resp, err := b.post(ctx, b.URL, b.own("ping", nil), header, nil)
	if err != nil {
		return false
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxBody))
	defer resp.Body.Close()
	if !forgot(resp) {
		return false
	}
	if err := b.session.renew(ctx, b, id); err != nil {
		b.Log.Warn("the server forgot the session, and another could not be opened", "error", err)
	}
	return true
}

// readAnswer reads the one answer that a request of the bridge's own gets.
func readAnswer(resp *http.Response, id wire.ID) (*message, error) {
	defer resp.Body.Close()
	var answer *message
	look := func(data []byte) (more bool) {
		messages, _ := parse(data)
		for _, m := range messages {
			if m.answers(id) {
				answer = m
			}
		}
		return answer == nil
	}
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if kind == "text/event-stream" && resp.StatusCode == http.StatusOK {
		if err := new(position).events(resp.Body, look); answer == nil {
			return nil, fmt.Errorf("no answer: %w", err)
		}
		return answer, nil
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return nil, err
	}
	if look(body) {
		return nil, errors.New(describe(resp, kind, body))
	}
	return answer, nil
}

const (
	// lived is how long a stream without a message has to last to count as one: where servers live as long as their answers, it ends
	// at once.
	lived = 5 * time.Second
	// silence is how long a connection of HTTP/1.1 may bring nothing, not even a comment, until it is taken for dead. In
	// HTTP/2 there are pings for that.
	silence = time.Minute
)

// listen keeps the server's own stream open, on which it speaks when no request is in flight. Only 405 says that there is
// none; all else may be different the next time. The stream of an earlier session is closed.
func (s *session) listen(work context.Context, b *Bridge, initialized *message) {
	ctx, cancel := context.WithCancel(work)
	s.mu.Lock()
	if s.stop != nil {
		s.stop()
	}
	s.stop = cancel
	s.initialized = initialized
	s.again = func() { s.listen(work, b, initialized) }
	id := s.id
	s.mu.Unlock()
	if b.old.Load() != nil {
		return // there is but one stream
	}
	b.finished.Go(func() {
		var at position
		// Where each replica knows its own sessions only, the next session is forgotten as soon as this one.
		if n := s.vain.Load(); n > 1 && !pause(ctx, at.wait(int(n)-1)) {
			return
		}
		for {
			n := s.vain.Add(1) // unless it is a stream
			asked, err := b.listenOnce(ctx, &at, id)
			wait := max(asked, at.wait(int(n)-1))
			switch {
			case errors.Is(err, errNoStream):
				return
			case errors.Is(err, errSilent):
				s.vain.Store(0)
				wait = 0
			case err == nil:
				s.vain.Store(0)
				wait = max(asked, at.wait(0))
			case ctx.Err() == nil:
				b.Log.Warn("cannot listen to the server; trying again", "error", err, "in", wait)
			}
			if !pause(ctx, wait) {
				return
			}
		}
	})
}

var (
	errNoStream = errors.New("the server has no stream of its own")
	errSilent   = errors.New("the connection is silent")
	errVain     = errors.New("the stream ended at once, with nothing in it")
)

// listenOnce reads the server's own stream over one connection. It returns no error if that has lasted or brought something, and how
// long the server asks to be left alone.
func (b *Bridge) listenOnce(ctx context.Context, at *position, id string) (asked time.Duration, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	resp, err := b.get(ctx, at.lastID, id)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	begun := time.Now()
	if resp.StatusCode != http.StatusOK {
		if resp.StatusCode == http.StatusMethodNotAllowed {
			return 0, errNoStream
		}
		if id != "" && forgot(resp) {
			b.isGone(ctx, id) // another session has another listener
		}
		return retryAfter(resp.Header), fmt.Errorf("HTTP %s", resp.Status)
	}
	var body io.Reader = resp.Body
	if resp.ProtoMajor == 1 {
		alarm := time.AfterFunc(silence, func() { cancel(errSilent) })
		defer alarm.Stop()
		body = &heard{body, alarm}
	}
	before := at.messages
	_, err = b.read(at, body, nil)
	switch {
	case context.Cause(ctx) == errSilent: //nolint:errorlint // nobody wraps it
		return 0, errSilent
	case at.messages > before || time.Since(begun) >= lived:
		return 0, nil
	case errors.Is(err, io.EOF):
		return 0, errVain
	}
	return 0, err
}

// heard puts an alarm off with each byte.
type heard struct {
	io.Reader
	alarm *time.Timer
}

func (h *heard) Read(p []byte) (int, error) {
	n, err := h.Reader.Read(p)
	h.alarm.Reset(silence)
	return n, err
}

func (s *session) stopListening() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stop != nil {
		s.stop()
	}
}

// end tells the server that the session is over. It may be gone itself: no concern of a client that leaves.
func (s *session) end(b *Bridge) {
	if s.current() == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), farewell)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodDelete, b.URL, nil)
	if err != nil {
		return
	}
	s.stamp(req.Header)
	if resp, err := b.client.Do(req); err == nil {
		_ = resp.Body.Close()
	}
}
