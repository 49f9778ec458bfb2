package proxy

import (
	"bufio"
	"io"
	"strconv"
	"strings"
	"time"
)

// maxEvent bounds what is held of one message, in bytes.
const maxEvent = 64 << 20

// A position is where a stream can be taken up again after its connection is lost.
type position struct {
	lastID string
	retry  time.Duration // what the server asked for; 0 if it did not
}

// events calls f with the data of each event that has some, and notes in at how far it has come. It returns
// [io.EOF] at an orderly end, and what f returned if that was false: no error.
func (at *position) events(r io.Reader, f func(data []byte) (more bool)) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxEvent)
	var data []string
	id, hasID := "", false
	for lines.Scan() {
		line := lines.Text()
		if line == "" {
			// An event counts only when it is complete, and so does its ID.
			if hasID {
				at.lastID = id
			}
			text := strings.Join(data, "\n")
			data, hasID = nil, false
			if text != "" && !f([]byte(text)) {
				return nil
			}
			continue
		}
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch name {
		case "id":
			if !strings.ContainsRune(value, 0) {
				id, hasID = value, true
			}
		case "data":
			data = append(data, value)
		case "retry":
			if ms, err := strconv.ParseUint(value, 10, 31); err == nil {
				at.retry = time.Duration(ms) * time.Millisecond
			}
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	return io.EOF
}

const (
	firstWait = time.Second
	maxWait   = 30 * time.Second
)

// wait is how long to wait before the next attempt, n of which were in vain: what the server says, then longer each time.
func (at *position) wait(n int) time.Duration {
	d := at.retry
	if d == 0 {
		d = firstWait
	}
	return min(d<<min(n, 5), maxWait)
}
