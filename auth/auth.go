// Package auth makes an HTTP handler a protected resource of OAuth 2.1, as MCP's Authorization pages ask of a
// remote server: [Auth.Protect] lets a request pass only with a JWT that this authorization server issued for this
// resource, and [Auth.Metadata] tells clients where to get one. [RequireScopes] asks more for single tools,
// [RateLimit] bounds what one user may send.
//
// The package issues no tokens and passes none on, and it keeps no sessions: every request is judged by itself. The user that it
// found is in the SDK's [github.com/modelcontextprotocol/go-sdk/auth.TokenInfo], where the endpoint binds
// sessions and streams to it.
package auth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
	sdk "github.com/modelcontextprotocol/go-sdk/auth"
)

// Config says which tokens are accepted. Its URLs are https, or http on a loopback address.
type Config struct {
	// Resource is the endpoint's canonical URI: its URL as clients reach it, such as
	// https://mcp.example.com/mcp. It is never derived from a request, whose Host anybody can choose.
	Resource string
	// Issuer is the authorization server, character by character as in the iss claim of its tokens.
	Issuer string
	// JWKSURL is where the issuer publishes its keys. Empty means where its metadata says.
	JWKSURL string
	// Audience holds the values of the aud claim that mean this resource; a token needs one of them. Empty means
	// Resource. An authorization server without resource indicators (RFC 8707) has names of its own here.
	Audience []string
	// Scopes are those that every request needs.
	Scopes []string
	// Implies maps a broader scope to the narrower ones that it contains.
	Implies map[string][]string
	// Logger receives one line when keys cannot be fetched, and at debug level why a token was
	// refused; never a token. Nil discards.
	Logger *slog.Logger
}

// Auth guards one resource. Make it with [New]; it is safe for concurrent use and needs no closing.
type Auth struct {
	cfg         Config
	log         *slog.Logger
	parser      *jwt.Parser
	keys        *keys
	audience    []string // canonical
	metadataURL string
	paths       []string // where the metadata is served
	metadata    []byte
}

// New checks the configuration. It opens nothing: keys are fetched when the first token needs them, or by [Auth.Prefetch].
func New(cfg Config) (*Auth, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	cfg.Resource, cfg.Scopes = canonical(cfg.Resource), slices.Compact(slices.Sorted(slices.Values(cfg.Scopes)))
	a := &Auth{cfg: cfg, log: cfg.Logger}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	a.parser = newParser(cfg.Issuer)
	a.keys = newKeys(cfg.Issuer, cfg.JWKSURL, a.log)
	for _, aud := range cfg.Audience {
		a.audience = append(a.audience, canonical(aud))
	}
	if a.audience == nil {
		a.audience = []string{cfg.Resource}
	}
	if err := a.describe(); err != nil {
		return nil, err
	}
	return a, nil
}

// A ConfigError is what [New] returns: the field of [Config] that cannot work, and why.
type ConfigError struct {
	Field string
	Err   error
}

func (e *ConfigError) Error() string { return "auth: " + e.Field + ": " + e.Err.Error() }

// Unwrap returns Err.
func (e *ConfigError) Unwrap() error { return e.Err }

func (c Config) check() error {
	for _, u := range []struct{ field, value string }{{"Resource", c.Resource}, {"Issuer", c.Issuer}, {"JWKSURL", c.JWKSURL}} {
		if u.value == "" && u.field == "JWKSURL" {
			continue
		}
		if err := checkURL(u.value); err != nil {
			return &ConfigError{u.field, err}
		}
		if u.field != "JWKSURL" && strings.Contains(u.value, "?") {
			return &ConfigError{u.field, fmt.Errorf("%q has a query", u.value)}
		}
	}
	if slices.Contains(c.Audience, "") {
		return &ConfigError{"Audience", errors.New("one of them is empty")}
	}
	for _, s := range c.Scopes {
		if err := checkScope(s); err != nil {
			return &ConfigError{"Scopes", err}
		}
	}
	return nil
}

// checkURL holds every address to TLS, on which all of OAuth stands (Security Considerations,
// "Communication Security"), except on this machine.
func checkURL(s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil, u.Host == "", u.User != nil, strings.ContainsAny(s, "# \"\\"):
		return fmt.Errorf("%q is not a URL such as https://example.com/path", s)
	case u.Scheme != "https" && !(u.Scheme == "http" && loopback(u.Hostname())):
		return fmt.Errorf("%q is not https, and not on a loopback address", s)
	}
	return nil
}

func loopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}

// canonical is a URI with scheme and host in lower case, without a default port and without a slash that is
// the whole path: forms of one URI that clients and authorization servers mix up (Authorization, "Canonical
// Server URI"). What is no such URI stays as it is.
func canonical(s string) string {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" {
		return s
	}
	u.Host = strings.ToLower(u.Host) // url.Parse does the scheme
	if host, port, err := net.SplitHostPort(u.Host); err == nil && (u.Scheme == "https" && port == "443" || u.Scheme == "http" && port == "80") {
		u.Host = host
		if strings.Contains(host, ":") {
			u.Host = "[" + host + "]"
		}
	}
	if u.Path == "/" && u.RawQuery == "" && u.Fragment == "" {
		u.Path = ""
	}
	return u.String()
}

// Prefetch begins to fetch the issuer's keys, so that the first request need not wait for them and
// a wrong address is in the log from the start.
func (a *Auth) Prefetch() { a.keys.refresh() }

// Protect returns a handler that passes on to next the requests with a sufficient token, the SDK's TokenInfo in
// their context, and answers all others itself. A browser's preflight request, which never
// has a token, passes: next must treat it as such.
func (a *Auth) Protect(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {
			next.ServeHTTP(w, r)
			return
		}
		info, refused := a.authorize(r)
		if refused != nil {
			a.log.DebugContext(r.Context(), "request refused", "status", refused.status, "reason", refused.description)
			a.refuse(w, r, *refused)
			return
		}
		// Only the SDK can put the TokenInfo where its handlers look for it. It has nothing left to refuse:
		// the expiry was checked with our own tolerance, a moment ago.
		verified := func(context.Context, string, *http.Request) (*sdk.TokenInfo, error) { return info, nil }
		opts := &sdk.RequireBearerTokenOptions{ClockSkew: time.Hour}
		sdk.RequireBearerToken(verified, opts)(next).ServeHTTP(a.stepUp(w, r, info), r)
	})
}
