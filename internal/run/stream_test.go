package run

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-mcp/sluice/store"
	"github.com/sluice-mcp/sluice/store/memory"
)

// show writes events as text: kind, index and data of each.
func show(events []Event) string {
	var out []string
	for _, e := range events {
		out = append(out, fmt.Sprintf("%c%d:%s", e.Kind, e.Index, e.Data))
	}
	return strings.Join(out, " ")
}

func send(t *testing.T, s *Stream, data ...string) {
	t.Helper()
	for _, d := range data {
		if err := s.Send(t.Context(), []byte(d)); err != nil {
			t.Fatalf("sending %s: %v", d, err)
		}
	}
}

func respond(t *testing.T, s *Stream, data string) {
	t.Helper()
	if err := s.Respond([]byte(data), 200); err != nil {
		t.Fatal(err)
	}
}

// expect checks what a reader has to show now.
func expect(t *testing.T, r *Reader, want string, wantEnded bool, wantErr error) {
	t.Helper()
	synctest.Wait()
	events, ended, err := r.Next()
	if got := show(events); got != want || ended != wantEnded || !errors.Is(err, wantErr) {
		t.Fatalf("the reader shows %q, %v, %v; want %q, %v, %v", got, ended, err, want, wantEnded, wantErr)
	}
}

func TestVolatile(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := NewStream("S", 1)
		r := s.Attach(-1)
		expect(t, r, "", false, nil)
		send(t, s, "a", "b")
		expect(t, r, "m0:a m1:b", false, nil)
		expect(t, r, "", false, nil)
		send(t, s, "c")
		respond(t, s, "end")
		if !s.Ended() {
			t.Error("has not ended")
		}
		expect(t, r, "m2:c R3:end", true, nil)
		if err := s.Send(t.Context(), nil); !errors.Is(err, ErrEnded) {
			t.Errorf("a message after the end: %v", err)
		}
		if err := s.Offer(nil); !errors.Is(err, ErrEnded) {
			t.Errorf("an offer after the end: %v", err)
		}
		if err := s.Respond(nil, 0); !errors.Is(err, ErrEnded) {
			t.Errorf("a second response: %v", err)
		}
		expect(t, r, "", true, nil)
	})
}

func TestWhole(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		owed int
		do   func(s *Stream)
		want string // responses; or "not yet", "speaks"
	}{
		{"nothing", 1, func(*Stream) {}, "not yet"},
		{"a response", 1, func(s *Stream) { _ = s.Respond([]byte("r"), 200) }, "R0:r"},
		{"one of two", 2, func(s *Stream) { _ = s.Respond([]byte("r"), 200) }, "not yet"},
		{"two", 2, func(s *Stream) { _ = s.Respond([]byte("r"), 200); _ = s.Respond([]byte("q"), 200) }, "r0:r R1:q"},
		{"cancelled", 1, func(s *Stream) { s.Forgo() }, ""},
		{"one cancelled, one answered", 2, func(s *Stream) { s.Forgo(); _ = s.Respond([]byte("r"), 200) }, "R0:r"},
		{"one answered, one cancelled", 2, func(s *Stream) { _ = s.Respond([]byte("r"), 200); s.Forgo() }, "r0:r"},
		{"both cancelled", 2, func(s *Stream) { s.Forgo(); s.Forgo() }, ""},
		{"ended", 1, func(s *Stream) { s.End() }, ""},
		{"a message", 1, func(s *Stream) { _ = s.Offer([]byte("m")) }, "speaks"},
		{"a message and a response", 1, func(s *Stream) { _ = s.Offer([]byte("m")); _ = s.Respond([]byte("r"), 200) }, "speaks"},
	} {
		s := NewStream("S", c.owed)
		r := s.Attach(-1)
		c.do(s)
		responses, whole, speaks := r.Whole()
		got := show(responses)
		if speaks {
			got = "speaks"
		} else if !whole {
			got = "not yet"
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
		if again, _, _ := r.Whole(); show(again) != show(responses) {
			t.Errorf("%s: looking at it has changed it", c.name)
		}
	}
}

