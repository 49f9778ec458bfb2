package stateful_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice"
)

// The old transport works wherever it is mounted, and below whatever prefix a proxy in front strips.
func TestHTTPSSEBelowAPrefix(t *testing.T) {
	t.Parallel()
	server := mcp.NewServer(&mcp.Implementation{Name: "test", Version: "1"}, nil)
	h := sluice.NewHandler(func(*http.Request) *mcp.Server { return server }, nil)
	defer h.Close()
	mux := http.NewServeMux()
	for _, path := range []string{"/sse", "/sse/{$}", "/messages"} {
		mux.Handle(path, h.HTTPSSE("/messages"))
	}
	mounted := http.NewServeMux() // by a mux of the program that strips by itself
	mounted.Handle("/sse", h.HTTPSSE("/mounted/messages"))
	mounted.Handle("/messages", h.HTTPSSE("/mounted/messages"))
	mux.Handle("/mounted/", http.StripPrefix("/mounted", mounted))
	inner := httptest.NewServer(mux)
	defer inner.Close()
	target, err := url.Parse(inner.URL)
	if err != nil {
		t.Fatal(err)
	}
	ingress := httptest.NewServer(http.StripPrefix("/team/a", httputil.NewSingleHostReverseProxy(target)))
	defer ingress.Close()

	for _, at := range []string{
		inner.URL + "/sse", inner.URL + "/sse/", inner.URL + "/mounted/sse",
		ingress.URL + "/team/a/sse", ingress.URL + "/team/a/sse/", ingress.URL + "/team/a/mounted/sse",
	} {
		client := mcp.NewClient(&mcp.Implementation{Name: "c", Version: "1"}, nil)
		cs, err := client.Connect(t.Context(), &mcp.SSEClientTransport{Endpoint: at}, nil)
		if err != nil {
			t.Errorf("%s: %v", at, err)
			continue
		}
		if err := cs.Ping(t.Context(), nil); err != nil {
			t.Errorf("%s: %v", at, err)
		}
		_ = cs.Close()
	}
}

// A session of the old transport ends with its connection; the program and the server are told.
func TestHTTPSSEEnds(t *testing.T) {
	t.Parallel()
	ended, unsubscribed := make(chan string, 10), make(chan string, 10)
	server := mcp.NewServer(&mcp.Implementation{Name: "test", Version: "1"}, &mcp.ServerOptions{
		SubscribeHandler:   func(context.Context, *mcp.SubscribeRequest) error { return nil },
		UnsubscribeHandler: func(_ context.Context, req *mcp.UnsubscribeRequest) error { unsubscribed <- req.Params.URI; return nil },
	})
	h := sluice.NewHandler(func(*http.Request) *mcp.Server { return server }, &sluice.Options{SessionEnded: func(id string) { ended <- id }})
	defer h.Close()
	ts := httptest.NewServer(h.HTTPSSE("/"))
	defer ts.Close()
	client := mcp.NewClient(&mcp.Implementation{Name: "c", Version: "1"}, nil)
	cs, err := client.Connect(t.Context(), &mcp.SSEClientTransport{Endpoint: ts.URL + "/"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := cs.Subscribe(t.Context(), &mcp.SubscribeParams{URI: "test://x"}); err != nil {
		t.Fatal(err)
	}
	select {
	case id := <-ended:
		t.Fatalf("%s has ended while its connection is open", id)
	default:
	}
	_ = cs.Close()
	for what, c := range map[string]chan string{"ended": ended, "unsubscribed": unsubscribed} {
		select {
		case <-c:
		case <-time.After(10 * time.Second):
			t.Errorf("not told: %s", what)
		}
	}
	_ = h.Close()
	if len(ended)+len(unsubscribed) > 0 {
		t.Error("told twice")
	}
}
