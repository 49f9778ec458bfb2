package stdio

import (
	"bytes"
	"context"
	"io"
	"math"
	"strconv"
	"sync"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice/internal/wire"
)

// A Transport connects a server of the SDK with the client at the other end of In and Out. The SDK's own ends at the first
// line that it cannot read, and with it the process.
type Transport struct {
	In  io.Reader
	Out io.Writer
}

// Connect implements [mcp.Transport].
func (t *Transport) Connect(context.Context) (mcp.Connection, error) {
	c := &conn{out: t.Out, lines: make(chan Line), ended: make(chan struct{}), closed: make(chan struct{}), owed: map[jsonrpc.ID]debt{}, opened: make(chan struct{})}
	close(c.opened)
	go c.read(NewReader(t.In)) // a read cannot be called off
	return c, nil
}

// A conn is a connection with one client. Only Read uses queue and opened.
type conn struct {
	lines  chan Line
	ended  chan struct{} // closed when no line follows
	failed error         // why, once ended is closed
	queue  []jsonrpc.Message

	// opened is open only while initialize is being answered: what the next line may be depends on the revision.
	opened chan struct{}

	closing sync.Once
	closed  chan struct{}

	mu      sync.Mutex
	out     io.Writer
	version string              // the revision of the session, once it is open
	owed    map[jsonrpc.ID]debt // answers
}

// A debt is an answer that is owed to the client.
type debt struct {
	id    wire.ID       // as the client wrote it; the SDK reads numbers as float64
	batch *batch        // that it goes back in, if it came in one
	opens chan struct{} // if it opens the session
}

// A batch is what a batch of requests is answered with: an array.
type batch struct {
	missing int
	answers [][]byte
}

func (c *conn) read(r *Reader) {
	for {
		line, err := r.Next()
		if err != nil {
			c.failed = err
			close(c.ended)
			return
		}
		select {
		case c.lines <- line:
		case <-c.closed:
			return
		}
	}
}

