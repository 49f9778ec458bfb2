package run

import "time"

// Reader shows a stream's events to one HTTP response.
type Reader struct {
	s   *Stream
	pos int64 // index of the next event to show
	// ahead: the client has seen, with an ID, what this replica does not know to be in the log. Another one may have written it.
	ahead bool
	wake  chan struct{} // nil until somebody waits: who reads a fast call never does

	// Held by the stream, and told of by wake.
	taken    bool
	released bool
	retry    time.Duration
}

// Attach begins to read after the event with index after (-1: from the first). It takes the
// stream over from the reader before: a client that comes back may be
// faster than the news that its old connection is dead.
func (s *Stream) Attach(after int64) *Reader {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.attach(after + 1)
}

// attach begins to read at an event. s.mu is held.
func (s *Stream) attach(pos int64) *Reader {
	r := &Reader{s: s, pos: pos}
	if s.reader != nil {
		s.reader.taken = true
		s.reader.rouse()
	}
	s.reader = r
	r.ahead = r.pos > s.shown
	s.wake()
	return r
}

// AttachUnread is [Stream.Attach] for a client that has nothing of the stream, and repeats its request: it begins with the first event
// that is still here, also when the stream was abandoned. It returns nil if the stream has ended, and nothing is left.
func (s *Stream) AttachUnread() *Reader {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended && len(s.events) == 0 {
		return nil
	}
	s.deaf, s.wanted = false, true
	return s.attach(s.next - int64(len(s.events)))
}

// Spend takes what [Reader.Whole] has returned out of the stream, for whoever has shown it to do with it what he likes. It reports false
// when another reader has it, too, or may yet.
func (r *Reader) Spend() bool {
	s := r.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.wanted || s.reader != r {
		return false
	}
	s.events, s.bytes = nil, 0
	return true
}

// Rouse wakes whoever waits, though there may be nothing new.
func (r *Reader) Rouse() {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	r.rouse()
}

// rouse tells of something new. The stream's mutex is held.
func (r *Reader) rouse() {
	if r.wake == nil {
		return
	}
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Wake has an element when [Reader.Next], [Reader.Taken] or [Reader.Released] may have something new.
func (r *Reader) Wake() <-chan struct{} {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	if r.wake == nil {
		r.wake = make(chan struct{}, 1)
		r.wake <- struct{}{} // there may have been something since the reader last looked
	}
	return r.wake
}

// Taken reports whether another reader has taken the stream over.
func (r *Reader) Taken() bool {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	return r.taken
}

// Released reports whether the connection is to be closed, and how long the client should then wait.
func (r *Reader) Released() (retry time.Duration, released bool) {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	return r.retry, r.released
}

// Whole returns the stream's events when it has ended and has only responses (none, if it
// was cancelled, or another reader has taken it over), so that it needs no stream. speaks reports that there is a message,
// so that it does need one. Nothing is marked as shown.
func (r *Reader) Whole() (responses []Event, whole, speaks bool) {
	s := r.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.taken || s.ended && len(s.events) == 0 {
		return nil, true, false
	}
	for i := range s.events {
		if s.events[i].Kind == Message {
			return nil, false, true
		}
	}
	if !s.ended {
		return nil, false, false
	}
	if s.events[len(s.events)-1].Kind == End {
		return s.events[:len(s.events)-1], true, false
	}
	return s.events, true, false
}

// Turn makes an event stream of what could have been one body. It does nothing, and reports false, when that is possible still,
// because the stream has come to its end: see [Reader.Whole].
func (r *Reader) Turn() bool {
	s := r.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended && !s.spoken && s.volatile() {
		return false
	}
	s.visible = true
	return true
}

// Behind reports that the reader began at events that are no longer kept.
func (r *Reader) Behind() bool {
	s := r.s
	s.mu.Lock()
	defer s.mu.Unlock()
	return r.pos < s.next-int64(len(s.events)) || r.pos > s.next
}

// Next returns the events that may be shown and were not, and whether the stream ends with them. It does not wait.
// Errors: ErrTrimmed, or the one that the stream failed with.
func (r *Reader) Next() (events []Event, ended bool, err error) {
	s := r.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.taken { // what comes now is the other reader's to show, and no message goes to two streams
		return nil, false, nil
	}
	first := s.next - int64(len(s.events))
	if r.pos < first {
		return nil, false, ErrTrimmed
	}
	visible := s.shown
	r.ahead = r.ahead && r.pos > s.shown
	if s.adrift() && !r.ahead {
		visible = s.next
	}
	if r.pos < visible {
		events = append(events, s.events[r.pos-first:visible-first]...)
		for i := range events {
			events[i].Unlogged = events[i].Index >= s.shown
		}
		r.pos = visible
		if s.volatile() && s.reader == r { // nobody can ask for these again
			clear(s.events[:r.pos-first])
			s.events = s.events[r.pos-first:]
			for _, e := range events {
				s.bytes -= len(e.Data)
			}
		}
		if !s.volatile() {
			s.trim()
		}
		s.makeRoom()
	}
	ended = s.ended && r.pos == s.next
	if s.err != nil && !ended {
		err = s.err
	}
	return events, ended, err
}

// Shown returns when somebody last read a durable stream: now, if somebody does, and the zero time if nobody ever did.
func (s *Stream) Shown() (last time.Time, now bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reader != nil {
		return time.Now(), true
	}
	if s.kept == nil {
		return last, false
	}
	return s.kept.left, false
}

// Detach ends the reading, if it has not been taken over.
func (r *Reader) Detach() {
	s := r.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reader == r {
		s.reader = nil
		if !s.volatile() {
			s.kept.left = time.Now()
			s.trim()
		}
		s.makeRoom()
	}
}
