package sluice

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice/internal/engine"
	"github.com/sluice-mcp/sluice/internal/run"
	"github.com/sluice-mcp/sluice/internal/session"
	"github.com/sluice-mcp/sluice/internal/wire"
	"github.com/sluice-mcp/sluice/store"
)

// This file is the way of a message of the session era (2025-03-26 to 2025-11-25) over POST.

func (h *Handler) serveLegacy(w http.ResponseWriter, r *http.Request, m wire.Message) {
	if m.Kind == wire.Request && m.Method == "initialize" {
		h.serveInitialize(w, r, m)
		return
	}
	s := h.findSession(w, r, m.ID)
	if s == nil {
		return
	}
	defer s.Release()
	switch m.Kind {
	case wire.Notification:
		h.notified(w, r, s, m)
	case wire.Response:
		if err := s.Answer(r.Context(), m); err != nil {
			h.writeSessionError(w, "", err)
			return
		}
		w.WriteHeader(http.StatusAccepted)
	default:
		h.serveCall(w, r, s, m)
	}
}

// findSession returns the session that a request names, held, or answers why there is none.
func (h *Handler) findSession(w http.ResponseWriter, r *http.Request, id wire.ID) *session.Session {
	names := r.Header[wire.HeaderSession]
	if len(names) != 1 || names[0] == "" || len(names[0]) > 256 {
		writeError(w, http.StatusBadRequest, id, wire.InvalidRequest("Mcp-Session-Id is missing: initialize first"))
		return nil
	}
	s, err := h.sessions.Find(r.Context(), names[0], h.opts.Principal(r), func() (*engine.Engine, error) {
		if e := h.engineFor(r); e != nil {
			return e, nil
		}
		return nil, errNoServer
	})
	if err != nil {
		h.writeSessionError(w, id, err)
		return nil
	}
	// Nearly everybody sends the negotiated version. Another one may be one that this server does not speak
	// (Streamable HTTP, "Protocol Version Header").
	if v := r.Header.Get(wire.HeaderVersion); v != "" && v != s.Version() {
		if spoken := s.Engine.Describe(r.Context(), extraOf(r)).Revisions; !slices.Contains(spoken, v) {
			s.Release()
			writeError(w, http.StatusBadRequest, id, wire.UnsupportedBy(spoken, v))
			return nil
		}
	}
	return s
}

func (h *Handler) writeSessionError(w http.ResponseWriter, id wire.ID, err error) {
	switch {
	case errors.Is(err, session.ErrEnded) && h.draining.Load() && h.replica != nil:
		writeBusy(w, http.StatusServiceUnavailable, id, errDraining.Error(), retryAfter)
	case errors.Is(err, session.ErrNotFound), errors.Is(err, session.ErrEnded):
		writeError(w, http.StatusNotFound, id, errGone)
	case errors.Is(err, session.ErrTooManyOfYours):
		writeBusy(w, http.StatusTooManyRequests, id, "Too many sessions of this client", 30*retryAfter)
	case errors.Is(err, session.ErrTooMany):
		writeBusy(w, http.StatusServiceUnavailable, id, "Too many sessions at this server", 30*retryAfter)
	case errors.Is(err, errNoServer):
		writeError(w, http.StatusBadRequest, id, wire.InvalidRequest(err.Error()))
	default:
		h.log.Error("session state is out of reach", "error", err)
		writeBusy(w, http.StatusServiceUnavailable, id, outOfReach, 4*retryAfter)
	}
}

var errGone = &wire.Error{Code: wire.CodeSessionNotFound, Message: "Session not found: initialize again"}

const outOfReach = "Session state is out of reach"

