// Package export sends what an endpoint does to where OpenTelemetry's variables say, and shows it to Prometheus. It sets the SDK up for
// [telemetry.Observer], and takes one line of a program:
//
//	serve.Main(server, serve.WithTelemetry(export.New(export.Options{})))
//
// Traces and metrics go out over OTLP (HTTP, protobuf) where OTEL_EXPORTER_OTLP_ENDPOINT or OTEL_TRACES_EXPORTER and OTEL_METRICS_EXPORTER
// ask for it, as the specification of OpenTelemetry says; without such a variable nothing is sent anywhere. Metrics can be read at
// /metrics where serve's --metrics-addr says. The SDK reads the variables for the sampler, the batches, the resource and so on. With
// OTEL_SDK_DISABLED=true nothing is exported.
//
// It is a module of its own because exporters weigh much: gRPC and protobuf among others.
package export

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	otelprometheus "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/propagation"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/sluice-mcp/sluice/observe"
	"github.com/sluice-mcp/sluice/telemetry"
)

// Options configures a [Telemetry]. The zero value is ready for use.
type Options struct {
	// Restart is as in [telemetry.Options].
	Restart func(observe.Call) bool
}

// Telemetry exports what one process does. It is a serve.Telemetry; a program without package serve calls its methods itself: Start
// before it serves, Shutdown after that.
type Telemetry struct {
	opts     Options
	observer *telemetry.Observer // nil before Start, and if nobody has asked for anything
	metrics  http.Handler        // nil if nobody reads them
	shutdown []func(context.Context) error
}

// New returns a Telemetry that exports nothing before Start.
func New(opts Options) *Telemetry { return &Telemetry{opts: opts} }

// Call implements [observe.Observer].
func (t *Telemetry) Call(ctx context.Context, c observe.Call) (context.Context, func(observe.End)) {
	if t.observer == nil {
		return ctx, nil
	}
	return t.observer.Call(ctx, c)
}

// Ask implements [observe.Observer].
func (t *Telemetry) Ask(ctx context.Context, a observe.Ask) (observe.Trace, func(observe.End)) {
	if t.observer == nil {
		return observe.Trace{}, nil
	}
	return t.observer.Ask(ctx, a)
}

// Event implements [observe.Observer].
func (t *Telemetry) Event(ctx context.Context, e observe.Event) {
	if t.observer != nil {
		t.observer.Event(ctx, e)
	}
}

// Start begins to export what the environment asks for, and, if scraped says that ServeHTTP is going to be asked, what that answers with.
// What is wrong with the environment is logged, and keeps nobody from serving. It is called once, before anything is told.
//
// The providers become the global ones of package otel, so that what a tool does with them is exported, too, in the trace of its call.
func (t *Telemetry) Start(log *slog.Logger, scraped bool) error {
	ctx := context.Background()
	traces, metrics := asked(log, "TRACES"), asked(log, "METRICS")
	if disabled := strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true"); disabled || !traces && !metrics && !scraped {
		return nil
	}
	about, err := about(ctx)
	if err != nil {
		log.Warn("what OTEL_RESOURCE_ATTRIBUTES says cannot be read", "error", err)
	}
	said := telemetry.Options{Restart: t.opts.Restart}

	if traces {
		exporter, err := otlptracehttp.New(ctx)
		if err != nil {
			return fmt.Errorf("exporting traces: %w", err)
		}
		provider := sdktrace.NewTracerProvider(sdktrace.WithResource(about), sdktrace.WithBatcher(spans{exporter, &reporter{log: log, signal: "traces"}}))
		t.shutdown = append(t.shutdown, provider.Shutdown)
		otel.SetTracerProvider(provider)
		otel.SetTextMapPropagator(propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{}))
		said.TracerProvider = provider
	}

	if metrics || scraped {
		readers := []sdkmetric.Option{sdkmetric.WithResource(about)}
		if metrics {
			exporter, err := otlpmetrichttp.New(ctx)
			if err != nil {
				return errors.Join(fmt.Errorf("exporting metrics: %w", err), t.Shutdown(ctx))
			}
			readers = append(readers, sdkmetric.WithReader(sdkmetric.NewPeriodicReader(points{exporter, &reporter{log: log, signal: "metrics"}})))
		}
		if scraped {
			reader, err := t.show()
			if err != nil {
				return errors.Join(fmt.Errorf("showing metrics: %w", err), t.Shutdown(ctx))
			}
			readers = append(readers, sdkmetric.WithReader(reader))
		}
		provider := sdkmetric.NewMeterProvider(readers...)
		t.shutdown = append(t.shutdown, provider.Shutdown)
		otel.SetMeterProvider(provider)
		said.MeterProvider = provider
	}
	if t.observer, err = telemetry.New(said); err != nil {
		return errors.Join(err, t.Shutdown(ctx))
	}
	log.Info("exporting telemetry", "traces", traces, "metrics", metrics)
	return nil
}

// show has the metrics read by Prometheus, beside those of the process.
func (t *Telemetry) show() (sdkmetric.Reader, error) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	t.metrics = promhttp.HandlerFor(registry, promhttp.HandlerOpts{EnableOpenMetrics: true}) // exemplars exist only there
	return otelprometheus.New(otelprometheus.WithRegisterer(registry), otelprometheus.WithoutScopeInfo())
}

// ServeHTTP answers with the metrics, as text for Prometheus or as OpenMetrics.
func (t *Telemetry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if t.metrics == nil {
		http.Error(w, "telemetry is disabled", http.StatusNotFound)
		return
	}
	t.metrics.ServeHTTP(w, r)
}

// Shutdown exports what has not been exported yet, for as long as ctx lasts.
func (t *Telemetry) Shutdown(ctx context.Context) error {
	errs := make(chan error, len(t.shutdown))
	for _, shutdown := range t.shutdown { // at the same time: neither waits for the other's collector
		go func() { errs <- shutdown(ctx) }()
	}
	var all []error
	for range t.shutdown {
		all = append(all, <-errs)
	}
	t.shutdown = nil
	return errors.Join(all...)
}

// asked says whether the environment asks for a signal to be sent over OTLP.
//
// https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
func asked(log *slog.Logger, signal string) bool {
	var exporters []string
	for name := range strings.SplitSeq(os.Getenv("OTEL_"+signal+"_EXPORTER"), ",") {
		if name = strings.TrimSpace(name); name != "" {
			exporters = append(exporters, name)
		}
	}
	// The specification's default is OTLP to this machine. Who has set nothing would find failures in his log.
	if len(exporters) == 0 && (os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || os.Getenv("OTEL_EXPORTER_OTLP_"+signal+"_ENDPOINT") != "") {
		exporters = []string{"otlp"}
	}
	for _, name := range exporters {
		if name != "otlp" && name != "none" {
			log.Warn("no such exporter is linked", "exporter", name, "linked", "otlp, none")
		}
	}
	if !slices.Contains(exporters, "otlp") {
		return false
	}
	protocol := os.Getenv("OTEL_EXPORTER_OTLP_" + signal + "_PROTOCOL")
	if protocol == "" {
		protocol = os.Getenv("OTEL_EXPORTER_OTLP_PROTOCOL")
	}
	if protocol != "" && protocol != "http/protobuf" {
		log.Warn("OTLP is sent as http/protobuf only", "protocol", protocol)
		return false
	}
	return true
}
