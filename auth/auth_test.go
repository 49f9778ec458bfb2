package auth_test

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	sdk "github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/oauthex"

	"github.com/sluice-mcp/sluice/auth"
)

// guarded serves a handler that answers with the user's ID and scopes, behind an Auth.
func guarded(t *testing.T, i *issuer, change func(*auth.Config)) (*auth.Auth, *httptest.Server) {
	t.Helper()
	cfg := auth.Config{Resource: resource, Issuer: i.url, Scopes: []string{"mcp"}}
	if change != nil {
		change(&cfg)
	}
	a, err := auth.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(a.Protect(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		info := sdk.TokenInfoFromContext(r.Context())
		if info == nil {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		_, _ = io.WriteString(w, info.UserID+" "+strings.Join(info.Scopes, ","))
	})))
	t.Cleanup(server.Close)
	return a, server
}

type answer struct {
	status    int
	header    http.Header
	body      string
	challenge map[string]string // nil if there is none
}

// ask sends a request with these Authorization headers.
func ask(t *testing.T, method, url string, authorization ...string) answer {
	t.Helper()
	req, err := http.NewRequest(method, url, strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"ping"}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header["Authorization"] = authorization
	return send(t, req)
}

func send(t *testing.T, req *http.Request) answer {
	t.Helper()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	a := answer{status: resp.StatusCode, header: resp.Header, body: string(body)}
	if values := resp.Header["Www-Authenticate"]; len(values) > 0 {
		challenges, err := oauthex.ParseWWWAuthenticate(values)
		if err != nil || len(challenges) != 1 || challenges[0].Scheme != "bearer" {
			t.Fatalf("challenge %q: %v", values, err)
		}
		a.challenge = challenges[0].Params
	}
	return a
}

// refused checks all that every refusal has: status, error code, a whole challenge, a JSON-RPC error.
func (a answer) refused(t *testing.T, status int, code string) {
	t.Helper()
	if a.status != status {
		t.Errorf("HTTP %d, want %d: %s", a.status, status, a.body)
	}
	if a.challenge == nil {
		t.Fatal("no challenge")
	}
	if got, ok := a.challenge["error"]; got != code || ok != (code != "") {
		t.Errorf("error %q, want %q", got, code)
	}
	if got := a.challenge["resource_metadata"]; got != "https://mcp.example.com/.well-known/oauth-protected-resource/mcp" {
		t.Errorf("resource_metadata %q", got)
	}
	if (a.challenge["error_description"] != "") != (code != "") {
		t.Errorf("error_description %q beside error %q", a.challenge["error_description"], code)
	}
	a.isError(t)
}

func (a answer) isError(t *testing.T) {
	t.Helper()
	var body struct {
		JSONRPC string `json:"jsonrpc"`
		Error   struct {
			Code    int
			Message string
		}
	}
	if err := json.Unmarshal([]byte(a.body), &body); err != nil || body.JSONRPC != "2.0" || body.Error.Message == "" ||
		body.Error.Code != -31013 && body.Error.Code != -31010 {
		t.Errorf("the body is no JSON-RPC error of ours: %q %v", a.body, err)
	}
	if got := a.header.Get("Content-Type"); got != "application/json" {
		t.Errorf("Content-Type %q", got)
	}
}

func TestA01ARequestNeedsAToken(t *testing.T) {
	t.Parallel()
	i := startIssuer(t)
	_, server := guarded(t, i, nil)
	for _, method := range []string{"POST", "GET", "DELETE", "OPTIONS"} {
		ask(t, method, server.URL).refused(t, 401, "")
		ask(t, method, server.URL, "Bearer bogus").refused(t, 401, "invalid_token")
		ask(t, method, server.URL, "Bearer "+i.token(object{"exp": time.Now().Add(-time.Minute).Unix()})).refused(t, 401, "invalid_token")
		if got := ask(t, method, server.URL, "Bearer "+i.token()); got.status != 200 || got.body != i.url+"#alice mcp" {
			t.Errorf("%s with a good token: %d %q", method, got.status, got.body)
		}
	}
}

