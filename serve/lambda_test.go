//go:build unix

package serve

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice"
)

// scratch is a directory for the length of all tests.
var scratch string

func TestMain(m *testing.M) {
	if os.Getenv("SERVE_TEST_CHILD") != "" {
		os.Args = os.Args[:1]
		Main(panicky()) // this process is an instance of a function in the tests below
	}
	var err error
	if scratch, err = os.MkdirTemp("", "serve"); err != nil {
		panic(err)
	}
	defer os.RemoveAll(scratch)
	m.Run()
}

// panicky is a server with a tool that does what a tool should not.
func panicky() *mcp.Server {
	server := mcp.NewServer(&mcp.Implementation{Name: "panicky", Version: "v1"}, nil)
	type none struct{}
	mcp.AddTool(server, &mcp.Tool{Name: "panic"}, func(context.Context, *mcp.CallToolRequest, none) (*mcp.CallToolResult, any, error) {
		panic("a tool gave up")
	})
	return server
}

var demo = sync.OnceValues(func() (string, error) {
	path := filepath.Join(scratch, "bootstrap")
	if out, err := exec.Command("go", "build", "-o", path, "../cmd/mcp-server-demo").CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
})

func demoFunction(t *testing.T, env ...string) *standIn {
	t.Helper()
	path, err := demo()
	if err != nil {
		t.Fatal(err)
	}
	return newStandIn(t, executable(t, path, env...))
}

// redisURL names a Redis that instances can share.
func redisURL(t *testing.T) string {
	t.Helper()
	if url := os.Getenv("SLUICE_TEST_REDIS_URL"); url != "" {
		return url
	}
	if os.Getenv("CI") != "" {
		t.Fatal("CI needs a real Redis: set SLUICE_TEST_REDIS_URL")
	}
	return "redis://" + miniredis.RunT(t).Addr()
}

func (f *standIn) connect(t *testing.T, revision string, opts *mcp.ClientOptions) *mcp.ClientSession {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), lambdaPatience)
	defer cancel()
	client := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "v1"}, opts)
	session, err := client.Connect(ctx, &mcp.StreamableClientTransport{Endpoint: f.url + "/mcp"}, &mcp.ClientSessionOptions{ProtocolVersion: revision})
	if err != nil {
		t.Fatal(err)
	}
	if got := session.InitializeResult().ProtocolVersion; got != revision {
		t.Errorf("negotiated %s, want %s", got, revision)
	}
	t.Cleanup(func() { _ = session.Close() })
	return session
}

func callTool(t *testing.T, session *mcp.ClientSession, name string, args any) (*mcp.CallToolResult, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), lambdaPatience)
	defer cancel()
	params := &mcp.CallToolParams{Name: name, Arguments: args}
	params.SetProgressToken("steps")
	return session.CallTool(ctx, params)
}

func wantText(t *testing.T, res *mcp.CallToolResult, err error, want string) {
	t.Helper()
	if err != nil {
		t.Errorf("the call: %v, want %q", err, want)
		return
	}
	if text, ok := res.Content[0].(*mcp.TextContent); !ok || text.Text != want {
		t.Errorf("the call: %+v, want %q", res.Content[0], want)
	}
}

// An answer is a response that has been read; err says why not to its end.
type answer struct {
	status int
	header http.Header
	body   string
	err    error
}

func (f *standIn) ask(t *testing.T, req *http.Request) answer {
	t.Helper()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, string(body), err}
}

func (f *standIn) request(t *testing.T, method, path string, body io.Reader) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, f.url+path, body)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

// toolCall is a call as a client of 2026-07-28 sends it.
func (f *standIn) toolCall(t *testing.T, tool, arguments string) *http.Request {
	t.Helper()
	body := fmt.Sprintf(`{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":%q,"arguments":%s,"_meta":{"progressToken":"p",`+
		`"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}`, tool, arguments)
	req := f.request(t, http.MethodPost, "/mcp", strings.NewReader(body))
	for name, value := range map[string]string{
		"Content-Type": "application/json", "Accept": "application/json, text/event-stream",
		"Mcp-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": tool,
	} {
		req.Header.Set(name, value)
	}
	return req
}

