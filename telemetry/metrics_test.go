package telemetry_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/sluice-mcp/sluice"
	"github.com/sluice-mcp/sluice/observe"
	"github.com/sluice-mcp/sluice/telemetry"
)

// The durations of the conventions have the conventions' attributes and boundaries.
func TestConventions(t *testing.T) {
	t.Parallel()
	r := newRig(t, telemetry.Options{}, nil)
	session := r.connect(t, "2025-11-25", nil)
	if _, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "work"}); err != nil {
		t.Fatal(err)
	}
	if _, err := session.GetPrompt(t.Context(), &mcp.GetPromptParams{Name: "greet"}); err != nil {
		t.Fatal(err)
	}
	if err := session.Close(); err != nil {
		t.Fatal(err)
	}
	var all map[string][]series
	for deadline := time.Now().Add(10 * time.Second); total(all["mcp.server.session.duration"]) == 0 && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		all = r.collect(t)
	}
	boundaries := []float64{0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120, 300}
	find := func(name, method string) map[string]string {
		for _, s := range all[name] {
			if s.attrs["mcp.method.name"] == method {
				if diff := cmp.Diff(boundaries, s.bounds); diff != "" {
					t.Errorf("boundaries of %s (-want +got):\n%s", name, diff)
				}
				return s.attrs
			}
		}
		return nil
	}
	for _, tt := range []struct {
		metric, method string
		want           map[string]string
	}{
		{"mcp.server.operation.duration", "tools/call", map[string]string{
			"mcp.method.name": "tools/call", "gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "work", "mcp.protocol.version": "2025-11-25",
			"network.transport": "tcp", "network.protocol.name": "http",
		}},
		{"mcp.server.operation.duration", "prompts/get", map[string]string{
			"mcp.method.name": "prompts/get", "gen_ai.prompt.name": "greet", "mcp.protocol.version": "2025-11-25",
			"network.transport": "tcp", "network.protocol.name": "http",
		}},
		{"mcp.server.session.duration", "", map[string]string{
			"mcp.protocol.version": "2025-11-25", "network.transport": "tcp", "network.protocol.name": "http",
		}},
	} {
		if diff := cmp.Diff(tt.want, find(tt.metric, tt.method)); diff != "" {
			t.Errorf("%s of %q (-want +got):\n%s", tt.metric, tt.method, diff)
		}
	}
	if n := total(all["sluice.calls.bytes"], "gen_ai.tool.name=work"); n < 40 || n > 300 {
		t.Errorf("%d bytes were said", n)
	}
	if n := total(all["sluice.sessions"]); n != 0 {
		t.Errorf("%d sessions", n)
	}
}

