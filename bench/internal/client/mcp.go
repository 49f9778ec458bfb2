package client

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
)

// Era is a way to speak MCP over HTTP.
type Era string

// The eras.
const (
	Sessions Era = "sessions"   // 2025-11-25
	Modern   Era = "2026-07-28" // stateless
)

const sessionsRevision = "2025-11-25"

// Session is what a client of either era has to say with each request: in the modern one the same to every server.
type Session struct {
	Era  Era
	Host string
	ID   string // "" if the server gives none
}

// What clients of the bench declare: nothing, or that they can be asked.
const (
	Plain      = `{}`
	CanBeAsked = `{"elicitation":{}}`
)

// Open begins a session of a client with these capabilities: it initializes, in the era that needs it.
func Open(c *Conn, era Era, host, capabilities string) (*Session, error) {
	s := &Session{Era: era, Host: host}
	if era == Modern {
		return s, nil
	}
	params := `{"protocolVersion":"` + sessionsRevision + `","capabilities":` + capabilities + `,"clientInfo":{"name":"bench","version":"1"}}`
	res, err := c.Do(s.post("initialize", "", `{"jsonrpc":"2.0","id":1,"method":"initialize","params":`+params+`}`))
	if err != nil {
		return nil, err
	}
	if _, err := res.Result(); err != nil {
		return nil, fmt.Errorf("initialize: %w", err)
	}
	s.ID = res.Session
	res, err = c.Do(s.post("notifications/initialized", "", `{"jsonrpc":"2.0","method":"notifications/initialized"}`))
	if err != nil {
		return nil, err
	}
	if res.Status != 202 {
		return nil, fmt.Errorf("notifications/initialized: status %d: %s", res.Status, res.Body)
	}
	return s, nil
}

// Call is a request to call a tool, to be sent again and again.
type Call struct {
	bytes []byte
	id    []byte // its place in bytes
	n     int
}

// firstID has as many digits as all that follow.
const firstID = 1_000_000

// Call returns the request that calls a tool. With progress it has a progress token.
func (s *Session) Call(tool, arguments string, progress bool) *Call {
	meta := ""
	if progress {
		meta = `"progressToken":"p"`
	}
	if s.Era == Modern {
		if meta != "" {
			meta += ","
		}
		meta += `"io.modelcontextprotocol/protocolVersion":"` + string(Modern) + `",` +
			`"io.modelcontextprotocol/clientInfo":{"name":"bench","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}`
	}
	if meta != "" {
		meta = `,"_meta":{` + meta + `}`
	}
	head := `{"jsonrpc":"2.0","id":`
	id := strconv.Itoa(firstID)
	req := s.post("tools/call", tool, head+id+`,"method":"tools/call","params":{"name":"`+tool+`","arguments":`+arguments+meta+`}}`)
	at := bytes.Index(req, []byte(head)) + len(head)
	return &Call{bytes: req, id: req[at : at+len(id)], n: firstID}
}

// Next returns the request with an ID that it did not have before.
func (c *Call) Next() []byte {
	c.n++
	if c.n == 10*firstID {
		c.n = firstID
	}
	strconv.AppendInt(c.id[:0], int64(c.n), 10)
	return c.bytes
}

// Listen returns the request that opens the stream of a session.
func (s *Session) Listen() []byte {
	return fmt.Appendf(nil, "GET /mcp HTTP/1.1\r\nHost: %s\r\nAccept: text/event-stream\r\nMcp-Protocol-Version: %s\r\n%s\r\n",
		s.Host, sessionsRevision, s.header())
}

func (s *Session) header() string {
	if s.ID == "" {
		return ""
	}
	return "Mcp-Session-Id: " + s.ID + "\r\n"
}

func (s *Session) post(method, tool, body string) []byte {
	head := fmt.Sprintf("POST /mcp HTTP/1.1\r\nHost: %s\r\nUser-Agent: bench\r\nAccept: application/json, text/event-stream\r\n"+
		"Content-Type: application/json\r\nContent-Length: %d\r\n", s.Host, len(body))
	switch {
	case s.Era == Modern:
		head += "Mcp-Protocol-Version: " + string(Modern) + "\r\nMcp-Method: " + method + "\r\nMcp-Name: " + tool + "\r\n"
	case method != "initialize":
		head += "Mcp-Protocol-Version: " + sessionsRevision + "\r\n" + s.header()
	}
	return []byte(head + "\r\n" + body)
}

// Result is the result of a call as far as the bench looks into it.
type Result struct {
	IsError    bool `json:"isError"`
	Structured struct {
		Sum *int `json:"sum"`
		N   *int `json:"n"`
	} `json:"structuredContent"`
}

var errNone = errors.New("no response")

// Result finds the JSON-RPC response in a body of either shape. A JSON-RPC error is an error.
func (r *Response) Result() (*Result, error) {
	data := r.Body
	if r.Stream {
		data = nil
		for line := range bytes.Lines(r.Body) {
			if rest, ok := bytes.CutPrefix(line, []byte("data:")); ok && bytes.Contains(rest, []byte(`"id"`)) {
				data = rest
			}
		}
	}
	var m struct {
		ID     json.RawMessage `json:"id"`
		Result *Result         `json:"result"`
		Error  *struct {
			Message string `json:"message"`
		} `json:"error"`
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, fmt.Errorf("status %d, %w: %.300s", r.Status, err, r.Body)
	}
	switch {
	case m.Error != nil:
		return nil, fmt.Errorf("status %d: %s", r.Status, m.Error.Message)
	case m.Result == nil || len(m.ID) == 0:
		return nil, errNone
	}
	return m.Result, nil
}

// Events counts the progress notifications in a body.
func (r *Response) Events() int {
	return bytes.Count(r.Body, []byte(`"notifications/progress"`))
}
