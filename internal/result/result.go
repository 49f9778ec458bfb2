// Package result fits what a server says to the revision of its client, and
// writes the results that are answered most often as JSON, byte for byte as the
// SDK writes them, without the SDK's detours: a tool's result is marshalled
// three times there.
//
// It adds what the SDK's connection adds to a result, and knows nothing of
// envelopes and transports.
package result

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice/internal/jsontext"
)

// InputRequired is the type of a result that asks the client for more.
const InputRequired = "input_required"

// AppendCallTool appends the JSON of res to dst.
//
// The result type, which the SDK hides, is [InputRequired] if res says so, and
// else resultType; empty leaves it out. serverInfo is the server's identity as
// compact JSON, to be added to _meta unless that has one; empty adds none.
//
// An interim result leaves its absent content out, where the SDK writes null.
func AppendCallTool(dst []byte, res *mcp.CallToolResult, resultType string, serverInfo json.RawMessage) ([]byte, error) {
	if res.NeedsInput() {
		resultType = InputRequired
	}
	w := writer{out: append(dst, '{')}
	if len(res.Meta) > 0 || len(serverInfo) > 0 {
		w.key(`"_meta":`)
		w.meta(res.Meta, serverInfo)
	}
	if res.Content != nil || resultType != InputRequired {
		w.key(`"content":`)
		w.content(res.Content)
	}
	if res.StructuredContent != nil {
		w.key(`"structuredContent":`)
		w.structured(res.StructuredContent)
	}
	if res.IsError {
		w.key(`"isError":true`)
	}
	if res.RequestState != "" {
		w.key(`"requestState":`)
		w.out = jsontext.AppendString(w.out, res.RequestState)
	}
	if resultType != "" {
		w.key(`"resultType":`)
		w.out = jsontext.AppendString(w.out, resultType)
	}
	if res.InputRequests != nil {
		w.key(`"inputRequests":`)
		w.marshal(res.InputRequests)
	}
	if w.err != nil {
		return dst, fmt.Errorf("marshaling a tool's result: %w", w.err)
	}
	return append(w.out, '}'), nil
}

type writer struct {
	out []byte
	err error // the first
}

// key begins a member of the result.
func (w *writer) key(k string) {
	if w.out[len(w.out)-1] != '{' {
		w.out = append(w.out, ',')
	}
	w.out = append(w.out, k...)
}

func (w *writer) meta(meta mcp.Meta, serverInfo json.RawMessage) {
	_, named := meta[mcp.MetaKeyServerInfo]
	switch {
	case len(serverInfo) == 0 || named:
		w.marshal(meta)
	case len(meta) == 0:
		w.out = append(w.out, `{"`+mcp.MetaKeyServerInfo+`":`...)
		w.out = append(w.out, serverInfo...)
		w.out = append(w.out, '}')
	default:
		meta = maps.Clone(meta) // it is the tool's, perhaps of many results
		meta[mcp.MetaKeyServerInfo] = serverInfo
		w.marshal(meta)
	}
}

func (w *writer) content(content []mcp.Content) {
	if content == nil {
		w.out = append(w.out, "null"...)
		return
	}
	w.out = append(w.out, '[')
	for i, c := range content {
		if i > 0 {
			w.out = append(w.out, ',')
		}
		if t, ok := c.(*mcp.TextContent); ok && t != nil && t.Annotations == nil && len(t.Meta) == 0 {
			w.out = append(w.out, `{"type":"text","text":`...)
			w.out = jsontext.AppendString(w.out, t.Text)
			w.out = append(w.out, '}')
		} else {
			w.marshal(c)
		}
	}
	w.out = append(w.out, ']')
}

func (w *writer) structured(v any) {
	if raw, ok := v.(json.RawMessage); ok {
		if out, ok := jsontext.AppendCompact(w.out, raw); ok {
			w.out = out
			return
		}
	}
	w.marshal(v)
}

// marshal appends v in the general way.
func (w *writer) marshal(v any) {
	data, err := json.Marshal(v)
	if err != nil && w.err == nil {
		w.err = err
	}
	w.out = append(w.out, data...)
}

// Marshal returns v as JSON, without HTML escapes, as the SDK's connection writes it.
func Marshal(v any) (json.RawMessage, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimRight(buf.Bytes(), "\n"), nil
}
