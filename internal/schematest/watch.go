package schematest

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
)

// A Conversation is what two sides write to each other in one session, or in one exchange without a session. It knows
// the revision that they speak, and what each response answers. It may be used by several goroutines.
type Conversation struct {
	judge    *judge
	mu       sync.Mutex
	revision string                      // that they have agreed on, or that the last request was of
	agreed   bool                        // by initialize
	asked    map[Side]map[string]request // by the side that sent it, and its ID
	elicits  bool                        // the client has declared that it can be asked for input
}

// A request is one that may still be answered.
type request struct{ method, revision string }

// A judge reports what is wrong to a test, as long as it runs.
type judge struct {
	t      testing.TB
	mu     sync.Mutex
	over   bool
	judged []Side
}

func newJudge(t testing.TB, judged []Side) *judge {
	j := &judge{t: t, judged: judged}
	t.Cleanup(func() {
		j.mu.Lock()
		defer j.mu.Unlock()
		j.over = true // what is written now would be reported to a test that has ended, which panics
	})
	return j
}

func (j *judge) report(from Side, revision string, text []byte, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.over {
		return
	}
	if revision == "" {
		revision = "no revision"
	}
	const most = 2000
	if len(text) > most {
		text = append(slices.Clip(text[:most]), "..."...)
	}
	j.t.Errorf("schematest: the %s wrote what the schema of %s does not allow: %v\n%s", from, revision, err, text)
}

// NewConversation makes one whose messages are judged when they come from one of the sides, by default either. What
// is wrong fails the test.
func NewConversation(t testing.TB, judged ...Side) *Conversation {
	if len(judged) == 0 {
		judged = []Side{Client, Server}
	}
	return newConversation(newJudge(t, judged))
}

func newConversation(j *judge) *Conversation {
	return &Conversation{judge: j, asked: map[Side]map[string]request{Client: {}, Server: {}}}
}

// Wrote takes note of one message or one batch.
func (c *Conversation) Wrote(from Side, text []byte) { c.wrote(c.judge, from, text) }

// Exempt has nothing judged any more, and says why: the messages are those of somebody else, or of nobody's revision.
func (c *Conversation) Exempt(reason string) {
	c.judge.mu.Lock()
	defer c.judge.mu.Unlock()
	c.judge.t.Logf("schematest: not judged: %s", reason)
	c.judge.over = true
}

// Lines returns a reader of what one side writes to its standard output, or to the other's input: one message a line.
func (c *Conversation) Lines(from Side, r io.Reader) io.Reader {
	return &lines{r: r, c: c, from: from}
}

type lines struct {
	r    io.Reader
	c    *Conversation
	from Side
	rest []byte
}

func (l *lines) Read(p []byte) (int, error) {
	n, err := l.r.Read(p)
	l.rest = append(l.rest, p[:n]...)
	for {
		line, rest, whole := bytes.Cut(l.rest, []byte("\n"))
		if !whole {
			return n, err
		}
		l.rest = rest
		l.c.Wrote(l.from, line)
	}
}

func (c *Conversation) wrote(j *judge, from Side, text []byte) {
	if batch := batch(text); batch != nil {
		if revision := c.speaks(); revision != "" && revision != "2025-03-26" && slices.Contains(j.judged, from) {
			j.report(from, revision, text, errors.New("a batch"))
		}
		for _, text := range batch {
			c.wrote(j, from, text)
		}
		return
	}
	var m envelope
	answers := request{revision: c.speaks()}
	err := json.Unmarshal(text, &m)
	if err == nil {
		answers = c.note(from, &m)
	}
	if !slices.Contains(j.judged, from) {
		return
	}
	if err == nil {
		err = m.check(answers.revision, from, answers.method)
	}
	if err != nil {
		j.report(from, answers.revision, text, err)
	}
}

// speaks returns the revision of what is said without being asked.
func (c *Conversation) speaks() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.revision
}

