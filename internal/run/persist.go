package run

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/sluice-mcp/sluice/store"
)

// Persist makes the stream durable: from now on an event is in the log before it is
// shown. A stream of which something has been shown stays as it is. With prime, an event without
// data comes first, whose ID the client can resume from before anything was said.
//
// A store that takes nothing for so long that a client may give up must not cost a call its end: the stream is then adrift. What
// it says is shown as it comes, and as [Event].Unlogged, while the log is tried on.
func (s *Stream) Persist(log store.Log, name string, prime bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.deaf || s.next > int64(len(s.events)) {
		return
	}
	k := s.keep()
	k.log, k.name = log, name
	s.shown = 0
	if prime {
		s.events = append([]Event{{Kind: Prime}}, s.events...)
		for i := range s.events {
			s.events[i].Index = int64(i)
		}
		s.next++
	}
	if s.next > 0 {
		s.startCommit()
	}
}

// Within gives the appends to the log the values of ctx, so that who observes the store sees on whose behalf they are made. Call it before
// [Stream.Persist].
func (s *Stream) Within(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keep().within = context.WithoutCancel(ctx)
}

// startCommit sees to it that what waits gets into the log. There is a goroutine only
// while something waits, so that a quiet stream costs none.
func (s *Stream) startCommit() {
	if !s.kept.writing {
		s.kept.writing = true
		go s.commit()
	}
}

// commit writes what waits to the log, all of it in one round trip each time.
func (s *Stream) commit() {
	const firstPause, longestPause = 50 * time.Millisecond, 2 * time.Second
	pause := firstPause
	var (
		from    int64
		entries [][]byte
		unsure  bool // whether entries are in the log; they are then tried again as they are
		failing time.Time
	)
	for {
		if !unsure {
			var bounds store.Bounds
			if from, entries, bounds = s.waiting(); entries == nil {
				return
			}
			s.kept.bounds = bounds
		}
		err := s.tryAppend(from, entries)
		if errors.Is(err, store.ErrFenced) && unsure {
			err = s.written(from, entries)
		}
		if errors.Is(err, store.ErrFenced) {
			if err = s.restore(from); err == nil {
				unsure = false
				continue
			}
		}
		switch {
		case err == nil:
			unsure, pause, failing = false, firstPause, time.Time{}
			s.mu.Lock()
			if !s.kept.cut {
				s.shown, s.kept.adrift = from+int64(len(entries)), false
			}
			s.trim()
			s.wake()
			s.mu.Unlock()
		case errors.Is(err, errGone):
			s.mu.Lock()
			s.kept.adrift, s.kept.cut = true, true
			s.wake()
			s.mu.Unlock()
			unsure = false
		case errors.Is(err, store.ErrFenced):
			s.Fail(ErrLost)
			unsure = false
		case errors.Is(err, store.ErrClosed):
			s.Fail(ErrLeft)
			unsure = false
		default:
			if failing.IsZero() {
				failing = time.Now()
			}
			time.Sleep(pause) // the store is away; the handler waits when too much is waiting here
			pause = min(2*pause, longestPause)
			s.mu.Lock()
			unsure = s.err == nil // given up meanwhile: waiting then finds nothing to do
			if !s.kept.adrift && time.Since(failing) >= driftAfter {
				s.kept.adrift = true
				s.trim()
				s.wake()
			}
			s.mu.Unlock()
		}
	}
}

// driftAfter is how long a stream waits for a store that takes nothing. Most outages are over by then, and every replica that is cut
// off alone counts as dead.
const driftAfter = 10 * time.Second

