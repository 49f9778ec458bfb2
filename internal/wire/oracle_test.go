package wire

import (
	"bytes"
	"encoding/json"
	"unicode/utf8"
)

// The functions here say with encoding/json what this package says with its own
// scanner, so that the two can be held against each other.

// depthOf returns how deeply arrays and objects nest in valid JSON.
func depthOf(data []byte) int {
	depth, deepest, inString := 0, 0, false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			depth++
			deepest = max(deepest, depth)
		case c == '}' || c == ']':
			depth--
		}
	}
	return deepest
}

// wellFormed is what a body must be to be looked at.
func wellFormed(body []byte) bool {
	return utf8.Valid(body) && json.Valid(body) && depthOf(body) <= MaxDepth
}

type pair struct {
	key   string
	value []byte
}

// pairs returns the members of a valid object, duplicates and all, or false for what is no object.
func pairs(object []byte) ([]pair, bool) {
	dec := json.NewDecoder(bytes.NewReader(object))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, false
	}
	var all []pair
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return nil, false
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return nil, false
		}
		all = append(all, pair{key.(string), bytes.Clone(value)})
	}
	return all, true
}

// fields returns the members with the given keys, and whether one of them occurs twice.
func fields(all []pair, keys ...string) (found map[string][]byte, twice bool) {
	found = make(map[string][]byte)
	for _, p := range all {
		for _, key := range keys {
			if p.key == key {
				_, again := found[key]
				twice = twice || again
				found[key] = p.value
			}
		}
	}
	return found, twice
}

func isText(raw []byte) bool   { return len(raw) > 0 && raw[0] == '"' }
func isObject(raw []byte) bool { return len(raw) > 0 && raw[0] == '{' }

func isNull(raw []byte) bool { return string(raw) == "null" }

// text decodes a JSON string.
func text(raw []byte) string {
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return ""
	}
	return s
}

func quote(s string) []byte {
	raw, _ := json.Marshal(s) // a string cannot fail to marshal
	return raw
}

// goodID says what may name a request: a string or an integer, of bounded length.
func goodID(raw []byte) bool {
	if len(raw) == 0 || len(raw) > maxID {
		return false
	}
	return isText(raw) || !bytes.ContainsAny(raw, ".eE{[tfn")
}

// kindOf says what a message is that stands in valid JSON, or 0 if it is none.
func kindOf(message []byte) Kind {
	all, ok := pairs(message)
	if !ok {
		return 0
	}
	m, twice := fields(all, "jsonrpc", "id", "method", "params", "result", "error")
	id, hasID := m["id"]
	_, hasMethod := m["method"]
	hasResult := m["result"] != nil && !isNull(m["result"])
	hasError := m["error"] != nil && !isNull(m["error"])
	_, hasParams := m["params"]
	switch {
	case twice, string(m["jsonrpc"]) != `"2.0"`, hasID && !goodID(id):
		return 0
	case hasMethod:
		if !isText(m["method"]) || hasResult || hasError || hasParams && !isObject(m["params"]) && !isNull(m["params"]) {
			return 0
		}
		if hasID {
			return Request
		}
		return Notification
	case !hasID, hasResult == hasError:
		return 0
	case hasError && !goodError(m["error"]), hasResult && !isObject(m["result"]):
		return 0
	}
	return Response
}

func goodError(raw []byte) bool {
	all, ok := pairs(raw)
	if !ok {
		return false
	}
	m := make(map[string][]byte) // of duplicates, readers take the last
	for _, p := range all {
		m[p.key] = p.value
	}
	var code int64
	return json.Unmarshal(m["code"], &code) == nil && !isNull(m["code"]) && isText(m["message"])
}
