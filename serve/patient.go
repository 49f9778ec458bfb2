package serve

import (
	"context"
	"io"
	"sync"
	"time"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// A patientTransport lets calls be answered after the input has ended. The SDK drops them at that moment, so that a client
// that writes its requests and closes its end, as a shell pipe does, would see no answer at all.
type patientTransport struct {
	mcp.Transport
	stop     context.Context // ends the input from our side
	cut      context.Context // ends our patience then
	patience time.Duration   // how long it lasts when the client ends the input
}

// Connect implements [mcp.Transport].
func (t patientTransport) Connect(ctx context.Context) (mcp.Connection, error) {
	conn, err := t.Transport.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return &patientConn{
		Connection: conn,
		stop:       t.stop,
		cut:        t.cut,
		patience:   t.patience,
		owed:       map[jsonrpc.ID]bool{},
		answered:   make(chan struct{}, 1),
		closed:     make(chan struct{}),
	}, nil
}

type patientConn struct {
	mcp.Connection
	stop     context.Context
	cut      context.Context
	patience time.Duration

	mu       sync.Mutex
	owed     map[jsonrpc.ID]bool // requests read and not answered yet
	answered chan struct{}       // holds a token when owed has changed

	closing sync.Once
	closed  chan struct{}
}

// Read reports the end of the input only when no answer is owed any more, or patience is over.
func (c *patientConn) Read(ctx context.Context) (jsonrpc.Message, error) {
	reading, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(c.stop, cancel)()
	msg, err := c.Connection.Read(reading)
	if err != nil {
		c.settle(ctx)
		if c.stop.Err() != nil {
			err = io.EOF
		}
		return nil, err
	}
	if req, ok := msg.(*jsonrpc.Request); ok && req.IsCall() {
		c.mu.Lock()
		c.owed[req.ID] = true
		c.mu.Unlock()
	}
	return msg, nil
}

func (c *patientConn) settle(ctx context.Context) {
	var over <-chan time.Time
	if c.stop.Err() == nil {
		over = time.After(c.patience)
	}
	for {
		c.mu.Lock()
		settled := len(c.owed) == 0
		c.mu.Unlock()
		if settled {
			return
		}
		select {
		case <-c.answered:
		case <-c.closed:
			return
		case <-c.cut.Done():
			return
		case <-ctx.Done():
			return
		case <-over:
			return
		}
	}
}

// Write implements [mcp.Connection].
func (c *patientConn) Write(ctx context.Context, msg jsonrpc.Message) error {
	err := c.Connection.Write(ctx, msg)
	if resp, ok := msg.(*jsonrpc.Response); ok {
		c.mu.Lock()
		delete(c.owed, resp.ID)
		c.mu.Unlock()
		select {
		case c.answered <- struct{}{}:
		default: // a token that nobody has taken yet says the same
		}
	}
	return err
}

// Close implements [mcp.Connection].
func (c *patientConn) Close() error {
	c.closing.Do(func() { close(c.closed) })
	return c.Connection.Close()
}
