package accesslog_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice"
	"github.com/sluice-mcp/sluice/observe"
	"github.com/sluice-mcp/sluice/observe/accesslog"
)

// lines are what was logged.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

// all returns the lines without what differs each time.
func (l *lines) all(t *testing.T) (all []map[string]any) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.buf.String()) {
		m := make(map[string]any)
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		delete(m, "time")
		if _, ok := m["duration_ms"].(float64); ok {
			delete(m, "duration_ms")
		}
		all = append(all, m)
	}
	return all
}

const (
	parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	trace  = "4bf92f3577b34da6a3ce929d0e0e4736"
)

// serve returns an endpoint whose tool logs, and what is logged.
func serve(t *testing.T, opts *accesslog.Options, more ...observe.Observer) (url string, out *lines) {
	t.Helper()
	out = &lines{}
	log := slog.New(accesslog.Handler(slog.NewJSONHandler(out, nil)))
	server := mcp.NewServer(&mcp.Implementation{Name: "logs", Version: "1"}, nil)
	type in struct {
		Secret string `json:"secret"`
	}
	mcp.AddTool(server, &mcp.Tool{Name: "work"}, func(ctx context.Context, _ *mcp.CallToolRequest, in in) (*mcp.CallToolResult, any, error) {
		log.InfoContext(ctx, "working")
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: in.Secret}}, IsError: in.Secret == "fail"}, nil, nil
	})
	h := sluice.NewHandler(func(*http.Request) *mcp.Server { return server }, &sluice.Options{
		Observer:       observe.Join(append(more, accesslog.New(log, opts))...),
		Principal:      func(r *http.Request) string { return r.Header.Get("X-Principal") },
		AllowedOrigins: []string{"https://app.example.com"},
	})
	t.Cleanup(func() { _ = h.Close() })
	srv := httptest.NewServer(accesslog.RequestIDs(h))
	t.Cleanup(srv.Close)
	return srv.URL, out
}