func TestA01APreflightNeedsNone(t *testing.T) {
	t.Parallel()
	_, server := guarded(t, startIssuer(t), nil)
	req, err := http.NewRequest(http.MethodOptions, server.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Origin", "https://app.example.com")
	req.Header.Set("Access-Control-Request-Method", "POST")
	if got := send(t, req); got.status != http.StatusNoContent {
		t.Errorf("preflight: HTTP %d", got.status)
	}
	// Nothing else is a preflight request, whatever it says.
	for _, method := range []string{"POST", "GET", "HEAD", "DELETE", "options"} {
		other := req.Clone(t.Context())
		other.Method = method
		if got := send(t, other); got.status != http.StatusUnauthorized {
			t.Errorf("%s in the guise of a preflight: HTTP %d", method, got.status)
		}
	}
	// A browser must be able to read why it was refused.
	req.Header.Del("Access-Control-Request-Method")
	got := send(t, req)
	got.refused(t, 401, "")
	if got.header.Get("Access-Control-Allow-Origin") != "*" || !strings.Contains(got.header.Get("Access-Control-Expose-Headers"), "WWW-Authenticate") {
		t.Errorf("a page cannot read the challenge: %v", got.header)
	}
}

func TestA04TheChallengeNamesTheScopes(t *testing.T) {
	t.Parallel()
	i := startIssuer(t)
	_, server := guarded(t, i, func(c *auth.Config) { c.Scopes = []string{"write", "read"} })
	for _, token := range []string{"", "Bearer x"} {
		if got := ask(t, "POST", server.URL, token).challenge["scope"]; got != "read write" {
			t.Errorf("scope %q", got)
		}
	}
	_, server = guarded(t, i, func(c *auth.Config) { c.Scopes = nil })
	if got, ok := ask(t, "POST", server.URL).challenge["scope"]; ok {
		t.Errorf("scope %q, though none is needed", got)
	}
}

func TestA06A07InsufficientScope(t *testing.T) {
	t.Parallel()
	i := startIssuer(t)
	_, server := guarded(t, i, func(c *auth.Config) {
		c.Scopes = []string{"files:read", "files:list"}
		c.Implies = map[string][]string{"admin": {"files"}, "files": {"files:read", "files:list", "files"}}
	})
	for _, scope := range []any{"", nil, "files:read", "files:list", "FILES", "files:read,files:list", "filesx"} {
		got := ask(t, "POST", server.URL, "Bearer "+i.token(object{"scope": scope}))
		got.refused(t, 403, "insufficient_scope")
		if need := got.challenge["scope"]; need != "files:list files:read" {
			t.Errorf("token with %v: the challenge asks for %q", scope, need)
		}
	}
	for _, claims := range []object{
		{"scope": "files:list files:read"},
		{"scope": "other  files:read files:list"},
		{"scope": "files"},
		{"scope": "admin"},
		{"scope": []string{"files:list", "files:read"}},
		{"scope": nil, "scp": "files:list files:read"},
		{"scope": nil, "scp": []string{"files"}},
		{"scope": "files:read", "scp": "files:list"},
	} {
		if got := ask(t, "POST", server.URL, "Bearer "+i.token(claims)); got.status != 200 {
			t.Errorf("token with %v: HTTP %d %v", claims, got.status, got.challenge)
		}
	}
}

func TestA08Audience(t *testing.T) {
	t.Parallel()
	i := startIssuer(t)
	_, server := guarded(t, i, nil)
	for _, aud := range []any{
		nil, "",
		[]string{},
		"https://other.example.com/mcp",
		[]string{"https://other.example.com/mcp"},
		"https://mcp.example.com",
		"https://mcp.example.com/mcp/", "https://mcp.example.com/MCP", "http://mcp.example.com/mcp", "https://mcp.example.com/mcp?x",
		"https://mcp.example.com/mcp https://other.example.com", "mcp.example.com/mcp", "https://mcp.example.com.evil/mcp",
	} {
		ask(t, "POST", server.URL, "Bearer "+i.token(object{"aud": aud})).refused(t, 401, "invalid_token")
	}
	for _, aud := range []any{
		resource, []string{resource}, []string{"https://other.example.com", resource}, "HTTPS://MCP.Example.com/mcp", "https://mcp.example.com:443/mcp",
	} {
		if got := ask(t, "POST", server.URL, "Bearer "+i.token(object{"aud": aud})); got.status != 200 {
			t.Errorf("aud %v: HTTP %d %v", aud, got.status, got.challenge)
		}
	}
	_, server = guarded(t, i, func(c *auth.Config) { c.Audience = []string{"api://mcp", "client-7"} })
	for aud, status := range map[string]int{"api://mcp": 200, "client-7": 200, "Client-7": 401, resource: 401} {
		if got := ask(t, "POST", server.URL, "Bearer "+i.token(object{"aud": aud})); got.status != status {
			t.Errorf("aud %v: HTTP %d, want %d", aud, got.status, status)
		}
	}
}

func TestA09WhatIsTrusted(t *testing.T) {
	t.Parallel()
	i := startIssuer(t)
	_, server := guarded(t, i, nil)
	foreign := newKey()
	public := must(x509.MarshalPKIXPublicKey(rsaKey().Public()))
	publicPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})
	good := i.token()
	parts := strings.Split(good, ".")
	alter := func(n int, s string) string {
		p := slices.Clone(parts)
		p[n] = s
		return strings.Join(p, ".")
	}
	encode := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	now := time.Now()

	i.publish(object{"kid": "rsa", "key": rsaKey()}, object{"kid": "ec", "key": ecKey(), "alg": "ES256"}, object{"kid": "ed", "key": edKey()},
		object{"kid": "secret", "key": []byte("0123456789abcdef0123456789abcdef")}, object{"kid": "enc", "key": rsaKey(), "use": "enc"},
		object{"kid": "pinned", "key": rsaKey(), "alg": "RS256"})

	for _, c := range []struct {
		name, token string
		status      int
	}{
		{"ES256", good, 200},
		{"RS256", sign(jwt.SigningMethodRS256, rsaKey(), object{"kid": "rsa"}, i.claims()), 200},
		{"PS256", sign(jwt.SigningMethodPS256, rsaKey(), object{"kid": "rsa"}, i.claims()), 200},
		{"EdDSA", sign(jwt.SigningMethodEdDSA, edKey(), object{"kid": "ed"}, i.claims()), 200},
		{"no key ID", sign(jwt.SigningMethodRS256, rsaKey(), nil, i.claims()), 200},
		{"no key ID and a foreign key", sign(jwt.SigningMethodRS256, foreign, nil, i.claims()), 401},
		{"a foreign key under a known ID", sign(jwt.SigningMethodRS256, foreign, object{"kid": "rsa"}, i.claims()), 401},
		{"an unknown key ID", sign(jwt.SigningMethodRS256, foreign, object{"kid": "new"}, i.claims()), 401},
		{"a key ID that is no string", sign(jwt.SigningMethodRS256, rsaKey(), object{"kid": 7}, i.claims()), 401},
		{"a key in the header", sign(jwt.SigningMethodRS256, foreign, object{"jwk": object{"kty": "RSA"}, "jku": "https://evil.example/keys"}, i.claims()), 401},
		{"alg none", sign(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, object{"kid": "rsa"}, i.claims()), 401},
		{"alg None", alter(0, encode(`{"alg":"None","kid":"ec"}`)), 401},
		{"alg none and the good signature", alter(0, encode(`{"alg":"none","kid":"ec"}`)), 401},
		{"no alg", alter(0, encode(`{"kid":"ec"}`)), 401},
		{"HS256 with the public key in PEM", sign(jwt.SigningMethodHS256, publicPEM, object{"kid": "rsa"}, i.claims()), 401},
		{"HS256 with the public key in DER", sign(jwt.SigningMethodHS256, public, object{"kid": "rsa"}, i.claims()), 401},
		{"HS256 with a published secret", sign(jwt.SigningMethodHS256, []byte("0123456789abcdef0123456789abcdef"), object{"kid": "secret"}, i.claims()), 401},
		{"an algorithm that is not the key's", sign(jwt.SigningMethodRS512, rsaKey(), object{"kid": "pinned"}, i.claims()), 401},
		{"a key that is not for signatures", sign(jwt.SigningMethodRS256, rsaKey(), object{"kid": "enc"}, i.claims()), 401},
		{"critical extensions", sign(jwt.SigningMethodES256, ecKey(), object{"kid": "ec", "crit": []string{"exp"}}, i.claims()), 401},
		{"no signature", parts[0] + "." + parts[1] + ".", 401},
		{"another signature", alter(2, encode(strings.Repeat("x", 64))), 401},
		{"other claims", alter(1, encode(`{"sub":"bob"}`)), 401},
		{"another spelling of the signature", respell(good), 401},
		{"two parts", parts[0] + "." + parts[1], 401},
		{"four parts", good + ".x", 401},
		{"five parts, as encrypted ones have", good + ".x.y", 401},
		{"claims that are no object", alter(1, encode(`[]`)), 401},
		{"only dots", "..", 401},
		{"long", strings.Repeat("a", 20_000) + "." + parts[1] + "." + parts[2], 401},

		{"another issuer", i.token(object{"iss": "https://evil.example"}), 401},
		{"an issuer with a slash more", i.token(object{"iss": i.url + "/"}), 401},
		{"no issuer", i.token(object{"iss": nil}), 401},
		{"no subject", i.token(object{"sub": nil}), 401},
		{"no expiry", i.token(object{"exp": nil}), 401},
		{"an expiry that is no number", i.token(object{"exp": "tomorrow"}), 401},
		{"expiry zero", i.token(object{"exp": 0}), 401},
		{"expired", i.token(object{"exp": now.Add(-time.Minute).Unix()}), 401},
		{"not valid yet", i.token(object{"nbf": now.Add(time.Minute).Unix()}), 401},
		{"valid since a while", i.token(object{"nbf": now.Add(-time.Minute).Unix()}), 200},
		{"a not-before that is no number", i.token(object{"nbf": object{}}), 401},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got := ask(t, "POST", server.URL, "Bearer "+c.token)
			if c.status == 200 && got.status != 200 {
				t.Errorf("HTTP %d %v", got.status, got.challenge)
			} else if c.status != 200 {
				got.refused(t, c.status, "invalid_token")
			}
		})
	}
}

