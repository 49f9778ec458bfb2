package auth

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
	sdk "github.com/modelcontextprotocol/go-sdk/auth"
)

// skew is how far the issuer's clock and ours may be apart.
const skew = 30 * time.Second

// algEd25519 is the name that says which curve EdDSA is meant to be on (RFC 9864, section 2.2). Those on P-256 and its like need
// none: ES256 is fully specified, and ESP256 is its name in COSE only (section 2.1).
const algEd25519 = "Ed25519"

// algorithms are the asymmetric ones. Among them must never be "none", nor an HMAC: its key would be the
// issuer's public one, which everybody has.
var algorithms = []string{
	"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", algEd25519,
}

// ed25519Method is EdDSA under its other name. The library looks methods up in one registry for the whole program.
type ed25519Method struct{ *jwt.SigningMethodEd25519 }

func (ed25519Method) Alg() string { return algEd25519 }

func init() {
	jwt.RegisterSigningMethod(algEd25519, func() jwt.SigningMethod { return ed25519Method{jwt.SigningMethodEdDSA} })
}

// newParser returns what checks algorithm, signature, expiry and not-before, in this order. Issuer and keys are chosen by
// [Auth.verify], which also checks the audience, by comparing URIs.
func newParser() *jwt.Parser {
	return jwt.NewParser(
		jwt.WithValidMethods(algorithms),
		jwt.WithExpirationRequired(),
		jwt.WithLeeway(skew),
		jwt.WithStrictDecoding(),
	)
}

type claims struct {
	jwt.RegisteredClaims
	Scope words `json:"scope"` // RFC 9068
	SCP   words `json:"scp"`   // the same, as some authorization servers have it

	// What tokens have that are for somebody else. Their audience can be a client ID, and that can be ours.
	AccessHash json.RawMessage `json:"at_hash"`   // of the access token beside an ID token (OpenID Connect Core, section 3.1.3.6)
	CodeHash   json.RawMessage `json:"c_hash"`    // of the code beside one (section 3.3.2.11)
	Events     json.RawMessage `json:"events"`    // in a security event, such as a logout token (RFC 8417, section 2.2)
	Use        any             `json:"token_use"` // Cognito: access or id
	Type       any             `json:"typ"`       // Keycloak: Bearer, ID, Refresh, Offline, Logout
}

// access tells whether the claims can be an access token's. A nonce says nothing: some issuers put it into those, too.
func (c *claims) access() bool {
	id := func(v any) bool { return v == "id" || v == "ID" || v == "Refresh" || v == "Offline" || v == "Logout" }
	return c.AccessHash == nil && c.CodeHash == nil && c.Events == nil && !id(c.Use) && !id(c.Type)
}

// accessType tells whether a header has the type of an access token, or none (RFC 9068, section 4). It is a
// media type: capitals do not matter, and "application/" may be left out (RFC 7515, section 4.1.9).
func accessType(header map[string]any) bool {
	value, set := header["typ"]
	if !set {
		return true
	}
	name, _ := value.(string)
	name = strings.TrimPrefix(strings.ToLower(name), "application/")
	return name == "jwt" || name == "at+jwt"
}

// words is a list of strings that may also come as one string, separated by spaces.
type words []string

// UnmarshalJSON implements [json.Unmarshaler].
func (l *words) UnmarshalJSON(raw []byte) error {
	var one string
	if err := json.Unmarshal(raw, &one); err != nil {
		return json.Unmarshal(raw, (*[]string)(l))
	}
	*l = strings.Fields(one)
	return nil
}

var (
	errCritical  = errors.New("the token has critical extensions, of which none is known here")
	errType      = errors.New("the token is not an access token")
	errAudience  = errors.New("the token is for another audience")
	errNoSubject = errors.New("the token names no subject")
)

