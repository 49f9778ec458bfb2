// Package answer writes what needs one JSON body: a response, an error, or the refusal of a request that was not begun. What
// may become a stream is shown by package view.
package answer

import (
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/sluice-mcp/sluice/internal/wire"
)

// RetryAfter is how long a client is told to wait before it comes back for a stream that this replica let go.
const RetryAfter = 250 * time.Millisecond

// Stall bounds one write to a client that does not read.
const Stall = 20 * time.Second

// Error answers with a JSON-RPC error. An empty id means that none could be read.
func Error(w http.ResponseWriter, status int, id wire.ID, e *wire.Error) {
	JSON(w, status, wire.AppendError(nil, id, e))
}

// Accepted answers a message that has no response of its own.
func Accepted(w http.ResponseWriter) { w.WriteHeader(http.StatusAccepted) }

// JSON answers with one body. A large one is written in parts, each with a deadline, so that a client that does not
// read cannot hold it for ever.
func JSON(w http.ResponseWriter, status int, body []byte) {
	head := w.Header()
	head.Set("Content-Type", "application/json")
	if len(body) > counted {
		head.Set("Content-Length", strconv.Itoa(len(body)))
	}
	w.WriteHeader(status)
	if len(body) <= socketRoom {
		_, _ = w.Write(body) // a client that is gone cannot be told so
		return
	}
	rc := http.NewResponseController(w)
	for part := range slices.Chunk(body, socketRoom) {
		_ = rc.SetWriteDeadline(time.Now().Add(Stall)) // not every writer has deadlines
		if _, err := w.Write(part); err != nil {
			return // the deadline stays: what is left must not wait either
		}
	}
	_ = rc.SetWriteDeadline(time.Time{})
}

const (
	// counted is the longest body whose length net/http finds out by itself, which is cheaper than to be told.
	counted = 2048
	// socketRoom is roughly what the buffers of a connection take without anybody reading.
	socketRoom = 64 << 10
)
