package telemetry_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"go.opentelemetry.io/otel/baggage"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/sluice-mcp/sluice/observe"
	"github.com/sluice-mcp/sluice/telemetry"
)

// A call continues the trace that its client names, in every revision, and what its tool does continues the call's.
func TestTree(t *testing.T) {
	t.Parallel()
	for _, revision := range revisions {
		t.Run(revision, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, telemetry.Options{}, nil)
			session := r.connect(t, revision, nil)
			ctx, client := r.tracer.Start(t.Context(), "client")
			if _, err := session.CallTool(ctx, &mcp.CallToolParams{Name: "work", Arguments: map[string]any{"secret": canary}}); err != nil {
				t.Fatal(err)
			}
			client.End()
			in := client.SpanContext().TraceID()
			call, inner := r.span(t, "tools/call work", in), r.span(t, "inner", in)
			if call.Parent.SpanID() != client.SpanContext().SpanID() || !call.Parent.IsRemote() {
				t.Errorf("the call's parent is %v", call.Parent.SpanID())
			}
			if inner.Parent.SpanID() != call.SpanContext.SpanID() {
				t.Errorf("the parent of what the tool does is %v", inner.Parent.SpanID())
			}
			if call.SpanKind != trace.SpanKindServer || call.Status.Code != codes.Unset || len(call.Links) != 0 {
				t.Errorf("kind %v, status %v, links %v", call.SpanKind, call.Status, call.Links)
			}
			got := attributes(call.Attributes)
			for _, key := range []string{"jsonrpc.request.id", "mcp.session.id"} {
				if revision == "2026-07-28" && key == "mcp.session.id" {
					continue
				}
				if got[key] == "" || got[key] == session.ID() {
					t.Errorf("%s is %q", key, got[key])
				}
				delete(got, key)
			}
			want := map[string]string{
				"mcp.method.name": "tools/call", "gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "work", "mcp.protocol.version": revision,
				"network.transport": "tcp", "network.protocol.name": "http",
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("attributes (-want +got):\n%s", diff)
			}
		})
	}
}

// What fails says how, in words that are not the handler's.
func TestErrors(t *testing.T) {
	t.Parallel()
	r := newRig(t, telemetry.Options{}, nil)
	session := r.connect(t, "2025-11-25", nil)
	for name, call := range map[string]func(context.Context){
		"tools/call fails tool_error ": func(ctx context.Context) {
			_, _ = session.CallTool(ctx, &mcp.CallToolParams{Name: "fails"})
		},
		"tools/call _other -32602 -32602": func(ctx context.Context) {
			_, _ = session.CallTool(ctx, &mcp.CallToolParams{Name: canary})
		},
		"prompts/get _other -32602 -32602": func(ctx context.Context) {
			_, _ = session.GetPrompt(ctx, &mcp.GetPromptParams{Name: canary})
		},
		"resources/read -32002 -32002": func(ctx context.Context) {
			_, _ = session.ReadResource(ctx, &mcp.ReadResourceParams{URI: "x:" + canary})
		},
		"tools/call waits cancelled ": func(ctx context.Context) {
			ctx, cancel := context.WithCancel(ctx)
			go func() {
				for total(r.collect(t)["sluice.calls.in_flight"], "era=sessions") == 0 {
				}
				cancel()
			}()
			_, _ = session.CallTool(ctx, &mcp.CallToolParams{Name: "waits"})
		},
	} {
		ctx, client := r.tracer.Start(t.Context(), "client")
		call(ctx)
		client.End()
		words := strings.Split(name, " ")
		status, kind := words[len(words)-1], words[len(words)-2]
		s := r.span(t, strings.Join(words[:len(words)-2], " "), client.SpanContext().TraceID())
		got := attributes(s.Attributes)
		if got["error.type"] != kind || got["rpc.response.status_code"] != status || s.Status.Code != codes.Error || s.Status.Description == "" {
			t.Errorf("%s: %v, status %+v", name, got, s.Status)
		}
	}
	if said := fmt.Sprintf("%+v", r.spans.GetSpans()); strings.Contains(said, canary) {
		t.Error("spans repeat what a client or a tool has said")
	}
	all := r.collect(t)
	for _, kind := range []string{"tool_error", "-32602", "-32002", "cancelled"} {
		if total(all["mcp.server.operation.duration"], "error.type="+kind) == 0 {
			t.Errorf("nothing is measured as %s", kind)
		}
	}
	if said := fmt.Sprint(all); strings.Contains(said, canary) {
		t.Error("metrics repeat what a client or a tool has said")
	}
	if n := total(all["sluice.calls.in_flight"]); n != 0 {
		t.Errorf("%d calls in flight", n)
	}
}

// aroundHTTP is what instruments HTTP requests.
func aroundHTTP(r **rig) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			ctx, span := (*r).tracer.Start(req.Context(), "http")
			defer span.End()
			next.ServeHTTP(w, req.WithContext(ctx))
		})
	}
}

