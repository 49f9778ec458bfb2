package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sluice-mcp/sluice/internal/replica"
	"github.com/sluice-mcp/sluice/internal/run"
	"github.com/sluice-mcp/sluice/internal/wire"
	"github.com/sluice-mcp/sluice/observe"
	"github.com/sluice-mcp/sluice/store"
)

// What replicas tell each other of sessions.
const (
	noteChanged = "session.changed" // its record: read it again
	noteEnded   = "session.ended"
	noteCancel  = "session.cancel" // a request, by ID
	noteAnswer  = "session.answer" // of the client, to a request of the replica that is told
	noteTook    = "session.took"   // the answer with this ID has arrived
	noteSay     = "session.say"    // on the standalone stream that the replica that is told shows
	noteTaken   = "session.taken"  // a stream: its client reads it elsewhere now
	noteMissed  = "session.missed" // a stream: the store has lost its log, or who writes it
)

type noteBody struct {
	Session string          `json:"session"`
	ID      string          `json:"id,omitempty"` // of a request or a stream; the name of a message
	Result  json.RawMessage `json:"result,omitempty"`
	Error   json.RawMessage `json:"error,omitempty"`
	Data    json.RawMessage `json:"data,omitempty"`
	Still   bool            `json:"still,omitempty"` // it was told before
}

// tell tells the other replicas, aside. What is lost is mended when they next read the record.
func (m *Manager) tell(kind string, body noteBody) {
	if m.Replica == nil {
		return
	}
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := m.Replica.Broadcast(ctx, kind, body); err != nil {
			m.Log.Warn("other replicas not told", "note", kind, "error", err)
		}
	}()
}

// Take takes a note of another replica. It reports false for one that is not about a session.
func (m *Manager) Take(n replica.Note) bool {
	if !strings.HasPrefix(n.Kind, "session.") {
		return false
	}
	var body noteBody
	if err := json.Unmarshal(n.Body, &body); err != nil {
		m.Log.Error("unreadable note", "note", n.Kind, "error", err)
		return true
	}
	m.mu.Lock()
	s := m.live[body.Session]
	if r := m.reading[body.Session]; n.Kind == noteChanged && r != nil {
		r.changed = true
	}
	if took := m.handed[body.Session+" "+body.ID]; n.Kind == noteTook && took != nil {
		close(took)
		delete(m.handed, body.Session+" "+body.ID)
	}
	var resting *resident
	if n.Kind == noteEnded && s == nil { // it may rest here
		if r, known := m.drop(body.Session); known && r.established {
			resting = &r
			m.over(body.Session, true)
		}
	}
	m.mu.Unlock()
	if resting != nil {
		m.observeEnded(observe.EndGone, body.Session, *resting)
	}
	if n.Kind == noteAnswer {
		go m.acknowledge(n.From, body)
	}
	if s == nil {
		if n.Kind == noteTaken {
			go m.disown(body.Session, body.ID)
		}
		return true
	}
	switch n.Kind {
	case noteChanged:
		go func() { _ = s.reload() }() // the next request that needs the record says so
	case noteEnded:
		m.forget(s, observe.EndGone)
	case noteCancel:
		s.Cancel(wire.ID(body.ID))
	case noteAnswer:
		s.answer(wire.Message{ID: wire.ID(body.ID), Result: body.Result, Error: body.Error})
	case noteSay:
		_ = s.sayHere(body.ID, body.Data) // its sender believed that there is a stream here
	case noteMissed:
		if st := s.Stream(body.ID); st != nil {
			go s.mend(st)
		}
	case noteTaken:
		if st := s.Stream(body.ID); st != nil {
			if !body.Still { // by now the client may have come back here, and the other connection be a dead one
				st.Release(0)
			}
		} else if s.claiming(body.ID, true) {
			go func() {
				defer s.claiming(body.ID, false)
				m.disown(body.Session, body.ID)
			}()
		}
	}
	return true
}

// acknowledge tells a replica that the answer that it handed on has arrived, whether or not anybody waits for it.
func (m *Manager) acknowledge(to string, body noteBody) {
	ctx, cancel := context.WithTimeout(context.Background(), handOver)
	defer cancel()
	if _, err := m.Replica.Send(ctx, to, noteTook, noteBody{Session: body.Session, ID: body.ID}); err != nil {
		m.Log.Warn("answer not acknowledged", "error", err)
	}
}

