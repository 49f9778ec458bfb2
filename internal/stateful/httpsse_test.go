package stateful

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
)

// Clients resolve the endpoint for messages against the URL of their stream, as they know it: public is that one, seen is what is
// left of it behind the proxies.
func TestMessageReference(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ public, seen, messagePath, want string }{
		{"/sse", "/sse", "/messages", "/messages"},
		{"/sse/", "/sse/", "/messages", "/messages"},
		{"/team/sse", "/sse", "/messages", "/team/messages"},
		{"/team/a/sse", "/sse", "/messages", "/team/a/messages"},
		{"/team/sse/", "/sse/", "/messages", "/team/messages"},
		{"/team/sse?x=/a/b", "/sse?x=/a/b", "/messages", "/team/messages"},
		{"/team/mcp/sse", "/mcp/sse", "/mcp/messages", "/team/mcp/messages"},
		{"/team/mcp/v1/sse", "/mcp/v1/sse", "/mcp/messages", "/team/mcp/messages"},
		{"/mcp/sse", "/mcp/sse", "/mcp/messages", "/mcp/messages"},
		{"/team/sse", "/sse", "/a:b", "/team/a:b"},
		{"/team/s%2Fse", "/s%2Fse", "/messages", "/team/messages"},
		{"/team/sse", "/sse", "/messages/", "/team/messages/"},
		{"/team/sse", "/sse", "messages", "/team/messages"},
		{"/team/sse", "/sse", "sse/messages", "/team/sse/messages"},
		// As it was given: the program knows the prefix, or the two have nothing in common.
		{"/team/sse", "/sse", "/team/messages", "/team/messages"},
		{"/a/sse", "/a/sse", "/b/messages", "/b/messages"},
		{"/sse", "/sse", "/", "/"},
		{"/sse", "/sse", "https://other.example/messages", "https://other.example/messages"},
	} {
		ref := messageReference(httptest.NewRequest(http.MethodGet, c.seen, nil), c.messagePath)
		got, err := (&url.URL{Scheme: "http", Host: "h", Path: "/"}).Parse(c.public)
		if err == nil {
			got, err = got.Parse(ref)
		}
		if err != nil || got.EscapedPath() != c.want && got.String() != c.want {
			t.Errorf("%+v: %q leads to %v (%v)", c, ref, got, err)
		}
	}
}
