package once

import (
	"encoding/json"
	"errors"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sluice-mcp/sluice/internal/run"
	"github.com/sluice-mcp/sluice/internal/wire"
	"github.com/sluice-mcp/sluice/store"
)

// execution is a call that somebody at this replica asks for, and whose outcome is not in the store yet.
type execution struct {
	name, series, wants string
	// run is that of who asked first, and finds out for all who ask meanwhile.
	run  *run.Run
	done chan struct{} // closed when answer is set
	answer
	unwritten *record // not nil: the store has not taken the answer
}

// answer is what a call is answered with.
type answer struct {
	result  json.RawMessage
	err     error
	unknown bool // err is of this request alone: the others have to ask again
}

func (x *execution) nothing(err error) { x.answer = answer{err: err, unknown: true} }

// enter returns what is known here of a call. mine is true for the first who asks: he has to find out.
func (k *Calls) enter(c *Call, r *run.Run) (x *execution, mine bool) {
	name, series, wants := c.name(), c.series(), c.wants() // what is large takes its time
	k.mu.Lock()
	defer k.mu.Unlock()
	if x = k.here[name]; x != nil {
		return x, false
	}
	x = &execution{name: name, series: series, wants: wants, run: r, done: make(chan struct{})}
	k.here[name] = x
	return x, true
}

// leave tells who waits, and forgets here what the store knows.
func (k *Calls) leave(x *execution) {
	if x.unwritten == nil {
		k.forget(x)
	} else {
		go func() {
			_, _ = k.insist(x, *x.unwritten, k.TTL, 5*time.Second) // until then this replica alone knows it
			k.forget(x)
		}()
	}
	close(x.done)
}

func (k *Calls) forget(x *execution) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.here, x.name)
}

// cancelHere cancels what runs here with a key, or waits for another replica.
func (k *Calls) cancelHere(series string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for name, x := range k.here {
		if strings.HasPrefix(name, series) {
			x.run.Cancel()
		}
	}
}

// Client is who has sent a request with a key. The zero value has not left.
type Client struct {
	state atomic.Int32
}

const (
	begun int32 = iota + 1
	gone
)

// begin reports false when the client has left before its call began. A nil Client never leaves.
func (c *Client) begin() bool {
	return c == nil || c.state.CompareAndSwap(0, begun) || c.state.Load() == begun
}

// Leave notes that the client has left. It reports whether nothing has begun on its behalf: then its request can be cancelled.
func (c *Client) Leave() bool { return c.state.CompareAndSwap(0, gone) }

// NotBegun marks an error that came before the handler was called: the key is free again.
func NotBegun(err error) error {
	if err == nil {
		return nil
	}
	return &earlyError{err}
}

type earlyError struct{ error }

func (e *earlyError) Unwrap() error { return e.error }

// IsNotBegun reports whether an error came before the handler was called.
func IsNotBegun(err error) bool {
	if _, ok := errors.AsType[*earlyError](err); ok {
		return true
	}
	e, ok := errors.AsType[*wire.Error](err)
	return ok && e.Code == wire.CodeBusy || errors.Is(err, store.ErrClosed)
}

// retold is a message of the run that executes a call as another run for the same call is to have it; nil if it is not.
func (c *Call) retold(data []byte, from, to *run.Run) []byte {
	params := wire.Member(data, "params")
	asks := wire.Member(data, "id") != nil
	switch wire.Unquote(wire.Member(data, "method")) {
	case "notifications/cancelled": // of a question
		asks = true
	case "notifications/progress":
		if c.Token == nil {
			return nil
		}
		return wire.ReplaceMember(data, "params", wire.ReplaceMember(params, "progressToken", c.Token))
	case "notifications/message":
		if c.Reaches != nil && !c.Reaches(wire.Member(params, "level")) {
			return nil
		}
	}
	switch {
	case from.Stream == to.Stream: // of a batch, or of HTTP+SSE: it is there already
		return nil
	case asks && (to.Owner == "" || from.Owner != to.Owner): // only the session that is asked can answer
		return nil
	}
	return data
}
