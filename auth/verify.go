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

// algorithms are the asymmetric ones. Among them must never be "none", nor an HMAC: its key would be the
// issuer's public one, which everybody has.
var algorithms = []string{
	"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
}

// newParser returns what checks algorithm, signature, issuer, expiry and not-before, in this order; the audience is
// left to verify, which compares URIs.
func newParser(issuer string) *jwt.Parser {
	return jwt.NewParser(
		jwt.WithValidMethods(algorithms),
		jwt.WithIssuer(issuer),
		jwt.WithExpirationRequired(),
		jwt.WithLeeway(skew),
		jwt.WithStrictDecoding(),
	)
}

type claims struct {
	jwt.RegisteredClaims
	Scope words `json:"scope"` // RFC 9068
	SCP   words `json:"scp"`   // the same, as some authorization servers have it
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
	var c claims
	_, err := a.parser.ParseWithClaims(token, &c, func(t *jwt.Token) (any, error) {
		if _, ok := t.Header["crit"]; ok { // RFC 7515, section 4.1.11; the library does not look
			return nil, errCritical
		}
		return a.keys.find(ctx, t)
	})
	if err != nil {
		return nil, err
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

// explain says what is wrong with a token, in words of ours: a library's may repeat what the client has sent. Claims are
// looked at only after the signature, so this tells nothing to somebody who makes tokens up.
func explain(err error) string {
	for _, known := range []error{errCritical, errAudience, errNoSubject} {
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
