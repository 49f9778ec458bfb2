package view

import (
	"errors"
	"net/http"
	"time"

	"github.com/sluice-mcp/sluice/internal/answer"
	"github.com/sluice-mcp/sluice/internal/run"
	"github.com/sluice-mcp/sluice/internal/wire"
)

// eventWriter gathers events and writes them in one go.
type eventWriter struct {
	w   http.ResponseWriter
	rc  *http.ResponseController
	buf []byte
	err error
}

// startEvents begins a stream. Its head goes out with the first flush.
func startEvents(w http.ResponseWriter) *eventWriter {
	head := w.Header()
	head.Set("Content-Type", "text/event-stream")
	head.Set("Cache-Control", "no-cache, no-transform")
	head.Set("X-Accel-Buffering", "no") // nginx would hold events back
	w.WriteHeader(http.StatusOK)
	return &eventWriter{w: w, rc: http.NewResponseController(w)}
}

// event writes an event, and reports whether it is one for the client.
func (o *eventWriter) event(stream string, e run.Event, ids bool) bool {
	id := ""
	if ids {
		id = wire.EventID(stream, e.Index)
	}
	switch e.Kind {
	case run.Message, run.Response, run.Last:
		o.buf = wire.AppendEvent(o.buf, "message", id, e.Data)
	case run.Prime:
		if !ids {
			return false
		}
		o.buf = wire.AppendEvent(o.buf, "", id, nil)
	default:
		return false
	}
	return true
}

// lastID repeats the ID that a client came with. It has no data, so it is no event. Some clients (the SDK's) remember an ID for
// the connection that brought it only: without this line they would not come back when the connection is
// lost before it has brought another.
func (o *eventWriter) lastID(stream string, index int64) {
	o.buf = append(append(append(o.buf, "id: "...), wire.EventID(stream, index)...), '\n')
}

// flush sends what was gathered. A client that does not take it in time is given up: a
// connection that stalls must not hold more than itself.
func (o *eventWriter) flush() {
	if o.err != nil {
		return
	}
	_ = o.rc.SetWriteDeadline(time.Now().Add(answer.Stall)) // not every writer has deadlines
	if len(o.buf) > 0 {
		_, o.err = o.w.Write(o.buf)
		o.buf = o.buf[:0]
	}
	if o.err == nil {
		// A writer that cannot flush, such as that of http.TimeoutHandler, shows it all at the end. That is no client
		// that has left.
		if err := o.rc.Flush(); !errors.Is(err, http.ErrNotSupported) {
			o.err = err
		}
	}
	_ = o.rc.SetWriteDeadline(time.Time{})
}

// SendBack asks a client to come back for its stream in a moment, when the balancer has noticed that this replica leaves. after
// is the index of the last event that it has, -1 if it has none.
//
// It answers rather than refuses, because a GET has no other answer (Streamable HTTP, "Listening for Messages from the Server"),
// and some clients (the SDK's) give the whole session up when they are refused a stream, with the calls that run in it.
func SendBack(w http.ResponseWriter, stream string, after int64) {
	out := startEvents(w)
	if after >= 0 {
		out.lastID(stream, after)
	}
	out.buf = wire.AppendRetry(out.buf, 4*answer.RetryAfter)
	out.flush()
}
