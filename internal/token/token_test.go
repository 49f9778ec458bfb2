package token

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func jwt(exp int64) string {
	payload := base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, `{"exp":%d}`, exp))
	return "e30." + payload + ".sig" + fmt.Sprint(exp)
}

func TestCache(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_000_000, 0)
	asked := 0
	next := ""
	c := NewCache(func(context.Context) (string, error) {
		asked++
		if next == "" {
			return "", errors.New("no token today")
		}
		return next, nil
	})
	c.now = func() time.Time { return now }
	expect := func(want string, wantAsked int) {
		t.Helper()
		got, err := c.Token(t.Context())
		if (err != nil) != (want == "") || got != want || asked != wantAsked {
			t.Errorf("token %q, %v after %d questions; want %q after %d", got, err, asked, want, wantAsked)
		}
	}
	expect("", 1)
	next = jwt(1_000_000 + 3600)
	first := next
	expect(first, 2)
	expect(first, 2)
	next = jwt(1_000_000 + 7200)
	now = now.Add(3539 * time.Second)
	expect(first, 2)
	now = now.Add(time.Second) // a minute before it expires
	expect(next, 3)

	c.Refused(first) // somebody else's late news
	expect(next, 3)
	c.Refused(next)
	expect(next, 4)

	c.Refused(next)
	next = "opaque"
	expect("opaque", 5)
	now = now.Add(opaqueLife - time.Second)
	expect("opaque", 5)
	now = now.Add(time.Second)
	expect("opaque", 6)
}

func TestCacheAsksOnce(t *testing.T) {
	t.Parallel()
	begun, goOn := make(chan struct{}, 10), make(chan struct{})
	c := NewCache(func(context.Context) (string, error) {
		begun <- struct{}{}
		<-goOn
		return "secret", nil
	})
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			if got, err := c.Token(t.Context()); got != "secret" || err != nil {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
	<-begun
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Token(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("a caller that gave up waits: %v", err)
	}
	close(goOn)
	wg.Wait()
	if len(begun) > 0 {
		t.Error("the source was asked more than once")
	}
}

func TestExpiry(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{
		"", "a.b", "a.!.c", "a." + base64.RawURLEncoding.EncodeToString([]byte("[]")) + ".c",
		"a." + base64.RawURLEncoding.EncodeToString([]byte(`{"exp":"soon"}`)) + ".c",
		"a." + base64.RawURLEncoding.EncodeToString([]byte(`{"exp":1e300}`)) + ".c",
	} {
		if _, ok := expiryOf(bad); ok {
			t.Errorf("%q expires", bad)
		}
	}
	if got, ok := expiryOf(jwt(12345)); !ok || got.Unix() != 12345 {
		t.Errorf("%v, %v", got, ok)
	}
}

func TestSources(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(name, []byte("from-file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		source Source
		want   string // "!" and a part of the error
	}{
		{"static", Static("abc"), "abc"},
		{"static, two lines", Static("abc\r\nX-Evil: 1"), "!not one token"},
		{"file", File(name), "from-file"},
		{"no file", File(name + "x"), "!token file"},
		{"command", Command("echo from-command"), "from-command"},
		{"command, chatty", Command("echo hello world"), "!not one token"},
		{"command, silent", Command("true"), "!no token"},
		{"command, failing", Command("echo log in first >&2; exit 3"), "!log in first"},
	} {
		got, err := tt.source(t.Context())
		if part, fails := strings.CutPrefix(tt.want, "!"); fails {
			if err == nil || !strings.Contains(err.Error(), part) {
				t.Errorf("%s: %q, %v; want an error with %q", tt.name, got, err, part)
			}
		} else if got != tt.want || err != nil {
			t.Errorf("%s: %q, %v; want %q", tt.name, got, err, tt.want)
		}
	}
}

func TestMetadata(t *testing.T) { // no Parallel: it sets a variable
	flavor := "Google"
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Metadata-Flavor") != "Google" {
			http.Error(w, "missing header", http.StatusForbidden)
			return
		}
		w.Header().Set("Metadata-Flavor", flavor)
		if r.URL.Path != "/computeMetadata/v1/instance/service-accounts/default/identity" {
			http.NotFound(w, r)
			return
		}
		fmt.Fprint(w, "token-for:"+r.URL.Query().Get("audience"))
	}))
	defer srv.Close()
	t.Setenv("GCE_METADATA_HOST", strings.TrimPrefix(srv.URL, "http://"))
	source := Metadata("https://weather.example/")
	if got, err := source(t.Context()); got != "token-for:https://weather.example/" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	flavor = ""
	if got, err := source(t.Context()); err == nil {
		t.Errorf("some server's %q is taken for a token", got)
	}
}

func TestTransport(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var got []string
	good := "fresh"
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		got = append(got, r.Header.Get("Authorization")+" "+string(body))
		if r.Header.Get("Authorization") != "Bearer "+good {
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	defer srv.Close()
	server, err := url.Parse(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	tokens := []string{"stale", "fresh", "fresh"}
	client := &http.Client{Transport: &Transport{
		Base: http.DefaultTransport, Server: server,
		Tokens: NewCache(func(context.Context) (string, error) {
			token := tokens[0]
			tokens = tokens[1:]
			return token, nil
		}),
	}}
	post := func(body io.Reader) int {
		t.Helper()
		resp, err := client.Post(srv.URL, "text/plain", body)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	if status := post(strings.NewReader("x")); status != http.StatusOK {
		t.Errorf("status %d with a token that had to be replaced", status)
	}
	good = "none"
	if status := post(io.MultiReader(strings.NewReader("y"))); status != http.StatusUnauthorized {
		t.Errorf("status %d for a body that cannot be sent again", status)
	}
	if want := "[Bearer stale x Bearer fresh x Bearer fresh y]"; fmt.Sprint(got) != want {
		t.Errorf("the server saw %v, want %v", got, want)
	}
	if len(tokens) != 1 {
		t.Errorf("%d tokens left, want 1", len(tokens))
	}
}

// A redirect to somewhere else must not carry the token there.
func TestTransportKeepsToItsServer(t *testing.T) {
	t.Parallel()
	leaked := make(chan string, 1)
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		leaked <- r.Header.Get("Authorization")
	}))
	defer other.Close()
	srv := httptest.NewServer(http.RedirectHandler(other.URL, http.StatusTemporaryRedirect))
	defer srv.Close()
	server, err := url.Parse(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &Transport{Base: http.DefaultTransport, Server: server, Tokens: NewCache(Static("secret"))}}
	resp, err := client.Get(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if got := <-leaked; got != "" {
		t.Errorf("the other server got %q", got)
	}
}
