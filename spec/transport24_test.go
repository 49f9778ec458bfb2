package spec_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	serving "github.com/sluice-mcp/sluice/serve"
)

var transport24 = []statement{
	{ID: "T24-01", Revisions: "24", Level: "MUST", Text: "A foreign Origin is refused on the event stream and on the message endpoint", Test: testT2401},
	{ID: "T24-02", Revisions: "24", Level: "SHOULD", Text: "A local server binds to localhost only", Test: testT2402},
	{ID: "T24-03", Revisions: "24", Level: "SHOULD", Text: "Every connection is authenticated", Test: testT2403},
	{ID: "T24-04", Revisions: "24", Level: "MUST", Text: "There are two endpoints, GET for the stream and POST for messages", Test: testT2404},
	{ID: "T24-05", Revisions: "24", Level: "MUST", Text: "The first event is `endpoint` and names the URI for POSTs", Test: testT2405},
	{ID: "T24-06", Revisions: "24", Level: "(text)", Text: "Messages of the server are `message` events with JSON data", Test: testT2406},
	{ID: "T24-07", Revisions: "24", Level: "(sec)", Text: "The message endpoint of a closed, unknown or foreign session refuses messages", Test: testT2407},
}

// An oldClient speaks the transport of 2024-11-05.
type oldClient struct {
	*env
	*stream
	path  string // where messages are posted
	edits []edit
}

// openSSE opens the event stream and reads the endpoint event.
func (e *env) openSSE(t *testing.T, edits ...edit) *oldClient {
	t.Helper()
	s := e.do(t, e.request(t, http.MethodGet, "/sse", nil, edits...)).events(t)
	ev := s.event(t)
	if ev.name != "endpoint" {
		t.Fatalf("first event is %+v, want endpoint", ev)
	}
	base := &url.URL{Scheme: "http", Host: e.addr, Path: "/sse"}
	u, err := base.Parse(ev.data)
	if err != nil || u.Host != e.addr {
		t.Fatalf("endpoint %q is not a URI of this server (%v)", ev.data, err)
	}
	return &oldClient{env: e, stream: s, path: u.RequestURI(), edits: edits}
}

func (c *oldClient) send(t *testing.T, body any, edits ...edit) *reply {
	t.Helper()
	return c.do(t, c.request(t, http.MethodPost, c.path, body, append(append([]edit{}, c.edits...), edits...)...))
}

// initialized opens a session to the point where tools can be called.
func (c *oldClient) initialized(t *testing.T) *oldClient {
	t.Helper()
	c.send(t, initialize(1, v24, everything)).has(t, 200, 202)
	if m, _ := c.message(t); string(m.ID) != "1" || m.Error != nil || m.object(t)["protocolVersion"] != v24 {
		t.Fatalf("initialize answered %v", m)
	}
	c.send(t, notification("notifications/initialized", nil)).has(t, 200, 202)
	return c
}

func testT2401(t *testing.T) {
	e := serve(t)
	evil := with("Origin", "http://evil.example")
	e.do(t, e.request(t, http.MethodGet, "/sse", nil, evil)).has(t, 403)
	c := e.openSSE(t)
	c.send(t, initialize(1, v24, everything), evil).has(t, 403)
	c.quiet(t, "a refused message must not be processed")
}

func testT2402(t *testing.T) { bindsLocally(t, serving.Config{HTTPSSE: true}) }

func testT2403(t *testing.T) {
	e := serve(t, authenticated)
	e.do(t, e.request(t, http.MethodGet, "/sse", nil)).has(t, 401)
	c := e.openSSE(t, as("alice")).initialized(t)
	c.send(t, request(2, "ping", nil), without("Authorization")).has(t, 401)
	c.send(t, call(3, "whoami", obj{})).has(t, 200, 202)
	if m, _ := c.message(t); string(m.ID) != "3" || !strings.HasSuffix(content(t, m.object(t)), "user=alice") {
		t.Fatalf("got %v, want the answer to alice's call", m)
	}
}