// counted sends data again and again until the stream says no or it is enough, and counts.
func counted(ctx context.Context, s *Stream, data []byte, n *int) {
	for *n < 8*MaxEvents && s.Send(ctx, data) == nil {
		*n++
	}
}

func TestSlowReaderSlowsItsWriter(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		durable bool
		size    int
		most    int
	}{
		"small messages":          {false, 1, MaxEvents / 2},
		"small messages, durable": {true, 1, MaxEvents / 2},
		"large messages":          {false, 64 << 10, MaxBytes / 2 / (64 << 10)},
		"too large messages":      {false, MaxBytes, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := NewStream("S", 1)
				r := s.Attach(-1)
				if c.durable {
					s.Persist(memory.New(), "log", false)
				}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				n := 0
				go counted(ctx, s, make([]byte, c.size), &n)
				for round := 1; round <= 3; round++ {
					time.Sleep(time.Hour / 10)
					synctest.Wait()
					if n < 1 || n > round*c.most {
						t.Fatalf("round %d: %d messages were taken, bound is %d", round, n, c.most)
					}
					if events, _, err := r.Next(); err != nil || len(events) > c.most {
						t.Fatalf("round %d: %d events, %v", round, len(events), err)
					}
				}
				cancel()
				synctest.Wait()
				if err := s.Offer([]byte("x")); err != nil && !errors.Is(err, ErrFull) {
					t.Errorf("offering: %v", err)
				}
				respond(t, s, "r") // a response is never refused
			})
		})
	}
}

func TestWaitingWriterIsFreed(t *testing.T) {
	t.Parallel()
	for name, free := range map[string]func(s *Stream, r *Reader, cancel func()){
		"by its context":    func(_ *Stream, _ *Reader, cancel func()) { cancel() },
		"by the end":        func(s *Stream, _ *Reader, _ func()) { s.End() },
		"by the response":   func(s *Stream, _ *Reader, _ func()) { _ = s.Respond(nil, 200) },
		"by a cancellation": func(s *Stream, _ *Reader, _ func()) { s.Forgo() },
		"by a failure":      func(s *Stream, _ *Reader, _ func()) { s.Fail(ErrLost) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := NewStream("S", 1)
				r := s.Attach(-1)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				n := 0
				done := make(chan struct{})
				go func() { counted(ctx, s, nil, &n); close(done) }()
				synctest.Wait()
				free(s, r, cancel)
				<-done // or the bubble is deadlocked
			})
		})
	}
}

func TestLostReaderSlowsNobody(t *testing.T) {
	t.Parallel()
	for _, durable := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := NewStream("S", 1)
			r := s.Attach(-1)
			if durable {
				s.Persist(memory.New(), "log", true)
			}
			done := make(chan struct{})
			go func() {
				defer close(done)
				for i := range 10 * MaxEvents {
					send(t, s, fmt.Sprint(i))
				}
				respond(t, s, "r")
			}()
			synctest.Wait()
			r.Detach()
			s.Abandon()
			<-done
			synctest.Wait()
			if kept := len(s.events); kept > MaxEvents || !durable && kept != 1 { // the response
				t.Errorf("durable %v: %d events are kept", durable, kept)
			}
			if !s.Ended() || durable && !s.Settled() {
				t.Error("has not ended")
			}
		})
	}
}

func TestTakeover(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := NewStream("S", 1)
		s.Persist(memory.New(), "log", true)
		first := s.Attach(-1)
		send(t, s, "a")
		expect(t, first, "p0: m1:a", false, nil)
		second := s.Attach(0)
		if !first.Taken() {
			t.Fatal("the first reader is not told")
		}
		select {
		case <-second.Wake():
		default:
			t.Fatal("the second reader does not know that there is something")
		}
		expect(t, second, "m1:a", false, nil)
		send(t, s, "b")
		expect(t, first, "", false, nil) // it has not looked up yet: what the second one shows must not be shown twice
		expect(t, second, "m2:b", false, nil)
		first.Detach() // late
		send(t, s, "c")
		synctest.Wait()
		select {
		case <-second.Wake():
		default:
			t.Fatal("the late Detach has cut off the second reader")
		}
		expect(t, second, "m3:c", false, nil)
		if second.Taken() {
			t.Fatal("the second reader is taken over by nobody")
		}
		s.Release(time.Second)
		s.Release(time.Minute) // nobody waits for it to be taken
		if d, released := second.Released(); d != time.Second || !released {
			t.Errorf("released with %v: %v", d, released)
		}
		if _, released := first.Released(); released {
			t.Error("the first reader is released, too")
		}
		second.Detach()
		s.Release(time.Second) // nobody there
	})
}