// A tool that cannot work there is better found before the first call.
func TestLambdaRefusesToolsThatRequireTasks(t *testing.T) {
	t.Setenv(runtimeAPI, "127.0.0.1:1")
	for _, test := range []struct {
		name  string
		modes map[string]sluice.TaskMode // of tools, by name
		says  string                     // "": it starts
	}{
		{"one", map[string]sluice.TaskMode{"audit": sluice.TaskRequire, "add": sluice.TaskNever}, "required by: audit"},
		{"several", map[string]sluice.TaskMode{"b": sluice.TaskRequire, "a": sluice.TaskRequire}, "required by: a, b"},
		{"none that must", map[string]sluice.TaskMode{"audit": sluice.TaskPrefer, "add": sluice.TaskNever, "other": ""}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := mcp.NewServer(&mcp.Implementation{Name: "tasks", Version: "v1"}, nil)
			for name, mode := range test.modes {
				tool := &mcp.Tool{Name: name}
				sluice.MarkTask(tool, sluice.TaskOptions{Mode: mode})
				sluice.AddTool(server, tool, func(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, any, error) {
					return &mcp.CallToolResult{}, nil, nil
				})
			}
			if test.says == "" {
				app, err := New(server, Config{LogLevel: "error"})
				if err != nil {
					t.Fatal(err)
				}
				if err := app.Start(t.Context()); err != nil {
					t.Error(err)
				}
				_ = app.Stop()
				return
			}
			var stdout, stderr bytes.Buffer
			code := run(server, []string{"program"}, &stdout, &stderr)
			if said := stderr.String(); code != exitUsage || !strings.HasSuffix(said, test.says+"\n") || strings.Count(said, "\n") != 1 || stdout.Len() > 0 {
				t.Errorf("ended with %d, said %q and %q", code, said, stdout.String())
			}
		})
	}
}

func TestLambdaServesEveryRevision(t *testing.T) {
	t.Parallel()
	f := demoFunction(t, "MCP_STORE_URL="+redisURL(t))
	for _, revision := range []string{"2025-06-18", "2025-11-25", "2026-07-28"} {
		t.Run(revision, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			var steps []time.Time
			session := f.connect(t, revision, &mcp.ClientOptions{
				ProgressNotificationHandler: func(context.Context, *mcp.ProgressNotificationClientRequest) {
					mu.Lock()
					defer mu.Unlock()
					steps = append(steps, time.Now())
				},
			})
			res, err := callTool(t, session, "add", map[string]int{"a": 10, "b": 5})
			wantText(t, res, err, "15")
			res, err = callTool(t, session, "countdown", map[string]int{"from": 5, "delay_ms": 400})
			wantText(t, res, err, "Counted down from 5.")
			if _, err := callTool(t, session, "none", nil); err == nil {
				t.Error("a tool that does not exist answered")
			}
			f.until("last step", func() bool { // what was said before the result may be heard after it
				mu.Lock()
				defer mu.Unlock()
				return len(steps) >= 5
			})
			// Those that come only when all are said come together; on a busy machine the first may come a second late.
			if len(steps) != 5 || steps[4].Sub(steps[0]) < 400*time.Millisecond {
				t.Errorf("steps at %v, want five over 1600 ms", steps)
			}
		})
	}
}

