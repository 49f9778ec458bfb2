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
	resp, err := b.post(ctx, initialize, http.Header{})
	if err != nil {
		return err
	}
	answer, err := readAnswer(resp)
	if err != nil {
		return err
	}
	if answer.Error != nil {
		return fmt.Errorf("initialize was refused: %s", answer.Error.Message)
	}
	s.begin(initialize, resp.Header.Get(headerSession))
	s.negotiated(answer)
	b.Log.Warn("the server forgot the session; another was opened")
	if initialized != nil {
		b.notify(ctx, initialized)
		again()
	}
	return nil
}

// readAnswer reads the one answer that a request of the bridge's own gets.
func readAnswer(resp *http.Response) (*message, error) {
	defer resp.Body.Close()
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if kind == "text/event-stream" && resp.StatusCode == http.StatusOK {
		var answer *message
		var at position
		err := at.events(resp.Body, func(data []byte) bool {
			if m, err := parse(data); err == nil && m.isResponse() {
				answer = m
			}
			return answer == nil
		})
		if answer == nil {
			return nil, fmt.Errorf("no answer: %w", err)
		}
		return answer, nil
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return nil, err
	}
	answer, err := parse(body)
	if err != nil || !answer.isResponse() {
		return nil, errors.New(describe(resp, kind, body))
	}
	return answer, nil
}

// listen keeps the server's own stream open, on which it speaks when no request is in flight. Not every server has one. The
// stream of an earlier session is closed.
func (s *session) listen(work context.Context, b *Bridge, initialized *message) {
	ctx, cancel := context.WithCancel(work)
	s.mu.Lock()
	if s.stop != nil {
		s.stop()
	}
	s.stop = cancel
	s.initialized = initialized
	s.again = func() { s.listen(work, b, initialized) }
	s.mu.Unlock()
	b.finished.Go(func() {
		var at position
		for n := 0; ctx.Err() == nil; n++ {
			resp, err := b.get(ctx, at.lastID, "")
			if err == nil && resp.StatusCode != http.StatusOK {
				_ = resp.Body.Close()
				if resp.StatusCode < 500 && resp.StatusCode != http.StatusTooManyRequests {
					return // it has none; or no session any more, as the next request will find out
				}
			} else if err == nil {
				n = 0
				_ = at.events(resp.Body, func(data []byte) bool {
					if m, err := parse(data); err == nil {
						b.deliver(nil, m)
					}
					return true
				}) // however it ended, it is opened again
				_ = resp.Body.Close()
			}
			if !pause(ctx, at.wait(n)) {
				return
			}
		}
	})
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
