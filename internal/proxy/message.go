package proxy

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"

	"github.com/sluice-mcp/sluice/internal/wire"
)

// A message is a JSON-RPC message, and the raw bytes that travel.
type message struct {
	wire.Message
	raw []byte
}

var errNoObject = errors.New("a result is a JSON object")

// parse reads what a server says: a message, or a batch of them (2025-03-26). What is no message is left out, and is
// the error.
func parse(raw []byte) (messages []*message, err error) {
	one, batch, failed := wire.ParseBody(raw)
	if batch == nil {
		batch = []wire.Element{{Raw: raw, Message: one, Err: failed}}
	}
	for _, e := range batch {
		switch {
		case e.Err != nil:
			err = e.Err
		case e.Message.Result != nil && e.Message.Result[0] != '{':
			err = errNoObject
		default:
			messages = append(messages, &message{e.Message, e.Raw})
		}
	}
	return messages, err
}

// answers reports whether the message is the response to the request with this ID.
func (m *message) answers(id wire.ID) bool {
	return m.Kind == wire.Response && m.ID.Key() == id.Key()
}

// refusal returns the error in the body of an HTTP response, nil if there is none. A server that did not get as far as
// reading the ID, or the request, has none to put there, or makes one up.
func refusal(body []byte) *wire.Error {
	var m struct {
		ID    json.RawMessage `json:"id"`
		Error *wire.Error     `json:"error"`
	}
	if json.Unmarshal(body, &m) == nil && m.Error != nil && m.Error.Code != 0 {
		return m.Error
	}
	return nil
}

// unnamed reports whether a response says of no request that it answers that.
func unnamed(body []byte) bool {
	var m struct {
		ID json.RawMessage `json:"id"`
	}
	return json.Unmarshal(body, &m) == nil && (len(m.ID) == 0 || string(m.ID) == "null")
}

// respond is the response that carries e.
func respond(id wire.ID, e *wire.Error) *message {
	return &message{wire.Message{Kind: wire.Response, ID: id}, wire.AppendError(nil, id, e)}
}

// codeConnection is the code of errors that the bridge makes itself. It is free for implementations; other bridges and
// SDKs use it for a lost connection, too.
const codeConnection = -32000

// failure is the response that tells a client why its request has no other.
func failure(id wire.ID, text string) []byte {
	return wire.AppendError(nil, id, &wire.Error{Code: codeConnection, Message: text})
}

// singleLine is the message as a line can hold it: one with line ends between its tokens is written without.
func singleLine(raw []byte) []byte {
	raw = bytes.TrimSpace(raw)
	if bytes.IndexByte(raw, '\n') < 0 && bytes.IndexByte(raw, '\r') < 0 {
		return raw
	}
	var b bytes.Buffer
	if json.Compact(&b, raw) != nil {
		return bytes.ReplaceAll(bytes.ReplaceAll(raw, []byte("\n"), []byte(" ")), []byte("\r"), []byte(" "))
	}
	return b.Bytes()
}

// meta returns the metadata of a request that belong to the protocol: they make it one of the stateless era, and go
// along when the bridge asks something on its own account.
func (m *message) meta() map[string]json.RawMessage {
	var params struct {
		Meta map[string]json.RawMessage `json:"_meta"`
	}
	if len(m.Params) == 0 || json.Unmarshal(m.Params, &params) != nil {
		return nil
	}
	for key := range params.Meta {
		if !strings.HasPrefix(key, "io.modelcontextprotocol/") {
			delete(params.Meta, key)
		}
	}
	return params.Meta
}

// modernVersion returns the revision that a request of the stateless era (2026-07-28 and later) names, else "".
func (m *message) modernVersion() string {
	var version string
	if json.Unmarshal(m.meta()["io.modelcontextprotocol/protocolVersion"], &version) != nil {
		return ""
	}
	return version
}
