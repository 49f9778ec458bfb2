package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"runtime/debug"
	"strconv"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice/internal/wire"
)

// Session is a connected [mcp.ServerSession]. Calls may run concurrently.
type Session struct {
	engine *Engine
	ss     *mcp.ServerSession
	conn   *conn
	lent   *lentOutlet // of [Engine.Lend]
}

// Connect opens a session of the server with the given state (nil before initialize).
// The contexts of calls that go through the connection descend from ctx.
func (e *Engine) Connect(ctx context.Context, id string, state *mcp.ServerSessionState, out Outlet) (*Session, error) {
	e.guard()
	if id != "" {
		e.giveVoice()
	}
	c := newConn(id, out)
	ss, err := e.server.Connect(ctx, c, &mcp.ServerSessionOptions{State: state})
	if err != nil {
		return nil, fmt.Errorf("connecting the server: %w", err)
	}
	if id != "" {
		c.own.Store(ss)
	}
	return &Session{engine: e, ss: ss, conn: c}, nil
}

// Close ends the session. Calls through its connection are cancelled and awaited.
func (s *Session) Close() {
	s.conn.leave()   // first: the SDK waits for calls that only end when their reader does
	_ = s.ss.Close() // its error is the connection's, which has none
}

// end is [Session.Close] for one that had subscriptions of its own.
func (s *Session) end() {
	s.KeepSubscriptions(nil)
	s.Close()
}

// Call is one request to a server.
type Call struct {
	Method string
	Params json.RawMessage
	// Parsed is Params taken apart. It may be nil.
	Parsed *wire.Params
	// Token is the client's progress token, raw, or nil.
	Token []byte
	Extra *mcp.RequestExtra
	// ID is what the SDK shall know a relayed call as, a string or a float64. Nil picks one.
	ID any
}

// Direct reports whether the method may be called without the SDK's connection. What changes
// the SDK's session, or needs what only its connection knows, may not.
func Direct(method string) bool { return direct[method] != nil }

// Do calls the composed handler on the calling goroutine. A panic of the
// handler is logged and becomes an error.
func (s *Session) Do(ctx context.Context, c *Call) (res mcp.Result, err error) {
	defer func() { // decoding may call code of the handler's types, too
		if p := recover(); p != nil {
			res, err = nil, s.engine.panicked(c.Method, p)
		}
	}()
	req, err := s.decode(c)
	if err != nil {
		return nil, err
	}
	res, err = s.engine.fitted(Detached(ctx, c), s.engine.composed(), c.Method, req)
	if err == nil && isNil(res) {
		err = noResult(c.Method)
	}
	return res, err
}

// isNil reports whether a handler has returned nothing, as a nil pointer or not even that.
func isNil(res mcp.Result) bool {
	if res == nil {
		return true
	}
	v := reflect.ValueOf(res)
	return v.Kind() == reflect.Pointer && v.IsNil()
}

func noResult(method string) error {
	return wire.Internal("Internal error: the handler of " + method + " returned neither a result nor an error")
}

// Safely calls f, which may run code of a handler, and turns its panic into an error.
func (e *Engine) Safely(method string, f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = e.panicked(method, p)
		}
	}()
	return f()
}

func (e *Engine) panicked(method string, p any) error {
	e.log.Error("handler panicked", "method", method, "panic", p, "stack", string(debug.Stack()))
	return wire.Internal("Internal error: the handler failed")
}

// Relay sends the call through the SDK's connection and returns the raw result.
func (s *Session) Relay(ctx context.Context, c *Call) (json.RawMessage, error) {
	switch c.Method {
	case "resources/subscribe":
		return s.subscribe(ctx, c)
	case "resources/unsubscribe":
		return s.unsubscribe(ctx, c)
	case "subscriptions/listen":
		return s.listen(ctx, c)
	}
	return s.relay(ctx, c, c.Params)
}

func (s *Session) relay(ctx context.Context, c *Call, params json.RawMessage) (json.RawMessage, error) {
	s.engine.guard()
	id := c.ID
	if id == nil {
		id = s.conn.nextID()
	}
	resp, err := s.conn.relay(ctx, c.Method, params, id, c.Extra)
	if err != nil {
		return nil, err
	}
	return resp.Result, resp.Error
}

// Notify sends a notification through the SDK's connection.
func (s *Session) Notify(method string, params json.RawMessage, extra *mcp.RequestExtra) error {
	s.engine.guard()
	if !s.conn.feed(&jsonrpc.Request{Method: method, Params: params, Extra: extra}) {
		return mcp.ErrConnectionClosed
	}
	return nil
}

// Detached returns the context to give to [Engine.Connect] for a session that
// serves one relayed call: it carries the call, as the context of a direct call does.
func Detached(ctx context.Context, c *Call) context.Context {
	return &callContext{ctx, c.Token}
}

type callKey struct{}

// callContext is what the connection must know of the call that a message belongs to.
type callContext struct {
	context.Context
	token []byte // the client's progress token, or nil
}

// callOf returns the call that ctx belongs to, or nil.
func callOf(ctx context.Context) *callContext {
	c, _ := ctx.Value(callKey{}).(*callContext)
	return c
}

// Value implements [context.Context].
func (c *callContext) Value(key any) any {
	if key == (callKey{}) {
		return c
	}
	return c.Context.Value(key)
}

// restoreToken puts the client's token back where the SDK, which reads numbers as float64, has made another of it.
func (c *callContext) restoreToken(m Outgoing) json.RawMessage {
	if len(c.token) < 16 || c.token[0] == '"' { // short numbers survive
		return m.Params
	}
	f, err := strconv.ParseFloat(string(c.token), 64)
	if err != nil || math.IsInf(f, 0) {
		return m.Params
	}
	mangled, err := json.Marshal(f)
	if err != nil || !bytes.Equal(mangled, wire.Member(m.Params, "progressToken")) {
		return m.Params
	}
	return wire.ReplaceMember(m.Params, "progressToken", c.token)
}

// ToError turns a handler's error into what its client is told. The code of an
// error that has none is -32603, where the SDK sends 0, which JSON-RPC does not define.
func ToError(err error) *wire.Error {
	if ours, ok := errors.AsType[*wire.Error](err); ok {
		return ours
	}
	var theirs *jsonrpc.Error
	if !errors.As(err, &theirs) {
		return wire.Internal(err.Error())
	}
	e := &wire.Error{Code: theirs.Code, Message: err.Error()}
	// Data belongs to the error itself, not to those that wrap it; a handler may have put anything there.
	if err == error(theirs) && json.Valid(theirs.Data) { //nolint:errorlint // a wrapped one is another error
		e.Data = theirs.Data
	}
	if e.Code == 0 {
		e.Code = wire.CodeInternal
	}
	return e
}
