package session

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/sluice-mcp/sluice/internal/observed"
	"github.com/sluice-mcp/sluice/internal/run"
	"github.com/sluice-mcp/sluice/internal/wire"
	"github.com/sluice-mcp/sluice/observe"
)

// standalone is a stream that a GET opened: it carries what belongs to no request.
type standalone struct {
	stream *run.Stream
	since  time.Time // when it was opened here
}

// shown returns when its client was last there, and whether it is.
func (a *standalone) shown() (last time.Time, now bool) {
	last, now = a.stream.Shown()
	if last.Before(a.since) {
		last = a.since
	}
	return last, now
}

// maxAlone bounds the standalone streams of one session.
const maxAlone = 16

// aloneMark begins the ID of a standalone stream, and never that of another (base32 has no 0): whether an ID is one must be known
// when nothing else is left of the stream.
const aloneMark = "0"

// IsStandalone reports whether a stream with this ID is, or was, one that belongs to no request.
func IsStandalone(stream string) bool { return strings.HasPrefix(stream, aloneMark) }

// OpenStandalone opens a standalone stream. The newest one with a connection takes the messages.
// Errors: ErrEnded, store.ErrUnavailable.
func (s *Session) OpenStandalone(ctx context.Context) (*run.Stream, error) {
	if err := s.connectListener(ctx); err != nil {
		return nil, err
	}
	if err := s.claimAlone(ctx); err != nil {
		return nil, err
	}
	st := run.NewStream(aloneMark+rand.Text(), 0)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrEnded
	}
	if len(s.alone) >= maxAlone {
		s.dropStandalone(s.alone[0])
	}
	s.persist(st, nil)
	s.alone = append(s.alone, &standalone{stream: st, since: time.Now()})
	return st, nil
}

// Carry makes st the only stream of a session of the HTTP+SSE transport (2024-11-05), which ends with its connection:
// nothing of it is stored.
func (s *Session) Carry(st *run.Stream) {
	s.m.carry(s.ID)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.alone = []*standalone{{stream: st}}
	s.unstored = true
}

// adoptAlone takes a standalone stream that another replica has let go.
func (s *Session) adoptAlone(st *run.Stream) {
	_ = s.connectListener(context.Background()) // the next call says what is wrong
	s.adopt(st, registration{})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.alone = append(s.alone, &standalone{stream: st, since: time.Now()})
}

// Standalone reports whether the stream belongs to no request.
func (s *Session) Standalone(st *run.Stream) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.alone, func(a *standalone) bool { return a.stream == st })
}

// sayHere puts a message on exactly one standalone stream of this replica: the newest one that has a
// connection, else the one that lost its connection last, for the client to come back to.
// Errors: ErrNoStream.
func (s *Session) sayHere(name string, data []byte) error {
	s.mu.Lock()
	var target *standalone
	var best time.Time
	there := false
	for _, a := range s.alone {
		if last, now := a.shown(); target == nil || now || !there && last.After(best) {
			target, best, there = a, last, now
		}
	}
	s.mu.Unlock()
	if target == nil {
		return ErrNoStream
	}
	return target.stream.OfferOnce(name, data)
}

// dropStandalone ends a standalone stream. s.mu is held.
func (s *Session) dropStandalone(a *standalone) {
	s.alone = slices.DeleteFunc(s.alone, func(b *standalone) bool { return a == b })
	s.dropStream(a.stream)
	a.stream.End()
	if s.m.Replica != nil && len(s.alone) == 0 {
		go s.unclaimAlone()
	}
}

// dropStale ends the standalone streams whose clients have not come back. s.mu is held.
func (s *Session) dropStale(now time.Time) {
	for _, a := range slices.Clone(s.alone) {
		if last, there := a.shown(); !there && now.Sub(last) > streamRest {
			s.dropStandalone(a)
		}
	}
	s.streams = slices.DeleteFunc(s.streams, func(st *run.Stream) bool {
		settled := st.Settled() // the log has it all
		if settled {
			s.alone = slices.DeleteFunc(s.alone, func(a *standalone) bool { return a.stream == st })
		}
		return settled
	})
}

// KeepStream registers a stream that a client may come back to, with the calls that it owes, and makes it
// durable. What goes to the store for it has the values of ctx. Errors: ErrEnded, store.ErrUnavailable.
func (s *Session) KeepStream(ctx context.Context, st *run.Stream, calls []Pending) error {
	if st.ID == "" { // most streams are never seen: an ID is made for those that are
		st.ID = rand.Text()
	}
	if err := s.register(ctx, st.ID, calls); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrEnded
	}
	st.Within(ctx)
	s.persist(st, calls)
	return nil
}

