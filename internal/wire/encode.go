package wire

import (
	"encoding/json"
	"slices"
)

// AppendResult appends the response that carries result to dst.
func AppendResult(dst []byte, id ID, result []byte) []byte {
	return append(append(AppendResultHead(dst, id), result...), '}')
}

// AppendResultHead appends what comes before the result in a response; a closing brace must follow it.
func AppendResultHead(dst []byte, id ID) []byte {
	dst = append(dst, `{"jsonrpc":"2.0","id":`...)
	dst = append(dst, id...)
	return append(dst, `,"result":`...)
}

// AppendError appends the response that carries e to dst. An empty ID means that
// it could not be read; the member is then left out, as the schema of MCP has it
// (JSON-RPC's null is no request ID there).
func AppendError(dst []byte, id ID, e *Error) []byte {
	body, err := json.Marshal(e)
	if err != nil { // Data that is no JSON: the code and message still go out
		body, _ = json.Marshal(&Error{Code: e.Code, Message: e.Message})
	}
	dst = append(dst, `{"jsonrpc":"2.0",`...)
	if id != "" {
		dst = append(dst, `"id":`...)
		dst = append(dst, id...)
		dst = append(dst, ',')
	}
	dst = append(dst, `"error":`...)
	dst = append(dst, body...)
	return append(dst, '}')
}

// AppendCall appends a request, or a notification when id is empty, to dst.
func AppendCall(dst []byte, id ID, method string, params []byte) []byte {
	dst = slices.Grow(dst, len(`{"jsonrpc":"2.0","id":,"method":"","params":}`)+len(id)+len(method)+len(params))
	dst = append(dst, `{"jsonrpc":"2.0",`...)
	if id != "" {
		dst = append(dst, `"id":`...)
		dst = append(dst, id...)
		dst = append(dst, ',')
	}
	dst = append(dst, `"method":`...)
	dst = AppendString(dst, method)
	if len(params) > 0 {
		dst = append(dst, `,"params":`...)
		dst = append(dst, params...)
	}
	return append(dst, '}')
}

// AppendString appends s as a JSON string to dst.
func AppendString(dst []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c == '"' || c == '\\' || c >= 0x80 {
			quoted, _ := json.Marshal(s) // a string cannot fail to marshal
			return append(dst, quoted...)
		}
	}
	dst = append(dst, '"')
	dst = append(dst, s...)
	return append(dst, '"')
}

// SetMembers returns object, which is a valid JSON object, with the given
// members added in front. Those that it has already are left as they are.
func SetMembers(object []byte, add ...Pair) []byte {
	var missing []Pair
	for _, p := range add {
		if Member(object, p.Key) == nil {
			missing = append(missing, p)
		}
	}
	if len(missing) == 0 {
		return object
	}
	i := skipSpace(object, 0) + 1
	rest := object[skipSpace(object, i):]
	out := make([]byte, 0, len(object)+64*len(missing))
	out = append(out, '{')
	for n, p := range missing {
		if n > 0 {
			out = append(out, ',')
		}
		out = AppendString(out, p.Key)
		out = append(out, ':')
		out = append(out, p.Value...)
	}
	if rest[0] != '}' {
		out = append(out, ',')
	}
	return append(out, rest...)
}

// Pair is a member of a JSON object.
type Pair struct {
	Key   string
	Value []byte
}

// ReplaceMember returns object with the value of its member key replaced; without such a member, unchanged.
func ReplaceMember(object []byte, key string, value []byte) []byte {
	old := Member(object, key)
	if old == nil {
		return object
	}
	at := cap(object) - cap(old) // old points into object
	out := make([]byte, 0, len(object)-len(old)+len(value))
	out = append(out, object[:at]...)
	out = append(out, value...)
	return append(out, object[at+len(old):]...)
}

// RemoveMembers returns object without the members of the given keys.
func RemoveMembers(object []byte, keys ...string) []byte {
	out := []byte{'{'}
	_ = members(object, func(k, v []byte) error {
		if slices.Contains(keys, string(k)) {
			return nil
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = AppendString(out, string(k))
		out = append(out, ':')
		out = append(out, v...)
		return nil
	})
	return append(out, '}')
}

// Declare returns the result of initialize or server/discover with a capability of ours among those that the specification leaves to
// servers: in "experimental", or, from 2026-07-28 on, in "extensions". What the server says of the same name itself is replaced.
func Declare(result []byte, group, name string, value []byte) []byte {
	caps := Member(result, "capabilities")
	if len(caps) == 0 || caps[0] != '{' {
		return result
	}
	all := Member(caps, group)
	if len(all) == 0 || all[0] != '{' {
		all = []byte("{}")
	}
	all = SetMembers(RemoveMembers(all, name), Pair{Key: name, Value: value})
	caps = SetMembers(RemoveMembers(caps, group), Pair{Key: group, Value: all})
	return ReplaceMember(result, "capabilities", caps)
}

// IsError reports whether the result of a tool is the tool's own error.
func IsError(result []byte) bool { return string(Member(result, "isError")) == "true" }

// Complete returns result with what every result of 2026-07-28 carries: its type, and, unless
// the server has put one there itself, the server's identity in _meta.
func Complete(result []byte, resultType string, serverInfo []byte) []byte {
	add := []Pair{{"resultType", []byte(resultType)}}
	if serverInfo != nil {
		identity := Pair{MetaServerInfo, serverInfo}
		if meta := Member(result, "_meta"); len(meta) > 0 && meta[0] == '{' {
			result = ReplaceMember(result, "_meta", SetMembers(meta, identity))
		} else {
			add = append(add, Pair{"_meta", SetMembers([]byte("{}"), identity)})
		}
	}
	return SetMembers(result, add...)
}
