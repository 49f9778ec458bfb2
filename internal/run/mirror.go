package run

import (
	"context"

	"github.com/sluice-mcp/sluice/store"
)

// NewMirror returns a stream that shows, after the given index, what another replica writes into its log.
func NewMirror(id string, after int64) *Stream {
	return &Stream{ID: id, next: after + 1, shown: after + 1, owed: 1, stalled: -1}
}

// Feed adds events that were read from the log; they must go on where the last ones ended. It waits
// while the reader is slow. Errors: ctx's.
func (s *Stream) Feed(ctx context.Context, events []Event) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range events {
		for s.full() && s.reader != nil {
			if err := s.awaitRoom(ctx); err != nil {
				return err
			}
		}
		s.events = append(s.events, e)
		s.next, s.shown = e.Index+1, e.Index+1
		s.bytes += len(e.Data)
		s.ended = s.ended || e.Kind == Last || e.Kind == End
		s.wake()
	}
	return nil
}

// Close says that a mirror has nothing more to show.
func (s *Stream) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	s.wake()
}

// Next returns the index of the stream's next event.
func (s *Stream) Next() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.next
}

// Own makes this replica the writer of a mirror, whose log it has claimed. owed responses are still to
// come. kept is what the log holds, up to the mirror's end: clients may come back to it, and when a call runs
// again, what it says again is not said twice.
func (s *Stream) Own(log store.Log, name string, owed int, kept []Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.keep()
	k.log, k.name, s.owed = log, name, owed
	if n := len(kept); n > 0 && kept[n-1].Index == s.next-1 {
		s.events, s.bytes = kept, 0
		for _, e := range kept {
			s.bytes += len(e.Data)
		}
		k.repeats = newRepeats(kept)
	}
}

// Lost sets what is called, once, when another replica has taken the stream over (ErrLost), or may (ErrLeft).
func (s *Stream) Lost(f func(why error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keep().onLost = f
}

// Held sets how to find out whether this replica still is the registered writer of the stream; f registers it again if the store has lost
// that, and nobody else has been faster. Without it the stream is nobody else's.
func (s *Stream) Held(f func(context.Context) (bool, error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keep().held = f
}

// WhenSettled sets what is called, once, when the end of the stream is in the log.
func (s *Stream) WhenSettled(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keep().onSettled = f
}