// serveInitialize opens a session.
func (h *Handler) serveInitialize(w http.ResponseWriter, r *http.Request, m wire.Message) {
	if len(r.Header[wire.HeaderSession]) > 0 {
		if s := h.findSession(w, r, m.ID); s != nil {
			s.Release()
			writeError(w, http.StatusBadRequest, m.ID, wire.InvalidRequest("Invalid request: the session is initialized"))
		}
		return
	}
	if h.draining.Load() {
		writeBusy(w, http.StatusServiceUnavailable, m.ID, errDraining.Error(), retryAfter)
		return
	}
	params, e := engine.PrepareInitialize(m.Params)
	if e != nil {
		writeError(w, http.StatusBadRequest, m.ID, e)
		return
	}
	eng := h.engineFor(r)
	if eng == nil {
		h.writeSessionError(w, m.ID, errNoServer)
		return
	}
	if versions := eng.Describe(r.Context(), extraOf(r)).Revisions; !slices.ContainsFunc(versions, func(v string) bool { return !wire.Modern(v) }) {
		// The only word that a client of the session era may get to show its user.
		e := wire.UnsupportedBy(versions, wire.Unquote(wire.Member(m.Params, "protocolVersion")))
		e.Message += ": this server speaks " + strings.Join(versions, ", ")
		writeError(w, http.StatusBadRequest, m.ID, e)
		return
	}
	s, err := h.sessions.New(eng, h.opts.Principal(r))
	if err != nil {
		h.writeSessionError(w, m.ID, err)
		return
	}
	defer s.Release()
	result, version, err := initialize(r, eng, s, params)
	if err != nil {
		h.sessions.Discard(s)
		writeError(w, http.StatusOK, m.ID, engine.ToError(err))
		return
	}
	if err := s.Establish(r.Context(), version, engine.NegotiatedParams(params, version)); err != nil {
		h.sessions.Discard(s)
		h.writeSessionError(w, m.ID, err)
		return
	}
	w.Header().Set(wire.HeaderSession, s.ID)
	writeJSON(w, http.StatusOK, wire.AppendResult(nil, m.ID, result))
}

func initialize(r *http.Request, e *engine.Engine, s *session.Session, params json.RawMessage) (result json.RawMessage, version string, err error) {
	res, err := e.Initialize(context.WithoutCancel(r.Context()), s.ID, params, extraOf(r), s)
	if err != nil {
		return nil, "", err
	}
	err = e.Safely("initialize", func() error { // writing a result calls code of the handler's types, too
		result, err = engine.AppendResult(nil, res)
		return err
	})
	return result, wire.Unquote(wire.Member(result, "protocolVersion")), err
}

func extraOf(r *http.Request) *mcp.RequestExtra {
	return &mcp.RequestExtra{TokenInfo: auth.TokenInfoFromContext(r.Context()), Header: r.Header}
}

// notified takes a notification of the client.
func (h *Handler) notified(w http.ResponseWriter, r *http.Request, s *session.Session, m wire.Message) {
	if err := h.notify(r, s, m); err != nil {
		if e, ok := errors.AsType[*wire.Error](err); ok {
			writeError(w, http.StatusBadRequest, "", e)
			return
		}
		h.writeSessionError(w, "", err)
		return
	}
	w.WriteHeader(http.StatusAccepted)
}

func (h *Handler) notify(r *http.Request, s *session.Session, m wire.Message) error {
	switch m.Method {
	case "notifications/cancelled":
		id := wire.ID(wire.Member(m.Params, "requestId"))
		if id != "" {
			s.CancelAnywhere(id)
		}
		return nil // what is unknown, done or malformed is ignored (Cancellation, "Error Handling")
	case "notifications/initialized":
		return s.Initialized(r.Context(), m.Params, extraOf(r))
	case "notifications/progress":
		if m.Params == nil {
			return wire.InvalidParams("Invalid params: notifications/progress needs params")
		}
	case "notifications/roots/list_changed":
	default: // one that is not known is none of our business
		if e := checkNotification(m); e != nil {
			return e
		}
		return nil
	}
	server, err := s.Server(r.Context())
	if err != nil {
		return err
	}
	return server.Notify(m.Method, m.Params, extraOf(r))
}

// checkNotification refuses a request that has lost its ID: to accept it would have its client wait for ever
// (Streamable HTTP, "Sending Messages": what cannot be accepted is answered with an HTTP error).
func checkNotification(m wire.Message) *wire.Error {
	if !strings.HasPrefix(m.Method, "notifications/") {
		return wire.InvalidRequest("Invalid request: a request needs an id")
	}
	return nil
}

// serveCall runs a request of a session.
func (h *Handler) serveCall(w http.ResponseWriter, r *http.Request, s *session.Session, m wire.Message) {
	st := run.NewStream("", 1)
	c, status, e := h.startCall(r, s, m, st)
	if e != nil {
		writeRefused(w, status, m.ID, e)
		return
	}
	rd := st.Attach(-1)
	h.workers.run(func() { h.runLegacy(c) })
	h.respond(w, r, st, rd, h.sessionView(r, s, st, false, c))
}

// writeRefused answers a request that was not begun.
func writeRefused(w http.ResponseWriter, status int, id wire.ID, e *wire.Error) {
	if e.Code == wire.CodeBusy {
		writeBusy(w, status, id, e.Message, 4*retryAfter)
		return
	}
	writeError(w, status, id, e)
}

