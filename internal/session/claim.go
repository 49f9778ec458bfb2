package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/sluice-mcp/sluice/internal/observed"
	"github.com/sluice-mcp/sluice/internal/run"
	"github.com/sluice-mcp/sluice/internal/wire"
	"github.com/sluice-mcp/sluice/observe"
	"github.com/sluice-mcp/sluice/store"
)

// A stream that becomes visible is registered: which replica runs what for it. Whoever finds
// its replica dead claims it by compare-and-swap, and then fences the old owner off by an
// entry in the log: an append names the index it goes to, and the old owner's is taken.

// Pending is a call that owes its response to a stream.
type Pending struct {
	ID     json.RawMessage `json:"id"`
	Method string          `json:"method"`
	Params json.RawMessage `json:"params,omitempty"`
	// Key is the call's idempotency key, if it has one.
	Key string `json:"key,omitempty"`
	// Repeatable: the call may run again when its replica is lost.
	Repeatable bool `json:"repeatable,omitempty"`
	// Told is what observers are told of it.
	Told observed.Kept `json:"told,omitzero"`
}

// registration is what the store keeps of a stream with calls.
type registration struct {
	Replica string    `json:"replica"`
	Claims  int       `json:"claims,omitempty"`
	Calls   []Pending `json:"calls"`
}

// maxClaims bounds how often a call runs again: one that brings its process down must not bring all of them down.
const maxClaims = 16

func registrationKey(session, stream string) string { return "run:" + session + ":" + stream }

// register notes that this replica runs calls for a stream. It does nothing when there are no others.
func (s *Session) register(ctx context.Context, stream string, calls []Pending) error {
	if s.m.Replica == nil {
		return nil
	}
	if s.m.Replica.Joined() != nil { // the others would take it for dead at once
		return fmt.Errorf("registering a stream: %w", store.ErrUnavailable)
	}
	raw, err := json.Marshal(registration{Replica: s.m.Replica.ID, Calls: calls})
	if err != nil {
		return err
	}
	return s.m.Store.Create(ctx, registrationKey(s.ID, stream), raw, run.KeepOpen)
}

// holds reports whether this replica is registered as the writer of a stream. What the store has lost is registered again, unless another
// replica is faster: whoever is first is the writer.
func (s *Session) holds(ctx context.Context, stream string, reg registration) (bool, error) {
	key := registrationKey(s.ID, stream)
	for {
		raw, err := s.m.Store.Get(ctx, key)
		if errors.Is(err, store.ErrNotFound) {
			raw, err = json.Marshal(reg)
			if err != nil {
				return false, err
			}
			err = s.m.Store.Create(ctx, key, raw, run.KeepOpen)
			if errors.Is(err, store.ErrExists) {
				continue
			}
			return err == nil, err
		}
		if err != nil {
			return false, err
		}
		var have registration
		if err := json.Unmarshal(raw, &have); err != nil {
			return false, fmt.Errorf("reading a run's registration: %w", err)
		}
		return have.Replica == reg.Replica, nil
	}
}

// Rerun executes a call of a dead replica again; its response goes to st. claim is how often it has been claimed.
type Rerun func(p Pending, claim int, st *run.Stream)

