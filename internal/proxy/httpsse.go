package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-mcp/sluice/internal/sse"
	"github.com/sluice-mcp/sluice/internal/wire"
)

// An oldServer is the connection with a server that speaks only HTTP+SSE (2024-11-05): one stream brings all that it says,
// and what it is told goes to another URL. The session is as old as the stream.
type oldServer struct {
	endpoint string
	close    func()
	over     chan struct{} // closed when the stream is over
	err      error         // why, from then on

	mu      sync.Mutex
	waiting map[string]chan *message // answers, by the key of their ID
}

// endpointTimeout is how long a server may take to name its endpoint.
const endpointTimeout = 5 * time.Second

var errNotOld = errors.New("the server names no endpoint")

// MayBeOld reports whether the answer to initialize may be that of a server which knows HTTP+SSE only (2025-03-26 and
// later, Transports, "Backwards Compatibility"). One that has understood the message is no such.
func MayBeOld(resp *http.Response) bool {
	switch resp.StatusCode {
	case http.StatusNotFound, http.StatusMethodNotAllowed:
		return true
	case http.StatusBadRequest:
		return refusal(Peek(resp)) == nil
	}
	return false
}

// openOld opens a stream whose first event names the endpoint, and reads it from then on.
func (b *Bridge) openOld(ctx context.Context) error {
	streaming, stop := context.WithCancel(b.work)
	defer context.AfterFunc(ctx, stop)() // until the endpoint is known
	late := time.AfterFunc(endpointTimeout, stop)
	req, err := http.NewRequestWithContext(streaming, http.MethodGet, b.URL, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "text/event-stream")
	resp, err := b.client.Do(req)
	if err != nil {
		stop()
		return plain(err)
	}
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	events := sse.NewReader(resp.Body)
	old := &oldServer{close: stop, over: make(chan struct{}), waiting: map[string]chan *message{}}
	if resp.StatusCode == http.StatusOK && kind == "text/event-stream" {
		old.endpoint, err = endpoint(events, resp.Request.URL)
	} else {
		err = errNotOld
	}
	if !late.Stop() || err != nil {
		stop()
		_ = resp.Body.Close()
		return errors.Join(errNotOld, err)
	}
	b.old.Store(old)
	b.streams.Go(func() {
		defer stop()
		defer resp.Body.Close()
		b.readOld(old, events)
	})
	return nil
}

// endpoint reads the first event. The endpoint gets all that this server may see, and so must be of its origin.
func endpoint(events *sse.Reader, at *url.URL) (string, error) {
	for {
		e, err := events.Next()
		switch {
		case err != nil:
			return "", err
		case len(e.Data) == 0:
			continue
		case e.Name != "endpoint":
			return "", errNotOld
		}
		u, err := at.Parse(string(e.Data))
		if err != nil {
			return "", err
		}
		if !sameOrigin(u, at) {
			return "", fmt.Errorf("its endpoint is at another server, %s", u.Host)
		}
		return u.String(), nil
	}
}

// readOld passes on what the server says until the stream is over.
func (b *Bridge) readOld(old *oldServer, events *sse.Reader) {
	defer close(old.over)
	for {
		e, err := events.Next()
		if err != nil {
			old.err = err
			return
		}
		if len(e.Data) == 0 || e.Name != "" && e.Name != "message" {
			continue
		}
		messages, err := parse(e.Data)
		if err != nil {
			b.Log.Warn("the server sent what is no message", "error", err)
		}
		for _, m := range messages {
			if m.Kind != wire.Response {
				b.deliver(nil, m)
				continue
			}
			old.mu.Lock()
			to := old.waiting[m.ID.Key()]
			delete(old.waiting, m.ID.Key())
			old.mu.Unlock()
			if to != nil {
				to <- m // has room for it
			}
		}
	}
}

// ask sends a request and waits for its answer.
func (b *Bridge) ask(ctx context.Context, old *oldServer, m *message, c *call) (*message, error) {
	answer := make(chan *message, 1)
	old.mu.Lock()
	old.waiting[m.ID.Key()] = answer
	old.mu.Unlock()
	defer func() {
		old.mu.Lock()
		defer old.mu.Unlock()
		delete(old.waiting, m.ID.Key())
	}()
	header := http.Header{}
	resp, err := b.post(ctx, old.endpoint, m, header, c)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	_ = resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
		return nil, &refusedError{describe(resp, kind, body)}
	} else if err != nil {
		return nil, err
	}
	select {
	case m := <-answer:
		return m, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-old.over:
	}
	select {
	case m := <-answer: // it was the last
		return m, nil
	default:
		return nil, old.err
	}
}

// A refusedError says that a server has not taken a message.
type refusedError struct{ text string }

func (e *refusedError) Error() string { return e.text }

// requestOld is [Bridge.request] for an old server.
func (b *Bridge) requestOld(ctx context.Context, c *call, began *atomic.Bool) []byte {
	if c.Method == "initialize" {
		b.session.begin(c.message, "")
	}
	old, err := b.reopenOld(ctx, c.Method != "initialize")
	if err != nil {
		return failure(c.ID, "the connection with the server was lost, and another could not be opened: "+err.Error())
	}
	began.Store(false)
	m, err := b.ask(ctx, old, c.message, c)
	if refused, ok := errors.AsType[*refusedError](err); ok {
		return failure(c.ID, refused.Error())
	} else if err != nil {
		return unsent(c, began, err)
	}
	b.deliver(c, m)
	return nil
}

// reopenOld returns the connection with the old server, another if that is over. With handshake, it is opened as the client
// has opened the first.
func (b *Bridge) reopenOld(ctx context.Context, handshake bool) (*oldServer, error) {
	b.session.renewing.Lock()
	defer b.session.renewing.Unlock()
	old := b.old.Load()
	select {
	case <-old.over:
	default:
		return old, nil
	}
	if err := b.openOld(ctx); err != nil {
		return nil, err
	}
	old = b.old.Load()
	if !handshake {
		return old, nil
	}
	b.Log.Warn("the stream of the server is over; another was opened")
	b.session.mu.Lock()
	initialize, initialized := b.session.initialize, b.session.initialized
	b.session.mu.Unlock()
	answer, err := b.ask(ctx, old, initialize, nil)
	if err == nil {
		if e := refusal(answer.raw); e != nil {
			err = fmt.Errorf("initialize was refused: %s", e.Message)
		}
	}
	if err != nil {
		old.close()
		return nil, err
	}
	if initialized != nil {
		b.notify(ctx, initialized)
	}
	return old, nil
}