// Read implements [mcp.Connection].
func (c *conn) Read(ctx context.Context) (jsonrpc.Message, error) {
	for len(c.queue) == 0 {
		select {
		case <-c.opened:
		case <-c.closed:
			return nil, io.EOF
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		select {
		case line := <-c.lines:
			if err := c.take(line); err != nil {
				return nil, err
			}
		case <-c.ended:
			return nil, c.failed
		case <-c.closed:
			return nil, io.EOF
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	next := c.queue[0]
	c.queue = c.queue[1:]
	return next, nil
}

// take queues the messages of a line, and answers at once what is none.
func (c *conn) take(line Line) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if line.Batch {
		if refused := c.checkBatch(line); refused != nil {
			return c.write(AppendError(nil, "", refused))
		}
	}
	var b *batch
	if line.Batch {
		b = &batch{}
	}
	for _, e := range line.Messages {
		if e.Err == nil {
			e.Err = c.enqueue(e.Message, b)
		}
		if e.Err != nil {
			refusal := AppendError(nil, e.Message.ID, e.Err)
			if b != nil {
				b.answers = append(b.answers, refusal)
			} else if err := c.write(refusal); err != nil {
				return err
			}
		}
	}
	return c.settle(b)
}

// checkBatch refuses batches but in the revision that has them.
func (c *conn) checkBatch(line Line) *wire.Error {
	if c.version != "2025-03-26" {
		return wire.InvalidRequest("Invalid request: only sessions of revision 2025-03-26 have batches")
	}
	for _, e := range line.Messages {
		if e.Message.Method == "initialize" {
			return wire.InvalidRequest("Invalid request: initialize cannot be part of a batch")
		}
	}
	return nil
}

// enqueue hands a message to the SDK.
func (c *conn) enqueue(m wire.Message, b *batch) *wire.Error {
	switch m.Kind {
	case wire.Request:
		id := makeID(m.ID)
		if _, used := c.owed[id]; used {
			return wire.InvalidRequest("Invalid request: a request with this id is running")
		}
		d := debt{id: m.ID, batch: b}
		if m.Method == "initialize" {
			c.opened = make(chan struct{})
			d.opens = c.opened
		}
		c.owed[id] = d
		if b != nil {
			b.missing++
		}
		c.queue = append(c.queue, &jsonrpc.Request{ID: id, Method: m.Method, Params: m.Params})
	case wire.Notification:
		if m.Method == "notifications/cancelled" && m.Params != nil {
			m.Params = renameID(m.Params)
		}
		c.queue = append(c.queue, &jsonrpc.Request{Method: m.Method, Params: m.Params})
	case wire.Response:
		resp := &jsonrpc.Response{ID: makeID(m.ID), Result: m.Result}
		if m.Error != nil {
			resp.Error = &jsonrpc.Error{Code: number(wire.Member(m.Error, "code")), Message: wire.Unquote(wire.Member(m.Error, "message")), Data: wire.Member(m.Error, "data")}
		}
		c.queue = append(c.queue, resp)
	}
	return nil
}

func number(raw []byte) int64 {
	n, _ := strconv.ParseInt(string(raw), 10, 64) // has been read as such
	return n
}

// makeID returns the ID as the SDK can hold it. It makes numbers of float64; one that would become another is passed as a
// text that no client has for an ID.
func makeID(raw wire.ID) jsonrpc.ID {
	var value any = wire.Unquote([]byte(raw))
	if raw[0] != '"' {
		f, _ := strconv.ParseFloat(string(raw), 64) // infinite if it is out of range
		value = f
		if math.Abs(f) >= 1<<53 {
			value = "\x00" + string(raw)
		}
	}
	id, _ := jsonrpc.MakeID(value) // takes any number and any string
	return id
}

// renameID lets a cancellation name its request as [makeID] has.
func renameID(params []byte) []byte {
	raw := wire.Member(params, "requestId")
	if len(raw) == 0 || raw[0] != '-' && (raw[0] < '0' || raw[0] > '9') {
		return params
	}
	name, ok := makeID(wire.ID(raw)).Raw().(string)
	if !ok {
		return params
	}
	return wire.ReplaceMember(params, "requestId", wire.AppendString(nil, name))
}

// Write implements [mcp.Connection].
func (c *conn) Write(ctx context.Context, msg jsonrpc.Message) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	raw, err := jsonrpc.EncodeMessage(msg)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	resp, ok := msg.(*jsonrpc.Response)
	if !ok {
		return c.write(append(raw, '\n'))
	}
	d, ok := c.owed[resp.ID]
	if !ok {
		return c.write(append(raw, '\n'))
	}
	delete(c.owed, resp.ID)
	raw = append(wire.ReplaceMember(raw, "id", []byte(d.id)), '\n')
	if d.opens != nil {
		if resp.Error == nil {
			c.version = wire.Unquote(wire.Member(resp.Result, "protocolVersion"))
		}
		close(d.opens)
	}
	if d.batch == nil {
		return c.write(raw)
	}
	d.batch.missing--
	d.batch.answers = append(d.batch.answers, raw)
	return c.settle(d.batch)
}

// settle writes the answers of a batch when they are complete. Notifications alone have none.
func (c *conn) settle(b *batch) error {
	if b == nil || b.missing > 0 || len(b.answers) == 0 {
		return nil
	}
	array := bytes.ReplaceAll(bytes.Join(b.answers, []byte(",")), []byte("\n"), nil)
	return c.write(append(append([]byte("["), array...), "]\n"...))
}

func (c *conn) write(line []byte) error {
	_, err := c.out.Write(line)
	return err
}

// Close implements [mcp.Connection]. It leaves In and Out open: they may be the process's own.
func (c *conn) Close() error {
	c.closing.Do(func() { close(c.closed) })
	return nil
}

// SessionID implements [mcp.Connection]: there is one session, and it needs no name.
func (c *conn) SessionID() string { return "" }
