package token

import (
	"net/http"
	"net/url"
	"strings"
)

// Transport adds a token to requests for one server. A request for another, as after a redirect, gets none.
type Transport struct {
	Base   http.RoundTripper
	Server *url.URL
	Tokens *Cache // nil: no token is added
}

// RoundTrip implements [http.RoundTripper]. A token that is answered with 401 is replaced and, if the body can be
// sent again, the request is too: once.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if t.Tokens == nil || req.URL.Scheme != t.Server.Scheme || !strings.EqualFold(req.URL.Host, t.Server.Host) {
		return t.Base.RoundTrip(req)
	}
	token, err := t.Tokens.Token(req.Context())
	if err != nil {
		if req.Body != nil {
			_ = req.Body.Close() // as a RoundTripper must, also when it fails
		}
		return nil, err
	}
	resp, err := t.Base.RoundTrip(withToken(req, token))
	if err != nil || resp.StatusCode != http.StatusUnauthorized {
		return resp, err
	}
	t.Tokens.Refused(token)
	if req.Body != nil && req.GetBody == nil {
		return resp, nil
	}
	fresh, err := t.Tokens.Token(req.Context())
	if err != nil || fresh == token {
		return resp, nil //nolint:nilerr // the 401 says more than that there is no other token
	}
	again := withToken(req, fresh)
	if req.GetBody != nil {
		if again.Body, err = req.GetBody(); err != nil {
			return resp, nil //nolint:nilerr // as above
		}
	}
	_ = resp.Body.Close()
	return t.Base.RoundTrip(again)
}

func withToken(req *http.Request, token string) *http.Request {
	req = req.Clone(req.Context())
	req.Header.Set("Authorization", "Bearer "+token)
	return req
}
