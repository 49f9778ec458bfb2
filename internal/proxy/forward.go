package proxy

import (
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
)

// Forward returns a handler that passes every request on to the server at target, whatever its path, through the transport, which
// adds what identifies us. Streams pass event by event.
//
// Whoever reaches the handler acts in our name. So it must listen on a loopback address, and it refuses what web pages
// send: requests from another origin, and names for this machine that somebody else's DNS invented.
func Forward(target *url.URL, transport http.RoundTripper, log *slog.Logger) http.Handler {
	forward := &httputil.ReverseProxy{
		Transport:     transport,
		FlushInterval: -1, // at once
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = target.Scheme, target.Host
			r.Out.Host = "" // the target's own
		},
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug), // connections that clients give up
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if r.Context().Err() == nil {
				log.Error("cannot reach the server", "error", err)
			}
			http.Error(w, "sluice proxy: cannot reach the server: "+err.Error(), http.StatusBadGateway)
		},
	}
	guarded := http.NewCrossOriginProtection().Handler(forward)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !isLoopback(r.Host) || r.Header.Get("Origin") != "" && !isOwn(r) {
			http.Error(w, "sluice proxy: this is for programs on this machine, not for web pages", http.StatusForbidden)
			return
		}
		// Else the first byte of a response closes the request's body. A transport that looks only then whether the body is
		// over takes the request for failed, and cuts the response off.
		_ = http.NewResponseController(w).EnableFullDuplex()
		guarded.ServeHTTP(w, r)
	})
}

func isLoopback(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return ip != nil && ip.IsLoopback() || strings.EqualFold(host, "localhost")
}

// isOwn holds GET requests to the origin, too, which the standard library's protection takes for harmless.
func isOwn(r *http.Request) bool {
	return strings.EqualFold(r.Header.Get("Origin"), "http://"+r.Host)
}
