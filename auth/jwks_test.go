package auth_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/sluice-mcp/sluice/auth"
)

// jwk is a public key with changes to its members; nil removes one.
func jwk(key any, changes object) object {
	i := newIssuer("https://issuer.example")
	i.publish(object{"kid": "x", "key": key})
	var set struct{ Keys []object }
	if err := json.Unmarshal([]byte(i.document), &set); err != nil {
		panic(err)
	}
	maps.Copy(set.Keys[0], changes)
	maps.DeleteFunc(set.Keys[0], func(_ string, v any) bool { return v == nil })
	return set.Keys[0]
}

func keySet(keys ...any) string {
	return string(must(json.Marshal(object{"keys": keys})))
}

// A logBuffer is written by fetches and read by a test.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *logBuffer) count(s string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Count(b.text.String(), s)
}

// protected is what a request with a token gets where the issuers are reached without a network.
func protected(t *testing.T, issuers http.RoundTripper, cfg auth.Config) func(token string) int {
	t.Helper()
	cfg.Resource = resource
	a, err := auth.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	auth.SetTransport(a, issuers)
	h := a.Protect(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	return func(token string) int {
		req := httptest.NewRequest(http.MethodPost, "/mcp", nil)
		req.Header.Set("Authorization", "Bearer "+token)
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, req)
		return rec.Code
	}
}

