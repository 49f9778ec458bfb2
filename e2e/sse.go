package e2e

import "bytes"

// eventCounter counts the events in a stream that comes in pieces.
type eventCounter struct {
	n       int
	line    []byte // of the unfinished line, as much as tells its kind
	isEvent bool   // the unfinished block has data or an ID
	afterCR bool   // the last line ended in \r, to which a \n may still belong
}

// step takes one byte and reports whether an event ends with it.
func (c *eventCounter) step(b byte) bool {
	afterCR := c.afterCR
	c.afterCR = b == '\r'
	switch {
	case afterCR && b == '\n':
	case b != '\n' && b != '\r':
		if len(c.line) < 5 {
			c.line = append(c.line, b)
		}
	case len(c.line) > 0:
		c.isEvent = c.isEvent || bytes.HasPrefix(c.line, []byte("data")) || bytes.HasPrefix(c.line, []byte("id"))
		c.line = c.line[:0]
	case c.isEvent:
		c.isEvent = false
		c.n++
		return true
	}
	return false
}

func (c *eventCounter) add(data []byte) {
	for _, b := range data {
		c.step(b)
	}
}

// until returns how much of data there is up to the end of event n, counted from the stream's beginning.
func (c *eventCounter) until(data []byte, n int) int {
	try := eventCounter{n: c.n, line: bytes.Clone(c.line), isEvent: c.isEvent, afterCR: c.afterCR}
	for i, b := range data {
		if try.step(b) && try.n == n {
			return i + 1
		}
	}
	return len(data)
}
