package session

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-mcp/sluice/internal/engine"
	"github.com/sluice-mcp/sluice/internal/observed"
	"github.com/sluice-mcp/sluice/internal/replica"
	"github.com/sluice-mcp/sluice/internal/run"
	"github.com/sluice-mcp/sluice/observe"
	"github.com/sluice-mcp/sluice/store"
)

// Config is what a [Manager] is made with. All fields are required that do not say what nil means.
type Config struct {
	Store store.Store
	Log   *slog.Logger
	// Name is this replica's, unique among all that share the store.
	Name string
	// Replica is nil when nobody shares the store.
	Replica *replica.Replica

	// Timeout ends a session that has been idle this long.
	Timeout time.Duration
	// ReplyTimeout bounds the wait for a client's answer to a request of the server.
	ReplyTimeout time.Duration
	// Moved, if not nil, is called when a standalone stream has come here from another replica: what arose meanwhile has been said by
	// neither.
	Moved func(*Session)
	// Holds, if not nil, is called with 1 when a session begins to live here with the engine, and with -1 when it no longer does. It is
	// called with the manager's lock held.
	Holds func(e *engine.Engine, n int)
	// Ended, if not nil, is called once for each session that has ended, see [Manager.over].
	Ended func(id string)
	// MaxSessions bounds the sessions opened here; MaxPerPrincipal those of one principal.
	MaxSessions, MaxPerPrincipal int
	// Observer may be nil: nobody observes.
	Observer observe.Observer
}

// Manager keeps the sessions that are alive on this replica. It is safe for concurrent use.
type Manager struct {
	Config

	ends ends

	mu        sync.Mutex
	live      map[string]*Session
	residents map[string]resident
	opened    int                      // residents that count against the limits
	counts    map[string]int           // of those, by principal
	handed    map[string]chan struct{} // answers on their way to other replicas, by ID
	reading   map[string]*reading      // by session
	closed    bool
	sweep     *time.Timer
	// remembering: there has been a request that can be repeated, see Earlier.
	remembering atomic.Bool
	peak        int       // of live and residents, since they were last made anew
	slow        bool      // sweep has no live session to come for
	swept       time.Time // when residents were last gone through
}

// NewManager returns a manager without sessions.
func NewManager(c Config) *Manager {
	return &Manager{
		Config:    c,
		live:      make(map[string]*Session),
		residents: make(map[string]resident),
		counts:    make(map[string]int),
		handed:    make(map[string]chan struct{}),
		reading:   make(map[string]*reading),
	}
}

// keep is how long the store keeps a record that nobody touches: longer than the timeout by as
// much as the last touch may be late.
func (m *Manager) keep() time.Duration { return m.Timeout + m.touchEvery() }

// touchEvery is also how often open streams are renewed, so it must stay well below [run.KeepOpen].
func (m *Manager) touchEvery() time.Duration { return min(m.Timeout/8, run.KeepOpen/4) }

// New returns a session that exists only here, for initialize to be called on.
// It must then be [Session.Establish]ed or [Manager.Discard]ed. Errors: ErrTooMany.
func (m *Manager) New(e *engine.Engine, principal string) (*Session, error) {
	// rand.Text has 128 bits or more of base32, all visible ASCII.
	s := newSession(m, rand.Text(), e, Record{Principal: principal})
	if err := m.reserve(s.ID, e, principal); err != nil {
		return nil, err
	}
	s.using = 1
	return s, nil
}

// Discard gives a session of [Manager.New] up.
func (m *Manager) Discard(s *Session) { m.forget(s, observe.EndDisconnected) }

// Establish puts the record of a session of [Manager.New] into the store. The caller holds the session.
func (s *Session) Establish(ctx context.Context, version string, initialize json.RawMessage) error {
	lists := s.Engine.Lists(ctx)
	s.mu.Lock()
	s.rec.Version, s.rec.Initialize, s.rec.Lists = version, initialize, lists
	s.disconnect() // from before it was initialized
	raw, err := json.Marshal(&s.rec)
	s.mu.Unlock()
	if err != nil {
		return err
	}
	if err := s.m.Store.Create(ctx, recordKey(s.ID), raw, s.m.keep()); err != nil {
		return fmt.Errorf("storing the session: %w", err)
	}
	s.m.observeOpened(ctx, s, version)
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	s.touched = time.Now()
	s.m.live[s.ID] = s
	s.m.established(s.ID, version)
	s.m.startSweep()
	return nil
}

