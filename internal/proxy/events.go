package proxy

import (
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"github.com/sluice-mcp/sluice/internal/sse"
)

// A position is where a stream can be taken up again after its connection is lost.
type position struct {
	lastID   string
	retry    time.Duration // what the server asked for; 0 if it did not
	moved    bool          // since somebody looked: the server has said something, or asked to be asked again
	messages int           // that have come
}

// events calls f with the data of each message of the stream, and notes in at how far it has come. Events of other names
// are none of MCP's. It returns [io.EOF] at an orderly end, and what f returned if that was false: no error.
func (at *position) events(r io.Reader, f func(data []byte) (more bool)) error {
	events := sse.NewReader(r)
	for {
		e, err := events.Next()
		if d := events.Retry(); d > 0 {
			at.retry, at.moved = d, true
		}
		if err != nil {
			return err
		}
		if e.HasID {
			at.moved = at.moved || e.ID != at.lastID
			at.lastID = e.ID
		}
		if len(e.Data) == 0 || e.Name != "" && e.Name != "message" {
			continue
		}
		at.moved = true
		if !f(e.Data) {
			return nil
		}
	}
}

const (
	firstWait = time.Second
	maxWait   = time.Minute
	// steady is how often the wait doubles for somebody who waits, and only for a while.
	steady = 2
)

// wait is how long to wait before the next attempt, n of which were in vain: what the server says, then longer each time.
func (at *position) wait(n int) time.Duration {
	d := at.retry
	if d == 0 {
		d = firstWait
	}
	for ; n > 0 && d < maxWait; n-- {
		d *= 2
	}
	return max(min(d, maxWait), at.retry)
}

// pause waits for d, and a little longer, so that not all who lost their server come back at once. It reports whether ctx
// has lived so long.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d + rand.N(d/8+1)) //nolint:gosec // no secret
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// retryAfter is how long the server asks not to be asked (RFC 9110, 10.2.3); 0 if it does not say.
func retryAfter(header http.Header) time.Duration {
	text := header.Get("Retry-After")
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if date, err := http.ParseTime(text); err == nil {
		return max(time.Until(date), 0)
	}
	return 0
}
