package view

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-mcp/sluice/internal/run"
	"github.com/sluice-mcp/sluice/store/memory"
)

// tick is the time between two things that a call does.
const tick = 100 * time.Millisecond

// A shown is a stream that is being shown to a client.
type shown struct {
	stream *run.Stream
	reader *run.Reader
	leave  context.CancelFunc // the client hangs up
	w      *client
	over   chan struct{} // closed when the response is
	took   time.Duration
}

// respond shows a stream as a view says, on a goroutine of its own. The client's request ends when limit, if it is not zero, is over.
func respond(t *testing.T, st *run.Stream, v View, limit time.Duration) *shown {
	t.Helper()
	ctx, leave := context.WithCancel(t.Context())
	if limit > 0 {
		ctx, leave = context.WithTimeout(ctx, limit)
	}
	t.Cleanup(leave)
	s := &shown{stream: st, reader: st.Attach(-1), leave: leave, w: &client{ResponseRecorder: httptest.NewRecorder()}, over: make(chan struct{})}
	if v.Patience == 0 {
		v.Patience = Patience
	}
	begun := time.Now()
	go func() {
		defer close(s.over)
		r := httptest.NewRequestWithContext(ctx, http.MethodPost, "http://localhost/mcp", nil)
		(&Renderer{KeepAlive: 10 * time.Second}).Respond(s.w, r, st, s.reader, v)
		s.took = time.Since(begun)
	}()
	return s
}

// want checks the whole response.
func (s *shown) want(t *testing.T, contentType, body string) {
	t.Helper()
	<-s.over
	if got := s.w.Header().Get("Content-Type"); got != contentType || s.w.Body.String() != body {
		t.Errorf("%s: %q, want %s: %q", got, s.w.Body, contentType, body)
	}
}

// client notes how it is written to.
type client struct {
	*httptest.ResponseRecorder
	mu       sync.Mutex // of the body
	flush    error      // what flushing it comes to
	write    error
	deadline time.Time
}

func (c *client) FlushError() error { return c.flush }

func (c *client) Write(p []byte) (int, error) {
	if c.write != nil {
		return 0, c.write
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ResponseRecorder.Write(p)
}

// text is what has been written until now.
func (c *client) text() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.Body.String()
}

func (c *client) SetWriteDeadline(at time.Time) error {
	c.deadline = at
	return nil
}

const (
	asJSON   = "application/json"
	asEvents = "text/event-stream"
)

// event is a message as the client reads it.
func event(id, data string) string {
	if id != "" {
		id = "id: " + id + "\n"
	}
	return "event: message\n" + id + "data: " + data + "\n\n"
}

func say(t *testing.T, st *run.Stream, data string) {
	t.Helper()
	if err := st.Send(t.Context(), []byte(data)); err != nil {
		t.Error(err)
	}
}

func end(t *testing.T, st *run.Stream, data string) {
	t.Helper()
	if err := st.Respond([]byte(data), http.StatusOK); err != nil {
		t.Error(err)
	}
}

