package accesslog

import (
	"context"
	"log/slog"
	"slices"

	"github.com/sluice-mcp/sluice/observe"
)

type callKey struct{}

// call is what the lines say that are written in a call.
type call struct {
	kind  string // tool, prompt, or neither
	name  string
	trace string // of its caller
}

// within returns a context whose lines name the call.
func within(ctx context.Context, c observe.Call) context.Context {
	in := &call{name: c.Target, trace: traceID(c.Trace.Parent)}
	switch c.Method {
	case "tools/call":
		in.kind = "tool"
	case "prompts/get":
		in.kind = "prompt"
	}
	return context.WithValue(ctx, callKey{}, in)
}

func callOf(ctx context.Context) *call {
	c, _ := ctx.Value(callKey{}).(*call)
	return c
}

// traceID returns the trace-id of a traceparent (W3C Trace Context, section 3.2), or "" if that is none.
func traceID(parent string) string {
	const zero = "00000000000000000000000000000000"
	if len(parent) < 55 || parent[2] != '-' || parent[35] != '-' || parent[:2] == "ff" {
		return ""
	}
	id := parent[3:35]
	for _, c := range []byte(id) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return ""
		}
	}
	if id == zero {
		return ""
	}
	return id
}

// Handler returns a handler that adds to each record what its context says: request_id, trace_id, and the name of the tool or prompt
// whose call it was written in. So a tool that logs with its context ([slog.InfoContext]) says whose line it is. It needs the context of a
// call that [New] observes, of a request that went through [RequestIDs], or both.
func Handler(h slog.Handler) slog.Handler {
	if _, ok := h.(*handler); ok {
		return h
	}
	return &handler{Handler: h}
}

// handler adds to the records of another one.
type handler struct {
	slog.Handler // with all that a logger was given

	// What the context says belongs to no group. Once a group is open, it has to get in before: outside is the handler without the first
	// group, and inside is what makes the handler of it again.
	outside slog.Handler
	inside  []func(slog.Handler) slog.Handler
}

// Handle implements [slog.Handler].
func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	var room [3]slog.Attr
	attrs := said(ctx, room[:0])
	switch {
	case len(attrs) == 0:
		return h.Handler.Handle(ctx, r)
	case h.outside == nil:
		r = r.Clone()
		r.AddAttrs(attrs...)
		return h.Handler.Handle(ctx, r)
	}
	with := h.outside.WithAttrs(attrs)
	for _, open := range h.inside {
		with = open(with)
	}
	return with.Handle(ctx, r)
}

// said appends what the context says.
func said(ctx context.Context, attrs []slog.Attr) []slog.Attr {
	text := func(key, value string) {
		if value != "" {
			attrs = append(attrs, slog.String(key, value))
		}
	}
	text("request_id", observe.RequestID(ctx))
	trace, c := observe.TraceID(ctx), callOf(ctx)
	if c != nil && trace == "" {
		trace = c.trace
	}
	text("trace_id", trace)
	if c != nil && c.kind != "" {
		text(c.kind, c.name)
	}
	return attrs
}

// WithAttrs implements [slog.Handler].
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return h.with(h.outside, func(h slog.Handler) slog.Handler { return h.WithAttrs(attrs) })
}

// WithGroup implements [slog.Handler].
func (h *handler) WithGroup(name string) slog.Handler {
	outside := h.outside
	if outside == nil && name != "" { // a group without a name is none
		outside = h.Handler
	}
	return h.with(outside, func(h slog.Handler) slog.Handler { return h.WithGroup(name) })
}

func (h *handler) with(outside slog.Handler, add func(slog.Handler) slog.Handler) slog.Handler {
	next := &handler{Handler: add(h.Handler), outside: outside}
	if outside != nil {
		next.inside = append(slices.Clip(h.inside), add)
	}
	return next
}
