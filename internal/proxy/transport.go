package proxy

import (
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// maxRedirects bounds how often a server may send a request elsewhere.
const maxRedirects = 10

// NewTransport returns a transport whose connections do not die unnoticed: after sleep, or behind a NAT that has
// forgotten them, they would else take requests for a quarter of an hour.
func NewTransport() *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.DisableCompression = true // a compressed stream comes in blocks, not in events
	t.HTTP2 = &http.HTTP2Config{SendPingTimeout: 5 * time.Second, PingTimeout: 5 * time.Second}
	dialer := &net.Dialer{
		Timeout:         10 * time.Second,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 5 * time.Second, Count: 3},
		Control:         boundUnanswered,
	}
	t.DialContext = dialer.DialContext
	return t
}

// CheckRedirect follows redirects that keep the method and the body (RFC 9110, 15.4.8 and 15.4.9), and only to where the
// request was sent anyway: nobody has asked to talk to another server, or to tell it who we are.
func CheckRedirect(req *http.Request, via []*http.Request) error {
	keeps := req.Response.StatusCode == http.StatusTemporaryRedirect || req.Response.StatusCode == http.StatusPermanentRedirect
	if !keeps || !sameOrigin(req.URL, via[0].URL) || len(via) > maxRedirects {
		return http.ErrUseLastResponse
	}
	return nil
}

func sameOrigin(a, b *url.URL) bool {
	return a.Scheme == b.Scheme && strings.EqualFold(a.Hostname(), b.Hostname()) && port(a) == port(b)
}

func port(u *url.URL) string {
	switch {
	case u.Port() != "":
		return u.Port()
	case u.Scheme == "https":
		return "443"
	}
	return "80"
}
