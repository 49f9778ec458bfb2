package run

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-mcp/sluice/store/memory"
)

var (
	onlySeed  = flag.Uint64("seed", 0, "run the schedule with this seed and no other")
	schedules = flag.Int("schedules", 3000, "how many schedules to run")
)

// TestSchedules lets one writer write while readers come and go and the store fails, all at random and in
// virtual time. What a client has put together in the end is the stream, whole and in order, and none of its connections
// has shown it an event twice.
func TestSchedules(t *testing.T) {
	t.Parallel()
	if *onlySeed != 0 {
		schedule(t, *onlySeed)
		return
	}
	n := *schedules
	if testing.Short() {
		n /= 10
	}
	for range n {
		if seed := rand.Uint64(); !schedule(t, seed) {
			t.Fatalf("to see it again: -run TestSchedules -seed %d", seed)
		}
	}
}

func schedule(t *testing.T, seed uint64) bool {
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, rng: rand.New(rand.NewPCG(seed, 1))}
		w.run()
	})
	return !t.Failed()
}

// world is one schedule. The writer has random numbers of its own, for what each draws must not depend on the other.
type world struct {
	t   *testing.T
	rng *rand.Rand

	log    *faultyLog
	stream *Stream
	said   []string // what was written, in order
	ending Kind
	got    []Event // what the client has
}

func (w *world) run() {
	w.plan()
	w.stream = NewStream("S", 1)
	prime := w.chance(2)
	first := w.stream.Attach(-1)
	writer := rand.New(rand.NewPCG(w.rng.Uint64(), 2))
	written := make(chan struct{})
	go func() {
		defer close(written)
		w.write(writer)
	}()
	w.pause(20)
	w.stream.Persist(w.log, "log", prime)
	w.read(first)
	<-written
	// What is shown without the log, because that has failed for long, gets into it when it no longer fails.
	w.log.mend()
	time.Sleep(time.Minute)
	synctest.Wait()
	w.check(prime)
}

func (w *world) chance(one int) bool { return w.rng.IntN(one) == 0 }

// pause sleeps up to so many milliseconds, and often not at all.
func (w *world) pause(most int) { nap(w.rng, most) }

func nap(rng *rand.Rand, most int) {
	if rng.IntN(2) == 0 {
		time.Sleep(time.Duration(rng.IntN(most*1000)) * time.Microsecond)
	}
}

// plan decides how often the store fails.
func (w *world) plan() {
	faulty := rand.New(rand.NewPCG(w.rng.Uint64(), 3))
	often := []int{0, 0, 2, 5, 20}[w.rng.IntN(5)]
	w.log = newFaultyLog(func(read bool) fault {
		if often == 0 || faulty.IntN(often) > 0 {
			return none
		}
		if read {
			return refused
		}
		return fault(faulty.IntN(int(silenced) + 1))
	})
}

func (w *world) write(rng *rand.Rand) {
	ctx := context.Background()
	for i := range rng.IntN(60) {
		nap(rng, 30)
		data := fmt.Sprint("m", i)
		if err := w.stream.Send(ctx, []byte(data)); err != nil {
			w.t.Errorf("sending %s: %v", data, err)
			return
		}
		w.said = append(w.said, data)
	}
	nap(rng, 100)
	switch rng.IntN(4) {
	case 0:
		w.ending = End
		w.stream.Forgo()
	default:
		w.ending = Last
		if err := w.stream.Respond([]byte("r"), 200); err != nil {
			w.t.Errorf("responding: %v", err)
		}
	}
	if err := w.stream.Send(ctx, []byte("late")); !errors.Is(err, ErrEnded) {
		w.t.Errorf("sending after the end: %v", err)
	}
}

