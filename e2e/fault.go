package e2e

import (
	"net/http"
	"slices"
	"sync"
	"time"
)

// A Fault is something that a network does to a request or its response. [Balancer.Inject] puts it in
// force for all requests, or those that its methods narrow it to.
//
// An event is a block of a text/event-stream with data or an ID; comments do not count.
type Fault struct {
	cutEvents, cutBytes, stallEvents int // -1: never
	buffer, midBody                  bool
	idle, latency                    time.Duration

	when  []func(Request) bool
	times int // 0: no limit
}

func fault() Fault { return Fault{cutEvents: -1, cutBytes: -1, stallEvents: -1} }

// CutAfterEvents resets the connection when n events have passed. With 0 only the response's header passes.
func CutAfterEvents(n int) Fault {
	f := fault()
	f.cutEvents = n
	return f
}

// CutAfterBytes resets the connection when n bytes of the response's body have passed.
func CutAfterBytes(n int) Fault {
	f := fault()
	f.cutBytes = n
	return f
}

// CloseMidBody closes the connection in an orderly way, but before the end of the response's body.
func CloseMidBody() Fault {
	f := fault()
	f.midBody = true
	return f
}

// Stall holds the response back, header and all, with the connection open, until the fault is removed.
func Stall() Fault { return StallAfterEvents(0) }

// StallAfterEvents lets n events pass and holds back what follows, with the
// connection open, until the fault is removed.
func StallAfterEvents(n int) Fault {
	f := fault()
	f.stallEvents = n
	return f
}

// Buffer holds the body back until it is complete, as buffering proxies do.
func Buffer() Fault {
	f := fault()
	f.buffer = true
	return f
}

// DropIdle closes a connection on which the server has sent nothing for d, as load balancers do.
func DropIdle(d time.Duration) Fault {
	f := fault()
	f.idle = d
	return f
}

// Latency delays everything by d in each direction.
func Latency(d time.Duration) Fault {
	f := fault()
	f.latency = d
	return f
}

// On narrows the fault to requests of these HTTP methods ("GET") or JSON-RPC methods ("tools/call").
func (f Fault) On(methods ...string) Fault {
	return f.When(func(r Request) bool {
		return slices.Contains(methods, r.HTTP.Method) || slices.Contains(methods, r.RPC)
	})
}

// When narrows the fault to requests for which match returns true. It is called from
// several goroutines, and at most once a request.
func (f Fault) When(match func(Request) bool) Fault {
	f.when = append(slices.Clone(f.when), match)
	return f
}

// Once narrows the fault to the next request.
func (f Fault) Once() Fault { return f.Times(1) }

// Times narrows the fault to the next n requests.
func (f Fault) Times(n int) Fault {
	f.times = n
	return f
}

// A Request is an HTTP request on its way through a [Balancer].
type Request struct {
	HTTP *http.Request // its body has been read
	Body []byte
	RPC  string // the JSON-RPC method, "" if there is none
}

// An Injection is a fault in force.
type Injection struct {
	Fault
	removed chan struct{}
	remove  sync.Once

	mu   sync.Mutex
	hits int
}

// Remove ends the fault, also for the connections that it holds back now. It is idempotent.
func (in *Injection) Remove() { in.remove.Do(func() { close(in.removed) }) }

// Hits is the number of requests that the fault was applied to.
func (in *Injection) Hits() int {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.hits
}

func (in *Injection) active() bool {
	select {
	case <-in.removed:
		return false
	default:
		return true
	}
}

// take reports whether the fault applies to r, and counts it.
func (in *Injection) take(r Request) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	if !in.active() || in.times > 0 && in.hits >= in.times {
		return false
	}
	for _, match := range in.when {
		if !match(r) {
			return false
		}
	}
	in.hits++
	return true
}