// Each event must be there before the next is due, not when the call is over.
func TestLambdaStreamsOneByOne(t *testing.T) {
	t.Parallel()
	f := demoFunction(t)
	f.warm(1)
	const steps, delay = 6, 200 * time.Millisecond
	resp, err := http.DefaultClient.Do(f.toolCall(t, "countdown", fmt.Sprintf(`{"from":%d,"delay_ms":%d}`, steps, delay.Milliseconds())))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got := resp.Header.Get("Content-Type"); resp.StatusCode != http.StatusOK || got != "text/event-stream" {
		t.Fatalf("%s, %s", resp.Status, got)
	}
	var at []time.Time
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "data:") {
			at = append(at, time.Now())
		}
	}
	if err := lines.Err(); err != nil || len(at) != steps+1 {
		t.Fatalf("%d events, %v, want %d", len(at), err, steps+1)
	}
	apart := 0
	for i := range steps - 1 {
		if at[i+1].Sub(at[i]) > delay/2 {
			apart++
		}
	}
	if apart < steps-3 { // a busy machine may let two of them fall together
		t.Errorf("of %d steps %v apart, %d came apart: %v", steps, delay, apart, at)
	}
}

func TestLambdaAnswersAreWhole(t *testing.T) {
	t.Parallel()
	f := demoFunction(t)
	f.base64, f.limit = true, 1
	got := f.ask(t, f.toolCall(t, "add", `{"a":10,"b":5}`))
	var message struct {
		ID     int
		Result struct{ StructuredContent struct{ Result int } }
	}
	if got.err != nil || json.Unmarshal([]byte(got.body), &message) != nil || message.ID != 7 || message.Result.StructuredContent.Result != 15 {
		t.Errorf("%+v", got)
	}
	if got := f.ask(t, f.toolCall(t, "none", `{}`)); got.err != nil || got.status != http.StatusBadRequest || !strings.Contains(got.body, "-32602") {
		t.Errorf("%+v", got)
	}
	for path, want := range map[string]int{"/readyz": http.StatusOK, "/elsewhere": http.StatusNotFound} {
		if got := f.ask(t, f.request(t, http.MethodGet, path, nil)); got.err != nil || got.status != want {
			t.Errorf("%s: %+v, want %d", path, got, want)
		}
	}
	if started, _ := f.count(); started != 1 {
		t.Errorf("%d instances were needed", started)
	}
}

// Instances are frozen between requests and none sees all of a session's.
func TestLambdaSessionsSpanInstances(t *testing.T) {
	t.Parallel()
	f := demoFunction(t, "MCP_STORE_URL="+redisURL(t), "MCP_STATE_KEYS="+strings.Repeat("A", 43)+"=")
	f.warm(4)
	for _, revision := range []string{"2025-11-25", "2026-07-28"} {
		session := f.connect(t, revision, &mcp.ClientOptions{
			ElicitationHandler: func(context.Context, *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
				return &mcp.ElicitResult{Action: "accept", Content: map[string]any{"confirm": true}}, nil
			},
		})
		for n := range 8 {
			res, err := callTool(t, session, "add", map[string]int{"a": n, "b": 1})
			wantText(t, res, err, fmt.Sprint(n+1))
		}
		res, err := callTool(t, session, "book_table", map[string]int{"guests": 4})
		wantText(t, res, err, "Booked a table for 4.")
	}
	if instances, used := f.count(); instances < 4 || used < 4 {
		t.Errorf("%d of %d instances were used, want 4", used, instances)
	}
}

// A stream ends before the function's time does, so that the instance lives on.
func TestLambdaStreamsEndInTime(t *testing.T) {
	t.Parallel()
	f := demoFunction(t, "MCP_STORE_URL="+redisURL(t))
	f.warm(3)
	f.timeout = 5 * time.Second // of which a tenth is for the end
	session := f.connect(t, "2025-11-25", nil)
	f.until("stream that was opened again", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.streams > 2
	})
	res, err := callTool(t, session, "add", map[string]int{"a": 10, "b": 5})
	wantText(t, res, err, "15")
	if started, _ := f.count(); started != 3 {
		t.Errorf("%d instances were started, want 3: some ended", started)
	}
}

