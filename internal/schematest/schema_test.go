package schematest_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/sluice-mcp/sluice/internal/schematest"
)

const (
	v24 = "2024-11-05"
	v03 = "2025-03-26"
	v06 = "2025-06-18"
	v11 = "2025-11-25"
	v26 = "2026-07-28"
)

func TestCheck(t *testing.T) {
	t.Parallel()
	result := func(members string) string { return `{"jsonrpc":"2.0","id":1,"result":` + members + `}` }
	tool := func(members string) string {
		return result(`{"resultType":"complete","ttlMs":0,"cacheScope":"public","tools":[{"name":"t",` + members + `}]}`)
	}
	for _, tt := range []struct {
		name, message, method string
		from                  schematest.Side
		valid, invalid        string // revisions
	}{
		{name: "result", message: result(`{"content":[{"type":"text","text":""}]}`), method: "tools/call", valid: v24 + v03 + v06 + v11, invalid: v26},
		{name: "its type", message: result(`{"content":[],"resultType":"complete"}`), method: "tools/call", valid: v26},
		{name: "no content", message: result(`{"content":null}`), method: "tools/call", invalid: v24 + v03 + v06 + v11 + v26},
		{name: "no content, but a type", message: result(`{"resultType":"complete"}`), method: "tools/call", invalid: v26},
		{name: "input required", message: result(`{"resultType":"input_required","requestState":"x"}`), method: "tools/call", valid: v26},
		{name: "input of no kind", message: result(`{"resultType":"input_required","inputRequests":{"a":{"method":"ping"}}}`), method: "tools/call", invalid: v26},
		{name: "input where none is", message: result(`{"resultType":"input_required"}`), method: "tools/list", invalid: v26},
		{name: "array", message: result(`{"resultType":"complete","content":[],"structuredContent":[]}`), method: "tools/call", valid: v24 + v03 + v26, invalid: v06 + v11},
		{name: "audio", message: result(`{"content":[{"type":"audio","data":"","mimeType":"a/b"}]}`), method: "tools/call", valid: v03 + v06 + v11, invalid: v24},
		{name: "bad base64", message: result(`{"content":[{"type":"image","data":"a","mimeType":"a/b"}]}`), method: "tools/call", invalid: v24 + v03 + v06 + v11},
		{name: "empty text resource", message: result(`{"resultType":"complete","ttlMs":0,"cacheScope":"private","contents":[{"uri":"a:b"}]}`), method: "resources/read", invalid: v24 + v03 + v06 + v11 + v26},
		{name: "no URI", message: result(`{"contents":[{"uri":"b","text":""}]}`), method: "resources/read", invalid: v24 + v03 + v06 + v11},
		{name: "true for a schema", message: tool(`"inputSchema":{"type":"object","properties":{"x":true}}`), method: "tools/list", valid: v26, invalid: v24 + v03 + v06 + v11},
		{name: "output array", message: tool(`"inputSchema":{"type":"object"},"outputSchema":{"type":"array"}`), method: "tools/list", valid: v24 + v03 + v26, invalid: v06 + v11},
		{name: "method unknown", message: result(`{"anything":1}`), valid: v24 + v03 + v06 + v11 + v26},

		{name: "error", message: `{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":""}}`, valid: v24 + v03 + v06 + v11 + v26},
		{name: "error without a message", message: `{"jsonrpc":"2.0","id":1,"error":{"code":-32700}}`, invalid: v24 + v03 + v06 + v11 + v26},
		{name: "both", message: `{"jsonrpc":"2.0","id":1,"result":{},"error":{"code":1,"message":""}}`, invalid: v24 + v26},
		{name: "neither", message: `{"jsonrpc":"2.0","id":1}`, invalid: v24 + v26},
		{name: "no version", message: `{"id":1,"result":{}}`, invalid: v24 + v26},
		{name: "null ID", message: `{"jsonrpc":"2.0","id":null,"result":{}}`, invalid: v24 + v26},
		{name: "large ID", message: `{"jsonrpc":"2.0","id":123456789012345678901234567890,"result":{}}`, valid: v24 + v26},
		{name: "fraction for an ID", message: `{"jsonrpc":"2.0","id":1.5,"result":{}}`, invalid: v24 + v26},
		{name: "versions", message: `{"jsonrpc":"2.0","id":1,"error":{"code":-32022,"message":"","data":{"requested":"x","supported":[]}}}`, valid: v26},
		{name: "no versions", message: `{"jsonrpc":"2.0","id":1,"error":{"code":-32022,"message":"","data":{}}}`, valid: v11, invalid: v26},

		{name: "notification", message: `{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":1}}`, valid: v24 + v03 + v06 + v11 + v26},
		{name: "notification with an ID", message: `{"jsonrpc":"2.0","id":1,"method":"notifications/progress","params":{"progressToken":1,"progress":1}}`, invalid: v24 + v26},
		{name: "no token", message: `{"jsonrpc":"2.0","method":"notifications/progress","params":{"progress":1}}`, invalid: v24 + v03 + v06 + v11 + v26},
		{name: "params null", message: `{"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":null}`, valid: "", invalid: v24 + v26},
		{name: "no params", message: `{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`, valid: v24 + v26},
		{name: "request", message: `{"jsonrpc":"2.0","id":"x","method":"elicitation/create","params":{"message":"","requestedSchema":{"type":"object","properties":{}}}}`, valid: v06 + v11, invalid: v24 + v03 + v26},
		{name: "the other's", message: `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`, invalid: v24 + v26},
		{name: "client's", message: `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`, from: schematest.Client, valid: v24 + v03 + v06 + v11, invalid: v26},
		{name: "no such method", message: `{"jsonrpc":"2.0","method":"notifications/none"}`, invalid: v24 + v26},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			from := schematest.Server
			if tt.from != "" {
				from = tt.from
			}
			for _, revision := range schematest.Revisions {
				err := schematest.Check(revision, from, []byte(tt.message), tt.method)
				if strings.Contains(tt.valid, revision) && err != nil {
					t.Errorf("%s: %v", revision, err)
				}
				if strings.Contains(tt.invalid, revision) && err == nil {
					t.Errorf("%s: valid", revision)
				}
			}
		})
	}
}

