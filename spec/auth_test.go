package spec_test

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-mcp/sluice/auth"
)

var authorization = []statement{
	{ID: "A-01", Revisions: "03 06 11 26", Level: "MUST", Text: "No token, an unknown or an expired one is 401 on every method", Test: testA01},
	{ID: "A-02", Revisions: "06 11 26", Level: "MUST", Text: "The 401 names the resource metadata", Test: testA02},
	{ID: "A-03", Revisions: "06 11 26", Level: "MUST", Text: "RFC 9728 metadata is served, and its resource is the canonical URI", Test: testA03},
	{ID: "A-04", Revisions: "11 26", Level: "SHOULD", Text: "The 401 names the scope", Test: testA04},
	{ID: "A-05", Revisions: "all", Level: "SHOULD", Text: "`error=\"invalid_token\"` comes for a bad token, no error code for none", Test: testA05},
	{ID: "A-06", Revisions: "11 26", Level: "SHOULD", Text: "Insufficient scope is 403 with the scope that is needed", Test: testA06},
	{ID: "A-07", Revisions: "26", Level: "SHOULD", Text: "One challenge names all scopes; broader scopes contain narrower ones", Test: testA07},
	{ID: "A-08", Revisions: "06 11 26", Level: "MUST", Text: "A token for another resource is 401", Test: testA08},
	{ID: "A-09", Revisions: "06 11 26", Level: "MUST", Text: "Signature, issuer, expiry and not-before are checked", Test: testA09},
	{ID: "A-10", Revisions: "all", Level: "MUST NOT", Text: "A token in the query string is taken", Test: testA10},
	{ID: "A-11", Revisions: "all", Level: "MUST", Text: "Every request is authorized, also inside a session", Test: testA11},
	{ID: "A-12", Revisions: "all", Level: "MUST", Text: "A malformed Authorization header is 400 or 401", Test: testA12},
	{ID: "A-13", Revisions: "26", Level: "SHOULD NOT", Text: "offline_access is among the scopes that are asked", Test: testA13},
	{ID: "A-14", Revisions: "11 26", Level: "MUST NOT", Text: "A client's token is passed on to other services", Test: testA14},
	{
		ID: "A-15", Revisions: "03", Level: "SHOULD/MUST", Text: "A server that is its own authorization server publishes its metadata",
		Pending: "does not apply: the endpoint is a resource server only and issues no tokens",
	},
	{ID: "A-16", Revisions: "all", Level: "MUST", Text: "The scheme name is case-insensitive", Test: testA16},
}

// A guard is an endpoint behind package auth, and the authorization server that it trusts.
type guard struct {
	*env
	issuer string
	key    ed25519.PrivateKey
	public ed25519.PublicKey
}

