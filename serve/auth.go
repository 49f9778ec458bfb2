package serve

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"net/url"
	"strings"

	"github.com/sluice-mcp/sluice/auth"
	"github.com/sluice-mcp/sluice/observe"
)

// Auth says who may call. It is off while Issuer is empty.
type Auth struct {
	// Issuer is the authorization server whose tokens are accepted, as in their iss claim; or several, with commas between them,
	// in the order in which the resource's metadata lists them.
	Issuer string `arg:"--auth-issuer,env:MCP_AUTH_ISSUER" placeholder:"URL,..." help:"authorization servers whose tokens callers need, as in their iss claim; default: none, everybody may call"`
	// JWKSURL is where it publishes its keys, by default where its metadata says. Of several issuers, each has its own, in their
	// order and with commas between them; an empty one means its metadata.
	JWKSURL string `arg:"--auth-jwks-url,env:MCP_AUTH_JWKS_URL" placeholder:"URL,..." help:"where each authorization server publishes its keys; default: where its metadata says"`
	// Audience holds the aud claims that mean this server, by default ResourceURL.
	Audience List `arg:"--auth-audience,env:MCP_AUTH_AUDIENCE" placeholder:"AUD,..." help:"audiences of tokens that are for this server; default: the resource URL"`
	// Scopes are those that every request needs.
	Scopes List `arg:"--auth-scopes,env:MCP_AUTH_SCOPES" placeholder:"SCOPE,..." help:"scopes that every request needs; default: none"`
	// ResourceURL is the endpoint's URL as clients reach it. Authorization needs it.
	ResourceURL string `arg:"--resource-url,env:MCP_RESOURCE_URL" placeholder:"URL" help:"the endpoint's URL as clients reach it, such as https://mcp.example.com/mcp; needed with --auth-issuer"`
	// RateLimit is how many requests a second one user may send in the long run; ten seconds' worth, and at least
	// ten, may come at once. Zero means no limit.
	RateLimit float64 `arg:"--rate-limit,env:MCP_RATE_LIMIT" placeholder:"N" help:"requests a second that one user may send in the long run, to each replica; ten seconds' worth may come at once; default: no limit"`
}

// check reports the first setting that cannot work.
func (c Auth) check(transport, path string) error {
	if c.Issuer == "" {
		// A setting that would do nothing is one that somebody relies on.
		for _, s := range []struct {
			flag string
			set  bool
		}{
			{authFlags["JWKSURL"], c.JWKSURL != ""},
			{authFlags["Audience"], len(c.Audience) > 0},
			{authFlags["Scopes"], len(c.Scopes) > 0},
			{authFlags["Resource"], c.ResourceURL != ""},
			{"--rate-limit (MCP_RATE_LIMIT)", c.RateLimit != 0},
		} {
			if s.set {
				return errors.New(s.flag + ": has no effect without --auth-issuer (MCP_AUTH_ISSUER)")
			}
		}
		return nil
	}
	switch {
	case transport == Stdio:
		return errors.New(authFlags["Issuer"] + ": there are no tokens over stdio")
	case c.ResourceURL == "":
		return errors.New(authFlags["Resource"] + ": needed with --auth-issuer: it is what tokens must be for")
	case strings.HasPrefix(path, "/.well-known/"):
		return errors.New("--path (MCP_PATH): with --auth-issuer, what is below /.well-known/ is taken")
	}
	return nil
}

// issuers pairs each issuer with where its keys are.
func (c Auth) issuers() ([]auth.Issuer, error) {
	var issuers []auth.Issuer
	for url := range strings.SplitSeq(c.Issuer, ",") {
		issuers = append(issuers, auth.Issuer{URL: strings.TrimSpace(url)})
	}
	if len(issuers) == 1 { // the URL of a single one may hold commas
		issuers[0].JWKSURL = c.JWKSURL
	} else if c.JWKSURL != "" {
		urls := strings.Split(c.JWKSURL, ",")
		if len(urls) != len(issuers) {
			return nil, fmt.Errorf("%s: there are %d issuers and %d of these", authFlags["JWKSURL"], len(issuers), len(urls))
		}
		for i, url := range urls {
			issuers[i].JWKSURL = strings.TrimSpace(url)
		}
	}
	return issuers, nil
}

// authFlags names the setting behind each field of [auth.Config].
var authFlags = map[string]string{
	"Issuer":   "--auth-issuer (MCP_AUTH_ISSUER)",
	"JWKSURL":  "--auth-jwks-url (MCP_AUTH_JWKS_URL)",
	"Audience": "--auth-audience (MCP_AUTH_AUDIENCE)",
	"Scopes":   "--auth-scopes (MCP_AUTH_SCOPES)",
	"Resource": "--resource-url (MCP_RESOURCE_URL)",
}

// A guard stands before the endpoint. A nil one lets everybody in.
type guard struct {
	auth  *auth.Auth
	limit func(http.Handler) http.Handler
	host  string // of the resource
}

func newGuard(c Config, log *slog.Logger, o observe.Observer) (*guard, error) {
	if err := c.Auth.check(c.Transport, c.Path); err != nil || c.Auth.Issuer == "" {
		return nil, err
	}
	issuers, err := c.Auth.issuers()
	if err != nil {
		return nil, err
	}
	protected, err := auth.New(auth.Config{
		Resource: c.Auth.ResourceURL,
		Issuers:  issuers,
		Audience: c.Auth.Audience,
		Scopes:   strings.Fields(strings.Join(c.Auth.Scopes, " ")), // also as OAuth has them, with spaces
		Logger:   log,
		Observer: o,
	})
	if bad, ok := errors.AsType[*auth.ConfigError](err); ok {
		return nil, fmt.Errorf("%s: %w", authFlags[bad.Field], bad.Err)
	} else if err != nil {
		return nil, err
	}
	u, err := url.Parse(c.Auth.ResourceURL)
	if err != nil {
		return nil, err
	}
	g := &guard{auth: protected, host: u.Host}
	if n := c.Auth.RateLimit; n != 0 {
		if g.limit, err = auth.RateLimit(n, int(max(10, math.Ceil(10*n))), o); err != nil {
			return nil, fmt.Errorf("--rate-limit (MCP_RATE_LIMIT): %v is not a number of requests a second", n)
		}
	}
	return g, nil
}

// mount serves what everybody may see.
func (g *guard) mount(mux *http.ServeMux) {
	if g == nil {
		return
	}
	g.auth.Prefetch()
	mux.Handle("/.well-known/oauth-protected-resource", g.auth.Metadata())
	mux.Handle("/.well-known/oauth-protected-resource/", g.auth.Metadata())
}

func (g *guard) protect(next http.Handler) http.Handler {
	if g == nil {
		return next
	}
	if g.limit != nil {
		next = g.limit(next)
	}
	return g.auth.Protect(next)
}

// hosts are the names that requests may have which a proxy on this machine passes on.
func (g *guard) hosts() []string {
	if g == nil {
		return nil
	}
	return []string{g.host}
}