// A client that finds the same instance again sees the rest of a call that takes longer than an invocation may.
func TestLambdaCallOutlivesItsInvocation(t *testing.T) {
	t.Parallel()
	f := demoFunction(t)
	f.limit = 1
	f.warm(1)
	f.timeout = 10 * time.Second // of which a tenth is for the end
	steps := make(chan float64, 100)
	client := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "v1"}, &mcp.ClientOptions{
		ProgressNotificationHandler: func(_ context.Context, req *mcp.ProgressNotificationClientRequest) { steps <- req.Params.Progress },
	})
	session, err := client.Connect(t.Context(), &mcp.StreamableClientTransport{Endpoint: f.url + "/mcp", DisableStandaloneSSE: true},
		&mcp.ClientSessionOptions{ProtocolVersion: "2025-11-25"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = session.Close() })
	res, err := callTool(t, session, "countdown", map[string]int{"from": 14, "delay_ms": 900})
	wantText(t, res, err, "Counted down from 14.")
	for want := 1.0; want <= 14; want++ {
		select {
		case step := <-steps:
			if step != want {
				t.Errorf("step %v, want %v", step, want)
			}
		case <-time.After(lambdaPatience):
			t.Fatalf("step %v is missing", want)
		}
	}
	if started, _ := f.count(); started != 1 {
		t.Errorf("%d instances were started: one ended", started)
	}
}

func TestLambdaTimeIsUp(t *testing.T) {
	t.Parallel()
	f := newStandIn(t, inProcess(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })))
	f.timeout = 5 * time.Second
	if got := f.ask(t, f.request(t, http.MethodGet, "/", nil)); got.err != nil || got.status != http.StatusGatewayTimeout {
		t.Errorf("%+v, want 504", got)
	}
}

func TestLambdaToolPanics(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	f := newStandIn(t, executable(t, self, "SERVE_TEST_CHILD=1"))
	f.limit = 1
	for range 2 {
		if got := f.ask(t, f.toolCall(t, "panic", `{}`)); got.err != nil || !strings.Contains(got.body, "-32603") {
			t.Errorf("%+v, want an internal error", got)
		}
	}
	if started, _ := f.count(); started != 1 {
		t.Errorf("%d instances: the panic ended one", started)
	}
}

func TestLambdaHandlerPanics(t *testing.T) {
	t.Parallel()
	f := newStandIn(t, inProcess(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/late":
			fmt.Fprint(w, "begun")
			_ = http.NewResponseController(w).Flush()
			panic("late")
		case "/early":
			w.Header().Set("Content-Type", "image/png")
			w.WriteHeader(http.StatusCreated)
			panic("early")
		}
	})))
	f.limit = 1
	for range 2 {
		early := f.ask(t, f.request(t, http.MethodGet, "/early", nil))
		if early.err != nil || early.status != http.StatusInternalServerError || early.body != "internal error\n" ||
			!strings.HasPrefix(early.header.Get("Content-Type"), "text/plain") {
			t.Errorf("early: %+v", early)
		}
		if late := f.ask(t, f.request(t, http.MethodGet, "/late", nil)); late.err == nil || late.body != "begun" {
			t.Errorf("late: %+v, want an answer that breaks off", late)
		}
	}
	if started, _ := f.count(); started != 1 {
		t.Errorf("%d instances: a panic ended one", started)
	}
}

