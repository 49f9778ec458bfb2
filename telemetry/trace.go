package telemetry

import (
	"context"
	"slices"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/sluice-mcp/sluice/observe"
)

// In _meta a trace context has W3C's formats, whatever a program has its HTTP requests carry (SEP-414).
var (
	traceContext propagation.TraceContext
	baggage      propagation.Baggage
)

// parent returns the context whose span is that of the call's parent, and what to start the call's with. The parent is whom the client
// names; the span that the HTTP request has, if something traces those, is a link then: a call and its HTTP requests live apart (it may
// have several, by resumption, or share one, in a batch).
func (o *Observer) parent(ctx context.Context, c observe.Call, opts []trace.SpanStartOption) (context.Context, []trace.SpanStartOption) {
	if c.Trace == (observe.Trace{}) {
		return ctx, opts
	}
	from, restart := c.Trace, o.restart(c)
	if from.Baggage != "" && !restart {
		ctx = baggage.Extract(ctx, carrier{&from})
	}
	around := trace.SpanContextFromContext(ctx)
	with := traceContext.Extract(ctx, carrier{&from})
	remote := trace.SpanContextFromContext(with)
	switch {
	case remote.Equal(around): // it names none
		return ctx, opts
	case restart:
		return ctx, linked(opts, remote)
	case c.Round > 0 && around.TraceID() == remote.TraceID():
		// The request that this work was begun by is nearer than who has sent that.
		return ctx, opts
	case around.IsValid():
		return with, linked(opts, around)
	}
	return with, opts
}

// linked returns the options with a link. They are shared: what is returned are others.
func linked(opts []trace.SpanStartOption, to trace.SpanContext) []trace.SpanStartOption {
	return append(slices.Clip(opts), trace.WithLinks(trace.Link{SpanContext: to}))
}

// traceOf returns the trace context of a span, for _meta. Baggage is not sent: it may be meant for those that the handler calls, not for who
// calls it.
func traceOf(ctx context.Context) (t observe.Trace) {
	traceContext.Inject(ctx, carrier{&t})
	return t
}

// carrier has a propagator read or write a trace context.
type carrier struct{ *observe.Trace }

func (c carrier) Keys() []string { return []string{"traceparent", "tracestate", "baggage"} }

func (c carrier) Get(key string) string {
	switch key {
	case "traceparent":
		return c.Parent
	case "tracestate":
		return c.State
	case "baggage":
		return c.Baggage
	}
	return ""
}

func (c carrier) Set(key, value string) {
	switch key {
	case "traceparent":
		c.Parent = value
	case "tracestate":
		c.State = value
	}
}

// trace adds an event to the trace that it happened in, if that is sampled. It may happen after the end of its call: an event of the
// call's stream is put into the store aside.
func (o *Observer) trace(ctx context.Context, e observe.Event) {
	if !trace.SpanContextFromContext(ctx).IsSampled() {
		return
	}
	switch e := e.(type) {
	case observe.StoreOp:
		now := time.Now()
		_, span := o.tracer.Start(ctx, "store "+e.Op, trace.WithSpanKind(trace.SpanKindClient), trace.WithTimestamp(now.Add(-e.Duration)),
			trace.WithAttributes(attribute.String("db.operation.name", e.Op)))
		if e.Result != observe.StoreOK {
			span.SetAttributes(resultKey.String(string(e.Result)))
		}
		if e.Result == observe.StoreUnavailable {
			span.SetAttributes(errorKey.String(string(e.Result)))
			span.SetStatus(codes.Error, "the store is out of reach")
		}
		span.End(trace.WithTimestamp(now))
	case observe.Takeover:
		trace.SpanFromContext(ctx).AddEvent("sluice.takeover", trace.WithAttributes(
			attribute.String("stage", string(e.Stage)), claimKey.Int(e.Claim), attribute.Int("repeated", e.Repeated), attribute.Int("lost", e.Lost)))
	case observe.Refused:
		trace.SpanFromContext(ctx).SetAttributes(attribute.String("sluice.refused", string(e.Reason)))
	}
}
