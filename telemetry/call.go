package telemetry

import (
	"context"
	"encoding/json"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/sluice-mcp/sluice/observe"
)

// Call implements [observe.Observer]: the span of a request lasts until its response is on its way, not as long as the stream that the
// client may come back for.
func (o *Observer) Call(ctx context.Context, c observe.Call) (context.Context, func(observe.End)) {
	l := &life{
		o:     o,
		p:     o.kinds.of(kind{method: c.Method, target: c.Target, revision: c.Revision, round: c.Round > 0}),
		level: o.meters.level(c),
		begun: time.Now(),
	}
	l.level.Add(1)
	parent, opts := o.parent(ctx, c, l.p.start)
	l.ctx, l.span = o.tracer.Start(parent, l.p.name, opts...)
	if l.span.IsRecording() {
		describe(l.span, c)
	}
	// A trace that is not sampled is worth naming in the log if the caller's log may name it, too.
	if sc := l.span.SpanContext(); sc.IsSampled() || sc.IsValid() && c.Trace.Parent != "" {
		l.ctx = observe.WithTraceID(l.ctx, sc.TraceID().String())
	}
	return l.ctx, l.end
}

// describe says of a span what is not the same for all of its kind.
func describe(span trace.Span, c observe.Call) {
	if id := requestID(c.ID); id != "" {
		span.SetAttributes(requestKey.String(id))
	}
	if c.Session != "" {
		span.SetAttributes(sessionKey.String(c.Session))
	}
	if c.Takeover > 0 {
		span.SetAttributes(takeoverKey.Bool(true), claimKey.Int(c.Takeover))
	}
	if c.Round > 0 {
		span.SetAttributes(taskKey.String(c.Task), roundKey.Int(c.Round))
	}
}

// Ask implements [observe.Observer]. The client is given the span to continue.
func (o *Observer) Ask(ctx context.Context, a observe.Ask) (observe.Trace, func(observe.End)) {
	l := &life{o: o, p: o.kinds.of(kind{method: a.Method, revision: a.Revision, ask: true}), begun: time.Now()}
	l.ctx, l.span = o.tracer.Start(ctx, l.p.name, l.p.start...)
	if l.span.IsRecording() {
		describe(l.span, observe.Call{ID: a.ID, Session: a.Session})
	}
	return traceOf(l.ctx), l.end
}

// life is that of a call, or of a request to a client.
type life struct {
	o     *Observer
	p     *prepared
	ctx   context.Context //nolint:containedctx // what is measured at its end is measured within the span
	span  trace.Span
	begun time.Time
	level *atomic.Int64 // nil for a request to a client
}

func (l *life) end(e observe.End) {
	if l.level != nil {
		l.level.Add(-1)
	}
	l.o.meters.ended(l.ctx, l.p, time.Since(l.begun), e)
	if t := errorType(e); t != "" && l.span.IsRecording() {
		l.span.SetAttributes(errorKey.String(t))
		if e.Code != 0 {
			l.span.SetAttributes(statusKey.String(t))
		}
		l.span.SetStatus(codes.Error, message(e))
	}
	l.span.End()
}

// longestID is how much of a request ID a span shows. Clients choose it.
const longestID = 128

// requestID is the ID as text: numbers as they stand, strings without their quotes.
func requestID(raw string) string {
	var text string
	if !strings.HasPrefix(raw, `"`) {
		text = raw
	} else if json.Unmarshal([]byte(raw), &text) != nil {
		return ""
	}
	if text == "null" && raw == text {
		return ""
	}
	if len(text) > longestID {
		text = text[:longestID]
		for !utf8.ValidString(text) {
			text = text[:len(text)-1]
		}
	}
	return text
}
