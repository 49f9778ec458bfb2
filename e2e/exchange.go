package e2e

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"time"
)

// Why an exchange ends before its response does.
var (
	errCut     = errors.New("cut")
	errDropped = errors.New("closed")
)

// An exchange is one request and its response on their way through a [Balancer].
type exchange struct {
	w      http.ResponseWriter
	ctx    context.Context
	cancel context.CancelCauseFunc
	faults []*Injection

	idle *time.Timer // nil without DropIdle

	header bool // the response's header has been sent
	events eventCounter
	bytes  int
	held   []byte // by Buffer
}

type chunk struct {
	data []byte
	at   time.Time
	err  error
}

// run answers the client with what forward returns, and with the faults.
func (x *exchange) run(forward func() (*http.Response, error)) {
	x.armIdle()
	if x.idle != nil {
		defer x.idle.Stop()
	}
	err := x.delay(time.Now())
	var resp *http.Response
	if err == nil {
		resp, err = forward()
	}
	if err == nil {
		defer resp.Body.Close()
		err = x.pass(resp)
	}
	if cause := context.Cause(x.ctx); cause != nil {
		err = cause
	}
	var refused *refusedError
	switch {
	case err == nil:
	case errors.Is(err, errCut):
		x.reset()
	case x.header || errors.Is(err, errDropped):
		abort()
	case errors.As(err, &refused):
		http.Error(x.w, "e2e: no backend took the request: "+err.Error(), http.StatusServiceUnavailable)
	default:
		http.Error(x.w, "e2e: the backend was lost: "+err.Error(), http.StatusBadGateway)
	}
}

// pass copies the response.
func (x *exchange) pass(resp *http.Response) error {
	chunks := make(chan chunk, 1024)
	go x.read(resp.Body, chunks)
	if err := x.delay(time.Now()); err != nil {
		return err
	}
	if err := x.stall(); err != nil { // at zero events: the header is held back too
		return err
	}
	copyHeader(x.w.Header(), resp.Header)
	x.w.WriteHeader(resp.StatusCode)
	x.header = true
	if err := x.flush(nil); err != nil {
		return err
	}
	if err := x.write(nil); err != nil {
		return err
	}
	for {
		var c chunk
		select {
		case c = <-chunks:
		case <-x.ctx.Done():
			return context.Cause(x.ctx)
		}
		if err := x.delay(c.at); err != nil {
			return err
		}
		if err := x.write(c.data); err != nil {
			return err
		}
		switch {
		case errors.Is(c.err, io.EOF):
			return x.flush(x.held)
		case c.err != nil:
			return c.err
		}
	}
}

func (x *exchange) read(body io.Reader, to chan<- chunk) {
	for {
		buf := make([]byte, 32<<10)
		n, err := body.Read(buf)
		if n > 0 && x.idle != nil {
			x.idle.Reset(x.idleLimit())
		}
		select {
		case to <- chunk{buf[:n], time.Now(), err}:
		case <-x.ctx.Done():
			return
		}
		if err != nil {
			return
		}
	}
}

// idleLimit is the shortest of the DropIdle faults, or 0.
func (x *exchange) idleLimit() time.Duration {
	var limit time.Duration
	for _, in := range x.faults {
		if in.idle > 0 && (limit == 0 || in.idle < limit) {
			limit = in.idle
		}
	}
	return limit
}

func (x *exchange) armIdle() {
	if d := x.idleLimit(); d > 0 {
		x.idle = time.AfterFunc(d, func() {
			if x.any(func(in *Injection) bool { return in.idle > 0 }) {
				x.cancel(errDropped)
			}
		})
	}
}

// write passes data on, up to where a fault stops it.
func (x *exchange) write(data []byte) error {
	for {
		if err := x.cutHere(); err != nil {
			return err
		}
		if err := x.stall(); err != nil {
			return err
		}
		if len(data) == 0 {
			return nil
		}
		n := x.upTo(data)
		part := data[:n]
		data = data[n:]
		x.events.add(part)
		x.bytes += n
		if x.any(func(in *Injection) bool { return in.buffer }) {
			x.held = append(x.held, part...)
			continue
		}
		if err := x.flush(append(x.held, part...)); err != nil {
			return err
		}
		x.held = nil
		if x.any(func(in *Injection) bool { return in.midBody }) {
			return errDropped
		}
	}
}

// upTo returns how many bytes may pass before the faults must be looked at again.
func (x *exchange) upTo(data []byte) int {
	n := len(data)
	for _, in := range x.faults {
		if !in.active() {
			continue
		}
		for _, events := range []int{in.cutEvents, in.stallEvents} {
			if events > x.events.n {
				n = min(n, x.events.until(data, events))
			}
		}
		if in.cutBytes > x.bytes {
			n = min(n, in.cutBytes-x.bytes)
		}
		if in.midBody {
			n = min(n, (len(data)+1)/2)
		}
	}
	return n
}

func (x *exchange) any(is func(*Injection) bool) bool {
	for _, in := range x.faults {
		if in.active() && is(in) {
			return true
		}
	}
	return false
}

func (x *exchange) cutHere() error {
	if x.any(func(in *Injection) bool { return in.cutEvents == x.events.n || in.cutBytes == x.bytes }) {
		return errCut
	}
	return nil
}

// stall waits while a fault holds back what follows.
func (x *exchange) stall() error {
	for _, in := range x.faults {
		if in.stallEvents != x.events.n {
			continue
		}
		select {
		case <-in.removed:
		case <-x.ctx.Done():
			return context.Cause(x.ctx)
		}
	}
	return nil
}

// delay waits until what happened at a moment may be known on the other side.
func (x *exchange) delay(at time.Time) error {
	var latency time.Duration
	for _, in := range x.faults {
		if in.active() {
			latency += in.latency
		}
	}
	wait := time.Until(at.Add(latency))
	if latency == 0 || wait <= 0 {
		return nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-x.ctx.Done():
		return context.Cause(x.ctx)
	}
}

func (x *exchange) flush(data []byte) error {
	if len(data) > 0 {
		if _, err := x.w.Write(data); err != nil {
			return err
		}
	}
	return http.NewResponseController(x.w).Flush()
}

// abort closes the client's connection; the body stays incomplete. net/http has no other way to say so.
func abort() { panic(http.ErrAbortHandler) } //nolint:forbidigo // see above

// reset ends the client's connection with an RST, where the server can; else without one.
func (x *exchange) reset() {
	conn, _, err := http.NewResponseController(x.w).Hijack()
	if err != nil {
		abort()
		return
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}