// Each event counts where it belongs.
func TestEvents(t *testing.T) {
	t.Parallel()
	const second = time.Second
	for _, tt := range []struct {
		events []observe.Event
		want   map[string]int64 // of "metric" or "metric key=value ..."
	}{
		{[]observe.Event{observe.SessionOpened{Revision: "2025-11-25"}, observe.SessionAdopted{Revision: "2025-11-25"}}, map[string]int64{
			"sluice.sessions mcp.protocol.version=2025-11-25": 2, "sluice.sessions.opened": 1, "sluice.sessions.adopted": 1, "mcp.server.session.duration": 0,
		}},
		{[]observe.Event{observe.SessionOpened{}, observe.SessionEnded{Reason: observe.EndDeleted, Duration: second}}, map[string]int64{
			"sluice.sessions": 0, "sluice.sessions.ended reason=deleted": 1, "mcp.server.session.duration": 1,
		}},
		{[]observe.Event{observe.SessionAdopted{}, observe.SessionEnded{Reason: observe.EndDeleted, Adopted: true}, observe.SessionOpened{}, observe.SessionEnded{Reason: observe.EndLeft}}, map[string]int64{
			"sluice.sessions": 0, "sluice.sessions.ended": 2, "mcp.server.session.duration": 0,
		}},
		{[]observe.Event{observe.StreamOpened{Kind: observe.StreamListen}, observe.StreamOpened{Kind: observe.StreamCall}, observe.StreamClosed{Kind: observe.StreamCall, Reason: observe.CloseEnded}}, map[string]int64{
			"sluice.streams kind=listen": 1, "sluice.streams kind=call": 0, "sluice.streams.cut": 0,
		}},
		{[]observe.Event{observe.StreamOpened{Kind: observe.StreamCall}, observe.StreamClosed{Kind: observe.StreamCall, Reason: observe.CloseStalled}}, map[string]int64{
			"sluice.streams.cut reason=stalled": 1,
		}},
		{[]observe.Event{observe.StreamResumed{Result: observe.ResumeMirrored}}, map[string]int64{"sluice.streams.resumed result=mirrored": 1}},
		{[]observe.Event{observe.Takeover{Stage: observe.Claimed}, observe.Takeover{Stage: observe.Won, Repeated: 2, Lost: 1, Duration: second}}, map[string]int64{
			"sluice.takeovers": 1, "sluice.takeovers kind=stream result=won": 1, "sluice.takeover.duration result=won": 1, "sluice.calls.repeated": 2,
		}},
		{[]observe.Event{observe.Takeover{Task: "t", Stage: observe.Outrun}}, map[string]int64{"sluice.takeovers kind=task result=outrun": 1, "sluice.takeover.duration": 0}},
		{[]observe.Event{observe.Fenced{Calls: 3}}, map[string]int64{"sluice.calls.fenced": 3}},
		{[]observe.Event{observe.StoreOp{Op: "get", Result: observe.StoreMiss}}, map[string]int64{"sluice.store.duration operation=get result=miss": 1, "sluice.store.up": 1}},
		{[]observe.Event{observe.StoreOp{Op: "get"}, observe.StoreOp{Op: "append", Result: observe.StoreUnavailable}}, map[string]int64{"sluice.store.up": 0}},
		{[]observe.Event{observe.LeaseRenewed{OK: true}, observe.LeaseRenewed{}}, map[string]int64{"sluice.lease.renewals result=ok": 1, "sluice.lease.renewals result=failed": 1}},
		{[]observe.Event{observe.Refused{Reason: observe.RefusedCalls}}, map[string]int64{"sluice.refused reason=calls": 1}},
		{[]observe.Event{observe.DrainBegun{Calls: 2}, observe.DrainEnded{Duration: second, Left: 2}}, map[string]int64{"sluice.drain.duration": 1, "sluice.drain.left": 2}},
		{[]observe.Event{observe.TaskChanged{To: "working"}, observe.TaskChanged{From: "working", To: "completed"}}, map[string]int64{
			"sluice.tasks.changed status=working": 1, "sluice.tasks.changed status=completed": 1,
		}},
		{[]observe.Event{observe.ChangeTold{Method: "notifications/tools/list_changed", Elsewhere: true}}, map[string]int64{"sluice.changes.told via=replica": 1}},
	} {
		r := &rig{reader: sdkmetric.NewManualReader()}
		o := newObserver(t, r)
		for _, e := range tt.events {
			o.Event(t.Context(), e)
		}
		all := r.collect(t)
		for name, want := range tt.want {
			words := strings.Split(name, " ")
			if got := total(all[words[0]], words[1:]...); got != want {
				t.Errorf("after %+v, %s is %d, want %d", tt.events, name, got, want)
			}
		}
	}
}

