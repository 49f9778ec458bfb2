// Package servers keeps an engine for each server that requests come for, and has those watched that are worth it.
package servers

import (
	"encoding/json"
	"log/slog"
	"sync"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice/internal/engine"
)

// Servers keeps one engine for each server that is seen again. A program may return the
// same server always, one for each tenant, or a new one for each request; the last must leave nothing behind.
// Its methods are safe for concurrent use.
type Servers struct {
	Hooks
	log *slog.Logger

	mu   sync.Mutex
	kept map[*mcp.Server]*kept
	tick int
}

// Hooks are called for the servers that are watched. All must be set.
type Hooks struct {
	// Changed is called with each change notification of a server; it must not wait.
	Changed func(e *engine.Engine, method string, params json.RawMessage)
	// Told is called with each other notification that a server sends to all of its sessions.
	Told func(e *engine.Engine, method string, params json.RawMessage)
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
	return &Servers{Hooks: h, log: log, kept: make(map[*mcp.Server]*kept)}
}

type kept struct {
	engine *engine.Engine
	last   int
	again  bool
}

// maxEngines bounds the servers that are kept. The least recently used one is let go: it loses
// its watch and its cache, and nothing else.
const maxEngines = 256

// Get returns the engine of a server.
func (s *Servers) Get(server *mcp.Server) *engine.Engine {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tick++
	if k := s.kept[server]; k != nil {
		k.last = s.tick
		if !k.again || !k.engine.Watched() {
			// A server that comes again is worth a session that watches it for changes. Its program may have closed that one.
			k.again = true
			s.Watch(k.engine)
		}
		return k.engine
	}
	if len(s.kept) >= maxEngines {
		s.evict()
	}
	k := &kept{engine: engine.New(server, s.log), last: s.tick}
	k.engine.Voice = s.Voice
	s.kept[server] = k
	if s.Eager {
		k.again = true
		s.Watch(k.engine)
	}
	return k.engine
}

// Watch has a server watched for changes, if it is not already.
func (s *Servers) Watch(e *engine.Engine) {
	began, err := e.Watch(
		func(method string, params json.RawMessage) { s.Changed(e, method, params) },
		func(method string, params json.RawMessage) { s.Told(e, method, params) },
		func() { s.Closed(e) },
	)
	if err != nil {
		s.log.Warn("changes of the server will not be told", "error", err)
		return
	}
	if began && s.Eager {
		go s.Watched(e)
	}
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

func (s *Servers) evict() {
	var oldest *mcp.Server
	for server, k := range s.kept {
		if oldest == nil || k.last < s.kept[oldest].last {
			oldest = server
		}
	}
	go s.kept[oldest].engine.Close()
	delete(s.kept, oldest)
}

// Close ends what was kept.
func (s *Servers) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.kept {
		k.engine.Close()
	}
	clear(s.kept)
}
