package auth_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice"
	"github.com/sluice-mcp/sluice/auth"
	"github.com/sluice-mcp/sluice/internal/schematest"
	"github.com/sluice-mcp/sluice/observe"
)

// An endpoint is a real one, with the tools whoami, delete (which needs two scopes of its own) and
// speak (which needs one, and comes as a stream), behind an Auth.
type endpoint struct {
	*issuer
	url string
}

func startEndpoint(t *testing.T, change func(*auth.Config), wrap func(http.Handler) http.Handler) endpoint {
	t.Helper()
	server := mcp.NewServer(&mcp.Implementation{Name: "test", Version: "v1"}, nil)
	tool := func(name string, f func(context.Context, *mcp.CallToolRequest)) {
		mcp.AddTool(server, &mcp.Tool{Name: name}, func(ctx context.Context, req *mcp.CallToolRequest, _ struct{}) (*mcp.CallToolResult, any, error) {
			f(ctx, req)
			return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: req.Extra.TokenInfo.UserID}}}, nil, nil
		})
	}
	tool("whoami", func(context.Context, *mcp.CallToolRequest) {})
	tool("delete", func(context.Context, *mcp.CallToolRequest) {})
	tool("speak", func(ctx context.Context, req *mcp.CallToolRequest) {
		_ = req.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{ProgressToken: req.Params.GetProgressToken(), Progress: 1})
	})
	server.AddReceivingMiddleware(auth.RequireScopes(map[string][]string{"delete": {"files:write", "files:delete"}, "speak": {"voice"}}))
	handler := sluice.NewHandler(func(*http.Request) *mcp.Server { return server }, nil)

	i := startIssuer(t)
	cfg := auth.Config{Resource: resource, Issuer: i.url, Scopes: []string{"mcp"}}
	if change != nil {
		change(&cfg)
	}
	a, err := auth.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	inner := schematest.Watch(t, handler)
	if wrap != nil {
		inner = wrap(inner)
	}
	web := httptest.NewServer(a.Protect(inner))
	t.Cleanup(func() {
		handler.Close()
		web.Close()
	})
	return endpoint{i, web.URL + "/mcp"}
}