// EstablishHere is [Session.Establish] for a session that [Session.Carry] keeps out of the store.
func (s *Session) EstablishHere(ctx context.Context, version string, initialize json.RawMessage) {
	s.mu.Lock()
	s.rec.Version, s.rec.Initialize = version, initialize
	s.disconnect() // as above
	s.mu.Unlock()
	s.m.observeOpened(ctx, s, version)
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	s.m.established(s.ID, version)
}

// Find returns the session and holds it; the caller must [Session.Release] it. find gives
// the engine for a session that has not lived here before.
// Errors: ErrNotFound, store.ErrUnavailable.
func (m *Manager) Find(ctx context.Context, id, principal string, find func() (*engine.Engine, error)) (*Session, error) {
	if s := m.hold(id, principal); s != nil {
		return s, nil
	}
	read := m.read(id)
	defer read()
	rec, err := m.record(ctx, id)
	if err != nil {
		return nil, err
	}
	if rec.Principal != principal {
		return nil, ErrNotFound // the same answer as for none: whether it exists is its owner's affair
	}
	e := m.engineOf(id)
	if e == nil {
		if e, err = find(); err != nil {
			return nil, err
		}
	}
	s, err := m.revive(id, e, rec)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	// Reading does not renew the record's time; being used does.
	s.touch(time.Now())
	return s, nil
}

// reading is the reading of a record from which a session comes to life here.
type reading struct {
	readers int
	changed bool // meanwhile
}

// read has changes of the record noticed that come before [Manager.revive]. It lasts until done is called.
func (m *Manager) read(id string) (done func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.reading[id]
	if r == nil {
		r = &reading{}
		m.reading[id] = r
	}
	r.readers++
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if r.readers--; r.readers == 0 {
			delete(m.reading, id)
		}
	}
}

// record reads a session's record. Errors: ErrNotFound, store.ErrUnavailable.
func (m *Manager) record(ctx context.Context, id string) (*Record, error) {
	raw, err := m.Store.Get(ctx, recordKey(id))
	if errors.Is(err, store.ErrNotFound) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("finding the session: %w", err)
	}
	return decodeRecord(raw)
}

// revive returns a session that is alive here, held; if nobody has brought it to life meanwhile, as the record says, with the server
// that it has had here, else with that of e.
func (m *Manager) revive(id string, e *engine.Engine, rec *Record) (*Session, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, store.ErrClosed // the session is not gone, only this replica is
	}
	s := m.live[id]
	if s == nil || s.isClosed() { // it may be on its way out
		e, adopted := m.settle(id, e, rec)
		s = newSession(m, id, e, *rec) // its last use is that of the record, which may be long ago
		m.live[id] = s
		s.catchUpAdopted(adopted)
		m.startSweep()
		if r := m.reading[id]; r != nil && r.changed {
			go func(s *Session) { _ = s.reload() }(s) // the next request that needs the record says so
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.using++
	return s, nil
}

func (s *Session) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// hold returns the session if it is alive here and known to be alive in the store.
func (m *Manager) hold(id, principal string) *Session {
	m.mu.Lock()
	s := m.live[id]
	m.mu.Unlock()
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if s.closed || s.rec.Principal != principal || !s.busy() && now.Sub(s.last) > m.Timeout {
		return nil
	}
	s.using++
	if now.Sub(s.touched) > m.touchEvery() {
		s.touch(now)
	}
	return s
}

// touch renews the record's time in the store, aside: a fast call does not wait for it.
func (s *Session) touch(now time.Time) {
	s.touched = now
	m := s.m
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), touchTimeout)
		defer cancel()
		m.extend(s.ID, now)
		open := s.open()
		for _, st := range open {
			s.renew(ctx, st)
		}
		if len(open) > 0 { // one of them may be standalone
			_ = m.Store.Touch(ctx, aloneKey(s.ID), run.KeepOpen)
		}
		switch err := m.Store.Touch(ctx, recordKey(s.ID), m.keep()); {
		case errors.Is(err, store.ErrNotFound):
			m.fade(s)
		case err != nil:
			m.Log.Warn("session not renewed", "session", observed.Name(s.ID), "error", err)
		}
	}()
}

const touchTimeout = 5 * time.Second

// short is enough of a session ID to tell whose a request to a client is, and not enough to use it.
func short(id string) string { return id[:min(len(id), 6)] }

