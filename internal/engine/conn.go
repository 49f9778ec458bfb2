package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice/internal/wire"
)

// Outlet takes what a server says to its client.
type Outlet interface {
	// Say delivers one message. ctx is the context that the handler spoke with: one that
	// descends from a call's belongs to that call. An error reaches the handler and does
	// no harm to the session.
	Say(ctx context.Context, m Outgoing) error
}

// A Closer is an [Outlet] that wants to hear when the server itself closes the session: a handler may, and a program
// that goes through all sessions of its server.
type Closer interface{ Closed() }

// Outgoing is a request or a notification from a server to its client.
type Outgoing struct {
	Method string
	Params json.RawMessage
	// Speaker is the SDK session that the message was said on, which may have been closed since. It is comparable, and nil
	// for what is said on one without an ID.
	Speaker any
	// Ref names a request, for the notifications/cancelled that takes it back; it is comparable.
	Ref any
	// Reply is nil for a notification. For a request it must be called, at most once,
	// with the client's response or with an error in its place.
	Reply func(result json.RawMessage, err *wire.Error)
}

var errNoClient = errors.New("nobody is there to answer")

// conn is the SDK's view of a client. It never breaks: a message that cannot be
// delivered is an error to whoever said it, because sessions outlive connections.
type conn struct {
	own atomic.Pointer[mcp.ServerSession] // the SDK's, if it has an ID; nil until it is connected
	id  string
	out Outlet
	in  chan jsonrpc.Message

	closeOnce sync.Once
	done      chan struct{}

	spellings spellings

	mu      sync.Mutex
	relayed map[jsonrpc.ID]chan *jsonrpc.Response // calls that went through the connection
	seq     int64
}

var _ mcp.Connection = (*conn)(nil)

func newConn(id string, out Outlet) *conn {
	return &conn{id: id, out: out, in: make(chan jsonrpc.Message), done: make(chan struct{})}
}

// Connect implements [mcp.Transport]: a conn is its own transport.
func (c *conn) Connect(context.Context) (mcp.Connection, error) { return c, nil }

func (c *conn) SessionID() string { return c.id }

func (c *conn) Read(ctx context.Context) (jsonrpc.Message, error) {
	select {
	case m := <-c.in:
		return m, nil
	case <-c.done:
		return nil, io.EOF
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Close is called by the SDK when the session is closed on its side.
func (c *conn) Close() error {
	c.closeOnce.Do(func() {
		close(c.done)
		if o, ok := c.out.(Closer); ok {
			go o.Closed() // who closes may hold what the outlet needs
		}
	})
	return nil
}

// leave closes the connection on our side.
func (c *conn) leave() { c.closeOnce.Do(func() { close(c.done) }) }

func (c *conn) closed() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// feed hands a message to the SDK. It reports false when the connection is closed.
func (c *conn) feed(m jsonrpc.Message) bool {
	select {
	case c.in <- m:
		return true
	case <-c.done:
		return false
	}
}

// rejected is the SDK's mark for an error that must not break the connection
// (its code is that of jsonrpc2.ErrRejected, which is not exported).
func rejected(err error) error {
	return fmt.Errorf("%w: %w", &jsonrpc.Error{Code: -32005, Message: "not delivered"}, err)
}

func (c *conn) Write(ctx context.Context, m jsonrpc.Message) error {
	switch m := m.(type) {
	case *jsonrpc.Response:
		c.mu.Lock()
		waiting := c.relayed[m.ID]
		if delete(c.relayed, m.ID); len(c.relayed) == 0 {
			c.relayed = nil // an empty map keeps the room of what was in it, for as long as the session
		}
		c.mu.Unlock()
		if waiting != nil {
			waiting <- m // has room for one
		}
		return nil
	case *jsonrpc.Request:
		out := Outgoing{Method: m.Method, Params: m.Params, Speaker: c.speaker(ctx)}
		if call := callOf(ctx); call != nil && m.Method == "notifications/progress" {
			if call.token == nil {
				return nil // progress may only name a token that the client gave (Progress, "Behavior Requirements")
			}
			out.Params = call.restoreToken(out)
		}
		if m.Method == "notifications/cancelled" {
			out.Ref = c.cancelRef(m.Params)
		}
		if m.IsCall() {
			out.Ref = ref{c, m.ID}
			if m.Method == "ping" && callOf(ctx) == nil {
				// The SDK's keep-alive asks whether a connection lives. There is none: a session lives until it expires.
				go c.feed(&jsonrpc.Response{ID: m.ID, Result: json.RawMessage(`{}`)})
				return nil
			}
			out.Reply = func(result json.RawMessage, err *wire.Error) {
				resp := &jsonrpc.Response{ID: m.ID, Result: result}
				if err != nil {
					resp.Error = &jsonrpc.Error{Code: err.Code, Message: err.Message, Data: err.Data}
				}
				c.feed(resp)
			}
		}
		if err := c.say(ctx, out); err != nil {
			return rejected(err)
		}
		return nil
	}
	return nil
}

type ref struct {
	c  *conn
	id jsonrpc.ID
}

// cancelRef finds the request that a notifications/cancelled of the SDK takes back.
func (c *conn) cancelRef(params json.RawMessage) any {
	n, err := strconv.ParseFloat(string(wire.Member(params, "requestId")), 64)
	if err != nil {
		return nil
	}
	id, err := jsonrpc.MakeID(n)
	if err != nil {
		return nil
	}
	return ref{c, id}
}

// relay sends a call or notification through the connection. A call's response is awaited;
// when ctx ends first, the call is cancelled and still awaited, because the
// SDK's handler then returns, and what it holds must be free before we go on.
func (c *conn) relay(ctx context.Context, method string, params json.RawMessage, id any, extra *mcp.RequestExtra) (*jsonrpc.Response, error) {
	reqID, err := jsonrpc.MakeID(id)
	if err != nil {
		return nil, err
	}
	answer := make(chan *jsonrpc.Response, 1)
	c.mu.Lock()
	if c.relayed == nil {
		c.relayed = make(map[jsonrpc.ID]chan *jsonrpc.Response)
	}
	c.relayed[reqID] = answer
	c.mu.Unlock()
	if !c.feed(&jsonrpc.Request{ID: reqID, Method: method, Params: params, Extra: extra}) {
		return nil, mcp.ErrConnectionClosed
	}
	select {
	case resp := <-answer:
		return resp, nil
	case <-c.done:
		return nil, mcp.ErrConnectionClosed
	case <-ctx.Done():
	}
	cancel, err := json.Marshal(map[string]any{"requestId": reqID.Raw()})
	if err != nil {
		return nil, err
	}
	c.feed(&jsonrpc.Request{Method: "notifications/cancelled", Params: cancel})
	select {
	case resp := <-answer:
		return resp, nil
	case <-c.done:
		return nil, mcp.ErrConnectionClosed
	}
}

func (c *conn) nextID() any {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seq++
	return float64(c.seq)
}
