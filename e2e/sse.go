package e2e

import (
	"bufio"
	"bytes"
	"io"
	"strconv"
	"strings"
	"time"
)

// maxLine bounds one line of an event stream.
const maxLine = 64 << 20

// sseEvent is one block of an event stream. A block without any field is a comment and never returned.
type sseEvent struct {
	name, id, data string
	hasID          bool
	retry          time.Duration
}

// sseReader reads events until the stream's end; a block that the end cuts short is dropped.
type sseReader struct{ s *bufio.Scanner }

func newSSEReader(r io.Reader) *sseReader {
	s := bufio.NewScanner(r)
	s.Buffer(nil, maxLine)
	return &sseReader{s}
}

// next returns [io.EOF] at an orderly end.
func (r *sseReader) next() (sseEvent, error) {
	var ev sseEvent
	var data []string
	fields := 0
	for r.s.Scan() {
		line := r.s.Text()
		if line == "" {
			if fields > 0 {
				ev.data = strings.Join(data, "\n")
				return ev, nil
			}
			continue
		}
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch name {
		case "event":
			ev.name = value
		case "id":
			ev.id, ev.hasID = value, true
		case "data":
			data = append(data, value)
		case "retry":
			if ms, err := strconv.Atoi(value); err == nil {
				ev.retry = time.Duration(ms) * time.Millisecond
			}
		default: // a comment, or a field to ignore
			continue
		}
		fields++
	}
	if err := r.s.Err(); err != nil {
		return ev, err
	}
	return ev, io.EOF
}

// eventCounter counts the events in a stream that comes in pieces.
type eventCounter struct {
	n       int
	line    []byte // of the unfinished line, as much as tells its kind
	isEvent bool   // the unfinished block has data or an ID
}

// step takes one byte and reports whether an event ends with it.
func (c *eventCounter) step(b byte) bool {
	switch {
	case b == '\r':
	case b != '\n':
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
	try := eventCounter{n: c.n, line: bytes.Clone(c.line), isEvent: c.isEvent}
	for i, b := range data {
		if try.step(b) && try.n == n {
			return i + 1
		}
	}
	return len(data)
}
