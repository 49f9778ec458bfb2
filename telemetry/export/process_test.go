package export_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"go.opentelemetry.io/otel"

	"github.com/sluice-mcp/sluice"
	"github.com/sluice-mcp/sluice/serve"
	"github.com/sluice-mcp/sluice/telemetry/export"
)

// canary stands in what must never leave the process.
const canary = "canary-7f3a"

// TestMain is the server, too, when a test starts this program again: what is tested is what a process does.
func TestMain(m *testing.M) {
	if os.Getenv("EXPORT_TEST_SERVES") != "" {
		serve.Main(newServer(), serve.WithTelemetry(export.New(export.Options{})))
	}
	os.Exit(m.Run()) //nolint:forbidigo // a TestMain is a main
}

func newServer() *mcp.Server {
	s := mcp.NewServer(&mcp.Implementation{Name: "s", Version: "1"}, nil)
	inner := func(ctx context.Context) {
		_, span := otel.Tracer("tool").Start(ctx, "inner")
		span.End()
	}
	sluice.AddTool(s, &mcp.Tool{Name: "fast"}, func(ctx context.Context, _ *mcp.CallToolRequest, _ map[string]any) (*mcp.CallToolResult, any, error) {
		inner(ctx)
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: canary}}}, nil, nil
	})
	sluice.AddTool(s, &mcp.Tool{Name: "fails"}, func(context.Context, *mcp.CallToolRequest, map[string]any) (*mcp.CallToolResult, any, error) {
		return &mcp.CallToolResult{IsError: true, Content: []mcp.Content{&mcp.TextContent{Text: canary}}}, nil, nil
	})
	slow := func(ctx context.Context, req *mcp.CallToolRequest, _ map[string]any) (*mcp.CallToolResult, any, error) {
		inner(ctx)
		for i := range 20 {
			_ = req.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{ProgressToken: req.Params.GetProgressToken(), Progress: float64(i + 1)})
			select {
			case <-time.After(50 * time.Millisecond):
			case <-ctx.Done():
				return nil, nil, ctx.Err()
			}
		}
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: canary}}}, nil, nil
	}
	sluice.AddTool(s, &mcp.Tool{Name: "slow", Annotations: &mcp.ToolAnnotations{ReadOnlyHint: true}}, slow)
	task := &mcp.Tool{Name: "task", Annotations: &mcp.ToolAnnotations{ReadOnlyHint: true}}
	sluice.MarkTask(task, sluice.TaskOptions{Mode: sluice.TaskPrefer})
	sluice.AddTool(s, task, slow)
	return s
}

// A process serves, and logs JSON.
type process struct {
	url, metrics string // "" if there is none
	cmd          *exec.Cmd
	ended        chan struct{}

	mu   sync.Mutex
	logs []map[string]any
}

// start returns a server that runs with these variables and no others.
func start(t *testing.T, env ...string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(os.Args[0]), ended: make(chan struct{})}
	p.cmd.Env = append([]string{"EXPORT_TEST_SERVES=1", "MCP_SERVER_PORT=0", "LOG_FORMAT=json", "MCP_ACCESS_LOG=off", "GOMAXPROCS=2"}, env...)
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ready := make(chan string, 1)
	go func() {
		defer close(p.ended)
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			line := make(map[string]any)
			if json.Unmarshal(lines.Bytes(), &line) != nil {
				line["msg"] = lines.Text()
			}
			p.mu.Lock()
			p.logs = append(p.logs, line)
			p.mu.Unlock()
			if url, ok := line["url"].(string); ok {
				ready <- url
			}
		}
		_ = p.cmd.Wait()
	}()
	t.Cleanup(func() { p.kill() })
	select {
	case p.url = <-ready:
	case <-p.ended:
	case <-time.After(time.Minute):
		t.Fatal("no server")
	}
	for _, line := range p.said("serving metrics") {
		p.metrics = "http://" + line["address"].(string) + "/metrics"
	}
	return p
}

// said returns the log's lines with a message.
func (p *process) said(message string) (lines []map[string]any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, line := range p.logs {
		if line["msg"] == message {
			lines = append(lines, line)
		}
	}
	return lines
}

// log is all of it.
func (p *process) log() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return fmt.Sprint(p.logs)
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.ended
}