// handOver bounds the wait for another replica to have an answer.
const handOver = 2 * time.Second

// disown gives up a stream that is registered here and not written here: it was claimed, and the claim
// was not followed through. Whoever follows it can then claim it at once.
func (m *Manager) disown(session, stream string) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	key := registrationKey(session, stream)
	old, err := m.Store.Get(ctx, key)
	if err != nil {
		return // it is asked for again
	}
	var reg registration
	if json.Unmarshal(old, &reg) != nil || reg.Replica != m.Replica.ID {
		return
	}
	reg.Replica = ""
	if next, err := json.Marshal(reg); err == nil {
		_ = m.Store.Swap(ctx, key, old, next, run.KeepOpen)
	}
}

// Doubt makes every session here read its record again: notes may have been missed.
func (m *Manager) Doubt() {
	m.Each(func(s *Session) {
		go func() {
			_ = s.reload() // the next request that needs the record says so
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			for _, st := range s.open() {
				_ = st.Verify(ctx) // a stream that is lost is given up
			}
		}()
	})
}

// mend sees to it that the store has what others need of a stream that is written here.
func (s *Session) mend(st *run.Stream) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	s.renew(ctx, st)
}

// renew renews what the store has of a stream that is written here, and gives it again what it has lost.
func (s *Session) renew(ctx context.Context, st *run.Stream) {
	if s.m.Replica != nil && !IsStandalone(st.ID) {
		if err := s.m.Store.Touch(ctx, registrationKey(s.ID, st.ID), run.KeepOpen); errors.Is(err, store.ErrNotFound) && !st.Settled() {
			_, _ = st.Holds(ctx) // asked again by who needs it
		}
	}
	_ = st.Verify(ctx) // one that is lost is given up
}

// reload reads the record again. A record that is gone ends the session here, see [Manager.fade]. Errors: those of the store.
func (s *Session) reload() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	done, err := s.syncRecord(ctx)
	if err != nil {
		return err
	}
	defer done()
	raw, err := s.m.Store.Get(ctx, recordKey(s.ID))
	if errors.Is(err, store.ErrNotFound) {
		s.m.fade(s)
		return err
	}
	if err != nil {
		return err
	}
	rec, err := decodeRecord(raw)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	// The SDK has no door to its session's level: when no call needs the old one, the next connects with the new one.
	s.stale = s.stale || rec.LogLevel != s.rec.LogLevel
	s.rec = *rec
	if server := s.server; server != nil { // the client may have unsubscribed at another replica
		// By the list as it is when this runs: what the client subscribes to meanwhile is in the record before it is asked for.
		go func() { server.KeepSubscriptions(s.Subscribed()) }()
	}
	s.refresh()
	return nil
}

// refresh disconnects a stale SDK session that no call uses. s.mu is held.
func (s *Session) refresh() {
	if s.stale && len(s.runs) == 0 {
		s.disconnect()
		switch {
		case len(s.rec.Subscriptions) > 0: // the server keeps books of them, see [engine.Session.KeepSubscriptions]
			go func() { _, _ = s.Server(context.Background()) }() // as above
		case len(s.alone) > 0:
			go func() { _ = s.connectListener(context.Background()) }()
		}
	}
}

// replicaOf returns the replica that a request to the client of a session names, see [Session.ask]. It is empty for what
// was never asked of this client.
func replicaOf(id wire.ID, session string) string {
	parts := strings.Split(wire.Unquote([]byte(id)), ".")
	if len(parts) != 3 || parts[2] != short(session) {
		return ""
	}
	return parts[0]
}