// End ends a session everywhere: its calls are cancelled, its streams end, its record goes.
// Errors: store.ErrUnavailable; the session is then still there.
func (m *Manager) End(ctx context.Context, s *Session, why observe.EndReason) error {
	if err := m.Store.Delete(ctx, recordKey(s.ID)); err != nil {
		return fmt.Errorf("ending the session: %w", err)
	}
	m.forget(s, why)
	if m.Replica != nil { // before the client hears of it: no other replica should serve the session then
		if err := m.Replica.Broadcast(ctx, noteEnded, noteBody{Session: s.ID}); err != nil {
			m.Log.Warn("other replicas not told", "note", noteEnded, "error", err)
		}
	}
	return nil
}

// fade ends a session whose record is gone: it has expired, was ended elsewhere, or the store has lost it. Nothing new begins. Calls in flight
// come to their end all the same, for they may have done what cannot be done twice, and until then their clients can come back to them here.
func (m *Manager) fade(s *Session) {
	runs, first := s.end()
	if !first {
		return
	}
	if len(runs) == 0 {
		m.forget(s, observe.EndGone)
		return
	}
	m.Log.Warn("a session with calls in flight is gone from the store: they come to their end, and no new ones begin", "session", observed.Name(s.ID), "calls", len(runs))
	s.mu.Lock()
	for _, a := range slices.Clone(s.alone) {
		s.dropStandalone(a) // its client learns it from the next GET
	}
	s.mu.Unlock()
	go func() {
		for _, r := range runs {
			<-r.Context().Done()
			<-r.Stream.Safe()
		}
		m.forget(s, observe.EndGone)
	}()
}

// forget drops a session from this replica.
func (m *Manager) forget(s *Session, why observe.EndReason) {
	m.mu.Lock()
	if m.live[s.ID] == s {
		delete(m.live, s.ID)
	}
	r, known := m.drop(s.ID)
	m.mu.Unlock()
	s.shut()
	if known && r.established {
		m.observeEnded(why, s.ID, r)
		m.over(s.ID, !r.carried)
	}
}

// Each calls f for every session that is alive here.
func (m *Manager) Each(f func(*Session)) {
	m.mu.Lock()
	all := make([]*Session, 0, len(m.live))
	for _, s := range m.live {
		all = append(all, s)
	}
	m.mu.Unlock()
	for _, s := range all {
		f(s)
	}
}

// Close lets go of every session here. Their records stay, if others share the store; else they end.
func (m *Manager) Close() {
	m.mu.Lock()
	m.closed = true
	if m.sweep != nil {
		m.sweep.Stop()
	}
	all := m.live
	m.live = make(map[string]*Session)
	if m.Replica == nil { // the store goes too, and what was in it
		for id, r := range m.residents {
			if r.established {
				m.over(id, !r.carried)
			}
		}
	}
	left := maps.Clone(m.residents)
	for id := range left {
		m.drop(id)
	}
	m.mu.Unlock()
	for id, r := range left {
		if r.established {
			m.observeEnded(observe.EndLeft, id, r)
		}
	}
	for _, s := range all {
		s.abandon()
	}
	m.ends.close(m.Replica == nil)
}

const (
	// rest is how long an idle session stays alive here, for the next request to find it warm.
	rest = time.Second
	// streamRest is how long a standalone stream without a connection takes messages for a client that comes back.
	streamRest = 2 * time.Minute
)

// startSweep sees to it that idle sessions are forgotten. m.mu is held.
func (m *Manager) startSweep() {
	switch {
	case m.sweep == nil:
		m.sweep = time.AfterFunc(rest, m.sweepIdle)
	case m.slow && len(m.live) > 0:
		m.sweep.Reset(rest)
	default:
		return
	}
	m.slow = false
}

func (m *Manager) sweepIdle() {
	now := time.Now()
	m.Each(func(s *Session) { s.rest(now) })
	m.mu.Lock()
	defer m.mu.Unlock()
	if now.Sub(m.swept) > m.touchEvery() {
		m.swept = now
		m.expire(now)
	}
	m.shrink()
	switch {
	case m.closed || len(m.live) == 0 && len(m.residents) == 0:
		m.sweep = nil
	case len(m.live) == 0: // only limits to keep: no hurry
		m.slow = true
		m.sweep.Reset(max(rest, m.touchEvery()))
	default:
		m.sweep.Reset(rest)
	}
}