// One key that cannot be understood must not take the others along (RFC 7517, section 5).
func TestAKeyThatCannotBeUsedIsIgnored(t *testing.T) {
	t.Parallel()
	b64 := base64.RawURLEncoding.EncodeToString
	small := must(rsa.GenerateKey(rand.Reader, 1024))
	// A certificate whose serial number is -1: SEQUENCE { SEQUENCE { [0] { 2 }, -1 … } }.
	negative := base64.StdEncoding.EncodeToString([]byte{0x30, 0x0a, 0x30, 0x08, 0xa0, 0x03, 0x02, 0x01, 0x02, 0x02, 0x01, 0xff})
	for name, c := range map[string]struct {
		key    any
		status int // of a token that is signed with this key, if it is rsaKey
		logged bool
	}{
		// What only describes the key is not read.
		"x5c with a negative serial number":        {jwk(rsaKey(), object{"x5c": []string{negative}}), 200, false},
		"x5c that is no base64":                    {jwk(rsaKey(), object{"x5c": []string{"%"}}), 200, false},
		"x5c that is a string":                     {jwk(rsaKey(), object{"x5c": negative}), 200, false},
		"x5t that is not x5c's hash":               {jwk(rsaKey(), object{"x5c": []string{negative}, "x5t": "AAAA", "x5t#S256": "AAAA"}), 200, false},
		"x5t that is a number":                     {jwk(rsaKey(), object{"x5t": 7}), 200, false},
		"x5u without TLS":                          {jwk(rsaKey(), object{"x5u": "http://keys.example"}), 200, false},
		"members of other types":                   {jwk(rsaKey(), object{"x": 7, "y": object{}, "k": 1, "d": false, "oth": "x"}), 200, false},
		"members with other capitals":              {jwk(rsaKey(), object{"KTY": "oct", "Use": "enc", "N": 1}), 200, false},
		"members that nobody knows":                {jwk(rsaKey(), object{"exp": 7, "nbf": "x", "revoked": object{}}), 200, false},
		"key_ops that has others too":              {jwk(rsaKey(), object{"key_ops": []string{"verify", "dance"}}), 200, false},
		"padded base64":                            {jwk(rsaKey(), object{"e": "AQAB===="}), 200, false},
		"a member twice, of which the last counts": {json.RawMessage(strings.Replace(string(must(json.Marshal(jwk(rsaKey(), nil)))), "{", `{"kty":"oct","n":"%",`, 1)), 200, false},

		"not for signatures":                   {jwk(rsaKey(), object{"use": "enc"}), 401, false},
		"only to encrypt":                      {jwk(rsaKey(), object{"key_ops": []string{"encrypt", "wrapKey"}}), 401, false},
		"an unknown use":                       {jwk(rsaKey(), object{"use": "SIG"}), 401, true},
		"a use that is a number":               {jwk(rsaKey(), object{"use": 7}), 401, true},
		"an unknown type":                      {jwk(rsaKey(), object{"kty": "LWE"}), 401, true},
		"no type":                              {jwk(rsaKey(), object{"kty": nil}), 401, true},
		"a type that is null":                  {jwk(rsaKey(), object{"kty": json.RawMessage("null")}), 401, true},
		"a symmetric key":                      {object{"kty": "oct", "kid": "x", "k": b64(make([]byte, 32))}, 401, true},
		"no modulus":                           {jwk(rsaKey(), object{"n": nil}), 401, true},
		"no exponent":                          {jwk(rsaKey(), object{"e": nil}), 401, true},
		"a modulus of null":                    {jwk(rsaKey(), object{"n": json.RawMessage("null")}), 401, true},
		"bad base64":                           {jwk(rsaKey(), object{"n": "%%%"}), 401, true},
		"standard base64":                      {jwk(rsaKey(), object{"n": "+/+/"}), 401, true},
		"an exponent of one":                   {jwk(rsaKey(), object{"e": "AQ"}), 401, true},
		"a huge exponent":                      {jwk(rsaKey(), object{"e": b64(bytes.Repeat([]byte{0xff}, 64))}), 401, true},
		"a small RSA key":                      {jwk(small, object{"kid": "x"}), 401, true},
		"a huge RSA key":                       {jwk(rsaKey(), object{"n": b64(bytes.Repeat([]byte{0xff}, 4096))}), 401, true},
		"a key ID of a number":                 {jwk(rsaKey(), object{"kid": 7}), 401, true},
		"key_ops of a string":                  {jwk(rsaKey(), object{"key_ops": "verify"}), 401, true},
		"an algorithm of another type":         {jwk(rsaKey(), object{"alg": "ES256"}), 401, true},
		"an unknown algorithm":                 {jwk(rsaKey(), object{"alg": "RS257"}), 401, true},
		"a symmetric algorithm":                {jwk(rsaKey(), object{"alg": "HS256"}), 401, true},
		"an unknown curve":                     {jwk(ecKey(), object{"crv": "secp256k1"}), 401, true},
		"no curve":                             {jwk(ecKey(), object{"crv": nil}), 401, true},
		"a point that is not on the curve":     {jwk(ecKey(), object{"x": b64([]byte{1})}), 401, true},
		"no y":                                 {jwk(ecKey(), object{"y": nil}), 401, true},
		"a curve of Edwards that is not there": {jwk(edKey(), object{"crv": "Ed448"}), 401, true},
		"a curve of Edwards for agreement":     {jwk(edKey(), object{"crv": "X25519"}), 401, true},
		"half a point":                         {jwk(edKey(), object{"x": b64(make([]byte, 16))}), 401, true},
		"null":                                 {nil, 401, true},
		"a number":                             {7, 401, true},
		"a string":                             {"key", 401, true},
		"an array":                             {[]any{}, 401, true},
		"nothing":                              {object{}, 401, true},
	} {
		for place, set := range map[string]string{
			"before": keySet(c.key, jwk(ecKey(), object{"kid": "ec"})), "behind": keySet(jwk(ecKey(), object{"kid": "ec"}), c.key),
		} {
			t.Run(name+" "+place, func(t *testing.T) {
				t.Parallel()
				i := newIssuer("https://issuer.example")
				i.set(set)
				log := new(logBuffer)
				status := protected(t, i, auth.Config{Issuer: i.url, Logger: slog.New(slog.NewTextHandler(log, nil))})
				if got := status(i.token()); got != 200 {
					t.Errorf("under the good key: HTTP %d\n%s", got, log.text.String())
				}
				if got := status(sign(jwt.SigningMethodRS256, rsaKey(), object{"kid": "x"}, i.claims())); got != c.status {
					t.Errorf("under the other key: HTTP %d, want %d\n%s", got, c.status, log.text.String())
				}
				if n := log.count("\n"); n > 1 || (n == 1) != c.logged {
					t.Errorf("the log:\n%s", log.text.String())
				}
			})
		}
	}
}

func TestAnIgnoredKeyIsLoggedOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		i := newIssuer("https://issuer.example")
		log := new(logBuffer)
		status := protected(t, i, auth.Config{Issuer: i.url, Logger: slog.New(slog.NewTextHandler(log, nil))})
		good := jwk(ecKey(), object{"kid": "ec"})
		for _, set := range []struct {
			keys string
			log  int // lines up to here
		}{
			{keySet(good, object{"kid": "a"}), 1},
			{keySet(good, object{"kid": "a"}), 1},
			{keySet(good, object{"kid": "a"}, object{"kid": "b\nc"}), 2},
			{keySet(good), 2},
		} {
			i.set(set.keys)
			for range 3 {
				if got := status(i.token()); got != 200 {
					t.Errorf("HTTP %d", got)
				}
				time.Sleep(16 * time.Minute)
				synctest.Wait()
			}
			if n := log.count("\n"); n != set.log {
				t.Errorf("with %s: %d lines, want %d:\n%s", set.keys, n, set.log, log.text.String())
			}
		}
		if log.count(i.url) != 2 {
			t.Errorf("the issuer is not named:\n%s", log.text.String())
		}
	})
}

// A set in which nothing is understood says nothing about the keys; one that has none for signatures takes them back.
func TestASetWithoutAKeyForSignatures(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		i := newIssuer("https://issuer.example")
		status := protected(t, i, auth.Config{Issuer: i.url})
		status(i.token())
		for _, c := range []struct {
			set    string
			status int
		}{
			{keySet(object{"kid": "ec"}), 200},
			{`[]`, 200},
			{`{}`, 200},
			{`{"keys":null}`, 200},
			{`{"keys":{}}`, 200},
			{`{"KEYS":[]}`, 200},
			{`null`, 200},
			{``, 200},
			{keySet(jwk(rsaKey(), object{"use": "enc"})), 503},
			{keySet(jwk(ecKey(), object{"kid": "ec"})), 200},
			{`{"keys":[]}`, 503},
		} {
			i.set(c.set)
			time.Sleep(16 * time.Minute)
			status(i.token())
			synctest.Wait()
			if got := status(i.token()); got != c.status {
				t.Errorf("%s: HTTP %d, want %d", c.set, got, c.status)
			}
		}
	})
}

// A key ID is not unique: Keycloak's sets have keys for signatures and encryption under one, others RSA and EC.
func TestKeysThatShareAnID(t *testing.T) {
	t.Parallel()
	p384 := must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))
	point := must(p384.PublicKey.Bytes())
	b64 := base64.RawURLEncoding.EncodeToString
	keys := []object{
		jwk(rsaKey(), object{"use": "enc", "alg": "RSA-OAEP"}),
		jwk(newKey(), object{"key_ops": []string{"decrypt"}}),
		jwk(rsaKey(), object{"use": "sig", "alg": "RS256"}),
		jwk(newKey(), object{"alg": "PS512"}),
		jwk(ecKey(), nil),
		{"kid": "x", "kty": "EC", "crv": "P-384", "x": b64(point[1:49]), "y": b64(point[49:])},
		jwk(edKey(), nil),
	}
	other := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	second := jwk(other, nil) // of the same type, curve and ID
	keys = append(keys, second)
	for name, order := range map[string]func() []any{
		"forwards": func() (all []any) {
			for _, k := range keys {
				all = append(all, k)
			}
			return all
		},
		"backwards": func() (all []any) {
			for n := range keys {
				all = append(all, keys[len(keys)-1-n])
			}
			return all
		},
	} {
		i := newIssuer("https://issuer.example")
		i.set(keySet(order()...))
		status := protected(t, i, auth.Config{Issuer: i.url})
		for _, header := range []object{{"kid": "x"}, nil} {
			for _, c := range []struct {
				method jwt.SigningMethod
				key    any
				status int
			}{
				{jwt.SigningMethodRS256, rsaKey(), 200},
				{jwt.SigningMethodRS384, rsaKey(), 401},
				{jwt.SigningMethodPS256, rsaKey(), 401},
				{jwt.SigningMethodRS256, newKey(), 401},
				{jwt.SigningMethodPS512, newKey(), 200},
				{jwt.SigningMethodES256, ecKey(), 200},
				{jwt.SigningMethodES256, other, 200},
				{jwt.SigningMethodES384, p384, 200},
				{jwt.SigningMethodEdDSA, edKey(), 200},
			} {
				if got := status(sign(c.method, c.key, header, i.claims())); got != c.status {
					t.Errorf("%s, %v, %s: HTTP %d, want %d", name, header, c.method.Alg(), got, c.status)
				}
			}
		}
		if got := status(sign(jwt.SigningMethodES256, other, object{"kid": "y"}, i.claims())); got != 401 {
			t.Errorf("another ID: HTTP %d", got)
		}
		if got := status(sign(jwt.SigningMethodES256, other, object{"kid": ""}, i.claims())); got != 401 {
			t.Errorf("an empty ID: HTTP %d", got)
		}
	}
}

