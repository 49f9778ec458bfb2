// Package telemetry tells OpenTelemetry what an endpoint does: a span for each request by the semantic conventions for MCP, within the
// trace that its client names in _meta (SEP-414), and metrics, the conventions' and those of what only sluice has: replicas, streams,
// takeovers.
//
//	o, err := telemetry.New(telemetry.Options{})
//	...
//	handler := sluice.NewHandler(getServer, &sluice.Options{Observer: o})
//
// It uses the API of OpenTelemetry alone, which does nothing by itself. What is done with it, a program says that sets up the SDK; the
// module telemetry/export does that for programs of package serve.
//
// No span and no metric has arguments, results or tokens, and no metric names a session, a caller or an address. What a client may
// name as it likes is "_other" there.
package telemetry

import (
	"context"
	"fmt"
	"runtime/debug"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/sluice-mcp/sluice/observe"
)

const scope = "github.com/sluice-mcp/sluice/telemetry"

// Options configures an [Observer]. The zero value is ready for use.
type Options struct {
	// TracerProvider and MeterProvider are who is told. Nil takes the global ones of package otel.
	TracerProvider trace.TracerProvider
	MeterProvider  metric.MeterProvider

	// Restart tells of which calls the trace is not to be continued: they begin a trace of their own, which links to the caller's, and
	// their baggage is dropped. Whoever may continue a trace decides what is sampled and what the trace is called; an endpoint that
	// strangers may call can refuse them that, as by Principal == "". Nil continues all.
	Restart func(observe.Call) bool
}

// An Observer is an [observe.Observer] that traces and measures. One may observe several endpoints; it is safe for concurrent use.
type Observer struct {
	tracer  trace.Tracer
	meters  *meters
	restart func(observe.Call) bool
	kinds   kinds
}

var _ observe.Observer = (*Observer)(nil)

// New returns an observer. It fails if the meter provider does not take its instruments.
func New(opts Options) (*Observer, error) {
	if opts.TracerProvider == nil {
		opts.TracerProvider = otel.GetTracerProvider()
	}
	if opts.MeterProvider == nil {
		opts.MeterProvider = otel.GetMeterProvider()
	}
	if opts.Restart == nil {
		opts.Restart = func(observe.Call) bool { return false }
	}
	version := version()
	o := &Observer{
		tracer:  opts.TracerProvider.Tracer(scope, trace.WithInstrumentationVersion(version)),
		restart: opts.Restart,
	}
	var err error
	o.meters, err = newMeters(opts.MeterProvider.Meter(scope, metric.WithInstrumentationVersion(version)), version, &o.kinds)
	if err != nil {
		return nil, fmt.Errorf("making instruments: %w", err)
	}
	return o, nil
}

// version is that of sluice in this program.
func version() string {
	const module = "github.com/sluice-mcp/sluice"
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if info.Main.Path == module && info.Main.Version != "" {
		return info.Main.Version
	}
	for _, dep := range info.Deps {
		if dep.Path == module {
			return dep.Version
		}
	}
	return "unknown"
}

// Event implements [observe.Observer].
func (o *Observer) Event(ctx context.Context, e observe.Event) {
	o.meters.event(ctx, e)
	o.trace(ctx, e)
}
