// Package view shows the stream of a run as one HTTP response: a JSON body if that is enough, else server-sent events as they
// come. It decides the shape as late as it can. It knows runs and their streams, and nothing of sessions, of
// revisions, or of the server that is called.
package view

import (
	"context"
	"errors"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/sluice-mcp/sluice/internal/answer"
	"github.com/sluice-mcp/sluice/internal/run"
	"github.com/sluice-mcp/sluice/internal/wire"
	"github.com/sluice-mcp/sluice/observe"
)

const (
	// Patience is how long a call may be silent before its response becomes a stream.
	Patience = 250 * time.Millisecond
	// LongPatience is for a method that may not exist: that must be said with a status of 404.
	LongPatience = 5 * time.Second
)

// A View says how one HTTP response shows a stream.
type View struct {
	// Begin is called before the first byte of a stream. What it does must come before the client can see an event. When it
	// fails, events have no IDs. Nil does nothing.
	Begin func() error
	// Prelude is written before all events.
	Prelude []byte
	// IDs tells that events have IDs to come back with.
	IDs bool
	// Gone is called when the client has left before the end. Nil does nothing.
	Gone func()
	// TimeUp answers the call with an error, because the platform will end the HTTP request in a moment. Nil where the client
	// comes back anyway.
	TimeUp func()
	// Resumed tells that the client comes back after the event with the index After.
	Resumed bool
	After   int64
	// Remind is when a client that came back is told its event ID again, if nothing has come for it until then. Zero is never.
	Remind time.Duration
	// Batch tells that responses come in an array, also a single one.
	Batch bool
	// Patience is how long the call may be silent before its response becomes a stream.
	Patience time.Duration
	// Kind is what an observer is told of the stream.
	Kind observe.StreamKind
}

// A Renderer shows the streams of one endpoint. It is safe for concurrent use.
type Renderer struct {
	// KeepAlive is the time between comments on a quiet stream.
	KeepAlive time.Duration
	// Observer is told of the streams that are shown. It may be nil.
	Observer observe.Observer

	// timers are those that no response uses any more: one is 250 bytes of a call. They are not shared by all endpoints of the
	// process, because a timer must not leave the test bubble (testing/synctest) that it was made in.
	timers sync.Pool
}

// Respond shows a run's stream in the cheapest shape: one JSON body if there is only a
// response and it comes soon, else server-sent events. It returns when the HTTP response is over.
func (n *Renderer) Respond(w http.ResponseWriter, r *http.Request, st *run.Stream, rd *run.Reader, v View) {
	// Also when its connection was let go: nobody must wait for a reader that reads no more.
	defer rd.Detach()
	// The call's goroutine is next in line. A fast call has answered when this one is back, and then needs neither a
	// timer nor a channel to be waited for with (1 of 16 µs, 300 bytes).
	runtime.Gosched()
	if responses, whole, _ := rd.Whole(); whole && len(responses) > 0 {
		v.writeWhole(w, rd, responses)
		return
	}
	timer, ok := n.timers.Get().(*time.Timer)
	if ok {
		timer.Reset(v.Patience)
	} else {
		timer = time.NewTimer(v.Patience)
	}
	defer func() {
		timer.Stop()
		n.timers.Put(timer)
	}()
	done := r.Context().Done()
	for {
		responses, whole, speaks := rd.Whole()
		if whole && len(responses) > 0 {
			v.writeWhole(w, rd, responses)
			return
		}
		if whole { // cancelled, or taken over: there is nothing to say, and the stream says so by ending
			n.Show(w, r, st, rd, v)
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
			if !timeIsUp(r) || v.TimeUp == nil {
				v.gone(rd)
				return
			}
			done = nil
			v.TimeUp()
			continue
		}
		break
	}
	if !rd.Turn() { // at the last moment
		if responses, _, _ := rd.Whole(); len(responses) > 0 {
			v.writeWhole(w, rd, responses)
			return
		}
	}
	if v.Begin != nil && v.Begin() != nil {
		// The call is running: to refuse it now would have it sent again. It is shown as it
		// comes, but without IDs there is no coming back to it.
		v.IDs = false
	}
	n.Show(w, r, st, rd, v)
}

// writeWhole answers with the responses of a call, or of a batch, in one body.
func (v View) writeWhole(w http.ResponseWriter, rd *run.Reader, responses []run.Event) {
	defer func() {
		if rd.Spend() {
			reuse(responses)
		}
	}()
	if !v.Batch {
		switch responses[0].Status {
		case http.StatusServiceUnavailable, http.StatusTooManyRequests:
			w.Header().Set("Retry-After", "1")
		}
		answer.JSON(w, responses[0].Status, responses[0].Data)
		return
	}
	body := []byte{'['}
	for i, e := range responses {
		if i > 0 {
			body = append(body, ',')
		}
		body = append(body, e.Data...)
	}
	answer.JSON(w, http.StatusOK, append(body, ']'))
}