// Follow returns a stream of this session that is not written here, from after the given index on. It is followed
// until ctx ends. If its replica dies, this one claims it, as long as mayClaim allows: calls that may run again are given to rerun, the others end in an error.
// Errors: store.ErrNotFound (also for a standalone stream that was given up, and of which all has been seen), store.ErrTrimmed, store.ErrUnavailable.
func (s *Session) Follow(ctx context.Context, stream string, after int64, mayClaim func() bool, rerun Rerun) (*run.Stream, error) {
	f := &follower{s: s, name: streamLog(s.ID, stream), rerun: rerun, mayClaim: mayClaim, mirror: run.NewMirror(stream, after)}
	var sub store.Subscription
	if s.m.Replica != nil {
		var err error // before the first read, so that nothing falls between
		if sub, err = s.m.Store.Subscribe(ctx, f.name); err != nil {
			return nil, err
		}
	}
	err := f.atEnd(ctx, after)
	if err == nil {
		err = f.read(ctx)
	}
	if err == nil && IsStandalone(stream) && f.mirror.Ended() && !f.news {
		err = fmt.Errorf("given up, for nobody came: %w", store.ErrNotFound)
	}
	if errors.Is(err, store.ErrNotFound) && sub != nil && f.registered(ctx) {
		err = nil // the store has lost it; its writer, or who takes over from it, can mend that
	}
	if err != nil {
		if sub != nil {
			_ = sub.Close()
		}
		return nil, err
	}
	if f.mirror.Ended() || sub == nil {
		if sub != nil {
			_ = sub.Close()
		}
		if !f.mirror.Ended() {
			f.mirror.Fail(run.ErrLost) // nobody writes it any more
		}
		return f.mirror, nil
	}
	s.mirror(f.mirror, true)
	s.mu.Lock()
	s.using++
	s.mu.Unlock()
	go func() {
		defer s.Release()
		defer func() { _ = sub.Close() }()
		defer s.mirror(f.mirror, false)
		if err := f.follow(ctx, sub); err != nil && ctx.Err() == nil {
			s.m.Log.Warn("following a stream", "session", observed.Name(s.ID), "error", err)
			f.mirror.Fail(err)
		}
	}()
	return f.mirror, nil
}

// mirror notes that a stream of another replica is shown here, or no longer. It is shown on one connection, the newest, as at the
// replica that writes it: each costs round trips all the time.
func (s *Session) mirror(st *run.Stream, on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !on {
		if s.mirrors[st.ID] == st {
			delete(s.mirrors, st.ID)
		}
		return
	}
	if s.mirrors == nil {
		s.mirrors = make(map[string]*run.Stream)
	}
	s.mirrors[st.ID] = st
}

// overtaken reports whether another connection shows the stream here now.
func (s *Session) overtaken(st *run.Stream) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mirrors[st.ID] != st
}

// follower shows on this replica what another one writes.
type follower struct {
	s      *Session
	name   string // of the log
	mirror *run.Stream
	rerun  Rerun
	news   bool      // there was a message to show
	told   time.Time // when the owner was last told that its client is here now
	heard  bool      // the owner has been told
	missed time.Time // since when the log, or who writes it, has not been found
	asked  time.Time // when everybody was last asked for it

	mayClaim func() bool
}

// atEnd closes the mirror of a client that has the stream's last event already.
func (f *follower) atEnd(ctx context.Context, after int64) error {
	if after < 0 {
		return nil
	}
	entries, _, err := f.s.m.Store.Read(ctx, f.name, after, 1)
	if errors.Is(err, store.ErrTrimmed) {
		return nil // what comes after it says more
	}
	for _, e := range decode(entries) {
		if e.Kind == run.Last || e.Kind == run.End {
			f.mirror.Close()
		}
	}
	return err
}

// read moves what is new from the log into the mirror.
func (f *follower) read(ctx context.Context) error {
	for {
		from := f.mirror.Next()
		entries, next, err := f.s.m.Store.Read(ctx, f.name, from, run.MaxEvents)
		if err != nil {
			return err
		}
		if from > next {
			return fmt.Errorf("the log ends before this event: %w", store.ErrNotFound)
		}
		events := decode(entries)
		f.news = f.news || slices.ContainsFunc(events, func(e run.Event) bool { return e.Kind == run.Message })
		if err := f.mirror.Feed(ctx, events); err != nil {
			return err
		}
		if from = f.mirror.Next(); from >= next || len(entries) == 0 {
			return nil
		}
	}
}

func decode(entries []store.Entry) []run.Event {
	events := make([]run.Event, len(entries))
	for i, e := range entries {
		events[i] = run.Decode(e)
	}
	return events
}

// pulse is how often a followed replica is asked whether it lives. It also mends a lost wake-up.
const pulse = 200 * time.Millisecond

