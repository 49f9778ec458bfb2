package sitetest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice"
	"github.com/sluice-mcp/sluice/internal/schematest"
)

// A Site is one replica as its clients see it: requests go straight to the handler, over
// connections that can be lost with what is on its way in them.
type Site struct {
	Name    string
	Tap     *Tap        // nil if it shares nothing
	Server  *mcp.Server // nil if sessions have their own
	Handler *sluice.Handler
	watched http.Handler // the handler, and what it writes is judged

	mu    sync.Mutex
	down  bool
	thaw  chan struct{} // not nil while the process is stopped
	conns map[*conn]struct{}
}

// conn is one request and its response.
type conn struct {
	site   *Site
	cancel context.CancelFunc
	header http.Header
	ready  chan struct{} // closed when the status is known
	status int

	mu   sync.Mutex
	cond *sync.Cond
	buf  bytes.Buffer
	err  error // comes after what is in buf
	lost bool
}

// RoundTrip implements [http.RoundTripper].
func (s *Site) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancel(r.Context())
	c := &conn{site: s, cancel: cancel, header: make(http.Header), ready: make(chan struct{})}
	c.cond = sync.NewCond(&c.mu)
	s.mu.Lock()
	if s.down {
		s.mu.Unlock()
		cancel()
		return nil, syscall.ECONNREFUSED
	}
	s.conns[c] = struct{}{}
	s.mu.Unlock()

	in := r.Clone(ctx)
	in.Host, in.RemoteAddr, in.RequestURI = "127.0.0.1", "127.0.0.1:1", r.URL.RequestURI()
	if in.Body == nil {
		in.Body = http.NoBody
	}
	go func() {
		s.awake()
		s.watched.ServeHTTP(c, in)
		c.WriteHeader(http.StatusOK)
		c.end(io.EOF, false)
	}()
	select {
	case <-c.ready:
	case <-r.Context().Done():
		c.end(r.Context().Err(), true)
		return nil, r.Context().Err()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.status == 0 {
		return nil, syscall.ECONNRESET
	}
	return &http.Response{
		StatusCode: c.status, Status: http.StatusText(c.status), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: c.header.Clone(), Body: (*connBody)(c), Request: r,
	}, nil
}

// Header, WriteHeader, Write and FlushError are the handler's end of a conn.
func (c *conn) Header() http.Header { return c.header }

func (c *conn) WriteHeader(status int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.status == 0 && !c.lost {
		c.status = status
		close(c.ready)
	}
}

func (c *conn) Write(p []byte) (int, error) {
	c.site.awake()
	c.WriteHeader(http.StatusOK)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return 0, io.ErrClosedPipe
	}
	c.cond.Broadcast()
	return c.buf.Write(p)
}

func (c *conn) FlushError() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return io.ErrClosedPipe
	}
	return nil
}

// end ends the response; when it is lost, so is what the client has not read.
func (c *conn) end(err error, lost bool) {
	c.mu.Lock()
	if c.err == nil || lost {
		c.err = err
	}
	if lost {
		if c.status == 0 && !c.lost {
			close(c.ready)
		}
		c.lost = true
		c.buf.Reset()
	}
	c.cond.Broadcast()
	c.mu.Unlock()
	c.cancel()
	c.site.mu.Lock()
	delete(c.site.conns, c)
	c.site.mu.Unlock()
}

// connBody is the client's end of a conn.
type connBody conn

func (b *connBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.buf.Len() == 0 && b.err == nil {
		b.cond.Wait()
	}
	if b.buf.Len() > 0 {
		return b.buf.Read(p)
	}
	return 0, b.err
}

func (b *connBody) Close() error {
	(*conn)(b).end(errLeft, true)
	return nil
}

var errLeft = errors.New("closed by the client")

// Cut loses all connections of a site.
func (s *Site) Cut() {
	s.mu.Lock()
	all := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		all = append(all, c)
	}
	s.mu.Unlock()
	for _, c := range all {
		c.end(syscall.ECONNRESET, true)
	}
}

// awake waits while the process is stopped.
func (s *Site) awake() {
	s.mu.Lock()
	thaw := s.thaw
	s.mu.Unlock()
	if thaw != nil {
		<-thaw
	}
}

// Freeze stops the process, as SIGSTOP does.
func (s *Site) Freeze() {
	s.Tap.Set(Frozen)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.thaw == nil {
		s.thaw = make(chan struct{})
	}
}

// Unfreeze has it go on, as SIGCONT does.
func (s *Site) Unfreeze() {
	s.Tap.open()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.thaw != nil {
		close(s.thaw)
		s.thaw = nil
	}
}

// Shut closes the listener, and loses the connections that have not ended after a while.
func (s *Site) Shut(patience time.Duration) {
	s.mu.Lock()
	s.down = true
	s.mu.Unlock()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(time.Millisecond) {
		s.mu.Lock()
		n := len(s.conns)
		s.mu.Unlock()
		if n == 0 {
			break
		}
	}
	s.Cut()
}

// Kill ends the process, as SIGKILL does.
func (s *Site) Kill() {
	s.mu.Lock()
	s.down = true
	s.mu.Unlock()
	s.Unfreeze()
	s.Tap.Set(Dead)
	s.Cut()
	_ = s.Handler.Close() // to free the memory; nobody can tell
}

// ServeHTTPSSE has the site serve the transport of 2024-11-05 instead, at one path. What it writes is not judged.
func (s *Site) ServeHTTPSSE(path string) { s.watched = s.Handler.HTTPSSE(path) }

// NewSite starts a replica; one without a tap shares nothing. Whoever starts it sees to its end.
func NewSite(t testing.TB, name string, way *Tap, opts sluice.Options, getServer func() *mcp.Server) *Site {
	if way != nil {
		opts.Store = way
	}
	h := sluice.NewHandler(func(*http.Request) *mcp.Server { return getServer() }, &opts)
	return &Site{Name: name, Tap: way, conns: make(map[*conn]struct{}), Handler: h, watched: schematest.Watch(t, h)}
}
