package deploy_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"
)

// A client speaks MCP in plain HTTP, so that a test sees when each event comes.
type client struct {
	t        testing.TB
	http     *http.Client
	url      string
	revision string
	session  string // with revisions that have them
}

// connect opens a session, or, since 2026-07-28, asks what there is.
func connect(t testing.TB, over *http.Client, url, revision string) *client {
	t.Helper()
	c := &client{t: t, http: over, url: url, revision: revision}
	t.Cleanup(over.CloseIdleConnections)
	if c.stateless() {
		c.send(t.Context(), "server/discover", "", request(0, "server/discover", c.meta(""))).result()
		return c
	}
	params := fmt.Sprintf(`{"protocolVersion":%q,"capabilities":{},"clientInfo":{"name":"test","version":"1"}}`, revision)
	r := c.send(t.Context(), "initialize", "", request(0, "initialize", params))
	if c.session = r.Header.Get("Mcp-Session-Id"); c.session == "" {
		t.Fatalf("no Mcp-Session-Id after initialize: %s", r.Status)
	}
	r.result()
	r = c.send(t.Context(), "notifications/initialized", "", `{"jsonrpc":"2.0","method":"notifications/initialized"}`)
	r.Body.Close()
	if r.StatusCode != http.StatusAccepted {
		t.Fatalf("notifications/initialized: %s", r.Status)
	}
	return c
}

func (c *client) stateless() bool { return c.revision >= "2026-07-28" }

func request(id int, method, params string) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":%q,"params":%s}`, id, method, params)
}

// meta starts params with what every request of the stateless era says, and asks for progress.
func (c *client) meta(rest string) string {
	meta := `"progressToken":"p"`
	if c.stateless() {
		meta += fmt.Sprintf(`,"io.modelcontextprotocol/protocolVersion":%q,"io.modelcontextprotocol/clientCapabilities":{},`+
			`"io.modelcontextprotocol/clientInfo":{"name":"test","version":"1"}`, c.revision)
	}
	return `{"_meta":{` + meta + `}` + rest + `}`
}

// call begins a tool's call.
func (c *client) call(id int, tool, arguments string) *reply {
	c.t.Helper()
	return c.callWith(c.t.Context(), id, tool, arguments)
}

func (c *client) callWith(ctx context.Context, id int, tool, arguments string) *reply {
	c.t.Helper()
	params := c.meta(fmt.Sprintf(`,"name":%q,"arguments":%s`, tool, arguments))
	return c.send(ctx, "tools/call", tool, request(id, "tools/call", params))
}

func (c *client) send(ctx context.Context, method, name, body string) *reply {
	c.t.Helper()
	header := http.Header{"Content-Type": {"application/json"}, "Accept": {"application/json, text/event-stream"}}
	if c.stateless() {
		header.Set("Mcp-Method", method)
		if name != "" {
			header.Set("Mcp-Name", name)
		}
	}
	return c.do(ctx, http.MethodPost, header, body)
}

// resume asks for what came after an event.
func (c *client) resume(lastEventID string) *reply {
	c.t.Helper()
	return c.do(c.t.Context(), http.MethodGet, http.Header{"Accept": {"text/event-stream"}, "Last-Event-Id": {lastEventID}}, "")
}

func (c *client) do(ctx context.Context, method string, header http.Header, body string) *reply {
	c.t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, c.url, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header = header
	if c.session != "" || c.stateless() {
		req.Header.Set("Mcp-Protocol-Version", c.revision)
	}
	if c.session != "" {
		req.Header.Set("Mcp-Session-Id", c.session)
	}
	begun := time.Now()
	resp, err := c.http.Do(req)
	if err != nil {
		c.t.Fatalf("%s: %v", method, err)
	}
	c.t.Cleanup(func() { resp.Body.Close() })
	return &reply{Response: resp, t: c.t, begun: begun, lines: bufio.NewReader(resp.Body)}
}

// A reply is a response being read.
type reply struct {
	*http.Response
	t     testing.TB
	begun time.Time // when the request was sent
	lines *bufio.Reader
}

// An event is one of a stream, or the only message of a JSON body.
type event struct {
	id, data string
	at       time.Duration // since the request was sent
	comments int           // that came since the event before
}

var responseID = regexp.MustCompile(`"id":\d+,"(result|error)"`)

// final reports whether an event ends its call.
func (e event) final() bool { return responseID.MatchString(e.data) }

// next returns the next event with data; io.EOF when the stream has ended.
func (r *reply) next() (e event, err error) {
	if r.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(r.Body)
		return e, fmt.Errorf("%s: %s", r.Status, body)
	}
	if strings.HasPrefix(r.Header.Get("Content-Type"), "application/json") {
		body, err := io.ReadAll(r.lines)
		if err == nil && len(body) == 0 {
			err = io.EOF
		}
		return event{data: string(body), at: time.Since(r.begun)}, err
	}
	for {
		line, err := r.lines.ReadString('\n')
		if err != nil {
			return e, err
		}
		name, value, _ := strings.Cut(strings.TrimRight(line, "\r\n"), ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case name == "" && value != "": // a comment; an empty line has no colon
			e.comments++
		case name == "id":
			e.id = value
		case name == "data":
			e.data += value
		case name == "" && e.data != "":
			e.at = time.Since(r.begun)
			return e, nil
		}
	}
}

// must returns the next event.
func (r *reply) must() event {
	r.t.Helper()
	e, err := r.next()
	if err != nil {
		r.t.Fatalf("no further event: %v", err)
	}
	return e
}

// rest reads the stream up to the response.
func (r *reply) rest() (events []event) {
	r.t.Helper()
	for {
		e := r.must()
		events = append(events, e)
		if e.final() {
			return events
		}
	}
}

// result is the response.
func (r *reply) result() string {
	r.t.Helper()
	events := r.rest()
	return events[len(events)-1].data
}

// broken reads the stream until its connection is lost and returns the last event.
func (r *reply) broken(last event) event {
	r.t.Helper()
	for {
		e, err := r.next()
		if err != nil {
			return last
		}
		if e.final() {
			r.t.Fatal("the call has come to its end")
		}
		last = e
	}
}

// patient asks again while the server says that it is going, as it asks clients to do.
func (c *client) patient(ask func() *reply) *reply {
	c.t.Helper()
	begun := time.Now()
	for {
		r := ask()
		if r.StatusCode != http.StatusServiceUnavailable || r.Header.Get("Retry-After") == "" {
			return r
		}
		r.Body.Close()
		if time.Since(begun) > patience {
			c.t.Fatalf("still %s", r.Status)
		}
		time.Sleep(100 * time.Millisecond)
	}
}
