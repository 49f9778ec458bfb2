package serve_test

import (
	"cmp"
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/sluice-mcp/sluice/serve"
)

func TestAuthSettingsThatCannotWork(t *testing.T) {
	t.Parallel()
	good := serve.Auth{Issuer: "https://issuer.example", ResourceURL: "https://mcp.example.com/mcp", RateLimit: 5}
	for want, change := range map[string]func(*serve.Config){
		"--auth-issuer (MCP_AUTH_ISSUER): ":      func(c *serve.Config) { c.Auth.Issuer = "http://issuer.example" },
		"--auth-jwks-url (MCP_AUTH_JWKS_URL): ":  func(c *serve.Config) { c.Auth.JWKSURL = "keys" },
		"--auth-audience (MCP_AUTH_AUDIENCE): ":  func(c *serve.Config) { c.Auth.Audience = []string{""} },
		"--auth-scopes (MCP_AUTH_SCOPES): ":      func(c *serve.Config) { c.Auth.Scopes = []string{"a", "offline_access"} },
		"--resource-url (MCP_RESOURCE_URL): ":    func(c *serve.Config) { c.Auth.ResourceURL = "mcp.example.com" },
		"--resource-url (MCP_RESOURCE_URL): nee": func(c *serve.Config) { c.Auth.ResourceURL = "" },
		"--rate-limit (MCP_RATE_LIMIT): ":        func(c *serve.Config) { c.Auth.RateLimit = -1 },
		"--path (MCP_PATH): ":                    func(c *serve.Config) { c.Path = "/.well-known/oauth-protected-resource" },
		"--auth-issuer (MCP_AUTH_ISSUER): there": func(c *serve.Config) { c.Transport = serve.Stdio },
		// A setting without the one that it belongs to.
		"--auth-jwks-url (MCP_AUTH_JWKS_URL): has": func(c *serve.Config) { c.Auth = serve.Auth{JWKSURL: "https://issuer.example/keys"} },
		"--auth-audience (MCP_AUTH_AUDIENCE): has": func(c *serve.Config) { c.Auth = serve.Auth{Audience: []string{"a"}} },
		"--auth-scopes (MCP_AUTH_SCOPES): has":     func(c *serve.Config) { c.Auth = serve.Auth{Scopes: []string{"a"}} },
		"--resource-url (MCP_RESOURCE_URL): has":   func(c *serve.Config) { c.Auth = serve.Auth{ResourceURL: "https://mcp.example.com"} },
		"--rate-limit (MCP_RATE_LIMIT): has":       func(c *serve.Config) { c.Auth = serve.Auth{RateLimit: 1} },
	} {
		cfg := serve.Config{Auth: good}
		change(&cfg)
		if _, err := serve.New(newServer(), cfg); err == nil || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("error %v, want one that begins with %s", err, want)
		}
	}
	for _, issuer := range []string{
		"https://,", "https://a,", ",", "https://a,,https://b", "https://a,https://a", "https://a, https://a", "https://a,http://b", "https://a:99999",
		"https://a,https://b:99999", "https://a https://b", "https://a;https://b", "https://a,https://u:p@b", "https://a,https://b#c", "https://a,https://b?c", " ",
	} {
		cfg := serve.Config{Auth: good}
		cfg.Auth.Issuer = issuer
		if _, err := serve.New(newServer(), cfg); err == nil || !strings.HasPrefix(err.Error(), "--auth-issuer (MCP_AUTH_ISSUER): ") || strings.Contains(err.Error(), "\n") {
			t.Errorf("issuer %q: error %v", issuer, err)
		}
	}
	for _, urls := range []string{"https://a/keys", "https://a/keys,https://b/keys,", "https://a/keys,b"} {
		cfg := serve.Config{Auth: good}
		cfg.Auth.Issuer, cfg.Auth.JWKSURL = "https://a,https://b", urls
		if _, err := serve.New(newServer(), cfg); err == nil || !strings.HasPrefix(err.Error(), "--auth-jwks-url (MCP_AUTH_JWKS_URL): ") {
			t.Errorf("keys at %q: error %v", urls, err)
		}
	}
	for _, c := range []serve.Auth{
		{},
		{Issuer: "https://a, https://b"},
		{Issuer: "https://a,https://b,http://[::1]:9000/x", JWKSURL: ",https://b/keys , "},
		{JWKSURL: "https://issuer.example/a,b"},
	} {
		cfg := serve.Config{Auth: good}
		cfg.Auth.Issuer, cfg.Auth.JWKSURL = cmp.Or(c.Issuer, good.Issuer), c.JWKSURL
		if _, err := serve.New(newServer(), cfg); err != nil {
			t.Error(err)
		}
	}
}

