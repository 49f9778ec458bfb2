// Package run owns a run: one client request being executed, and the stream of
// messages that it owes its client, ending in exactly one response.
//
// A stream has one writer and at most one reader at a time. It is written by
// handlers and read by HTTP responses, which this package does not know.
package run

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/sluice-mcp/sluice/store"
)

// Kind says what an event is. It is the first byte of the event's entry in the log.
type Kind byte

// The kinds of event.
const (
	Message  Kind = 'm' // a notification, or a request to the client
	Response Kind = 'r' // a response; others are still owed (batches of 2025-03-26)
	Last     Kind = 'R' // the last response: the stream ends with it
	End      Kind = 'x' // the stream ends without a response (cancelled, session closed)
	Prime    Kind = 'p' // no data: tells the client an ID to resume from (2025-11-25)
	Claim    Kind = 'c' // another replica took the stream over; never shown
	Name     Kind = 'n' // names the message that follows, see [Stream.OfferOnce]; never shown
)

// Event is one element of a stream.
type Event struct {
	Index int64
	Kind  Kind
	Data  []byte
	// Status is the HTTP status of a response that is all there is. It is not logged.
	Status int
	// Unlogged: the event is shown though it is not in the log, see [Stream.Persist]. Nobody can come back after it by its ID.
	Unlogged bool
}

// Errors of a stream.
var (
	// ErrEnded: the stream has its last event; what comes later belongs nowhere.
	ErrEnded = errors.New("the request has been answered")
	// ErrTrimmed: the events asked for are no longer kept.
	ErrTrimmed = errors.New("events are no longer kept")
	// ErrFull: too much is waiting and the writer may not wait.
	ErrFull = errors.New("the stream is full")
	// ErrLost: another replica writes the stream now.
	ErrLost = errors.New("the stream belongs to another replica")
	// ErrLeft is the ErrLost of a stream that was let go here, for another replica to take.
	ErrLeft = fmt.Errorf("let go: %w", ErrLost)
)

// Bounds of what one stream keeps. The log in the store keeps as much.
const (
	MaxEvents = 1024
	MaxBytes  = 4 << 20
	// keepEnded is how long the log of a stream that has ended is kept, for clients that come back late; KeepOpen, how
	// long that of one which says nothing more.
	keepEnded = 10 * time.Minute
	KeepOpen  = 6 * time.Hour
	// Large ones are kept for less: calls that have ended are under no limit.
	largeLog  = 64 << 10
	keepLarge = time.Minute
)

// Stream is the ordered messages that one HTTP response owes a client. It starts
// volatile: what was read is forgotten. [Stream.Persist] makes it durable:
// events go to a log first and are kept, within bounds, for clients that come back.
type Stream struct {
	// ID names the stream in event IDs. It is unguessable.
	ID string

	mu     sync.Mutex
	events []Event
	bytes  int
	next   int64 // index of the next event
	shown  int64 // events below it may be shown
	owed   int   // responses still to come
	ended  bool
	deaf   bool // nobody reads, or will before the request is repeated
	wanted bool // it was, so what is shown once may be asked for again
	// visible: it is shown as it comes, and no longer as one body. spoken: there was more than responses, so that it will be.
	visible, spoken bool
	err             error // why nothing will be shown any more

	reader  *Reader
	stalled int64         // where a reader was when it was last waited for in vain
	room    chan struct{} // closed when there may be room again; nil while nobody waits

	kept *kept // nil for most streams, which are volatile to their end

	first [1]Event // room for the response of a call that says nothing else
}

// kept is what a stream that is durable, or about to be, has besides its events.
type kept struct {
	log     store.Log       // nil: still volatile
	name    string          // of the log
	within  context.Context //nolint:containedctx // whose values appends have, see Within
	writing bool            // a goroutine is in commit

	bounds store.Bounds // of the append under way; commit's

	adrift bool                                // what is not in the log is shown all the same
	cut    bool                                // adrift for good: nothing more goes to the log
	held   func(context.Context) (bool, error) // see Held

	restoring chan struct{} // has an element while the log is written again; nil until it is

	left time.Time // when the last reader left

	repeats   *repeats // set when a call runs again
	onLost    func(why error)
	onSettled func()
	settled   chan struct{} // see Safe
}

// keep returns what the stream is kept with, to be changed. s.mu is held.
func (s *Stream) keep() *kept {
	if s.kept == nil {
		s.kept = &kept{}
	}
	return s.kept
}

// volatile reports whether events go to no log. s.mu is held.
func (s *Stream) volatile() bool { return s.kept == nil || s.kept.log == nil }