// The shape is decided as late as can be: a call that says nothing but its response, and says it soon, is one JSON body.
func TestShape(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		owed  int
		view  View
		call  func(t *testing.T, st *run.Stream)
		shape string
		body  string
	}{
		"at once": {1, View{}, func(t *testing.T, st *run.Stream) { end(t, st, "R") }, asJSON, "R"},
		"soon":    {1, View{}, func(t *testing.T, st *run.Stream) { time.Sleep(tick); end(t, st, "R") }, asJSON, "R"},
		"late":    {1, View{}, func(t *testing.T, st *run.Stream) { time.Sleep(3 * tick); end(t, st, "R") }, asEvents, ":\n\n" + event("", "R")},
		"late, but patience is long": {
			1,
			View{Patience: LongPatience},
			func(t *testing.T, st *run.Stream) { time.Sleep(4 * time.Second); end(t, st, "R") }, asJSON, "R",
		},
		"message first": {
			1,
			View{},
			func(t *testing.T, st *run.Stream) {
				time.Sleep(tick)
				say(t, st, "m")
				time.Sleep(tick)
				end(t, st, "R")
			},
			asEvents, event("", "m") + event("", "R"),
		},
		"message and response together": {
			1, View{}, func(t *testing.T, st *run.Stream) { say(t, st, "m"); end(t, st, "R") }, asEvents, event("", "m") + event("", "R"),
		},
		"with IDs": {
			1,
			View{IDs: true},
			func(t *testing.T, st *run.Stream) { say(t, st, "m"); end(t, st, "R") }, asEvents, event("S-0", "m") + event("S-1", "R"),
		},
		"prelude": {
			1,
			View{Prelude: []byte("event: endpoint\ndata: /\n\n")},
			func(t *testing.T, st *run.Stream) { say(t, st, "m"); end(t, st, "R") },
			asEvents, "event: endpoint\ndata: /\n\n" + event("", "m") + event("", "R"),
		},
		"cancelled": {1, View{}, func(_ *testing.T, st *run.Stream) { time.Sleep(tick); st.Forgo() }, asEvents, ""},
		"batch":     {2, View{Batch: true}, func(t *testing.T, st *run.Stream) { end(t, st, "1"); time.Sleep(tick); end(t, st, "2") }, asJSON, "[1,2]"},
		"batch of one": {
			1, View{Batch: true}, func(t *testing.T, st *run.Stream) { end(t, st, "1") }, asJSON, "[1]",
		},
		"batch, one of two late": {
			2,
			View{Batch: true},
			func(t *testing.T, st *run.Stream) { end(t, st, "1"); time.Sleep(3 * tick); end(t, st, "2") },
			asEvents, event("", "1") + event("", "2"),
		},
		"batch, one cancelled": {
			2, View{Batch: true}, func(t *testing.T, st *run.Stream) { end(t, st, "1"); st.Forgo() }, asJSON, "[1]",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				st := run.NewStream("S", c.owed)
				s := respond(t, st, c.view, 0)
				synctest.Wait()
				c.call(t, st)
				s.want(t, c.shape, c.body)
			})
		})
	}
}

// The status of a response is that of the HTTP response if it is all there is, and 200 if the response became a stream.
func TestStatus(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		owed, status int
		batch, spoke bool
		want         int
		after        string
	}{
		"alone":          {1, http.StatusNotFound, false, false, http.StatusNotFound, ""},
		"to come again":  {1, http.StatusServiceUnavailable, false, false, http.StatusServiceUnavailable, "1"},
		"one too many":   {1, http.StatusTooManyRequests, false, false, http.StatusTooManyRequests, "1"},
		"behind another": {1, http.StatusNotFound, false, true, http.StatusOK, ""},
		"in a batch":     {1, http.StatusNotFound, true, false, http.StatusOK, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			st := run.NewStream("S", c.owed)
			if c.spoke {
				say(t, st, "m")
			}
			if err := st.Respond([]byte("R"), c.status); err != nil {
				t.Fatal(err)
			}
			s := respond(t, st, View{Batch: c.batch}, 0)
			<-s.over
			if got := s.w.Header().Get("Retry-After"); s.w.Code != c.want || got != c.after {
				t.Errorf("HTTP %d, Retry-After %q", s.w.Code, got)
			}
		})
	}
}

// Begin comes before the first byte, only for a stream, and when it fails there are no IDs to come back with.
func TestBegin(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spoke bool
		err   error
		begun int
		body  string
	}{
		"JSON":   {false, nil, 0, "R"},
		"stream": {true, nil, 1, event("S-0", "m") + event("S-1", "R")},
		"fails":  {true, errors.New("the store is away"), 1, event("", "m") + event("", "R")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			st := run.NewStream("S", 1)
			if c.spoke {
				say(t, st, "m")
			}
			end(t, st, "R")
			w, begun := httptest.NewRecorder(), 0
			v := View{IDs: true, Patience: Patience, Begin: func() error {
				begun++
				if w.Body.Len() > 0 {
					t.Error("the client has seen something already")
				}
				return c.err
			}}
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "http://localhost/mcp", nil)
			(&Renderer{KeepAlive: time.Hour}).Respond(w, r, st, st.Attach(-1), v)
			if begun != c.begun || w.Body.String() != c.body {
				t.Errorf("begun %d times, %q", begun, w.Body)
			}
		})
	}
}

