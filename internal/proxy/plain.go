package proxy

import (
	"io"
	"strconv"

	"github.com/sluice-mcp/sluice/internal/sse"
	"github.com/sluice-mcp/sluice/internal/wire"
)

// PlainEvents returns an event stream in the one form that every reader knows, and of its messages those that are some: the SDK's
// client ends at a field without a colon, and takes what a server sends to keep a connection alive for its answer. seen is
// called with each message before it is handed on.
func PlainEvents(stream io.ReadCloser, seen func(message []byte)) io.ReadCloser {
	return &plainBody{Closer: stream, events: sse.NewReader(stream), seen: seen}
}

type plainBody struct {
	io.Closer
	events *sse.Reader
	seen   func(message []byte)
	retry  int64  // as it was handed on, in milliseconds
	rest   []byte // of an event
}

// Read implements [io.Reader].
func (b *plainBody) Read(p []byte) (int, error) {
	for len(b.rest) == 0 {
		e, err := b.events.Next()
		b.rest = b.rest[:0]
		if ms := b.events.Retry().Milliseconds(); ms != b.retry {
			b.retry = ms
			b.rest = append(strconv.AppendInt(append(b.rest, "retry: "...), ms, 10), '\n')
		}
		if err != nil {
			return 0, err
		}
		b.append(e)
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

// append appends the event as one for each message. One without a message tells its ID, if it has one.
func (b *plainBody) append(e sse.Event) {
	if e.Name == "endpoint" { // of HTTP+SSE
		b.rest = wire.AppendEvent(b.rest, e.Name, "", e.Data)
		return
	}
	var messages []*message
	if e.Name == "" || e.Name == "message" {
		messages, _ = parse(e.Data)
	}
	for i, m := range messages {
		b.seen(m.raw)
		id := e.ID
		if i < len(messages)-1 {
			id = "" // all of them have come only with the last
		}
		b.rest = wire.AppendEvent(b.rest, "message", id, m.raw)
	}
	if len(messages) == 0 && (e.HasID || len(b.rest) > 0) {
		b.rest = wire.AppendEvent(b.rest, "", e.ID, nil)
	}
}
