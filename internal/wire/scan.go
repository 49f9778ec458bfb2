package wire

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"unicode/utf8"
)

// MaxDepth is how deeply arrays and objects may nest. The SDK stops at the same depth.
const MaxDepth = 1000

var (
	errDepth  = fmt.Errorf("JSON nests deeper than %d", MaxDepth)
	errSyntax = errors.New("invalid JSON")
	errEnd    = errors.New("JSON ends too early")
	errUTF8   = errors.New("not valid UTF-8")
)

// valid reports whether data is one JSON value and nothing else but white space.
// Unlike [encoding/json.Valid] it bounds the depth, so that its own stack is
// bounded, and refuses bytes that are not UTF-8 (JSON-RPC messages are UTF-8).
func valid(data []byte) error {
	if !utf8.Valid(data) {
		return errUTF8
	}
	i, err := skipValue(data, skipSpace(data, 0), 0)
	if err != nil {
		return err
	}
	if skipSpace(data, i) != len(data) {
		return errors.New("more than one JSON value")
	}
	return nil
}

func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\r' || b[i] == '\t') {
		i++
	}
	return i
}

// skipValue returns the index after the value that begins at b[i].
func skipValue(b []byte, i, depth int) (int, error) {
	if i >= len(b) {
		return i, errEnd
	}
	switch c := b[i]; {
	case c == '"':
		return skipString(b, i)
	case c == '{' || c == '[':
		return skipNested(b, i, depth)
	case c == '-' || c >= '0' && c <= '9':
		return skipNumber(b, i)
	case c == 't':
		return skipLiteral(b, i, "true")
	case c == 'f':
		return skipLiteral(b, i, "false")
	case c == 'n':
		return skipLiteral(b, i, "null")
	}
	return i, errSyntax
}

func skipLiteral(b []byte, i int, lit string) (int, error) {
	if len(b)-i < len(lit) || string(b[i:i+len(lit)]) != lit {
		return i, errSyntax
	}
	return i + len(lit), nil
}

func skipNested(b []byte, i, depth int) (int, error) {
	if depth >= MaxDepth {
		return i, errDepth
	}
	object := b[i] == '{'
	end := byte(']')
	if object {
		end = '}'
	}
	i = skipSpace(b, i+1)
	if i < len(b) && b[i] == end {
		return i + 1, nil
	}
	for {
		var err error
		if object {
			if i >= len(b) {
				return i, errEnd
			}
			if b[i] != '"' {
				return i, errSyntax
			}
			if i, err = skipString(b, i); err != nil {
				return i, err
			}
			if i = skipSpace(b, i); i >= len(b) {
				return i, errEnd
			}
			if b[i] != ':' {
				return i, errSyntax
			}
			i = skipSpace(b, i+1)
		}
		if i, err = skipValue(b, i, depth+1); err != nil {
			return i, err
		}
		if i = skipSpace(b, i); i >= len(b) {
			return i, errEnd
		}
		switch b[i] {
		case ',':
			i = skipSpace(b, i+1)
		case end:
			return i + 1, nil
		default:
			return i, errSyntax
		}
	}
}

func skipString(b []byte, i int) (int, error) {
	for i++; i < len(b); i++ {
		switch c := b[i]; {
		case c == '"':
			return i + 1, nil
		case c < 0x20:
			return i, errSyntax
		case c == '\\':
			i++
			if i >= len(b) {
				return i, errEnd
			}
			switch b[i] {
			case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
			case 'u':
				if i+4 >= len(b) {
					return i, errEnd
				}
				for k := 1; k <= 4; k++ {
					if !isHex(b[i+k]) {
						return i, errSyntax
					}
				}
				i += 4
			default:
				return i, errSyntax
			}
		}
	}
	return i, errEnd
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func skipNumber(b []byte, i int) (int, error) {
	digits := func() bool {
		start := i
		for i < len(b) && isDigit(b[i]) {
			i++
		}
		return i > start
	}
	if b[i] == '-' {
		i++
	}
	if i < len(b) && b[i] == '0' {
		i++
	} else if !digits() {
		return i, errSyntax
	}
	if i < len(b) && b[i] == '.' {
		if i++; !digits() {
			return i, errSyntax
		}
	}
	if i < len(b) && (b[i] == 'e' || b[i] == 'E') {
		i++
		if i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		if !digits() {
			return i, errSyntax
		}
	}
	return i, nil
}

// members calls f for each member of the object in data, which must have
// passed [valid]. The slices passed point into data, except a key that had escapes.
func members(data []byte, f func(key, value []byte) error) error {
	i := skipSpace(data, 0)
	if i >= len(data) || data[i] != '{' {
		return errors.New("not a JSON object")
	}
	i = skipSpace(data, i+1)
	for data[i] != '}' {
		end, err := skipString(data, i)
		if err != nil {
			return err
		}
		key := data[i+1 : end-1]
		if bytes.IndexByte(key, '\\') >= 0 {
			key = []byte(Unquote(data[i:end]))
		}
		i = skipSpace(data, skipSpace(data, end)+1) // past the colon
		if end, err = skipValue(data, i, 0); err != nil {
			return err
		}
		if err := f(key, data[i:end]); err != nil {
			return err
		}
		if i = skipSpace(data, end); data[i] == ',' {
			i = skipSpace(data, i+1)
		}
	}
	return nil
}

// elements calls f for each element of the array in data, which must have passed [valid].
func elements(data []byte, f func(value []byte) error) error {
	i := skipSpace(data, skipSpace(data, 0)+1)
	for data[i] != ']' {
		end, err := skipValue(data, i, 0)
		if err != nil {
			return err
		}
		if err := f(data[i:end]); err != nil {
			return err
		}
		if i = skipSpace(data, end); data[i] == ',' {
			i = skipSpace(data, i+1)
		}
	}
	return nil
}

// Member returns the raw value of the object's member key, or nil. The object must be valid JSON.
func Member(object []byte, key string) []byte {
	var found []byte
	_ = members(object, func(k, v []byte) error {
		if string(k) == key {
			found = v
		}
		return nil
	})
	return found
}

// Unquote returns the text of a valid JSON string. What is no string gives "".
func Unquote(raw []byte) string {
	if len(raw) < 2 || raw[0] != '"' {
		return ""
	}
	body := raw[1 : len(raw)-1]
	if bytes.IndexByte(body, '\\') < 0 {
		return string(body)
	}
	out := make([]byte, 0, len(body))
	for i := 0; i < len(body); i++ {
		c := body[i]
		if c != '\\' {
			out = append(out, c)
			continue
		}
		i++
		switch body[i] {
		case 'b':
			out = append(out, '\b')
		case 'f':
			out = append(out, '\f')
		case 'n':
			out = append(out, '\n')
		case 'r':
			out = append(out, '\r')
		case 't':
			out = append(out, '\t')
		case 'u':
			r := hex4(body[i+1:])
			i += 4
			if r >= 0xD800 && r < 0xDC00 && i+6 < len(body) && body[i+1] == '\\' && body[i+2] == 'u' {
				if low := hex4(body[i+3:]); low >= 0xDC00 && low < 0xE000 {
					r = (r-0xD800)<<10 | (low - 0xDC00) + 0x10000
					i += 6
				}
			}
			out = utf8.AppendRune(out, r) // a lone surrogate becomes U+FFFD
		default: // quote, backslash, slash
			out = append(out, body[i])
		}
	}
	return string(out)
}

func hex4(b []byte) rune {
	n, _ := strconv.ParseUint(string(b[:4]), 16, 32) // digits were checked by skipString
	return rune(n)
}
