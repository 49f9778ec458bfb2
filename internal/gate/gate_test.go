package gate

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
)

// A page of an allowed origin may ask for any header; nobody else is told of any.
func TestPreflight(t *testing.T) {
	t.Parallel()
	const app = "https://app.example.com"
	for name, c := range map[string]struct {
		origin string
		asked  []string
		want   []string // headers that are allowed; nil: the origin is refused
	}{
		"key":             {app, []string{"content-type,x-api-key"}, []string{"content-type", "x-api-key"}},
		"tracing":         {app, []string{"baggage, traceparent, tracestate"}, []string{"baggage", "traceparent", "tracestate"}},
		"mixed case":      {app, []string{"X-API-Key, TraceParent"}, []string{"x-api-key", "traceparent"}},
		"several lines":   {app, []string{"x-a", "x-b , x-c"}, []string{"x-a", "x-b", "x-c"}},
		"parameters":      {app, []string{"mcp-param-user_id"}, []string{"mcp-param-user_id"}},
		"odd, but tokens": {app, []string{"x!#$%&'*+-.^_`|~1"}, []string{"x!#$%&'*+-.^_`|~1"}},
		"a star":          {app, []string{"*"}, []string{"*"}},
		"none":            {app, nil, []string{"mcp-session-id", "mcp-protocol-version", "last-event-id", "authorization"}},
		"many":            {app, []string{strings.Join(manyNames(), ",")}, manyNames()},
		"foreign":         {"https://evil.example", []string{"x-api-key"}, nil},
		"null":            {"null", []string{"x-api-key"}, nil},
		"own origin":      {"https://mcp.example.com", []string{"x-api-key"}, []string{"x-api-key"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := httptest.NewRequest(http.MethodOptions, "https://mcp.example.com/mcp", nil)
			r.Header.Set("Origin", c.origin)
			r.Header.Set("Access-Control-Request-Method", "DELETE")
			r.Header["Access-Control-Request-Headers"] = c.asked
			w := httptest.NewRecorder()
			if (&Gate{Origins: []string{app}}).Admit(w, r) {
				t.Fatal("a preflight was let in")
			}
			got := w.Header().Get("Access-Control-Allow-Headers")
			if c.want == nil {
				if w.Code != http.StatusForbidden || got != "" {
					t.Errorf("HTTP %d allows %q", w.Code, got)
				}
				return
			}
			allowed := strings.Split(strings.ToLower(got), ", ")
			for _, want := range c.want {
				if !slices.Contains(allowed, want) {
					t.Errorf("%q does not allow %q", got, want)
				}
			}
			if vary := strings.Join(w.Header().Values("Vary"), ", "); w.Code != http.StatusNoContent || !strings.Contains(vary, "Access-Control-Request-Headers") {
				t.Errorf("HTTP %d, Vary %q", w.Code, vary)
			}
		})
	}
}

func manyNames() (names []string) {
	for c := 'a'; c <= 'z'; c++ {
		names = append(names, "x-"+string(c))
	}
	return names
}

// What is no header is not written into one.
func TestPreflightOfWhatIsNoHeader(t *testing.T) {
	t.Parallel()
	for _, asked := range []string{"x y", "x\r\nSet-Cookie: a", "x:y", "é", `"x"`, "x/y", "x;y", ",,", " ", "x\x00"} {
		r := httptest.NewRequest(http.MethodOptions, "http://mcp.example.com/mcp", nil)
		r.Header["Access-Control-Request-Headers"] = []string{asked}
		if got := preflightHeaders(r); got != strings.Join(used, ", ") {
			t.Errorf("%q: %q", asked, got)
		}
	}
}
