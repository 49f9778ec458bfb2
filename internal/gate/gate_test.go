package gate

import (
	"context"
	"net"
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

// Who comes from no browser, or from an origin that may call, is let in; everybody else is told why not.
func TestOrigins(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		host    string
		origins []string
		want    bool
	}{
		"no browser":                   {"mcp.example.com", nil, true},
		"allowed":                      {"mcp.example.com", []string{"https://app.example.com"}, true},
		"allowed, other scheme":        {"mcp.example.com", []string{"http://app.example.com"}, false},
		"allowed, other port":          {"mcp.example.com", []string{"https://app.example.com:8443"}, false},
		"allowed, and more":            {"mcp.example.com", []string{"https://app.example.com.evil.example"}, false},
		"own":                          {"mcp.example.com", []string{"https://mcp.example.com"}, true},
		"own, other case":              {"mcp.example.com", []string{"https://MCP.example.com"}, true},
		"own, other port":              {"mcp.example.com", []string{"https://mcp.example.com:8443"}, false},
		"foreign":                      {"mcp.example.com", []string{"https://evil.example"}, false},
		"null":                         {"mcp.example.com", []string{"null"}, false},
		"empty":                        {"mcp.example.com", []string{""}, false},
		"no URL":                       {"mcp.example.com", []string{"https://%zz"}, false},
		"two, both allowed":            {"mcp.example.com", []string{"https://app.example.com", "https://app.example.com"}, false},
		"loopback calls loopback":      {"127.0.0.1:8080", []string{"http://localhost:6274"}, true},
		"loopback calls IPv6 loopback": {"[::1]:8080", []string{"http://127.0.0.1:6274"}, true},
		"loopback calls another":       {"mcp.example.com", []string{"http://localhost:6274"}, false},
		"another calls loopback":       {"localhost:8080", []string{"http://mcp.example.com"}, false},
		"named like loopback":          {"localhost:8080", []string{"http://localhost.evil.example"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := httptest.NewRequest(http.MethodPost, "http://"+c.host+"/mcp", nil)
			if c.origins != nil {
				r.Header["Origin"] = c.origins
			}
			w := httptest.NewRecorder()
			got := (&Gate{Origins: []string{"https://app.example.com"}}).Admit(w, r)
			if got != c.want {
				t.Fatalf("let in: %v", got)
			}
			if !got && w.Code != http.StatusForbidden {
				t.Errorf("refused with HTTP %d", w.Code)
			}
			// The answer depends on the origin, also when it is no: a cache must not show it to another.
			if vary := w.Header().Get("Vary"); (vary == "Origin") != (c.origins != nil) {
				t.Errorf("Vary: %q", vary)
			}
			wantShown := ""
			if c.want && c.origins != nil {
				wantShown = c.origins[0]
			}
			if shown := w.Header().Get("Access-Control-Allow-Origin"); shown != wantShown {
				t.Errorf("Access-Control-Allow-Origin: %q, want %q", shown, wantShown)
			}
		})
	}
}

// A request that arrives at a loopback address must name this machine: a page may have had its own name point here.
func TestHosts(t *testing.T) {
	t.Parallel()
	here := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 8080}
	for name, c := range map[string]struct {
		at   net.Addr // nil: no server says
		host string
		want bool
	}{
		"localhost":                {here, "localhost", true},
		"localhost, any case":      {here, "LocalHost:8080", true},
		"IPv4":                     {here, "127.0.0.1:8080", true},
		"another loopback address": {here, "127.8.9.10", true},
		"IPv6":                     {here, "[::1]:8080", true},
		"IPv6 without port":        {here, "[::1]", true},
		"rebound":                  {here, "evil.example", false},
		"rebound, with port":       {here, "evil.example:8080", false},
		"begins like localhost":    {here, "localhost.evil.example", false},
		"begins like loopback":     {here, "127.0.0.1.evil.example", false},
		"private, not loopback":    {here, "192.168.1.2", false},
		"empty":                    {here, "", false},
		"named":                    {here, "dev.test", true},
		"named, with any port":     {here, "DEV.test:1234", true},
		"named with its port":      {here, "port.test:8080", true},
		"named with another port":  {here, "port.test:8081", false},
		"at IPv6 loopback":         {&net.TCPAddr{IP: net.IPv6loopback, Port: 8080}, "evil.example", false},
		"at mapped loopback":       {addr("[::ffff:127.0.0.1]:8080"), "evil.example", false},
		"at another address":       {&net.TCPAddr{IP: net.IPv4(10, 0, 0, 7), Port: 8080}, "evil.example", true},
		"at a socket file":         {&net.UnixAddr{Net: "unix", Name: "/run/mcp"}, "evil.example", true},
		"nobody says where":        {nil, "evil.example", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := httptest.NewRequest(http.MethodGet, "http://localhost/mcp", nil)
			r.Host = c.host
			if c.at != nil {
				r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, c.at))
			}
			w := httptest.NewRecorder()
			if got := (&Gate{Hosts: []string{"dev.test", "port.test:8080"}}).Admit(w, r); got != c.want {
				t.Fatalf("let in: %v", got)
			}
			if !c.want && w.Code != http.StatusForbidden {
				t.Errorf("refused with HTTP %d", w.Code)
			}
		})
	}
}

// addr is an address that is no [net.TCPAddr].
type addr string

func (addr) Network() string  { return "test" }
func (a addr) String() string { return string(a) }

// OPTIONS is a preflight only when it asks for a method; another one is the protocol's to answer.
func TestOptionsThatIsNoPreflight(t *testing.T) {
	t.Parallel()
	r := httptest.NewRequest(http.MethodOptions, "https://mcp.example.com/mcp", nil)
	r.Header.Set("Origin", "https://mcp.example.com")
	if !(&Gate{}).Admit(httptest.NewRecorder(), r) {
		t.Error("not let in")
	}
}