// note remembers what later messages are understood by. It returns the revision of this one, and the method that it
// answers if it is a response.
func (c *Conversation) note(from Side, m *envelope) request {
	c.mu.Lock()
	defer c.mu.Unlock()
	if m.Method == nil {
		other := Client
		if from == Client {
			other = Server
		}
		answers, known := c.asked[other][string(m.ID)]
		if !known {
			answers.revision = c.revision
		}
		if from == Server && answers.method == "initialize" {
			var result struct {
				Revision string `json:"protocolVersion"`
			}
			if json.Unmarshal(m.Result, &result) == nil && slices.Contains(Revisions, result.Revision) {
				c.revision, c.agreed = result.Revision, true
				answers.revision = result.Revision
			}
		}
		return answers
	}
	var params struct {
		Meta struct {
			Revision string `json:"io.modelcontextprotocol/protocolVersion"`
		} `json:"_meta"`
		Revision     string `json:"protocolVersion"` // of initialize, which asks for it
		Capabilities struct {
			Elicitation *struct{} `json:"elicitation"`
		} `json:"capabilities"`
	}
	this := request{*m.Method, c.revision}
	if from == Client {
		_ = json.Unmarshal(m.Params, &params) // tests send anything
		c.elicits = c.elicits || params.Capabilities.Elicitation != nil
		for _, revision := range []string{params.Revision, params.Meta.Revision} {
			if slices.Contains(Revisions, revision) {
				this.revision = revision
			}
		}
		if !c.agreed { // otherwise one request of another revision changes nothing
			c.revision, c.agreed = this.revision, this.method == "initialize"
		}
	}
	if m.ID != nil {
		c.asked[from][string(m.ID)] = this
	}
	// What a client can do is no closed set: one may declare elicitation before the revision that has it.
	if this.method == "elicitation/create" && c.elicits {
		this.revision = max(this.revision, "2025-06-18")
	}
	return request{revision: this.revision}
}

// batch returns the messages of a JSON array, or nil.
func batch(text []byte) []json.RawMessage {
	var all []json.RawMessage
	if !bytes.HasPrefix(bytes.TrimSpace(text), []byte("[")) || json.Unmarshal(text, &all) != nil {
		return nil
	}
	return all
}

// sessions are the conversations of all sessions by their IDs, which nobody can guess: they are as good as unique. The
// replicas of a test share them, as they do the sessions.
var sessions sync.Map

// Watch judges what h writes, and with [Client] among the sides what it reads, by the schema of the revision that is
// spoken: JSON bodies and events, of Streamable HTTP and of HTTP+SSE. What is wrong fails the test. Everything else is
// as without it.
func Watch(t testing.TB, h http.Handler, judged ...Side) http.Handler {
	if len(judged) == 0 {
		judged = []Side{Server}
	}
	j := newJudge(t, judged)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e := &exchange{judge: j, request: r, header: w.Header()}
		if r.Body != nil {
			r = r.WithContext(r.Context()) // a copy: the server wants to find its own as it was
			r.Body = &body{ReadCloser: r.Body, read: e.ask, end: e.askedAll}
		}
		h.ServeHTTP(&writer{w, e}, r)
		e.end(true) // not after a panic, which leaves half a message
	})
}

// A writer is a response that is judged as it is written.
type writer struct {
	http.ResponseWriter
	e *exchange
}

// Unwrap and FlushError are for [http.ResponseController], and Flush for those who look for an [http.Flusher].
func (w *writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *writer) FlushError() error { return http.NewResponseController(w.ResponseWriter).Flush() }
func (w *writer) Flush()            { _ = w.FlushError() }

func (w *writer) Write(p []byte) (int, error) {
	w.e.answer(p)
	return w.ResponseWriter.Write(p)
}

// Transport is as [Watch], for those whose client is at hand and whose server is not.
func Transport(t testing.TB, next http.RoundTripper, judged ...Side) http.RoundTripper {
	if len(judged) == 0 {
		judged = []Side{Client, Server}
	}
	return &transport{newJudge(t, judged), next}
}

type transport struct {
	judge *judge
	next  http.RoundTripper
}

func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	e := &exchange{judge: t.judge, request: r}
	if r.Body != nil {
		r = r.WithContext(r.Context())
		r.Body = &body{ReadCloser: r.Body, read: e.ask, end: e.askedAll}
	}
	resp, err := t.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	e.header = resp.Header
	resp.Body = &body{ReadCloser: resp.Body, read: e.answer, end: e.end}
	return resp, nil
}

