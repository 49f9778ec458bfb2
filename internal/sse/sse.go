// Package sse reads event streams as the standard says (WHATWG HTML, 9.2.5 "Parsing an event stream" and 9.2.6
// "Interpreting an event stream"), for everything here that is a client.
package sse

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strconv"
	"time"
)

// MaxEvent bounds what is held of one event, in bytes.
const MaxEvent = 64 << 20

var errTooLarge = errors.New("an event of the stream is too large")

// An Event is what stands between two blank lines. One without data is never told to a page, but its ID counts.
type Event struct {
	Name  string // "" stands for "message"
	ID    string // only with HasID
	HasID bool
	Data  []byte // its lines joined by \n
}

// A Reader reads the events of one stream. It is for one goroutine.
type Reader struct {
	lines *bufio.Scanner
	first bool // line of the stream, which may begin with a byte order mark
	retry time.Duration
}

// NewReader returns a Reader of the stream r.
func NewReader(r io.Reader) *Reader {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, MaxEvent)
	lines.Split((&splitter{}).split)
	return &Reader{lines: lines, first: true}
}

// Retry is how long the server wants its clients to wait before they come back; 0 if it has not said so.
func (r *Reader) Retry() time.Duration { return r.retry }

// Next returns the next event, with or without data, as soon as the blank line behind it has begun. What the end of the
// stream cuts short is no event. It returns [io.EOF] at an orderly end.
func (r *Reader) Next() (Event, error) {
	var e Event
	var data []byte
	fields := false
	for r.lines.Scan() {
		line := r.lines.Bytes()
		if r.first {
			line = bytes.TrimPrefix(line, []byte("\ufeff"))
			r.first = false
		}
		if len(line) == 0 {
			if !fields {
				continue
			}
			if len(data) > 0 {
				e.Data = bytes.ToValidUTF8(data[:len(data)-1], []byte("\ufffd"))
			}
			return e, nil
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimPrefix(value, []byte(" "))
		switch string(name) {
		case "event":
			e.Name = string(value)
		case "id":
			if bytes.IndexByte(value, 0) >= 0 {
				continue
			}
			e.ID, e.HasID = string(value), true
		case "data":
			if len(data)+len(value) > MaxEvent {
				return Event{}, errTooLarge
			}
			data = append(append(data, value...), '\n')
		case "retry":
			ms, err := strconv.ParseUint(string(value), 10, 31)
			if err != nil {
				continue
			}
			r.retry = time.Duration(ms) * time.Millisecond
		default: // a comment, whose name is empty, or a field that nobody knows
			continue
		}
		fields = true
	}
	if err := r.lines.Err(); errors.Is(err, bufio.ErrTooLong) {
		return Event{}, errTooLarge
	} else if err != nil {
		return Event{}, err
	}
	return Event{}, io.EOF
}

// A splitter splits a stream into lines that end in \r\n, \n or \r.
type splitter struct {
	afterCR  bool // the last line ended in \r, to which a \n may still belong
	searched int  // how much of the unfinished line has no end in it: a long one comes in many pieces
}

// split is a [bufio.SplitFunc]. A line counts at its \r already: to wait for the byte behind it would hold back an event
// until the next one.
func (s *splitter) split(data []byte, atEOF bool) (advance int, line []byte, err error) {
	start := 0
	if s.afterCR && len(data) > 0 {
		s.afterCR = false
		if data[0] == '\n' {
			start = 1
		}
	}
	rest := data[start:]
	i := bytes.IndexAny(rest[s.searched:], "\r\n")
	if i < 0 {
		s.searched = len(rest)
		if atEOF {
			start = len(data)
		}
		return start, nil, nil
	}
	i += s.searched
	s.searched, s.afterCR = 0, rest[i] == '\r'
	return start + i + 1, rest[:i:i], nil
}