func TestResumeAtEveryIndex(t *testing.T) {
	t.Parallel()
	for _, prime := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			log := memory.New()
			s := NewStream("S", 1)
			s.Persist(log, "log", prime)
			const n = 40
			check := func(last int64) {
				t.Helper()
				synctest.Wait()
				all := s.Attach(-1)
				events, _, err := all.Next()
				if err != nil || int64(len(events)) != last+1 {
					t.Fatalf("%d events, %v", len(events), err)
				}
				for after := int64(-1); after <= last; after++ {
					want := show(events[after+1:])
					r := s.Attach(after)
					if r.Behind() {
						t.Fatalf("after %d: behind", after)
					}
					expect(t, r, want, s.Ended(), nil)
					expect(t, r, "", s.Ended(), nil)
					// Another replica shows it from the log alone.
					mirror := NewMirror("S", after)
					there := mirror.Attach(after)
					if err := mirror.Feed(t.Context(), logged(t, log, "log", after)); err != nil {
						t.Fatal(err)
					}
					// (Who has it all cannot be told so from nothing: the last event ends the stream.)
					expect(t, there, want, s.Ended() && after < last, nil)
				}
			}
			first := int64(-1)
			if prime {
				first = 0
			}
			for i := range int64(n) {
				send(t, s, fmt.Sprint(i))
				if i%10 == 0 {
					check(first + i + 1)
				}
			}
			respond(t, s, "r")
			check(first + n + 1)
			if !s.Settled() {
				t.Error("not settled")
			}
		})
	}
}

func TestBehind(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := NewStream("S", 1)
		s.Persist(memory.New(), "log", false)
		stale := s.Attach(-1)
		stale.Detach()
		for i := range 2 * MaxEvents {
			send(t, s, fmt.Sprint(i))
		}
		synctest.Wait()
		for after, want := range map[int64]bool{
			-1: true, 0: true, MaxEvents - 2: true, MaxEvents - 1: false, 2*MaxEvents - 2: false,
			2*MaxEvents - 1: false, 2 * MaxEvents: true, 1 << 62: true, 1<<63 - 2: true,
		} {
			if got := s.Attach(after).Behind(); got != want {
				t.Errorf("after %d: behind is %v", after, got)
			}
		}
		if _, _, err := stale.Next(); !errors.Is(err, ErrTrimmed) {
			t.Errorf("a reader whose events are gone sees %v", err)
		}
		r := s.Attach(2*MaxEvents - 3)
		expect(t, r, fmt.Sprintf("m%d:%[1]d m%d:%[2]d", 2*MaxEvents-2, 2*MaxEvents-1), false, nil)
	})
}

func TestPersistKeepsWhatWasSaid(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		prime, ended bool
		want         string
	}{
		{true, false, "p0: m1:a m2:b"},
		{false, false, "m0:a m1:b"},
		{true, true, "p0: m1:a m2:b R3:r"},
		{false, true, "m0:a m1:b R2:r"},
	} {
		synctest.Test(t, func(t *testing.T) {
			log := memory.New()
			s := NewStream("S", 1)
			r := s.Attach(-1)
			send(t, s, "a", "b")
			if c.ended {
				respond(t, s, "r")
			}
			s.Persist(log, "log", c.prime)
			expect(t, r, c.want, c.ended, nil)
			if got := show(logged(t, log, "log", -1)); got != c.want {
				t.Errorf("the log has %q", got)
			}
		})
	}
}

