package run

import (
	"bytes"
	"context"
	"errors"
	"time"

	"github.com/sluice-mcp/sluice/store"
)

// Persist makes the stream durable: from now on an event is in the log before it is
// shown. Nothing may have been shown yet. With prime, an event without
// data comes first, whose ID the client can resume from before anything was said.
func (s *Stream) Persist(log store.Log, name string, prime bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.deaf {
		return
	}
	s.log, s.logName = log, name
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

// startCommit sees to it that what waits gets into the log. There is a goroutine only
// while something waits, so that a quiet stream costs none.
func (s *Stream) startCommit() {
	if !s.writing {
		s.writing = true
		go s.commit()
	}
}

// commit writes what waits to the log, all of it in one round trip each time.
func (s *Stream) commit() {
	const firstPause, longestPause = 50 * time.Millisecond, 2 * time.Second
	pause := firstPause
	unsure := false // the outcome of an earlier attempt is not known
	for {
		s.mu.Lock()
		from := s.shown
		if from == s.next || s.err != nil {
			s.writing = false
			s.mu.Unlock()
			return
		}
		waiting := s.events[int64(len(s.events))-(s.next-from):]
		entries := make([][]byte, len(waiting))
		for i, e := range waiting {
			entries[i] = encode(e)
		}
		bounds := store.Bounds{Entries: MaxEvents, Bytes: MaxBytes, TTL: KeepOpen}
		if s.ended {
			bounds.TTL = keepEnded
		}
		s.mu.Unlock()

		// The time limit is for a store that hangs; what the handler's client does must not matter here.
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		err := s.log.Append(ctx, s.logName, from, entries, bounds)
		if errors.Is(err, store.ErrFenced) && unsure && s.wrote(ctx, from, entries) {
			err = nil
		}
		cancel()
		switch {
		case err == nil:
			unsure, pause = false, firstPause
			s.mu.Lock()
			s.shown = from + int64(len(entries))
			s.trim()
			s.wake()
			s.mu.Unlock()
		case errors.Is(err, store.ErrFenced), errors.Is(err, store.ErrClosed):
			s.Fail(ErrLost)
		default:
			unsure = true
			time.Sleep(pause) // the store is away; the handler waits when too much is waiting here
			pause = min(2*pause, longestPause)
		}
	}
}

// wrote reports whether the entries are in the log although the attempt to append them failed.
func (s *Stream) wrote(ctx context.Context, from int64, entries [][]byte) bool {
	have, next, err := s.log.Read(ctx, s.logName, from, len(entries))
	if err != nil || next != from+int64(len(entries)) || len(have) != len(entries) {
		return false
	}
	for i := range have {
		if !bytes.Equal(have[i].Data, entries[i]) {
			return false
		}
	}
	return true
}

// Entry returns the log entry of an event without data.
func Entry(k Kind) []byte { return encode(Event{Kind: k}) }

func encode(e Event) []byte { return append([]byte{byte(e.Kind)}, e.Data...) }

// Decode reads an event back from its entry in a log.
func Decode(e store.Entry) Event {
	if len(e.Data) == 0 {
		return Event{Index: e.Index, Kind: End} // not written by us
	}
	return Event{Index: e.Index, Kind: Kind(e.Data[0]), Data: e.Data[1:]}
}
