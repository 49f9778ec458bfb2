package proxy

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
)

// Headers of Streamable HTTP.
const (
	headerSession = "Mcp-Session-Id"
	headerVersion = "Mcp-Protocol-Version"
	headerLast    = "Last-Event-Id"
)

// named are the methods whose target stands in Mcp-Name, with the parameter that holds it
// (Streamable HTTP of 2026-07-28, "Standard Request Headers"; SEP-2663 for tasks).
var named = map[string]string{
	"tools/call": "name", "prompts/get": "name", "resources/read": "uri",
	"tasks/get": "taskId", "tasks/update": "taskId", "tasks/cancel": "taskId",
}

// mirror sets the headers that repeat the body of a stateless request.
func mirror(header http.Header, m *message, version string, bound []binding) {
	header.Set(headerVersion, version)
	header.Set("Mcp-Method", encodeValue(m.Method))
	if key, ok := named[m.Method]; ok {
		var params map[string]json.RawMessage
		var name string
		if json.Unmarshal(m.Params, &params) == nil && json.Unmarshal(params[key], &name) == nil {
			header.Set("Mcp-Name", encodeValue(name))
		}
	}
	for _, b := range bound {
		if value, ok := b.value(m.Params); ok {
			header.Set("Mcp-Param-"+b.header, encodeValue(value))
		}
	}
}

// encodeValue makes a value fit for a header ("Value Encoding"): Base64 where plain ASCII would not arrive as it was,
// or would be taken for Base64.
func encodeValue(s string) string {
	const prefix, suffix = "=?base64?", "?="
	plain := s == strings.Trim(s, " \t") && !(strings.HasPrefix(s, prefix) && strings.HasSuffix(s, suffix))
	for i := 0; plain && i < len(s); i++ {
		plain = s[i] >= ' ' && s[i] <= '~' || s[i] == '\t'
	}
	if plain {
		return s
	}
	return prefix + base64.StdEncoding.EncodeToString([]byte(s)) + suffix
}

// A binding says that an argument of a tool is repeated in a header ("Custom Headers from Tool Parameters").
type binding struct {
	header string   // without Mcp-Param-
	path   []string // property names from the root of the arguments
}

// value returns the argument as a header has it; none if it is absent, null or no primitive.
func (b binding) value(params json.RawMessage) (string, bool) {
	at := params
	for _, name := range append([]string{"arguments"}, b.path...) {
		var object map[string]json.RawMessage
		if json.Unmarshal(at, &object) != nil {
			return "", false
		}
		at = object[name]
	}
	var value any
	if len(at) == 0 || json.Unmarshal(at, &value) != nil {
		return "", false
	}
	switch v := value.(type) {
	case string:
		return v, true
	case float64, bool:
		return string(at), true // as it is written in the body
	}
	return "", false
}

// schema is what matters here of a tool's input schema.
type schema struct {
	Header     json.RawMessage   `json:"x-mcp-header"`
	Properties map[string]schema `json:"properties"`
}

// maxNesting bounds how deep a schema is searched. Arguments that deep are in no header.
const maxNesting = 50

// bindings returns the headers that a tool's schema asks for.
func (s schema) bindings(path ...string) []binding {
	var all []binding
	var name string
	if len(path) > 0 && json.Unmarshal(s.Header, &name) == nil && validName(name) {
		all = append(all, binding{header: name, path: path})
	}
	if len(path) >= maxNesting {
		return all
	}
	for property, inner := range s.Properties {
		all = append(all, inner.bindings(append(slices.Clip(path), property)...)...)
	}
	return all
}

func validName(s string) bool {
	const allowed = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	return s != "" && strings.Trim(s, allowed) == ""
}