func TestNothingIsShownBeforeItIsLogged(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log := faults(none, hanging, refused, refused)
		s := NewStream("S", 1)
		s.Persist(log, "log", true)
		r := s.Attach(-1)
		expect(t, r, "p0:", false, nil)
		send(t, s, "a")
		respond(t, s, "r")
		for range 1000 {
			events, _, err := r.Next()
			if err != nil {
				t.Fatal(err)
			}
			if len(events) > 0 {
				if got := show(logged(t, log, "log", 0)); got != show(events) || got != "m1:a R2:r" {
					t.Fatalf("shown is %q, in the log %q", show(events), got)
				}
				return
			}
			if got := logged(t, log, "log", 0); len(got) > 0 {
				synctest.Wait() // it is on its way
				continue
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.Fatal("it never came, though the store is back")
	})
}

func TestOutage(t *testing.T) {
	t.Parallel()
	for name, list := range map[string][]fault{
		"short":             {refused},
		"long":              {refused, refused, refused, refused, refused, refused, refused, refused},
		"hanging":           {hanging, hanging},
		"answer lost":       {unheard},
		"answer lost twice": {unheard, refused, unheard},
		"answer too late":   {silenced},
		"all in turn":       {refused, hanging, refused, silenced},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				log := faults(list...)
				s := NewStream("S", 1)
				s.Persist(log, "log", false)
				r := s.Attach(-1)
				for i := range 3 { // all of them go in one append: they wait together
					if err := s.Offer([]byte{'a' + byte(i)}); err != nil {
						t.Fatal(err)
					}
				}
				time.Sleep(2 * time.Minute)
				expect(t, r, "m0:a m1:b m2:c", false, nil)
				send(t, s, "d")
				respond(t, s, "r")
				time.Sleep(2 * time.Minute)
				expect(t, r, "m3:d R4:r", true, nil)
				if got := show(logged(t, log, "log", -1)); got != "m0:a m1:b m2:c m3:d R4:r" {
					t.Errorf("the log has %q", got)
				}
			})
		})
	}
}

// The handler goes on talking while the outcome of an append is not known.
func TestLostAnswerWhileTalking(t *testing.T) {
	t.Parallel()
	for name, list := range map[string][]fault{
		"unheard": {unheard}, "silenced": {silenced}, "unheard twice": {unheard, unheard}, "between": {refused, unheard, refused},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				log := faults(list...)
				s := NewStream("S", 1)
				s.Persist(log, "log", false)
				r := s.Attach(-1)
				for i := range 20 {
					send(t, s, fmt.Sprint(i))
					time.Sleep(7 * time.Millisecond)
				}
				respond(t, s, "r")
				time.Sleep(time.Minute)
				synctest.Wait()
				events, ended, err := r.Next()
				if len(events) != 21 || !ended || err != nil {
					t.Fatalf("%s, %v, %v", show(events), ended, err)
				}
			})
		})
	}
}

// The append is done, its answer is lost, and the store is still away when the stream asks whether it was done.
func TestLostAnswerThenAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		appends, reads := 0, 0
		log := newFaultyLog(func(read bool) fault {
			mu.Lock()
			defer mu.Unlock()
			switch {
			case read:
				if reads++; reads == 1 {
					return refused
				}
			default:
				if appends++; appends == 1 {
					return unheard
				}
			}
			return none
		})
		s := NewStream("S", 1)
		s.Persist(log, "log", false)
		r := s.Attach(-1)
		respond(t, s, "r")
		time.Sleep(time.Minute)
		expect(t, r, "R0:r", true, nil)
	})
}

// While the store is away, a handler that goes on talking is slowed, and so is its memory.
func TestOutageSlowsWriter(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		away := true
		log := newFaultyLog(func(bool) fault {
			if away {
				return refused
			}
			return none
		})
		s := NewStream("S", 1)
		s.Persist(log, "log", true)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		n := 0
		go counted(ctx, s, nil, &n)
		time.Sleep(time.Minute)
		synctest.Wait()
		if n == 0 || n > MaxEvents/2 {
			t.Errorf("%d messages wait", n)
		}
		if log.appends > 60 {
			t.Errorf("the store was asked %d times in a minute", log.appends)
		}
		offers := 0
		for s.Offer(nil) == nil {
			if offers++; offers > 2*MaxEvents {
				t.Fatal("offers are taken without bound")
			}
		}
		log.mu.Lock()
		away = false
		log.mu.Unlock()
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if n != 8*MaxEvents {
			t.Errorf("the writer was not freed when the store came back: %d", n)
		}
	})
}

