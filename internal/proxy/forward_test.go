package proxy_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/sluice-mcp/sluice/internal/proxy"
	"github.com/sluice-mcp/sluice/internal/token"
)

// forward returns the URL of a local port that forwards to a server which this handler is.
func forward(t *testing.T, tokens *token.Cache, handler http.HandlerFunc) string {
	t.Helper()
	remote := httptest.NewServer(handler)
	t.Cleanup(remote.Close)
	target, err := url.Parse(remote.URL + "/mcp")
	if err != nil {
		t.Fatal(err)
	}
	transport := &token.Transport{Base: http.DefaultTransport, Server: target, Tokens: tokens}
	local := httptest.NewServer(proxy.Forward(target, transport, slog.New(slog.DiscardHandler)))
	t.Cleanup(local.Close)
	return local.URL
}

// An event arrives when it is sent, not when the next one is or the stream ends.
func TestForwardStreams(t *testing.T) {
	t.Parallel()
	next := make(chan struct{})
	base := forward(t, nil, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for i := range 3 {
			fmt.Fprintf(w, "data: %d\n\n", i)
			w.(http.Flusher).Flush()
			<-next
		}
	})
	resp, err := http.Get(base + "/mcp")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	events := bufio.NewReader(resp.Body)
	for i := range 3 {
		line, err := events.ReadString('\n')
		if err != nil || line != fmt.Sprintf("data: %d\n", i) {
			t.Fatalf("%q, %v", line, err)
		}
		_, _ = events.ReadString('\n')
		next <- struct{}{}
	}
	if _, err := io.ReadAll(events); err != nil {
		t.Error(err)
	}
}

func TestForwardPassesOn(t *testing.T) {
	t.Parallel()
	base := forward(t, token.NewCache(token.Static("secret")), func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Mcp-Session-Id", "s")
		w.WriteHeader(http.StatusAccepted)
		fmt.Fprintf(w, "%s %s %s %s %s %q", r.Method, r.URL, r.Header.Get("Authorization"), r.Header.Get("Last-Event-ID"), body, r.Header["X-Forwarded-For"])
	})
	req, err := http.NewRequest(http.MethodPost, base+"/other?a=b", strings.NewReader("body"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Last-Event-ID", "7")
	req.Header.Set("Authorization", "Bearer mine")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got, _ := io.ReadAll(resp.Body)
	if want := `POST /other?a=b Bearer secret 7 body []`; string(got) != want || resp.StatusCode != http.StatusAccepted || resp.Header.Get("Mcp-Session-Id") != "s" {
		t.Errorf("%s %v %s, want %s", resp.Status, resp.Header, got, want)
	}
}

// A web page must not act in the name of who runs the proxy, neither directly nor by DNS rebinding.
func TestForwardGuards(t *testing.T) {
	t.Parallel()
	base := forward(t, nil, func(http.ResponseWriter, *http.Request) {})
	port := base[strings.LastIndex(base, ":"):]
	for _, tt := range []struct {
		method, host, origin, site string
		want                       int
	}{
		{"POST", "", "", "", 200},
		{"POST", "localhost" + port, "", "", 200},
		{"POST", "[::1]" + port, "", "", 200},
		{"POST", "", base, "", 200},
		{"POST", "evil.example", "", "", 403},
		{"GET", "evil.example" + port, "", "", 403},
		{"POST", "evil.example" + port, "http://evil.example" + port, "same-origin", 403},
		{"POST", "", "https://evil.example", "", 403},
		{"GET", "", "https://evil.example", "", 403},
		{"POST", "", "null", "", 403},
		{"POST", "", "", "cross-site", 403},
		{"POST", "127.0.0.1.evil.example", "", "", 403},
	} {
		req, err := http.NewRequest(tt.method, base+"/mcp", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = tt.host
		if tt.origin != "" {
			req.Header.Set("Origin", tt.origin)
		}
		if tt.site != "" {
			req.Header.Set("Sec-Fetch-Site", tt.site)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != tt.want {
			t.Errorf("%+v: %s", tt, resp.Status)
		}
	}
}

func TestForwardSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	failing := token.NewCache(func(context.Context) (string, error) { return "", fmt.Errorf("log in first") })
	base := forward(t, failing, func(http.ResponseWriter, *http.Request) { t.Error("a request without its token arrived") })
	resp, err := http.Post(base+"/mcp", "text/plain", strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusBadGateway || !strings.Contains(string(got), "log in first") {
		t.Errorf("%s: %s", resp.Status, got)
	}
}