// respell changes bits at the end of a token that mean nothing: a signature of 64 bytes leaves four.
func respell(token string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := len(token) - 1
	return token[:last] + string(alphabet[strings.IndexByte(alphabet, token[last])|1])
}

func TestA10ATokenInTheQueryOrBodyIsNone(t *testing.T) {
	t.Parallel()
	i := startIssuer(t)
	_, server := guarded(t, i, nil)
	ask(t, "POST", server.URL+"?access_token="+i.token()).refused(t, 401, "")
	ask(t, "GET", server.URL+"?access_token="+i.token()).refused(t, 401, "")
	ask(t, "POST", server.URL+"?access_token="+i.token(), "Bearer x").refused(t, 400, "invalid_request")
	ask(t, "POST", server.URL+"?access_token=x", "Bearer "+i.token()).refused(t, 400, "invalid_request")

	req, err := http.NewRequest(http.MethodPost, server.URL, strings.NewReader("access_token="+i.token()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	send(t, req).refused(t, 401, "")
}

func TestA12A16TheAuthorizationHeader(t *testing.T) {
	t.Parallel()
	i := startIssuer(t)
	_, server := guarded(t, i, nil)
	good := i.token()
	for _, c := range []struct {
		header []string
		status int
		code   string
	}{
		{[]string{"Basic YWxpY2U6eA=="}, 401, ""},
		{[]string{"DPoP " + good}, 401, ""},
		{[]string{good}, 401, ""},
		{[]string{""}, 401, ""},
		{[]string{"Bearer"}, 401, ""},
		{[]string{"Bearer   "}, 401, ""},
		{[]string{"Bearer=" + good}, 401, ""},
		{[]string{`Bearer "` + good + `"`}, 401, "invalid_token"},
		{[]string{"Bearer " + good + " " + good}, 400, "invalid_request"},
		{[]string{"Bearer " + good + ", Bearer " + good}, 400, "invalid_request"},
		{[]string{"Bearer " + good, "Bearer " + good}, 400, "invalid_request"},
		{[]string{"Bearer " + good, "Basic x"}, 400, "invalid_request"},
		{[]string{"Bearer " + good, ""}, 400, "invalid_request"},
		{[]string{"bearer " + good}, 200, ""},
		{[]string{"BEARER " + good}, 200, ""},
		{[]string{"bEaReR    " + good}, 200, ""},
	} {
		if got := ask(t, "POST", server.URL, c.header...); c.status != 200 {
			got.refused(t, c.status, c.code)
		} else if got.status != 200 {
			t.Errorf("%.12q: HTTP %d %v", c.header, got.status, got.challenge)
		}
	}
}

func TestA13OfflineAccessIsNotAsked(t *testing.T) {
	t.Parallel()
	_, err := auth.New(auth.Config{Resource: resource, Issuer: "https://issuer.example", Scopes: []string{"mcp", "offline_access"}})
	if err == nil || !strings.Contains(err.Error(), "offline_access") {
		t.Errorf("error %v", err)
	}
}

func TestNewRefusesWhatCannotWork(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*auth.Config){
		"Resource":          func(c *auth.Config) { c.Resource = "" },
		"Resource ":         func(c *auth.Config) { c.Resource = "mcp.example.com" },
		"Resource  ":        func(c *auth.Config) { c.Resource = "https://mcp.example.com#x" },
		"Resource?":         func(c *auth.Config) { c.Resource = "https://mcp.example.com/?x=1" },
		"Resource\"":        func(c *auth.Config) { c.Resource = `https://mcp.example.com/"` },
		"Issuer":            func(c *auth.Config) { c.Issuer = "" },
		"Issuer http":       func(c *auth.Config) { c.Issuer = "http://issuer.example" },
		"Issuer localhost":  func(c *auth.Config) { c.Issuer = "http://localhost.evil.example" },
		"Issuer user":       func(c *auth.Config) { c.Issuer = "https://u:p@issuer.example" },
		"JWKSURL":           func(c *auth.Config) { c.JWKSURL = "file:///etc/passwd" },
		"JWKSURL http":      func(c *auth.Config) { c.JWKSURL = "http://192.0.2.1/keys" },
		"JWKSURL of more":   func(c *auth.Config) { c.Issuers = []auth.Issuer{{URL: "https://b", JWKSURL: "keys"}} },
		"Issuer twice":      func(c *auth.Config) { c.Issuers = []auth.Issuer{{URL: c.Issuer}} },
		"Issuer twice more": func(c *auth.Config) { c.Issuers = []auth.Issuer{{URL: "https://b"}, {URL: "https://b"}} },
		"Issuer empty":      func(c *auth.Config) { c.Issuers = []auth.Issuer{{}} },
		"Issuer none": func(c *auth.Config) {
			c.Issuer, c.JWKSURL, c.Issuers = "", "https://a/keys", []auth.Issuer{{URL: "https://b"}}
		},
		"Audience":     func(c *auth.Config) { c.Audience = []string{"a", ""} },
		"Scopes":       func(c *auth.Config) { c.Scopes = []string{"a b"} },
		"Scopes quote": func(c *auth.Config) { c.Scopes = []string{`a"b`} },
		"Scopes empty": func(c *auth.Config) { c.Scopes = []string{""} },
	} {
		cfg := auth.Config{Resource: resource, Issuer: "https://issuer.example"}
		change(&cfg)
		_, err := auth.New(cfg)
		if bad, ok := errors.AsType[*auth.ConfigError](err); !ok || !strings.HasPrefix(name, bad.Field) {
			t.Errorf("%s: error %v", name, err)
		}
	}
	for _, bad := range []string{
		"https://a,https://b", "https://a, https://b", "https://", "https://,", "https://a:99999", "https://a:0", "https://a:", "https://a:x", "https://:443",
		"https://a#", "https://a#b", "https://a?", "https://a?b=c", "https://u@a", "https://a b", "https://a\t", "https://a/b c", " https://a", "https://a\n",
		"https://a..b", "https://.", "https://*", "https://*.example.com", "https://$HOST", "https://a/{tenant}", "https://a/<x>", "https://[::1", "https://::1",
		"https://[::g]", "https:a", "//a", "a", "ftp://a", "http://192.0.2.1", "http://[2001:db8::1]", "http://localhost.example",
		"https://" + strings.Repeat("a", 64) + ".example",
	} {
		for field, change := range map[string]func(*auth.Config){
			"Issuer":   func(c *auth.Config) { c.Issuer = bad },
			"Issuer 2": func(c *auth.Config) { c.Issuers = []auth.Issuer{{URL: bad}} },
			"Resource": func(c *auth.Config) { c.Resource = bad },
		} {
			cfg := auth.Config{Resource: resource, Issuer: "https://issuer.example"}
			change(&cfg)
			_, err := auth.New(cfg)
			if e, ok := errors.AsType[*auth.ConfigError](err); !ok || !strings.HasPrefix(field, e.Field) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s %q: error %v", field, bad, err)
			}
		}
	}
	for _, cfg := range []auth.Config{
		{Resource: resource, Issuers: []auth.Issuer{{URL: "https://a"}, {URL: "https://b:65535/", JWKSURL: "https://c/keys?v=1"}, {URL: "https://b:65535"}}},
		{Resource: "https://[2001:db8::1]:8443/mcp", Issuer: "https://[2001:db8::2]/a,b/%7Bx%7D"},
		{Resource: "http://LOCALHOST/mcp", Issuer: "https://a_b.example./"},
		{Resource: "http://127.0.0.1:8000/mcp", Issuer: "http://localhost:9000/realm/", JWKSURL: "http://[::1]:9000/keys"},
		{Resource: "https://mcp.example.com", Issuer: "https://issuer.example/"},
	} {
		if _, err := auth.New(cfg); err != nil {
			t.Error(err)
		}
	}
}

func BenchmarkProtect(b *testing.B) {
	i := newIssuer("https://issuer.example")
	a := must(auth.New(auth.Config{Resource: resource, Issuer: i.url, Scopes: []string{"mcp"}}))
	auth.SetTransport(a, i)
	h := a.Protect(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	for name, token := range map[string]string{
		"ES256": i.token(), "RS256": sign(jwt.SigningMethodRS256, rsaKey(), object{"kid": "rsa"}, i.claims()),
		"random": rand.Text(),
	} {
		b.Run(name, func(b *testing.B) {
			req := httptest.NewRequest(http.MethodPost, "/mcp", nil)
			req.Header.Set("Authorization", "Bearer "+token)
			b.ReportAllocs()
			for b.Loop() {
				h.ServeHTTP(httptest.NewRecorder(), req)
			}
		})
	}
}
