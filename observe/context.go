package observe

import "context"

type (
	requestKey struct{}
	traceKey   struct{}
)

// WithRequestID returns a context that belongs to an HTTP request with the given ID.
func WithRequestID(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, requestKey{}, id)
}

// RequestID returns the ID of the HTTP request that ctx belongs to, or "".
func RequestID(ctx context.Context) string {
	id, _ := ctx.Value(requestKey{}).(string)
	return id
}

// WithTraceID returns a context that belongs to a trace, for log lines to name. An [Observer] that traces puts it into the context of
// each call.
func WithTraceID(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, traceKey{}, id)
}

// TraceID returns the ID of the trace that ctx belongs to, in hexadecimal, or "".
func TraceID(ctx context.Context) string {
	id, _ := ctx.Value(traceKey{}).(string)
	return id
}