// Responses are never refused, so they may go over the bounds; none of them is forgotten before it is in the log.
func TestOutageForgetsNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log := faults(refused, refused, refused)
		s := NewStream("S", 4)
		s.Persist(log, "log", false)
		for i := range 4 {
			respond(t, s, strings.Repeat(fmt.Sprint(i), MaxBytes/2))
		}
		ahead := s.Attach(1) // an index that nobody was shown yet
		expect(t, ahead, "", false, nil)
		ahead.Detach()
		time.Sleep(time.Minute)
		_, next, err := log.Log.Read(t.Context(), "log", 3, 1)
		if next != 4 || err != nil || !s.Settled() {
			t.Errorf("the log ends at %d, %v, settled: %v", next, err, s.Settled())
		}
	})
}

func TestFenced(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log := memory.New()
		s := NewStream("S", 1)
		s.Persist(log, "log", true)
		r := s.Attach(-1)
		send(t, s, "a")
		expect(t, r, "p0: m1:a", false, nil)
		if err := log.Append(t.Context(), "log", 2, [][]byte{{byte(Claim)}}, store.Bounds{}); err != nil {
			t.Fatal(err)
		}
		send(t, s, "b") // the writer does not know yet
		expect(t, r, "", false, ErrLost)
		if err := s.Send(t.Context(), []byte("c")); !errors.Is(err, ErrLost) {
			t.Errorf("sending: %v", err)
		}
		if err := s.Respond([]byte("r"), 200); !errors.Is(err, ErrLost) {
			t.Errorf("responding: %v", err)
		}
		if err := s.Offer(nil); !errors.Is(err, ErrLost) {
			t.Errorf("offering: %v", err)
		}
		if got := show(logged(t, log, "log", -1)); got != "p0: m1:a c2:" {
			t.Errorf("the log has %q", got)
		}
		expect(t, s.Attach(0), "m1:a", false, ErrLost)
		if !s.Settled() {
			t.Error("a lost stream will not settle")
		}
	})
}

// A store that has lost the end of the log is told it again; one in which somebody else has written meanwhile is not.
func TestLogGoesBack(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		keeps  int    // entries that the store still has
		others []byte // what another replica has written then
		quiet  bool   // the writer has nothing to say, and asks
		taken  bool   // another replica is registered as the writer
		logged string
		lost   bool
	}{
		"a little":            {keeps: 2, logged: "p0: m1:a m2:b m3:c"},
		"nearly all":          {keeps: 1, logged: "p0: m1:a m2:b m3:c"},
		"while quiet":         {keeps: 1, quiet: true, logged: "p0: m1:a m2:b"},
		"all of it":           {keeps: 0, logged: "p0: m1:a m2:b m3:c"},
		"all while quiet":     {keeps: 0, quiet: true, logged: "p0: m1:a m2:b"},
		"all, and taken":      {keeps: 0, taken: true, logged: "", lost: true},
		"a little, and taken": {keeps: 2, taken: true, logged: "p0: m1:a", lost: true},
		"taken while quiet":   {keeps: 0, taken: true, quiet: true, logged: "", lost: true},
		"claimed since":       {keeps: 1, others: ClaimEntry(1), logged: "p0: c1:1", lost: true},
		"claimed while quiet": {keeps: 1, others: ClaimEntry(1), quiet: true, logged: "p0: c1:1", lost: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				log := memory.New()
				s := NewStream("S", 1)
				s.Persist(log, "log", true)
				s.Held(func(context.Context) (bool, error) { return !tt.taken, nil })
				r := s.Attach(-1)
				send(t, s, "a", "b")
				expect(t, r, "p0: m1:a m2:b", false, nil)
				old, _, err := log.Read(t.Context(), "log", 0, tt.keeps)
				if err != nil {
					t.Fatal(err)
				}
				if err := log.Drop(t.Context(), "log"); err != nil {
					t.Fatal(err)
				}
				var entries [][]byte
				for _, e := range old {
					entries = append(entries, e.Data)
				}
				if tt.others != nil {
					entries = append(entries, tt.others)
				}
				if len(entries) > 0 {
					if err := log.Append(t.Context(), "log", 0, entries, store.Bounds{}); err != nil {
						t.Fatal(err)
					}
				}
				var want error
				if tt.lost {
					want = ErrLost
				}
				if tt.quiet {
					if err := s.Verify(t.Context()); !errors.Is(err, want) {
						t.Errorf("Verify: %v, want %v", err, want)
					}
				} else {
					send(t, s, "c")
					time.Sleep(time.Second)
				}
				if got := show(logged(t, log, "log", -1)); got != tt.logged {
					t.Errorf("the log has %q, want %q", got, tt.logged)
				}
				if _, _, err := r.Next(); !errors.Is(err, want) {
					t.Errorf("reading: %v, want %v", err, want)
				}
			})
		})
	}
}