func (f *follower) follow(ctx context.Context, sub store.Subscription) error {
	tick := time.NewTicker(pulse)
	defer tick.Stop()
	// Whoever comes from a replica that has just died need not wait for the first tick to begin to notice.
	first := time.After(0)
	for {
		done, looked := false, false
		var err error
		select {
		case _, ok := <-sub.C():
			if !ok {
				return store.ErrClosed
			}
		case <-first:
			done, err = f.check(ctx)
		case <-tick.C:
			done, err = f.check(ctx)
			looked = true
		case <-ctx.Done():
			return nil
		}
		whole := err == nil
		if err = f.survive(ctx, err); done || err != nil {
			return err
		}
		if f.s.overtaken(f.mirror) {
			f.mirror.Fail(run.ErrLost)
			return nil
		}
		err = f.read(ctx)
		if looked && whole && err == nil {
			f.missed = time.Time{}
		}
		if err = f.survive(ctx, err); err != nil {
			return err
		}
		if f.mirror.Ended() {
			return nil
		}
	}
}

// mendWithin is how long what the store has lost of a stream is waited for.
const mendWithin = 5 * time.Second

// miss asks whoever writes the stream to give the store what it has lost of it. When nobody does, there is no writer: what is left of the log is
// ended, and the error comes back.
func (f *follower) miss(ctx context.Context, err error) error {
	now := time.Now()
	switch {
	case f.missed.IsZero():
		f.missed = now
	case now.Sub(f.missed) > mendWithin:
		end := [][]byte{{byte(run.End)}}
		_ = f.s.m.Store.Append(ctx, f.name, f.mirror.Next(), end, store.Bounds{TTL: run.KeepOpen}) // fails when it does not end here
		return err
	}
	if now.Sub(f.asked) > tellEvery {
		f.asked = now
		_ = f.s.m.Replica.Broadcast(ctx, noteMissed, noteBody{Session: f.s.ID, ID: f.mirror.ID}) // again in a moment
	}
	return nil
}

// registered reports whether the store knows of a writer of the stream.
func (f *follower) registered(ctx context.Context) bool {
	_, err := f.s.m.Store.Get(ctx, registrationKey(f.s.ID, f.mirror.ID))
	return err == nil
}

// survive lets a store that is away come back, and what it has lost be mended: the stream pauses.
func (f *follower) survive(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil, errors.Is(err, store.ErrUnavailable):
		return nil //nolint:nilerr // it comes again
	case errors.Is(err, store.ErrNotFound):
		return f.miss(ctx, err)
	}
	return err
}

const tellEvery = time.Second

// check claims the stream if its replica is dead. It reports true when this replica is the writer now.
func (f *follower) check(ctx context.Context) (mine bool, err error) {
	if !f.s.claiming(f.mirror.ID, true) {
		return false, nil // another connection of this session is at it
	}
	defer f.s.claiming(f.mirror.ID, false)
	key := registrationKey(f.s.ID, f.mirror.ID)
	old, err := f.s.m.Store.Get(ctx, key)
	if errors.Is(err, store.ErrNotFound) {
		// A standalone stream, or a call that has ended. The former moves to where its client is.
		switch err := f.read(ctx); {
		case err != nil, f.mirror.Ended():
			return false, err
		case !IsStandalone(f.mirror.ID):
			return false, fmt.Errorf("nobody is registered as its writer: %w", store.ErrNotFound)
		case !f.mayClaim():
			return false, nil
		}
		return f.takeAlone(ctx)
	}
	if err != nil {
		return false, err
	}
	var reg registration
	if err := json.Unmarshal(old, &reg); err != nil {
		return false, fmt.Errorf("reading a run's registration: %w", err)
	}
	if alive, err := f.alive(ctx, reg.Replica); err != nil || alive || !f.mayClaim() {
		return false, err
	}
	reg.Replica = f.s.m.Replica.ID
	reg.Claims++
	claimed, err := json.Marshal(reg)
	if err != nil {
		return false, err
	}
	switch err := f.s.m.Store.Swap(ctx, key, old, claimed, run.KeepOpen); {
	case errors.Is(err, store.ErrConflict), errors.Is(err, store.ErrNotFound):
		f.tell(ctx, observe.Takeover{Stage: observe.Outrun, Claim: reg.Claims})
		return false, nil // another was faster
	case err != nil:
		return false, err
	}
	// The claim is made: what follows must be done even if the client leaves now. If the store fails
	// meanwhile, the stream is claimed anew: see alive.
	return f.claimed(context.WithoutCancel(ctx), reg)
}

