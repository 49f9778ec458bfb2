package auth_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

type object = map[string]any

// Keys take long to make, so all issuers have the same; what differs is what they publish.
var (
	rsaKey = sync.OnceValue(func() *rsa.PrivateKey { return must(rsa.GenerateKey(rand.Reader, 2048)) })
	newKey = sync.OnceValue(func() *rsa.PrivateKey { return must(rsa.GenerateKey(rand.Reader, 2048)) })
	ecKey  = sync.OnceValue(func() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) })
	edKey  = sync.OnceValue(func() ed25519.PrivateKey { return ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)) })
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// An issuer stands in for an authorization server: it publishes metadata and keys, and signs what a test likes.
type issuer struct {
	url   string
	asked atomic.Int64 // for keys
	down  atomic.Bool

	mu       sync.Mutex
	document string // the key set
	metadata object
	moved    string // where /moved leads
}

// newIssuer returns an issuer that is not served anywhere yet.
func newIssuer(url string) *issuer {
	i := &issuer{url: url, metadata: object{"issuer": url, "jwks_uri": url + "/keys"}}
	i.publish(object{"kid": "rsa", "key": rsaKey()}, object{"kid": "ec", "key": ecKey(), "alg": "ES256"}, object{"kid": "ed", "key": edKey()})
	return i
}

// startIssuer serves one on a loopback address.
func startIssuer(t *testing.T) *issuer {
	t.Helper()
	var i *issuer
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { i.ServeHTTP(w, r) }))
	t.Cleanup(server.Close)
	i = newIssuer(server.URL)
	return i
}

func (i *issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	switch {
	case i.down.Load():
		if r.URL.Path == "/keys" {
			i.asked.Add(1)
		}
		http.Error(w, "down", http.StatusBadGateway)
	case r.URL.Path == "/keys":
		i.asked.Add(1)
		_, _ = w.Write([]byte(i.document))
	case r.URL.Path == "/moved":
		http.Redirect(w, r, i.moved, http.StatusFound)
	case r.URL.Path == "/.well-known/openid-configuration":
		_ = json.NewEncoder(w).Encode(i.metadata)
	default:
		http.NotFound(w, r)
	}
}

// RoundTrip lets an issuer be reached without a network.
func (i *issuer) RoundTrip(r *http.Request) (*http.Response, error) {
	rec := httptest.NewRecorder()
	i.ServeHTTP(rec, r)
	resp := rec.Result()
	resp.Request = r
	return resp, nil
}

// publish replaces the key set. Each key is an object with kid and key, and perhaps alg and use.
func (i *issuer) publish(keys ...object) {
	b64 := base64.RawURLEncoding.EncodeToString
	set := make([]object, 0)
	for _, k := range keys {
		jwk := maps.Clone(k)
		delete(jwk, "key")
		switch key := k["key"].(type) {
		case *rsa.PrivateKey:
			jwk["kty"], jwk["n"], jwk["e"] = "RSA", b64(key.N.Bytes()), b64(big.NewInt(int64(key.E)).Bytes())
		case *ecdsa.PrivateKey:
			point := must(key.PublicKey.Bytes())
			jwk["kty"], jwk["crv"], jwk["x"], jwk["y"] = "EC", "P-256", b64(point[1:33]), b64(point[33:])
		case ed25519.PrivateKey:
			jwk["kty"], jwk["crv"], jwk["x"] = "OKP", "Ed25519", b64(key.Public().(ed25519.PublicKey))
		case []byte:
			jwk["kty"], jwk["k"] = "oct", b64(key)
		}
		set = append(set, jwk)
	}
	i.set(string(must(json.Marshal(object{"keys": set}))))
}

// set replaces the key set by any text.
func (i *issuer) set(document string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.document = document
}

const resource = "https://mcp.example.com/mcp"

// claims are those of a good token for alice, with changes; a nil value removes a claim.
func (i *issuer) claims(changes ...object) jwt.MapClaims {
	c := jwt.MapClaims{"iss": i.url, "sub": "alice", "aud": resource, "exp": time.Now().Add(time.Hour).Unix(), "scope": "mcp"}
	for _, change := range changes {
		for name, value := range change {
			if c[name] = value; value == nil {
				delete(c, name)
			}
		}
	}
	return c
}

// token is a good token for alice, with changes to its claims.
func (i *issuer) token(changes ...object) string {
	return sign(jwt.SigningMethodES256, ecKey(), object{"kid": "ec"}, i.claims(changes...))
}

func sign(method jwt.SigningMethod, key crypto.PrivateKey, header object, claims jwt.MapClaims) string {
	t := jwt.NewWithClaims(method, claims)
	for name, value := range header {
		if t.Header[name] = value; value == nil {
			delete(t.Header, name)
		}
	}
	return must(t.SignedString(key))
}