// stop ends the process as a platform does, and says how long that took.
func (p *process) stop(t *testing.T) time.Duration {
	t.Helper()
	begun := time.Now()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.ended:
	case <-time.After(time.Minute):
		t.Fatal("does not end")
	}
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("ends with %d: %s", code, p.log())
	}
	return time.Since(begun)
}

// A post is what a client sends: a message in one of the eras.
type post struct {
	method, name string
	params       string // without what every message of the era repeats
	traceparent  string
	session      string // "" is 2026-07-28
}

func (p *process) post(t *testing.T, m post) *http.Response {
	t.Helper()
	resp, err := http.DefaultClient.Do(p.request(t.Context(), m))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}

// try is post where the process may be gone: it returns nil then.
func (p *process) try(ctx context.Context, m post) *http.Response {
	resp, err := http.DefaultClient.Do(p.request(ctx, m))
	if err != nil {
		return nil
	}
	return resp
}

func (p *process) request(ctx context.Context, m post) *http.Request {
	meta := `"progressToken":"p"`
	if m.traceparent != "" {
		meta += fmt.Sprintf(`,"traceparent":%q,"tracestate":"vendor=1","baggage":"secret=%s"`, m.traceparent, canary)
	}
	if m.session == "" {
		meta += `,"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"c","version":"1"},` +
			`"io.modelcontextprotocol/clientCapabilities":{"extensions":{"io.modelcontextprotocol/tasks":{}}}`
	}
	body := fmt.Sprintf(`{"jsonrpc":"2.0","id":7,"method":%q,"params":{%s"_meta":{%s}}}`, m.method, m.params, meta)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url, strings.NewReader(body))
	if err != nil {
		panic(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	if m.session == "" {
		req.Header.Set("Mcp-Protocol-Version", "2026-07-28")
		req.Header.Set("Mcp-Method", m.method)
		req.Header.Set("Mcp-Name", m.name)
	} else if m.method != "initialize" {
		req.Header.Set("Mcp-Session-Id", m.session)
		req.Header.Set("Mcp-Protocol-Version", "2025-11-25")
	}
	return req
}

// call calls a tool, and returns what came back.
func (p *process) call(t *testing.T, session, tool, traceparent string) string {
	t.Helper()
	resp := p.post(t, callOf(session, tool, traceparent)) //nolint:bodyclose // post does
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%d %v: %s", resp.StatusCode, err, body)
	}
	return string(body)
}

func callOf(session, tool, traceparent string) post {
	return post{
		method: "tools/call", name: tool, params: fmt.Sprintf(`"name":%q,"arguments":{"secret":%q},`, tool, canary),
		traceparent: traceparent, session: session,
	}
}

// open opens a session.
func (p *process) open(t *testing.T) string {
	t.Helper()
	resp := p.post(t, post{method: "initialize", params: `"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"c","version":"1"},`, session: "none"}) //nolint:bodyclose // post does
	id := resp.Header.Get("Mcp-Session-Id")
	if id == "" {
		t.Fatal("no session")
	}
	return id
}

// events reads an event stream, and returns the ID of the nth event that has one.
func events(t *testing.T, r io.Reader, n int) (id string) {
	t.Helper()
	for lines := bufio.NewScanner(r); lines.Scan(); {
		if value, ok := strings.CutPrefix(lines.Text(), "id: "); ok {
			if id = value; n == 1 {
				return id
			}
			n--
		}
	}
	t.Fatal("the stream has ended")
	return ""
}

// follow goes on with a stream, to its end.
func (p *process) follow(t *testing.T, session, last string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "text/event-stream")
	req.Header.Set("Mcp-Session-Id", session)
	req.Header.Set("Mcp-Protocol-Version", "2025-11-25")
	req.Header.Set("Last-Event-ID", last)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// slowly calls a tool that takes a second, and returns the last event's ID if the stream breaks off, or does not begin.
func (p *process) slowly(ctx context.Context, session string) (last string, broken bool) {
	resp := p.try(ctx, callOf(session, "slow", ""))
	if resp == nil {
		return "", true
	}
	defer resp.Body.Close()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if value, ok := strings.CutPrefix(lines.Text(), "id: "); ok {
			last = value
		}
		if strings.Contains(lines.Text(), `"result"`) {
			return "", false
		}
	}
	return last, true
}

// quickly calls a tool that has answered at once.
func (p *process) quickly(ctx context.Context) {
	if resp := p.try(ctx, callOf("", "fast", "")); resp != nil {
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
	}
	time.Sleep(5 * time.Millisecond)
}