// adrift reports whether what is said need not get into the log: it cannot, and somebody is shown it all the same. s.mu is held.
func (s *Stream) adrift() bool {
	return s.kept != nil && (s.kept.cut || s.kept.adrift && s.reader != nil)
}

// settled reports whether nothing more will happen to the log. s.mu is held.
func (s *Stream) settled() bool {
	return s.err != nil || s.ended && (s.shown == s.next || s.kept != nil && s.kept.cut)
}

// NewStream returns a volatile stream that ends when owed responses are in. With
// none owed it goes on until [Stream.End].
func NewStream(id string, owed int) *Stream {
	s := &Stream{ID: id, owed: owed, stalled: -1}
	s.events = s.first[:0]
	return s
}

// Send appends a message. While too much waits, either in front of the log or for
// a slow reader, Send waits too: a handler must not outrun its client without
// bound. Errors: ErrEnded, ErrLost, ctx's.
func (s *Stream) Send(ctx context.Context, data []byte) error {
	if s.said(data) {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.full() && s.err == nil && !s.ended {
		if err := s.awaitRoom(ctx); err != nil {
			return err
		}
	}
	return s.append(Event{Kind: Message, Data: data})
}

// awaitRoom waits until there may be room again. s.mu is held, but not while waiting. Errors: ctx's.
func (s *Stream) awaitRoom(ctx context.Context) error {
	if s.room == nil {
		s.room = make(chan struct{})
	}
	room := s.room
	s.mu.Unlock()
	defer s.mu.Lock()
	select {
	case <-room:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// said reports whether a call that runs again has said this before.
func (s *Stream) said(data []byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.kept != nil && s.kept.repeats != nil && s.kept.repeats.drop(data)
}

// offerPatience is how long a reader whose stream is full gets to read some of it.
const offerPatience = 500 * time.Millisecond

// Offer appends a message for a reader among many. It waits a moment for one that is behind, so that a
// burst does not cost it the stream, but only once for one that does not read at all: those after it must not
// wait. A durable stream makes room by forgetting its oldest events. Errors: ErrFull, ErrEnded, ErrLost.
func (s *Stream) Offer(data []byte) error { return s.OfferOnce("", data) }

// OfferOnce is [Stream.Offer] for a message that has a name, by which several replicas know it. It does nothing when the stream has had a
// message of this name already, whichever replica wrote it.
func (s *Stream) OfferOnce(name string, data []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.full() && s.reader != nil && s.reader.pos != s.stalled {
		at := s.reader.pos
		patience, cancel := context.WithTimeout(context.Background(), offerPatience)
		_ = s.awaitRoom(patience) // it may still be full: see below
		cancel()
		if s.full() {
			s.stalled = at
		}
	}
	if s.full() && (s.volatile() || !s.adrift() && s.unlogged()) {
		return ErrFull
	}
	if name != "" {
		for _, e := range s.events {
			if e.Kind == Name && string(e.Data) == name {
				return nil
			}
		}
		if err := s.append(Event{Kind: Name, Data: []byte(name)}); err != nil { // in one append with its message: the lock is held
			return err
		}
	}
	return s.append(Event{Kind: Message, Data: data})
}

// Respond appends a response. It never waits: a handler that is done is done.
func (s *Stream) Respond(data []byte, status int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	kind := Response
	if s.owed <= 1 {
		kind = Last
	}
	return s.append(Event{Kind: kind, Data: data, Status: status})
}

// Forgo takes back one owed response: its request was cancelled. The last one ends the stream.
func (s *Stream) Forgo() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.owed > 1 {
		s.owed--
		return
	}
	_ = s.append(Event{Kind: End})
}

// End ends the stream without a response, if it has not ended.
func (s *Stream) End() {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.append(Event{Kind: End})
}

// Abandon says that the client of a volatile stream is gone and has no event ID to come back with. What is written is dropped from now
// on, but for the response: it may repeat its request, see [Stream.AttachUnread]. Nothing happens when it has, and reads already.
func (s *Stream) Abandon() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.volatile() && s.reader == nil {
		keep := 0
		if s.ended {
			keep = min(1, len(s.events)) // it has come a moment ago
		}
		s.deaf, s.events, s.bytes = true, s.events[len(s.events)-keep:], 0
		for _, e := range s.events {
			s.bytes += len(e.Data)
		}
		s.wake()
	}
}

// Fail gives the stream up: nothing is written or shown any more, and its reader is told err.
func (s *Stream) Fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
		if errors.Is(err, ErrLost) && s.kept != nil && s.kept.onLost != nil {
			go s.kept.onLost(err)
		}
	}
	s.settle()
	s.wake()
}

