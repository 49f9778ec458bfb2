// Package observed is what the rooms of the endpoint share to tell an [observe.Observer] what they do. Each of them holds the
// observer itself, which is nil when nobody observes: that is one look for a call, and nothing else.
package observed

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"runtime/debug"

	"github.com/sluice-mcp/sluice/internal/wire"
	"github.com/sluice-mcp/sluice/observe"
)

// Tell tells of an event, if anybody observes.
func Tell(ctx context.Context, o observe.Observer, e observe.Event) {
	if o != nil {
		o.Event(ctx, e)
	}
}

// Name names a session, or a task, where its ID must not be: who has that may take part in it.
func Name(id string) string {
	if id == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(id))
	return hex.EncodeToString(sum[:4])
}

// Method returns the method if a specification has it, else [observe.Other].
func Method(method string) string {
	if methods[method] {
		return method
	}
	return observe.Other
}

// methods are those of all revisions that a client may call, and of the extensions that are served.
var methods = map[string]bool{
	"initialize": true, "ping": true, "server/discover": true, "logging/setLevel": true, "completion/complete": true,
	"tools/list": true, "tools/call": true,
	"prompts/list": true, "prompts/get": true,
	"resources/list": true, "resources/templates/list": true, "resources/read": true,
	"resources/subscribe": true, "resources/unsubscribe": true, "subscriptions/listen": true,
	"tasks/get": true, "tasks/update": true, "tasks/cancel": true,
}

// Bounds of what is passed on of a trace context, in bytes: what W3C Trace Context (section 3.3.1.5) and W3C Baggage (3.3.2) have
// everybody pass on, and more than any traceparent has.
const (
	maxParent  = 128
	maxState   = 512
	maxBaggage = 8192
)

// Trace reads the trace context in the params of a request.
func Trace(params []byte) observe.Trace {
	c := wire.ParseTrace(wire.Member(params, "_meta"))
	t := observe.Trace{Parent: text(c.Parent, maxParent), State: text(c.State, maxState), Baggage: text(c.Baggage, maxBaggage)}
	if t.Parent == "" { // it says nothing without
		t.State = ""
	}
	return t
}

// text is a JSON string, or nothing if it is none or a longer one.
func text(raw []byte, most int) string {
	if len(raw) < 2 || raw[0] != '"' || len(raw)-2 > most {
		return ""
	}
	return wire.Unquote(raw)
}

// Kept is what the store has of a call for an observer at the replica that goes on with it. It has no baggage, which may be large, and
// secret.
type Kept struct {
	Target string `json:"target,omitempty"`
	Parent string `json:"traceparent,omitempty"`
	State  string `json:"tracestate,omitempty"`
}

// Keep returns what is kept of a call.
func Keep(c observe.Call) Kept { return Kept{c.Target, c.Trace.Parent, c.Trace.State} }

// Trace returns the trace context of the call.
func (k Kept) Trace() observe.Trace { return observe.Trace{Parent: k.Parent, State: k.State} }

// Guard returns an observer that survives the panics of another one, and nil for nil.
func Guard(o observe.Observer, log *slog.Logger) observe.Observer {
	if o == nil {
		return nil
	}
	return &guard{o, log}
}

type guard struct {
	observer observe.Observer
	log      *slog.Logger
}

func (g *guard) recovered() {
	if p := recover(); p != nil {
		g.log.Error("observer panicked", "panic", p, "stack", string(debug.Stack()))
	}
}

// Call implements [observe.Observer].
func (g *guard) Call(ctx context.Context, c observe.Call) (context.Context, func(observe.End)) {
	with, end := g.call(ctx, c)
	if with == nil {
		with = ctx
	}
	return with, g.end(end)
}

func (g *guard) call(ctx context.Context, c observe.Call) (with context.Context, end func(observe.End)) {
	defer g.recovered()
	return g.observer.Call(ctx, c)
}

// Ask implements [observe.Observer].
func (g *guard) Ask(ctx context.Context, a observe.Ask) (observe.Trace, func(observe.End)) {
	trace, end := g.ask(ctx, a)
	return trace, g.end(end)
}

func (g *guard) ask(ctx context.Context, a observe.Ask) (trace observe.Trace, end func(observe.End)) {
	defer g.recovered()
	return g.observer.Ask(ctx, a)
}

// Event implements [observe.Observer].
func (g *guard) Event(ctx context.Context, e observe.Event) {
	defer g.recovered()
	g.observer.Event(ctx, e)
}

// end returns a function that is never nil.
func (g *guard) end(f func(observe.End)) func(observe.End) {
	if f == nil {
		return func(observe.End) {}
	}
	return func(e observe.End) {
		defer g.recovered()
		f(e)
	}
}
