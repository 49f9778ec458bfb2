package proxy

import (
	"bytes"
	"encoding/json"
	"strings"
)

// A message is what the bridge has to know of a JSON-RPC message; the raw bytes are what travels.
type message struct {
	raw    []byte
	ID     json.RawMessage `json:"id"`
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
	Result json.RawMessage `json:"result"`
	Error  *rpcError       `json:"error"`
}

type rpcError struct {
	Code    int64           `json:"code"`
	Message string          `json:"message"`
	Data    json.RawMessage `json:"data,omitempty"`
}

func parse(raw []byte) (*message, error) {
	m := &message{raw: raw}
	if err := json.Unmarshal(raw, m); err != nil {
		return nil, err
	}
	return m, nil
}

func (m *message) isRequest() bool  { return m.Method != "" && m.hasID() }
func (m *message) isResponse() bool { return m.Method == "" && (m.Result != nil || m.Error != nil) }

// hasID takes a null for none. No request may have that for its ID, and the error that answers what could not be read does.
func (m *message) hasID() bool { return len(m.ID) > 0 && string(m.ID) != "null" }

// Codes of errors that the bridge makes itself.
const (
	codeParse          = -32700
	codeConnection     = -32000 // free for implementations; other bridges and SDKs use it for a lost connection, too
	codeHeaderMismatch = -32020
)

// failure is the response that tells a client why its request has no other.
func failure(id json.RawMessage, code int64, text string) []byte {
	if len(id) == 0 {
		id = json.RawMessage("null")
	}
	return respond(id, &rpcError{Code: code, Message: text})
}

func respond(id json.RawMessage, e *rpcError) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(struct {
		Version string          `json:"jsonrpc"`
		ID      json.RawMessage `json:"id"`
		Error   *rpcError       `json:"error"`
	}{"2.0", id, e})
	if err != nil { // the ID or the data were read as JSON; they cannot fail to be written
		return []byte(`{"jsonrpc":"2.0","id":null,"error":{"code":-32603,"message":"internal error"}}`)
	}
	return bytes.TrimSpace(b.Bytes())
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