// claimed follows a claim through, and tells of it.
func (f *follower) claimed(ctx context.Context, reg registration) (mine bool, err error) {
	begun := time.Now()
	f.tell(ctx, observe.Takeover{Stage: observe.Claimed, Claim: reg.Claims})
	repeated, lost, mine, err := f.takeOver(ctx, reg)
	e := observe.Takeover{Stage: observe.Outrun, Claim: reg.Claims, Repeated: repeated, Lost: lost, Duration: time.Since(begun)}
	switch {
	case err != nil:
		e.Stage = observe.Broken
	case mine:
		e.Stage = observe.Won
	}
	f.tell(ctx, e)
	return mine, err
}

func (f *follower) tell(ctx context.Context, e observe.Takeover) {
	if o := f.s.m.Observer; o != nil {
		e.Session = observed.Name(f.s.ID)
		o.Event(ctx, e)
	}
}

// claiming notes that a stream is being claimed, and reports false if it is already.
func (s *Session) claiming(stream string, on bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !on {
		delete(s.claimed, stream)
		return true
	}
	if s.claimed[stream] || s.stream(stream) != nil {
		return false
	}
	if s.claimed == nil {
		s.claimed = make(map[string]bool)
	}
	s.claimed[stream] = true
	return true
}

// alive reports whether a stream's writer lives, and tells it once that its client is here now.
func (f *follower) alive(ctx context.Context, owner string) (bool, error) {
	if owner == f.s.m.Replica.ID || owner == "" {
		// It was claimed here and yet is not written here, or was given up: a claim that was not followed through.
		return false, nil
	}
	alive, err := f.s.m.Replica.Alive(ctx, owner)
	if alive && time.Since(f.told) > tellEvery {
		// Again and again: an owner that does not know of the stream gives it up, see [Manager.Take].
		f.told = time.Now()
		heard, failed := f.s.m.Replica.Send(ctx, owner, noteTaken, noteBody{Session: f.s.ID, ID: f.mirror.ID, Still: f.heard})
		f.heard = f.heard || heard && failed == nil
	}
	return alive, err
}

// takeOver makes this replica the writer of a stream whose registration it has claimed. It returns how many calls run again, and how
// many do not.
func (f *follower) takeOver(ctx context.Context, reg registration) (repeated, lost int, mine bool, err error) {
	events, err := f.fence(ctx, reg.Claims)
	if err != nil || events == nil {
		return 0, 0, false, err // the old owner had come to the end before it died, or a later claimer was faster
	}
	var owed []Pending
	for _, call := range reg.Calls {
		if !answeredIn(events, call.ID) {
			owed = append(owed, call)
		}
	}
	f.mirror.Own(f.s.m.Store, f.name, len(owed), events)
	f.s.adopt(f.mirror, reg)
	f.s.m.Log.Info("took over from a lost replica", "session", observed.Name(f.s.ID), "calls", len(owed), "claims", reg.Claims)
	for _, call := range owed {
		if call.Repeatable && reg.Claims <= maxClaims {
			f.rerun(call, reg.Claims, f.mirror)
			continue
		}
		lost++
		e := replicaLost(call)
		f.s.observeLost(ctx, call, reg.Claims, e)
		_ = f.mirror.Respond(wire.AppendError(nil, wire.ID(call.ID), e), 0)
	}
	if len(owed) == 0 {
		f.mirror.End()
	}
	return len(owed) - lost, lost, true, nil
}

func replicaLost(call Pending) *wire.Error {
	why := "The replica that ran this call was lost; the call was not repeated, because nothing says that it is safe to (annotate the tool as read-only or idempotent if it is)"
	if call.Repeatable {
		why = "The replicas that ran this call were lost, one after the other"
	}
	return &wire.Error{Code: wire.CodeReplicaLost, Message: why}
}

