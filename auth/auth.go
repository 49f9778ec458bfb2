// Package auth makes an HTTP handler a protected resource of OAuth 2.1, as MCP's Authorization pages ask of a
// remote server: [Auth.Protect] lets a request pass only with a JWT that a known authorization server issued for this
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
	"strconv"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
	sdk "github.com/modelcontextprotocol/go-sdk/auth"

	"github.com/sluice-mcp/sluice/internal/observed"
	"github.com/sluice-mcp/sluice/observe"
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
	// Issuers are further authorization servers, which the resource's metadata lists after the first one. A token counts only
	// under the keys of the issuer that it names.
	Issuers []Issuer
	// Audience holds the values of the aud claim that mean this resource; a token needs one of them. Empty means
	// Resource. An authorization server without resource indicators (RFC 8707) has names of its own here.
	Audience []string
	// Scopes are those that every request needs.
	Scopes []string
	// Implies maps a broader scope to the narrower ones that it contains.
	Implies map[string][]string
	// Logger receives one line when keys cannot be fetched, and one for a key that cannot be used; at debug level why a token was
	// refused; never a token. Nil discards.
	Logger *slog.Logger
	// Observer is told of requests that are turned away. Nil is nobody.
	Observer observe.Observer
}

// An Issuer is an authorization server: its URL and where its keys are, as in [Config].
type Issuer struct{ URL, JWKSURL string }

// issuers are all of them, in the order of the metadata.
func (c Config) issuers() []Issuer {
	if c.Issuer == "" && c.JWKSURL == "" && len(c.Issuers) > 0 {
		return c.Issuers
	}
	return slices.Concat([]Issuer{{c.Issuer, c.JWKSURL}}, c.Issuers)
}

func (c Config) issuerURLs() []string {
	var urls []string
	for _, i := range c.issuers() {
		urls = append(urls, i.URL)
	}
	return urls
}

// Auth guards one resource. Make it with [New]; it is safe for concurrent use and needs no closing.
type Auth struct {
	cfg         Config
	log         *slog.Logger
	observer    observe.Observer
	parser      *jwt.Parser
	client      *http.Client     // to the issuers
	issuers     map[string]*keys // by what is in iss
	audience    []string         // canonical
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
	a.observer = observed.Guard(cfg.Observer, a.log)
	a.parser, a.client, a.issuers = newParser(), newClient(), make(map[string]*keys)
	for _, i := range cfg.issuers() {
		a.issuers[i.URL] = newKeys(i.URL, i.JWKSURL, a.client, a.log)
	}
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
	identifier := func(field, u string) error {
		err := checkURL(u)
		if err == nil && strings.Contains(u, "?") {
			err = fmt.Errorf("%q has a query", u)
		}
		if err != nil {
			return &ConfigError{field, err}
		}
		return nil
	}
	if err := identifier("Resource", c.Resource); err != nil {
		return err
	}
	urls := c.issuerURLs()
	for n, i := range c.issuers() {
		if err := identifier("Issuer", i.URL); err != nil {
			return err
		}
		if slices.Contains(urls[:n], i.URL) {
			return &ConfigError{"Issuer", fmt.Errorf("%q is there twice", i.URL)}
		}
		if i.JWKSURL == "" {
			continue
		}
		if err := checkURL(i.JWKSURL); err != nil {
			return &ConfigError{"JWKSURL", err}
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
// "Communication Security"), except on this machine. What it names must be possible: net/url takes more than a URL can hold.
func checkURL(s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil, u.User != nil, strings.ContainsAny(s, "# \"\\<>^`{|}"), !isHost(u.Hostname()), !isPort(u):
		return fmt.Errorf("%q is not a URL such as https://example.com/path", s)
	case u.Scheme != "https" && !(u.Scheme == "http" && loopback(u.Hostname())):
		return fmt.Errorf("%q is not https, and not on a loopback address", s)
	}
	return nil
}

// isHost tells whether something can be an address, or a name (RFC 1123, section 2.1; with the underscores that some have).
func isHost(host string) bool {
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	for label := range strings.SplitSeq(strings.TrimSuffix(host, "."), ".") {
		notInName := func(c rune) bool {
			return c < 0x80 && c != '-' && c != '_' && !('0' <= c && c <= '9') && !('a' <= c|0x20 && c|0x20 <= 'z')
		}
		if label == "" || len(label) > 63 || strings.ContainsFunc(label, notInName) {
			return false
		}
	}
	return true
}

func isPort(u *url.URL) bool {
	if port := u.Port(); port != "" {
		n, err := strconv.ParseUint(port, 10, 16)
		return err == nil && n > 0
	}
	return !strings.HasSuffix(u.Host, ":")
}

func loopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && addr.IsLoopback()
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

// Prefetch begins to fetch the issuers' keys, so that the first request need not wait for them and
// a wrong address is in the log from the start.
func (a *Auth) Prefetch() {
	for _, keys := range a.issuers {
		keys.refresh()
	}
}

// tell tells an observer why a request is turned away.
func (a *Auth) tell(r *http.Request, f refusal) {
	reason := observe.RefusedUnauthorized
	switch f.status {
	case http.StatusForbidden:
		reason = observe.RefusedScope
	case http.StatusServiceUnavailable:
		reason = observe.RefusedKeys
	}
	observed.Tell(r.Context(), a.observer, observe.Refused{Reason: reason})
}

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
			a.tell(r, *refused)
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
