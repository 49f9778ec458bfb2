package session

import (
	"hash/maphash"
	"slices"
	"time"

	"github.com/sluice-mcp/sluice/internal/run"
	"github.com/sluice-mcp/sluice/internal/wire"
)

// A request that comes again as it was, with the same ID and the same bytes, is the one before, while that is in flight or its stream is
// kept: its client has lost the connection before it had an event ID to come back with. This costs nothing while nobody repeats,
// so only the replica that has served the request knows of it.

// Earlier is a request that has ended, and that its client may repeat.
type Earlier struct {
	// Stream is the ID of its durable stream, or "".
	Stream string
	// Unread is its stream, when its client left before it became durable.
	Unread *run.Stream

	id    string // key of the request's ID
	wants uint64
	until time.Time
}

const (
	maxEarlier = 16 // of one session
	// keepEarlier is how long the log of a stream is kept that has ended, and keepUnread how long a response that nobody has read.
	keepEarlier = 10 * time.Minute
	keepUnread  = time.Minute
)

var prints = maphash.MakeSeed()

func printOf(method string, params []byte) uint64 {
	var h maphash.Hash
	h.SetSeed(prints)
	_, _ = h.WriteString(method) // neither can fail
	_ = h.WriteByte(0)
	_, _ = h.Write(params)
	return h.Sum64()
}

// Remember notes a request that ends, if its client can have any of it again.
func (s *Session) Remember(r *run.Run, params []byte) {
	e := Earlier{id: r.ID.Key(), until: time.Now()}
	switch {
	case r.Stream.Durable():
		e.Stream, e.until = r.Stream.ID, e.until.Add(keepEarlier)
	case r.Stream.Abandoned():
		e.Unread, e.until = r.Stream, e.until.Add(keepUnread)
	default:
		return
	}
	e.wants = printOf(r.Method, params)
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	of, ok := s.m.residents[s.ID]
	if !ok {
		return
	}
	if of.earlier = prune(of.earlier, time.Now()); of.earlier == nil {
		of.earlier = new([]Earlier)
	}
	s.m.residents[s.ID] = of
	*of.earlier = append(slices.DeleteFunc(*of.earlier, func(have Earlier) bool {
		return have.id == e.id
	}), e)
	if n := len(*of.earlier); n > maxEarlier {
		*of.earlier = slices.Delete(*of.earlier, 0, n-maxEarlier)
	}
	s.m.remembering.Store(true)
}

// Earlier returns the request that has ended here and comes again, or nil.
func (s *Session) Earlier(id wire.ID, method string, params []byte) *Earlier {
	if !s.m.remembering.Load() {
		return nil
	}
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	all := s.m.residents[s.ID].earlier
	if all == nil {
		return nil
	}
	i := slices.IndexFunc(*all, func(e Earlier) bool { return e.id == id.Key() })
	if i < 0 || (*all)[i].wants != printOf(method, params) || time.Now().After((*all)[i].until) {
		return nil
	}
	found := (*all)[i]
	return &found
}

// prune returns the requests that can still be repeated; nil if there are none.
func prune(all *[]Earlier, now time.Time) *[]Earlier {
	if all == nil {
		return nil
	}
	*all = slices.DeleteFunc(*all, func(e Earlier) bool { return now.After(e.until) })
	if len(*all) == 0 {
		return nil
	}
	return all
}