// guarded starts the two.
func guarded(t *testing.T, edits ...func(*auth.Config)) *guard {
	t.Helper()
	g := &guard{}
	var err error
	if g.public, g.key, err = ed25519.GenerateKey(rand.Reader); err != nil {
		t.Fatal(err)
	}
	issuer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"key","alg":"EdDSA","use":"sig","x":%q}]}`, base64.RawURLEncoding.EncodeToString(g.public))
	}))
	t.Cleanup(issuer.Close)
	g.issuer = issuer.URL
	g.env = serve(t, func(c *config) {
		c.wrap = func(e *env, inner http.Handler) http.Handler {
			cfg := auth.Config{Resource: "http://" + e.addr + "/mcp", Issuer: g.issuer, JWKSURL: g.issuer + "/keys", Scopes: []string{"mcp"}}
			for _, edit := range edits {
				edit(&cfg)
			}
			a, err := auth.New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			mux := http.NewServeMux()
			mux.Handle("/", a.Protect(inner))
			mux.Handle("/.well-known/oauth-protected-resource", a.Metadata())
			mux.Handle("/.well-known/oauth-protected-resource/", a.Metadata())
			return mux
		}
	})
	return g
}

func (g *guard) resource() string { return "http://" + g.addr + "/mcp" }

// token signs a good token for alice, with changes to its claims; nil removes one.
func (g *guard) token(t *testing.T, changes obj) string {
	t.Helper()
	return g.sign(t, obj{"alg": "EdDSA", "kid": "key", "typ": "at+jwt"}, changes, func(signed []byte) []byte { return ed25519.Sign(g.key, signed) })
}

func (g *guard) sign(t *testing.T, header, changes obj, signature func([]byte) []byte) string {
	t.Helper()
	claims := obj{"iss": g.issuer, "sub": "alice", "aud": g.resource(), "exp": time.Now().Add(time.Hour).Unix(), "scope": "mcp"}
	maps.Copy(claims, changes)
	maps.DeleteFunc(claims, func(_ string, v any) bool { return v == nil })
	b64 := base64.RawURLEncoding.EncodeToString
	signed := b64(mustJSON(t, header)) + "." + b64(mustJSON(t, claims))
	return signed + "." + b64(signature([]byte(signed)))
}

// alice is a session of revision 2025-11-25 with a good token.
func (g *guard) alice(t *testing.T) *session {
	t.Helper()
	return g.open(t, v11, as(g.token(t, nil)))
}

// everywhere sends one request of each kind with the edit, in and outside of a session, and checks the answers.
func (g *guard) everywhere(t *testing.T, s *session, auth edit, check func(what string, r *reply)) {
	t.Helper()
	check("initialize", g.do(t, g.post(t, initialize(1, v11, obj{}), auth)))
	check("2026-07-28", g.send26(t, request(1, "tools/list", nil), auth))
	check("discover", g.send26(t, request(1, "server/discover", nil), auth))
	check("POST", s.send(t, request(1, "ping", nil), auth))
	check("notification", s.send(t, notification("notifications/initialized", nil), auth))
	check("GET", s.get(t, "", auth))
	check("DELETE", s.delete(t, auth))
	check("GET /sse", g.do(t, g.request(t, http.MethodGet, "/sse", nil, auth)))
	check("POST /messages", g.do(t, g.request(t, http.MethodPost, "/messages", request(1, "ping", nil), auth)))
}

// challenged demands a status and parts of the challenge on every request.
func (g *guard) challenged(t *testing.T, s *session, auth edit, status int, parts ...string) {
	t.Helper()
	g.everywhere(t, s, auth, func(what string, r *reply) {
		if r.status != status {
			t.Errorf("%s: HTTP %d, want %d", what, r.status, status)
		}
		header := r.header.Get("WWW-Authenticate")
		if !strings.HasPrefix(header, "Bearer ") {
			t.Errorf("%s: WWW-Authenticate is %q", what, header)
		}
		for _, part := range parts {
			if !strings.Contains(header, part) {
				t.Errorf("%s: WWW-Authenticate is %q, want %s in it", what, header, part)
			}
		}
	})
}

func testA01(t *testing.T) {
	g := guarded(t)
	s := g.alice(t)
	for _, bad := range []edit{
		without("Authorization"), as("unknown"), as(g.token(t, obj{"exp": time.Now().Add(-time.Hour).Unix()})), as(g.token(t, obj{"exp": nil})),
	} {
		g.challenged(t, s, bad, 401)
	}
	s.send(t, request(2, "ping", nil)).result(t)
	if got := s.run(t, "whoami", obj{}); !strings.HasSuffix(got, "#alice") {
		t.Errorf("the tool sees %q", got)
	}
}

func testA02(t *testing.T) {
	g := guarded(t)
	g.challenged(t, g.alice(t), without("Authorization"), 401, `resource_metadata="http://`+g.addr+`/.well-known/oauth-protected-resource/mcp"`)
}

// metadata reads the resource's metadata from a path, as a client that has no token yet.
func (g *guard) metadata(t *testing.T, path string) obj {
	t.Helper()
	r := g.do(t, g.request(t, http.MethodGet, path, nil, with("Accept", "application/json"))).has(t, 200)
	if ct := r.header.Get("Content-Type"); !strings.HasPrefix(ct, "application/json") {
		t.Errorf("%s: Content-Type is %q", path, ct)
	}
	return object(t, r.body)
}

func testA03(t *testing.T) {
	g := guarded(t)
	for _, path := range []string{"/.well-known/oauth-protected-resource/mcp", "/.well-known/oauth-protected-resource"} {
		got := g.metadata(t, path)
		if got["resource"] != g.resource() {
			t.Errorf("%s: resource is %v, want %s", path, got["resource"], g.resource())
		}
		if servers, _ := got["authorization_servers"].([]any); !slices.Equal(servers, []any{g.issuer}) {
			t.Errorf("%s: authorization_servers are %v", path, servers)
		}
		if methods, _ := got["bearer_methods_supported"].([]any); methods != nil && !slices.Equal(methods, []any{"header"}) {
			t.Errorf("%s: bearer_methods_supported are %v", path, methods)
		}
	}
	g.do(t, g.request(t, http.MethodGet, "/.well-known/oauth-protected-resource/other", nil)).has(t, 404)
	// What a client says about itself does not change what the resource is.
	r := g.do(t, g.request(t, http.MethodGet, "/.well-known/oauth-protected-resource", nil, with("X-Forwarded-Host", "evil.example")))
	if strings.Contains(string(r.body), "evil") {
		t.Errorf("metadata repeats a header: %s", r.body)
	}
}

func testA04(t *testing.T) {
	g := guarded(t, func(c *auth.Config) { c.Scopes = []string{"mcp", "files:read"} })
	s := g.open(t, v11, as(g.token(t, obj{"scope": "mcp files:read"})))
	g.challenged(t, s, without("Authorization"), 401, `scope="files:read mcp"`)
}

func testA05(t *testing.T) {
	g := guarded(t)
	s := g.alice(t)
	g.everywhere(t, s, without("Authorization"), func(what string, r *reply) {
		if v := r.header.Get("WWW-Authenticate"); strings.Contains(v, "error") {
			t.Errorf("no token, %s: WWW-Authenticate is %q", what, v)
		}
	})
	g.challenged(t, s, as("unknown"), 401, `error="invalid_token"`)
	g.challenged(t, s, as(g.token(t, obj{"exp": 1})), 401, `error="invalid_token"`)
}

func testA06(t *testing.T) {
	g := guarded(t)
	s := g.alice(t)
	for _, scope := range []any{nil, "", "other", "mcpx"} {
		g.challenged(t, s, as(g.token(t, obj{"scope": scope})), 403, `error="insufficient_scope"`, `scope="mcp"`, `resource_metadata="`)
	}
}