// waiting returns what is not in the log yet. When there is nothing, the caller is no longer in commit.
func (s *Stream) waiting() (from int64, entries [][]byte, bounds store.Bounds) {
	s.mu.Lock()
	defer s.mu.Unlock()
	from = s.shown
	if from == s.next || s.err != nil || s.kept.cut {
		s.kept.writing = false
		s.settle()
		return from, nil, bounds
	}
	if s.next-from > int64(len(s.events)) {
		// Adrift it has said more than is kept: the log would have a gap. Whoever reads it is told that nothing more comes.
		s.kept.cut = true
		return from, [][]byte{encode(Event{Kind: End})}, store.Bounds{Entries: MaxEvents, Bytes: MaxBytes, TTL: keepEnded}
	}
	events := s.events[int64(len(s.events))-(s.next-from):]
	size := 0
	for _, e := range events {
		size += 1 + len(e.Data)
	}
	slab := make([]byte, 0, size) // one for all: a burst is many small entries
	entries = make([][]byte, 0, len(events))
	for _, e := range events {
		begin := len(slab)
		slab = append(append(slab, byte(e.Kind)), e.Data...)
		entries = append(entries, slab[begin:len(slab):len(slab)])
	}
	bounds = store.Bounds{Entries: MaxEvents, Bytes: MaxBytes, TTL: KeepOpen}
	if s.ended {
		bounds.TTL = keepEnded
		if s.bytes > largeLog {
			bounds.TTL = keepLarge
		}
	}
	return from, entries, bounds
}

// attempt bounds one round trip: it is for a store that hangs. What the handler's client does must not matter here.
const attempt = 5 * time.Second

func (s *Stream) tryAppend(from int64, entries [][]byte) error {
	ctx := s.kept.within
	if ctx == nil {
		ctx = context.Background()
	}
	ctx, cancel := context.WithTimeout(ctx, attempt)
	defer cancel()
	return s.kept.log.Append(ctx, s.kept.name, from, entries, s.kept.bounds)
}

// written finds out whether an append whose answer was lost was made: nil if it was, ErrFenced if
// somebody else has written in its place or behind it, and otherwise that the store cannot tell.
func (s *Stream) written(from int64, entries [][]byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), attempt)
	defer cancel()
	have, next, err := s.kept.log.Read(ctx, s.kept.name, from, len(entries))
	switch {
	case errors.Is(err, store.ErrNotFound), errors.Is(err, store.ErrTrimmed):
		return store.ErrFenced
	case err != nil:
		return err
	case next != from+int64(len(entries)) || len(have) != len(entries):
		return store.ErrFenced
	}
	for i := range have {
		if !bytes.Equal(have[i].Data, entries[i]) {
			return store.ErrFenced
		}
	}
	return nil
}

// errGone: the log is gone, or a part that cannot be written again, and nobody else has the stream.
var errGone = errors.New("the log of the stream is lost")

// restore writes again what the store has lost of the log before an index: all of it, if it was evicted or the store has come back empty; the
// end, if the store has come back with an older state, as Redis does when a replica of its own takes over from a primary. To an append both
// look like another writer. Whether there is one the registration tells, and what the log still has: another one's claim would be
// there, or be first. Errors: ErrFenced (another replica writes the stream), errGone, ErrUnavailable.
func (s *Stream) restore(before int64) error {
	ctx, cancel := context.WithTimeout(context.Background(), attempt)
	defer cancel()
	s.mu.Lock()
	if s.kept.restoring == nil {
		s.kept.restoring = make(chan struct{}, 1)
	}
	restoring := s.kept.restoring
	s.mu.Unlock()
	select { // who writes and who asks may find it lost at the same time
	case restoring <- struct{}{}:
		defer func() { <-restoring }()
	case <-ctx.Done():
		return fmt.Errorf("writing a log again: %w", store.ErrUnavailable)
	}
	if mine, err := s.Holds(ctx); err != nil {
		return err
	} else if !mine {
		return store.ErrFenced
	}
	s.mu.Lock()
	first := s.next - int64(len(s.events)) // that is kept here
	var entries [][]byte
	if first < before {
		for _, e := range s.events[:before-first] {
			entries = append(entries, encode(e))
		}
	}
	s.mu.Unlock()
	if int64(len(entries)) < before && first > 0 {
		return s.unwritable(ctx, before)
	}
	have, next, err := s.kept.log.Read(ctx, s.kept.name, 0, len(entries))
	switch {
	case errors.Is(err, store.ErrNotFound):
	case err != nil && !errors.Is(err, store.ErrTrimmed):
		return err
	case err != nil, next > before, int64(len(have)) != next:
		return store.ErrFenced
	}
	for i := range have {
		if !bytes.Equal(have[i].Data, entries[i]) {
			return store.ErrFenced
		}
	}
	if next == before {
		return nil // it is all there again
	}
	bounds := store.Bounds{Entries: MaxEvents, Bytes: MaxBytes, TTL: KeepOpen}
	return s.kept.log.Append(ctx, s.kept.name, next, entries[next:], bounds)
}