// A quiet stream has a comment now and then, counted from what was last said.
func TestKeepAlive(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		st := run.NewStream("S", 1)
		s := respond(t, st, View{}, 0)
		time.Sleep(16 * time.Second) // a stream after 0.25 s, and a comment at 10.25 s
		say(t, st, "m")
		time.Sleep(9 * time.Second) // nothing until 26 s
		synctest.Wait()
		const before = ":\n\n: keep-alive\n\n"
		if want := before + event("", "m"); s.w.text() != want {
			t.Errorf("%q, want %q", s.w.text(), want)
		}
		time.Sleep(12 * time.Second) // 26 s and 36 s
		end(t, st, "R")
		s.want(t, asEvents, before+event("", "m")+": keep-alive\n\n: keep-alive\n\n"+event("", "R"))
	})
}

// Who leaves before the end is noticed at once, whatever the response looks like by then.
func TestClientLeaves(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spoke, over bool
		want        int
	}{
		"before it is a stream": {false, false, 1},
		"from a stream":         {true, false, 1},
		"after the end":         {true, true, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				st, gone := run.NewStream("S", 1), 0
				if c.spoke {
					say(t, st, "m")
				}
				s := respond(t, st, View{Gone: func() { gone++ }, TimeUp: func() { t.Error("took it for the end of its time") }}, 0)
				time.Sleep(tick)
				if c.over {
					end(t, st, "R")
					synctest.Wait()
				}
				s.leave()
				<-s.over
				if gone != c.want || s.took != tick {
					t.Errorf("gone %d times, after %v", gone, s.took)
				}
			})
		})
	}
}

// A connection that fails is a client that has left. One that cannot flush is not: it shows everything at the end.
func TestWriters(t *testing.T) {
	t.Parallel()
	reset := errors.New("connection reset")
	for name, c := range map[string]struct {
		flush, write error
		gone         int
		body         string
	}{
		"cannot flush":   {http.ErrNotSupported, nil, 0, event("", "m") + event("", "R")},
		"flush fails":    {reset, nil, 1, event("", "m")},
		"cannot write":   {nil, reset, 1, ""},
		"nothing amiss":  {nil, nil, 0, event("", "m") + event("", "R")},
		"cannot do both": {http.ErrNotSupported, reset, 1, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				st, gone := run.NewStream("S", 1), 0
				w := &client{ResponseRecorder: httptest.NewRecorder(), flush: c.flush, write: c.write}
				r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "http://localhost/mcp", nil)
				reader := st.Attach(-1)
				go func() {
					time.Sleep(tick)
					say(t, st, "m")
					time.Sleep(tick)
					end(t, st, "R")
				}()
				(&Renderer{KeepAlive: time.Hour}).Show(w, r, st, reader, View{Gone: func() { gone++ }})
				got := strings.TrimPrefix(w.Body.String(), ":\n\n")
				if gone != c.gone || c.gone == 0 && got != c.body {
					t.Errorf("gone %d times, %q", gone, got)
				}
				if !w.deadline.IsZero() {
					t.Error("a deadline was left on the connection")
				}
				time.Sleep(time.Second)
			})
		})
	}
}

// The end of the time that a platform gives a request is not a client that leaves: the call is answered, or the client, if it
// has an ID, is told to come back.
func TestTimeUp(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spoke, ids bool
		shape      string
		body       string
	}{
		"before it is a stream": {false, false, asJSON, "late"},
		"in a stream":           {true, false, asEvents, event("", "m") + event("", "late")},
		"in one with IDs":       {true, true, asEvents, event("S-0", "m") + "retry: 250\n\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				st := run.NewStream("S", 1)
				if c.spoke {
					say(t, st, "m")
				}
				s := respond(t, st, View{IDs: c.ids, TimeUp: func() { end(t, st, "late") }}, tick)
				s.want(t, c.shape, c.body)
				if s.took != tick {
					t.Errorf("took %v", s.took)
				}
			})
		})
	}
}

// TimeUp answers a call with an error and a status that says whose time was over.
func TestTimeUpOfARun(t *testing.T) {
	t.Parallel()
	r := run.Start(t.Context(), "", "7", "tools/call", run.NewStream("S", 1))
	TimeUp(r)
	responses, whole, _ := r.Stream.Attach(-1).Whole()
	if !whole || len(responses) != 1 || responses[0].Status != http.StatusGatewayTimeout || !bytes.Contains(responses[0].Data, []byte(`"id":7,"error"`)) {
		t.Errorf("%v", responses)
	}
}