func testA07(t *testing.T) {
	g := guarded(t, func(c *auth.Config) {
		c.Implies = map[string][]string{"admin": {"mcp", "files"}, "files": {"files:read", "files:write"}}
	})
	g.srv.AddReceivingMiddleware(auth.RequireScopes(map[string][]string{"echo": {"files:read", "files:write"}}))
	echo := func() obj { return call(1, "echo", obj{"text": "x"}) }
	for scope, ok := range map[string]bool{
		"mcp": false, "mcp files:read": false, "mcp files:read files:write": true, "mcp files": true, "admin": true,
	} {
		token := as(g.token(t, obj{"scope": scope}))
		for v, r := range map[string]*reply{v26: g.send26(t, echo(), token), v11: g.open(t, v11, token).send(t, echo())} {
			if ok {
				r.has(t, 200).result(t)
				continue
			}
			header := r.has(t, 403).header.Get("WWW-Authenticate")
			for _, part := range []string{`error="insufficient_scope"`, "files:read", "files:write", "mcp", `resource_metadata="`} {
				if !strings.Contains(header, part) {
					t.Errorf("%s with %q: WWW-Authenticate is %q, want %s in it", v, scope, header, part)
				}
			}
		}
		g.send26(t, call(2, "whoami", obj{}), token).has(t, 200).result(t) // other tools need no more
	}
}