// legacyCall is a request of a session on its way to the server.
type legacyCall struct {
	run       *run.Run
	session   *session.Session
	params    json.RawMessage
	parsed    *wire.Params // nil for a call that runs again
	extra     *mcp.RequestExtra
	token     []byte
	principal string
}

// pending describes calls for another replica to take over.
func (h *Handler) pending(calls []*legacyCall) []session.Pending {
	if h.replica == nil {
		return nil
	}
	out, room := make([]session.Pending, len(calls)), maxPending
	for i, c := range calls {
		out[i] = session.Pending{ID: json.RawMessage(c.run.ID), Method: c.run.Method}
		// What is not repeated needs no params; and a record of the store is to stay small.
		if room -= len(c.params); room >= 0 && c.repeatable() {
			out[i].Params, out[i].Repeatable = c.params, true
		}
	}
	return out
}

// maxPending bounds the params that the store keeps for the calls of one stream.
const maxPending = 512 << 10

// repeatable reports whether the call may run twice: it only reads, or its tool says that it is safe.
func (c *legacyCall) repeatable() bool {
	if c.run.Method != "tools/call" {
		return engine.Direct(c.run.Method)
	}
	server, err := c.session.Server(c.run.Context())
	if err != nil {
		return false
	}
	return server.Tool(c.run.Context(), wire.Unquote(wire.Member(c.params, "name")), c.extra).Repeatable
}

func newLegacyCall(r *http.Request, s *session.Session, id wire.ID, method string, params json.RawMessage, token []byte, st *run.Stream) *legacyCall {
	c := &legacyCall{
		run:     run.Start(r.Context(), s.ID, id, method, st),
		session: s,
		params:  params,
		token:   token,
		extra:   extraOf(r),
	}
	c.extra.CloseSSEStream = func(args mcp.CloseSSEStreamArgs) { st.Release(args.RetryAfter) }
	return c
}

// startCall checks a request and begins its run.
func (h *Handler) startCall(r *http.Request, s *session.Session, m wire.Message, st *run.Stream) (*legacyCall, int, *wire.Error) {
	if h.draining.Load() {
		return nil, http.StatusServiceUnavailable, &wire.Error{Code: wire.CodeBusy, Message: errDraining.Error()}
	}
	params, e := wire.ParseParams(m.Params)
	if e != nil {
		return nil, http.StatusOK, e
	}
	if e = params.CheckArguments(m.Method); e != nil {
		return nil, http.StatusOK, e
	}
	meta, e := wire.ParseMeta(params.Meta)
	if e != nil {
		return nil, http.StatusOK, e
	}
	if engine.Direct(m.Method) && (params.RequestState != nil || params.InputResponses != nil) {
		// These revisions have neither. The SDK gives them to a handler whose requests it has sent to the client itself; from the
		// client they would be what nobody has sealed and nobody has checked.
		m.Params = wire.RemoveMembers(m.Params, "requestState", "inputResponses")
		params.RequestState, params.InputResponses = nil, nil
	}
	principal := h.opts.Principal(r)
	c := newLegacyCall(r, s, m.ID, m.Method, m.Params, meta.ProgressToken, st)
	c.principal, c.parsed = principal, &params
	if e := h.limits.admit(principal, c.run); e != nil {
		return nil, busyStatus(e), e
	}
	if err := s.Begin(c.run); err != nil {
		h.limits.leave(principal, c.run)
		if errors.As(err, &e) {
			return nil, http.StatusBadRequest, e
		}
		if h.draining.Load() && h.replica != nil {
			return nil, http.StatusServiceUnavailable, &wire.Error{Code: wire.CodeBusy, Message: errDraining.Error()}
		}
		return nil, http.StatusNotFound, errGone
	}
	return c, 0, nil
}

