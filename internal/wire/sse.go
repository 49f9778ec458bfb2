package wire

import (
	"bytes"
	"strconv"
	"strings"
	"time"
)

// KeepAlive is the comment that keeps a quiet stream from being cut by those between.
const KeepAlive = ": keep-alive\n\n"

// AppendEvent appends a server-sent event to dst. An empty id or name leaves out the
// field. Data may be empty: the event then only tells its ID (priming, 2025-11-25).
func AppendEvent(dst []byte, name, id string, data []byte) []byte {
	if name != "" {
		dst = append(dst, "event: "...)
		dst = append(dst, name...)
		dst = append(dst, '\n')
	}
	if id != "" {
		dst = append(dst, "id: "...)
		dst = append(dst, id...)
		dst = append(dst, '\n')
	}
	// A newline in data would end the field. Our own JSON never has one outside a
	// string, where it is escaped, but a raw result of a handler may be indented.
	for {
		line, rest, more := cutLine(data)
		dst = append(dst, "data: "...)
		dst = append(dst, line...)
		dst = append(dst, '\n')
		if !more {
			break
		}
		data = rest
	}
	return append(dst, '\n')
}

// cutLine splits at the first line end that an SSE parser knows: \n, \r\n or \r.
func cutLine(data []byte) (line, rest []byte, more bool) {
	i, before := bytes.IndexByte(data, '\n'), data
	if i >= 0 {
		before = data[:i]
	}
	if j := bytes.IndexByte(before, '\r'); j >= 0 {
		i = j
	}
	if i < 0 {
		return data, nil, false
	}
	line, rest = data[:i], data[i+1:]
	if data[i] == '\r' && len(rest) > 0 && rest[0] == '\n' {
		rest = rest[1:]
	}
	return line, rest, true
}

// AppendRetry appends the field that tells the client how long to wait before it comes back.
func AppendRetry(dst []byte, d time.Duration) []byte {
	dst = append(dst, "retry: "...)
	dst = strconv.AppendInt(dst, d.Milliseconds(), 10)
	return append(dst, "\n\n"...)
}

// EventID names an event: its stream and its index there.
func EventID(stream string, index int64) string {
	return stream + "-" + strconv.FormatInt(index, 10)
}

// ParseEventID undoes [EventID]. It fails for everything that EventID never returns.
func ParseEventID(id string) (stream string, index int64, ok bool) {
	if len(id) > 128 {
		return "", 0, false
	}
	stream, number, ok := strings.Cut(id, "-")
	if !ok || stream == "" {
		return "", 0, false
	}
	for _, c := range []byte(stream) {
		if !isDigit(c) && (c < 'A' || c > 'Z') {
			return "", 0, false
		}
	}
	index, err := strconv.ParseInt(number, 10, 64)
	if err != nil || index < 0 || strconv.FormatInt(index, 10) != number {
		return "", 0, false
	}
	return stream, index, true
}
