package view

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-mcp/sluice/internal/run"
	"github.com/sluice-mcp/sluice/observe"
)

// streams are what an observer is told of.
type streams struct{ told []observe.Event }

func (*streams) Call(ctx context.Context, _ observe.Call) (context.Context, func(observe.End)) {
	return ctx, nil
}

func (*streams) Ask(context.Context, observe.Ask) (observe.Trace, func(observe.End)) {
	return observe.Trace{}, nil
}
func (s *streams) Event(_ context.Context, e observe.Event) { s.told = append(s.told, e) }

// An observer is told of each response that is a stream, and why it has ended; of one that is a body it is not.
func TestObserver(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		do     func(t *testing.T, st *run.Stream, leave func())
		write  error
		limit  time.Duration
		view   View
		reason observe.CloseReason
	}{
		"ended": {
			do:     func(t *testing.T, st *run.Stream, _ func()) { end(t, st, "R") },
			reason: observe.CloseEnded,
		},
		"the client leaves":    {do: func(_ *testing.T, _ *run.Stream, leave func()) { leave() }, reason: observe.CloseGone},
		"the connection fails": {do: func(t *testing.T, st *run.Stream, _ func()) { say(t, st, "n") }, write: errors.New("reset"), reason: observe.CloseGone},
		"nobody reads":         {do: func(t *testing.T, st *run.Stream, _ func()) { say(t, st, "n") }, write: os.ErrDeadlineExceeded, reason: observe.CloseStalled},
		"released": {
			do:     func(_ *testing.T, st *run.Stream, _ func()) { st.Release(time.Second) },
			view:   View{IDs: true, Resumed: true, Kind: observe.StreamMirror},
			reason: observe.CloseReleased,
		},
		"taken":      {do: func(_ *testing.T, st *run.Stream, _ func()) { st.Attach(-1) }, reason: observe.CloseResumed},
		"given up":   {do: func(_ *testing.T, st *run.Stream, _ func()) { st.Fail(run.ErrLost) }, reason: observe.CloseFailed},
		"time is up": {do: func(*testing.T, *run.Stream, func()) {}, limit: time.Second, view: View{IDs: true}, reason: observe.CloseTime},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, leave := context.WithCancel(t.Context())
				defer leave()
				if c.limit > 0 {
					ctx, leave = context.WithTimeout(ctx, c.limit)
					defer leave()
				}
				if c.view.Kind == "" {
					c.view.Kind = observe.StreamCall
				}
				c.view.Patience = Patience
				st, seen := run.NewStream("S", 1), &streams{}
				say(t, st, "m")
				w := &client{ResponseRecorder: httptest.NewRecorder(), write: c.write}
				r := httptest.NewRequestWithContext(ctx, http.MethodPost, "http://localhost/mcp", nil)
				reader := st.Attach(-1)
				go func() {
					time.Sleep(tick)
					c.do(t, st, leave)
				}()
				(&Renderer{KeepAlive: time.Hour, Observer: seen}).Respond(w, r, st, reader, c.view)
				took := tick
				switch {
				case c.write != nil: // noticed with the first event
					took = 0
				case c.limit > 0:
					took = c.limit
				}
				want := []observe.Event{
					observe.StreamOpened{Kind: c.view.Kind, Resumed: c.view.Resumed},
					observe.StreamClosed{Kind: c.view.Kind, Reason: c.reason, Duration: took},
				}
				if diff := cmp.Diff(want, seen.told); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
				time.Sleep(time.Second)
			})
		})
	}
	synctest.Test(t, func(t *testing.T) {
		st, seen := run.NewStream("S", 1), &streams{}
		end(t, st, "R")
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "http://localhost/mcp", nil)
		(&Renderer{Observer: seen}).Respond(httptest.NewRecorder(), r, st, st.Attach(-1), View{Patience: Patience})
		if len(seen.told) > 0 {
			t.Errorf("of one body: %v", seen.told)
		}
	})
}

// A response that comes in the moment in which a body becomes a stream is still a body, and its shape is what the client sees.
func TestTurn(t *testing.T) {
	t.Parallel()
	st := run.NewStream("S", 1)
	rd := st.Attach(-1)
	end(t, st, "R")
	if rd.Turn() {
		t.Error("a response that is there became a stream")
	}
	rn := run.Start(t.Context(), "", "1", "ping", run.NewStream("S", 1))
	if rd := rn.Stream.Attach(-1); !rd.Turn() {
		t.Error("a call that is silent stays a body")
	}
	sent := rn.Answer([]byte("R"), http.StatusOK)
	if e := rn.End(observe.End{Outcome: observe.OK}, sent); e.Shape != observe.Stream || e.Bytes != 1 {
		t.Errorf("%+v", e)
	}
}