// CloseIdleConnections is what [http.Client] looks for.
func (t *transport) CloseIdleConnections() {
	if c, ok := t.next.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// Front starts a server that is as the one at the address, and watches over what is said: for clients and servers that
// are both processes of their own. It returns its URL, without a path.
func Front(t testing.TB, address string, judged ...Side) string {
	t.Helper()
	target, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	target.Path = ""
	behind := httputil.NewSingleHostReverseProxy(target)
	behind.FlushInterval = -1
	behind.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError) // clients may leave when they like
	if len(judged) == 0 {
		judged = []Side{Client, Server}
	}
	server := httptest.NewServer(Watch(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Else the response closes the body, and the forwarded request fails, and its response with it, if it looks only
		// then whether the body is over.
		_ = http.NewResponseController(w).EnableFullDuplex()
		behind.ServeHTTP(w, r)
	}), judged...))
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return server.URL
}

// A body is somebody else's, who tells what is read of it and that it has ended.
type body struct {
	io.ReadCloser
	read func([]byte)
	end  func(whole bool)
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.read(p[:n])
	if errors.Is(err, io.EOF) {
		b.end(true)
	}
	return n, err
}

func (b *body) Close() error {
	b.end(false)
	return b.ReadCloser.Close()
}

// An exchange is one HTTP request and its response.
type exchange struct {
	judge   *judge
	request *http.Request
	header  http.Header // of the response

	mu      sync.Mutex
	asked   bytes.Buffer // the request's body, as far as it has been read
	heard   bool         // asked has been understood
	with    *Conversation
	written bytes.Buffer // of the response, what has not been judged
	event   string
	data    []byte
}

// ask takes a part of the request.
func (e *exchange) ask(p []byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.heard {
		e.asked.Write(p)
	}
}

// askedAll understands the request, before the handler can: the answer may come in another exchange, of HTTP+SSE.
func (e *exchange) askedAll(bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.hear()
}

// answer takes a part of the response.
func (e *exchange) answer(p []byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.hear()
	if id := e.header.Get("Mcp-Session-Id"); id != "" {
		sessions.LoadOrStore(id, e.with)
	}
	e.written.Write(p)
	if e.kind() == "text/event-stream" && bytes.IndexByte(p, '\n') >= 0 { // or a long line would be read over and over
		e.events()
	}
}

func (e *exchange) kind() string {
	kind, _, _ := mime.ParseMediaType(e.header.Get("Content-Type"))
	return kind
}

// end judges the body of a response that is one message. One of which not all has been seen may have been cut off.
func (e *exchange) end(whole bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.hear()
	text := e.written.Bytes()
	if e.kind() == "application/json" && len(text) > 0 && (whole || json.Valid(text)) {
		e.with.wrote(e.judge, Server, text)
	}
	e.written.Reset()
}

// hear finds the conversation that the request belongs to and lets it have the request.
func (e *exchange) hear() {
	if e.heard {
		return
	}
	e.heard = true
	id := e.request.Header.Get("Mcp-Session-Id")
	if e.request.URL.Query().Has("sessionId") { // of HTTP+SSE
		id = e.request.URL.Query().Get("sessionId")
	}
	if known, ok := sessions.Load(id); ok && id != "" {
		e.with = known.(*Conversation)
	} else {
		e.with = newConversation(e.judge)
		if revision := e.request.Header.Get("Mcp-Protocol-Version"); slices.Contains(Revisions, revision) {
			e.with.revision = revision
		}
	}
	if e.asked.Len() > 0 {
		e.with.wrote(e.judge, Client, e.asked.Bytes())
	}
}

// events judges the events that are complete.
func (e *exchange) events() {
	for {
		line, err := e.written.ReadString('\n')
		if err != nil {
			e.written.WriteString(line) // the rest of it is still to come
			return
		}
		line = strings.TrimRight(line, "\r\n")
		if line == "" {
			if len(e.data) > 1 { // an event without data is no message
				e.dispatch()
			}
			e.event, e.data = "", nil
			continue
		}
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch name {
		case "event":
			e.event = value
		case "data":
			e.data = append(append(e.data, value...), '\n')
		}
	}
}

func (e *exchange) dispatch() {
	switch e.event {
	case "", "message":
		e.with.wrote(e.judge, Server, bytes.TrimSpace(e.data))
	case "endpoint":
		_, id, found := strings.Cut(strings.TrimSpace(string(e.data)), "sessionId=")
		if found {
			sessions.Store(id, e.with)
		}
	}
}