// What an HTTP handler may rely on.
func TestLambdaHTTP(t *testing.T) {
	t.Parallel()
	all := make([]byte, 100_000)
	for i := range all {
		all[i] = byte(i * 7 >> 3)
	}
	var got *http.Request
	f := newStandIn(t, inProcess(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r
		http.SetCookie(w, &http.Cookie{Name: "a", Value: "1"})
		http.SetCookie(w, &http.Cookie{Name: "b", Value: "2"})
		w.Header().Add("Vary", "Origin")
		w.Header().Add("Vary", "Accept")
		if r.URL.Path == "/empty" {
			w.WriteHeader(http.StatusAccepted)
			return
		}
		w.WriteHeader(http.StatusTeapot)
		w.WriteHeader(http.StatusOK)            // too late
		w.Header().Set("Late", "maybe")         // not yet
		_, _ = io.Copy(w, r.Body)               // in several writes
		w.Header().Set("Too-Late", "certainly") // now it is
	})))
	f.caller = "arn:aws:iam::123456789012:user/ann"

	req := f.request(t, http.MethodPut, "/a%2Fb/c?q=1&q=%C3%BC", bytes.NewReader(all))
	req.Header.Set("Cookie", "x=1; y=2")
	req.Header["Many"] = []string{"1", "2"}
	answer := f.ask(t, req)
	if answer.err != nil || answer.body != string(all) {
		t.Errorf("the body came back with %d bytes, %v", len(answer.body), answer.err)
	}
	if answer.status != http.StatusTeapot || answer.header.Get("Vary") != "Origin, Accept" || answer.header.Get("Too-Late") != "" {
		t.Errorf("%d %v", answer.status, answer.header)
	}
	if cookies := answer.header["Set-Cookie"]; !slices.Equal(cookies, []string{"a=1", "b=2"}) {
		t.Errorf("cookies %q", cookies)
	}
	for name, pair := range map[string][2]string{
		"method": {got.Method, "PUT"}, "path": {got.URL.Path, "/a/b/c"}, "query": {got.URL.Query()["q"][1], "ü"},
		"URI": {got.RequestURI, "/a%2Fb/c?q=1&q=%C3%BC"}, "host": {got.Host, "abc123.lambda-url.eu-central-1.on.aws"},
		"cookie": {got.Header.Get("Cookie"), "x=1; y=2"}, "many": {got.Header.Get("Many"), "1,2"}, "address": {got.RemoteAddr, "192.0.2.7:0"},
		"principal": {iamPrincipal(got), "iam:arn:aws:iam::123456789012:user/ann"}, "length": {fmt.Sprint(got.ContentLength), "100000"},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s %q, want %q", name, pair[0], pair[1])
		}
	}
	answer = f.ask(t, f.request(t, http.MethodPost, "/empty", nil))
	if answer.err != nil || answer.status != http.StatusAccepted || answer.header.Get("Content-Length") != "0" {
		t.Errorf("empty: %+v", answer)
	}
	if answer = f.ask(t, f.request(t, http.MethodHead, "/", nil)); answer.err != nil || answer.status != http.StatusTeapot {
		t.Errorf("HEAD: %+v", answer)
	}
}

// An event of another kind, such as a test in the console, fails alone.
func TestLambdaForeignEvent(t *testing.T) {
	t.Parallel()
	f := newStandIn(t, inProcess(t, http.NotFoundHandler()))
	for _, event := range []string{`{}`, `[1]`, `{"rawPath":"/","requestContext":{"http":{"method":"GET"}},"body":"?","isBase64Encoded":true}`} {
		c := &call{event: []byte(event), done: make(chan struct{})}
		f.invoke(c)
		if !strings.HasPrefix(c.broken, "BadEvent: {") {
			t.Errorf("%s: %q", event, c.broken)
		}
	}
	if got := f.ask(t, f.request(t, http.MethodGet, "/", nil)); got.err != nil || got.status != http.StatusNotFound {
		t.Errorf("%+v", got)
	}
}

func TestLambdaWarnsOnce(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		cfg  Config
		want string
	}{
		{Config{}, "MCP_STORE_URL, MCP_STATE_KEYS"},
		{Config{StoreURL: "redis://x"}, "MCP_STATE_KEYS"},
		{Config{StoreURL: "redis://x", StateKeys: List{"k"}}, ""},
	} {
		var log bytes.Buffer
		a := &App{cfg: tt.cfg.withDefaults(), log: slog.New(slog.NewTextHandler(&log, nil))}
		a.warnUnshared()
		if got := log.String(); strings.Count(got, "\n") != min(1, len(tt.want)) || !strings.Contains(got, tt.want) {
			t.Errorf("%+v: %q, want %q", tt.cfg, got, tt.want)
		}
	}
}
