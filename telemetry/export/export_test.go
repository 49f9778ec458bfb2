package export_test

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"io"
	"maps"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// soon has the SDK send what it has at once.
var soon = []string{"OTEL_BSP_SCHEDULE_DELAY=20", "OTEL_METRIC_EXPORT_INTERVAL=50"}

func to(r *receiver) []string { return append(slices.Clip(soon), "OTEL_EXPORTER_OTLP_ENDPOINT="+r.URL) }

// parent returns a trace context, sampled, and its parts.
func parent(t *testing.T) (traceparent, trace, span string) {
	t.Helper()
	b := make([]byte, 24)
	_, _ = rand.Read(b)
	trace, span = hex.EncodeToString(b[:16]), hex.EncodeToString(b[16:])
	return "00-" + trace + "-" + span + "-01", trace, span
}

// One collector sees the whole tree, of both eras: the client's span, the call's, what its tool does, and the store.
func TestTree(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	redis := miniredis.RunT(t)
	p := start(t, append(to(r), "MCP_STORE_URL=redis://"+redis.Addr(), "OTEL_SERVICE_NAME=tree")...)
	session := p.open(t)
	for _, tt := range []struct{ name, session, tool string }{{"sessions", session, "slow"}, {"2026-07-28", "", "task"}} {
		traceparent, trace, client := parent(t)
		p.call(t, tt.session, tt.tool, traceparent)
		call := r.named(t, "tools/call "+tt.tool, trace)
		if call.parent != client || call.service != "tree" || call.instance == "" {
			t.Errorf("%s: %+v", tt.name, call)
		}
		within := call.id
		if tt.tool == "task" {
			round := r.named(t, "task task", trace)
			if round.parent != call.id {
				t.Errorf("%s: the round's parent is no call: %+v", tt.name, round)
			}
			within = round.id
		}
		if inner := r.named(t, "inner", trace); inner.parent != within {
			t.Errorf("%s: %+v", tt.name, inner)
		}
		r.find(t, "round trip to the store", trace, func(s span) bool {
			return strings.HasPrefix(s.name, "store ") && (s.parent == within || s.parent == call.id)
		})
	}
	r.checkSecrets(t)
}