// The span of the HTTP request is a link if the client names a parent, else the parent.
func TestHTTPSpan(t *testing.T) {
	t.Parallel()
	for _, revision := range revisions {
		var r *rig
		r = newRig(t, telemetry.Options{}, aroundHTTP(&r))
		session := r.connect(t, revision, nil)
		ctx, client := r.tracer.Start(t.Context(), "client")
		_, _ = session.CallTool(ctx, &mcp.CallToolParams{Name: "work"})
		call := r.span(t, "tools/call work", client.SpanContext().TraceID())
		if len(call.Links) != 1 {
			t.Fatalf("%s: links %v", revision, call.Links)
		}
		if web := r.span(t, "http", call.Links[0].SpanContext.TraceID()); web.SpanContext.SpanID() != call.Links[0].SpanContext.SpanID() {
			t.Errorf("%s: the link is not to the HTTP request", revision)
		}
		r.spans.Reset()
		_, _ = session.CallTool(t.Context(), &mcp.CallToolParams{Name: "work"})
		call = r.span(t, "tools/call work", trace.TraceID{})
		web := r.span(t, "http", call.SpanContext.TraceID())
		if len(call.Links) != 0 || call.Parent.SpanID() != web.SpanContext.SpanID() {
			t.Errorf("%s: without a context in _meta, parent %v, links %v", revision, call.Parent.SpanID(), call.Links)
		}
	}
}

// Who may not continue a trace is linked to, and his baggage is dropped.
func TestRestart(t *testing.T) {
	t.Parallel()
	for _, restart := range []bool{false, true} {
		r := newRig(t, telemetry.Options{Restart: func(c observe.Call) bool { return restart && c.Principal == "" }}, nil)
		session := r.connect(t, "2026-07-28", nil)
		member, err := baggage.NewMember("tenant", "7")
		if err != nil {
			t.Fatal(err)
		}
		b, err := baggage.New(member)
		if err != nil {
			t.Fatal(err)
		}
		ctx, client := r.tracer.Start(baggage.ContextWithBaggage(t.Context(), b), "client")
		_, _ = session.CallTool(ctx, &mcp.CallToolParams{Name: "work"})
		call := r.span(t, "tools/call work", trace.TraceID{})
		if same := call.SpanContext.TraceID() == client.SpanContext().TraceID(); same == restart {
			t.Errorf("restart %v: the same trace: %v", restart, same)
		}
		if linked := len(call.Links) == 1 && call.Links[0].SpanContext.SpanID() == client.SpanContext().SpanID(); linked != restart {
			t.Errorf("restart %v: links %v", restart, call.Links)
		}
	}
}

// Baggage reaches the tool, unless its sender is a stranger; it is no attribute of anything.
func TestBaggage(t *testing.T) {
	t.Parallel()
	for _, restart := range []bool{false, true} {
		o, err := telemetry.New(telemetry.Options{Restart: func(observe.Call) bool { return restart }})
		if err != nil {
			t.Fatal(err)
		}
		ctx, end := o.Call(t.Context(), observe.Call{Method: "tools/call", Target: "x", Trace: observe.Trace{
			Parent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", Baggage: "tenant=7",
		}})
		end(observe.End{Outcome: observe.OK})
		if got := baggage.FromContext(ctx).Member("tenant").Value(); (got == "7") == restart {
			t.Errorf("restart %v: tenant %q", restart, got)
		}
	}
}

// A trace context that nobody can read is as good as none.
func TestTraceThatIsNone(t *testing.T) {
	t.Parallel()
	r := newRig(t, telemetry.Options{}, nil)
	o, err := telemetry.New(telemetry.Options{TracerProvider: r.tp})
	if err != nil {
		t.Fatal(err)
	}
	for _, parent := range []string{"nonsense", "00-00000000000000000000000000000000-00f067aa0ba902b7-01", "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"} {
		r.spans.Reset()
		_, end := o.Call(t.Context(), observe.Call{Method: "ping", Trace: observe.Trace{Parent: parent, State: "a=1"}})
		end(observe.End{Outcome: observe.OK})
		if s := r.span(t, "ping", trace.TraceID{}); s.Parent.IsValid() || len(s.Links) != 0 {
			t.Errorf("%s: parent %v, links %v", parent, s.Parent, s.Links)
		}
	}
}

// A request to the client is a span of its own, and the client can continue its trace.
func TestAsk(t *testing.T) {
	t.Parallel()
	r := newRig(t, telemetry.Options{}, nil)
	var mu sync.Mutex
	given := propagation.MapCarrier{}
	session := r.connect(t, "2025-11-25", &mcp.ClientOptions{ElicitationHandler: func(_ context.Context, req *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
		mu.Lock()
		defer mu.Unlock()
		for _, key := range []string{"traceparent", "tracestate", "baggage"} {
			if value, ok := req.Params.GetMeta()[key].(string); ok {
				given[key] = value
			}
		}
		return &mcp.ElicitResult{Action: "accept", Content: map[string]any{}}, nil
	}})
	ctx, client := r.tracer.Start(t.Context(), "client")
	if _, err := session.CallTool(ctx, &mcp.CallToolParams{Name: "asks"}); err != nil {
		t.Fatal(err)
	}
	in := client.SpanContext().TraceID()
	call, ask := r.span(t, "tools/call asks", in), r.span(t, "elicitation/create", in)
	if ask.SpanKind != trace.SpanKindClient || ask.Parent.SpanID() != call.SpanContext.SpanID() || attributes(ask.Attributes)["mcp.session.id"] == "" {
		t.Errorf("%+v", ask)
	}
	mu.Lock()
	defer mu.Unlock()
	got := trace.SpanContextFromContext(propagation.TraceContext{}.Extract(t.Context(), given))
	if got.SpanID() != ask.SpanContext.SpanID() || got.TraceID() != in {
		t.Errorf("the client is given %v", given)
	}
	if n := total(r.collect(t)["mcp.client.operation.duration"], "mcp.method.name=elicitation/create"); n != 1 {
		t.Errorf("%d requests to clients are measured", n)
	}
}