// A new key may come under the ID of the old one, or under none.
func TestKeysThatAreReplaced(t *testing.T) {
	t.Parallel()
	for _, id := range []any{"k", nil} {
		for _, header := range []object{{"kid": "k"}, nil} {
			t.Run(fmt.Sprint(id, header), func(t *testing.T) {
				inVirtualTime(t, func(t *testing.T, i *issuer, status func(string) int) {
					publish := func(keys ...any) {
						var set []any
						for _, key := range keys {
							set = append(set, jwk(key, object{"kid": id}))
						}
						i.set(keySet(set...))
					}
					before := sign(jwt.SigningMethodRS256, rsaKey(), header, i.claims())
					after := sign(jwt.SigningMethodRS256, newKey(), header, i.claims())
					publish(rsaKey())
					if got := status(before); got != 200 {
						t.Fatalf("HTTP %d", got)
					}
					time.Sleep(time.Minute)
					publish(newKey(), ecKey())
					if got := status(after); got != 200 {
						t.Errorf("the first token under the new key: HTTP %d", got)
					}
					if got := status(before); got != 401 {
						t.Errorf("a token under the old one: HTTP %d", got)
					}
					if n := i.asked.Load(); n != 2 {
						t.Errorf("fetched %d times, want 2", n)
					}
					// Bad signatures are no way to make us ask more often.
					for begin := time.Now(); time.Since(begin) < time.Minute; time.Sleep(10 * time.Millisecond) {
						if got := status(before); got != 401 {
							t.Fatalf("HTTP %d", got)
						}
					}
					if n := i.asked.Load(); n > 9 {
						t.Errorf("a minute of bad signatures: fetched %d times", n)
					}
					time.Sleep(time.Minute)
					i.down.Store(true)
					if got := status(before); got != 503 {
						t.Errorf("a key that may be new: HTTP %d", got)
					}
					if got := status(after); got != 200 {
						t.Errorf("a good token while the issuer is away: HTTP %d", got)
					}
				})
			})
		}
	}
}

// hosts are several issuers, reached without a network.
type hosts map[string]*issuer

func (h hosts) RoundTrip(r *http.Request) (*http.Response, error) {
	i := h[r.URL.Host]
	if i == nil {
		return nil, fmt.Errorf("nobody is at %s", r.URL.Host)
	}
	return i.RoundTrip(r)
}

func TestSeveralIssuers(t *testing.T) {
	t.Parallel()
	a, b := newIssuer("https://a.example"), newIssuer("https://b.example/realm")
	b.publish(object{"kid": "ec", "key": newKey()})
	b.metadata["jwks_uri"] = "https://b.example/keys"
	c := newIssuer("https://c.example")
	status := protected(t, hosts{"a.example": a, "b.example": b, "c.example": c}, auth.Config{
		Issuer: a.url, Issuers: []auth.Issuer{{URL: b.url, JWKSURL: "https://b.example/keys"}, {URL: "https://d.example"}},
	})
	ofB := sign(jwt.SigningMethodRS256, newKey(), object{"kid": "ec"}, b.claims())
	if got := status(a.token()); got != 200 {
		t.Errorf("of the first: HTTP %d", got)
	}
	if n := b.asked.Load(); n != 0 {
		t.Errorf("a token of the first made us ask the second %d times", n)
	}
	if got := status(ofB); got != 200 {
		t.Errorf("of the second: HTTP %d", got)
	}
	for name, token := range map[string]string{
		"the first's, under the second's key": sign(jwt.SigningMethodRS256, newKey(), object{"kid": "ec"}, a.claims()),
		"the second's, under the first's key": sign(jwt.SigningMethodES256, ecKey(), object{"kid": "ec"}, b.claims()),
		"a stranger's":                        c.token(),
		"the first's with a slash":            a.token(object{"iss": a.url + "/"}),
		"both":                                a.token(object{"iss": a.url + "," + b.url}),
		"for another audience":                sign(jwt.SigningMethodRS256, newKey(), object{"kid": "ec"}, b.claims(object{"aud": "x"})),
	} {
		if got := status(token); got != 401 {
			t.Errorf("%s: HTTP %d", name, got)
		}
	}
	if n := c.asked.Load(); n != 0 {
		t.Errorf("a stranger was asked for keys %d times", n)
	}
	if got := status(sign(jwt.SigningMethodES256, ecKey(), object{"kid": "ec"}, a.claims(object{"iss": "https://d.example"}))); got != 503 {
		t.Errorf("of one that is away: HTTP %d", got)
	}
	if got := status(a.token()); got != 200 {
		t.Errorf("of the first, while another is away: HTTP %d", got)
	}
}