// call calls the tool and returns the ID that the response has for the request.
func call(t *testing.T, url, tool string, header map[string]string) (id string) {
	t.Helper()
	body := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"` + tool + `","arguments":{"secret":"canary"},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{},"traceparent":"` + parent + `"}}}`
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range map[string]string{
		"Accept": "application/json, text/event-stream", "Content-Type": "application/json", "Authorization": "Bearer canary",
		"Mcp-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": tool, "X-Principal": "ann@example.com", "X-Request-Id": "req-1",
	} {
		req.Header.Set(k, v)
	}
	for k, v := range header {
		req.Header.Set(k, v)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.Header.Get("X-Request-Id")
}

func TestLines(t *testing.T) {
	t.Parallel()
	url, out := serve(t, nil)
	if got := call(t, url, "work", nil); got != "req-1" {
		t.Errorf("the response names the request %q", got)
	}
	call(t, url, "canary", nil)
	call(t, url, "work", map[string]string{"Origin": "https://evil.example"})
	got := out.all(t)
	for _, line := range got {
		if n, ok := line["bytes_out"].(float64); ok && n > 0 {
			line["bytes_out"] = "some"
		}
	}
	const hash = "sha256:7ce5e0e9a6a6"
	want := []map[string]any{
		{"level": "INFO", "msg": "working", "request_id": "req-1", "trace_id": trace, "tool": "work"},
		{
			"level": "INFO", "msg": "call", "request_id": "req-1", "trace_id": trace, "tool": "work", "method": "tools/call",
			"principal": hash, "revision": "2026-07-28", "outcome": "ok", "shape": "json", "bytes_out": "some",
		},
		{
			"level": "INFO", "msg": "call", "request_id": "req-1", "trace_id": trace, "tool": "_other", "method": "tools/call",
			"principal": hash, "revision": "2026-07-28", "outcome": "error", "code": -32602.0, "shape": "json", "bytes_out": "some",
		},
		{"level": "INFO", "msg": "refused", "request_id": "req-1", "reason": "origin"},
	}
	if len(got) > 1 {
		want[1]["principal"], want[2]["principal"] = got[1]["principal"], got[1]["principal"]
		if p, _ := got[1]["principal"].(string); !strings.HasPrefix(p, "sha256:") || len(p) != len(hash) {
			t.Errorf("the principal is %q", p)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, secret := range []string{"canary", "ann"} {
		if strings.Contains(out.buf.String(), secret) {
			t.Errorf("%q is logged:\n%s", secret, &out.buf)
		}
	}
}

func TestPrincipals(t *testing.T) {
	t.Parallel()
	url, out := serve(t, &accesslog.Options{Principals: true})
	call(t, url, "work", map[string]string{"X-Principal": "ann\u009b31m \u2028" + strings.Repeat("x", 200)})
	got := out.all(t)
	if p, _ := got[len(got)-1]["principal"].(string); !strings.HasPrefix(p, "ann31m x") || len(p) > 128 || strings.ContainsAny(p, "\u009b\u2028") {
		t.Errorf("the principal is %q", p)
	}
}

func TestQuiet(t *testing.T) {
	t.Parallel()
	url, out := serve(t, &accesslog.Options{Quiet: true})
	call(t, url, "work", nil)
	call(t, url, "work", map[string]string{"Origin": "https://evil.example"})
	want := []map[string]any{{"level": "INFO", "msg": "working", "request_id": "req-1", "trace_id": trace, "tool": "work"}}
	if diff := cmp.Diff(want, out.all(t)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// tracer is an observer that knows better what the trace is.
type tracer struct{ observe.Observer }

func (tracer) Call(ctx context.Context, _ observe.Call) (context.Context, func(observe.End)) {
	return observe.WithTraceID(ctx, "of the tracer"), nil
}
func (tracer) Event(context.Context, observe.Event) {}

func TestTraceOfAnotherObserver(t *testing.T) {
	t.Parallel()
	url, out := serve(t, nil, tracer{})
	call(t, url, "work", nil)
	for _, line := range out.all(t) {
		if line["trace_id"] != "of the tracer" {
			t.Errorf("%v", line)
		}
	}
}

func TestRequestIDs(t *testing.T) {
	t.Parallel()
	var seen string
	h := accesslog.RequestIDs(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen = observe.RequestID(r.Context()) }))
	for _, tt := range []struct {
		given []string
		kept  bool
	}{
		{[]string{"a"}, true},
		{[]string{"Az09._-"}, true},
		{[]string{strings.Repeat("x", 64)}, true},
		{[]string{strings.Repeat("x", 65)}, false},
		{[]string{""}, false},
		{[]string{"a b"}, false},
		{[]string{"a\x1b[31m"}, false},
		{[]string{"ü"}, false},
		{[]string{"a", "b"}, false},
		{nil, false},
	} {
		r, w := httptest.NewRequest(http.MethodPost, "/", nil), httptest.NewRecorder()
		r.Header["X-Request-Id"] = tt.given
		h.ServeHTTP(w, r)
		if got := w.Header().Get("X-Request-Id"); got == "" || got != seen || tt.kept != (len(tt.given) == 1 && got == tt.given[0]) {
			t.Errorf("%q became %q, and is %q in the context", tt.given, got, seen)
		}
	}
}

// What the context says stands beside what a logger was given, in no group of it.
func TestHandler(t *testing.T) {
	t.Parallel()
	ctx := observe.WithTraceID(observe.WithRequestID(t.Context(), "r"), "t")
	const ids = `"request_id":"r","trace_id":"t"`
	for want, with := range map[string]func(*slog.Logger) *slog.Logger{
		`{"msg":"m","b":1,` + ids + `}`:       func(l *slog.Logger) *slog.Logger { return l },
		`{"msg":"m","a":1,"b":1,` + ids + `}`: func(l *slog.Logger) *slog.Logger { return l.With("a", 1) },
		`{"msg":"m",` + ids + `,"g":{"b":1}}`: func(l *slog.Logger) *slog.Logger { return l.WithGroup("g") },
		`{"msg":"m","a":1,` + ids + `,"g":{"c":2,"h":{"b":1}}}`: func(l *slog.Logger) *slog.Logger {
			return l.With("a", 1).WithGroup("g").With("c", 2).WithGroup("h")
		},
	} {
		var out bytes.Buffer
		plain := slog.NewJSONHandler(&out, &slog.HandlerOptions{ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) == 0 && (a.Key == "time" || a.Key == "level") {
				return slog.Attr{}
			}
			return a
		}})
		log := with(slog.New(accesslog.Handler(accesslog.Handler(plain))))
		log.InfoContext(ctx, "m", "b", 1)
		if got := strings.TrimSpace(out.String()); got != want {
			t.Errorf("%s, want %s", got, want)
		}
		out.Reset()
		log.InfoContext(t.Context(), "m", "b", 1)
		if strings.Contains(out.String(), "_id") {
			t.Errorf("without an ID: %s", &out)
		}
	}
}

// Only what can be the ID of a trace is one.
func TestTraceIDs(t *testing.T) {
	t.Parallel()
	for given, want := range map[string]string{
		parent:                  trace,
		parent + "-more":        trace,
		"":                      "",
		parent[:54]:             "",
		"ff" + parent[2:]:       "",
		strings.ToUpper(parent): "",
		"00-00000000000000000000000000000000-00f067aa0ba902b7-01":   "",
		"00-4bf92f3577b34da6\x1b[31m929d0e0e47-00f067aa0ba902b7-01": "",
	} {
		var out bytes.Buffer
		o := accesslog.New(slog.New(slog.NewTextHandler(&out, nil)), nil)
		_, end := o.Call(t.Context(), observe.Call{Method: "ping", Trace: observe.Trace{Parent: given}})
		end(observe.End{Outcome: observe.OK})
		_, got, _ := strings.Cut(strings.TrimSpace(out.String()), "trace_id=")
		if got != want {
			t.Errorf("%q: %s", given, &out)
		}
	}
}

// nowhere takes lines, as slog.DiscardHandler does not.
type nowhere struct{}

func (nowhere) Write(p []byte) (int, error) { return len(p), nil }

// A line costs little beside the write.
func TestLineAllocations(t *testing.T) {
	o := accesslog.New(slog.New(slog.NewJSONHandler(nowhere{}, nil)), nil)
	c := observe.Call{Method: "tools/call", Target: "add", Revision: "2025-11-25", Session: "4bf92f35", Principal: "user:ann", Trace: observe.Trace{Parent: parent}}
	ctx := observe.WithRequestID(t.Context(), "req-1")
	n := testing.AllocsPerRun(100, func() {
		_, end := o.Call(ctx, c)
		end(observe.End{Outcome: observe.OK, Shape: observe.JSON, Bytes: 120})
	})
	t.Logf("%v allocations", n)
	if n > 16 {
		t.Errorf("a line costs %v allocations", n)
	}
}

func BenchmarkLine(b *testing.B) {
	o := accesslog.New(slog.New(slog.NewJSONHandler(nowhere{}, nil)), nil)
	c := observe.Call{Method: "tools/call", Target: "add", Revision: "2025-11-25", Session: "4bf92f35", Principal: "user:ann", Trace: observe.Trace{Parent: parent}}
	ctx := observe.WithRequestID(b.Context(), "req-1")
	b.ReportAllocs()
	for b.Loop() {
		_, end := o.Call(ctx, c)
		end(observe.End{Outcome: observe.OK, Shape: observe.JSON, Bytes: 120})
	}
}
