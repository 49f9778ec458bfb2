package cmd_test

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// lines returns the lines of the log with a message, without what differs each time.
func (p *process) lines(msg string) (all []map[string]any) {
	for line := range strings.Lines(p.stderr.String()) {
		var m map[string]any
		if json.Unmarshal([]byte(line), &m) != nil || m["msg"] != msg {
			continue
		}
		for _, key := range []string{"time", "duration_ms", "bytes_out"} {
			if n, ok := m[key].(float64); ok && n > 0 || key == "time" {
				delete(m, key)
			}
		}
		all = append(all, m)
	}
	return all
}

// callTool calls a tool of 2026-07-28 and returns the ID that the response has for the request.
func callTool(t *testing.T, url, tool, arguments, id string) string {
	t.Helper()
	body := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"` + tool + `","arguments":` + arguments + `,"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}`
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range map[string]string{
		"Accept": "application/json, text/event-stream", "Content-Type": "application/json", "Mcp-Protocol-Version": "2026-07-28",
		"Mcp-Method": "tools/call", "Mcp-Name": tool, "X-Request-Id": id,
	} {
		req.Header.Set(k, v)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Fatal(err)
	}
	return resp.Header.Get("X-Request-Id")
}

// Each call is a line, and what a tool logs names it.
func TestAccessLog(t *testing.T) {
	t.Parallel()
	call := map[string]any{
		"level": "INFO", "msg": "call", "request_id": "r-1", "method": "tools/call", "tool": "logs",
		"revision": "2026-07-28", "outcome": "ok", "shape": "json",
	}
	tool := map[string]any{"level": "INFO", "msg": "from a tool", "request_id": "r-1", "tool": "logs"}
	for mode, want := range map[string][]map[string]any{"": {call}, "on": {call}, "names": {call}, "off": nil} {
		t.Run("mode "+mode, func(t *testing.T) {
			t.Parallel()
			p := serveHTTP(t, []string{"CMD_TEST_CHILD=1", "MCP_ACCESS_LOG=" + mode}, os.Args[0])
			if id := callTool(t, p.url, "logs", `{"secret":"canary"}`, "r-1"); id != "r-1" {
				t.Errorf("the response names the request %q", id)
			}
			if id := callTool(t, p.url, "nothing", `{}`, "a b"); len(id) < 16 || strings.Contains(id, " ") {
				t.Errorf("the response names the request %q", id)
			}
			p.until("the line of the tool", func() bool { return len(p.lines("from a tool")) == 1 })
			if diff := cmp.Diff(tool, p.lines("from a tool")[0]); diff != "" {
				t.Errorf("the tool's line (-want +got):\n%s", diff)
			}
			if want != nil {
				p.until("a line for each call", func() bool { return len(p.lines("call")) == 2 })
			}
			got := p.lines("call")
			if diff := cmp.Diff(want, got[:min(len(got), 1)], cmp.Transformer("none", func(l []map[string]any) []map[string]any {
				if len(l) == 0 {
					return nil
				}
				return l
			})); diff != "" {
				t.Errorf("the line (-want +got):\n%s", diff)
			}
			if len(got) == 2 && (got[1]["tool"] != "_other" || got[1]["code"] != -32602.0) {
				t.Errorf("the line of a tool that there is not: %v", got[1])
			}
			if strings.Contains(p.stderr.String(), "canary") {
				t.Error("an argument is in the log")
			}
		})
	}
}
