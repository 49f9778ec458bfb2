package caller

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"net/http"
	"net/url"

	"github.com/modelcontextprotocol/go-sdk/auth"
)

// origin is what is kept of a request whose work may have to go on at another replica, without its client: never the token
// itself, nor a cookie.
type origin struct {
	URL    string          `json:"url"`
	Host   string          `json:"host"`
	Remote string          `json:"remote,omitempty"`
	Header http.Header     `json:"header"`
	Token  *auth.TokenInfo `json:"token,omitempty"`
}

// secret are headers that are credentials.
var secret = []string{"Authorization", "Cookie", "Proxy-Authorization", "X-Api-Key"}

// Origin returns what [Recall] needs.
func Origin(r *http.Request) json.RawMessage {
	header := maps.Clone(r.Header)
	for _, name := range secret {
		delete(header, name)
	}
	raw, err := json.Marshal(origin{URL: r.URL.RequestURI(), Host: r.Host, Remote: r.RemoteAddr, Header: header, Token: auth.TokenInfoFromContext(r.Context())})
	if err != nil { // what a verifier has put into the token's Extra is no JSON
		raw, _ = json.Marshal(origin{URL: r.URL.RequestURI(), Host: r.Host, Header: header}) // texts only
	}
	return raw
}

// Recall returns a request that is like the one that [Origin] was asked for: for who chooses a server by the request, and for
// handlers. What HTTP middleware had put into its context is gone, but for the token's information.
func Recall(ctx context.Context, raw json.RawMessage) (*http.Request, error) {
	var o origin
	if err := json.Unmarshal(raw, &o); err != nil {
		return nil, fmt.Errorf("reading where a task comes from: %w", err)
	}
	u, err := url.ParseRequestURI(o.URL)
	if err != nil {
		return nil, fmt.Errorf("reading where a task comes from: %w", err)
	}
	r := (&http.Request{
		Method: http.MethodPost, URL: u, Host: o.Host, RemoteAddr: o.Remote, Header: o.Header, RequestURI: o.URL,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Body: http.NoBody,
	}).WithContext(ctx)
	if r.Header == nil {
		r.Header = make(http.Header)
	}
	if o.Token != nil {
		r = withToken(r, o.Token)
	}
	return r, nil
}

// withToken puts the information of a token into the context of a request. The SDK has no other way to it than its
// middleware, which is told that the token may be older than its time: it was good when the work began.
func withToken(r *http.Request, info *auth.TokenInfo) *http.Request {
	verified := func(context.Context, string, *http.Request) (*auth.TokenInfo, error) { return info, nil }
	out := r
	keep := http.HandlerFunc(func(_ http.ResponseWriter, with *http.Request) { out = with })
	asked := r.Clone(r.Context())
	asked.Header.Set("Authorization", "Bearer recalled")
	options := &auth.RequireBearerTokenOptions{AllowMissingExpiration: true, ClockSkew: math.MaxInt64 / 2}
	auth.RequireBearerToken(verified, options)(keep).ServeHTTP(nowhere{}, asked)
	out.Header.Del("Authorization")
	return out
}

// nowhere is a client that nothing is said to.
type nowhere struct{}

func (nowhere) Header() http.Header         { return make(http.Header) }
func (nowhere) WriteHeader(int)             {}
func (nowhere) Write(p []byte) (int, error) { return len(p), nil }
