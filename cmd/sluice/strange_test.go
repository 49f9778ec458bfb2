package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// strange is a server of 2025-11-25 that answers with the event streams that format returns.
func strange(t *testing.T, format func(message string) string) string {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/moved" {
			http.Redirect(w, r, "/mcp", http.StatusTemporaryRedirect)
			return
		}
		if r.Method != http.MethodPost {
			w.WriteHeader(http.StatusMethodNotAllowed)
			return
		}
		body, _ := io.ReadAll(r.Body)
		var m struct {
			ID     json.RawMessage
			Method string
		}
		_ = json.Unmarshal(body, &m)
		var result string
		switch m.Method {
		case "initialize":
			result = `{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"strange","version":"1"}}`
		case "tools/list":
			result = `{"tools":[{"name":"hello","inputSchema":{"type":"object"}}]}`
		case "tools/call":
			result = `{"content":[{"type":"text","text":"hello"}]}`
		case "server/discover":
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"error":{"code":-32601,"message":"what?"}}`, m.ID)
			return
		default:
			w.WriteHeader(http.StatusAccepted)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprint(w, format(fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":%s}`, m.ID, result)))
	}))
	t.Cleanup(srv.Close)
	return srv.URL
}

func sluice(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sluice", args...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Errorf("sluice %s: %v: %s", args[0], err, stderr.String())
	}
	return string(out)
}

// Whatever a stream looks like that the standard allows, and whatever a server sends beside its answer.
func TestStrangeStreams(t *testing.T) {
	t.Parallel()
	event := func(message string) string { return "event: message\ndata: " + message + "\n\n" }
	for name, format := range map[string]func(string) string{
		"CR":              func(m string) string { return strings.ReplaceAll(event(m), "\n", "\r") },
		"CRLF":            func(m string) string { return strings.ReplaceAll(event(m), "\n", "\r\n") },
		"byte order mark": func(m string) string { return "\ufeff" + "data: " + m + "\n\n" },
		"no colon":        func(m string) string { return "nothing\n" + event(m) },
		"lines of data":   func(m string) string { return "data: " + m[:17] + "\ndata: " + m[17:] + "\n\n" },
		"comments":        func(m string) string { return ": hello\n\n" + event(m) },
		"ping":            func(m string) string { return "event: ping\ndata: {}\n\n" + event(m) },
		"heartbeat":       func(m string) string { return "data: {\"type\":\"heartbeat\"}\n\n" + event(m) },
		"null": func(m string) string {
			return "data: null\n\ndata: []\n\ndata: \"x\"\n\ndata: keep-alive\n\n" + event(m)
		},
		"batch":     func(m string) string { return event("[" + m + "]") },
		"bad retry": func(m string) string { return "retry: soon\n\n" + event(m) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := strange(t, format)
			for _, path := range []string{"/mcp", "/moved"} {
				if got := sluice(t, "call", url+path, "hello"); got != "hello\n" {
					t.Errorf("call: %q", got)
				}
				if got := sluice(t, "inspect", url+path); !strings.Contains(got, "strange") || !strings.Contains(got, "hello") {
					t.Errorf("inspect: %q", got)
				}
			}
		})
	}
}

// A server that knows HTTP+SSE only needs no flag, in any command.
func TestOldServer(t *testing.T) {
	t.Parallel()
	s := mcp.NewServer(&mcp.Implementation{Name: "old", Version: "v1"}, nil)
	s.AddTool(&mcp.Tool{Name: "hello", InputSchema: json.RawMessage(`{"type":"object"}`)}, nil)
	old := mcp.NewSSEHandler(func(*http.Request) *mcp.Server { return s }, nil)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost && r.URL.RawQuery == "" {
			http.NotFound(w, r)
			return
		}
		old.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	t.Cleanup(srv.CloseClientConnections)
	if got := sluice(t, "inspect", srv.URL); !strings.Contains(got, "hello") {
		t.Errorf("inspect: %q", got)
	}
	cmd := exec.CommandContext(t.Context(), "sluice", "proxy", srv.URL)
	cmd.Stderr = t.Output()
	session, err := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "v1"}, nil).Connect(t.Context(), &mcp.CommandTransport{Command: cmd}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if list, err := session.ListTools(t.Context(), nil); err != nil || len(list.Tools) != 1 {
		t.Errorf("%+v, %v", list, err)
	}
	if err := session.Close(); err != nil {
		t.Errorf("sluice proxy ended with %v", err)
	}
}
