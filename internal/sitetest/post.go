package sitetest

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime/debug"
	"slices"
	"testing"
)

// A Sink is a client that throws away what it is told.
type Sink struct {
	header http.Header
	Status int
	Bytes  int
}

// Header implements [http.ResponseWriter].
func (w *Sink) Header() http.Header { return w.header }

// WriteHeader keeps the status.
func (w *Sink) WriteHeader(s int) { w.Status = s }

// Flush does nothing.
func (w *Sink) Flush() {}

// Write counts.
func (w *Sink) Write(p []byte) (int, error) {
	w.Bytes += len(p)
	return len(p), nil
}

// A Post is a request that can be sent again, so that building it costs nothing of what is measured.
type Post struct {
	Request *http.Request
	Answer  *Sink // what came last of [Post.Send]
	body    *bytes.Reader
}

// NewPost returns a request with a body and, beside what every one has, a header.
func NewPost(body string, header map[string]string) *Post {
	p := &Post{body: bytes.NewReader([]byte(body)), Answer: &Sink{header: make(http.Header)}}
	p.Request = httptest.NewRequestWithContext(context.Background(), http.MethodPost, "/mcp", nil)
	p.Request.Body, p.Request.ContentLength = io.NopCloser(p.body), int64(len(body))
	p.Request.Header.Set("Content-Type", "application/json")
	p.Request.Header.Set("Accept", "application/json, text/event-stream")
	for name, value := range header {
		p.Request.Header.Set(name, value)
	}
	return p
}

// Send sends it; what comes is thrown away.
func (p *Post) Send(h http.Handler) {
	clear(p.Answer.header)
	p.Answer.Status, p.Answer.Bytes = 0, 0
	p.SendTo(h, p.Answer)
}

// SendTo sends it for somebody else to hear the answer.
func (p *Post) SendTo(h http.Handler, w http.ResponseWriter) {
	_, _ = p.body.Seek(0, io.SeekStart)
	h.ServeHTTP(w, p.Request)
}

// Meta2026 is what is in the _meta of each request of 2026-07-28.
const Meta2026 = `"io.modelcontextprotocol/protocolVersion":"2026-07-28",` +
	`"io.modelcontextprotocol/clientInfo":{"name":"bench","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}`

// Call2026 is a call of the stateless era.
func Call2026(tool, arguments string) *Post {
	body := `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"` + tool + `","arguments":` + arguments +
		`,"_meta":{"progressToken":"t",` + Meta2026 + `}}}`
	return NewPost(body, map[string]string{"Mcp-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": tool})
}

// OpenSession initializes a session and returns its ID.
func OpenSession(tb testing.TB, h http.Handler) string {
	tb.Helper()
	p := NewPost(`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"bench","version":"1"}}}`, nil)
	p.Send(h)
	id := p.Answer.header.Get("Mcp-Session-Id")
	if p.Answer.Status != http.StatusOK || id == "" {
		tb.Fatalf("initialize: status %d", p.Answer.Status)
	}
	p = NewPost(`{"jsonrpc":"2.0","method":"notifications/initialized"}`, InSession(id))
	p.Send(h)
	if p.Answer.Status != http.StatusAccepted {
		tb.Fatalf("initialized: status %d", p.Answer.Status)
	}
	return id
}

// InSession is the header of a request in a session of 2025-11-25.
func InSession(id string) map[string]string {
	return map[string]string{"Mcp-Session-Id": id, "Mcp-Protocol-Version": "2025-11-25"}
}

// CallOfSession is a call in a session.
func CallOfSession(id, tool, arguments string) *Post {
	body := `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"` + tool + `","arguments":` + arguments + `,"_meta":{"progressToken":"t"}}}`
	return NewPost(body, InSession(id))
}

// An Era is a kind of clients, and how one of them calls a tool.
type Era struct {
	Name string
	Call func(tb testing.TB, h http.Handler, tool, arguments string) *Post
}

// Eras are the one with sessions, and the one without.
var Eras = []Era{
	{"sessions", func(tb testing.TB, h http.Handler, tool, arguments string) *Post {
		return CallOfSession(OpenSession(tb, h), tool, arguments)
	}},
	{"2026-07-28", func(_ testing.TB, _ http.Handler, tool, arguments string) *Post { return Call2026(tool, arguments) }},
}

// RaceDetector reports whether it watches: sync.Pool then throws some things away, and net/http keeps its buffers in pools.
func RaceDetector() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}