func TestOnlyAccessTokensCount(t *testing.T) {
	t.Parallel()
	i := newIssuer("https://issuer.example")
	status := protected(t, i, auth.Config{Issuer: i.url, Audience: []string{"client-7"}})
	for _, c := range []struct {
		typ    any
		claims object
		status int
	}{
		{nil, nil, 200},
		{"JWT", nil, 200},
		{"jwt", nil, 200},
		{"at+jwt", nil, 200},
		{"AT+JWT", nil, 200},
		{"application/at+jwt", nil, 200},
		{"Application/AT+JWT", nil, 200},
		{"application/jwt", nil, 200},
		{"", nil, 401},
		{"id+jwt", nil, 401},
		{"logout+jwt", nil, 401},
		{"secevent+jwt", nil, 401},
		{"dpop+jwt", nil, 401},
		{"oauth-id-jag+jwt", nil, 401},
		{"token-introspection+jwt", nil, 401},
		{"rt+jwt", nil, 401},
		{"application/logout+jwt", nil, 401},
		{"JOSE", nil, 401},
		{"xat+jwt", nil, 401},
		{"at+jwt;x=y", nil, 401},
		{" at+jwt", nil, 401},
		{"text/at+jwt", nil, 401},
		{7, nil, 401},
		{[]string{"at+jwt"}, nil, 401},
		{json.RawMessage("null"), nil, 401},

		{"JWT", object{"nonce": "n"}, 200},
		{"JWT", object{"typ": "Bearer"}, 200},
		{"JWT", object{"token_use": "access"}, 200},
		{"JWT", object{"typ": 7}, 200},
		{"JWT", object{"at_hash": "x"}, 401},
		{nil, object{"at_hash": "x"}, 401},
		{nil, object{"c_hash": "x"}, 401},
		{"JWT", object{"events": object{"http://schemas.openid.net/event/backchannel-logout": object{}}}, 401},
		{"JWT", object{"token_use": "id"}, 401},
		{"JWT", object{"typ": "ID"}, 401},
		{"JWT", object{"typ": "Refresh"}, 401},
		{"JWT", object{"typ": "Logout"}, 401},
	} {
		token := sign(jwt.SigningMethodES256, ecKey(), object{"kid": "ec", "typ": c.typ}, i.claims(object{"aud": "client-7"}, c.claims))
		if got := status(token); got != c.status {
			t.Errorf("typ %v, %v: HTTP %d, want %d", c.typ, c.claims, got, c.status)
		}
	}
}

func TestEd25519HasTwoNames(t *testing.T) {
	t.Parallel()
	for _, of := range []any{nil, "EdDSA", "Ed25519"} {
		i := newIssuer("https://issuer.example")
		i.set(keySet(jwk(edKey(), object{"kid": "ed", "alg": of}), jwk(ecKey(), object{"kid": "ec"})))
		status := protected(t, i, auth.Config{Issuer: i.url})
		for _, c := range []struct {
			alg, kid string
			status   int
		}{
			{"EdDSA", "ed", 200},
			{"Ed25519", "ed", 200},
			{"ed25519", "ed", 401},
			{"Ed448", "ed", 401},
			{"ES256", "ed", 401},
			{"ESP256", "ed", 401},
			{"Ed25519", "ec", 401},
		} {
			token := jwt.NewWithClaims(jwt.SigningMethodEdDSA, i.claims())
			token.Header["alg"], token.Header["kid"] = c.alg, c.kid
			if got := status(must(token.SignedString(edKey()))); got != c.status {
				t.Errorf("alg %q under a key with alg %v: HTTP %d, want %d", c.alg, of, got, c.status)
			}
		}
	}
}
