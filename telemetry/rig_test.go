package telemetry_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/sluice-mcp/sluice"
	"github.com/sluice-mcp/sluice/observe"
	"github.com/sluice-mcp/sluice/telemetry"
)

var revisions = []string{"2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28"}

// canary stands in what must never leave the process.
const canary = "canary-7f3a"

// A rig is an endpoint that OpenTelemetry's SDK observes.
type rig struct {
	url    string
	spans  *tracetest.InMemoryExporter
	reader *sdkmetric.ManualReader
	tracer trace.Tracer // of the server's own code, and of clients
	tp     *sdktrace.TracerProvider
}

func newRig(t *testing.T, opts telemetry.Options, around func(http.Handler) http.Handler) *rig {
	t.Helper()
	r := &rig{spans: tracetest.NewInMemoryExporter(), reader: sdkmetric.NewManualReader()}
	r.tp = sdktrace.NewTracerProvider(sdktrace.WithSyncer(r.spans))
	r.tracer = r.tp.Tracer("test")
	opts.TracerProvider, opts.MeterProvider = r.tp, sdkmetric.NewMeterProvider(sdkmetric.WithReader(r.reader))
	o, err := telemetry.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	server := newServer(t, r.tracer)
	h := sluice.NewHandler(func(*http.Request) *mcp.Server { return server }, &sluice.Options{Observer: o})
	var handler http.Handler = h
	if around != nil {
		handler = around(h)
	}
	web := httptest.NewServer(handler)
	t.Cleanup(web.Close)
	t.Cleanup(func() { _ = h.Close() })
	r.url = web.URL
	return r
}

type empty struct{}

func newServer(t *testing.T, tracer trace.Tracer) *mcp.Server {
	s := mcp.NewServer(&mcp.Implementation{Name: "s", Version: "1"}, nil)
	text := func(s string) *mcp.CallToolResult {
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: s}}}
	}
	sluice.AddTool(s, &mcp.Tool{Name: "work"}, func(ctx context.Context, _ *mcp.CallToolRequest, _ map[string]any) (*mcp.CallToolResult, any, error) {
		ctx, span := tracer.Start(ctx, "inner")
		defer span.End()
		if id := observe.TraceID(ctx); id != span.SpanContext().TraceID().String() {
			t.Errorf("the tool's context names the trace %q", id)
		}
		return text(canary), nil, nil
	})
	sluice.AddTool(s, &mcp.Tool{Name: "fails"}, func(context.Context, *mcp.CallToolRequest, map[string]any) (*mcp.CallToolResult, any, error) {
		r := text(canary)
		r.IsError = true
		return r, nil, nil
	})
	sluice.AddTool(s, &mcp.Tool{Name: "waits"}, func(ctx context.Context, _ *mcp.CallToolRequest, _ empty) (*mcp.CallToolResult, any, error) {
		<-ctx.Done()
		return nil, nil, ctx.Err()
	})
	sluice.AddTool(s, &mcp.Tool{Name: "asks"}, func(ctx context.Context, req *mcp.CallToolRequest, _ empty) (*mcp.CallToolResult, any, error) {
		_, err := req.Session.Elicit(ctx, &mcp.ElicitParams{Message: canary, RequestedSchema: map[string]any{"type": "object", "properties": map[string]any{}}})
		return text("asked"), nil, err
	})
	s.AddPrompt(&mcp.Prompt{Name: "greet"}, func(context.Context, *mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
		return &mcp.GetPromptResult{Messages: []*mcp.PromptMessage{}}, nil
	})
	return s
}

// connect returns a session of the SDK's client that puts the trace of its callers into _meta.
func (r *rig) connect(t *testing.T, revision string, opts *mcp.ClientOptions) *mcp.ClientSession {
	t.Helper()
	client := mcp.NewClient(&mcp.Implementation{Name: "c", Version: "1"}, opts)
	w3c := propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{})
	client.AddSendingMiddleware(func(next mcp.MethodHandler) mcp.MethodHandler {
		return func(ctx context.Context, method string, req mcp.Request) (mcp.Result, error) {
			carrier := propagation.MapCarrier{}
			w3c.Inject(ctx, carrier)
			if params, ok := req.GetParams().(mcp.RequestParams); ok && len(carrier) > 0 {
				meta := params.GetMeta()
				if meta == nil {
					meta = map[string]any{}
				}
				for key, value := range carrier {
					meta[key] = value
				}
				params.SetMeta(meta)
			}
			return next(ctx, method, req)
		}
	})
	session, err := client.Connect(t.Context(), &mcp.StreamableClientTransport{Endpoint: r.url, DisableStandaloneSSE: true}, &mcp.ClientSessionOptions{ProtocolVersion: revision})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = session.Close() })
	return session
}

// span waits for the span of a name that belongs to a trace.
func (r *rig) span(t *testing.T, name string, in trace.TraceID) tracetest.SpanStub {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		var names []string
		for _, s := range r.spans.GetSpans() {
			if s.Name == name && (!in.IsValid() || s.SpanContext.TraceID() == in) {
				return s
			}
			names = append(names, s.Name)
		}
		if time.Now().After(deadline) {
			t.Fatalf("no span %q, but %q", name, names)
		}
	}
}

// attributes are those of a span or a series, as text.
func attributes(all []attribute.KeyValue) map[string]string {
	m := make(map[string]string)
	for _, a := range all {
		m[string(a.Key)] = a.Value.String()
	}
	return m
}

// collect returns all series, by the name of their instrument.
func (r *rig) collect(t *testing.T) map[string][]series {
	t.Helper()
	var rm metricdata.ResourceMetrics
	if err := r.reader.Collect(t.Context(), &rm); err != nil {
		t.Fatal(err)
	}
	all := make(map[string][]series)
	for _, sm := range rm.ScopeMetrics {
		for _, m := range sm.Metrics {
			all[m.Name] = seriesOf(m)
		}
	}
	return all
}

// series is one of a metric: the value of a counter or gauge, or how often a histogram was recorded to.
type series struct {
	attrs  map[string]string
	value  int64
	bounds []float64
}

func seriesOf(m metricdata.Metrics) (all []series) {
	switch data := m.Data.(type) {
	case metricdata.Sum[int64]:
		for _, p := range data.DataPoints {
			all = append(all, series{attributes(p.Attributes.ToSlice()), p.Value, nil})
		}
	case metricdata.Gauge[int64]:
		for _, p := range data.DataPoints {
			all = append(all, series{attributes(p.Attributes.ToSlice()), p.Value, nil})
		}
	case metricdata.Histogram[float64]:
		for _, p := range data.DataPoints {
			all = append(all, series{attributes(p.Attributes.ToSlice()), int64(p.Count), p.Bounds})
		}
	}
	return all
}

// total adds up the series of a metric that have the attributes, given as "key=value".
func total(all []series, with ...string) (n int64) {
next:
	for _, s := range all {
		for _, pair := range with {
			key, value, _ := strings.Cut(pair, "=")
			if s.attrs[key] != value {
				continue next
			}
		}
		n += s.value
	}
	return n
}