func TestSeveralIssuersAreTrusted(t *testing.T) {
	t.Parallel()
	first, ofFirst := startIssuer(t)
	second, ofSecond := startIssuer(t)
	_, ofThird := startIssuer(t)
	app, err := serve.New(newServer(), serve.Config{LogLevel: "error", Auth: serve.Auth{Issuer: first + ", " + second, ResourceURL: "https://mcp.example.com/mcp"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := app.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = app.Stop() })
	for name, c := range map[string]struct {
		token  string
		status int
	}{"first": {ofFirst("alice"), 400}, "second": {ofSecond("alice"), 400}, "third": {ofThird("alice"), 401}} { // the 400 of the endpoint: no session
		req, err := http.NewRequest(http.MethodPost, app.URL(), strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"ping"}`))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Accept", "application/json, text/event-stream")
		req.Header.Set("Authorization", "Bearer "+c.token)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != c.status {
			t.Errorf("a token of the %s: HTTP %d, want %d", name, resp.StatusCode, c.status)
		}
	}
}

// startIssuer serves an authorization server with one key, and returns its URL and what signs for it.
func startIssuer(t *testing.T) (url string, token func(sub string) string) {
	t.Helper()
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	mux.HandleFunc("/.well-known/oauth-authorization-server", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q}`, server.URL, server.URL+"/keys")
	})
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"keys":[{"kty":"OKP","crv":"Ed25519","x":%q}]}`, base64.RawURLEncoding.EncodeToString(key.Public().(ed25519.PublicKey)))
	})
	return server.URL, func(sub string) string {
		signed, err := jwt.NewWithClaims(jwt.SigningMethodEdDSA, jwt.MapClaims{
			"iss": server.URL, "sub": sub, "aud": "https://mcp.example.com/mcp", "exp": time.Now().Add(time.Minute).Unix(), "scope": "a b",
		}).SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return signed
	}
}

func TestAuthGuardsEveryEndpoint(t *testing.T) {
	t.Parallel()
	issuer, token := startIssuer(t)
	app, err := serve.New(newServer(), serve.Config{HTTPSSE: true, LogLevel: "error", Auth: serve.Auth{
		Issuer: issuer, ResourceURL: "https://mcp.example.com/mcp", Scopes: []string{"a b"}, RateLimit: 0.01,
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := app.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = app.Stop() })
	base := strings.TrimSuffix(app.URL(), "/mcp")

	ask := func(method, path, user string, host ...string) (status int, header http.Header, body string) {
		t.Helper()
		req, err := http.NewRequest(method, base+path, strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"ping"}`))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Accept", "application/json, text/event-stream")
		if user != "" {
			req.Header.Set("Authorization", "Bearer "+token(user))
		}
		if len(host) > 0 {
			req.Host = host[0]
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, resp.Header, string(text)
	}
	for _, e := range []struct{ method, path string }{
		{"POST", "/mcp"}, {"GET", "/mcp"}, {"DELETE", "/mcp"}, {"GET", "/sse"}, {"POST", "/messages"},
	} {
		status, header, _ := ask(e.method, e.path, "")
		want := `Bearer scope="a b", resource_metadata="https://mcp.example.com/.well-known/oauth-protected-resource/mcp"`
		if got := header.Get("WWW-Authenticate"); status != http.StatusUnauthorized || got != want {
			t.Errorf("%s %s: HTTP %d, %s", e.method, e.path, status, got)
		}
	}
	for _, path := range []string{"/healthz", "/readyz", "/.well-known/oauth-protected-resource", "/.well-known/oauth-protected-resource/mcp"} {
		if status, _, _ := ask("GET", path, ""); status != http.StatusOK {
			t.Errorf("%s: HTTP %d", path, status)
		}
	}
	// The endpoint itself, which lacks a session here; also under the name that a proxy on this machine passes on.
	for _, host := range []string{"localhost", "mcp.example.com"} {
		if status, _, body := ask("POST", "/mcp", "alice", host); status != http.StatusBadRequest {
			t.Errorf("%s: HTTP %d %s", host, status, body)
		}
	}
	if status, _, body := ask("POST", "/mcp", "alice", "evil.example"); status != http.StatusForbidden {
		t.Errorf("another name: HTTP %d %s", status, body)
	}
	for n := range 10 {
		if status, _, _ := ask("POST", "/mcp", "bob"); status == http.StatusTooManyRequests {
			t.Fatalf("request %d: HTTP 429", n)
		}
	}
	if status, _, body := ask("POST", "/mcp", "bob"); status != http.StatusTooManyRequests {
		t.Errorf("the eleventh at once: HTTP %d %s", status, body)
	}
}
