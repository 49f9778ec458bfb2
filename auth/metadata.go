package auth

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"

	"github.com/modelcontextprotocol/go-sdk/oauthex"
)

// wellKnown is RFC 9728's place for the metadata of a resource.
const wellKnown = "/.well-known/oauth-protected-resource"

// describe prepares the metadata (RFC 9728, section 2).
func (a *Auth) describe() error {
	u, err := url.Parse(a.cfg.Resource)
	if err != nil {
		return fmt.Errorf("auth: resource: %w", err)
	}
	// Inserted before the path (section 3.1). At the root it is found too, by clients that know only the host.
	a.metadataURL = u.Scheme + "://" + u.Host + wellKnown + u.EscapedPath()
	a.paths = []string{wellKnown, wellKnown + u.Path}
	a.metadata, err = json.Marshal(oauthex.ProtectedResourceMetadata{
		Resource:               a.cfg.Resource,
		AuthorizationServers:   a.cfg.issuerURLs(),
		ScopesSupported:        a.cfg.Scopes,
		BearerMethodsSupported: []string{"header"},
	})
	return err
}

// Metadata returns the handler of the resource's metadata, for the patterns /.well-known/oauth-protected-resource and
// /.well-known/oauth-protected-resource/ of a mux. Everybody may read it, from any origin: it is
// what a client needs before it can have a token.
func (a *Auth) Metadata() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		head := w.Header()
		head.Set("Access-Control-Allow-Origin", "*")
		switch {
		case !slices.Contains(a.paths, r.URL.Path):
			http.NotFound(w, r)
		case r.Method == http.MethodOptions:
			head.Set("Access-Control-Allow-Methods", "GET, HEAD")
			head.Set("Access-Control-Allow-Headers", "*") // clients send MCP-Protocol-Version here too
			head.Set("Access-Control-Max-Age", "600")
			w.WriteHeader(http.StatusNoContent)
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			head.Set("Allow", "GET, HEAD, OPTIONS")
			http.Error(w, "Method not allowed", http.StatusMethodNotAllowed)
		default:
			head.Set("Content-Type", "application/json")
			head.Set("Cache-Control", "public, max-age=300")
			_, _ = w.Write(a.metadata) // net/http leaves the body out for HEAD
		}
	})
}