func testA08(t *testing.T) {
	g := guarded(t)
	s := g.alice(t)
	for _, aud := range []any{"https://other.example/mcp", nil, "", []string{}, []string{"https://other.example"}, g.resource() + "x", "http://" + g.addr, g.issuer, 5} {
		g.challenged(t, s, as(g.token(t, obj{"aud": aud})), 401, `error="invalid_token"`)
	}
	for _, aud := range []any{[]string{g.resource()}, []string{"https://other.example", g.resource()}} {
		g.send26(t, request(1, "tools/list", nil), as(g.token(t, obj{"aud": aud}))).has(t, 200)
	}
}

func testA09(t *testing.T) {
	g := guarded(t)
	s := g.alice(t)
	_, other, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	header := func(alg string) obj { return obj{"alg": alg, "kid": "key"} }
	good := g.token(t, nil)
	for name, token := range map[string]string{
		"no signature":         g.sign(t, header("none"), nil, func([]byte) []byte { return nil }),
		"None":                 g.sign(t, header("None"), nil, func([]byte) []byte { return nil }),
		"another key":          g.sign(t, header("EdDSA"), nil, func(b []byte) []byte { return ed25519.Sign(other, b) }),
		"unknown key":          g.sign(t, obj{"alg": "EdDSA", "kid": "x"}, nil, func(b []byte) []byte { return ed25519.Sign(other, b) }),
		"HMAC with public key": g.sign(t, header("HS256"), nil, func(b []byte) []byte { m := hmac.New(sha256.New, g.public); m.Write(b); return m.Sum(nil) }),
		"changed claims":       changed(good, g.token(t, obj{"sub": "bob"})),
		"cut signature":        good[:len(good)-4],
		"another issuer":       g.token(t, obj{"iss": "https://other.example"}),
		"issuer with a slash":  g.token(t, obj{"iss": g.issuer + "/"}),
		"no issuer":            g.token(t, obj{"iss": nil}),
		"expired":              g.token(t, obj{"exp": time.Now().Add(-2 * time.Minute).Unix()}),
		"not yet":              g.token(t, obj{"nbf": time.Now().Add(10 * time.Minute).Unix()}),
		"no subject":           g.token(t, obj{"sub": nil}),
		"extension":            g.sign(t, obj{"alg": "EdDSA", "kid": "key", "crit": []string{"x"}, "x": 1}, nil, func(b []byte) []byte { return ed25519.Sign(g.key, b) }),
	} {
		t.Run(name, func(t *testing.T) { g.challenged(t, s, as(token), 401, `error="invalid_token"`) })
	}
	for _, ok := range []obj{nil, {"nbf": time.Now().Add(-time.Minute).Unix()}, {"iat": time.Now().Unix()}} {
		g.send26(t, request(1, "tools/list", nil), as(g.token(t, ok))).has(t, 200)
	}
}

// changed puts the claims of one token between the header and the signature of another.
func changed(token, claims string) string {
	parts := strings.Split(token, ".")
	parts[1] = strings.Split(claims, ".")[1]
	return strings.Join(parts, ".")
}

func testA10(t *testing.T) {
	g := guarded(t)
	s := g.alice(t)
	token := g.token(t, nil)
	query := func(r *http.Request) {
		r.Header.Del("Authorization")
		r.URL.RawQuery = "access_token=" + token
	}
	g.everywhere(t, s, query, func(what string, r *reply) {
		if r.status != 401 && r.status != 400 {
			t.Errorf("%s: HTTP %d", what, r.status)
		}
	})
}

