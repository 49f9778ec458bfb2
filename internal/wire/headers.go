package wire

import (
	"encoding/base64"
	"math"
	"strconv"
	"strings"
)

// Names of the headers that mirror the body, in canonical form.
const (
	HeaderVersion     = "Mcp-Protocol-Version"
	HeaderSession     = "Mcp-Session-Id"
	HeaderMethod      = "Mcp-Method"
	HeaderName        = "Mcp-Name"
	HeaderParamPrefix = "Mcp-Param-"
)

// Header is what this package needs of an http.Header: canonical names.
type Header map[string][]string

// single returns the only value of a header. Two lines, even equal ones, are
// refused: a proxy may look at the one and the server at the other.
func (h Header) single(name string) (value string, present bool, err *Error) {
	switch values := h[name]; len(values) {
	case 0:
		return "", false, nil
	case 1:
		for i := range len(values[0]) {
			if c := values[0][i]; c < 0x20 && c != '\t' || c > 0x7e {
				return "", true, HeaderMismatch("Header mismatch: " + name + " has characters that must be encoded")
			}
		}
		return values[0], true, nil
	default:
		return "", true, HeaderMismatch("Header mismatch: " + name + " is given more than once")
	}
}

// CheckVersion checks that the version header of a modern request is the version in its _meta.
func CheckVersion(h Header, m Meta) *Error {
	header, present, err := h.single(HeaderVersion)
	switch {
	case err != nil:
		return err
	case !present:
		return HeaderMismatch("Header mismatch: MCP-Protocol-Version is missing")
	case m.ProtocolVersion == nil:
		return InvalidParams("Invalid params: missing _meta field " + strconv.Quote(MetaProtocolVersion))
	case m.ProtocolVersion[0] != '"':
		return InvalidParams("Invalid params: _meta field " + strconv.Quote(MetaProtocolVersion) + " must be a string")
	case Unquote(m.ProtocolVersion) != header:
		return HeaderMismatch("Header mismatch: MCP-Protocol-Version is not the version in _meta")
	}
	return nil
}

// CheckStandard checks Mcp-Method and Mcp-Name against the body of a modern
// request (Streamable HTTP, "Server Validation").
func CheckStandard(h Header, method string, p Params) *Error {
	got, present, err := h.single(HeaderMethod)
	switch {
	case err != nil:
		return err
	case !present:
		return HeaderMismatch("Header mismatch: Mcp-Method is missing")
	case got != method:
		return HeaderMismatch("Header mismatch: Mcp-Method is not the method in the body")
	}
	var name []byte
	switch method {
	case "tools/call", "prompts/get":
		name = p.Name
	case "resources/read":
		name = p.URI
	case "tasks/get", "tasks/update", "tasks/cancel":
		name = p.TaskID
	default:
		return nil
	}
	got, present, err = h.single(HeaderName)
	if err != nil {
		return err
	}
	isText := len(name) > 0 && name[0] == '"'
	if ofTask := strings.HasPrefix(method, "tasks/"); ofTask && (!present || !isText) {
		return nil // the extension binds clients only, and the SDK's own does not send it; what is no ID is refused where IDs are read
	}
	if !present {
		return HeaderMismatch("Header mismatch: Mcp-Name is missing")
	}
	if !isText {
		return InvalidParams("Invalid params: " + method + " needs a name or uri that is a string")
	}
	if got, ok := decodeValue(got); !ok || got != Unquote(name) {
		return HeaderMismatch("Header mismatch: Mcp-Name is not the name, uri or taskId in the body")
	}
	return nil
}

const base64Prefix, base64Suffix = "=?base64?", "?="

// decodeValue undoes the Base64 form of a header value ("Value Encoding").
func decodeValue(s string) (string, bool) {
	inner, ok := strings.CutPrefix(s, base64Prefix)
	if !ok {
		return s, true
	}
	inner, ok = strings.CutSuffix(inner, base64Suffix)
	if !ok {
		return s, true
	}
	decoded, err := base64.StdEncoding.Strict().DecodeString(inner)
	return string(decoded), err == nil
}

// A ParamHeader binds a property of a tool's input to the header that mirrors it.
type ParamHeader struct {
	Path   []string // property names from the root of the arguments
	Header string   // canonical, with prefix
}

// CheckParams checks the Mcp-Param-* headers of a tools/call against its
// arguments ("Server Behavior for Custom Headers").
func CheckParams(h Header, bound []ParamHeader, arguments []byte) *Error {
	for _, b := range bound {
		got, present, err := h.single(b.Header)
		if err != nil {
			return err
		}
		value := arguments
		for _, name := range b.Path {
			if len(value) == 0 || value[0] != '{' {
				value = nil
				break
			}
			value = Member(value, name)
		}
		if len(value) == 0 || string(value) == "null" {
			if present {
				return HeaderMismatch("Header mismatch: " + b.Header + " is given, but the argument is absent or null")
			}
			continue
		}
		if !present {
			return HeaderMismatch("Header mismatch: " + b.Header + " is missing")
		}
		got, ok := decodeValue(got)
		if !ok {
			return HeaderMismatch("Header mismatch: " + b.Header + " is not valid Base64")
		}
		if !sameValue(got, value) {
			return HeaderMismatch("Header mismatch: " + b.Header + " is not the argument in the body")
		}
	}
	return nil
}

// maxSafe is the largest integer that every peer can represent exactly.
const maxSafe = 1<<53 - 1

// sameValue compares a decoded header with a JSON value: strings and booleans as text,
// integers by number, so that 42.0 is 42.
func sameValue(header string, value []byte) bool {
	switch value[0] {
	case '"':
		return header == Unquote(value)
	case 't', 'f':
		return header == string(value)
	case '{', '[', 'n':
		return false
	}
	// Only what every reader takes for this number: Go would also read 1_0, 0x1p4 or +42.
	if end, err := skipNumber([]byte(header+" "), 0); err != nil || end != len(header) || len(header) > len("-9007199254740991.0") {
		return false
	}
	a, err := strconv.ParseFloat(header, 64)
	if err != nil {
		return false
	}
	b, err := strconv.ParseFloat(string(value), 64)
	return err == nil && a == b && a == math.Trunc(a) && math.Abs(a) <= maxSafe
}