// unwritable tells, of a log that this replica no longer has from its first event on, whether it is gone or another's.
func (s *Stream) unwritable(ctx context.Context, before int64) error {
	_, next, err := s.kept.log.Read(ctx, s.kept.name, before, 0)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return errGone
	case err == nil && next < before:
		end := [][]byte{encode(Event{Kind: End})} // for those who read it elsewhere
		if err := s.kept.log.Append(ctx, s.kept.name, next, end, store.Bounds{TTL: keepEnded}); err != nil {
			return err
		}
		return errGone
	case err == nil, errors.Is(err, store.ErrTrimmed):
		return store.ErrFenced
	}
	return err
}

// Holds reports whether this replica still is the registered writer of a durable stream, see [Stream.Held]. Errors: ErrUnavailable.
func (s *Stream) Holds(ctx context.Context) (bool, error) {
	s.mu.Lock()
	f := s.kept.held
	s.mu.Unlock()
	if f == nil {
		return true, nil
	}
	return f(ctx)
}

// Verify asks the log whether this replica still writes a durable stream. A writer that
// was taken for dead and says nothing would otherwise not learn that another one has taken over. It returns
// ErrLost if so, and the stream is then given up; a store that cannot tell is no error.
func (s *Stream) Verify(ctx context.Context) error {
	for {
		s.mu.Lock()
		at, idle, err := s.shown, !s.volatile() && s.shown == s.next && !s.kept.writing && !s.ended, s.err
		s.mu.Unlock()
		if err != nil || !idle {
			return err // what is being written tells
		}
		err = s.kept.log.Append(ctx, s.kept.name, at, nil, store.Bounds{Entries: MaxEvents, Bytes: MaxBytes, TTL: KeepOpen})
		if !errors.Is(err, store.ErrFenced) {
			return nil
		}
		same := func() bool {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.shown == at && s.next == at && !s.kept.writing
		}
		if !same() {
			continue
		}
		if err = s.restore(at); !errors.Is(err, store.ErrFenced) {
			return nil // an event that comes finds out what the store could not tell, or that the log is gone
		}
		if same() {
			s.Fail(ErrLost)
			return ErrLost
		}
	}
}

// settle tells those that wait for the end of the stream to be safe. s.mu is held.
func (s *Stream) settle() {
	k := s.kept
	if k == nil {
		return
	}
	if k.settled != nil && s.settled() {
		close(k.settled)
		k.settled = nil
	}
	if s.settled() && s.err == nil && k.onSettled != nil {
		go k.onSettled()
		k.onSettled = nil
	}
}

// Safe returns a channel that is closed when the end of a durable stream is in its log, or never will be. For a stream that
// is volatile, or has not ended, it is closed already.
func (s *Stream) Safe() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.volatile() || !s.ended || s.settled() {
		return safe
	}
	if s.kept.settled == nil {
		s.kept.settled = make(chan struct{})
	}
	return s.kept.settled
}

// safe is what Safe returns for most streams.
var safe = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// ClaimEntry returns the log entry by which a replica fences off the one before it. Claims of a stream are numbered.
func ClaimEntry(number int) []byte {
	return encode(Event{Kind: Claim, Data: strconv.AppendInt(nil, int64(number), 10)})
}

// ClaimNumber returns the number of a claim, and 0 for other events.
func ClaimNumber(e Event) int {
	if e.Kind != Claim {
		return 0
	}
	n, _ := strconv.Atoi(string(e.Data)) // written by ClaimEntry
	return n
}

func encode(e Event) []byte { return append([]byte{byte(e.Kind)}, e.Data...) }

// Decode reads an event back from its entry in a log.
func Decode(e store.Entry) Event {
	if len(e.Data) == 0 {
		return Event{Index: e.Index, Kind: End} // not written by us
	}
	return Event{Index: e.Index, Kind: Kind(e.Data[0]), Data: e.Data[1:]}
}
