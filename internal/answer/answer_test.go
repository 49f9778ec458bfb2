package answer

import (
	"bytes"
	"errors"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"
	"time"

	"github.com/sluice-mcp/sluice/internal/wire"
	"github.com/sluice-mcp/sluice/observe"
)

func TestRefusal(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		refusal *Refusal
		status  int
		after   string
		body    string
	}{
		"for good": {
			Refuse(http.StatusBadRequest, wire.InvalidParams("no")), http.StatusBadRequest, "",
			`{"jsonrpc":"2.0","id":7,"error":{"code":-32602,"message":"no"}}`,
		},
		"for some seconds": {
			Busy(observe.RefusedCalls, http.StatusTooManyRequests, "full", 30*time.Second), http.StatusTooManyRequests, "30",
			`{"jsonrpc":"2.0","id":7,"error":{"code":-31010,"message":"full"}}`,
		},
		"for less than a second, which the header cannot say": {
			Leaving(), http.StatusServiceUnavailable, "1",
			`{"jsonrpc":"2.0","id":7,"error":{"code":-31010,"message":"the server is shutting down"}}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := httptest.NewRecorder()
			c.refusal.Write(w, "7")
			if got := w.Header().Get("Retry-After"); w.Code != c.status || got != c.after {
				t.Errorf("HTTP %d, Retry-After %q; want %d, %q", w.Code, got, c.status, c.after)
			}
			if got := w.Body.String(); got != c.body {
				t.Errorf("says %s, want %s", got, c.body)
			}
		})
	}
}

// An error for a request whose ID could not be read has none.
func TestErrorWithoutID(t *testing.T) {
	t.Parallel()
	w := httptest.NewRecorder()
	Error(w, http.StatusForbidden, "", wire.InvalidRequest("no"))
	if got := w.Body.String(); w.Code != http.StatusForbidden || got != `{"jsonrpc":"2.0","error":{"code":-32600,"message":"no"}}` {
		t.Errorf("HTTP %d: %s", w.Code, got)
	}
}

// A body goes out whole whatever its size. A large one tells its length, and has a deadline for each part.
func TestJSON(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ size, writes, deadlines int }{
		{0, 1, 0}, {counted, 1, 0}, {counted + 1, 1, 0}, {socketRoom, 1, 0}, {socketRoom + 1, 2, 3}, {3 * socketRoom, 3, 4},
	} {
		t.Run(strconv.Itoa(c.size), func(t *testing.T) {
			t.Parallel()
			body := bytes.Repeat([]byte("0123456"), c.size/7+1)[:c.size]
			w := &connection{ResponseRecorder: httptest.NewRecorder()}
			JSON(w, http.StatusAccepted, body)
			if !bytes.Equal(w.Body.Bytes(), body) || w.Code != http.StatusAccepted || w.Header().Get("Content-Type") != "application/json" {
				t.Errorf("HTTP %d, %d bytes, %v", w.Code, w.Body.Len(), w.Header())
			}
			length := ""
			if c.size > counted {
				length = strconv.Itoa(c.size)
			}
			if got := w.Header().Get("Content-Length"); got != length {
				t.Errorf("Content-Length %q, want %q", got, length)
			}
			if w.writes != c.writes || len(w.deadlines) != c.deadlines {
				t.Errorf("%d writes, %d deadlines", w.writes, len(w.deadlines))
			}
			if n := len(w.deadlines); n > 0 && !w.deadlines[n-1].IsZero() {
				t.Error("the next request on the connection has this one's deadline")
			}
		})
	}
}

// When a client does not read, nothing more is written, and its deadline stays for what the server itself still has.
func TestStalled(t *testing.T) {
	t.Parallel()
	w := &connection{ResponseRecorder: httptest.NewRecorder(), stalled: true}
	JSON(w, http.StatusOK, make([]byte, 4*socketRoom))
	if w.writes != 1 || len(w.deadlines) != 1 || w.deadlines[0].IsZero() {
		t.Errorf("%d writes, deadlines %v", w.writes, w.deadlines)
	}
}

// connection notes how it is written to.
type connection struct {
	*httptest.ResponseRecorder
	stalled   bool
	writes    int
	deadlines []time.Time
}

func (c *connection) Write(p []byte) (int, error) {
	c.writes++
	if c.stalled {
		return 0, errors.New("i/o timeout")
	}
	return c.ResponseRecorder.Write(p)
}

func (c *connection) SetWriteDeadline(at time.Time) error {
	c.deadlines = append(c.deadlines, at)
	return nil
}
