package sitetest

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sluice-mcp/sluice/internal/wire"
)

// A Client speaks one revision of the session era, and sends each request to the replica that it is told.
type Client struct {
	Version string
	Session string // the ID, empty before it is open
	Caps    string // JSON
}

// Accept is what clients of Streamable HTTP accept.
const Accept = "application/json, text/event-stream"

// Do sends a request, in the session if there is one. lastEvent is the Last-Event-ID, if any.
func (c *Client) Do(ctx context.Context, at *Site, method, body, lastEvent string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://127.0.0.1/mcp", strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", Accept)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.Session != "" {
		req.Header.Set("Mcp-Session-Id", c.Session)
		req.Header.Set("Mcp-Protocol-Version", c.Version)
	}
	if lastEvent != "" {
		req.Header.Set("Last-Event-ID", lastEvent)
	}
	return at.RoundTrip(req)
}

// Post sends a message and returns the answer as it stands.
func (c *Client) Post(t testing.TB, at *Site, body string) *Response {
	t.Helper()
	resp, err := c.Do(t.Context(), at, http.MethodPost, body, "") //nolint:bodyclose // the response's reader closes it
	if err != nil {
		t.Fatalf("%s: %v", at.Name, err)
	}
	return NewResponse(resp)
}

// Get opens a stream: the session's own, or the one of the event.
func (c *Client) Get(t testing.TB, at *Site, lastEvent string) *Response {
	t.Helper()
	resp, err := c.Do(t.Context(), at, http.MethodGet, "", lastEvent) //nolint:bodyclose // as above
	if err != nil {
		t.Fatalf("%s: %v", at.Name, err)
	}
	return NewResponse(resp)
}

// Open initializes a session at one replica and says initialized at another.
func (c *Client) Open(t testing.TB, first, second *Site) {
	t.Helper()
	a := c.Post(t, first, fmt.Sprintf(`{"jsonrpc":"2.0","id":"init","method":"initialize","params":{"protocolVersion":%q,"capabilities":%s,"clientInfo":{"name":"t","version":"1"}}}`,
		c.Version, c.Caps))
	if m := a.Message(t); m.Error != nil {
		t.Fatalf("initialize: %s", m.Error)
	}
	c.Session = a.Header.Get("Mcp-Session-Id")
	if got := c.Post(t, second, `{"jsonrpc":"2.0","method":"notifications/initialized"}`).StatusCode; got != http.StatusAccepted {
		t.Fatalf("initialized at another replica: status %d", got)
	}
}

// Call is a tools/call with progress.
func Call(id, name, args string) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":%q,"method":"tools/call","params":{"name":%q,"arguments":%s,"_meta":{"progressToken":%q}}}`, id, name, args, id)
}

// Eventually waits for a condition; in a bubble, in virtual time.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 10 s: %s", what)
		}
	}
}

// Delete ends the session.
func (c *Client) Delete(t testing.TB, at *Site) {
	t.Helper()
	resp, err := c.Do(t.Context(), at, http.MethodDelete, "", "") //nolint:bodyclose // it has none
	if err != nil || resp.StatusCode != http.StatusNoContent {
		t.Errorf("DELETE: %v, %v", resp, err)
	}
}

// Stateless sends a request of 2026-07-28.
func Stateless(t *testing.T, at *Site, method, name, params string) *Response {
	t.Helper()
	meta := `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{"elicitation":{}}}`
	if params != "" {
		meta = params + "," + meta
	}
	body := fmt.Sprintf(`{"jsonrpc":"2.0","id":"m","method":%q,"params":{%s}}`, method, meta)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://127.0.0.1/mcp", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", Accept)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Mcp-Protocol-Version", wire.Rev2026)
	req.Header.Set("Mcp-Method", method)
	if name != "" {
		req.Header.Set("Mcp-Name", name)
	}
	resp, err := at.RoundTrip(req) //nolint:bodyclose // the response's reader closes it
	if err != nil {
		t.Fatal(err)
	}
	return NewResponse(resp)
}

// NewClient returns a client that can be asked for input.
func NewClient(version string) *Client { return &Client{Version: version, Caps: `{"elicitation":{}}`} }

// Revisions are those with sessions over Streamable HTTP.
var Revisions = []string{wire.Rev0326, wire.Rev0618, wire.Rev1125}

// SetLevel is a logging/setLevel.
func SetLevel(level string) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":"level","method":"logging/setLevel","params":{"level":%q}}`, level)
}

// Subscribe is a subscription to [Item], or the end of it.
func Subscribe(on bool) string {
	method := "resources/subscribe"
	if !on {
		method = "resources/unsubscribe"
	}
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":"subscribe","method":%q,"params":{"uri":%q}}`, method, Item)
}
