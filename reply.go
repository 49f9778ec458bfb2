package sluice

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sluice-mcp/sluice/internal/run"
	"github.com/sluice-mcp/sluice/internal/wire"
)

// writeError answers with a JSON-RPC error. An empty id means that none could be read.
func writeError(w http.ResponseWriter, status int, id wire.ID, e *wire.Error) {
	writeJSON(w, status, wire.AppendError(nil, id, e))
}

// writeBusy answers that a limit was reached or that the server is leaving; the client is told when to come back.
func writeBusy(w http.ResponseWriter, status int, id wire.ID, why string, after time.Duration) {
	w.Header().Set("Retry-After", strconv.Itoa(int(max(1, after.Seconds()))))
	writeError(w, status, id, &wire.Error{Code: wire.CodeBusy, Message: why})
}

func writeJSON(w http.ResponseWriter, status int, body []byte) {
	head := w.Header()
	head.Set("Content-Type", "application/json")
	if len(body) > counted {
		head.Set("Content-Length", strconv.Itoa(len(body)))
	}
	w.WriteHeader(status)
	if len(body) <= socketRoom {
		_, _ = w.Write(body) //nolint:gosec // JSON, and said to be; a client that is gone cannot be told so
		return
	}
	rc := http.NewResponseController(w)
	for part := range slices.Chunk(body, socketRoom) {
		_ = rc.SetWriteDeadline(time.Now().Add(stall)) // not every writer has deadlines
		if _, err := w.Write(part); err != nil {
			return // the deadline stays: what is left must not wait either
		}
	}
	_ = rc.SetWriteDeadline(time.Time{})
}

// counted is how long a body is at most whose length net/http finds out by itself, which is cheaper than to be told.
const counted = 2048

// socketRoom is what the buffers of a connection take without anybody reading, roughly. More could wait for ever for a
// client that does not read, and hold its body all the while.
const socketRoom = 64 << 10

const (
	// patience is how long a call may be silent before its response becomes a stream.
	patience = 250 * time.Millisecond
	// longPatience is for a method that may not exist: that must be said with a status of 404.
	longPatience = 5 * time.Second
	// stall bounds one write to a client that does not read.
	stall = 20 * time.Second
	// retryAfter is what a client is told to wait before it comes back to a stream that the server let go.
	retryAfter = 250 * time.Millisecond
)

// view is how one HTTP response shows a stream.
type view struct {
	// begin is called before the first byte of a stream; what it does must come before the client can see an event.
	begin func() error
	// prelude is written before all events.
	prelude []byte
	// ids tells that events have IDs to come back with.
	ids bool
	// gone is called when the client has left before the end.
	gone func()
	// timeUp answers the call with an error, because the platform will end the HTTP request in a moment. Nil where the client
	// comes back anyway.
	timeUp func()
	// resumed tells that the client comes back after the event with the index after. When nothing has come for it in the
	// time of remind, it is told its ID again; 0 is never.
	resumed bool
	after   int64
	remind  time.Duration
	// batch tells that responses come in an array, also a single one.
	batch bool
	// patience is how long the call may be silent before its response becomes a stream.
	patience  time.Duration
	keepAlive time.Duration
}

// writeWhole answers with the responses of a call, or of a batch, in one body.
func (v view) writeWhole(w http.ResponseWriter, responses []run.Event) {
	if !v.batch {
		if responses[0].Status == http.StatusServiceUnavailable {
			w.Header().Set("Retry-After", "1")
		}
		writeJSON(w, responses[0].Status, responses[0].Data)
		return
	}
	body := []byte{'['}
	for i, e := range responses {
		if i > 0 {
			body = append(body, ',')
		}
		body = append(body, e.Data...)
	}
	writeJSON(w, http.StatusOK, append(body, ']'))
}

// answerRoom is enough for the answer of an ordinary call, so that it is written in one go.
const answerRoom = 512

// answers are rooms that no call uses any more (250 bytes of each call).
var answers = sync.Pool{New: func() any { return new([answerRoom]byte) }}

// roomForAnswer returns an empty slice with room for an answer.
func roomForAnswer() []byte { return answers.Get().(*[answerRoom]byte)[:0] } //nolint:forcetypeassert // nothing else is in there

// reuse takes the rooms of responses that have been written. Nobody else has them: who answers a run gives the bytes away, and a
// volatile stream shows them once.
func reuse(responses []run.Event) {
	for _, e := range responses {
		if n := cap(e.Data); n >= answerRoom && n < 2*answerRoom { // not a large one, whose rest would be kept, too
			answers.Put((*[answerRoom]byte)(e.Data[:answerRoom]))
		}
	}
}

