package auth_test

import (
	"context"
	"crypto/rand"
	"fmt"
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

// inVirtualTime runs f with an issuer that is reached without a network, and with what asks for a token's answer.
func inVirtualTime(t *testing.T, f func(t *testing.T, i *issuer, status func(token string) int)) {
	t.Helper()
	t.Parallel()
	rsaKey()
	newKey() // outside: time stands still while a key is made, but the machine is as slow as ever
	synctest.Test(t, func(t *testing.T) {
		i := newIssuer("https://issuer.example")
		a, err := auth.New(auth.Config{Resource: resource, Issuer: i.url})
		if err != nil {
			t.Fatal(err)
		}
		auth.SetTransport(a, i)
		h := a.Protect(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		f(t, i, func(token string) int {
			req := httptest.NewRequest(http.MethodPost, "/mcp", nil)
			req.Header.Set("Authorization", "Bearer "+token)
			rec := httptest.NewRecorder()
			h.ServeHTTP(rec, req)
			if (rec.Code == 503) != (rec.Header().Get("Retry-After") != "") || (rec.Code == 401) != (rec.Header().Get("WWW-Authenticate") != "") {
				t.Errorf("HTTP %d with %v", rec.Code, rec.Header())
			}
			return rec.Code
		})
		synctest.Wait()
	})
}

func TestA09ExpiryAndNotBeforeToTheSecond(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, i *issuer, status func(string) int) {
		now := time.Now()
		token := i.token(object{"nbf": now.Add(time.Minute).Unix(), "exp": now.Add(2 * time.Minute).Unix()})
		for _, c := range []struct {
			at     time.Duration
			status int
		}{
			{0, 401},
			{30*time.Second - time.Nanosecond, 401},
			{30 * time.Second, 200}, // the issuer's clock may be 30 s ahead
			{time.Minute, 200},
			{2 * time.Minute, 200},
			{2*time.Minute + 30*time.Second - time.Nanosecond, 200}, // or 30 s behind
			{2*time.Minute + 30*time.Second, 401},
			{time.Hour, 401},
		} {
			time.Sleep(time.Until(now.Add(c.at)))
			if got := status(token); got != c.status {
				t.Errorf("after %v: HTTP %d, want %d", c.at, got, c.status)
			}
		}
	})
}

func rotated(i *issuer, changes ...object) string {
	return sign(jwt.SigningMethodRS256, newKey(), object{"kid": "new"}, i.claims(changes...))
}

func TestKeysAreRotated(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, i *issuer, status func(string) int) {
		old := i.token()
		for range 3 {
			if got := status(old); got != 200 {
				t.Fatalf("HTTP %d", got)
			}
		}
		time.Sleep(time.Minute)
		i.publish(object{"kid": "ec", "key": ecKey()}, object{"kid": "new", "key": newKey()})
		if got := status(rotated(i)); got != 200 {
			t.Errorf("the first token under a new key: HTTP %d", got)
		}
		if n := i.asked.Load(); n != 2 {
			t.Errorf("fetched %d times, want 2", n)
		}
		// A key that is taken back counts no longer when its time is over, without any token that would ask for it.
		i.publish(object{"kid": "new", "key": newKey()})
		if got := status(old); got != 200 {
			t.Errorf("before anybody could know: HTTP %d", got)
		}
		time.Sleep(16 * time.Minute)
		status(rotated(i))
		synctest.Wait()
		if got := status(old); got != 401 {
			t.Errorf("under a key that was taken back: HTTP %d", got)
		}
		i.publish()
		time.Sleep(16 * time.Minute)
		status(rotated(i))
		synctest.Wait()
		if got := status(rotated(i)); got != 503 {
			t.Errorf("when all keys were taken back: HTTP %d", got)
		}
	})
}

func TestUnknownKeyIDsCauseFewFetches(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, i *issuer, status func(string) int) {
		good := i.token()
		status(good)
		time.Sleep(time.Minute)
		before := i.asked.Load()
		var wg sync.WaitGroup
		for n := range 300 {
			bad := sign(jwt.SigningMethodRS256, newKey(), object{"kid": fmt.Sprint("x", n, rand.Text())}, i.claims())
			wg.Go(func() {
				if got := status(bad); got != 401 {
					t.Errorf("HTTP %d", got)
				}
			})
		}
		wg.Wait()
		if n := i.asked.Load() - before; n != 1 {
			t.Errorf("300 unknown key IDs at once caused %d fetches, want 1", n)
		}
		bad := sign(jwt.SigningMethodRS256, newKey(), object{"kid": "x"}, i.claims())
		begin := time.Now()
		for time.Since(begin) < time.Minute { // 100 a second
			status(bad)
			time.Sleep(10 * time.Millisecond)
		}
		if n := i.asked.Load() - before; n > 7 {
			t.Errorf("a minute of unknown key IDs caused %d fetches", n)
		}
		if got := status(good); got != 200 {
			t.Errorf("a good token meanwhile: HTTP %d", got)
		}
	})
}