func (e endpoint) request(t *testing.T, method, token, session, body string, header ...string) *http.Request {
	t.Helper()
	req, err := http.NewRequest(method, e.url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if session != "" {
		req.Header.Set("Mcp-Session-Id", session)
		req.Header.Set("Mcp-Protocol-Version", "2025-11-25")
	}
	for n := 0; n < len(header); n += 2 {
		req.Header.Set(header[n], header[n+1])
	}
	return req
}

// open begins a session of a revision.
func (e endpoint) open(t *testing.T, token, revision string) string {
	t.Helper()
	got := send(t, e.request(t, "POST", token, "", fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{
		"protocolVersion":%q,"capabilities":{},"clientInfo":{"name":"test","version":"v1"}}}`, revision)))
	id := got.header.Get("Mcp-Session-Id")
	if got.status != 200 || id == "" {
		t.Fatalf("initialize: %d %s", got.status, got.body)
	}
	if got := send(t, e.request(t, "POST", token, id, `{"jsonrpc":"2.0","method":"notifications/initialized"}`, "Mcp-Protocol-Version", revision)); got.status != 202 {
		t.Fatalf("initialized: %d %s", got.status, got.body)
	}
	return id
}

func call(tool string) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":%q,"arguments":{},"_meta":{"progressToken":"p"}}}`, tool)
}

// call26 is a call of revision 2026-07-28.
func (e endpoint) call26(t *testing.T, token, tool string) answer {
	t.Helper()
	const prefix = "io.modelcontextprotocol/"
	body := fmt.Sprintf(`{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":%q,"arguments":{},"_meta":{"progressToken":"p",
		%q:"2026-07-28",%q:{},%q:{"name":"test","version":"v1"}}}}`, tool, prefix+"protocolVersion", prefix+"clientCapabilities", prefix+"clientInfo")
	return send(t, e.request(t, "POST", token, "", body, "Mcp-Protocol-Version", "2026-07-28", "Mcp-Method", "tools/call", "Mcp-Name", tool))
}

func TestA11S01ASessionIsNoToken(t *testing.T) {
	t.Parallel()
	e := startEndpoint(t, nil, nil)
	alice := e.token()
	session := e.open(t, alice, "2025-11-25")
	for _, method := range []string{"POST", "GET", "DELETE"} {
		send(t, e.request(t, method, "", session, call("whoami"))).refused(t, 401, "")
		expired := e.token(object{"exp": 1})
		send(t, e.request(t, method, expired, session, call("whoami"))).refused(t, 401, "invalid_token")
		send(t, e.request(t, method, e.token(object{"scope": "x"}), session, call("whoami"))).refused(t, 403, "insufficient_scope")
	}
	// Not even after a request that was in order, and that on the same connection.
	if got := send(t, e.request(t, "POST", alice, session, call("whoami"))); got.status != 200 || !strings.Contains(got.body, e.issuer.url+"#alice") {
		t.Errorf("alice in her session: %d %s", got.status, got.body)
	}
	send(t, e.request(t, "POST", "", session, call("whoami"))).refused(t, 401, "")
}

func TestS02ASessionIsItsUsers(t *testing.T) {
	t.Parallel()
	e := startEndpoint(t, nil, nil)
	alice, bob := e.token(), e.token(object{"sub": "bob"})
	session := e.open(t, alice, "2025-11-25")

	// A stream of alice's, with an event ID to resume it with.
	resp, err := http.DefaultClient.Do(e.request(t, "POST", alice, session, call("speak"), "Authorization", "Bearer "+e.token(object{"scope": "mcp voice"})))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	event := ""
	for lines := bufio.NewScanner(resp.Body); lines.Scan() && event == ""; {
		event, _ = strings.CutPrefix(lines.Text(), "id: ")
	}
	if event == "" {
		t.Fatal("no event ID")
	}

	for name, token := range map[string]string{
		"bob": bob, "Alice": e.token(object{"sub": "Alice"}), "alice#": e.token(object{"sub": "alice#"}),
	} {
		for what, req := range map[string]*http.Request{
			"POST":         e.request(t, "POST", token, session, call("whoami")),
			"notification": e.request(t, "POST", token, session, `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}`),
			"GET":          e.request(t, "GET", token, session, ""),
			"resume":       e.request(t, "GET", token, session, "", "Last-Event-ID", event),
			"DELETE":       e.request(t, "DELETE", token, session, ""),
		} {
			if got := send(t, req); got.status != 404 {
				t.Errorf("%s with alice's session: %s is HTTP %d", name, what, got.status)
			}
		}
	}
	// Her next token is as good as her first.
	if got := send(t, e.request(t, "POST", e.token(object{"jti": "2"}), session, call("whoami"))); got.status != 200 {
		t.Errorf("alice afterwards: %d %s", got.status, got.body)
	}
	if got := send(t, e.request(t, "DELETE", alice, session, "")); got.status/100 != 2 {
		t.Errorf("alice ends her session: %d %s", got.status, got.body)
	}
}

func TestA06A07ToolsWithScopesOfTheirOwn(t *testing.T) {
	t.Parallel()
	e := startEndpoint(t, func(c *auth.Config) { c.Implies = map[string][]string{"files": {"files:write", "files:delete"}} }, nil)
	low, one := e.token(), e.token(object{"scope": "mcp files:write"})
	high, broad := e.token(object{"scope": "mcp files:delete files:write"}), e.token(object{"scope": "files mcp"})

	check := func(revision string, call func(token, tool string) answer) {
		t.Helper()
		for _, token := range []string{low, one} {
			got := call(token, "delete")
			var body struct {
				ID    int
				Error struct {
					Code    int
					Message string
					Data    struct{ Scopes []string }
				}
			}
			if err := json.Unmarshal([]byte(got.body), &body); err != nil || body.ID != 7 || body.Error.Code != -31013 || len(body.Error.Data.Scopes) != 2 {
				t.Errorf("%s: %s %v", revision, got.body, err)
			}
			if revision == "2025-03-26" {
				if got.status != 200 || got.challenge != nil {
					t.Errorf("%s: HTTP %d %v", revision, got.status, got.challenge)
				}
				continue
			}
			got.refused(t, 403, "insufficient_scope")
			if scope := got.challenge["scope"]; scope != "files:delete files:write mcp" {
				t.Errorf("%s: the challenge asks for %q", revision, scope)
			}
		}
		for _, token := range []string{high, broad} {
			if got := call(token, "delete"); got.status != 200 || !strings.Contains(got.body, "#alice") {
				t.Errorf("%s with the scopes: %d %s", revision, got.status, got.body)
			}
		}
		if got := call(low, "whoami"); got.status != 200 {
			t.Errorf("%s, another tool: %d %s", revision, got.status, got.body)
		}
	}
	for _, revision := range []string{"2025-03-26", "2025-06-18", "2025-11-25"} {
		session := e.open(t, low, revision)
		check(revision, func(token, tool string) answer {
			return send(t, e.request(t, "POST", token, session, call(tool), "Mcp-Protocol-Version", revision))
		})
	}
	check("2026-07-28", func(token, tool string) answer { return e.call26(t, token, tool) })

	// One call of a batch does not decide about the others.
	session := e.open(t, low, "2025-03-26")
	got := send(t, e.request(t, "POST", low, session, "["+call("delete")+`,{"jsonrpc":"2.0","id":8,"method":"ping"}]`, "Mcp-Protocol-Version", "2025-03-26"))
	if got.status != 200 || !strings.Contains(got.body, `"id":8,"result"`) || !strings.Contains(got.body, "-31013") {
		t.Errorf("batch: %d %s", got.status, got.body)
	}
}

func TestAToolWithScopesNeedsAToken(t *testing.T) {
	t.Parallel()
	server := mcp.NewServer(&mcp.Implementation{Name: "test", Version: "v1"}, nil)
	mcp.AddTool(server, &mcp.Tool{Name: "delete"}, func(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, any, error) {
		t.Error("called")
		return nil, nil, nil
	})
	server.AddReceivingMiddleware(auth.RequireScopes(map[string][]string{"delete": {"x"}}))
	here, there := mcp.NewInMemoryTransports()
	if _, err := server.Connect(t.Context(), here, nil); err != nil {
		t.Fatal(err)
	}
	client, err := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "v1"}, nil).Connect(t.Context(), there, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := client.CallTool(t.Context(), &mcp.CallToolParams{Name: "delete"}); err == nil || !strings.Contains(err.Error(), "needs x") {
		t.Errorf("error %v", err)
	}
}

