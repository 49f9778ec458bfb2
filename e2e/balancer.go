package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// BackendHeader is set on responses by a [Balancer]: the index of the backend that answered.
const BackendHeader = "E2e-Backend"

// maxRequestBody is the largest request that a balancer passes on.
const maxRequestBody = 64 << 20

// A Balancer is a reverse proxy on a loopback port in front of one or more servers. It passes event
// streams on at once, and does the network's worst on demand: see [Fault].
//
// A request goes to another backend only if a connection was refused, so that nothing was sent. If
// all refuse, the answer is 503; if a backend is lost after it
// was sent the request, 502: nobody knows then whether it has been executed.
// A backend that is lost later takes the client's connection with it.
type Balancer struct {
	endpoint
	backends []*backend
	upstream *http.Transport

	mu       sync.Mutex
	pick     Picker
	faults   []*Injection
	inFlight map[*exchange]struct{}
}

type backend struct {
	authority string
	unready   atomic.Bool
}

// Proxy puts a [Balancer] in front of the targets, until the end of the test.
func Proxy(t testing.TB, targets ...Endpoint) *Balancer {
	t.Helper()
	b := &Balancer{
		pick:     RoundRobin(),
		inFlight: map[*exchange]struct{}{},
		upstream: &http.Transport{
			// A connection for each request: a kept one may be dead without our knowing, and then a
			// failure to send would be ambiguous.
			DisableKeepAlives:  true,
			DisableCompression: true,
			DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				c, err := new(net.Dialer).DialContext(ctx, network, addr)
				if err != nil {
					return nil, &refusedError{err}
				}
				return c, nil
			},
		},
	}
	if len(targets) == 0 {
		t.Fatal("e2e: Proxy needs a target")
	}
	b.endpoint = *targets[0].shared()
	b.stdio = nil
	b.revisions = overHTTP(b.revisions)
	for _, target := range targets {
		authority, err := authorityOf(target.shared().base)
		if err != nil {
			t.Fatalf("e2e: %v", err)
		}
		b.backends = append(b.backends, &backend{authority: authority})
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("e2e: %v", err)
	}
	b.base = "http://" + l.Addr().String()
	server := &http.Server{Handler: b, ReadHeaderTimeout: time.Minute}
	go server.Serve(l) //nolint:errcheck // it always ends with ErrServerClosed
	t.Cleanup(func() {
		_ = server.Close()
		b.CutAll() // handlers outlive Close
	})
	return b
}

// Inject puts a fault in force, for requests that arrive from now on. Several add up.
func (b *Balancer) Inject(f Fault) *Injection {
	in := &Injection{Fault: f, removed: make(chan struct{})}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.faults = append(b.faults, in)
	return in
}

// CutAll resets all connections that have a request open.
func (b *Balancer) CutAll() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for x := range b.inFlight {
		x.cancel(errCut)
	}
}

// InFlight is the number of requests that are open, streams among them.
func (b *Balancer) InFlight() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.inFlight)
}

// A Picker chooses the backend, by its index, to try first; the next ones follow if it
// refuses. It is called by one request at a time, and its answer taken modulo the number of backends.
type Picker func(Request) int

// Pick sets how backends are chosen. The default is [RoundRobin].
func (b *Balancer) Pick(p Picker) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pick = p
}

// RoundRobin takes one backend after the other.
func RoundRobin() Picker {
	next := -1
	return func(Request) int { next++; return next }
}

// Random takes backends at random, in an order that the seed gives.
func Random(seed uint64) Picker {
	rng := rand.New(rand.NewPCG(seed, seed))
	return func(Request) int { return int(rng.Int32()) }
}

// Pin takes always the same backend.
func Pin(i int) Picker { return func(Request) int { return i } }

func (b *Balancer) injections() []*Injection {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]*Injection(nil), b.faults...)
}

// order lists the backends to try: those that are ready, from the picked one on, then the others.
func (b *Balancer) order(r Request) []int {
	b.mu.Lock()
	n := len(b.backends)
	first := (b.pick(r)%n + n) % n
	b.mu.Unlock()
	var ready, rest []int
	for i := range n {
		i = (first + i) % n
		if b.backends[i].unready.Load() {
			rest = append(rest, i)
		} else {
			ready = append(ready, i)
		}
	}
	return append(ready, rest...)
}

// ServeHTTP passes a request on.
func (b *Balancer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequestBody))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	x := &exchange{w: w, ctx: ctx, cancel: cancel}
	req := Request{HTTP: r, Body: body, RPC: rpcMethod(body)}
	for _, in := range b.injections() {
		if in.take(req) {
			x.faults = append(x.faults, in)
		}
	}
	b.mu.Lock()
	b.inFlight[x] = struct{}{}
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		delete(b.inFlight, x)
		b.mu.Unlock()
	}()
	x.run(func() (*http.Response, error) { return b.forward(ctx, req) })
}

func rpcMethod(body []byte) string {
	var msg struct {
		Method string `json:"method"`
	}
	_ = json.Unmarshal(body, &msg) // anything else has no method
	return msg.Method
}

// refusedError: there was no connection, so nothing was sent.
type refusedError struct{ err error }

func (e *refusedError) Error() string { return e.err.Error() }
func (e *refusedError) Unwrap() error { return e.err }

// forward sends the request to the first backend that takes it.
func (b *Balancer) forward(ctx context.Context, r Request) (*http.Response, error) {
	var refused *refusedError
	for _, i := range b.order(r) {
		out := r.HTTP.Clone(ctx)
		out.RequestURI = ""
		out.URL.Scheme, out.URL.Host = "http", b.backends[i].authority
		out.Body, out.ContentLength, out.TransferEncoding = nil, 0, nil
		if len(r.Body) > 0 {
			out.Body, out.ContentLength = io.NopCloser(bytes.NewReader(r.Body)), int64(len(r.Body))
		}
		out.Header.Del("Connection")
		if _, ok := out.Header["User-Agent"]; !ok {
			out.Header["User-Agent"] = nil // else the transport adds its own
		}
		resp, err := b.upstream.RoundTrip(out)
		if err == nil {
			resp.Header.Set(BackendHeader, strconv.Itoa(i))
			return resp, nil
		}
		if !errors.As(err, &refused) || ctx.Err() != nil {
			return nil, err
		}
	}
	return nil, refused
}

// watch keeps requests from backends that say they are not ready, until ctx ends.
func (b *Balancer) watch(ctx context.Context, every time.Duration) {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Second}
	var wg sync.WaitGroup
	for _, be := range b.backends {
		wg.Go(func() {
			tick := time.NewTicker(every)
			defer tick.Stop()
			for {
				code, err := status(ctx, client, "http://"+be.authority+"/readyz")
				be.unready.Store(err != nil || code >= 500)
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
				}
			}
		})
	}
	wg.Wait()
}

// overHTTP leaves out what needs a pipe.
func overHTTP(revisions []Revision) []Revision {
	return slices.DeleteFunc(slices.Clone(revisions), Revision.stdio)
}

func copyHeader(to, from http.Header) {
	maps.Copy(to, from)
	to.Del("Connection")
}

func authorityOf(base string) (string, error) {
	authority, ok := strings.CutPrefix(base, "http://")
	if !ok {
		return "", fmt.Errorf("a proxy needs an http:// target, not %q", base)
	}
	return authority, nil
}