// The SDK's client continues its trace here.
func TestClient(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	p := start(t, to(r)...)
	exporter, err := otlptracehttp.New(t.Context(), otlptracehttp.WithEndpointURL(r.URL+"/v1/traces"))
	if err != nil {
		t.Fatal(err)
	}
	tp := sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter))
	for _, revision := range []string{"2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28"} {
		client := mcp.NewClient(&mcp.Implementation{Name: "c", Version: "1"}, nil)
		client.AddSendingMiddleware(func(next mcp.MethodHandler) mcp.MethodHandler {
			return func(ctx context.Context, method string, req mcp.Request) (mcp.Result, error) {
				if params, ok := req.GetParams().(mcp.RequestParams); ok {
					carrier := propagation.MapCarrier{}
					propagation.TraceContext{}.Inject(ctx, carrier)
					meta := maps.Clone(params.GetMeta())
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
		session, err := client.Connect(t.Context(), &mcp.StreamableClientTransport{Endpoint: p.url, DisableStandaloneSSE: true}, &mcp.ClientSessionOptions{ProtocolVersion: revision})
		if err != nil {
			t.Fatal(err)
		}
		ctx, outer := tp.Tracer("client").Start(t.Context(), "agent "+revision)
		if _, err := session.CallTool(ctx, &mcp.CallToolParams{Name: "fast", Arguments: map[string]any{"secret": canary}}); err != nil {
			t.Fatal(err)
		}
		outer.End()
		_ = session.Close()
		trace := outer.SpanContext().TraceID().String()
		agent, call, inner := r.named(t, "agent "+revision, trace), r.named(t, "tools/call fast", trace), r.named(t, "inner", trace)
		if call.parent != agent.id || inner.parent != call.id || call.attrs["mcp.protocol.version"] != revision {
			t.Errorf("%+v, %+v, %+v", agent, call, inner)
		}
	}
}

// A call whose replica is killed goes on in its trace.
func TestTakeover(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	redis := miniredis.RunT(t)
	env := append(to(r), "MCP_STORE_URL=redis://"+redis.Addr(), "MCP_METRICS_ADDR=:0")
	a, b := start(t, env...), start(t, env...)
	session := a.open(t)
	traceparent, trace, client := parent(t)
	last := events(t, a.post(t, callOf(session, "slow", traceparent)).Body, 2) //nolint:bodyclose // post does
	a.kill()
	if said := b.follow(t, session, last); !strings.Contains(said, canary) {
		t.Fatal(said)
	}
	call := r.find(t, "second life", trace, func(s span) bool { return s.attrs["sluice.takeover"] == "true" })
	if call.parent != client || call.name != "tools/call slow" || call.attrs["sluice.claim"] != "1" {
		t.Errorf("%+v", call)
	}
	r.find(t, "what the tool does in its second life", trace, func(s span) bool { return s.name == "inner" && s.parent == call.id })
	text := scrape(t, b, "")
	for _, want := range []string{`sluice_takeovers_total{kind="stream",result="won"} 1`, "sluice_calls_repeated_total 1", "sluice_sessions_adopted_total"} {
		if !strings.Contains(text, want) {
			t.Errorf("the metrics lack %s", want)
		}
	}
	r.checkSecrets(t)
}

func scrape(t *testing.T, p *process, accept string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.metrics, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", accept)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%d %v: %s", resp.StatusCode, err, body)
	}
	return string(body)
}

// Metrics are read at an address of their own, which is this machine's only unless another one is named.
func TestMetrics(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	p := start(t, append(to(r), "MCP_METRICS_ADDR=:0", "MCP_STORE_URL=redis://"+miniredis.RunT(t).Addr())...)
	if !strings.HasPrefix(p.metrics, "http://127.0.0.1:") {
		t.Errorf("metrics at %s", p.metrics)
	}
	traceparent, trace, _ := parent(t)
	p.call(t, "", "fast", traceparent)
	r.named(t, "tools/call fast", trace)
	text := scrape(t, p, "")
	for _, want := range []string{
		`mcp_server_operation_duration_seconds_bucket{gen_ai_operation_name="execute_tool",gen_ai_tool_name="fast",mcp_method_name="tools/call",`,
		`le="0.01"`, "sluice_calls_in_flight", "sluice_store_up 1", "sluice_build_info{", "go_goroutines ", "process_resident_memory_bytes ", "target_info{",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the metrics lack %s", want)
		}
	}
	if strings.Contains(text, "otel_scope") || strings.Contains(text, canary) {
		t.Error("the metrics say too much")
	}
	if open := scrape(t, p, "application/openmetrics-text"); !regexp.MustCompile(`# \{[^}]*trace_id="` + trace).MatchString(open) {
		t.Error("no exemplar names the trace")
	}
	resp, err := http.Get(strings.TrimSuffix(p.url, "/mcp") + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusNotFound {
		t.Errorf("who may call may read the metrics: %d", resp.StatusCode)
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		r.mu.Lock()
		there := r.metrics["mcp.server.operation.duration"]
		r.mu.Unlock()
		if there {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("no metrics over OTLP")
		}
	}
	r.checkSecrets(t)
}

// Nothing is sent unless something asks for it.
func TestAsked(t *testing.T) {
	t.Parallel()
	const here = "OTEL_EXPORTER_OTLP_ENDPOINT=URL"
	for _, tt := range []struct {
		name            string
		env             []string // URL is the receiver's
		traces, metrics bool
		warns           string
	}{
		{"nothing", nil, false, false, ""},
		{"endpoint", []string{here}, true, true, ""},
		{"disabled", []string{here, "OTEL_SDK_DISABLED=true", "MCP_METRICS_ADDR=:0"}, false, false, ""},
		{"traces only", []string{here, "OTEL_METRICS_EXPORTER=none"}, true, false, ""},
		{"metrics only", []string{"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=URL/v1/metrics"}, false, true, ""},
		{"gRPC", []string{here, "OTEL_EXPORTER_OTLP_PROTOCOL=grpc"}, false, false, "OTLP is sent as http/protobuf only"},
		{"console", []string{here, "OTEL_TRACES_EXPORTER=console"}, false, true, "no such exporter is linked"},
		{"never sampled", []string{here, "OTEL_TRACES_SAMPLER=always_off"}, false, true, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newReceiver(t)
			env := slices.Clone(soon)
			for _, variable := range tt.env {
				env = append(env, strings.Replace(variable, "URL", r.URL, 1))
			}
			p := start(t, env...)
			p.call(t, "", "fast", "")
			p.stop(t)
			r.mu.Lock()
			defer r.mu.Unlock()
			if (len(r.spans) > 0) != tt.traces || (len(r.metrics) > 0) != tt.metrics {
				t.Errorf("%d spans, %d metrics", len(r.spans), len(r.metrics))
			}
			if tt.warns != "" && len(p.said(tt.warns)) == 0 {
				t.Errorf("the log does not say %q: %s", tt.warns, p.log())
			}
		})
	}
}