// fence appends the entry that keeps other writers off, and returns what the log then holds, to its end. It
// returns nothing when there is nothing to take over: the stream has ended, or a claim with a higher number has been made.
func (f *follower) fence(ctx context.Context, number int) ([]run.Event, error) {
	for {
		err := f.read(ctx)
		if f.mirror.Ended() {
			return nil, err
		}
		at, entries := f.mirror.Next(), [][]byte{run.ClaimEntry(number)}
		if errors.Is(err, store.ErrNotFound) {
			at, entries, err = f.padded(ctx, entries)
		}
		if err != nil {
			return nil, err
		}
		kept, err := f.history(ctx, at)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return nil, err
		}
		for _, e := range kept {
			if run.ClaimNumber(e) > number {
				return nil, nil
			}
		}
		bounds := store.Bounds{Entries: run.MaxEvents, Bytes: run.MaxBytes, TTL: run.KeepOpen}
		err = f.s.m.Store.Append(ctx, f.name, at, entries, bounds)
		if errors.Is(err, store.ErrFenced) {
			continue // somebody wrote a last time
		}
		if err != nil {
			return nil, err
		}
		if err := f.read(ctx); err != nil {
			return nil, err
		}
		return f.history(ctx, f.mirror.Next())
	}
}

// padded puts before the entries as many that say nothing as the log, which the store has lost, in part or whole, lacks of what the client has
// been shown: the IDs of events go on from there. All go in one append, at the index where the log ends now.
func (f *follower) padded(ctx context.Context, entries [][]byte) (at int64, all [][]byte, err error) {
	_, next, err := f.s.m.Store.Read(ctx, f.name, 0, 0)
	if err != nil && !errors.Is(err, store.ErrNotFound) && !errors.Is(err, store.ErrTrimmed) {
		return 0, nil, err
	}
	n := f.mirror.Next() - next
	if n > run.MaxEvents {
		return 0, nil, fmt.Errorf("too much of the log is gone: %w", store.ErrNotFound)
	}
	for range n {
		all = append(all, run.ClaimEntry(0))
	}
	return next, append(all, entries...), nil
}

// history returns what the log still has before the given index.
func (f *follower) history(ctx context.Context, before int64) ([]run.Event, error) {
	read := func(from int64, limit int) ([]run.Event, error) {
		entries, _, err := f.s.m.Store.Read(ctx, f.name, from, limit)
		return decode(entries), err
	}
	first := max(0, before-run.MaxEvents)
	events, err := read(first, run.MaxEvents)
	if !errors.Is(err, store.ErrTrimmed) {
		return events, err
	}
	// The first entry that is kept lies between one that is not and the newest, which always is.
	gone, kept := first, before-1
	for kept-gone > 1 {
		middle := (gone + kept) / 2
		switch _, err := read(middle, 1); {
		case err == nil:
			kept = middle
		case errors.Is(err, store.ErrTrimmed):
			gone = middle
		default:
			return nil, err
		}
	}
	return read(kept, run.MaxEvents)
}

func answeredIn(events []run.Event, id json.RawMessage) bool {
	for _, e := range events {
		// Not by their bytes: a registration has them as encoding/json writes them, with < as \u003c.
		if (e.Kind == run.Response || e.Kind == run.Last) && wire.ID(wire.Member(e.Data, "id")).Key() == wire.ID(id).Key() {
			return true
		}
	}
	return false
}

// takeAlone moves a standalone stream here.
func (f *follower) takeAlone(ctx context.Context) (bool, error) {
	at := f.s.aloneAt(ctx)
	if err := f.s.claimAlone(ctx); err != nil {
		return false, err
	}
	events, err := f.fence(ctx, math.MaxInt)
	if err != nil || events == nil {
		return false, err
	}
	f.mirror.Own(f.s.m.Store, f.name, 0, events)
	f.s.adoptAlone(f.mirror)
	if f.s.m.Moved != nil {
		go f.s.m.Moved(f.s)
	}
	f.s.CatchUp()
	if at != f.s.m.Replica.ID {
		_, _ = f.s.m.Replica.Send(ctx, at, noteTaken, noteBody{Session: f.s.ID, ID: f.mirror.ID})
	}
	return true, nil
}
