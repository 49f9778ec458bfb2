// Package session owns the sessions of the revisions up to 2025-11-25: their
// records in the store, their life on this replica, what waits for an answer
// of the client, and the standalone streams.
//
// A session is a record. It is brought to life on whichever replica a request
// for it lands, and rests there soon after; the record stays until it expires.
package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice/internal/engine"
	"github.com/sluice-mcp/sluice/internal/observed"
	"github.com/sluice-mcp/sluice/internal/wire"
	"github.com/sluice-mcp/sluice/store"
)

// Errors of this package, besides those of the store.
var (
	// ErrNotFound: no such session, or not this principal's.
	ErrNotFound = errors.New("session not found")
	// ErrTooMany: a limit on sessions was reached.
	ErrTooMany = errors.New("too many sessions")
	// ErrTooManyOfYours is the ErrTooMany of a limit on the sessions of one principal.
	ErrTooManyOfYours = fmt.Errorf("%w of this client", ErrTooMany)
	// ErrNoStream: the client has no stream open on which the message could go.
	ErrNoStream = errors.New("the client has no stream open")
	// errLeft: the client has left a call without a way back to it.
	errLeft = errors.New("the client has left and cannot be asked")
	// ErrEnded: the session has ended, or its life here has.
	ErrEnded = errors.New("session ended")
)

// Record is what the store keeps of a session.
type Record struct {
	Principal     string          `json:"principal,omitempty"`
	Version       string          `json:"version"`    // negotiated
	Initialize    json.RawMessage `json:"initialize"` // params, with the negotiated version
	Initialized   bool            `json:"initialized,omitempty"`
	LogLevel      string          `json:"logLevel,omitempty"`
	Subscriptions []string        `json:"subscriptions,omitempty"`
	Lists         engine.Lists    `json:"lists,omitempty"` // those of the server that the client knows of
}

func recordKey(id string) string { return "session:" + id }

func streamLog(session, stream string) string { return "stream:" + session + ":" + stream }

// state is the record as the SDK takes it.
func (r *Record) state() (*mcp.ServerSessionState, error) {
	params, err := engine.ParseInitialize(r.Initialize)
	if err != nil {
		return nil, err
	}
	s := &mcp.ServerSessionState{
		InitializeParams:          params,
		NegotiatedProtocolVersion: r.Version,
		LogLevel:                  mcp.LoggingLevel(r.LogLevel),
	}
	if r.Initialized {
		s.InitializedParams = &mcp.InitializedParams{}
	}
	return s, nil
}

// syncRecord waits until nobody reads the record from the store to keep it here, or changes it: one at a time, or the older of two
// that were read could be taken for the newer one. Errors: ctx's.
func (s *Session) syncRecord(ctx context.Context) (done func(), err error) {
	s.mu.Lock()
	if s.syncing == nil {
		s.syncing = make(chan struct{}, 1)
	}
	syncing := s.syncing
	s.mu.Unlock()
	select {
	case syncing <- struct{}{}:
		return func() { <-syncing }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// update changes the record in the store and at all replicas. f may be called several times.
func (s *Session) update(ctx context.Context, f func(*Record)) error {
	err := s.rewrite(ctx, f)
	if err == nil && !s.unstored {
		s.m.tell(noteChanged, noteBody{Session: s.ID})
	}
	return err
}

// rewrite changes the record in the store and here.
func (s *Session) rewrite(ctx context.Context, f func(*Record)) error {
	s.mu.Lock()
	if s.unstored {
		defer s.mu.Unlock()
		f(&s.rec)
		return nil
	}
	s.mu.Unlock()
	done, err := s.syncRecord(ctx)
	if err != nil {
		return err
	}
	defer done()
	for { // until nobody else changes it meanwhile
		old, err := s.m.Store.Get(ctx, recordKey(s.ID))
		if errors.Is(err, store.ErrNotFound) {
			s.m.fade(s)
			return ErrEnded
		}
		if err != nil {
			return err
		}
		rec, err := decodeRecord(old)
		if err != nil {
			return err
		}
		f(rec)
		next, err := json.Marshal(rec)
		if err != nil {
			return err
		}
		err = s.m.Store.Swap(ctx, recordKey(s.ID), old, next, s.m.keep())
		if errors.Is(err, store.ErrConflict) || errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err == nil {
			s.mu.Lock()
			s.rec = *rec
			s.mu.Unlock()
		}
		return err
	}
}

func decodeRecord(raw []byte) (*Record, error) {
	var rec Record
	if err := json.Unmarshal(raw, &rec); err != nil {
		return nil, fmt.Errorf("reading a session record: %w", err)
	}
	return &rec, nil
}

// Initialized notes that the client has said notifications/initialized, and tells the server so, aside: its handler may ask
// the client something, who first waits for an answer to this.
func (s *Session) Initialized(ctx context.Context, params json.RawMessage, extra *mcp.RequestExtra) error {
	s.speaks(1)
	server, err := s.Server(ctx) // first: one that is connected as initialized is not told again
	if err == nil {
		err = s.update(ctx, func(r *Record) { r.Initialized = true })
	}
	if err != nil {
		s.speaks(-1)
		return err
	}
	go func() {
		if err := server.Initialized(context.WithoutCancel(ctx), params, extra); err != nil {
			s.m.Log.Info("notifications/initialized", "session", observed.Name(s.ID), "error", err)
		}
		s.speaks(-1)
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.onlyListens() { // many clients never do anything else
			s.disconnect()
		}
	}()
	return nil
}

// Hears reports whether the client wants to hear of log messages of a level, given as raw JSON.
func (s *Session) Hears(level []byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return wire.LevelReaches(level, s.rec.LogLevel)
}

// SetLogLevel notes the level of logging/setLevel.
func (s *Session) SetLogLevel(ctx context.Context, level string) error {
	return s.update(ctx, func(r *Record) { r.LogLevel = level })
}

// SetSubscribed notes a resources/subscribe or resources/unsubscribe.
func (s *Session) SetSubscribed(ctx context.Context, uri string, on bool) error {
	if on && len(uri) > maxURI {
		return wire.InvalidParams("Invalid params: the uri is too long to subscribe to")
	}
	full := false
	err := s.update(ctx, func(r *Record) {
		r.Subscriptions = slices.DeleteFunc(slices.Clone(r.Subscriptions), func(u string) bool { return u == uri })
		if full = on && len(r.Subscriptions) >= maxSubscriptions; on && !full {
			r.Subscriptions = append(r.Subscriptions, uri)
		}
	})
	if err == nil && full {
		return wire.InvalidParams("Invalid params: too many subscriptions in this session")
	}
	return err
}

// What a session's record holds at most; a store need not take more than 1 MiB.
const (
	maxSubscriptions = 400
	maxURI           = 2048
)
