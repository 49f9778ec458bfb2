package export

import (
	"context"
	"log/slog"
	"sync"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// A reporter logs when a signal cannot be exported any more, and when it can be again: once each, not with every batch.
type reporter struct {
	log    *slog.Logger
	signal string

	mu      sync.Mutex
	failing bool
}

func (r *reporter) report(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if failing := err != nil; failing == r.failing {
		return
	} else if r.failing = failing; failing {
		r.log.Warn("telemetry cannot be exported", "signal", r.signal, "error", err)
	} else {
		r.log.Info("telemetry is exported again", "signal", r.signal)
	}
}

// spans and points are exporters that report instead of returning errors, which the SDK would print each time.
type spans struct {
	sdktrace.SpanExporter
	to *reporter
}

// ExportSpans implements [sdktrace.SpanExporter].
func (s spans) ExportSpans(ctx context.Context, all []sdktrace.ReadOnlySpan) error {
	s.to.report(s.SpanExporter.ExportSpans(ctx, all))
	return nil
}

type points struct {
	sdkmetric.Exporter
	to *reporter
}

// Export implements [sdkmetric.Exporter].
func (p points) Export(ctx context.Context, all *metricdata.ResourceMetrics) error {
	p.to.report(p.Exporter.Export(ctx, all))
	return nil
}
