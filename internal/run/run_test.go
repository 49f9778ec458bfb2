package run

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
)

func TestRunHasOneEnd(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		do    func(r *Run)
		want  string
		cause error
	}{
		{"answered", func(r *Run) { r.Answer([]byte("a"), 200) }, "R0:a", context.Canceled},
		{"cancelled", func(r *Run) { r.Cancel() }, "x0:", ErrCancelled},
		{"answered twice", func(r *Run) { r.Answer([]byte("a"), 200); r.Answer([]byte("b"), 500) }, "R0:a", context.Canceled},
		{"answered, then cancelled", func(r *Run) { r.Answer([]byte("a"), 200); r.Cancel() }, "R0:a", context.Canceled},
		{"cancelled, then answered", func(r *Run) { r.Cancel(); r.Answer([]byte("a"), 200) }, "x0:", ErrCancelled},
		{"cancelled twice", func(r *Run) { r.Cancel(); r.Cancel() }, "x0:", ErrCancelled},
	} {
		s := NewStream("S", 1)
		rd := s.Attach(-1)
		r := Start(context.Background(), "", "1", "tools/call", s)
		if !r.Open() || r.Context().Err() != nil || From(r.Context()) != r {
			t.Fatalf("%s: the run does not begin well", c.name)
		}
		c.do(r)
		events, ended, _ := rd.Next()
		if show(events) != c.want || !ended {
			t.Errorf("%s: %s", c.name, show(events))
		}
		if cause := context.Cause(r.Context()); r.Open() || !errors.Is(cause, c.cause) {
			t.Errorf("%s: open %v, cause %v", c.name, r.Open(), cause)
		}
		if err := r.Send(context.Background(), []byte("late")); !errors.Is(err, ErrEnded) {
			t.Errorf("%s: a late message: %v", c.name, err)
		}
	}
}

// An answer and a cancellation at the same time: the client gets exactly one of them.
func TestRunRaces(t *testing.T) {
	t.Parallel()
	for range 500 {
		s := NewStream("S", 1)
		rd := s.Attach(-1)
		r := Start(context.Background(), "", "1", "tools/call", s)
		var all sync.WaitGroup
		for _, f := range []func(){
			func() { r.Answer([]byte("a"), 200) },
			r.Cancel,
			func() { _ = r.Send(t.Context(), []byte("m")) },
			func() { _, _, _ = rd.Whole() },
			func() { s.Release(1); s.Attach(-1).Detach() },
		} {
			all.Go(f)
		}
		all.Wait()
		events, ended, err := s.Attach(-1).Next() // the first reader has been taken over
		if got := show(events); !ended || err != nil || got != "R0:a" && got != "x0:" && got != "m0:m R1:a" && got != "m0:m x1:" {
			t.Fatalf("%q, %v, %v", got, ended, err)
		}
	}
}

// The end of a run frees a handler that waits for its reader, whatever context it waits with.
func TestRunFreesItsHandler(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*Run){"cancelled": (*Run).Cancel, "answered": func(r *Run) { r.Answer(nil, 200) }} {
		synctest.Test(t, func(t *testing.T) {
			s := NewStream("S", 1)
			s.Attach(-1)
			r := Start(context.Background(), "", "1", "tools/call", s)
			done := make(chan struct{})
			go func() {
				defer close(done)
				for r.Send(context.Background(), []byte("m")) == nil {
				}
			}()
			synctest.Wait()
			select {
			case <-done:
				t.Errorf("%s: the handler did not wait", name)
			default:
			}
			end(r)
			<-done
		})
	}
}

func TestFromNowhere(t *testing.T) {
	t.Parallel()
	if r := From(t.Context()); r != nil {
		t.Errorf("a run from nowhere: %v", r)
	}
}

// What a call says that runs again is not said twice, and its progress never goes back.
func TestRepeats(t *testing.T) {
	t.Parallel()
	progress := func(token, value string) string {
		return `{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":` + token + `,"progress":` + value + `}}`
	}
	log := `{"jsonrpc":"2.0","method":"notifications/message","params":{"data":"x"}}`
	kept := []Event{
		{Index: 0, Kind: Prime},
		{Index: 1, Kind: Message, Data: []byte(progress("1", "0.5"))},
		{Index: 2, Kind: Message, Data: []byte(log)},
		{Index: 3, Kind: Message, Data: []byte(log)},
		{Index: 4, Kind: Claim},
	}
	r := newRepeats(kept)
	for i, c := range []struct {
		data string
		drop bool
	}{
		{progress("1", "0.1"), true},
		{progress("1", "0.5"), true},
		{progress("1", "0.5"), true},
		{progress("1", "0.6"), false},
		{progress("1", "0.6"), true},
		{progress("1", "0.55"), true},
		{progress("1", "7"), false},
		{progress(`"1"`, "0.1"), false},
		{log, true},
		{log, true},
		{log, false},
		{`{"jsonrpc":"2.0","method":"other"}`, false},
		{progress("2", `"x"`), false},
		{progress("2", `"x"`), false},
	} {
		if got := r.drop([]byte(c.data)); got != c.drop {
			t.Errorf("%d: %s is dropped: %v", i, c.data, got)
		}
	}
}
