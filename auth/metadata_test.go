package auth_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/modelcontextprotocol/go-sdk/oauthex"

	"github.com/sluice-mcp/sluice/auth"
)

func TestA02A03Metadata(t *testing.T) {
	t.Parallel()
	const root = "/.well-known/oauth-protected-resource"
	for _, c := range []struct {
		resource, canonical, named string // the last as in the challenge
		found, missing             []string
	}{
		{resource, resource, "https://mcp.example.com" + root + "/mcp", []string{root, root + "/mcp"}, []string{root + "/", root + "/mcp/", root + "/other"}},
		{"https://MCP.example.com/a/b/", "https://mcp.example.com/a/b/", "https://mcp.example.com" + root + "/a/b/", []string{root, root + "/a/b/"}, []string{root + "/a"}},
		{"https://mcp.example.com/", "https://mcp.example.com", "https://mcp.example.com" + root, []string{root}, []string{root + "/mcp"}},
		{"http://127.0.0.1:8000/mcp", "http://127.0.0.1:8000/mcp", "http://127.0.0.1:8000" + root + "/mcp", []string{root, root + "/mcp"}, nil},
	} {
		a, err := auth.New(auth.Config{Resource: c.resource, Issuer: "https://issuer.example", Scopes: []string{"b", "a", "b"}})
		if err != nil {
			t.Fatal(err)
		}
		server := httptest.NewServer(a.Metadata())
		t.Cleanup(server.Close)
		for _, path := range c.found {
			got := ask(t, "GET", server.URL+path)
			var doc map[string]any
			if err := json.Unmarshal([]byte(got.body), &doc); err != nil {
				t.Fatalf("%s: %v", path, err)
			}
			want := map[string]any{
				"resource": c.canonical, "authorization_servers": []any{"https://issuer.example"},
				"scopes_supported": []any{"a", "b"}, "bearer_methods_supported": []any{"header"},
			}
			if diff := cmp.Diff(want, doc); diff != "" {
				t.Errorf("%s:\n%s", path, diff)
			}
			if got.header.Get("Content-Type") != "application/json" || got.header.Get("Access-Control-Allow-Origin") != "*" {
				t.Errorf("%s: %v", path, got.header)
			}
			if got := ask(t, "HEAD", server.URL+path); got.status != 200 || got.body != "" {
				t.Errorf("HEAD: %d %q", got.status, got.body)
			}
			if got := ask(t, "OPTIONS", server.URL+path); got.status != 204 || got.header.Get("Access-Control-Allow-Headers") != "*" {
				t.Errorf("OPTIONS: %d %v", got.status, got.header)
			}
			if got := ask(t, "POST", server.URL+path); got.status != 405 || got.header.Get("Allow") == "" {
				t.Errorf("POST: %d %v", got.status, got.header)
			}
		}
		for _, path := range c.missing {
			if got := ask(t, "GET", server.URL+path); got.status != 404 {
				t.Errorf("%s: HTTP %d", path, got.status)
			}
		}
		protected := httptest.NewServer(a.Protect(http.NotFoundHandler()))
		t.Cleanup(protected.Close)
		if got := ask(t, "GET", protected.URL).challenge["resource_metadata"]; got != c.named {
			t.Errorf("the challenge names %s, want %s", got, c.named)
		}
	}
}

func TestTheMetadataListsEveryIssuer(t *testing.T) {
	t.Parallel()
	a, err := auth.New(auth.Config{Resource: resource, Issuer: "https://b", Issuers: []auth.Issuer{{URL: "https://c"}, {URL: "https://a"}}})
	if err != nil {
		t.Fatal(err)
	}
	rec := httptest.NewRecorder()
	a.Metadata().ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/.well-known/oauth-protected-resource", nil))
	var doc oauthex.ProtectedResourceMetadata
	if err := json.Unmarshal(rec.Body.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"https://b", "https://c", "https://a"}, doc.AuthorizationServers); diff != "" {
		t.Error(diff)
	}
}

// The SDK's client has to find its way from the challenge to the issuer.
func TestA03TheSDKReadsTheMetadata(t *testing.T) {
	t.Parallel()
	var a *auth.Auth
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	a, err := auth.New(auth.Config{Resource: server.URL + "/mcp", Issuer: "https://issuer.example"})
	if err != nil {
		t.Fatal(err)
	}
	mux.Handle("/.well-known/oauth-protected-resource/", a.Metadata())
	mux.Handle("/mcp", a.Protect(http.NotFoundHandler()))
	where := ask(t, "POST", server.URL+"/mcp").challenge["resource_metadata"]
	doc, err := oauthex.GetProtectedResourceMetadata(t.Context(), where, server.URL+"/mcp", nil)
	if err != nil || len(doc.AuthorizationServers) != 1 || doc.ScopesSupported != nil {
		t.Errorf("%v, %v", doc, err)
	}
}

func TestCanonical(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"HTTPS://A.Example:443/": "https://a.example", "http://a:80/x": "http://a/x", "http://a:443/x": "http://a:443/x",
		"https://[::1]:443/x": "https://[::1]/x", "https://a/x/": "https://a/x/", "https://a/X?Y": "https://a/X?Y",
		"api://A/b": "api://a/b", "Client": "Client", "urn:A:b": "urn:A:b", "": "", "https://a/%2F": "https://a/%2F",
	} {
		if got := auth.Canonical(in); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
}

func TestMetadataURLs(t *testing.T) {
	t.Parallel()
	for issuer, want := range map[string][]string{
		"https://a.example":   {"https://a.example/.well-known/oauth-authorization-server", "https://a.example/.well-known/openid-configuration"},
		"https://a.example/":  {"https://a.example/.well-known/oauth-authorization-server", "https://a.example/.well-known/openid-configuration"},
		"https://a.example/t": {"https://a.example/.well-known/oauth-authorization-server/t", "https://a.example/.well-known/openid-configuration/t", "https://a.example/t/.well-known/openid-configuration"},
	} {
		if diff := cmp.Diff(want, auth.MetadataURLs(issuer)); diff != "" {
			t.Errorf("%s:\n%s", issuer, diff)
		}
	}
}