func newObserver(t testing.TB, r *rig) *telemetry.Observer {
	t.Helper()
	o, err := telemetry.New(telemetry.Options{MeterProvider: sdkmetric.NewMeterProvider(sdkmetric.WithReader(r.reader))})
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// Rounds of a task, calls that are taken over and calls that are lost are told apart.
func TestLives(t *testing.T) {
	t.Parallel()
	r := &rig{reader: sdkmetric.NewManualReader()}
	o := newObserver(t, r)
	call := func(c observe.Call) func(observe.End) {
		c.Method, c.Target, c.Revision = "tools/call", "work", "2026-07-28"
		_, end := o.Call(t.Context(), c)
		return end
	}
	call(observe.Call{Takeover: 1})(observe.End{Outcome: observe.Lost, Code: -31011})
	call(observe.Call{})
	end := call(observe.Call{Task: "t", Round: 1})
	call(observe.Call{Task: "t", Round: 2})
	end(observe.End{Outcome: observe.InputRequired})
	all := r.collect(t)
	for name, want := range map[string]int64{
		"sluice.calls.lost":                               1,
		"sluice.calls.in_flight era=stateless":            1,
		"sluice.tasks.running":                            1,
		"sluice.task.round.duration":                      1,
		"mcp.server.operation.duration":                   1,
		"sluice.call.duration":                            1,
		"mcp.server.operation.duration error.type=-31011": 1,
	} {
		words := strings.Split(name, " ")
		if got := total(all[words[0]], words[1:]...); got != want {
			t.Errorf("%s is %d, want %d", name, got, want)
		}
	}
}

// count is how many series there are. Of those that a client can add to, none may be left out.
func (r *rig) count(t *testing.T) (n int) {
	for _, all := range r.collect(t) {
		n += len(all)
	}
	return n
}

// Ten thousand names that clients make up are not ten thousand series: not of tools, methods, prompts, revisions, clients, sessions,
// request IDs or URIs.
func TestCardinality(t *testing.T) {
	t.Parallel()
	r := &rig{reader: sdkmetric.NewManualReader(), tp: sdktrace.NewTracerProvider()}
	server := newServer(t, r.tp.Tracer("test"))
	h := sluice.NewHandler(func(*http.Request) *mcp.Server { return server }, &sluice.Options{Observer: newObserver(t, r)})
	defer h.Close()
	post := func(body string, header ...string) *httptest.ResponseRecorder {
		req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "http://127.0.0.1/mcp", strings.NewReader(body))
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Accept", "application/json, text/event-stream")
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, req)
		return w
	}
	random := rand.New(rand.NewPCG(1, 2))
	name := func() string { return fmt.Sprintf("n%x", random.Uint64()) }
	session := func(revision string) string {
		w := post(fmt.Sprintf(`{"jsonrpc":"2.0","id":%q,"method":"initialize","params":{"protocolVersion":%q,"capabilities":{},"clientInfo":{"name":%q,"version":%q}}}`, name(), revision, name(), name()))
		return w.Header().Get("Mcp-Session-Id")
	}
	old := session("2025-11-25")
	once := func() {
		for _, m := range [][2]string{
			{"tools/call", `"name":"` + name() + `","arguments":{}`},
			{"prompts/get", `"name":"` + name() + `"`},
			{"resources/read", `"uri":"x:` + name() + `"`},
			{name(), `"name":"` + name() + `"`},
		} {
			post(fmt.Sprintf(`{"jsonrpc":"2.0","id":%q,"method":%q,"params":{%s}}`, name(), m[0], m[1]), "Mcp-Session-Id", old, "Mcp-Protocol-Version", "2025-11-25")
			meta := `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"` + name() + `","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}}`
			named := "x"
			if _, value, ok := strings.Cut(m[1], `:"`); ok {
				named, _, _ = strings.Cut(value, `"`)
			}
			post(fmt.Sprintf(`{"jsonrpc":"2.0","id":%q,"method":%q,"params":{%s,%s}}`, name(), m[0], m[1], meta), "Mcp-Protocol-Version", "2026-07-28", "Mcp-Method", m[0], "Mcp-Name", named)
		}
		post(fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":"ping","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":%q}}}`, name()), "Mcp-Protocol-Version", name())
		session("2025-11-25")
	}
	once()
	once()
	before := r.count(t)
	for range 1000 {
		once()
	}
	if after := r.count(t); after != before {
		t.Errorf("%d series have become %d", before, after)
	}
	if n := total(r.collect(t)["mcp.server.operation.duration"], "gen_ai.tool.name=_other"); n < 2000 {
		t.Errorf("%d calls of tools that there are not", n)
	}
}