// A failing test is one that may fail.
type failing struct {
	testing.TB
	said []string
}

func (f *failing) Errorf(format string, args ...any) {
	f.said = append(f.said, fmt.Sprintf(format, args...))
}

// TestWatch has a server break a rule in each way of sending, and in a revision that can only be known from what was said before.
func TestWatch(t *testing.T) {
	t.Parallel()
	const null = `{"jsonrpc":"2.0","id":2,"result":{"content":null}}`
	const list = `{"jsonrpc":"2.0","id":2,"result":{"tools":[{"name":"t","inputSchema":{"type":"object"},"outputSchema":{"type":"array"}}]}}`
	for name, tt := range map[string]struct {
		kind, asked, answer, want string
		modern                    bool
	}{
		"body":           {kind: "application/json", asked: "tools/call", answer: null, want: "2025-06-18"},
		"batch":          {kind: "application/json", asked: "tools/call", answer: `[{"jsonrpc":"2.0","id":2,"result":{"content":[]}}]`, want: "2025-06-18"},
		"event":          {kind: "text/event-stream", asked: "tools/call", answer: ": c\n\nid: 1\ndata: " + null + "\n\n", want: "2025-06-18"},
		"event in lines": {kind: "text/event-stream", asked: "tools/call", answer: "event: message\ndata: {\"jsonrpc\":\"2.0\",\ndata: \"id\":2,\"result\":{}}\n\n", want: "2025-06-18"},
		"list":           {kind: "application/json", asked: "tools/list", answer: list, want: "2025-06-18"},
		"stateless":      {kind: "application/json", asked: "tools/list", answer: list, want: "2026-07-28", modern: true},
		"good":           {kind: "application/json", asked: "tools/call", answer: `{"jsonrpc":"2.0","id":2,"result":{"content":[]}}`},
		"no message":     {kind: "text/plain", asked: "tools/call", answer: "forbidden"},
		"priming event":  {kind: "text/event-stream", asked: "tools/call", answer: "id: 1\ndata:\n\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := &failing{TB: t}
			session := "session of " + name
			h := schematest.Watch(f, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body := make([]byte, 1000)
				n, _ := r.Body.Read(body)
				if strings.Contains(string(body[:n]), "initialize") {
					w.Header().Set("Mcp-Session-Id", session)
					w.Header().Set("Content-Type", "application/json")
					_, _ = w.Write([]byte(`{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2025-06-18","capabilities":{},"serverInfo":{"name":"n","version":"1"}}}`))
					return
				}
				w.Header().Set("Content-Type", tt.kind)
				for i := 0; i < len(tt.answer); i += 7 {
					_, _ = w.Write([]byte(tt.answer[i:min(i+7, len(tt.answer))]))
				}
			}))
			post := func(session, body string) {
				r := httptest.NewRequest(http.MethodPost, "/mcp", strings.NewReader(body))
				if session != "" {
					r.Header.Set("Mcp-Session-Id", session)
				}
				w := httptest.NewRecorder()
				h.ServeHTTP(w, r)
				if session != "" && w.Body.String() != tt.answer {
					t.Errorf("the client got %s", w.Body)
				}
			}
			meta := ""
			if tt.modern {
				meta = `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}`
			} else {
				post("", `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}`)
			}
			post(session, `{"jsonrpc":"2.0","id":2,"method":"`+tt.asked+`","params":{`+meta+`}}`)
			switch {
			case tt.want == "" && len(f.said) > 0:
				t.Errorf("said %q", f.said)
			case tt.want != "" && (len(f.said) != 1 || !strings.Contains(f.said[0], tt.want)):
				t.Errorf("said %q, want one mention of %s", f.said, tt.want)
			}
		})
	}
}
