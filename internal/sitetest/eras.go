package sitetest

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice"
	"github.com/sluice-mcp/sluice/internal/sse"
	"github.com/sluice-mcp/sluice/internal/wire"
)

// InBothEras returns a function that calls a tool in each of the eras and returns the two results, which must be the same.
func InBothEras(t *testing.T, s *mcp.Server) func(tool, arguments string) json.RawMessage {
	t.Helper()
	h := sluice.NewHandler(func(*http.Request) *mcp.Server { return s }, nil)
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	var session string
	post := func(body string, headers map[string]string) []byte {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Accept", "application/json, text/event-stream")
		for k, v := range headers {
			req.Header.Set(k, v)
		}
		res, err := server.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = res.Body.Close() }()
		if id := res.Header.Get("Mcp-Session-Id"); id != "" {
			session = id
		}
		if strings.HasPrefix(res.Header.Get("Content-Type"), "text/event-stream") { // the machine is busy
			for events := sse.NewReader(res.Body); ; {
				e, err := events.Next()
				if err != nil {
					t.Fatal(err)
				}
				if len(e.Data) > 0 {
					return e.Data
				}
			}
		}
		data, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	post(`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"c","version":"1"}}}`, nil)
	post(`{"jsonrpc":"2.0","method":"notifications/initialized"}`, InSession(session))
	answer := func(data []byte) json.RawMessage {
		if result := wire.Member(data, "result"); result != nil {
			return result
		}
		return wire.Member(data, "error")
	}
	return func(tool, arguments string) json.RawMessage {
		t.Helper()
		params := `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"` + tool + `","arguments":` + arguments
		older := answer(post(params+`}}`, InSession(session)))
		newer := answer(post(params+`,"_meta":{`+Meta2026+`}}}`,
			map[string]string{"Mcp-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": tool}))
		for _, member := range []string{"content", "isError", "code", "message"} {
			if a, b := wire.Member(older, member), wire.Member(newer, member); string(a) != string(b) {
				t.Errorf("%s %s: %s is %s in a session, %s in 2026-07-28", tool, arguments, member, a, b)
			}
		}
		return newer
	}
}

// TextOf returns the text of the only content block, as structured content stands in it.
func TextOf(t *testing.T, result json.RawMessage) string {
	t.Helper()
	var r struct {
		Content []struct{ Text string }
	}
	if err := json.Unmarshal(result, &r); err != nil || len(r.Content) != 1 {
		t.Errorf("want one block of text: %s", result)
		return ""
	}
	return r.Content[0].Text
}