// Errors that handlers make up, and lists that differ for each caller, are bounded, too.
func TestCardinalityOfServers(t *testing.T) {
	t.Parallel()
	r := &rig{reader: sdkmetric.NewManualReader()}
	o := newObserver(t, r)
	for i := range 10_000 {
		_, end := o.Call(t.Context(), observe.Call{Method: "tools/call", Target: fmt.Sprint("tool", i), Revision: "2026-07-28"})
		end(observe.End{Outcome: observe.Failed, Code: int64(-40_000 - i)})
		_, end = o.Ask(t.Context(), observe.Ask{Method: fmt.Sprint("method", i)})
		end(observe.End{Outcome: observe.OK})
	}
	all := r.collect(t)
	if n := r.count(t); n > 4000 {
		t.Errorf("%d series", n)
	}
	for name, each := range all {
		if slices.ContainsFunc(each, func(s series) bool { return s.attrs["otel.metric.overflow"] != "" }) {
			t.Errorf("%s has more series than the SDK takes", name)
		}
	}
	if n := total(all["mcp.server.operation.duration"], "error.type=_OTHER", "gen_ai.tool.name=_other"); n < 9_000 {
		t.Errorf("%d of the calls are of %s", n, observe.Other)
	}
}

// What observing costs a call in allocations. The times are the bench's.
func TestAllocations(t *testing.T) {
	parent := observe.Trace{Parent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"}
	meter := sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewManualReader()))
	for _, tt := range []struct {
		name string
		opts telemetry.Options
		in   observe.Trace
		most float64
	}{
		{"nobody listens", telemetry.Options{}, observe.Trace{}, 5},
		{"metrics", telemetry.Options{MeterProvider: meter}, observe.Trace{}, 5},
		{"metrics, not sampled", telemetry.Options{MeterProvider: meter, TracerProvider: sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.NeverSample()))}, observe.Trace{}, 5},
		{"metrics, caller not sampled", telemetry.Options{MeterProvider: meter, TracerProvider: sdktrace.NewTracerProvider()}, parent, 11},
		{"metrics, sampled", telemetry.Options{MeterProvider: meter, TracerProvider: sdktrace.NewTracerProvider()}, observe.Trace{}, 14},
	} {
		o, err := telemetry.New(tt.opts)
		if err != nil {
			t.Fatal(err)
		}
		c := observe.Call{Method: "tools/call", Target: "work", Revision: "2026-07-28", ID: `7`, Trace: tt.in}
		got := testing.AllocsPerRun(200, func() {
			_, end := o.Call(t.Context(), c)
			end(observe.End{Outcome: observe.OK})
		})
		t.Logf("%s: %v allocations", tt.name, got)
		if got > tt.most {
			t.Errorf("%s: %v allocations, want at most %v", tt.name, got, tt.most)
		}
	}
}

func BenchmarkCall(b *testing.B) {
	for _, sampler := range []sdktrace.Sampler{nil, sdktrace.NeverSample(), sdktrace.AlwaysSample()} {
		name, opts := "metrics", telemetry.Options{MeterProvider: sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewManualReader()))}
		if sampler != nil {
			name, opts.TracerProvider = sampler.Description(), sdktrace.NewTracerProvider(sdktrace.WithSampler(sampler))
		}
		o, err := telemetry.New(opts)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, end := o.Call(context.Background(), observe.Call{Method: "tools/call", Target: "work", Revision: "2026-07-28", ID: `7`})
				end(observe.End{Outcome: observe.OK})
			}
		})
	}
}
