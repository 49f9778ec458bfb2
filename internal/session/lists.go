package session

import (
	"context"
	"time"

	"github.com/sluice-mcp/sluice/internal/engine"
	"github.com/sluice-mcp/sluice/internal/wire"
)

// A client keeps what it has listed until it is told that a list has changed. Its record says which lists it knows of: those that its
// server had when it was opened, and then those of which it was told. Where a session meets other ones, it is told: at a replica
// of another version, or when it begins to listen after a change that nobody was there to hear.

// CatchUp tells the client, aside, of the lists of its server that are others than those it knows of. A client that does not listen
// is told when it does.
func (s *Session) CatchUp() { go s.catchUp() }

// catchUpAdopted does so for a session that has just come to life as the record says. adopted: it has not lived here before.
func (s *Session) catchUpAdopted(adopted bool) {
	if s.m.Replica == nil {
		return // the server is the same, and what it had to say was said to those who listened
	}
	if now := s.Engine.KnownLists(); adopted || now != "" && now != s.rec.Lists {
		s.CatchUp()
	}
}

const catchUpTimeout = 10 * time.Second

func (s *Session) catchUp() {
	ctx, cancel := context.WithTimeout(context.Background(), catchUpTimeout)
	defer cancel()
	known, now := s.lists(ctx)
	if now == known {
		return
	}
	methods := now.Changed(known)
	if len(methods) > 0 && !s.listens(ctx) {
		return
	}
	// The record first: of several that find the same, one tells.
	if first, err := s.setLists(ctx, known, now); err != nil || !first {
		return // it is found again
	}
	about := s.Engine.Describe(ctx, nil)
	for _, method := range methods {
		if !about.Tells(method) {
			continue
		}
		if err := s.SayAlone(wire.AppendCall(nil, "", method, []byte("{}"))); err != nil {
			_, _ = s.setLists(ctx, now, known) // its stream has just gone: again with the next
			return
		}
	}
}

// told notes that the client has heard of the lists as they are now.
func (s *Session) told() {
	ctx, cancel := context.WithTimeout(context.Background(), catchUpTimeout)
	defer cancel()
	if known, now := s.lists(ctx); now != known {
		_, _ = s.setLists(ctx, known, now) // else it is told once more
	}
}

// lists returns those that the client knows of, and those of its server. They are equal where nothing is to be said.
func (s *Session) lists(ctx context.Context) (known, now engine.Lists) {
	s.mu.Lock()
	known = s.rec.Lists
	silent := !s.rec.Initialized || s.unstored || s.closed
	s.mu.Unlock()
	if silent {
		return known, known
	}
	if now = s.Engine.Lists(ctx); now == "" {
		return known, known
	}
	return known, now
}

func (s *Session) setLists(ctx context.Context, from, to engine.Lists) (changed bool, err error) {
	err = s.rewrite(ctx, func(r *Record) {
		if changed = r.Lists == from; changed {
			r.Lists = to
		}
	})
	return changed && err == nil, err
}

// listens reports whether there is a standalone stream, at whichever replica.
func (s *Session) listens(ctx context.Context) bool {
	s.mu.Lock()
	here := len(s.alone) > 0
	s.mu.Unlock()
	if here || s.m.Replica == nil {
		return here
	}
	_, err := s.m.Store.Get(ctx, aloneKey(s.ID))
	return err == nil
}
