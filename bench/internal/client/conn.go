// Package client is the bench's load generator: HTTP/1.1 over one connection, with so little work of its own
// that the server is what gets busy. It speaks MCP in both eras.
package client

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"
)

// Conn is one keep-alive connection, for one exchange at a time.
type Conn struct {
	c    net.Conn
	r    *bufio.Reader
	body []byte
}

// patience bounds one exchange.
const patience = 60 * time.Second

// Dial connects to a server.
func Dial(addr string) (*Conn, error) {
	c, err := net.DialTimeout("tcp", addr, 5*time.Second) //nolint:noctx // bounded, and to this machine
	if err != nil {
		return nil, err
	}
	return &Conn{c: c, r: bufio.NewReaderSize(c, 4<<10)}, nil
}

// Close closes the connection.
func (c *Conn) Close() error { return c.c.Close() }

// Response is what a server answered. Its bytes are good until the next exchange.
type Response struct {
	Status  int
	Session string // Mcp-Session-Id
	Stream  bool   // server-sent events
	Body    []byte
	First   time.Time // when the head was there
}

// Do sends a request and reads the whole response.
func (c *Conn) Do(request []byte) (*Response, error) {
	res, length, err := c.Start(request)
	if err != nil {
		return nil, err
	}
	c.body = c.body[:0]
	switch {
	case length >= 0:
		err = c.read(length)
	default:
		err = c.readChunks()
	}
	res.Body = c.body
	return res, err
}

// Start sends a request and reads the response's head only. length is that of the body, -1 if it comes in chunks.
func (c *Conn) Start(request []byte) (res *Response, length int, err error) {
	if err := c.c.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, 0, err
	}
	if _, err := c.c.Write(request); err != nil {
		return nil, 0, err
	}
	line, err := c.r.ReadSlice('\n')
	if err != nil {
		return nil, 0, err
	}
	if len(line) < 12 {
		return nil, 0, fmt.Errorf("not HTTP: %q", line)
	}
	res = &Response{First: time.Now()}
	if res.Status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return nil, 0, err
	}
	for {
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			return nil, 0, err
		}
		name, value, ok := bytes.Cut(bytes.TrimRight(line, "\r\n"), []byte(":"))
		if !ok {
			return res, length, nil
		}
		value = bytes.TrimSpace(value)
		switch {
		case bytes.EqualFold(name, []byte("Content-Length")):
			if length, err = strconv.Atoi(string(value)); err != nil {
				return nil, 0, err
			}
		case bytes.EqualFold(name, []byte("Transfer-Encoding")):
			length = -1
		case bytes.EqualFold(name, []byte("Mcp-Session-Id")):
			res.Session = string(value)
		case bytes.EqualFold(name, []byte("Content-Type")):
			res.Stream = bytes.HasPrefix(value, []byte("text/event-stream"))
		}
	}
}

func (c *Conn) read(n int) error {
	have := len(c.body)
	c.body = append(c.body, make([]byte, n)...)
	_, err := io.ReadFull(c.r, c.body[have:])
	return err
}

var errChunk = errors.New("malformed chunk")

func (c *Conn) readChunks() error {
	for {
		n, err := c.chunk()
		if err != nil || n == 0 {
			return err
		}
	}
}

// chunk reads one chunk into the body and returns its size; the last one is empty.
func (c *Conn) chunk() (int, error) {
	line, err := c.r.ReadSlice('\n')
	if err != nil {
		return 0, err
	}
	size, _, _ := bytes.Cut(bytes.TrimSpace(line), []byte(";"))
	n, err := strconv.ParseUint(string(size), 16, 31)
	if err != nil {
		return 0, errChunk
	}
	if err := c.read(int(n)); err != nil {
		return 0, err
	}
	end, err := c.r.ReadSlice('\n')
	if err == nil && len(bytes.TrimSpace(end)) > 0 {
		err = errChunk
	}
	return int(n), err
}

// Chunk reads the next piece of a body that comes in chunks.
func (c *Conn) Chunk() ([]byte, error) {
	c.body = c.body[:0]
	n, err := c.chunk()
	if err == nil && n == 0 {
		err = io.EOF
	}
	return c.body, err
}