// A log that is lost when its first events are no longer kept here cannot be written again. The call comes to its end without it.
func TestLogIsLostForGood(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log := memory.New()
		s := NewStream("S", 1)
		s.Persist(log, "log", false)
		r := s.Attach(-1)
		say := func(n int, unlogged bool) {
			t.Helper()
			for i := range n {
				if err := s.Send(t.Context(), []byte(fmt.Sprint(i))); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				events, _, err := r.Next()
				if len(events) != 1 || err != nil || events[0].Unlogged != unlogged {
					t.Fatalf("%d: %+v, %v", i, events, err)
				}
			}
		}
		say(2*MaxEvents, false)
		if err := log.Drop(t.Context(), "log"); err != nil {
			t.Fatal(err)
		}
		say(2*MaxEvents, true)
		if len(s.events) > MaxEvents+1 {
			t.Errorf("%d events are kept", len(s.events))
		}
		respond(t, s, "r")
		synctest.Wait()
		if events, ended, err := r.Next(); len(events) != 1 || !events[0].Unlogged || !ended || err != nil {
			t.Errorf("%+v, %v, %v", events, ended, err)
		}
		if !s.Settled() {
			t.Error("not settled")
		}
		select {
		case <-s.Safe():
		default:
			t.Error("never safe")
		}
	})
}

// A store that takes nothing for long does not keep a client from hearing its call's end, however much that says.
func TestAdrift(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		says   int
		logged func(events []Event) bool
	}{
		"little": {3, func(e []Event) bool { return len(e) == 5 && e[4].Kind == Last }},
		// The log would have a gap: it says that no more comes.
		"much": {4 * MaxEvents, func(e []Event) bool { return len(e) > 1 && e[len(e)-1].Kind == End }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				log := newFaultyLog(func(bool) fault { return refused })
				s := NewStream("S", 1)
				s.Persist(log, "log", true)
				r := s.Attach(-1)
				go func() {
					for i := range tt.says {
						if s.Send(t.Context(), []byte(fmt.Sprint(i))) != nil {
							return
						}
					}
					_ = s.Respond([]byte("r"), 200)
				}()
				time.Sleep(driftAfter / 2)
				expect(t, r, "", false, nil)
				time.Sleep(driftAfter)
				var got []Event
				for ended := false; !ended; time.Sleep(time.Millisecond) {
					var events []Event
					var err error
					if events, ended, err = r.Next(); err != nil {
						t.Fatal(err)
					}
					got = append(got, events...)
					s.mu.Lock()
					kept := len(s.events)
					s.mu.Unlock()
					if kept > 2*MaxEvents+1 {
						t.Fatalf("%d events are kept", kept)
					}
				}
				for i, e := range got {
					if e.Index != int64(i) || !e.Unlogged {
						t.Fatalf("%+v comes where %d is due", e, i)
					}
				}
				if len(got) != tt.says+2 { // and the prime, and the response
					t.Errorf("%d events", len(got))
				}
				r.Detach()
				log.mend()
				time.Sleep(time.Minute)
				if have := logged(t, log, "log", -1); !tt.logged(have) {
					t.Errorf("the log has %.200s", show(have))
				}
				if !s.Settled() {
					t.Error("not settled")
				}
			})
		})
	}
}