func testA11(t *testing.T) {
	g := guarded(t)
	for _, v := range legacy {
		s := g.open(t, v, as(g.token(t, nil)))
		for range 2 { // also after a request that was in order
			s.send(t, request(1, "ping", nil), without("Authorization")).has(t, 401)
			s.send(t, request(2, "ping", nil)).result(t)
		}
		stream := s.send(t, call(3, "elicit", obj{"key": "k-" + v})).events(t)
		ask, _ := stream.message(t)
		s.send(t, obj{"jsonrpc": "2.0", "id": ask.ID, "result": ann["name"]}, without("Authorization")).has(t, 401)
		s.send(t, obj{"jsonrpc": "2.0", "id": ask.ID, "result": ann["name"]}, as(g.token(t, obj{"sub": "bob"}))).has(t, 403, 404)
		stream.quiet(t, "an answer of nobody or of another user is none")
		s.answer(t, ask, ann["name"].(obj)).accepted(t)
		stream.message(t)
		// A new token of the same user goes on with the session.
		s.send(t, request(4, "ping", nil), as(g.token(t, obj{"jti": "another"}))).result(t)
	}
}

func testA12(t *testing.T) {
	g := guarded(t)
	s := g.alice(t)
	token := g.token(t, nil)
	for _, value := range []string{
		"Basic YWxpY2U6eA==", "Bearer", "Bearer ", token, "Bearer " + token + " " + token, "Bearer " + token + ", Bearer " + token,
		"Bearer=" + token, `Bearer "` + token + `"`, "Bearer a.b", "Bearer a.b.c", "Bearer ..", "Bearer " + strings.Repeat("x", 8000),
	} {
		g.everywhere(t, s, with("Authorization", value), func(what string, r *reply) {
			if r.status != 400 && r.status != 401 {
				t.Errorf("%.40q, %s: HTTP %d", value, what, r.status)
			}
		})
	}
	twice := func(r *http.Request) { r.Header["Authorization"] = []string{"Bearer " + token, "Bearer " + token} }
	g.everywhere(t, s, twice, func(what string, r *reply) {
		if r.status != 400 && r.status != 401 {
			t.Errorf("two headers, %s: HTTP %d", what, r.status)
		}
	})
}

func testA13(t *testing.T) {
	if _, err := auth.New(auth.Config{Resource: "https://mcp.example/mcp", Issuer: "https://issuer.example", Scopes: []string{"mcp", "offline_access"}}); err == nil {
		t.Error("offline_access can be configured")
	}
	g := guarded(t)
	if got := fmt.Sprint(g.metadata(t, "/.well-known/oauth-protected-resource")["scopes_supported"]); got != "[mcp]" {
		t.Errorf("scopes_supported is %s", got)
	}
	g.everywhere(t, g.alice(t), without("Authorization"), func(what string, r *reply) {
		if v := r.header.Get("WWW-Authenticate"); strings.Contains(v, "offline_access") {
			t.Errorf("%s: WWW-Authenticate is %q", what, v)
		}
	})
}

func testA14(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%q %s", r.Header, r.URL)
	}))
	t.Cleanup(func() { http.DefaultClient.CloseIdleConnections(); upstream.Close() })
	g := guarded(t)
	token := g.token(t, nil)
	got := []string{content(t, g.send26(t, call(1, "fetch", obj{"text": upstream.URL}), as(token)).result(t))}
	for _, v := range legacy {
		got = append(got, g.open(t, v, as(token)).run(t, "fetch", obj{"text": upstream.URL}))
	}
	for _, seen := range got {
		if strings.Contains(seen, token) || strings.Contains(seen, "Authorization") {
			t.Errorf("the other service saw %s", seen)
		}
	}
}

func testA16(t *testing.T) {
	g := guarded(t)
	token := g.token(t, nil)
	for _, scheme := range []string{"bearer", "BEARER", "BeArEr"} {
		auth := with("Authorization", scheme+" "+token)
		g.send26(t, request(1, "tools/list", nil), auth).has(t, 200)
		g.open(t, v11, auth)
	}
}
