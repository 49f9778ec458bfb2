package session

import (
	"context"
	"crypto/rand"
	"slices"
	"time"

	"github.com/sluice-mcp/sluice/internal/run"
	"github.com/sluice-mcp/sluice/internal/wire"
)

// standalone is a stream that a GET opened: it carries what belongs to no request.
type standalone struct {
	stream *run.Stream
	open   int       // connections that show it
	since  time.Time // when open became zero
}

// maxAlone bounds the standalone streams of one session.
const maxAlone = 16

// OpenStandalone opens a standalone stream. The newest one with a connection takes the messages.
func (s *Session) OpenStandalone() (*run.Stream, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrEnded
	}
	if len(s.alone) >= maxAlone {
		s.dropStandalone(s.alone[0])
	}
	st := run.NewStream(rand.Text(), 0)
	st.Persist(s.m.store, streamLog(s.ID, st.ID), s.rec.Version >= wire.Rev1125)
	s.alone = append(s.alone, &standalone{stream: st, since: time.Now()})
	s.keepStream(st)
	return st, nil
}

// Show notes that a connection shows a stream; the returned function, that it no longer does.
func (s *Session) Show(st *run.Stream) func() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.alone {
		if a.stream == st {
			a.open++
			return func() {
				s.mu.Lock()
				defer s.mu.Unlock()
				if a.open--; a.open == 0 {
					a.since = time.Now()
				}
			}
		}
	}
	return func() {}
}

// SayAlone puts a message on exactly one standalone stream: the newest one that has a
// connection, else the one that lost its connection last, for the client to come back to.
// Errors: ErrNoStream.
func (s *Session) SayAlone(data []byte) error {
	s.mu.Lock()
	var target *standalone
	for _, a := range s.alone {
		if target == nil || a.open > 0 || target.open == 0 && a.since.After(target.since) {
			target = a
		}
	}
	s.mu.Unlock()
	if target == nil {
		return ErrNoStream
	}
	return target.stream.Offer(data)
}

func (s *Session) dropStandalone(a *standalone) {
	s.alone = slices.DeleteFunc(s.alone, func(b *standalone) bool { return a == b })
	delete(s.streams, a.stream.ID)
	a.stream.End()
}

// dropStale ends the standalone streams whose clients have not come back. s.mu is held.
func (s *Session) dropStale(now time.Time) {
	for _, a := range slices.Clone(s.alone) {
		if a.open == 0 && now.Sub(a.since) > streamRest {
			s.dropStandalone(a)
		}
	}
	for id, st := range s.streams {
		if st.Settled() {
			delete(s.streams, id) // the log has it all
		}
	}
}

// KeepStream notes a stream that a client may come back to, and makes it durable.
func (s *Session) KeepStream(st *run.Stream) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrEnded
	}
	if st.ID == "" { // most streams are never seen: an ID is made for those that are
		st.ID = rand.Text()
	}
	st.Persist(s.m.store, streamLog(s.ID, st.ID), s.rec.Version >= wire.Rev1125)
	s.keepStream(st)
	return nil
}

func (s *Session) keepStream(st *run.Stream) {
	if s.streams == nil {
		s.streams = make(map[string]*run.Stream)
	}
	s.streams[st.ID] = st
}

// Stream returns the stream of this session with the given ID, if it is written here.
func (s *Session) Stream(id string) *run.Stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.streams[id]
}

// EndStandalone ends the standalone streams: their clients are told to come back, elsewhere.
func (s *Session) EndStandalone(retry time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.alone {
		a.stream.Release(retry)
	}
}

// Changed tells the client that a list of the server has changed, if it is there to hear it.
func (s *Session) Changed(method string) {
	s.mu.Lock()
	initialized := s.rec.Initialized
	s.mu.Unlock()
	if initialized {
		_ = s.SayAlone(wire.AppendCall(nil, "", method, []byte("{}"))) // without a stream the client asks when it needs
	}
}

// ReadLog returns the events after the given index of a stream of this session that is not
// written here. Errors: store.ErrNotFound, store.ErrTrimmed, store.ErrUnavailable.
func (s *Session) ReadLog(ctx context.Context, stream string, after int64) ([]run.Event, error) {
	entries, _, err := s.m.store.Read(ctx, streamLog(s.ID, stream), after+1, run.MaxEvents)
	if err != nil {
		return nil, err
	}
	events := make([]run.Event, len(entries))
	for i, e := range entries {
		events[i] = run.Decode(e)
	}
	return events, nil
}
