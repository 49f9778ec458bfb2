package sluice

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"sync"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice/internal/engine"
	"github.com/sluice-mcp/sluice/internal/run"
	"github.com/sluice-mcp/sluice/internal/wire"
)

// This file is the way of a call of revision 2026-07-28. Such a call is complete in itself: no session,
// no store; its response is its whole life, and closing it cancels the call.

// removed are methods of the session era that the stateless era does not have.
var removed = map[string]bool{
	"initialize": true, "ping": true, "logging/setLevel": true,
	"resources/subscribe": true, "resources/unsubscribe": true,
}

// modernCall is a checked request on its way to the server.
type modernCall struct {
	method    string
	raw       json.RawMessage // params, as they came
	params    wire.Params
	meta      wire.Meta
	engine    *engine.Engine
	principal string
	extra     *mcp.RequestExtra
}

// modernCalls are empty ones, for the next calls: no handler gets to see one (350 bytes of each call).
var modernCalls = sync.Pool{New: func() any { return new(modernCall) }}

func (h *Handler) serveModern(w http.ResponseWriter, r *http.Request, m wire.Message) {
	switch m.Kind {
	case wire.Notification: // the revision has none over HTTP; an unknown one is no error
		if e := checkNotification(m); e != nil {
			writeError(w, http.StatusBadRequest, "", e)
			return
		}
		w.WriteHeader(http.StatusAccepted)
		return
	case wire.Response:
		writeError(w, http.StatusBadRequest, "", wire.InvalidRequest("Invalid request: clients send no responses in this revision"))
		return
	}
	if h.draining.Load() {
		writeBusy(w, http.StatusServiceUnavailable, m.ID, errDraining.Error(), retryAfter)
		return
	}
	c, e := h.checkModern(r, m)
	if e != nil {
		writeError(w, wire.ModernStatus(e.Code), m.ID, e)
		return
	}
	st := run.NewStream("", 1)
	rn := run.Start(r.Context(), "", m.ID, m.Method, st)
	if e := h.limits.admit(c.principal, rn); e != nil {
		rn.Cancel()
		writeRefused(w, busyStatus(e), m.ID, e)
		return
	}
	rd := st.Attach(-1)
	if m.Method == "subscriptions/listen" {
		go h.runListen(rn, c)
	} else {
		h.workers.run(func() { h.runModern(rn, c) })
	}
	v := view{
		begin:     func() error { return nil },
		gone:      rn.Cancel,
		timeUp:    func() { answerTimeUp(rn) },
		patience:  patience,
		keepAlive: h.opts.KeepAlive,
	}
	if !engine.Direct(m.Method) {
		v.patience = longPatience
	}
	h.respond(w, r, st, rd, v)
}

// checkModern applies the rules that need nothing but the request.
func (h *Handler) checkModern(r *http.Request, m wire.Message) (*modernCall, *wire.Error) {
	c := modernCalls.Get().(*modernCall) //nolint:forcetypeassert // nothing else is in there
	c.method, c.raw, c.principal = m.Method, m.Params, h.opts.Principal(r)
	var e *wire.Error
	if c.params, e = wire.ParseParams(m.Params); e != nil {
		return nil, e
	}
	if e = c.params.CheckArguments(m.Method); e != nil {
		return nil, e
	}
	if c.meta, e = wire.ParseMeta(c.params.Meta); e != nil {
		return nil, e
	}
	header := wire.Header(r.Header)
	if e = wire.CheckVersion(header, c.meta); e != nil {
		return nil, e
	}
	if e = wire.CheckStandard(header, m.Method, c.params); e != nil {
		return nil, e
	}
	if e = c.meta.CheckModern(); e != nil {
		return nil, e
	}
	if removed[m.Method] {
		return nil, methodNotFound(m.Method)
	}
	if c.engine = h.engineFor(r); c.engine == nil {
		return nil, wire.InvalidRequest(errNoServer.Error())
	}
	c.extra = extraOf(r)
	if versions := c.engine.Describe(r.Context(), c.extra).Revisions; !slices.Contains(versions, wire.Rev2026) {
		return nil, wire.UnsupportedBy(versions, wire.Rev2026)
	}
	return c, nil
}

func methodNotFound(method string) *wire.Error {
	return &wire.Error{Code: wire.CodeMethodNotFound, Message: "Method not found: " + method}
}

// runModern executes a call and answers its run.
func (h *Handler) runModern(rn *run.Run, c *modernCall) {
	defer h.limits.leave(c.principal, rn)
	var response []byte
	err := c.engine.Safely(rn.Method, func() (err error) { // writing a result calls code of the handler's types, too
		response, err = h.callModern(rn, c, wire.AppendResultHead(roomForAnswer(), rn.ID))
		return err
	})
	answerModern(rn, append(response, '}'), err)
	*c = modernCall{}
	modernCalls.Put(c)
}

