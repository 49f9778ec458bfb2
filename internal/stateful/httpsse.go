package stateful

import (
	"encoding/json"
	"maps"
	"math"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/sluice-mcp/sluice/internal/answer"
	"github.com/sluice-mcp/sluice/internal/engine"
	"github.com/sluice-mcp/sluice/internal/run"
	"github.com/sluice-mcp/sluice/internal/session"
	"github.com/sluice-mcp/sluice/internal/view"
	"github.com/sluice-mcp/sluice/internal/wire"
	"github.com/sluice-mcp/sluice/observe"
)

// This file is the transport of revision 2024-11-05 (HTTP+SSE): one stream for everything that the server says,
// opened by GET, and a second endpoint that takes what the client says. The session is the connection.

// connections are those of that transport.
type connections struct {
	mu   sync.Mutex
	open map[string]*connection // by session ID
}

type connection struct {
	session   *session.Session
	stream    *run.Stream
	principal string
}

func (s *connections) add(c *connection) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open = make(map[string]*connection)
	}
	s.open[c.session.ID] = c
}

func (s *connections) remove(c *connection) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, c.session.ID)
}

func (s *connections) get(id string) *connection {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open[id]
}

func (s *connections) each(f func(*connection)) {
	s.mu.Lock()
	all := slices.Collect(maps.Values(s.open))
	s.mu.Unlock()
	for _, c := range all {
		f(c)
	}
}

// EndConnections ends the streams of the old transport.
func (p *Endpoint) EndConnections() { p.connections.each(func(c *connection) { c.stream.End() }) }

// HTTPSSE serves the old transport: GET opens the stream, POST takes messages. messagePath is where they go, see [messageReference].
func (p *Endpoint) HTTPSSE(w http.ResponseWriter, r *http.Request, messagePath string) {
	switch r.Method {
	case http.MethodGet:
		p.openHTTPSSE(w, r, messagePath)
	case http.MethodPost:
		p.postHTTPSSE(w, r)
	default:
		w.Header().Set("Allow", "GET, POST")
		answer.Error(w, http.StatusMethodNotAllowed, "", wire.InvalidRequest("Method not allowed"))
	}
}

func (p *Endpoint) openHTTPSSE(w http.ResponseWriter, r *http.Request, messagePath string) {
	if p.Calls.Leaving() {
		p.refuse(w, r, "", answer.Leaving())
		return
	}
	server := p.Server(r)
	if server == nil {
		p.refuse(w, r, "", p.refusal(errNoServer))
		return
	}
	principal := p.Principal(r)
	s, err := p.Sessions.New(server, principal)
	if err != nil {
		p.refuse(w, r, "", p.refusal(err))
		return
	}
	defer p.Sessions.Discard(s)
	c := &connection{session: s, stream: run.NewStream("", math.MaxInt), principal: principal}
	s.Carry(c.stream)
	p.connections.add(c)
	defer p.connections.remove(c)
	defer p.Listen(server)()
	endpoint := wire.AppendEvent(nil, "endpoint", "", []byte(messageReference(r, messagePath)+"?sessionId="+url.QueryEscape(s.ID)))
	p.View.Show(w, r, c.stream, c.stream.Attach(-1), view.View{Prelude: endpoint, Kind: observe.StreamHTTPSSE})
}

// messageReference names the endpoint for messages relative to the URL of the stream, if the one lies in the directory of the other
// or in one above it. Clients resolve it against the URL that they know, which has what a proxy in front has stripped; a path
// from the root would lead them past it. Anything else is sent as it was given.
func messageReference(r *http.Request, messagePath string) string {
	if !strings.HasPrefix(messagePath, "/") {
		return messagePath // a reference, or a whole URL, of the program's own
	}
	stream := r.URL.EscapedPath()
	if u, err := url.ParseRequestURI(r.RequestURI); err == nil { // a prefix that a mux here has stripped is in messagePath, too
		stream = u.EscapedPath()
	}
	dir, base := path.Split(strings.TrimSuffix(messagePath, "/"))
	below, ok := strings.CutPrefix(stream, dir)
	if !ok || base == "" {
		return messagePath
	}
	base = messagePath[len(dir):] // with its slash
	up := strings.Repeat("../", strings.Count(below, "/"))
	if up == "" && strings.Contains(base, ":") {
		up = "./" // else it reads as a scheme (RFC 3986 section 4.2)
	}
	return up + base
}

func (p *Endpoint) postHTTPSSE(w http.ResponseWriter, r *http.Request) {
	c := p.connections.get(r.URL.Query().Get("sessionId"))
	if c == nil || c.principal != p.Principal(r) {
		p.refuse(w, r, "", p.refusal(session.ErrNotFound))
		return
	}
	post, ok := p.Reader.Messages(w, r)
	if !ok {
		return
	}
	if post.Malformed != nil {
		p.refuse(w, r, "", p.refusal(answered(r, c.session, post.Message, post.Malformed)))
		return
	}
	elements := post.Batch
	if elements == nil {
		elements = []wire.Element{{Message: post.Message}}
	}
	// Responses cannot wait for a reader as notifications do, and there is one for all of them: a client that asks and does not
	// read would have them pile up. What it owes itself is let in.
	if slices.ContainsFunc(elements, wire.Element.Owed) && c.stream.Full() {
		p.refuse(w, r, "", answer.Busy(observe.RefusedUnread, http.StatusTooManyRequests, "Too much waits on the event stream: read it first", 4*answer.RetryAfter))
		return
	}
	for _, e := range elements {
		if m := e.Message; e.Err == nil && m.Kind == wire.Request && m.Method == "initialize" {
			p.initializeHTTPSSE(r, c, m)
			continue
		}
		if c.tooEarly(e) {
			continue
		}
		p.element(r, c.session, c.stream, e)
	}
	answer.Accepted(w)
}

// tooEarly takes what a client must not send before initialize (Lifecycle, "Initialization"): a handler counts on knowing who
// calls it, and there is no session yet that could be changed.
func (c *connection) tooEarly(e wire.Element) bool {
	m := e.Message
	if e.Err != nil || m.Method == "ping" || c.session.Version() != "" {
		return false
	}
	if m.Kind == wire.Request {
		e := wire.InvalidRequest("Invalid request: initialize first")
		_ = c.stream.Respond(wire.AppendError(nil, m.ID, e), http.StatusOK) // fails when the connection is gone
	}
	return true
}

// initialize answers on the stream. Nothing of the session is stored: it ends with its connection.
func (p *Endpoint) initializeHTTPSSE(r *http.Request, c *connection, m wire.Message) {
	ctx, end := p.observeInitialize(r, m, observe.HTTPSSE)
	respond := func(result json.RawMessage, e *wire.Error) {
		data, ended := wire.AppendResult(nil, m.ID, result), observe.End{Outcome: observe.OK}
		if e != nil {
			data, ended = wire.AppendError(nil, m.ID, e), failed(e)
		}
		_ = c.stream.Respond(data, http.StatusOK) // fails when the connection is gone, and the client with it
		ended.Shape, ended.Bytes = observe.Stream, int64(len(data))
		end(ended)
	}
	params, e := engine.PrepareInitialize(m.Params)
	if e != nil {
		respond(nil, e)
		return
	}
	if c.session.Version() != "" {
		respond(nil, wire.InvalidRequest("Invalid request: the session is initialized"))
		return
	}
	result, version, err := greet(ctx, r, c.session, params)
	if err != nil {
		respond(nil, engine.ToError(err))
		return
	}
	c.session.EstablishHere(ctx, version, engine.NegotiatedParams(params, version))
	respond(result, nil)
}