// Answer hands a client's response to the handler that asked, on whichever replica it runs. An
// answer that nobody waits for, late or of another session, is ignored.
// Errors: store.ErrUnavailable; the client may answer again.
func (s *Session) Answer(ctx context.Context, m wire.Message) error {
	if s.answer(m) || s.m.Replica == nil {
		return nil
	}
	to := replicaOf(m.ID, s.ID)
	if to == "" || to == s.m.Replica.ID {
		return nil
	}
	took, key := make(chan struct{}), s.ID+" "+string(m.ID)
	s.m.mu.Lock()
	s.m.handed[key] = took
	s.m.mu.Unlock()
	defer func() {
		s.m.mu.Lock()
		defer s.m.mu.Unlock()
		if s.m.handed[key] == took {
			delete(s.m.handed, key)
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, handOver)
	defer cancel()
	body := noteBody{Session: s.ID, ID: string(m.ID), Result: m.Result, Error: m.Error}
	heard, err := s.m.Replica.Send(ctx, to, noteAnswer, body)
	if err != nil {
		return err
	}
	if heard {
		select {
		case <-took:
			return nil
		case <-ctx.Done():
		}
	}
	// The replica is dead, or its connection to the store is being mended: to say that the answer was
	// accepted could be a lie.
	return fmt.Errorf("the replica that asked cannot be told: %w", store.ErrUnavailable)
}

// CancelAnywhere cancels the request with this ID on whichever replica it runs.
func (s *Session) CancelAnywhere(id wire.ID) {
	if !s.Cancel(id) {
		s.m.tell(noteCancel, noteBody{Session: s.ID, ID: string(id)})
	}
}

// Replicas that show a session's standalone stream say so in the store, so that a message that
// arises elsewhere finds it and no two replicas show the same one.

func aloneKey(id string) string { return "alone:" + id }

func (s *Session) claimAlone(ctx context.Context) error {
	if s.m.Replica == nil {
		return nil
	}
	return s.m.Store.Put(ctx, aloneKey(s.ID), []byte(s.m.Replica.ID), run.KeepOpen)
}

// holdsAlone reports whether this replica shows the standalone stream as far as the store knows, which is told so if it no longer knows.
func (s *Session) holdsAlone(ctx context.Context) (bool, error) {
	for {
		raw, err := s.m.Store.Get(ctx, aloneKey(s.ID))
		if errors.Is(err, store.ErrNotFound) {
			err = s.m.Store.Create(ctx, aloneKey(s.ID), []byte(s.m.Replica.ID), run.KeepOpen)
			if errors.Is(err, store.ErrExists) {
				continue
			}
			return err == nil, err
		}
		return string(raw) == s.m.Replica.ID, err
	}
}

// unclaimAlone takes back what claimAlone said, if no other replica has said it since.
func (s *Session) unclaimAlone() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if s.aloneAt(ctx) == s.m.Replica.ID {
		_ = s.m.Store.Delete(ctx, aloneKey(s.ID)) // it expires otherwise
	}
}

// aloneAt returns the replica that shows the standalone stream; this one if none is known.
func (s *Session) aloneAt(ctx context.Context) string {
	raw, err := s.m.Store.Get(ctx, aloneKey(s.ID))
	if err != nil {
		return s.m.Replica.ID
	}
	return string(raw)
}

// SayAlone puts a message on exactly one standalone stream, of whichever replica. Errors: ErrNoStream.
func (s *Session) SayAlone(data []byte) error { return s.sayAlone("", data) }

func (s *Session) sayAlone(name string, data []byte) error {
	if s.m.Replica == nil {
		return s.sayHere(name, data)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	at := s.aloneAt(ctx)
	if at == s.m.Replica.ID {
		return s.sayHere(name, data)
	}
	taken, err := s.m.Replica.Send(ctx, at, noteSay, noteBody{Session: s.ID, ID: name, Data: data})
	if err == nil && !taken {
		err = ErrNoStream
	}
	return err
}

// SayAloneIfHere puts a message that every replica has on the standalone stream if this one shows it, and reports whether it did. By its
// name all of them know it for the same: while a stream moves, two may think that it is theirs to say.
func (s *Session) SayAloneIfHere(name string, data []byte) bool {
	s.mu.Lock()
	none := len(s.alone) == 0
	s.mu.Unlock()
	if none {
		return false
	}
	if s.m.Replica != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if at := s.aloneAt(ctx); at != s.m.Replica.ID {
			return false
		}
	}
	return s.sayHere(name, data) == nil // without a stream the client asks when it needs to know
}