// A stream that is let go closes its connection; its client is told how long to wait, and again which ID it has.
func TestReleased(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		view View
		say  bool
		want string
	}{
		"after an event":         {View{IDs: true}, true, event("S-0", "m") + "retry: 500\n\n"},
		"resumed, nothing new":   {View{IDs: true, Resumed: true, After: 4}, false, "id: S-4\nretry: 500\n\n"},
		"resumed, something new": {View{IDs: true, Resumed: true, After: 4}, true, event("S-0", "m") + "retry: 500\n\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				st := run.NewStream("S", 1)
				if c.say {
					say(t, st, "m")
				}
				s := respond(t, st, c.view, 0)
				synctest.Wait()
				st.Release(500 * time.Millisecond)
				s.want(t, asEvents, c.want)
			})
		})
	}
}

// A client without an ID has nothing to come back with: its stream goes on until it has one.
func TestReleasedWithoutAnID(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		st := run.NewStream("S", 1)
		s := respond(t, st, View{}, 0)
		synctest.Wait()
		st.Release(500 * time.Millisecond)
		time.Sleep(time.Second)
		say(t, st, "m")
		end(t, st, "R")
		s.want(t, asEvents, ":\n\n"+event("", "m")+event("", "R"))
	})
}

// A client that came back is told its ID again, once, if nothing has come for it: it may know it for this connection only.
func TestRemind(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		st := run.NewStream("S", 1)
		s := respond(t, st, View{Resumed: true, After: 4, IDs: true, Remind: time.Second}, 0)
		time.Sleep(15 * time.Second) // an ID after 1.25 s, and a comment at 11.25 s
		end(t, st, "R")
		s.want(t, asEvents, "id: S-4\n\n: keep-alive\n\n"+event("S-0", "R"))
	})
}

// Who comes back takes the stream over: the connection before ends, and says nothing more.
func TestTaken(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		st := run.NewStream("S", 1)
		say(t, st, "a")
		gone := 0
		first := respond(t, st, View{IDs: true, Gone: func() { gone++ }}, 0)
		synctest.Wait()
		second := respond(t, st, View{IDs: true}, 0)
		first.want(t, asEvents, event("S-0", "a"))
		if gone != 0 {
			t.Error("taken for a client that has left")
		}
		second.leave()
		<-second.over
	})
}

// The priming event tells an ID, and nothing else: where there are no IDs it is not said.
func TestPrimingEvent(t *testing.T) {
	t.Parallel()
	for _, ids := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			shared := memory.New()
			defer func() { _ = shared.Close() }()
			st := run.NewStream("S", 1)
			s := respond(t, st, View{IDs: ids, Begin: func() error { st.Persist(shared, "log", true); return nil }}, 0)
			time.Sleep(time.Second)
			end(t, st, "R")
			if ids {
				s.want(t, asEvents, "id: S-0\ndata: \n\n"+event("S-1", "R"))
			} else {
				s.want(t, asEvents, ":\n\n"+event("", "R"))
			}
		})
	}
}

func TestSendBack(t *testing.T) {
	t.Parallel()
	for after, want := range map[int64]string{-1: "retry: 1000\n\n", 0: "id: S-0\nretry: 1000\n\n", 7: "id: S-7\nretry: 1000\n\n"} {
		w := httptest.NewRecorder()
		SendBack(w, "S", after)
		if w.Code != http.StatusOK || w.Body.String() != want || !w.Flushed {
			t.Errorf("after %d: HTTP %d, %q", after, w.Code, w.Body)
		}
	}
}

// A room that has been used is empty, and one that was outgrown is not kept.
func TestRoom(t *testing.T) {
	t.Parallel()
	if r := Room(); len(r) != 0 || cap(r) != roomSize {
		t.Errorf("%d of %d bytes", len(r), cap(r))
	}
	for _, size := range []int{0, 1, roomSize, 2*roomSize - 1, 2 * roomSize, 1 << 20} {
		reuse([]run.Event{{Data: append(Room(), make([]byte, size)...)}, {Data: make([]byte, size)}})
		if r := Room(); len(r) != 0 || cap(r) != roomSize {
			t.Errorf("after one of %d bytes: %d of %d", size, len(r), cap(r))
		}
	}
}
