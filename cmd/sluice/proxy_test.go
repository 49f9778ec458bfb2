package main

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice/e2e"
	"github.com/sluice-mcp/sluice/internal/schematest"
)

// token is what an identity platform makes: it says when it expires, and nothing else that matters here.
func token(life time.Duration) string {
	claims := fmt.Sprintf(`{"exp":%d}`, time.Now().Add(life).Unix())
	return "e30." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".c2ln"
}

// protected puts the demo server behind a gate that lets only this token pass, as Cloud Run's does.
func protected(t *testing.T, good string) *httptest.Server {
	t.Helper()
	demo := e2e.Start(t, e2e.Command("./cmd/mcp-server-demo"))
	front, err := url.Parse(schematest.Front(t, demo.URL()))
	if err != nil {
		t.Fatal(err)
	}
	behind := httputil.NewSingleHostReverseProxy(front)
	behind.FlushInterval = -1
	gate := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+good {
			http.Error(w, "who are you?", http.StatusUnauthorized)
			return
		}
		_ = http.NewResponseController(w).EnableFullDuplex() // see proxy.Forward
		behind.ServeHTTP(w, r)
	}))
	t.Cleanup(gate.Close)
	return gate
}

// metadata stands in for Google Cloud's metadata server; it counts the questions.
func metadata(t *testing.T, token string) (host string, asked *atomic.Int32) {
	t.Helper()
	asked = new(atomic.Int32)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		w.Header().Set("Metadata-Flavor", "Google")
		if r.Header.Get("Metadata-Flavor") != "Google" || r.URL.Query().Get("audience") != "https://weather.example" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		fmt.Fprint(w, token)
	}))
	t.Cleanup(srv.Close)
	return strings.TrimPrefix(srv.URL, "http://"), asked
}

func TestProxyStdio(t *testing.T) {
	t.Parallel()
	good := token(time.Hour)
	gate := protected(t, good)
	host, asked := metadata(t, good)
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(good+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, flags := range map[string][]string{
		"command":  {"--token-command", "printf '%s\\n' " + good},
		"file":     {"--token-file", file},
		"metadata": {"--token-metadata", "https://weather.example"},
		"static":   {"--token", good},
		"header":   {"-H", "Authorization: Bearer " + good},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command("sluice", append([]string{"proxy", gate.URL + "/mcp"}, flags...)...)
			cmd.Env = append(os.Environ(), "GCE_METADATA_HOST="+host)
			cmd.Stderr = t.Output()
			session, err := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "v1"}, nil).
				Connect(t.Context(), &mcp.CommandTransport{Command: cmd}, nil)
			if err != nil {
				t.Fatal(err)
			}
			for range 3 {
				if res := e2e.Call[*mcp.CallToolResult](t, session, "add", map[string]int{"a": 10, "b": 5}); res.Content[0].(*mcp.TextContent).Text != "15" {
					t.Errorf("add: %+v", res)
				}
			}
			if err := session.Close(); err != nil {
				t.Errorf("sluice proxy ended with %v", err)
			}
		})
	}
	t.Cleanup(func() {
		if n := asked.Load(); n != 1 {
			t.Errorf("the metadata server was asked %d times, want once", n)
		}
	})
}

func TestProxyListen(t *testing.T) {
	t.Parallel()
	good := token(time.Hour)
	gate := protected(t, good)
	cmd := exec.Command("sluice", "proxy", gate.URL+"/mcp", "--token", good, "--listen", "127.0.0.1:0")
	cmd.Stderr = t.Output()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	local, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	local = strings.TrimSpace(local)
	if !strings.HasPrefix(local, "http://127.0.0.1:") || !strings.HasSuffix(local, "/mcp") {
		t.Fatalf("it prints %q", local)
	}
	var progress e2e.Inbox[*mcp.ProgressNotificationParams]
	e2e.EachRevision(t, e2e.Start(t, e2e.URL(local)), func(t *testing.T, session *mcp.ClientSession) {
		e2e.Call[*mcp.CallToolResult](t, session, "countdown", map[string]int{"from": 2, "delay_ms": 1})
	}, e2e.Progress(&progress))
	progress.Wait(t, 2*4)
	// An open stream does not keep it from ending.
	stream := slowCall(t, local)
	begun := time.Now()
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v", err)
	}
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("it took %v to end", took)
	}
	_ = stream.Process.Kill()
	_ = stream.Wait()
}

// slowCall returns a sluice that is in the middle of a call.
func slowCall(t *testing.T, url string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("sluice", "call", url, "countdown", `{"from":100,"delay_ms":1000}`)
	said, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	if line, err := bufio.NewReader(said).ReadString('\n'); err != nil || !strings.HasPrefix(line, "progress: 1 of 100") {
		t.Fatalf("%q, %v", line, err)
	}
	return cmd
}

func TestInterrupted(t *testing.T) {
	t.Parallel()
	for _, signal := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		cmd := slowCall(t, e2e.Start(t, e2e.Command("./cmd/mcp-server-demo")).URL())
		if err := cmd.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // the code says it
		if code := cmd.ProcessState.ExitCode(); code != 130 {
			t.Errorf("%v: exit code %d, want 130", signal, code)
		}
	}
}

// In a session, the SDK does not end a question with the call that it belongs to, and closing waits for it.
func TestInterruptedQuestion(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("/dev/ptmx, a terminal at which nobody types, is Linux's")
	}
	url := e2e.Start(t, e2e.Command("./cmd/mcp-server-demo")).URL()
	for _, revision := range []string{"2025-11-25", "2026-07-28"} {
		t.Run(revision, func(t *testing.T) {
			t.Parallel()
			terminal, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer terminal.Close()
			cmd := exec.CommandContext(t.Context(), "sluice", "call", url, "book_table", `{"guests":2}`, "--revision", revision)
			cmd.Stdin = terminal
			said, err := cmd.StderrPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if line, err := bufio.NewReader(said).ReadString('\n'); err != nil || !strings.HasPrefix(line, "the server asks") {
				t.Fatalf("%q, %v", line, err)
			}
			if err := cmd.Process.Signal(os.Interrupt); err != nil {
				t.Fatal(err)
			}
			late := time.AfterFunc(10*time.Second, func() { _ = cmd.Process.Kill() })
			_ = cmd.Wait() // the code says it
			late.Stop()
			if code := cmd.ProcessState.ExitCode(); code != 130 {
				t.Errorf("exit code %d, want 130", code)
			}
		})
	}
}