// A collector that is away, or that hangs, slows nobody down, is told of once, and does not hold up the end.
func TestNoCollector(t *testing.T) {
	t.Parallel()
	hangs, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = hangs.Close() }) // it accepts nothing
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = closed.Close()
	for name, address := range map[string]string{"away": closed.Addr().String(), "hangs": hangs.Addr().String()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := start(t, append(slices.Clip(soon), "OTEL_EXPORTER_OTLP_ENDPOINT=http://"+address, "OTEL_EXPORTER_OTLP_TIMEOUT=100", "OTEL_BSP_EXPORT_TIMEOUT=200", "OTEL_METRICS_EXPORTER=none", "OTEL_BSP_MAX_QUEUE_SIZE=16")...)
			var took []time.Duration
			for range 300 {
				begun := time.Now()
				p.call(t, "", "fast", "")
				took = append(took, time.Since(begun))
			}
			slices.Sort(took)
			if median := took[len(took)/2]; median > 90*time.Millisecond { // what waits for the exporter takes 100
				t.Errorf("a call takes %v", median)
			}
			for deadline := time.Now().Add(20 * time.Second); len(p.said("telemetry cannot be exported")) == 0 && time.Now().Before(deadline); {
				time.Sleep(10 * time.Millisecond)
			}
			time.Sleep(500 * time.Millisecond) // for what would be said again
			if took := p.stop(t); took > 6*time.Second {
				t.Errorf("the end took %v", took)
			}
			if n := len(p.said("telemetry cannot be exported")); n != 1 {
				t.Errorf("the log says it %d times: %s", n, p.log())
			}
			for _, line := range p.logs {
				if line["level"] == nil {
					t.Errorf("somebody else prints %v", line)
				}
			}
		})
	}
}

// What was not exported by then is at the end.
func TestFlush(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	p := start(t, "OTEL_EXPORTER_OTLP_ENDPOINT="+r.URL, "OTEL_BSP_SCHEDULE_DELAY=600000", "OTEL_METRIC_EXPORT_INTERVAL=600000")
	traceparent, trace, _ := parent(t)
	p.call(t, "", "fast", traceparent)
	p.stop(t)
	r.named(t, "tools/call fast", trace)
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.metrics["mcp.server.operation.duration"] {
		t.Error("no metrics")
	}
}

// A program that has been told of metrics and cannot show them says so.
func TestMetricsAddress(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"9464", "127.0.0.1:http:1", "127.0.0.1:http", "192.0.2.1:1"} {
		p := start(t, "MCP_METRICS_ADDR="+address)
		p.kill()
		if p.url != "" || !strings.Contains(p.log(), "MCP_METRICS_ADDR") {
			t.Errorf("%s: %s", address, p.log())
		}
	}
}