func testT2404(t *testing.T) {
	e := serve(t)
	c := e.openSSE(t)
	if status := c.send(t, initialize(1, v24, everything)).status; status < 200 || status > 299 {
		t.Fatalf("POST to %s: HTTP %d", c.path, status)
	}
	if m, _ := c.message(t); m.Error != nil {
		t.Fatalf("initialize failed: %v", m)
	}
}

func testT2405(t *testing.T) {
	e := serve(t)
	a, b := e.openSSE(t), e.openSSE(t) // which demands the event
	if a.path == b.path {
		t.Fatalf("two streams were told the same endpoint %s", a.path)
	}
	if !strings.HasPrefix(a.path, "/messages") {
		t.Fatalf("endpoint is %s, want the message path that was configured", a.path)
	}
}

func testT2406(t *testing.T) {
	e := serve(t)
	c := e.openSSE(t).initialized(t)
	r := c.send(t, tokened(call(2, "steps", obj{"n": 1}), "tok")).has(t, 200, 202)
	if strings.Contains(string(r.body), "jsonrpc") {
		t.Fatalf("the POST was answered with a message: %s", r.body)
	}
	var got []message
	for range 3 {
		m, ev := c.message(t)
		if ev.hasName && ev.name != "message" {
			t.Fatalf("event is %q, want message", ev.name)
		}
		got = append(got, m)
	}
	if n := methods(got); n["notifications/progress"] != 2 || n["response"] != 1 {
		t.Fatalf("got %v, want two progress notifications and a response", got)
	}
	if string(got[2].ID) != "2" {
		t.Fatalf("the response is not last: %v", got)
	}
	// What the server asks comes over the stream, and the answer over a POST.
	c.send(t, call(3, "elicit", obj{"key": "k"})).has(t, 200, 202)
	ask, _ := c.message(t)
	if ask.Method != "elicitation/create" {
		t.Fatalf("got %v, want elicitation/create", ask)
	}
	c.send(t, obj{"jsonrpc": "2.0", "id": ask.ID, "result": obj{"action": "accept", "content": obj{"name": "Ann"}}}).has(t, 200, 202)
	if m, _ := c.message(t); string(m.ID) != "3" || content(t, m.object(t)) != "accept Ann" {
		t.Fatalf("got %v, want the answer to the call", m)
	}
}

func testT2407(t *testing.T) {
	refused := func(t *testing.T, r *reply) {
		t.Helper()
		if r.status < 400 || r.status > 499 {
			t.Fatalf("HTTP %d, want a refusal", r.status)
		}
	}
	t.Run("unknown", func(t *testing.T) {
		e := serve(t)
		c := e.openSSE(t)
		path, query, _ := strings.Cut(c.path, "?")
		refused(t, e.do(t, e.request(t, http.MethodPost, path, request(1, "ping", nil))))
		name, _, _ := strings.Cut(query, "=")
		refused(t, e.do(t, e.request(t, http.MethodPost, path+"?"+name+"=unknown", request(1, "ping", nil))))
	})
	t.Run("closed", func(t *testing.T) {
		e := serve(t)
		c := e.openSSE(t).initialized(t)
		c.cut()
		eventually(t, "the message endpoint refuses after its stream has gone", func() bool {
			status := c.send(t, request(2, "ping", nil)).status
			return status >= 400 && status < 500
		})
	})
	t.Run("foreign", func(t *testing.T) {
		e := serve(t, authenticated)
		c := e.openSSE(t, as("alice")).initialized(t)
		refused(t, c.send(t, request(2, "ping", nil), as("bob")))
		c.send(t, request(3, "ping", nil)).has(t, 200, 202)
		if m, _ := c.message(t); string(m.ID) != "3" {
			t.Fatalf("got %v, want only the answer to alice", m)
		}
	})
}