// read is a client that loses its connections.
func (w *world) read(r *Reader) {
	for connections := 1; ; connections++ {
		if w.connection(r) || w.t.Failed() {
			return
		}
		if connections == 10_000 {
			w.t.Fatal("the stream does not end")
		}
		if w.chance(2) {
			r.Detach() // else the server does not know yet that the connection is gone
		}
		if lost := len(w.got); w.chance(3) && lost > 0 {
			w.got = w.got[:lost-w.rng.IntN(min(lost, 5))] // sent, but never received
		}
		w.pause(200)
		r = w.stream.Attach(int64(len(w.got)) - 1)
		if r.Behind() {
			w.t.Errorf("behind after %d", len(w.got)-1)
		}
	}
}

// connection reads until the stream ends or the connection is cut, and reports which.
func (w *world) connection(r *Reader) (ended bool) {
	cut := time.After(time.Duration(w.rng.IntN(300)) * time.Millisecond)
	for {
		if w.chance(3) {
			w.pause(20) // a slow client
		}
		events, ended, err := r.Next()
		if err != nil {
			w.t.Errorf("reading: %v", err)
			return false
		}
		for _, e := range events {
			if e.Index != int64(len(w.got)) {
				w.t.Errorf("event %d comes where %d is due", e.Index, len(w.got))
			}
			w.got = append(w.got, e)
		}
		if ended {
			return true
		}
		if r.Taken() {
			w.t.Error("taken over by nobody")
			return false
		}
		select {
		case <-r.Wake():
		case <-cut:
			return false
		}
	}
}

func (w *world) check(prime bool) {
	var want []Event
	add := func(k Kind, data string) {
		want = append(want, Event{Index: int64(len(want)), Kind: k, Data: []byte(data)})
	}
	if prime {
		add(Prime, "")
	}
	for _, data := range w.said {
		add(Message, data)
	}
	if w.ending == Last {
		add(Last, "r")
	} else {
		add(End, "")
	}
	if got := show(w.got); got != show(want) {
		w.t.Errorf("the client has %s\nwant           %s", got, show(want))
	}
	if got := show(logged(w.t, w.log, "log", -1)); got != show(want) {
		w.t.Errorf("the log has %s\nwant        %s", got, show(want))
	}
	if !w.stream.Settled() {
		w.t.Error("not settled")
	}
}

// TestTwoWriters lets replicas fight for a stream: of each index the log has one entry, of one writer, and no writer that has
// lost writes again or shows what is not in the log.
func TestTwoWriters(t *testing.T) {
	t.Parallel()
	for range 200 {
		seed := rand.Uint64()
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 1))
			log := memory.New()
			old := NewStream("S", 1)
			old.Persist(log, "log", true)
			reader := old.Attach(-1)
			go func() {
				for i := range 50 {
					time.Sleep(time.Duration(1+i%3) * time.Millisecond)
					if old.Send(context.Background(), []byte(fmt.Sprint("old", i))) != nil {
						return
					}
				}
			}()
			time.Sleep(time.Duration(rng.IntN(60)) * time.Millisecond)
			// The new owner reads to the end and claims.
			mirror := NewMirror("S", -1)
			events := logged(t, log, "log", -1)
			if err := mirror.Feed(t.Context(), events); err != nil {
				t.Fatal(err)
			}
			owner := NewStream("S", 1)
			owner.next, owner.shown, owner.kept = mirror.Next(), mirror.Next(), &kept{log: log, name: "log"}
			if err := owner.Respond([]byte("new"), 200); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
			synctest.Wait()
			all := logged(t, log, "log", -1)
			shown, _, err := reader.Next()
			for i, e := range shown {
				if show(all[i:i+1]) != show([]Event{e}) {
					t.Errorf("seed %d: the old owner shows %s where the log has %s", seed, show(shown), show(all))
					break
				}
			}
			last := all[len(all)-1]
			for _, e := range all[:len(all)-1] {
				if e.Kind == Last {
					t.Errorf("seed %d: written after the end: %s", seed, show(all))
				}
			}
			if lost := errors.Is(err, ErrLost); lost == (string(last.Data) != "new") || lost == errors.Is(owner.err, ErrLost) {
				t.Errorf("seed %d: old owner lost: %v, new owner: %v, log %s", seed, err, owner.err, show(all))
			}
		})
		if t.Failed() {
			return
		}
	}
}
