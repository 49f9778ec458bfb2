package engine

import (
	"context"
	"errors"
	"reflect"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// Voice finds the session with this ID in place of one that has been closed, because nobody used it, while a handler
// kept hold of it. It stays until done is called.
type Voice func(ctx context.Context, e *Engine, id string) (s *Session, done func(), err error)

// voiced lets what is said on an SDK session that has been closed reach its client all the same. For a handler an
// [mcp.ServerSession] lives as long as its client's session does; here it rests when nothing needs it, and another one
// takes its place at the next request. And it fits what is said to the revision of the client.
//
//go:noinline // see guarded
func voiced(e *Engine, next mcp.MethodHandler) mcp.MethodHandler {
	return func(ctx context.Context, method string, req mcp.Request) (mcp.Result, error) {
		req = fittedRequest(req)
		ss, ok := req.GetSession().(*mcp.ServerSession)
		res, err := next(ctx, method, req)
		if err == nil || !ok || ss.ID() == "" || e.Voice == nil || !isClosed(err) {
			return res, err
		}
		s, done, missing := e.Voice(ctx, e, ss.ID())
		if missing != nil {
			return res, err // the session has ended, or is out of reach
		}
		defer done()
		if s.ss == ss {
			return res, err
		}
		return next(&speaking{ctx, ss}, method, withSession(req, s.ss))
	}
}

type speakerKey struct{}

// speaking is the context of what is said on one SDK session, and sent through the one that has taken its place.
type speaking struct {
	context.Context
	on *mcp.ServerSession
}

// speaker returns the SDK session that something is said on which is sent through this connection, or nil if it has no ID.
func (c *conn) speaker(ctx context.Context) any {
	if s, ok := ctx.Value(speakerKey{}).(*speaking); ok {
		return s.on
	}
	if own := c.own.Load(); own != nil {
		return own
	}
	return nil
}

// Value implements [context.Context].
func (c *speaking) Value(key any) any {
	if key == (speakerKey{}) {
		return c
	}
	return c.Context.Value(key)
}

var voicedCode = reflect.ValueOf(voiced(nil, nil)).Pointer()

// giveVoice sees to it that the outermost sending middleware of the server is ours.
func (e *Engine) giveVoice() {
	var h mcp.MethodHandler
	e.server.AddSendingMiddleware(func(next mcp.MethodHandler) mcp.MethodHandler {
		h = next
		return next
	})
	if reflect.ValueOf(h).Pointer() != voicedCode {
		e.server.AddSendingMiddleware(func(next mcp.MethodHandler) mcp.MethodHandler { return voiced(e, next) })
	}
}

// isClosed reports whether the SDK refused to send because a session is closed. For notifications it says so by a code
// only (those of jsonrpc2.ErrClientClosing and ErrServerClosing, which are not exported).
func isClosed(err error) bool {
	if errors.Is(err, mcp.ErrConnectionClosed) {
		return true
	}
	e, ok := errors.AsType[*jsonrpc.Error](err)
	return ok && (e.Code == -32003 || e.Code == -32004)
}

// withSession returns a copy of a request that goes out on another session. Its type differs with its params.
func withSession(req mcp.Request, ss *mcp.ServerSession) mcp.Request {
	old := reflect.ValueOf(req).Elem()
	other := reflect.New(old.Type())
	other.Elem().Set(old)
	other.Elem().FieldByName("Session").Set(reflect.ValueOf(ss))
	return other.Interface().(mcp.Request) //nolint:forcetypeassert // it has the type of req
}
