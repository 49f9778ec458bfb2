package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// maxDocument bounds, in bytes, what is read of an authorization server's answer.
const maxDocument = 1 << 20

// newClient returns the client that talks to the authorization server.
func newClient() *http.Client {
	return &http.Client{
		Transport: bounded{http.DefaultTransport},
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			if len(via) > 3 {
				return errors.New("too many redirects")
			}
			return checkURL(r.URL.String())
		},
	}
}

// bounded is a transport whose answers have an end.
type bounded struct{ http.RoundTripper }

// RoundTrip implements [http.RoundTripper].
func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := b.RoundTripper.RoundTrip(r)
	if err == nil {
		resp.Body = http.MaxBytesReader(nil, resp.Body, maxDocument)
	}
	return resp, err
}

// discover reads the issuer's metadata for the address of its keys.
func discover(ctx context.Context, client *http.Client, issuer string) (string, error) {
	var errs []error
	for _, u := range metadataURLs(issuer) {
		keys, err := jwksOf(ctx, client, u, issuer)
		if err == nil {
			return keys, nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", u, err))
	}
	return "", errors.Join(errs...)
}

// metadataURLs are the places for an issuer's metadata, in the order in which clients have to try
// them (Authorization Server Discovery, "Authorization Server Metadata Discovery").
func metadataURLs(issuer string) []string {
	u, err := url.Parse(issuer)
	if err != nil {
		return nil // New has parsed it before
	}
	root, path := u.Scheme+"://"+u.Host, strings.TrimSuffix(u.EscapedPath(), "/")
	urls := []string{
		root + "/.well-known/oauth-authorization-server" + path,
		root + "/.well-known/openid-configuration" + path,
	}
	if path != "" {
		urls = append(urls, root+path+"/.well-known/openid-configuration")
	}
	return urls
}

func jwksOf(ctx context.Context, client *http.Client, address, issuer string) (string, error) {
	body, err := get(ctx, client, address)
	if err != nil {
		return "", err
	}
	var doc struct {
		Issuer  string `json:"issuer"`
		JWKSURI string `json:"jwks_uri"`
	}
	if err := json.Unmarshal(body, &doc); err != nil {
		return "", err
	}
	if doc.Issuer != issuer { // RFC 8414, section 3.3: it must not be used
		return "", fmt.Errorf("this is the metadata of issuer %q", doc.Issuer)
	}
	return doc.JWKSURI, checkURL(doc.JWKSURI)
}

func get(ctx context.Context, client *http.Client, address string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, errors.New(resp.Status)
	}
	return io.ReadAll(resp.Body)
}
