package proxy

import (
	"io"
	"mime"
	"net/http"
	"strconv"

	"github.com/sluice-mcp/sluice/internal/sse"
	"github.com/sluice-mcp/sluice/internal/wire"
)

// Plain hands event streams on in the one form that every reader knows, and of their messages those that are some: the SDK's
// client ends at a field without a colon, and takes what a server sends to keep a connection alive for its answer.
type Plain struct{ Base http.RoundTripper }

// RoundTrip implements [http.RoundTripper].
func (p *Plain) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := p.Base.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); kind == "text/event-stream" {
		resp.Body = &plainBody{Closer: resp.Body, events: sse.NewReader(resp.Body)}
		resp.ContentLength = -1
		resp.Header.Del("Content-Length")
	}
	return resp, nil
}

// CloseIdleConnections closes those of the base.
func (p *Plain) CloseIdleConnections() {
	if c, ok := p.Base.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

type plainBody struct {
	io.Closer
	events *sse.Reader
	retry  int64  // as it was handed on, in milliseconds
	rest   []byte // of an event
}

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
		b.rest = appendPlain(b.rest, e)
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

// appendPlain appends the event as one for each message, and one without data that tells its ID if it has none.
func appendPlain(dst []byte, e sse.Event) []byte {
	if e.Name == "endpoint" { // of HTTP+SSE
		return wire.AppendEvent(dst, e.Name, "", e.Data)
	}
	var messages []*message
	if e.Name == "" || e.Name == "message" {
		messages, _ = parse(e.Data)
	}
	for i, m := range messages {
		id := e.ID
		if i < len(messages)-1 {
			id = "" // all of them have come only with the last
		}
		dst = wire.AppendEvent(dst, "message", id, m.raw)
	}
	if len(messages) == 0 && (e.HasID || len(dst) > 0) {
		dst = wire.AppendEvent(dst, "", e.ID, nil)
	}
	return dst
}