// answerTimeUp ends a call whose HTTP request the platform is about to end.
func answerTimeUp(rn *run.Run) {
	e := wire.Internal("The call took longer than the platform gives a request")
	rn.Answer(wire.AppendError(nil, rn.ID, e), http.StatusGatewayTimeout)
}

func answerModern(rn *run.Run, response []byte, err error) {
	if err == nil {
		rn.Answer(response, http.StatusOK)
		return
	}
	e := *engine.ToError(err)
	e.Code = wire.ModernCode(e.Code)
	rn.Answer(wire.AppendError(nil, rn.ID, &e), wire.ModernStatus(e.Code))
}

// callModern calls the server and appends the result to dst.
func (h *Handler) callModern(rn *run.Run, c *modernCall, dst []byte) ([]byte, error) {
	ctx := rn.Context()
	call := &engine.Call{Method: rn.Method, Params: c.raw, Parsed: &c.params, Token: c.meta.ProgressToken, Extra: c.extra}
	if !engine.Direct(rn.Method) {
		result, err := h.relayModern(ctx, rn, c, call)
		if err == nil && len(result) > 0 && result[0] == '{' { // the SDK gives a type to its own results only
			result = wire.Complete(result, `"complete"`, c.engine.Describe(ctx, c.extra).ServerInfo)
		}
		return append(dst, result...), err
	}
	// The session is this call's alone while it runs: nothing of one client can reach another's handler.
	server, err := c.engine.Lend(c.principal, c.meta, &requestOutlet{run: rn})
	if err != nil {
		return nil, err
	}
	defer server.Return()
	if rn.Method == "tools/call" {
		tool := server.Tool(ctx, wire.Unquote(c.params.Name), c.extra)
		if e := wire.CheckParams(wire.Header(c.extra.Header), tool.Headers, c.params.Arguments); e != nil {
			return nil, e
		}
	}
	res, err := h.do(ctx, c, server, call)
	if err != nil {
		return nil, err
	}
	return h.finish(dst, c, server.Capabilities(), res)
}

// relayModern takes the way through the SDK's connection, for methods that a server has added.
func (h *Handler) relayModern(ctx context.Context, rn *run.Run, c *modernCall, call *engine.Call) ([]byte, error) {
	server, err := c.engine.ConnectRequest(engine.Detached(ctx, call), c.meta, &requestOutlet{run: rn})
	if err != nil {
		return nil, err
	}
	defer server.Close()
	return server.Relay(ctx, call)
}

// finish checks a result, completes it as the revision asks, and appends it to dst as JSON.
func (h *Handler) finish(dst []byte, c *modernCall, caps *mcp.ClientCapabilities, res mcp.Result) ([]byte, error) {
	if interim := asInterim(res); interim != nil {
		if err := h.sealState(c, caps, interim); err != nil {
			return nil, err
		}
		// An interim result is not cacheable, and it has no content, which the SDK writes as null.
		return c.engine.AppendModern(dst, interim.result, "input_required", func(raw json.RawMessage) json.RawMessage {
			return wire.RemoveMembers(raw, "ttlMs", "cacheScope", "content", "contents", "messages")
		})
	}
	if cacheable[c.method] && c.principal != "" {
		// What an authorized client sees may depend on who it is.
		return c.engine.AppendModern(dst, res, "complete", func(raw json.RawMessage) json.RawMessage {
			return wire.ReplaceMember(raw, "cacheScope", []byte(`"private"`))
		})
	}
	return c.engine.AppendModern(dst, res, "complete", nil)
}

// cacheable are the methods whose complete results carry caching hints (Caching, "Cacheable Results").
var cacheable = map[string]bool{
	"server/discover": true, "tools/list": true, "prompts/list": true,
	"resources/list": true, "resources/templates/list": true, "resources/read": true,
}

// requestOutlet takes what a handler says during one call of the stateless era.
type requestOutlet struct {
	run *run.Run
}

var errNoRequests = errors.New("revision 2026-07-28 has no requests to clients; return input requests instead")

var errNotThisCall = errors.New("said outside of a call: in revision 2026-07-28 there is no other way to a client (use the context that the handler was called with)")

// Say implements [engine.Outlet].
func (o *requestOutlet) Say(ctx context.Context, m engine.Outgoing) error {
	if m.Reply != nil {
		return errNoRequests
	}
	if m.Method == "notifications/cancelled" { // of a request that could not be sent
		return nil
	}
	// The session was lent to other calls before and will be to others after: what comes from a handler that outlives its call, or
	// hides which call it speaks in, must not reach another client.
	if run.From(ctx) != o.run {
		return errNotThisCall
	}
	return o.run.Send(ctx, wire.AppendCall(nil, "", m.Method, m.Params))
}
