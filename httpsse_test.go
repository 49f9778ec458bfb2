package sluice_test

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"testing"

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