// authorize judges a request: by its Authorization header alone, never by its query or body
// (Authorization, "Token Requirements").
func (a *Auth) authorize(r *http.Request) (*sdk.TokenInfo, *refusal) {
	if len(r.Header["Authorization"]) > 1 {
		return nil, malformed("more than one Authorization header")
	}
	fields := strings.Fields(r.Header.Get("Authorization"))
	if len(fields) < 2 || !strings.EqualFold(fields[0], "Bearer") {
		// An error code is for those who have presented a token (RFC 6750, section 3.1).
		return nil, &refusal{status: http.StatusUnauthorized, description: "this resource needs a bearer token"}
	}
	if len(fields) > 2 {
		return nil, malformed("more than one token")
	}
	if r.URL.RawQuery != "" && r.URL.Query().Has("access_token") {
		return nil, malformed("a token in the query too, where it is never accepted")
	}

	info, err := a.verify(r.Context(), fields[1])
	if errors.Is(err, errNoKeys) {
		return nil, &refusal{
			status: http.StatusServiceUnavailable, retry: refetchPause,
			description: "the token cannot be verified at the moment: the authorization server's keys are not available",
		}
	}
	if err != nil {
		return nil, &refusal{status: http.StatusUnauthorized, code: "invalid_token", description: explain(err)}
	}
	if !containsAll(info.Scopes, a.cfg.Scopes) {
		return nil, insufficient(a.cfg.Scopes)
	}
	return info, nil
}

// verify checks a token and returns whose it is. Its error is for [explain]; [errNoKeys] says nothing about the token.
func (a *Auth) verify(ctx context.Context, token string) (*sdk.TokenInfo, error) {
	var set *keySet
	var from *keys
	c, err := a.parse(token, func(issuer *keys) (_ *keySet, err error) {
		from = issuer
		set, err = from.known(ctx)
		return set, err
	})
	if set != nil && (errors.Is(err, errNoKey) || errors.Is(err, jwt.ErrTokenSignatureInvalid)) {
		newer, unknown := from.newer(ctx, set)
		if unknown != nil {
			return nil, unknown // it may be a new key that we could not learn of
		}
		if newer != nil {
			c, err = a.parse(token, func(*keys) (*keySet, error) { return newer, nil })
		}
	}
	if err != nil {
		return nil, err
	}
	if !c.access() {
		return nil, errType
	}
	if !slices.ContainsFunc(c.Audience, func(aud string) bool { return slices.Contains(a.audience, canonical(aud)) }) {
		return nil, errAudience
	}
	if c.Subject == "" { // all that have none would be one user, and share their sessions
		return nil, errNoSubject
	}
	return &sdk.TokenInfo{
		// A "#" is in no issuer, so no two pairs make the same ID.
		UserID:     c.Issuer + "#" + c.Subject,
		Scopes:     a.expand(slices.Concat(c.Scope, c.SCP)),
		Expiration: c.ExpiresAt.Time,
	}, nil
}

// parse checks all but the audience, with the keys of the token's issuer. An unknown issuer has none, and nobody is asked for them.
func (a *Auth) parse(token string, of func(*keys) (*keySet, error)) (*claims, error) {
	var c claims
	_, err := a.parser.ParseWithClaims(token, &c, func(t *jwt.Token) (any, error) {
		if _, ok := t.Header["crit"]; ok { // RFC 7515, section 4.1.11; the library does not look
			return nil, errCritical
		}
		if !accessType(t.Header) {
			return nil, errType
		}
		if c.Issuer == "" {
			return nil, jwt.ErrTokenRequiredClaimMissing
		}
		from := a.issuers[c.Issuer]
		if from == nil {
			return nil, jwt.ErrTokenInvalidIssuer
		}
		set, err := of(from)
		if err != nil {
			return nil, err
		}
		return set.fitting(t)
	})
	return &c, err
}

// explain says what is wrong with a token, in words of ours: a library's may repeat what the client has sent. Type and issuer apart,
// claims are looked at only after the signature, so this tells nothing to somebody who makes tokens up.
func explain(err error) string {
	for _, known := range []error{errCritical, errType, errAudience, errNoSubject} {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	switch {
	case errors.Is(err, jwt.ErrTokenExpired):
		return "the token has expired"
	case errors.Is(err, jwt.ErrTokenNotValidYet):
		return "the token is not valid yet"
	case errors.Is(err, jwt.ErrTokenInvalidIssuer):
		return "the token is from another issuer"
	case errors.Is(err, jwt.ErrTokenRequiredClaimMissing):
		return "the token lacks a claim: iss and exp are needed"
	case errors.Is(err, jwt.ErrTokenMalformed):
		return "the token is not a JWT"
	default:
		return "the token's signature is not one that is trusted here"
	}
}
