package jsontext

// maxDepth bounds the recursion of this package. Deeper text is legal, but
// rare enough for the caller's slow way.
const maxDepth = 500

// AppendCompact appends src, which must be one JSON value, without its white
// space and with its strings escaped as Marshal does to a [json.RawMessage].
// It reports false, and returns dst as it was, for invalid JSON and for values
// that nest too deeply.
func AppendCompact(dst, src []byte) ([]byte, bool) {
	c := compacter{dst: dst, src: src}
	if c.space(); !c.value(0) {
		return dst, false
	}
	if c.space(); c.pos != len(src) {
		return dst, false
	}
	return c.dst, true
}

type compacter struct {
	dst, src []byte
	pos      int
}

// peek returns the next byte, or 0, which no JSON token begins with, at the end.
func (c *compacter) peek() byte {
	if c.pos < len(c.src) {
		return c.src[c.pos]
	}
	return 0
}

func (c *compacter) space() {
	for c.pos < len(c.src) {
		switch c.src[c.pos] {
		case ' ', '\n', '\r', '\t':
			c.pos++
		default:
			return
		}
	}
}

func (c *compacter) value(depth int) bool {
	switch b := c.peek(); b {
	case '"':
		return c.str()
	case '{':
		return c.nested('}', true, depth)
	case '[':
		return c.nested(']', false, depth)
	case 't':
		return c.literal("true")
	case 'f':
		return c.literal("false")
	case 'n':
		return c.literal("null")
	default:
		return c.number()
	}
}

func (c *compacter) literal(want string) bool {
	if end := c.pos + len(want); end <= len(c.src) && string(c.src[c.pos:end]) == want {
		c.dst = append(c.dst, want...)
		c.pos = end
		return true
	}
	return false
}

func (c *compacter) nested(end byte, keyed bool, depth int) bool {
	if depth == maxDepth {
		return false
	}
	c.dst = append(c.dst, c.src[c.pos])
	c.pos++
	c.space()
	for first := true; c.peek() != end; first = false {
		if !first {
			if c.peek() != ',' {
				return false
			}
			c.dst = append(c.dst, ',')
			c.pos++
			c.space()
		}
		if keyed {
			if c.peek() != '"' || !c.str() {
				return false
			}
			if c.space(); c.peek() != ':' {
				return false
			}
			c.dst = append(c.dst, ':')
			c.pos++
			c.space()
		}
		if !c.value(depth + 1) {
			return false
		}
		c.space()
	}
	c.dst = append(c.dst, end)
	c.pos++
	return true
}

func (c *compacter) str() bool {
	src, from := c.src, c.pos
	for i := c.pos + 1; i < len(src); i++ {
		b := src[i]
		if plain[b] {
			continue
		}
		switch {
		case b == '"':
			c.dst = append(c.dst, src[from:i+1]...)
			c.pos = i + 1
			return true
		case b == '\\':
			n := escapeLen(src[i:])
			if n == 0 {
				return false
			}
			i += n - 1
		case b == '<', b == '>', b == '&':
			c.dst = append(c.dst, src[from:i]...)
			c.dst = appendEscape(c.dst, b)
			from = i + 1
		case b == 0xE2 && i+2 < len(src) && src[i+1] == 0x80 && src[i+2]&^1 == 0xA8: // U+2028, U+2029
			c.dst = append(c.dst, src[from:i]...)
			c.dst = append(c.dst, `\u202`...)
			c.dst = append(c.dst, hexDigits[src[i+2]&0xF])
			i += 2
			from = i + 1
		case b < ' ':
			return false
		}
	}
	return false
}

// escapeLen returns the length of the escape sequence that s begins with, or 0 when it is none.
func escapeLen(s []byte) int {
	if len(s) < 2 {
		return 0
	}
	switch s[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		if len(s) < 6 {
			return 0
		}
		for _, h := range s[2:6] {
			if !(h >= '0' && h <= '9' || h >= 'a' && h <= 'f' || h >= 'A' && h <= 'F') {
				return 0
			}
		}
		return 6
	}
	return 0
}

func (c *compacter) number() bool {
	end := NumberEnd(c.src, c.pos)
	if end < 0 {
		return false
	}
	c.dst = append(c.dst, c.src[c.pos:end]...)
	c.pos = end
	return true
}

// NumberEnd returns the index after the JSON number that begins at b[i], or -1 when none does.
func NumberEnd(b []byte, i int) int {
	digits := func() bool {
		start := i
		for i < len(b) && b[i] >= '0' && b[i] <= '9' {
			i++
		}
		return i > start
	}
	if i < len(b) && b[i] == '-' {
		i++
	}
	if i < len(b) && b[i] == '0' {
		i++
	} else if !digits() {
		return -1
	}
	if i < len(b) && b[i] == '.' {
		if i++; !digits() {
			return -1
		}
	}
	if i < len(b) && (b[i] == 'e' || b[i] == 'E') {
		if i++; i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		if !digits() {
			return -1
		}
	}
	return i
}
