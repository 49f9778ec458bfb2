package run

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"

	"github.com/sluice-mcp/sluice/internal/wire"
)

// ErrCancelled is the cause of a run's context that its client has cancelled.
var ErrCancelled = errors.New("cancelled by the client")

// Run is one client request being executed. Its context ends when the run is
// cancelled or answered, not with the connection that brought it.
type Run struct {
	ID     wire.ID
	Method string
	Stream *Stream
	// Owner is the ID of the session that the run belongs to, if any. What a handler says to
	// somebody else's client must not land here, whatever context it uses.
	Owner string
	// Of is what its owner knows of the request.
	Of any

	parent
	cancel context.CancelCauseFunc
	said   atomic.Int64 // bytes
	state  atomic.Int32
	copies atomic.Pointer[[]*func(data []byte)]
	vain   atomic.Bool
}

// parent is what a run has of its context besides itself.
type parent = context.Context

const (
	running int32 = iota
	answered
	cancelled
)

// Start returns a run. Its context has the values of ctx, which HTTP middleware may have put there, and not its
// end: whoever ends what the run belongs to cancels the run, which says what becomes of its stream, too.
func Start(ctx context.Context, owner string, id wire.ID, method string, s *Stream) *Run {
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	return &Run{ID: id, Method: method, Stream: s, Owner: owner, parent: ctx, cancel: cancel}
}

// Context is the one to call handlers with. It is the run itself, which saves one allocation of every call.
func (r *Run) Context() context.Context { return r }

// Value implements [context.Context].
func (r *Run) Value(k any) any {
	if k == (key{}) {
		return r
	}
	return r.parent.Value(k)
}

type key struct{}

// From returns the run that ctx belongs to, or nil.
func From(ctx context.Context) *Run {
	r, _ := ctx.Value(key{}).(*Run)
	return r
}

// Outside returns a context with the values that ctx has beside the run that it belongs to, if any, and without its end.
func Outside(ctx context.Context) context.Context {
	if r := From(ctx); r != nil {
		ctx = r.parent
	}
	return context.WithoutCancel(ctx)
}

// Answer ends the run with a response, and reports whether it is on its way. A run has one end: what comes
// after a cancellation or a first answer is dropped. status is the HTTP status that the
// response goes with when it is all there is.
func (r *Run) Answer(response []byte, status int) (sent bool) {
	if r.state.CompareAndSwap(running, answered) {
		sent = r.Stream.Respond(response, status) == nil // fails only when the stream was given up
		r.said.Add(int64(len(response)))
	}
	r.cancel(nil)
	return sent
}

// Cancel ends the run on its client's word: no response follows.
func (r *Run) Cancel() {
	if r.state.CompareAndSwap(running, cancelled) {
		r.Stream.Forgo()
	}
	r.cancel(ErrCancelled)
}

// Lose ends the run because its stream is another replica's now: no response follows.
func (r *Run) Lose() {
	if r.state.CompareAndSwap(running, cancelled) {
		r.Stream.Forgo()
	}
	r.cancel(ErrLost)
}

// AskedInVain notes that the client has lost its connection before it could answer what it was asked.
func (r *Run) AskedInVain() { r.vain.Store(true) }

// Vain reports whether the client was asked in vain.
func (r *Run) Vain() bool { return r.vain.Load() }

// Open reports whether the run has neither been answered nor cancelled.
func (r *Run) Open() bool { return r.state.Load() == running }

// Send puts a message on the run's stream. Errors: ErrEnded, ErrLost, ctx's.
func (r *Run) Send(ctx context.Context, data []byte) error {
	if !r.Open() {
		return ErrEnded
	}
	r.said.Add(int64(len(data)))
	if copies := r.copies.Load(); copies != nil {
		for _, f := range *copies { // first: the run's own client may be gone, and nobody know yet
			(*f)(data)
		}
	}
	return r.Stream.Send(ctx, data)
}

// Copy has f called with each message that is sent on the run from now on, until stop is called. f is called by the handler's
// goroutine, which it holds up.
func (r *Run) Copy(f func(data []byte)) (stop func()) {
	change := func(to func([]*func([]byte)) []*func([]byte)) {
		for {
			old := r.copies.Load()
			var copies []*func([]byte)
			if old != nil {
				copies = slices.Clone(*old)
			}
			copies = to(copies)
			next := &copies
			if len(copies) == 0 {
				next = nil
			}
			if r.copies.CompareAndSwap(old, next) {
				return
			}
		}
	}
	change(func(all []*func([]byte)) []*func([]byte) { return append(all, &f) })
	return func() {
		change(func(all []*func([]byte)) []*func([]byte) {
			return slices.DeleteFunc(all, func(have *func([]byte)) bool { return have == &f })
		})
	}
}
