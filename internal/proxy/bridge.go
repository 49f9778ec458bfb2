// Package proxy owns the way to a remote MCP server for clients that cannot go it themselves: a [Bridge] for those that
// speak only stdio, [Forward] for those that cannot identify themselves.
//
// It passes messages on as they are. Of a message it reads no more than HTTP needs: whether it is a request, which, and
// for the revisions without sessions what has to be repeated in headers.
package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-mcp/sluice/internal/stdio"
	"github.com/sluice-mcp/sluice/internal/wire"
)

const (
	// grace is how long calls may take to finish after the client has closed its end.
	grace = 5 * time.Second
	// farewell bounds the request that ends the session.
	farewell = 2 * time.Second
	// patience is how long a server may be away before a request that needs it fails.
	patience = 30 * time.Second
)

// A Bridge carries messages between one client on standard input and output and a server at a URL.
type Bridge struct {
	URL       string
	Transport http.RoundTripper // identifies the client, if need be
	Log       *slog.Logger

	client  *http.Client
	old     atomic.Pointer[oldServer] // if the server speaks only HTTP+SSE
	out     sync.Mutex
	writer  io.Writer
	session session
	params  params
	reached atomic.Bool // the server was there once
	once    atomic.Bool // it heeds idempotency keys

	mu       sync.Mutex
	calls    map[string]*call // requests that the client waits for, by the key of their ID
	asked    int              // requests of our own
	finished sync.WaitGroup
	work     context.Context // of all that outlives the input for a while
	streams  sync.WaitGroup  // that have no end of their own
}

// A call is a request that the client waits for.
type call struct {
	*message
	version string // of the protocol, if the request is a stateless one
	cancel  context.CancelFunc

	key      string // idempotency key; "" when the server heeds none
	doubt    error  // why nobody knows what has become of it
	unsaid   []byte // a response that is handed on only if the call is not sent again
	heard    bool   // progress, and how far
	progress float64

	mu        sync.Mutex
	cancelled bool // by the client, which expects no answer any more
	resting   bool // the server has not got it
}

// rest waits before a call, if it is one, is sent again. It reports whether that is still wanted.
func (c *call) rest(ctx context.Context, d time.Duration) bool {
	if c == nil {
		return pause(ctx, d)
	}
	set := func(resting bool) (wanted bool) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.resting = resting
		return !c.cancelled
	}
	return set(true) && pause(ctx, d) && set(false)
}

func (c *call) isCancelled() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cancelled
}

// Run carries messages until the input ends or ctx is done. It returns an error only if standard input or output fail: what goes wrong on the
// other side is told to the client, as the answer to its request.
func (b *Bridge) Run(ctx context.Context, in io.Reader, out io.Writer) error {
	b.writer = out
	b.client = &http.Client{
		Transport:     b.Transport,
		CheckRedirect: CheckRedirect,
	}
	b.calls = map[string]*call{}
	// What runs on after the input's end has a life of its own.
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	b.work = work
	lines, failed := make(chan stdio.Line), make(chan error, 1)
	go func() { // a read cannot be called off
		failed <- read(in, lines, work.Done())
	}()
	var err error
	for reading := true; reading; {
		select {
		case line := <-lines:
			b.take(ctx, work, line)
		case err = <-failed:
			b.finish()
			reading = false
		case <-ctx.Done():
			reading = false
		}
	}
	stop()
	b.finished.Wait()
	b.streams.Wait()
	b.session.end(b)
	return err
}

// read sends each line, until the input ends.
func read(in io.Reader, lines chan<- stdio.Line, stop <-chan struct{}) error {
	r := stdio.NewReader(in)
	for {
		line, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		select {
		case lines <- line:
		case <-stop:
			return nil
		}
	}
}

// finish gives the calls in flight time to end, but those that end only when somebody wants them to.
func (b *Bridge) finish() {
	b.session.stopListening()
	b.mu.Lock()
	for _, c := range b.calls {
		if c.Method == "subscriptions/listen" {
			c.mu.Lock()
			c.cancelled = true
			c.mu.Unlock()
			c.cancel()
		}
	}
	b.mu.Unlock()
	done := make(chan struct{})
	go func() {
		b.finished.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(grace):
	}
}

// write sends a message to the client. One that cannot be written has nobody to read it.
func (b *Bridge) write(raw []byte) {
	line := append(singleLine(raw), '\n')
	b.out.Lock()
	defer b.out.Unlock()
	if _, err := b.writer.Write(line); err != nil {
		b.Log.Error("cannot write to the client", "error", err)
	}
}

// take handles a line of the client's: a message, or a batch of them (2025-03-26).
func (b *Bridge) take(ctx, work context.Context, line stdio.Line) {
	for _, e := range line.Messages {
		m := &message{e.Message, e.Raw}
		switch {
		case e.Err != nil:
			b.write(stdio.AppendError(nil, m.ID, e.Err))
		case m.Method == "notifications/cancelled":
			b.cancelled(ctx, m)
		case m.Kind == wire.Request:
			b.begin(ctx, work, m)
		default:
			b.notify(ctx, m)
		}
		if e.Err == nil && m.Method == "notifications/initialized" {
			b.session.listen(work, b, m)
		}
	}
}

// begin starts a request, and returns when it is on its way: what the client says next must not overtake it.
func (b *Bridge) begin(ctx, work context.Context, m *message) {
	callCtx, cancel := context.WithCancel(work)
	c := &call{message: m, version: m.modernVersion(), cancel: cancel}
	key := m.ID.Key()
	b.mu.Lock()
	b.calls[key] = c
	b.mu.Unlock()
	sent, ended := make(chan struct{}), make(chan struct{})
	b.finished.Go(func() {
		defer cancel()
		defer close(ended)
		answer := b.request(callCtx, c, sync.OnceFunc(func() { close(sent) }))
		b.mu.Lock()
		if b.calls[key] == c {
			delete(b.calls, key)
		}
		b.mu.Unlock()
		if answer != nil && !c.isCancelled() {
			b.write(answer)
		}
	})
	enough := sent
	if m.Method == "initialize" {
		enough = ended // nothing can follow before the session is known
	}
	select {
	case <-enough:
	case <-ended:
	case <-ctx.Done():
	}
}

// cancelled ends a request that the client has lost interest in. For a stateless one, closing its stream is what says so; in
// a session the server is told, and ends the stream.
func (b *Bridge) cancelled(ctx context.Context, m *message) {
	var params struct {
		RequestID json.RawMessage `json:"requestId"`
	}
	if json.Unmarshal(m.Params, &params) != nil {
		return // nothing that could be cancelled
	}
	b.mu.Lock()
	c := b.calls[wire.ID(params.RequestID).Key()]
	b.mu.Unlock()
	if c == nil {
		return // answered by now
	}
	c.mu.Lock()
	c.cancelled = true
	unknown := c.resting
	c.mu.Unlock()
	if c.version != "" || unknown {
		c.cancel()
		return
	}
	b.notify(ctx, m)
	if b.old.Load() != nil {
		c.cancel() // no stream of its own would end
	}
}