// runLegacy executes a call and answers its run.
func (h *Handler) runLegacy(c *legacyCall) {
	var response []byte
	err := c.session.Engine.Safely(c.run.Method, func() (err error) { // writing a result calls code of the handler's types, too
		response, err = h.callLegacy(c, wire.AppendResultHead(roomForAnswer(), c.run.ID))
		return err
	})
	c.session.Finish(c.run) // first: a client may use the ID again as soon as it has the answer
	switch {
	case errors.Is(err, store.ErrUnavailable):
		h.log.Error("session state is out of reach", "error", err)
		e := &wire.Error{Code: wire.CodeBusy, Message: outOfReach}
		c.run.Answer(wire.AppendError(nil, c.run.ID, e), http.StatusServiceUnavailable)
	case errors.Is(err, session.ErrEnded):
		c.run.Answer(wire.AppendError(nil, c.run.ID, errGone), http.StatusNotFound)
	case err != nil:
		c.run.Answer(wire.AppendError(nil, c.run.ID, engine.ToError(err)), http.StatusOK)
	default:
		c.run.Answer(append(response, '}'), http.StatusOK)
	}
	select { // the call is over when its end is safe: a process that drains must not leave before
	case <-c.run.Stream.Safe():
	case <-h.ctx.Done():
	}
	h.limits.leave(c.principal, c.run)
}

// callLegacy calls the server and appends the result to dst.
func (h *Handler) callLegacy(c *legacyCall, dst []byte) ([]byte, error) {
	ctx, s := c.run.Context(), c.session
	call := &engine.Call{Method: c.run.Method, Params: c.params, Parsed: c.parsed, Token: c.token, Extra: c.extra}
	switch {
	case c.run.Method == "server/discover" || c.run.Method == "subscriptions/listen":
		return nil, methodNotFound(c.run.Method)
	case engine.Direct(c.run.Method):
		server, err := s.Server(ctx)
		if err != nil {
			return nil, err
		}
		res, err := server.Do(ctx, call)
		if err != nil {
			return nil, legacyError(c.run.Method, err)
		}
		return engine.AppendResult(dst, res)
	case c.run.Method == "logging/setLevel" || c.run.Method == "resources/subscribe" || c.run.Method == "resources/unsubscribe":
		result, err := h.changeSession(ctx, s, call)
		return append(dst, result...), err
	default:
		server, err := s.Ephemeral(engine.Detached(ctx, call))
		if err != nil {
			return nil, err
		}
		defer server.Close()
		result, err := server.Relay(ctx, call)
		return append(dst, result...), err
	}
}

// legacyError gives a resource that is not there the code that it had until 2026-07-28 (Resources, "Error Handling").
func legacyError(method string, err error) error {
	e := engine.ToError(err)
	if method != "resources/read" || e.Code != wire.CodeInvalidParams || wire.Member(e.Data, "uri") == nil {
		return err
	}
	return &wire.Error{Code: wire.CodeResourceNotFound, Message: e.Message, Data: e.Data}
}

// changeSession makes a call that changes the SDK's session. The record comes first: a change that other replicas
// would not see must not be made, and one that the server refuses is taken back.
func (h *Handler) changeSession(ctx context.Context, s *session.Session, call *engine.Call) ([]byte, error) {
	server, err := s.Server(ctx)
	if err != nil {
		return nil, err
	}
	if call.Method == "logging/setLevel" {
		level := wire.Member(call.Params, "level")
		if !wire.ValidLogLevel(level) {
			return nil, wire.InvalidParams("Invalid params: unknown log level")
		}
		if err := s.SetLogLevel(ctx, wire.Unquote(level)); err != nil {
			return nil, err
		}
		return server.Relay(ctx, call)
	}
	uri, on := wire.Unquote(wire.Member(call.Params, "uri")), call.Method == "resources/subscribe"
	before := slices.Contains(s.Subscribed(), uri)
	if err := s.SetSubscribed(ctx, uri, on); err != nil {
		return nil, err
	}
	result, err := server.Relay(ctx, call)
	switch {
	case err != nil && on && !before:
		if undone := s.SetSubscribed(ctx, uri, false); undone != nil { // joined to nothing, err would lose its data
			err = errors.Join(err, undone)
		}
	case err == nil && on:
		h.changes.add(uri)
	}
	return result, err
}

// sessionView shows the stream of calls. When it becomes visible, its events go through the log, for the client to come back to.
func (h *Handler) sessionView(r *http.Request, s *session.Session, st *run.Stream, batch bool, calls ...*legacyCall) view {
	return view{
		begin: func() error {
			err := s.KeepStream(r.Context(), st, h.pending(calls))
			if err == nil && h.draining.Load() && h.replica != nil {
				st.Release(retryAfter) // it became visible too late for Drain to see it
			}
			return err
		},
		ids:   true,
		batch: batch,
		gone:  st.Abandon, // a stream that has become durable goes on
		timeUp: func() {
			for _, c := range calls {
				answerTimeUp(c.run)
			}
		},
		patience:  patience,
		keepAlive: h.opts.KeepAlive,
	}
}
