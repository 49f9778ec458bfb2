package auth

import "net/http"

// For tests in virtual time, which cannot wait for a real network, and of what has no face of its own.
var (
	Canonical    = canonical
	MetadataURLs = metadataURLs
)

// SetTransport makes a talk to its issuers through t.
func SetTransport(a *Auth, t http.RoundTripper) { a.client.Transport = bounded{t} }