// A client that has seen what this replica does not know to be in the log has been elsewhere: another one writes the stream.
func TestAdriftIsNoOwner(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log := newFaultyLog(func(bool) fault { return none })
		s := NewStream("S", 1)
		s.Persist(log, "log", false)
		send(t, s, "a")
		synctest.Wait()
		log.mu.Lock()
		log.plan = func(bool) fault { return refused }
		log.mu.Unlock()
		send(t, s, "b", "c")
		r := s.Attach(1)
		time.Sleep(2 * driftAfter)
		expect(t, r, "", false, nil)
		r.Detach()
		expect(t, s.Attach(0), "m1:b m2:c", false, nil)
		log.mend()
		time.Sleep(time.Minute)
	})
}

// What another replica wrote is no answer of ours that got lost.
func TestFencedWhileUnsure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log := faults(none, refused)
		s := NewStream("S", 1)
		s.Persist(log, "log", true)
		r := s.Attach(-1)
		expect(t, r, "p0:", false, nil)
		send(t, s, "a")
		synctest.Wait()
		if err := log.Log.Append(t.Context(), "log", 1, [][]byte{{byte(Claim)}}, store.Bounds{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		expect(t, r, "", false, ErrLost)
	})
}

func TestAbandon(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := NewStream("S", 1)
		r := s.Attach(-1)
		send(t, s, "a")
		r.Detach()
		s.Abandon()
		s.Persist(memory.New(), "log", true) // too late to matter
		send(t, s, "b")
		respond(t, s, "r")
		if !s.Ended() || len(s.events) != 1 || s.bytes != len("r") { // for one who repeats the request
			t.Errorf("ended %v, keeps %d events and %d bytes", s.Ended(), len(s.events), s.bytes)
		}
		// The client repeats its request: what it has not been told is the response.
		if expect(t, s.AttachUnread(), "R1:r", true, nil); s.AttachUnread() != nil {
			t.Error("there is more to read")
		}
	})
}

// What was read of a volatile stream is given back.
func TestVolatileForgets(t *testing.T) {
	t.Parallel()
	s := NewStream("S", 1)
	r := s.Attach(-1)
	for i := range 100 * MaxEvents {
		if err := s.Offer(make([]byte, 1000)); err != nil {
			t.Fatalf("event %d: %v", i, err)
		}
		if _, _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
	}
	if len(s.events) != 0 || s.bytes != 0 {
		t.Errorf("%d events and %d bytes are kept", len(s.events), s.bytes)
	}
}

func TestStandaloneForgetsItsOldest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := NewStream("S", 0)
		s.Persist(memory.New(), "log", false)
		r := s.Attach(-1) // it does not read
		for i := range 3 * MaxEvents {
			if err := s.Offer([]byte(fmt.Sprint(i))); err != nil {
				t.Fatalf("offer %d: %v", i, err)
			}
			synctest.Wait()
		}
		if len(s.events) > 2*MaxEvents { // up to twice, for a reader that may only be slow
			t.Errorf("%d events are kept", len(s.events))
		}
		if _, _, err := r.Next(); !errors.Is(err, ErrTrimmed) {
			t.Errorf("the reader sees %v", err)
		}
	})
}

func TestDecode(t *testing.T) {
	t.Parallel()
	for _, e := range []Event{{Kind: Message, Data: []byte("x")}, {Index: 7, Kind: Prime, Data: []byte{}}, {Index: 1, Kind: Last, Data: []byte{0, 1}}} {
		if got := Decode(store.Entry{Index: e.Index, Data: encode(e)}); show([]Event{got}) != show([]Event{e}) {
			t.Errorf("%v became %v", e, got)
		}
	}
	if got := Decode(store.Entry{Index: 3}); got.Kind != End || got.Index != 3 {
		t.Errorf("an empty entry became %v", got)
	}
}
