// Package token owns the identity tokens that a client shows to a protected server: where they come from, and for how
// long one is used. It never looks whether a token is genuine; that is the server's concern.
package token

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"time"
)

// A Source gets a token from where tokens are made. It may take as long as a person needs to log in.
type Source func(context.Context) (string, error)

// Static always gives the same token.
func Static(token string) Source {
	return func(context.Context) (string, error) { return checked(token) }
}

const (
	// leeway is how long before its expiry a token is replaced: it must still be good when it arrives.
	leeway = time.Minute
	// opaqueLife is how long a token that does not say when it expires is used.
	opaqueLife = time.Minute
)

// A Cache keeps a source's token until shortly before it expires. It is safe for concurrent use; the source is asked by
// one caller at a time.
type Cache struct {
	source Source
	now    func() time.Time
	turn   chan struct{} // holds one item while nobody asks the source; guards what follows
	token  string
	until  time.Time
}

// NewCache returns a cache of the source's token.
func NewCache(source Source) *Cache {
	c := &Cache{source: source, now: time.Now, turn: make(chan struct{}, 1)}
	c.turn <- struct{}{}
	return c
}

// Token returns a token that is good for now.
func (c *Cache) Token(ctx context.Context) (string, error) {
	select {
	case <-c.turn:
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
	defer func() { c.turn <- struct{}{} }()
	if c.token != "" && c.now().Before(c.until) {
		return c.token, nil
	}
	token, err := c.source(ctx)
	if err != nil {
		return "", err
	}
	c.token, c.until = token, c.goodUntil(token)
	return token, nil
}

// Refused tells that a server did not take this token: the next call of [Cache.Token] asks the source.
func (c *Cache) Refused(token string) {
	<-c.turn
	if c.token == token {
		c.token = ""
	}
	c.turn <- struct{}{}
}

func (c *Cache) goodUntil(token string) time.Time {
	expiry, ok := expiryOf(token)
	if !ok {
		return c.now().Add(opaqueLife)
	}
	return expiry.Add(-leeway)
}

// expiryOf reads the exp claim of a JSON Web Token without looking at its signature.
func expiryOf(token string) (time.Time, bool) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return time.Time{}, false
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return time.Time{}, false
	}
	var claims struct {
		Exp float64 `json:"exp"` // seconds, possibly with a fraction (RFC 7519, NumericDate)
	}
	if json.Unmarshal(payload, &claims) != nil || claims.Exp <= 0 || claims.Exp > 1<<40 {
		return time.Time{}, false
	}
	return time.Unix(int64(claims.Exp), 0), true
}

// checked returns the token that a source gave, without the white space around it. What is no token would otherwise end
// up as a broken header, or worse, as two. Errors never hold the token.
func checked(token string) (string, error) {
	token = strings.TrimSpace(token)
	if token == "" {
		return "", errors.New("there is no token in it")
	}
	for _, r := range token {
		if r <= ' ' || r > '~' {
			return "", errors.New("what it says is not one token")
		}
	}
	return token, nil
}
