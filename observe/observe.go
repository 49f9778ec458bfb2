// Package observe is how an endpoint tells what it does: each call with its end, each request that a server sends to its client, and
// what happens besides. Who logs, counts or traces implements [Observer] and gives it to the endpoint. The package depends on nothing but
// the standard library, so that an endpoint that nobody observes carries nothing for it.
//
// What is told is plain values, and safe to write down: never arguments, results, tokens, or the ID of a session. What stands in a
// metric must have few values: see the fields that say so.
package observe

import (
	"context"
	"slices"
)

// An Observer is told what an endpoint does. Its methods are called on the goroutines that do it, at the same time by many of them: they
// must be safe for concurrent use, and must not wait. A panic of its is logged and harms nobody.
type Observer interface {
	// Call is told that a request of a client begins. ctx has the values of the HTTP request's context. The handler is called with
	// the values of the context that is returned, and with an end of its own: to cancel it does nothing. end, if it is not nil, is called
	// once, when the response has been put on its way or when there will be none. Calls that their process does not survive have no end.
	Call(ctx context.Context, c Call) (_ context.Context, end func(End))
	// Ask is told that the server sends a request to its client. ctx is what the handler asks with. What is returned is sent
	// along in the request's _meta, for the client to continue the trace; end is as for Call.
	Ask(ctx context.Context, a Ask) (_ Trace, end func(End))
	// Event is told what is neither. ctx is that of what it happened in, a call's perhaps.
	Event(ctx context.Context, e Event)
}

// Join returns an observer that tells all of them, in their order, each Call with the context that the one before has returned. The
// trace of an Ask is that of the first who has one. Those that are nil are left out; it returns nil when none is left.
func Join(observers ...Observer) Observer {
	var all joined
	for _, o := range observers {
		if o != nil {
			all = append(all, o)
		}
	}
	switch len(all) {
	case 0:
		return nil
	case 1:
		return all[0]
	}
	return all
}

type joined []Observer

func (j joined) Call(ctx context.Context, c Call) (context.Context, func(End)) {
	ends := make(ends, 0, len(j))
	for _, o := range j {
		with, end := o.Call(ctx, c)
		if with != nil {
			ctx = with //nolint:fatcontext // as deep as there are observers
		}
		ends = append(ends, end)
	}
	return ctx, ends.end
}

func (j joined) Ask(ctx context.Context, a Ask) (trace Trace, end func(End)) {
	ends := make(ends, 0, len(j))
	for _, o := range j {
		t, end := o.Ask(ctx, a)
		if trace == (Trace{}) {
			trace = t
		}
		ends = append(ends, end)
	}
	return trace, ends.end
}

func (j joined) Event(ctx context.Context, e Event) {
	for _, o := range j {
		o.Event(ctx, e)
	}
}

type ends []func(End)

// end calls those that there are, the last one first, as what was begun last ends first.
func (all ends) end(e End) {
	for _, end := range slices.Backward(all) {
		if end != nil {
			end(e)
		}
	}
}