// Streams have to pass through what stands before the endpoint.
func TestStreamsPass(t *testing.T) {
	t.Parallel()
	e := startEndpoint(t, nil, nil)
	if got := e.call26(t, e.token(object{"scope": "mcp voice"}), "speak"); got.status != 200 || got.header.Get("Content-Type") != "text/event-stream" ||
		!strings.Contains(got.body, "notifications/progress") || !strings.Contains(got.body, "#alice") {
		t.Errorf("%d %v %s", got.status, got.header, got.body)
	}
	e.call26(t, e.token(), "speak").refused(t, 403, "insufficient_scope")
}

// refusals are what an observer is told of what is turned away.
type refusals struct {
	mu      sync.Mutex
	reasons []observe.RefuseReason
}

func (*refusals) Call(ctx context.Context, _ observe.Call) (context.Context, func(observe.End)) {
	return ctx, nil
}

func (*refusals) Ask(context.Context, observe.Ask) (observe.Trace, func(observe.End)) {
	return observe.Trace{}, nil
}

func (o *refusals) Event(_ context.Context, e observe.Event) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if e, ok := e.(observe.Refused); ok {
		o.reasons = append(o.reasons, e.Reason)
	}
}

func TestRefusalsAreObserved(t *testing.T) {
	t.Parallel()
	o := &refusals{}
	limit, err := auth.RateLimit(0.1, 1, o)
	if err != nil {
		t.Fatal(err)
	}
	e := startEndpoint(t, func(c *auth.Config) { c.Observer = o }, limit)
	ask(t, "POST", e.url).refused(t, 401, "")
	e.call26(t, e.token(object{"scope": ""}), "whoami").refused(t, 403, "insufficient_scope")
	e.call26(t, e.token(), "whoami")
	if got := e.call26(t, e.token(), "whoami"); got.status != 429 {
		t.Errorf("HTTP %d", got.status)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if want := []observe.RefuseReason{observe.RefusedUnauthorized, observe.RefusedScope, observe.RefusedRate}; !slices.Equal(o.reasons, want) {
		t.Errorf("told of %v, want %v", o.reasons, want)
	}
}

func TestS08EachUserHasALimit(t *testing.T) {
	t.Parallel()
	limit, err := auth.RateLimit(0.01, 5)
	if err != nil {
		t.Fatal(err)
	}
	e := startEndpoint(t, nil, limit)
	for n := range 8 {
		got := e.call26(t, e.token(), "whoami")
		if n < 5 {
			if got.status != 200 {
				t.Errorf("call %d: %d %s", n, got.status, got.body)
			}
			continue
		}
		// A hundred seconds, less what a busy machine has taken.
		if after, err := strconv.Atoi(got.header.Get("Retry-After")); got.status != 429 || err != nil || after > 100 || after < 50 || !strings.Contains(got.body, "-31010") {
			t.Errorf("call %d: HTTP %d, Retry-After %q", n, got.status, got.header.Get("Retry-After"))
		}
		got.isError(t)
	}
	if got := e.call26(t, e.token(object{"sub": "bob"}), "whoami"); got.status != 200 {
		t.Errorf("bob: %d %s", got.status, got.body)
	}
	// Who has no token has no share, and costs nobody's.
	for range 10 {
		ask(t, "POST", e.url).refused(t, 401, "")
		if got := send(t, e.request(t, "OPTIONS", "", "", "", "Origin", strings.TrimSuffix(e.url, "/mcp"), "Access-Control-Request-Method", "POST")); got.status != 204 {
			t.Errorf("preflight: HTTP %d %s", got.status, got.body)
		}
	}
}
