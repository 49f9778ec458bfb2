package wire

import (
	"bytes"
	"math"
	"strconv"
)

// Value decodes valid JSON, which must not nest deeper than [MaxDepth], as [encoding/json] decodes it into an any. It reads each byte
// once. It reports false for a number that a float64 cannot hold, which encoding/json refuses.
func Value(raw []byte) (any, bool) {
	v, _, ok := value(raw, skipSpace(raw, 0))
	return v, ok
}

func value(b []byte, i int) (v any, next int, ok bool) {
	switch b[i] {
	case '{':
		return object(b, i)
	case '[':
		return array(b, i)
	case '"':
		end, _ := skipString(b, i) // valid
		return Unquote(b[i:end]), end, true
	case 't':
		return true, i + len("true"), true
	case 'f':
		return false, i + len("false"), true
	case 'n':
		return nil, i + len("null"), true
	}
	end, _ := skipNumber(b, i) // valid
	f, err := strconv.ParseFloat(string(b[i:end]), 64)
	return f, end, err == nil && !math.IsInf(f, 0)
}

func object(b []byte, i int) (any, int, bool) {
	m := make(map[string]any)
	for i = skipSpace(b, i+1); b[i] != '}'; {
		end, _ := skipString(b, i) // valid
		key := b[i+1 : end-1]
		if bytes.IndexByte(key, '\\') >= 0 {
			key = []byte(Unquote(b[i:end]))
		}
		v, next, ok := value(b, skipSpace(b, skipSpace(b, end)+1)) // past the colon
		if !ok {
			return nil, next, false
		}
		m[known(key)] = v
		i = skipComma(b, next)
	}
	return m, i + 1, true
}

// known returns the key as a string, without allocating for those that are in every request of 2026-07-28.
func known(key []byte) string {
	switch string(key) {
	case MetaProtocolVersion:
		return MetaProtocolVersion
	case MetaClientInfo:
		return MetaClientInfo
	case MetaClientCapabilities:
		return MetaClientCapabilities
	case "name":
		return "name"
	case "version":
		return "version"
	}
	return string(key)
}

func array(b []byte, i int) (any, int, bool) {
	list := []any{}
	for i = skipSpace(b, i+1); b[i] != ']'; {
		v, next, ok := value(b, i)
		if !ok {
			return nil, next, false
		}
		list = append(list, v)
		i = skipComma(b, next)
	}
	return list, i + 1, true
}

func skipComma(b []byte, i int) int {
	if i = skipSpace(b, i); b[i] == ',' {
		i = skipSpace(b, i+1)
	}
	return i
}
