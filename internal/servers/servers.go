// Package servers keeps an engine for each server that requests come for, and has those watched that are worth it.
package servers

import (
	"container/list"
	"context"
	"encoding/json"
	"log/slog"
	"sync"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice/internal/engine"
)

// Servers keeps one engine for each server that is seen again, or that a session has. A program may return the
// same server always, one for each tenant, session or request; the last must leave nothing behind.
// Its methods are safe for concurrent use.
type Servers struct {
	Hooks
	log *slog.Logger

	mu    sync.Mutex
	kept  map[*mcp.Server]*kept
	spare *list.List // of *kept, the one that was used last in front: something of them can be let go
}

// Hooks are called for the servers that are watched. All must be set.
type Hooks struct {
	// Changed is called with each change notification of a server; it must not wait.
	Changed func(e *engine.Engine, method string, params json.RawMessage)
	// Told is called with each other notification that a server sends to all of its sessions, and with the context of who sends it.
	Told func(ctx context.Context, e *engine.Engine, method string, params json.RawMessage)
	// Closed is called when a program has closed all sessions of its server.
	Closed func(e *engine.Engine)
	// Watched is called for each engine that begins to be watched.
	Watched func(e *engine.Engine)
	// Voice finds the session that speaks for one that a handler has kept.
	Voice engine.Voice
	// Eager has servers watched from their first request on, because clients of other replicas may be interested in them.
	Eager bool
}

// New returns an empty set.
func New(log *slog.Logger, h Hooks) *Servers {
	return &Servers{Hooks: h, log: log, kept: make(map[*mcp.Server]*kept), spare: list.New()}
}

type kept struct {
	server    *mcp.Server
	engine    *engine.Engine
	again     bool // it came more than once: it is not that of one session or one request
	watched   bool
	sessions  int // that live here and have it
	listeners int
	place     *list.Element // in spare
}

// maxSpare bounds the servers that no session has, and those that are watched though nobody listens: a watch is a goroutine. The
// least recently used one loses its watch and its cache, and nothing else.
const maxSpare = 256

// Get returns the engine of a server.
func (s *Servers) Get(server *mcp.Server) *engine.Engine {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.kept[server]
	switch {
	case k == nil:
		k = &kept{server: server, engine: engine.New(server, s.log)}
		k.engine.Voice = s.Voice
		s.kept[server] = k
		if s.Eager {
			s.watch(k)
		}
	case !k.again || !k.engine.Watched():
		// A server that comes again is worth a session that watches it for changes. Its program may have closed that one.
		k.again = true
		s.watch(k)
	}
	s.rank(k)
	return k.engine
}

// Holds notes that a session begins to have an engine, with 1, or no longer has it, with -1. A server of its own goes with it.
func (s *Servers) Holds(e *engine.Engine, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.of(e)
	if k == nil {
		return
	}
	if k.sessions += n; k.sessions > 0 || k.again {
		s.rank(k)
		return
	}
	s.forget(k)
}

// Listen has a server watched for changes while a client listens, until the returned function is called.
func (s *Servers) Listen(e *engine.Engine) (done func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.of(e)
	if k == nil {
		return func() {}
	}
	k.listeners++
	s.watch(k)
	s.rank(k)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		k.listeners--
		if s.of(e) == k {
			s.rank(k)
		}
	}
}

// of returns what is kept of an engine, or nil. s.mu is held, as it is for the rest.
func (s *Servers) of(e *engine.Engine) *kept {
	if k := s.kept[e.Server()]; k != nil && k.engine == e {
		return k
	}
	return nil
}

func (s *Servers) watch(k *kept) {
	e := k.engine
	began, err := e.Watch(
		func(method string, params json.RawMessage) { s.Changed(e, method, params) },
		func(ctx context.Context, method string, params json.RawMessage) { s.Told(ctx, e, method, params) },
		func() { s.Closed(e) },
	)
	if err != nil {
		s.log.Warn("changes of the server will not be told", "error", err)
		return
	}
	k.watched = true
	if began && s.Eager {
		go s.Watched(e)
	}
}

// rank puts a server, which has just been used, in its place among those of which something can be let go.
func (s *Servers) rank(k *kept) {
	spare := k.listeners == 0 && (k.sessions == 0 || k.watched)
	switch {
	case spare && k.place != nil:
		s.spare.MoveToFront(k.place)
	case spare:
		k.place = s.spare.PushFront(k)
	case k.place != nil:
		s.spare.Remove(k.place)
		k.place = nil
	}
	if s.spare.Len() <= maxSpare {
		return
	}
	last, _ := s.spare.Back().Value.(*kept)
	if last.sessions == 0 {
		s.forget(last)
		return
	}
	s.spare.Remove(last.place)
	last.place, last.watched = nil, false
	last.engine.Unwatch()
}

func (s *Servers) forget(k *kept) {
	if k.place != nil {
		s.spare.Remove(k.place)
		k.place = nil
	}
	delete(s.kept, k.server)
	go k.engine.Close() // it waits for handlers
}

// Each calls f for the engines that are kept.
func (s *Servers) Each(f func(*engine.Engine)) {
	s.mu.Lock()
	all := make([]*engine.Engine, 0, len(s.kept))
	for _, k := range s.kept {
		all = append(all, k.engine)
	}
	s.mu.Unlock()
	for _, e := range all {
		f(e)
	}
}

// Close ends what was kept.
func (s *Servers) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.kept {
		k.engine.Close()
	}
	clear(s.kept)
	s.spare.Init()
}
