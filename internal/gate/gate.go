// Package gate decides whether a request may come in at all: from where it comes, and to which name it was sent. It comes
// before everything else, and knows nothing of the protocol.
package gate

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/sluice-mcp/sluice/internal/answer"
	"github.com/sluice-mcp/sluice/internal/observed"
	"github.com/sluice-mcp/sluice/internal/wire"
	"github.com/sluice-mcp/sluice/observe"
)

// A Gate has the exceptions to what it lets in anyway: requests that come from no browser, pages of the endpoint's own
// origin, and, on a loopback address, requests that name this machine.
type Gate struct {
	// Origins are the foreign browser origins that may call.
	Origins []string
	// Hosts are further values of the Host header that a request may have which arrives at a loopback address.
	Hosts []string
	// Observer is told of requests that are turned away. It may be nil.
	Observer observe.Observer
}

// Admit lets a request pass that may come from where it says it comes, and answers the others
// (Streamable HTTP, "Security Warning"). It sees every method of every transport. When it reports false, it has answered.
func (g *Gate) Admit(w http.ResponseWriter, r *http.Request) bool {
	if !g.hostAllowed(r) {
		g.refused(r, observe.RefusedHost)
		answer.Error(w, http.StatusForbidden, "", wire.InvalidRequest("Forbidden: this Host is not served here"))
		return false
	}
	origins := r.Header["Origin"]
	if len(origins) == 0 {
		return true
	}
	w.Header().Add("Vary", "Origin")
	if len(origins) > 1 || !g.originAllowed(r, origins[0]) {
		g.refused(r, observe.RefusedOrigin)
		answer.Error(w, http.StatusForbidden, "", wire.InvalidRequest("Forbidden: this Origin may not call the server"))
		return false
	}
	head := w.Header()
	head.Set("Access-Control-Allow-Origin", origins[0])
	head.Set("Access-Control-Expose-Headers", "Mcp-Session-Id, Mcp-Protocol-Version, WWW-Authenticate, Retry-After, X-Request-Id")
	if r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {
		head.Add("Vary", "Access-Control-Request-Method, Access-Control-Request-Headers")
		head.Set("Access-Control-Allow-Methods", "GET, POST, DELETE")
		head.Set("Access-Control-Allow-Headers", preflightHeaders(r))
		head.Set("Access-Control-Max-Age", "600")
		w.WriteHeader(http.StatusNoContent)
		return false
	}
	return true
}

func (g *Gate) refused(r *http.Request, why observe.RefuseReason) {
	observed.Tell(r.Context(), g.Observer, observe.Refused{Reason: why})
}

// used are the headers that clients of any revision send.
var used = []string{
	"Accept", "Authorization", "Content-Type", "Last-Event-Id", wire.HeaderMethod, wire.HeaderName, wire.HeaderVersion, wire.HeaderSession,
}

// preflightHeaders allows what the protocol uses, and what the page asks for: its origin may call, and which headers it needs
// beyond the protocol's, for a key or for tracing, is between it and the program's middleware. A name that is not a token is left
// out: it is no header, and it would be written into one.
func preflightHeaders(r *http.Request) string {
	allowed := slices.Clone(used)
	for _, line := range r.Header.Values("Access-Control-Request-Headers") {
		for name := range strings.SplitSeq(line, ",") {
			name = http.CanonicalHeaderKey(strings.Trim(name, " \t")) // browsers compare without case
			if isToken(name) && !slices.Contains(allowed, name) {
				allowed = append(allowed, name)
			}
		}
	}
	return strings.Join(allowed, ", ")
}

// isToken reports whether s can be the name of a header (RFC 9110 section 5.6.2).
func isToken(s string) bool {
	return s != "" && strings.IndexFunc(s, func(c rune) bool {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		return !letter && !strings.ContainsRune("!#$%&'*+-.^_`|~", c)
	}) < 0
}

// hostAllowed keeps pages whose name was made to point at this machine from talking to a local server.
func (g *Gate) hostAllowed(r *http.Request) bool {
	local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if !ok || !loopbackAddr(local) {
		return true
	}
	return loopbackHost(r.Host) || slices.ContainsFunc(g.Hosts, func(allowed string) bool {
		return strings.EqualFold(allowed, r.Host) || strings.EqualFold(allowed, hostname(r.Host))
	})
}

func (g *Gate) originAllowed(r *http.Request, origin string) bool {
	if slices.Contains(g.Origins, origin) {
		return true
	}
	u, err := url.Parse(origin)
	if err != nil || u.Host == "" { // "null" too: sandboxed pages and files
		return false
	}
	// The same origin, or a page of this machine (a local inspector) calling a server of this machine.
	return strings.EqualFold(u.Host, r.Host) || loopbackHost(u.Host) && loopbackHost(r.Host)
}

// loopbackHost reports whether a host, with or without port, names this machine.
func loopbackHost(host string) bool {
	name := hostname(host)
	if strings.EqualFold(name, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(strings.Trim(name, "[]"))
	return err == nil && addr.IsLoopback()
}

// hostname is a host without its port.
func hostname(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		return name
	}
	return host
}

func loopbackAddr(a net.Addr) bool {
	if tcp, ok := a.(*net.TCPAddr); ok { // nearly always, and told without a text
		return tcp.IP.IsLoopback()
	}
	ap, err := netip.ParseAddrPort(a.String())
	return err == nil && ap.Addr().Unmap().IsLoopback()
}