// respond shows a run's stream in the cheapest shape: one JSON body if there is only a
// response and it comes soon, else server-sent events.
func (h *Handler) respond(w http.ResponseWriter, r *http.Request, st *run.Stream, rd *run.Reader, v view) {
	// Also when its connection was let go: nobody must wait for a reader that reads no more.
	defer rd.Detach()
	// The call's goroutine is next in line. A fast call has answered when this one is back, and then needs neither a
	// timer nor a channel to be waited for with (1 of 16 µs, 300 bytes).
	runtime.Gosched()
	if responses, whole, _ := rd.Whole(); whole && len(responses) > 0 {
		v.writeWhole(w, responses)
		reuse(responses)
		return
	}
	timer, ok := h.timers.Get().(*time.Timer) // kept, because one is 250 bytes of a fast call
	if ok {
		timer.Reset(v.patience)
	} else {
		timer = time.NewTimer(v.patience)
	}
	defer func() {
		timer.Stop()
		h.timers.Put(timer)
	}()
	done := r.Context().Done()
	for {
		responses, whole, speaks := rd.Whole()
		if whole && len(responses) > 0 {
			v.writeWhole(w, responses)
			reuse(responses)
			return
		}
		if whole { // cancelled: there is nothing to say, and the stream says so by ending
			show(w, r, st, rd, v)
			return
		}
		if _, released := rd.Released(); speaks || released {
			break
		}
		select {
		case <-rd.Wake():
			continue
		case <-timer.C:
		case <-done:
			if !timeIsUp(r) || v.timeUp == nil {
				v.gone()
				return
			}
			done = nil
			v.timeUp()
			continue
		}
		break
	}
	if v.begin() != nil {
		// The call is running: to refuse it now would have it sent again. It is shown as it
		// comes, but without IDs there is no coming back to it.
		v.ids = false
	}
	show(w, r, st, rd, v)
}

// show writes a stream as server-sent events until it ends, is let go, or the client leaves.
func show(w http.ResponseWriter, r *http.Request, st *run.Stream, rd *run.Reader, v view) {
	out := startEvents(w)
	out.buf = append(out.buf, v.prelude...)
	out.flush()

	done := r.Context().Done()
	known := v.resumed     // the client has an ID to come back with
	reminded := !v.resumed // and it came on this connection, if it has one
	pause := v.keepAlive   // until something is said, if only to be heard
	if v.resumed && v.remind > 0 {
		pause = min(pause, v.remind)
	}
	last := time.Now()
	quiet := time.AfterFunc(pause, rd.Rouse) // a ticker would be 300 bytes of each client that waits
	defer quiet.Stop()
	first := !v.ids && len(v.prelude) == 0
	for {
		events, ended, err := rd.Next()
		if first && len(events) == 0 && !ended {
			// Some proxies (nginx, over HTTP/2) pass the headers on with the first byte of the body only.
			out.buf = append(out.buf, ":\n\n"...)
			out.flush()
		}
		first = false
		for _, e := range events {
			if out.event(st.ID, e, v.ids) {
				known, reminded = v.ids, true
			}
		}
		if retry, released := rd.Released(); released && !ended && (known || err != nil) {
			if !reminded {
				out.lastID(st.ID, v.after)
			}
			if retry > 0 {
				out.buf = wire.AppendRetry(out.buf, retry)
			}
			out.flush()
			return
		}
		waited := len(events) == 0 && time.Since(last) >= pause
		switch {
		case !waited || ended || err != nil:
		case !reminded && v.remind > 0:
			out.lastID(st.ID, v.after)
			out.buf = append(out.buf, '\n')
			reminded = true
		default:
			out.buf = append(out.buf, wire.KeepAlive...)
		}
		if waited || len(events) > 0 {
			out.flush()
			pause, last = v.keepAlive, time.Now()
			quiet.Reset(pause)
		}
		if ended || err != nil || rd.Taken() {
			return
		}
		if out.err != nil {
			v.gone()
			return
		}
		select {
		case <-rd.Wake():
		case <-done:
			switch {
			case timeIsUp(r) && known:
				if !reminded {
					out.lastID(st.ID, v.after)
				}
				out.buf = wire.AppendRetry(out.buf, retryAfter)
				out.flush()
			case timeIsUp(r) && v.timeUp != nil:
				done = nil
				v.timeUp()
				continue
			}
			v.gone()
			return
		}
	}
}

// timeIsUp tells the end of the time that a platform gives a request from a client that has left.
func timeIsUp(r *http.Request) bool { return errors.Is(r.Context().Err(), context.DeadlineExceeded) }

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
		o.buf = wire.AppendEvent(o.buf, "", id, nil)
	default:
		return false
	}
	return true
}

// lastID repeats the ID that a client came with. Without data this is no event, but some clients (the SDK's) remember an ID only for
// the connection that brought it: if this one is lost before it has brought another, they would not come back again.
func (o *eventWriter) lastID(stream string, index int64) {
	o.buf = append(append(append(o.buf, "id: "...), wire.EventID(stream, index)...), '\n')
}

// flush sends what was gathered. A client that does not take it in time is given up: a
// connection that stalls must not hold more than itself.
func (o *eventWriter) flush() {
	if o.err != nil {
		return
	}
	_ = o.rc.SetWriteDeadline(time.Now().Add(stall)) // not every writer has deadlines
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

func isJSON(h http.Header) bool {
	values := h["Content-Type"]
	if len(values) != 1 {
		return false
	}
	media, _, _ := strings.Cut(values[0], ";")
	return strings.EqualFold(strings.TrimSpace(media), "application/json")
}

// acceptsBoth reports whether the client takes either shape of an answer, as every revision requires of it.
func acceptsBoth(h http.Header) bool {
	json, stream := accepts(h)
	return json && stream
}

func accepts(h http.Header) (json, stream bool) {
	for _, line := range h["Accept"] {
		if line == "application/json, text/event-stream" { // what nearly everybody sends
			return true, true
		}
		for item := range strings.SplitSeq(line, ",") {
			media, _, _ := strings.Cut(item, ";")
			switch strings.ToLower(strings.TrimSpace(media)) {
			case "application/json", "application/*":
				json = true
			case "text/event-stream", "text/*":
				stream = true
			case "*/*":
				return true, true
			}
		}
	}
	return json, stream
}

// digest shortens a value to something that can be compared but not used.
func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:16])
}
