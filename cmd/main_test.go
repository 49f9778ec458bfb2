// Package cmd_test runs the demo commands as a person does: the real binaries, as processes of their own, over real HTTP.
package cmd_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice/serve"
)

// patience is how long a test waits for what should happen at once, on a busy machine.
const patience = 2 * time.Minute

var serverBinary, clientBinary string

func TestMain(m *testing.M) {
	if os.Getenv("CMD_TEST_CHILD") != "" {
		serve.Main(naughty()) // this process is a child of the tests below
	}
	os.Exit(build(m))
}

func build(m *testing.M) int {
	dir, err := os.MkdirTemp("", "cmd_test")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	args := []string{"build", "-ldflags", "-s -w", "-o", dir + string(filepath.Separator), "./mcp-server-demo", "./mcp-client-demo"}
	if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
		return 1
	}
	serverBinary = filepath.Join(dir, "mcp-server-demo")
	clientBinary = filepath.Join(dir, "mcp-client-demo")
	return m.Run()
}

// naughty is a server whose tools do what a tool should not.
func naughty() *mcp.Server {
	server := mcp.NewServer(&mcp.Implementation{Name: "naughty", Version: "v1"}, nil)
	type none struct{}
	mcp.AddTool(server, &mcp.Tool{Name: "print"}, func(context.Context, *mcp.CallToolRequest, none) (*mcp.CallToolResult, any, error) {
		fmt.Fprintln(os.Stdout, "stray words")
		return &mcp.CallToolResult{Content: []mcp.Content{}}, nil, nil
	})
	mcp.AddTool(server, &mcp.Tool{Name: "logs"}, func(ctx context.Context, _ *mcp.CallToolRequest, _ map[string]any) (*mcp.CallToolResult, any, error) {
		slog.InfoContext(ctx, "from a tool")
		return &mcp.CallToolResult{Content: []mcp.Content{}}, nil, nil
	})
	mcp.AddTool(server, &mcp.Tool{Name: "panic"}, func(context.Context, *mcp.CallToolRequest, none) (*mcp.CallToolResult, any, error) {
		panic("a tool gave up")
	})
	mcp.AddTool(server, &mcp.Tool{Name: "list"}, func(context.Context, *mcp.CallToolRequest, none) (*mcp.CallToolResult, []any, error) {
		return nil, []any{1}, nil
	})
	prompt := &mcp.Prompt{Name: "asks", Arguments: []*mcp.PromptArgument{{Name: "what", Required: true}}}
	server.AddPrompt(prompt, func(context.Context, *mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
		return &mcp.GetPromptResult{}, nil
	})
	template := &mcp.ResourceTemplate{Name: "items", URITemplate: "items://café/{id}"}
	server.AddResourceTemplate(template, func(_ context.Context, r *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
		return &mcp.ReadResourceResult{Contents: []*mcp.ResourceContents{{URI: r.Params.URI}}}, nil
	})
	return server
}

// A process is a command that runs for the length of a test.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	sent   string // to it
	exempt string // why what it answers is not judged by the schema, if it is not
	stdout output
	stderr output
	exited chan struct{}
	url    string // of the endpoint, if it is a server
}

// start runs a binary with nothing in its environment but what is given. Its output is shown if the test fails.
func start(t *testing.T, env []string, binary string, args ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.Command(binary, args...), exited: make(chan struct{})}
	p.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}, env...)
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	var err error
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait() // the exit code says it
		close(p.exited)
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.exited
		if p.sent != "" {
			p.judge()
		}
		if t.Failed() {
			t.Logf("%s: %v\nstdout:\n%s\nstderr:\n%s", filepath.Base(binary), p.cmd.ProcessState, p.stdout.String(), p.stderr.String())
		}
	})
	return p
}

// serveHTTP starts a server on a free port and waits until it is ready.
func serveHTTP(t *testing.T, env []string, binary string, args ...string) *process {
	t.Helper()
	p := start(t, append([]string{"MCP_SERVER_PORT=0"}, env...), binary, args...)
	p.until("the line that says where it listens", func() bool {
		p.url = p.logged("url")
		return p.url != ""
	})
	p.until("readiness", func() bool {
		status, _ := p.get("/readyz")
		return status == http.StatusOK
	})
	return p
}

// logged returns the value of an attribute in the JSON log, from the first line that has it.
func (p *process) logged(key string) string {
	for line := range strings.Lines(p.stderr.String()) {
		var attrs map[string]any
		if json.Unmarshal([]byte(line), &attrs) == nil {
			if value, ok := attrs[key].(string); ok {
				return value
			}
		}
	}
	return ""
}

// get asks the server for a path and returns the status and the body; no status if it cannot be reached.
func (p *process) get(path string) (int, string) {
	resp, err := http.Get("http://" + p.logged("address") + path)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body)
}

// until waits for a condition, and fails when the process ends before it.
func (p *process) until(what string, done func() bool) {
	p.t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-p.exited:
			if done() {
				return
			}
			p.t.Fatalf("the process ended before %s", what)
		case <-deadline:
			p.t.Fatalf("no %s after %v", what, patience)
		}
	}
}

// wait returns the exit code; -1 if a signal ended the process.
func (p *process) wait(within time.Duration) int {
	p.t.Helper()
	select {
	case <-p.exited:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(within):
		p.t.Fatalf("still running after %v", within)
		return 0
	}
}

func (p *process) signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Fatal(err)
	}
}

// An output collects what a process writes, readable at any time.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}