// Show writes a stream as server-sent events until it ends, is let go, or the client leaves.
func (n *Renderer) Show(w http.ResponseWriter, r *http.Request, st *run.Stream, rd *run.Reader, v View) {
	rd.Turn()
	if n.Observer == nil {
		n.show(w, r, st, rd, v)
		return
	}
	begun := time.Now()
	// A copy: if v itself got away, so would its functions, and each call would pay for them (3 allocations).
	kind := observe.StreamKind(strings.Clone(string(v.Kind)))
	n.Observer.Event(r.Context(), observe.StreamOpened{Kind: kind, Resumed: v.Resumed})
	reason := n.show(w, r, st, rd, v)
	n.Observer.Event(r.Context(), observe.StreamClosed{Kind: kind, Reason: reason, Duration: time.Since(begun)})
}

// show returns why it shows no more.
func (n *Renderer) show(w http.ResponseWriter, r *http.Request, st *run.Stream, rd *run.Reader, v View) observe.CloseReason {
	out := startEvents(w)
	out.buf = append(out.buf, v.Prelude...)
	out.flush()

	done := r.Context().Done()
	known := v.Resumed     // the client has an ID to come back with
	reminded := !v.Resumed // and it came on this connection, if it has one
	pause := n.KeepAlive   // until something is said, if only to be heard
	if v.Resumed && v.Remind > 0 {
		pause = min(pause, v.Remind)
	}
	last := time.Now()
	quiet := time.AfterFunc(pause, rd.Rouse) // a ticker would be 300 bytes of each client that waits
	defer quiet.Stop()
	first := !v.IDs && len(v.Prelude) == 0
	for {
		events, ended, err := rd.Next()
		for _, e := range events {
			if out.event(st.ID, e, v.IDs && !e.Unlogged) && !e.Unlogged {
				known, reminded = v.IDs, true
			}
		}
		if first && len(out.buf) == 0 && !ended {
			// Some proxies (nginx, over HTTP/2) pass the headers on with the first byte of the body only.
			out.buf = append(out.buf, ":\n\n"...)
			out.flush()
		}
		first = false
		if retry, released := rd.Released(); released && !ended && (known || err != nil) {
			if !reminded {
				out.lastID(st.ID, v.After)
			}
			if retry > 0 {
				out.buf = wire.AppendRetry(out.buf, retry)
			}
			out.flush()
			return observe.CloseReleased
		}
		waited := len(events) == 0 && time.Since(last) >= pause
		switch {
		case !waited || ended || err != nil:
		case !reminded && v.Remind > 0:
			out.lastID(st.ID, v.After)
			out.buf = append(out.buf, '\n')
			reminded = true
		default:
			out.buf = append(out.buf, wire.KeepAlive...)
		}
		if waited || len(events) > 0 {
			out.flush()
			pause, last = n.KeepAlive, time.Now()
			quiet.Reset(pause)
		}
		switch {
		case ended:
			return observe.CloseEnded
		case err != nil:
			return observe.CloseFailed
		case rd.Taken():
			return observe.CloseResumed
		case errors.Is(out.err, os.ErrDeadlineExceeded):
			v.gone(rd)
			return observe.CloseStalled
		case out.err != nil:
			v.gone(rd)
			return observe.CloseGone
		}
		select {
		case <-rd.Wake():
		case <-done:
			reason := observe.CloseGone
			switch {
			case timeIsUp(r) && known:
				reason = observe.CloseTime
				if !reminded {
					out.lastID(st.ID, v.After)
				}
				out.buf = wire.AppendRetry(out.buf, answer.RetryAfter)
				out.flush()
			case timeIsUp(r) && v.TimeUp != nil:
				done = nil
				v.TimeUp()
				continue
			}
			v.gone(rd)
			return reason
		}
	}
}

func (v View) gone(rd *run.Reader) {
	rd.Detach() // first: who has taken the stream over is not gone
	if v.Gone != nil {
		v.Gone()
	}
}

// timeIsUp tells the end of the time that a platform gives a request from a client that has left.
func timeIsUp(r *http.Request) bool { return errors.Is(r.Context().Err(), context.DeadlineExceeded) }

// TimeUp answers a call whose HTTP request the platform is about to end.
func TimeUp(r *run.Run) {
	e := wire.Internal("The call took longer than the platform gives a request")
	r.Answer(wire.AppendError(nil, r.ID, e), http.StatusGatewayTimeout)
}
