package sluice

import (
	"encoding/json"
	"maps"
	"math"
	"net/http"
	"net/url"
	"slices"
	"sync"

	"github.com/sluice-mcp/sluice/internal/engine"
	"github.com/sluice-mcp/sluice/internal/run"
	"github.com/sluice-mcp/sluice/internal/session"
	"github.com/sluice-mcp/sluice/internal/wire"
)

// This file is the transport of revision 2024-11-05: one stream for everything that the server says,
// opened by GET, and a second endpoint that takes what the client says. The session is the connection.

// oldSessions are the open connections of that transport.
type oldSessions struct {
	mu   sync.Mutex
	open map[string]*oldSession
}

type oldSession struct {
	session   *session.Session
	stream    *run.Stream
	principal string
}

// HTTPSSE returns the handler of the transport of revision 2024-11-05 (HTTP+SSE), for old clients: GET
// opens the stream, POST takes messages. Mount it at both paths; messagePath is the one for POST as clients see it.
// Its sessions live in one process: several replicas need a balancer that keeps a client at one of them.
func (h *Handler) HTTPSSE(messagePath string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !h.admit(w, r) {
			return
		}
		switch r.Method {
		case http.MethodGet:
			h.openHTTPSSE(w, r, messagePath)
		case http.MethodPost:
			h.postHTTPSSE(w, r)
		default:
			w.Header().Set("Allow", "GET, POST")
			writeError(w, http.StatusMethodNotAllowed, "", wire.InvalidRequest("Method not allowed"))
		}
	})
}

func (h *Handler) openHTTPSSE(w http.ResponseWriter, r *http.Request, messagePath string) {
	if h.draining.Load() {
		writeBusy(w, http.StatusServiceUnavailable, "", errDraining.Error(), retryAfter)
		return
	}
	eng := h.engineFor(r)
	if eng == nil {
		h.writeSessionError(w, "", errNoServer)
		return
	}
	principal := h.opts.Principal(r)
	s, err := h.sessions.New(eng, principal)
	if err != nil {
		h.writeSessionError(w, "", err)
		return
	}
	defer h.sessions.Discard(s)
	o := &oldSession{session: s, stream: run.NewStream("", math.MaxInt), principal: principal}
	s.Carry(o.stream)
	h.old.mu.Lock()
	if h.old.open == nil {
		h.old.open = make(map[string]*oldSession)
	}
	h.old.open[s.ID] = o
	h.old.mu.Unlock()
	defer func() {
		h.old.mu.Lock()
		defer h.old.mu.Unlock()
		delete(h.old.open, s.ID)
	}()
	h.engines.watch(eng)
	show(w, r, o.stream, o.stream.Attach(-1), view{
		prelude:   wire.AppendEvent(nil, "endpoint", "", []byte(messagePath+"?sessionId="+url.QueryEscape(s.ID))),
		gone:      func() {},
		keepAlive: h.opts.KeepAlive,
	})
}

func (h *Handler) postHTTPSSE(w http.ResponseWriter, r *http.Request) {
	h.old.mu.Lock()
	o := h.old.open[r.URL.Query().Get("sessionId")]
	h.old.mu.Unlock()
	if o == nil || o.principal != h.opts.Principal(r) {
		h.writeSessionError(w, "", session.ErrNotFound)
		return
	}
	body, ok := h.readBody(w, r)
	if !ok {
		return
	}
	one, batch, e := wire.ParseBody(body)
	switch {
	case e != nil:
		writeError(w, http.StatusBadRequest, one.ID, e)
		return
	case batch == nil:
		batch = []wire.Element{{Message: one}}
	}
	// Responses cannot wait for a reader as notifications do, and there is one for all of them: a client that asks and does not
	// read would have them pile up. What it owes itself is let in.
	if slices.ContainsFunc(batch, wire.Element.Owed) && o.stream.Full() {
		writeBusy(w, http.StatusTooManyRequests, "", "Too much waits on the event stream: read it first", 4*retryAfter)
		return
	}
	for _, element := range batch {
		if m := element.Message; element.Err == nil && m.Kind == wire.Request && m.Method == "initialize" {
			h.initializeHTTPSSE(r, o, m)
			continue
		}
		if o.tooEarly(element) {
			continue
		}
		h.beginElement(r, o.session, o.stream, element)
	}
	w.WriteHeader(http.StatusAccepted)
}

// tooEarly takes what a client must not send before initialize (Lifecycle, "Initialization"): a handler counts on knowing who
// calls it, and there is no session yet that could be changed.
func (o *oldSession) tooEarly(e wire.Element) bool {
	m := e.Message
	if e.Err != nil || m.Method == "ping" || o.session.Version() != "" {
		return false
	}
	if m.Kind == wire.Request {
		e := wire.InvalidRequest("Invalid request: initialize first")
		_ = o.stream.Respond(wire.AppendError(nil, m.ID, e), http.StatusOK) // fails when the connection is gone
	}
	return true
}

// initializeHTTPSSE answers initialize on the stream. Nothing of the session is stored: it ends with its connection.
func (h *Handler) initializeHTTPSSE(r *http.Request, o *oldSession, m wire.Message) {
	answer := func(result json.RawMessage, e *wire.Error) {
		data := wire.AppendResult(nil, m.ID, result)
		if e != nil {
			data = wire.AppendError(nil, m.ID, e)
		}
		_ = o.stream.Respond(data, http.StatusOK) // fails when the connection is gone, and the client with it
	}
	params, e := engine.PrepareInitialize(m.Params)
	if e != nil {
		answer(nil, e)
		return
	}
	if o.session.Version() != "" {
		answer(nil, wire.InvalidRequest("Invalid request: the session is initialized"))
		return
	}
	result, version, err := initialize(r, o.session.Engine, o.session, params)
	if err != nil {
		answer(nil, engine.ToError(err))
		return
	}
	o.session.EstablishHere(version, engine.NegotiatedParams(params, version))
	answer(result, nil)
}

// eachSession calls f for every session that is alive here, those of the old transport too.
func (h *Handler) eachSession(f func(*session.Session)) {
	h.sessions.Each(f)
	h.old.mu.Lock()
	all := slices.Collect(maps.Values(h.old.open))
	h.old.mu.Unlock()
	for _, o := range all {
		f(o.session)
	}
}

// endHTTPSSE ends the streams of the old transport.
func (h *Handler) endHTTPSSE() {
	h.old.mu.Lock()
	defer h.old.mu.Unlock()
	for _, o := range h.old.open {
		o.stream.End()
	}
}
