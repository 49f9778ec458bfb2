package servers

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice/internal/engine"
)

// heard counts what the hooks are called with.
type heard struct{ changed, told, closed, watched atomic.Int32 }

func (h *heard) hooks(eager bool) Hooks {
	return Hooks{
		Changed: func(*engine.Engine, string, json.RawMessage) { h.changed.Add(1) },
		Told:    func(context.Context, *engine.Engine, string, json.RawMessage) { h.told.Add(1) },
		Closed:  func(*engine.Engine) { h.closed.Add(1) },
		Watched: func(*engine.Engine) { h.watched.Add(1) },
		Eager:   eager,
	}
}

func newServer() *mcp.Server {
	return mcp.NewServer(&mcp.Implementation{Name: "s", Version: "1"}, &mcp.ServerOptions{Logger: slog.New(slog.DiscardHandler)})
}

// bubble runs f with an empty set, in virtual time.
func bubble(t *testing.T, eager bool, f func(t *testing.T, s *Servers, h *heard)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		h := &heard{}
		s := New(slog.New(slog.DiscardHandler), h.hooks(eager))
		f(t, s, h)
		s.Close()
		time.Sleep(time.Minute)
	})
}

func (s *Servers) count() (n int) {
	s.Each(func(*engine.Engine) { n++ })
	return n
}

// A server is worth a watch when it is seen again, or at once when other replicas may be interested.
func TestWatchesWhatComesAgain(t *testing.T) {
	t.Parallel()
	for name, eager := range map[string]bool{"alone": false, "with other replicas": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bubble(t, eager, func(t *testing.T, s *Servers, h *heard) {
				server := newServer()
				e := s.Get(server)
				if e.Watched() != eager {
					t.Errorf("seen once, watched: %v", e.Watched())
				}
				if s.Get(server) != e || !e.Watched() {
					t.Error("seen again, and not watched, or another engine")
				}
				if other := s.Get(newServer()); other == e || other.Watched() != eager {
					t.Error("another server has this one's engine, or its watch")
				}
				synctest.Wait()
				if got, want := h.watched.Load(), map[bool]int32{false: 0, true: 2}[eager]; got != want {
					t.Errorf("told of %d watches, want %d", got, want)
				}
			})
		})
	}
}

// The hooks hear what a watched server says to all, and nothing of one that is not watched.
func TestHooks(t *testing.T) {
	t.Parallel()
	bubble(t, false, func(t *testing.T, s *Servers, h *heard) {
		server := newServer()
		change := func() {
			server.AddTool(&mcp.Tool{Name: "t", InputSchema: json.RawMessage(`{"type":"object"}`)}, nil)
			time.Sleep(time.Second) // the SDK gathers changes for a moment
			server.RemoveTools("t")
			time.Sleep(time.Second)
		}
		s.Get(server)
		change()
		if got := h.changed.Load(); got != 0 {
			t.Errorf("heard of %d changes of a server that is not watched", got)
		}
		e := s.Get(server)
		change()
		if got := h.changed.Load(); got != 2 {
			t.Errorf("heard of %d changes", got)
		}
		for ss := range server.Sessions() { // as a program does that tells or closes all its sessions
			_ = ss.Log(t.Context(), &mcp.LoggingMessageParams{Level: "error", Data: "all"})
			synctest.Wait()
			_ = ss.Close()
		}
		time.Sleep(time.Second)
		if h.told.Load() != 1 || h.closed.Load() != 1 || e.Watched() {
			t.Errorf("told %d, closed %d, watched: %v", h.told.Load(), h.closed.Load(), e.Watched())
		}
		if s.Get(server) != e || !e.Watched() {
			t.Error("a server that comes again is not watched again")
		}
	})
}

// A server of one session goes with its session; one that others have had, too, stays.
func TestHolds(t *testing.T) {
	t.Parallel()
	bubble(t, false, func(t *testing.T, s *Servers, _ *heard) {
		own, common := newServer(), newServer()
		of, shared := s.Get(own), s.Get(common)
		s.Get(common)
		for _, e := range []*engine.Engine{of, of, shared} {
			s.Holds(e, 1)
		}
		s.Holds(of, -1)
		if s.Get(own) != of { // seen again: it is not that of one session any more
			t.Error("let go while a session has it")
		}
		mine := newServer()
		e := s.Get(mine)
		s.Holds(e, 1)
		if got := s.count(); got != 3 {
			t.Errorf("%d servers are kept", got)
		}
		s.Holds(e, -1)
		s.Holds(shared, -1)
		if got := s.count(); got != 2 {
			t.Errorf("%d servers are kept when the session of one has ended", got)
		}
		s.Holds(e, -1) // a late word about an engine that is no longer kept
		if s.Get(mine) == e || s.Get(common) != shared {
			t.Error("the wrong one was let go")
		}
	})
}

// Servers of single requests leave nothing behind, and do not push out those that sessions have or that clients listen to.
func TestSpare(t *testing.T) {
	t.Parallel()
	bubble(t, false, func(t *testing.T, s *Servers, _ *heard) {
		held, listened, used := newServer(), newServer(), newServer()
		h, l, u := s.Get(held), s.Get(listened), s.Get(used)
		s.Holds(h, 1)
		done := s.Listen(l)
		if !l.Watched() {
			t.Error("not watched while a client listens")
		}
		s.Get(used)
		var first *mcp.Server
		for i := range 2 * maxSpare {
			server := newServer()
			if i == 0 {
				first = server
			}
			s.Get(server)
			s.Get(used)
		}
		if got := s.count(); got > maxSpare+2 {
			t.Errorf("%d servers are kept", got)
		}
		if s.of(h) == nil || s.of(l) == nil || s.of(u) == nil || s.kept[first] != nil {
			t.Error("the wrong ones were let go")
		}
		if !l.Watched() || !u.Watched() {
			t.Error("a watch that is needed has ended")
		}
		done()
		for range maxSpare {
			s.Get(newServer())
		}
		time.Sleep(time.Second) // they are closed on the side
		if s.of(l) != nil || l.Watched() {
			t.Error("kept though nobody listens any more")
		}
	})
}

// The watch of a server that a session has is let go when many others are used; its engine is not.
func TestWatchOfAHeldServerIsLetGo(t *testing.T) {
	t.Parallel()
	bubble(t, false, func(t *testing.T, s *Servers, _ *heard) {
		held := newServer()
		e := s.Get(held)
		s.Holds(e, 1)
		s.Get(held)
		for range maxSpare {
			s.Get(newServer())
		}
		time.Sleep(time.Second)
		if e.Watched() || s.of(e) == nil {
			t.Errorf("watched: %v, kept: %v", e.Watched(), s.of(e) != nil)
		}
		if s.Get(held) != e || !e.Watched() {
			t.Error("not watched again when it is used")
		}
	})
}

func TestClose(t *testing.T) {
	t.Parallel()
	bubble(t, true, func(t *testing.T, s *Servers, _ *heard) {
		e := s.Get(newServer())
		done := s.Listen(e)
		s.Close()
		if e.Watched() || s.count() != 0 {
			t.Errorf("watched: %v, %d are kept", e.Watched(), s.count())
		}
		done() // a listener that ends later does no harm
		s.Holds(e, -1)
		s.Close()
	})
}
