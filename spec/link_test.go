package spec_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// patience bounds every wait for something that must come, also on a machine that is busy with much else; quietly bounds every
// wait for something that must not.
const (
	patience = 2 * time.Minute
	quietly  = 100 * time.Millisecond
)

// A link is one connection to the endpoint. Unlike a connection of http.Client it can be cut at
// any byte, can send what a client library refuses to send, and may be a net.Pipe in virtual time.
type link struct {
	conn net.Conn
	br   *bufio.Reader
	over chan struct{} // closed at the end of the test
}

// dial opens a link that lives until the test ends, unless it is cut before.
func (e *env) dial(t *testing.T) *link {
	t.Helper()
	conn, err := e.connect()
	if err != nil {
		t.Fatalf("connecting: %v", err)
	}
	over := make(chan struct{})
	t.Cleanup(func() {
		close(over)
		conn.Close()
	})
	return &link{conn: conn, br: bufio.NewReader(conn), over: over}
}

// cut resets the connection, as a crashed client or a dropped network does.
func (l *link) cut() {
	if tcp, ok := l.conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = l.conn.Close()
}

// An exchange is a request that has been sent and whose answer has not been read.
type exchange struct {
	*link
	req  *http.Request
	sent time.Time
}

// begin writes req and does not wait for an answer.
func (l *link) begin(t *testing.T, req *http.Request) *exchange {
	t.Helper()
	sent := time.Now()
	_ = l.conn.SetWriteDeadline(sent.Add(patience))
	if err := req.Write(l.conn); err != nil && !strings.Contains(err.Error(), "reset") && !strings.Contains(err.Error(), "broken pipe") {
		t.Fatalf("writing %s: %v", req.Method, err)
	}
	return &exchange{l, req, sent}
}

// A reply is an answer: a whole body, or a stream of events still to be read.
type reply struct {
	*link
	status int
	header http.Header
	body   []byte
	stream *stream       // nil unless the body is text/event-stream
	took   time.Duration // to the header
}

// reply waits for the answer's header, and for the body unless it is a stream.
func (x *exchange) reply(t *testing.T) *reply {
	t.Helper()
	_ = x.conn.SetReadDeadline(time.Now().Add(patience))
	res, err := http.ReadResponse(x.br, x.req) //nolint:bodyclose // the end of the link is the end of the body
	if err != nil {
		t.Fatalf("%s: no answer: %v", describe(x.req), err)
	}
	r := &reply{link: x.link, status: res.StatusCode, header: res.Header, took: time.Since(x.sent)}
	if strings.HasPrefix(res.Header.Get("Content-Type"), "text/event-stream") {
		_ = x.conn.SetReadDeadline(time.Time{})
		r.stream = readEvents(x.link, res.Body)
		return r
	}
	if r.body, err = io.ReadAll(res.Body); err != nil {
		t.Fatalf("%s: reading the body: %v", describe(x.req), err)
	}
	_ = x.conn.SetReadDeadline(time.Time{})
	return r
}

// do sends req on a link of its own and waits for the answer. The link stays open only while a stream is on it.
func (e *env) do(t *testing.T, req *http.Request) *reply {
	t.Helper()
	r := e.begin(t, req).reply(t)
	if r.stream == nil {
		_ = r.conn.Close()
	}
	return r
}

func (e *env) begin(t *testing.T, req *http.Request) *exchange {
	t.Helper()
	return e.dial(t).begin(t, req)
}

// An edit changes a request before it is sent.
type edit func(*http.Request)

func with(name, value string) edit {
	return func(r *http.Request) {
		if strings.EqualFold(name, "Host") {
			r.Host = value
			return
		}
		r.Header.Set(name, value)
	}
}

func without(name string) edit { return func(r *http.Request) { r.Header.Del(name) } }

// as authenticates as the principal that the test's verifier knows by this token.
func as(token string) edit { return with("Authorization", "Bearer "+token) }

// post makes a POST to the endpoint. The body is bytes, or anything that is marshaled to JSON.
func (e *env) post(t *testing.T, body any, edits ...edit) *http.Request {
	t.Helper()
	return e.request(t, http.MethodPost, "/mcp", body, edits...)
}

func (e *env) request(t *testing.T, method, path string, body any, edits ...edit) *http.Request {
	t.Helper()
	var data []byte
	switch b := body.(type) {
	case nil:
	case string:
		data = []byte(b)
	case []byte:
		data = b
	default:
		var err error
		if data, err = json.Marshal(b); err != nil {
			t.Fatal(err)
		}
	}
	req, err := http.NewRequest(method, "http://"+e.addr+path, bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Accept", "application/json, text/event-stream")
	}
	if method == http.MethodGet {
		req.Header.Set("Accept", "text/event-stream")
	}
	for _, edit := range edits {
		edit(req)
	}
	return req
}

// describe names a request in a failure.
func describe(req *http.Request) string {
	var b strings.Builder
	b.WriteString(req.Method + " " + req.URL.Path)
	for _, name := range []string{"MCP-Protocol-Version", "Mcp-Method", "Mcp-Name", "Mcp-Session-Id", "Last-Event-ID", "Origin"} {
		if v := req.Header.Get(name); v != "" {
			b.WriteString(" " + name + "=" + v)
		}
	}
	return b.String()
}
