package typed

import (
	"bytes"
	"encoding/json"
	"strconv"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/sluice-mcp/sluice/internal/jsontext"
)

func (d *decoder) space() {
	for d.pos < len(d.data) {
		switch d.data[d.pos] {
		case ' ', '\n', '\r', '\t':
			d.pos++
		default:
			return
		}
	}
}

// peek returns the next byte, or 0 at the end.
func (d *decoder) peek() byte {
	if d.pos < len(d.data) {
		return d.data[d.pos]
	}
	return 0
}

// token consumes c, which may follow white space.
func (d *decoder) token(c byte) bool {
	if d.space(); d.peek() != c {
		return false
	}
	d.pos++
	return true
}

func (d *decoder) literal(want string) bool {
	if end := d.pos + len(want); end <= len(d.data) && string(d.data[d.pos:end]) == want {
		d.pos = end
		return true
	}
	return false
}

// key consumes an object's key that is written in plain ASCII; other keys are rare.
func (d *decoder) key() ([]byte, bool) {
	if d.peek() != '"' {
		return nil, false
	}
	for i := d.pos + 1; i < len(d.data); i++ {
		switch c := d.data[i]; {
		case c == '"':
			key := d.data[d.pos+1 : i]
			d.pos = i + 1
			return key, true
		case c == '\\' || c < ' ' || c >= utf8.RuneSelf:
			return nil, false
		}
	}
	return nil, false
}

// short consumes an integer written with so few digits that float64 holds it as it is.
func (d *decoder) short() (int64, bool) {
	i := d.pos
	negative := i < len(d.data) && d.data[i] == '-'
	if negative {
		i++
	}
	start := i
	var x int64
	for ; i < len(d.data) && d.data[i]-'0' <= 9; i++ {
		if i-start == 15 {
			return 0, false
		}
		x = x*10 + int64(d.data[i]-'0')
	}
	if i == start || d.data[start] == '0' && (i > start+1 || negative) {
		return 0, false // none, 01, -0
	}
	if i < len(d.data) && (d.data[i] == '.' || d.data[i]|0x20 == 'e') {
		return 0, false
	}
	d.pos = i
	if negative {
		x = -x
	}
	return x, true
}

// signed consumes an integer, which may be written as 5.0 or 5e0.
func (d *decoder) signed() (int64, bool) {
	if i, ok := d.short(); ok {
		return i, true
	}
	digits, ok := d.whole()
	if !ok {
		return 0, false
	}
	i, err := strconv.ParseInt(digits, 10, 64)
	return i, err == nil
}

func (d *decoder) unsigned() (uint64, bool) {
	if i, ok := d.short(); ok {
		return uint64(i), i >= 0
	}
	digits, ok := d.whole()
	if !ok {
		return 0, false
	}
	u, err := strconv.ParseUint(digits, 10, 64)
	return u, err == nil
}

// whole consumes a whole number that is long, or has a fraction or an exponent.
func (d *decoder) whole() (string, bool) {
	end := jsontext.NumberEnd(d.data, d.pos)
	if end < 0 {
		return "", false
	}
	literal := string(d.data[d.pos:end])
	d.pos = end
	return whole(literal)
}

// number consumes a number for the empty interface.
func (d *decoder) number() (any, bool) {
	if i, ok := d.short(); ok {
		return float64(i), true
	}
	end := jsontext.NumberEnd(d.data, d.pos)
	if end < 0 {
		return nil, false
	}
	v, err := loose(json.Number(d.data[d.pos:end]))
	d.pos = end
	return v, err == nil
}

func (d *decoder) float() (float64, bool) {
	if i, ok := d.short(); ok {
		return float64(i), true
	}
	end := jsontext.NumberEnd(d.data, d.pos)
	if end < 0 {
		return 0, false
	}
	f, err := strconv.ParseFloat(string(d.data[d.pos:end]), 64)
	d.pos = end
	return f, err == nil
}

// text consumes a string.
func (d *decoder) text() (string, bool) {
	if d.peek() != '"' {
		return "", false
	}
	start := d.pos + 1
	ascii := true
	for i := start; i < len(d.data); i++ {
		switch c := d.data[i]; {
		case c == '"':
			s := d.data[start:i]
			d.pos = i + 1
			return string(s), ascii || utf8.Valid(s)
		case c == '\\':
			return d.escaped(start, i)
		case c < ' ':
			return "", false
		case c >= utf8.RuneSelf:
			ascii = false
		}
	}
	return "", false
}

// escaped consumes the rest of the string that begins at start and has its first escape at i.
func (d *decoder) escaped(start, i int) (string, bool) {
	s := append(make([]byte, 0, i-start+32), d.data[start:i]...)
	for i < len(d.data) {
		c := d.data[i]
		i++
		switch {
		case c == '"':
			d.pos = i
			return string(s), utf8.Valid(s)
		case c < ' ':
			return "", false
		case c != '\\':
			s = append(s, c)
			continue
		}
		if i == len(d.data) {
			return "", false
		}
		c = d.data[i]
		i++
		switch c {
		case '"', '\\', '/':
			s = append(s, c)
		case 'b':
			s = append(s, '\b')
		case 'f':
			s = append(s, '\f')
		case 'n':
			s = append(s, '\n')
		case 'r':
			s = append(s, '\r')
		case 't':
			s = append(s, '\t')
		case 'u':
			r := hex4(d.data[i:])
			i += 4
			if utf16.IsSurrogate(r) {
				if i+2 > len(d.data) || d.data[i] != '\\' || d.data[i+1] != 'u' {
					return "", false
				}
				if r = utf16.DecodeRune(r, hex4(d.data[i+2:])); r == utf8.RuneError {
					return "", false
				}
				i += 6
			}
			if r < 0 {
				return "", false
			}
			s = utf8.AppendRune(s, r)
		default:
			return "", false
		}
	}
	return "", false
}

// hex4 returns the number that b begins with four hexadecimal digits of, or -1.
func hex4(b []byte) rune {
	if len(b) < 4 {
		return -1
	}
	var r rune
	for _, c := range b[:4] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return -1
		}
		r = r<<4 | rune(c)
	}
	return r
}

// parseTime parses s as the SDK's decoder does: with a parser of its own,
// stricter than ours, for UTC and with [time.Parse] for the rest.
func parseTime(s string) (time.Time, bool) {
	if len(s) > 0 && s[len(s)-1] == 'Z' {
		const shape = "dddd-dd-ddTdd:dd:ddZ"
		if len(s) < len(shape) || len(s) == len(shape)+1 {
			return time.Time{}, false
		}
		for i := range len(shape) - 1 {
			if shape[i] != s[i] && (shape[i] != 'd' || s[i] < '0' || s[i] > '9') {
				return time.Time{}, false
			}
		}
		if len(s) > len(shape) && s[len(shape)-1] != '.' {
			return time.Time{}, false
		}
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	return t, err == nil
}

// raw consumes any value, and returns it as it is written.
func (d *decoder) raw(depth int) ([]byte, bool) {
	i, open, inString := d.pos, 0, false
	for ; i < len(d.data); i++ {
		c := d.data[i]
		if open == 0 && !inString && i > d.pos && (c == ',' || c == '}' || c == ']') {
			break
		}
		switch {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			open++
		case c == '}' || c == ']':
			open--
		}
	}
	raw := bytes.TrimSpace(d.data[d.pos:min(i, len(d.data))])
	d.pos = i
	return raw, nesting(raw)+depth <= maxDepth && json.Valid(raw)
}