// Unwritten calls f with the messages that are not in the log, and their names.
func (s *Stream) Unwritten(f func(name string, data []byte)) {
	s.mu.Lock()
	events := slices.Clone(s.events[max(0, int64(len(s.events))-(s.next-s.shown)):])
	s.mu.Unlock()
	name := ""
	for _, e := range events {
		switch e.Kind {
		case Name:
			name = string(e.Data)
		case Message:
			f(name, e.Data)
			name = ""
		}
	}
}

// Durable reports whether the stream has been persisted.
func (s *Stream) Durable() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.volatile()
}

// Ended reports whether the last event is in, shown or not.
func (s *Stream) Ended() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended
}

// full reports whether a writer that can wait should: half of the bounds, so that
// those that cannot wait still find room. What waits is what is not in the log yet, and what
// the reader, if there is one, has not been shown.
func (s *Stream) full() bool {
	from := s.next - int64(len(s.events))
	if !s.volatile() {
		from = s.shown
	}
	if s.adrift() {
		from = s.next // what waits for the log holds nobody up any more
	}
	if s.reader != nil && (s.volatile() || s.reader.pos < from) {
		from = max(s.reader.pos, s.next-int64(len(s.events)))
	}
	if s.next-from >= MaxEvents/2 {
		return true
	}
	if s.bytes < MaxBytes/2 {
		return false
	}
	size := 0
	for _, e := range s.events[int64(len(s.events))-(s.next-from):] {
		if size += len(e.Data); size >= MaxBytes/2 {
			return true
		}
	}
	return false
}

// unlogged reports whether what is not in the log yet has reached the bounds: the store is away.
func (s *Stream) unlogged() bool {
	n, size := s.next-s.shown, 0
	if s.bytes < MaxBytes {
		return n >= MaxEvents
	}
	for _, e := range s.events[int64(len(s.events))-n:] {
		size += len(e.Data)
	}
	return n >= MaxEvents || size >= MaxBytes
}

func (s *Stream) append(e Event) error {
	switch {
	case s.err != nil:
		return s.err
	case s.ended:
		return ErrEnded
	}
	if !s.deaf || e.Kind == Response || e.Kind == Last { // a client that repeats its request may want the response yet
		e.Index = s.next
		s.events = append(s.events, e)
		s.next++
		s.bytes += len(e.Data)
	}
	switch e.Kind {
	case Message:
		s.spoken = true
	case Response:
		s.owed--
	case Last, End:
		s.ended = true
	}
	if s.volatile() {
		s.shown = s.next
		s.wake()
		return nil
	}
	s.trim()
	if s.kept.adrift {
		s.wake()
	}
	s.startCommit()
	return nil
}

// Release asks the response that shows the stream to close its connection, after it has
// told the client to come back in retry (0: without a word). It does nothing when
// nobody shows the stream.
func (s *Stream) Release(retry time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reader != nil && !s.reader.released {
		s.reader.released, s.reader.retry = true, retry
		s.reader.rouse()
	}
}

// trim forgets the oldest events over the bounds. Those that are not yet in the log stay, unless they are shown without it, and, up to
// twice the bounds, those that the reader there is has not been shown.
func (s *Stream) trim() {
	for len(s.events) > 1 && (s.events[0].Index < s.shown || s.adrift()) && s.over(1) {
		if s.reader != nil && s.events[0].Index >= s.reader.pos && !s.over(2) {
			return
		}
		s.bytes -= len(s.events[0].Data)
		s.events[0].Data = nil
		s.events = s.events[1:]
	}
}

// over reports whether more is kept than n times the bounds.
func (s *Stream) over(n int) bool { return len(s.events) > n*MaxEvents || s.bytes > n*MaxBytes }

func (s *Stream) wake() {
	if s.reader != nil {
		s.reader.rouse()
	}
	s.makeRoom()
}

// makeRoom wakes those in awaitRoom. s.mu is held.
func (s *Stream) makeRoom() {
	if s.room != nil {
		close(s.room)
		s.room = nil
	}
}

// Settled reports whether the stream has ended and all of it is in its log, or never will be.
func (s *Stream) Settled() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.settled()
}

// Abandoned reports whether nobody reads the stream any more, see [Stream.Abandon].
func (s *Stream) Abandoned() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.deaf
}

// Full reports whether so much waits for the reader that nothing more should be begun that will have to be said.
func (s *Stream) Full() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.full()
}