// persist makes a stream of this replica durable, which owes the calls. s.mu is held.
func (s *Session) persist(st *run.Stream, calls []Pending) {
	s.watch(st, registration{Calls: calls})
	st.Persist(s.m.Store, streamLog(s.ID, st.ID), s.rec.Version >= wire.Rev1125)
	s.keepStream(st)
}

// adopt takes a stream over that another replica wrote, with the registration by which it was claimed.
func (s *Session) adopt(st *run.Stream, reg registration) {
	s.watch(st, reg)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keepStream(st)
}

func (s *Session) watch(st *run.Stream, reg registration) {
	st.Lost(func(why error) { s.lostStream(st, why) })
	if s.m.Replica == nil {
		return
	}
	reg.Replica = s.m.Replica.ID
	st.Held(func(ctx context.Context) (bool, error) {
		if IsStandalone(st.ID) {
			return s.holdsAlone(ctx)
		}
		return s.holds(ctx, st.ID, reg)
	})
	st.WhenSettled(func() { // nobody needs to claim it any more
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if reg.Claims > 0 { // an earlier writer that does not know yet must not find it free, see holds
			_ = s.m.Store.Touch(ctx, registrationKey(s.ID, st.ID), rememberClaim)
			return
		}
		_ = s.m.Store.Delete(ctx, registrationKey(s.ID, st.ID)) // it expires otherwise
	})
}

// rememberClaim is how long the registration of a stream that has ended is kept when it had more than one writer.
const rememberClaim = 10 * time.Minute

// open returns the streams of this session that are written here.
func (s *Session) open() []*run.Stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.streams)
}

// keepStream notes a stream that is written here. s.mu is held, as it is for the next two.
func (s *Session) keepStream(st *run.Stream) { s.streams = append(s.streams, st) }

func (s *Session) dropStream(st *run.Stream) {
	s.streams = slices.DeleteFunc(s.streams, func(have *run.Stream) bool { return have == st })
}

func (s *Session) stream(id string) *run.Stream {
	if i := slices.IndexFunc(s.streams, func(st *run.Stream) bool { return st.ID == id }); i >= 0 {
		return s.streams[i]
	}
	return nil
}

// lostStream stops the calls of a stream that another replica has taken over, because this one was thought dead, or that was let go.
func (s *Session) lostStream(st *run.Stream, why error) {
	s.mu.Lock()
	var runs []*run.Run
	for _, r := range s.runs {
		if r.Stream == st {
			runs = append(runs, r)
		}
	}
	s.dropStream(st)
	before := len(s.alone)
	s.alone = slices.DeleteFunc(s.alone, func(a *standalone) bool { return a.stream == st })
	standalone := len(s.alone) < before
	s.mu.Unlock()
	if standalone { // its client reads elsewhere now; what did not get there must
		st.Unwritten(func(name string, data []byte) { _ = s.sayAlone(name, data) })
	}
	if !errors.Is(why, run.ErrLeft) {
		observed.Tell(context.Background(), s.m.Observer, observe.Fenced{Session: observed.Name(s.ID), Calls: len(runs)})
	}
	for _, r := range runs {
		if !errors.Is(why, run.ErrLeft) {
			s.m.Log.Warn("a call was taken over by another replica", "session", observed.Name(s.ID), "method", r.Method)
		}
		r.Lose()
	}
}

// Stream returns the stream of this session with the given ID, if it is written here.
func (s *Session) Stream(id string) *run.Stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stream(id)
}

// LetGo asks the responses that show streams of this session to close their connections: their clients
// come back, to another replica if there is one. Standalone streams always can; those of
// calls only when calls is set.
func (s *Session) LetGo(retry time.Duration, calls bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.alone {
		a.stream.Release(retry)
	}
	if !calls {
		return
	}
	for _, st := range s.streams {
		st.Release(retry)
	}
	for _, st := range s.mirrors {
		st.Release(retry)
	}
}

// Changed tells the client that a list of the server has changed, if it is there to hear it. name is as for [Session.SayAloneIfHere].
func (s *Session) Changed(name, method string) {
	s.mu.Lock()
	listens := s.rec.Initialized && len(s.alone) > 0
	s.mu.Unlock()
	if listens && s.SayAloneIfHere(name, wire.AppendCall(nil, "", method, []byte("{}"))) {
		go s.told()
	}
}
