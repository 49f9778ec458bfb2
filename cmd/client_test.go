package cmd_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice/internal/schematest"
)

func TestDemo(t *testing.T) {
	t.Parallel()
	server := serveHTTP(t, nil, serverBinary)
	for _, test := range []struct {
		name string
		args []string
		logs []string // nothing: the log is empty
	}{
		{"plain", nil, []string{"connected", "revision=20"}},
		{"quiet", []string{"--quiet"}, nil},
		{"verbose", []string{"--verbose"}, []string{"connected", "exchange", "status="}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			client := start(t, nil, clientBinary, append([]string{"--url", schematest.Front(t, server.url) + "/mcp"}, test.args...)...)
			if code := client.wait(patience); code != 0 {
				t.Errorf("exit code %d", code)
			}
			if got, want := client.stdout.String(), "Result of add(10, 5): 15\n"; got != want {
				t.Errorf("stdout %q, want %q", got, want)
			}
			log := client.stderr.String()
			for _, want := range test.logs {
				if !strings.Contains(log, want) {
					t.Errorf("no %q in the log", want)
				}
			}
			if len(test.logs) == 0 && log != "" {
				t.Errorf("logged %q, want nothing", log)
			}
		})
	}
}

func TestClientFailures(t *testing.T) {
	t.Parallel()
	demo := serveHTTP(t, nil, serverBinary)
	serve := func(h http.HandlerFunc) string {
		s := httptest.NewServer(h)
		t.Cleanup(s.Close)
		return s.URL
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := "http://" + listener.Addr().String() + "/mcp"
	listener.Close()

	for _, test := range []struct {
		name string
		args []string
		want string
	}{
		{"no server", []string{"--url", nobody}, "no server is listening there"},
		{"wrong path", []string{"--url", strings.TrimSuffix(demo.url, "/mcp") + "/nope"}, "404 Not Found: nothing here: the MCP endpoint is at /mcp"},
		{"HTTP error", []string{"--url", serve(func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "the kitchen\nis closed", http.StatusServiceUnavailable)
		})}, "503 Service Unavailable: the kitchen is closed"},
		{"JSON-RPC error", []string{"--url", serve(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusBadRequest)
			w.Write([]byte(`{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"not today"}}`))
		})}, "400 Bad Request: not today"},
		{"no MCP", []string{"--url", serve(func(w http.ResponseWriter, _ *http.Request) {
			w.Write([]byte("<!doctype html><p>Hello"))
		})}, `no MCP endpoint: it answers with "text/html"`},
		{"connection cut", []string{"--url", serve(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })}, "EOF"},
		{"tool error", []string{"--url", serve(addThat(errors.New("no numbers left")))}, "add failed: no numbers left"},
		{"control characters", []string{"--url", serve(addThat(errors.New("no \x1b[2J\u009bnumbers\u202e left")))}, "add failed: no [2Jnumbers left"},
		{"no such tool", []string{"--url", serve(addThat(nil))}, `unknown tool "add"`},
		{"no URL", []string{"--url", "localhost"}, `--url: "localhost" is not`},
		{"unknown flag", []string{"--nope"}, "--nope"},
		{"quiet and verbose", []string{"--quiet", "--verbose"}, "--quiet and --verbose"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			client := start(t, nil, clientBinary, append(test.args, "--quiet")...)
			if code := client.wait(patience); code != 1 {
				t.Errorf("exit code %d, want 1", code)
			}
			if out := client.stdout.String(); out != "" {
				t.Errorf("stdout %q, want nothing", out)
			}
			checkOneLine(t, client.stderr.String(), test.want)
		})
	}
}

// addThat serves a tool add that fails, or with nil no such tool.
func addThat(fails error) http.HandlerFunc {
	server := mcp.NewServer(&mcp.Implementation{Name: "fake", Version: "v1"}, nil)
	name := "add"
	if fails == nil {
		name = "subtract"
	}
	mcp.AddTool(server, &mcp.Tool{Name: name}, func(context.Context, *mcp.CallToolRequest, map[string]any) (*mcp.CallToolResult, any, error) {
		return nil, nil, fails
	})
	return mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server }, nil).ServeHTTP
}

// checkOneLine wants an error as a person likes it.
func checkOneLine(t *testing.T, got, want string) {
	t.Helper()
	if strings.Count(got, "\n") != 1 || !strings.HasSuffix(got, "\n") {
		t.Errorf("%q is not one line", got)
	}
	if !strings.Contains(got, want) {
		t.Errorf("%q does not say %q", got, want)
	}
}
