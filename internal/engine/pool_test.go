package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-mcp/sluice/internal/wire"
)

func meta(client, caps string) wire.Meta {
	return wire.Meta{ProtocolVersion: []byte(`"2026-07-28"`), ClientInfo: []byte(client), ClientCapabilities: []byte(caps)}
}

func watchedEngine(t *testing.T) *Engine {
	t.Helper()
	e := New(newServer(), quiet())
	if _, err := e.Watch(func(string, json.RawMessage) {}, nil, nil); err != nil {
		t.Fatal(err)
	}
	return e
}

func lend(t *testing.T, e *Engine, principal string, m wire.Meta, out Outlet) *Session {
	t.Helper()
	s, err := e.Lend(principal, m, out)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A session goes from call to call only where they are of one client, as far as can be told.
func TestLend(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := watchedEngine(t)
		a, b := meta(`{"name":"a"}`, `{}`), meta(`{"name":"b"}`, `{}`)
		first := lend(t, e, "alice", a, &outbox{})
		second := lend(t, e, "alice", a, &outbox{})
		if second == first {
			t.Fatal("one session, two calls")
		}
		second.Return()
		first.Return()
		level := a
		level.LogLevel = []byte(`"debug"`)
		for name, s := range map[string]*Session{
			"another principal":      lend(t, e, "bob", a, &outbox{}),
			"nobody":                 lend(t, e, "", a, &outbox{}),
			"another client":         lend(t, e, "alice", b, &outbox{}),
			"another capability":     lend(t, e, "alice", meta(`{"name":"a"}`, `{"sampling":{}}`), &outbox{}),
			"another log level":      lend(t, e, "alice", level, &outbox{}),
			"a name with the client": lend(t, e, `alice{"name":"a"}`, wire.Meta{ProtocolVersion: a.ProtocolVersion, ClientCapabilities: a.ClientCapabilities}, &outbox{}),
		} {
			if s == first {
				t.Errorf("%s has got the session", name)
			}
			s.Return()
		}
		again := lend(t, e, "alice", a, &outbox{})
		if again != first {
			t.Error("the session was not kept for its client")
		}
		again.Return()
		time.Sleep(time.Minute)
		synctest.Wait()
		if again = lend(t, e, "alice", a, &outbox{}); again == first {
			t.Error("the session was kept for a minute")
		}
		again.Return()
		e.Close()
		lend(t, e, "alice", a, &outbox{}).Return() // and leaves nothing behind, or the bubble would not end
		time.Sleep(time.Minute)
	})
}

// What a handler says reaches the call that has the session, and nobody afterwards.
func TestLentOutlet(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := watchedEngine(t)
		m := meta(`{"name":"a"}`, `{}`)
		for i := range 3 {
			out := &outbox{}
			s := lend(t, e, "", m, out)
			c := call("tools/call", `{"name":"progress","_meta":{"progressToken":1}}`)
			c.Token = []byte("1")
			if _, err := s.Do(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			if got := len(out.all()); got != 1 {
				t.Errorf("call %d: %d messages", i, got)
			}
			s.Return()
			if err := s.conn.out.Say(context.Background(), Outgoing{Method: "notifications/progress"}); !errors.Is(err, errNoClient) {
				t.Errorf("after the call: %v", err)
			}
			if got := len(out.all()); got != 1 {
				t.Errorf("call %d: %d messages after its end", i, got)
			}
		}
		e.Close()
	})
}

func TestLendIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := watchedEngine(t)
		var all []*Session
		for i := range 3 * maxIdle {
			all = append(all, lend(t, e, fmt.Sprint(i%7), meta(fmt.Sprintf(`{"name":"%d"}`, i%50), `{}`), &outbox{}))
		}
		for _, s := range all {
			s.Return()
		}
		idle := 0
		for _, list := range e.pool.idle {
			idle += len(list)
		}
		if idle > maxIdle || idle != e.pool.n {
			t.Errorf("%d sessions wait, %d are counted", idle, e.pool.n)
		}
		big := meta(fmt.Sprintf(`{"name":"%05000d"}`, 1), `{}`)
		s := lend(t, e, "", big, &outbox{})
		s.Return()
		if len(e.pool.idle[s.lent.key]) > 0 {
			t.Error("a key of any size is kept")
		}
		e.Close()
	})
}

// Many calls at once: no session serves two of them at the same time.
func TestLendConcurrently(t *testing.T) {
	t.Parallel()
	e := watchedEngine(t)
	defer e.Close()
	var mu sync.Mutex
	using := make(map[*Session]int)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for k := range 200 {
				out := &outbox{}
				s, err := e.Lend(fmt.Sprint(k%3), meta(fmt.Sprintf(`{"name":"%d"}`, (i+k)%2), `{}`), out)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				if using[s]++; using[s] > 1 {
					t.Error("a session serves two calls")
				}
				mu.Unlock()
				c := call("tools/call", `{"name":"progress","_meta":{"progressToken":"x"}}`)
				c.Token = []byte(`"x"`)
				if _, err := s.Do(t.Context(), c); err != nil || len(out.all()) != 1 {
					t.Errorf("%v, %d messages", err, len(out.all()))
				}
				mu.Lock()
				using[s]--
				mu.Unlock()
				s.Return()
			}
		})
	}
	all.Wait()
}

func TestLendRefuses(t *testing.T) {
	t.Parallel()
	e := New(newServer(), quiet())
	for _, m := range []wire.Meta{meta(`{"name":7}`, `{}`), meta(`{}`, `{"roots":7}`), meta(`{}`, `{"sampling":[]}`)} {
		var fault *wire.Error
		if _, err := e.Lend("", m, &outbox{}); !errors.As(err, &fault) || fault.Code != wire.CodeInvalidParams {
			t.Errorf("%s: %v", m.ClientCapabilities, err)
		}
	}
}
