package run

import (
	"errors"

	"github.com/sluice-mcp/sluice/observe"
)

// End is what an observer is told of the end of a run: e if the response of its handler was sent, else why it was not.
func (r *Run) End(e observe.End, sent bool) observe.End {
	e.Bytes = r.said.Load()
	if sent {
		if e.Shape == "" {
			e.Shape = r.Stream.shape()
		}
		return e
	}
	e = observe.End{Outcome: observe.Unfinished, Bytes: e.Bytes}
	switch {
	case errors.Is(r.Stream.failed(), ErrLost):
		e.Outcome = observe.TakenOver
	case r.state.Load() == cancelled:
		e.Outcome = observe.Cancelled
	}
	return e
}

// shape is how the client was answered whose last response is in.
func (s *Stream) shape() observe.Shape {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.visible || s.spoken {
		return observe.Stream
	}
	return observe.JSON
}

// failed returns why nothing will be shown of the stream any more, or nil.
func (s *Stream) failed() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}