func TestTheIssuerIsAway(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, i *issuer, status func(string) int) {
		i.down.Store(true)
		for name, token := range map[string]string{"good": i.token(), "without key ID": sign(jwt.SigningMethodRS256, rsaKey(), nil, i.claims())} {
			if got := status(token); got != 503 {
				t.Errorf("no keys yet, %s: HTTP %d", name, got)
			}
		}
		for name, token := range map[string]string{"no JWT": "x", "an algorithm that is never right": sign(jwt.SigningMethodHS256, []byte("x"), object{"kid": "rsa"}, i.claims())} {
			if got := status(token); got != 401 {
				t.Errorf("no keys yet, %s: HTTP %d", name, got)
			}
		}
		i.down.Store(false)
		time.Sleep(10 * time.Second)
		if got := status(i.token()); got != 200 {
			t.Errorf("the issuer is back, and the client after Retry-After: HTTP %d", got)
		}
		// With keys at hand, it may be away for long.
		i.down.Store(true)
		for range 48 {
			time.Sleep(time.Hour)
			if got := status(i.token()); got != 200 {
				t.Fatalf("after hours: HTTP %d", got)
			}
			synctest.Wait()
			if got := status(rotated(i)); got != 503 {
				t.Fatalf("a key that may be new: HTTP %d", got)
			}
		}
		for _, document := range []string{"", "<html>", `{"keys":7}`, `{"keys":[{"kty":"RSA","kid":"ec"}]}`} {
			i.down.Store(false)
			i.set(document)
			time.Sleep(time.Hour)
			status(i.token())
			synctest.Wait()
			if got := status(i.token()); got != 200 {
				t.Errorf("key set %q: HTTP %d", document, got)
			}
		}
	})
}

// A client that leaves must not end the fetch that others wait for.
func TestAFetchOutlivesItsRequest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		i := newIssuer("https://issuer.example")
		a, err := auth.New(auth.Config{Resource: resource, Issuer: i.url})
		if err != nil {
			t.Fatal(err)
		}
		auth.SetTransport(a, slow{i, time.Second})
		h := a.Protect(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		status := func(ctx context.Context) int {
			req := httptest.NewRequestWithContext(ctx, "POST", "/mcp", nil)
			req.Header.Set("Authorization", "Bearer "+i.token())
			rec := httptest.NewRecorder()
			h.ServeHTTP(rec, req)
			return rec.Code
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			defer cancel()
			if got := status(ctx); got != 503 {
				t.Errorf("the client that left: HTTP %d", got)
			}
		})
		for range 8 {
			wg.Go(func() {
				if got := status(t.Context()); got != 200 {
					t.Errorf("a client that waits: HTTP %d", got)
				}
			})
		}
		wg.Wait()
		if n := i.asked.Load(); n != 1 {
			t.Errorf("fetched %d times", n)
		}
	})
}

type slow struct {
	next http.RoundTripper
	by   time.Duration
}

func (s slow) RoundTrip(r *http.Request) (*http.Response, error) {
	select {
	case <-time.After(s.by):
		return s.next.RoundTrip(r)
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
}

func TestAnIssuerThatHangsIsWaitedForNotLong(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		i := newIssuer("https://issuer.example")
		a, err := auth.New(auth.Config{Resource: resource, Issuer: i.url, JWKSURL: i.url + "/keys"})
		if err != nil {
			t.Fatal(err)
		}
		auth.SetTransport(a, slow{i, time.Hour})
		h := a.Protect(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		req := httptest.NewRequest(http.MethodPost, "/mcp", nil)
		req.Header.Set("Authorization", "Bearer "+i.token())
		begin := time.Now()
		for range 3 {
			rec := httptest.NewRecorder()
			h.ServeHTTP(rec, req)
			if rec.Code != 503 {
				t.Errorf("HTTP %d", rec.Code)
			}
		}
		if d := time.Since(begin); d > 6*time.Second {
			t.Errorf("three requests took %v", d)
		}
	})
}

// The issuer answers here under every name, so that only our own rules keep from asking elsewhere.
func TestKeysComeFromWhereTheyMay(t *testing.T) {
	t.Parallel()
	const url = "https://issuer.example"
	redirect := func(to string) func(*issuer) {
		return func(i *issuer) {
			i.metadata["jwks_uri"] = url + "/moved"
			i.moved = to
		}
	}
	for name, c := range map[string]struct {
		change func(*issuer)
		status int
	}{
		"right":                    {func(*issuer) {}, 200},
		"elsewhere":                {func(i *issuer) { i.metadata["jwks_uri"] = "https://keys.example/keys" }, 200},
		"without TLS":              {func(i *issuer) { i.metadata["jwks_uri"] = "http://keys.example/keys" }, 503},
		"a file":                   {func(i *issuer) { i.metadata["jwks_uri"] = "file:///keys" }, 503},
		"nowhere":                  {func(i *issuer) { delete(i.metadata, "jwks_uri") }, 503},
		"metadata of another":      {func(i *issuer) { i.metadata["issuer"] = "https://evil.example" }, 503},
		"metadata with a slash":    {func(i *issuer) { i.metadata["issuer"] = url + "/" }, 503},
		"redirected":               {redirect("https://keys.example/keys"), 200},
		"redirected, without TLS":  {redirect("http://keys.example/keys"), 503},
		"redirected without end":   {redirect(url + "/moved"), 503},
		"a key set of a megabyte":  {func(i *issuer) { i.document = strings.Repeat(" ", 1<<20-len(i.document)) + i.document }, 200},
		"a key set that is larger": {func(i *issuer) { i.document = strings.Repeat(" ", 1<<20) + i.document }, 503},
	} {
		i := newIssuer(url)
		c.change(i)
		a, err := auth.New(auth.Config{Resource: resource, Issuer: url})
		if err != nil {
			t.Fatal(err)
		}
		auth.SetTransport(a, i)
		req := httptest.NewRequest(http.MethodPost, "/mcp", nil)
		req.Header.Set("Authorization", "Bearer "+i.token())
		rec := httptest.NewRecorder()
		a.Protect(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})).ServeHTTP(rec, req)
		if rec.Code != c.status {
			t.Errorf("%s: HTTP %d, want %d", name, rec.Code, c.status)
		}
	}
}
