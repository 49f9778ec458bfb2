package caller

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/auth"
)

// from returns a request as it is behind the SDK's middleware, with the information of its token.
func from(info *auth.TokenInfo, token string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "http://mcp.example.com/mcp?tenant=7", nil)
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	if info == nil {
		return r
	}
	out := withToken(r, info)
	out.Header = r.Header
	return out
}

func TestPrincipal(t *testing.T) {
	t.Parallel()
	none := Principal(from(nil, ""))
	unverified := Principal(from(nil, "secret")) // nobody has looked at the token
	if none != "" || unverified != "" {
		t.Errorf("without a verified token: %q, %q", none, unverified)
	}
	user := Principal(from(&auth.TokenInfo{UserID: "ann"}, "secret"))
	if user != "user:ann" || user != Principal(from(&auth.TokenInfo{UserID: "ann"}, "refreshed")) {
		t.Errorf("a user is %q", user)
	}
	token := Principal(from(&auth.TokenInfo{}, "secret"))
	if again := Principal(from(&auth.TokenInfo{}, "secret")); token != again {
		t.Errorf("a token is %q, and then %q", token, again)
	}
	if other := Principal(from(&auth.TokenInfo{}, "secret2")); token == other {
		t.Error("two tokens are one principal")
	}
	if !strings.HasPrefix(token, "token:") || strings.Contains(token, "secret") {
		t.Errorf("a token is %q", token)
	}
	// What a verifier says must not be taken for what we say.
	if forged := Principal(from(&auth.TokenInfo{UserID: token}, "secret")); forged == token {
		t.Error("a user can be called like a token")
	}
}

func TestExtra(t *testing.T) {
	t.Parallel()
	info := &auth.TokenInfo{UserID: "ann"}
	r := from(info, "secret")
	if e := Extra(r); e.TokenInfo != info || e.Header.Get("Authorization") != "Bearer secret" {
		t.Errorf("%+v", e)
	}
	if e := Extra(from(nil, "")); e.TokenInfo != nil || e.Header == nil {
		t.Errorf("%+v", e)
	}
}

// A request that is recalled is like the one before, also when its token has run out since; secrets are not kept.
func TestRecall(t *testing.T) {
	t.Parallel()
	info := &auth.TokenInfo{UserID: "ann", Scopes: []string{"read"}, Expiration: time.Now().Add(-time.Hour)}
	for name, before := range map[string]*http.Request{"with a token": from(info, "secret"), "without": from(nil, "secret")} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, h := range []string{"Cookie", "Proxy-Authorization", "X-Api-Key"} {
				before.Header.Set(h, "secret")
			}
			before.Header.Set("X-Tenant", "7")
			raw := Origin(before)
			if strings.Contains(string(raw), "secret") {
				t.Errorf("a secret is kept: %s", raw)
			}
			if before.Header.Get("Authorization") != "Bearer secret" {
				t.Error("the request itself has lost its token")
			}
			type key struct{}
			after, err := Recall(context.WithValue(t.Context(), key{}, 7), raw)
			if err != nil {
				t.Fatal(err)
			}
			if after.URL.RequestURI() != "/mcp?tenant=7" || after.Host != "mcp.example.com" || after.RemoteAddr != before.RemoteAddr ||
				after.Header.Get("X-Tenant") != "7" || after.Header.Get("Authorization") != "" {
				t.Errorf("%s %s from %s, %v", after.Host, after.URL, after.RemoteAddr, after.Header)
			}
			if after.Context().Value(key{}) != 7 {
				t.Error("the context is another")
			}
			if want, got := Principal(before), Principal(after); got != want {
				t.Errorf("comes from %q, want %q", got, want)
			}
			if got := Extra(after).TokenInfo; got != nil && (len(got.Scopes) != 1 || !got.Expiration.Equal(info.Expiration)) {
				t.Errorf("the token is %+v", got)
			}
		})
	}
}

func TestRecallOfWhatIsNoOrigin(t *testing.T) {
	t.Parallel()
	for _, raw := range []string{"", "7", `{"url":7}`, `{}`, `{"url":"%zz"}`} {
		if _, err := Recall(t.Context(), []byte(raw)); err == nil {
			t.Errorf("%q is recalled", raw)
		}
	}
}
