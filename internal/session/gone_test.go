package session

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-mcp/sluice/store"
	"github.com/sluice-mcp/sluice/store/memory"
)

// A request meets a session that is just being put to rest.
func TestFindMeetsRest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, memory.New(), nil)
		s := h.open("")
		s.mu.Lock()
		s.closed = true // Session.rest is here, between s.mu and m.mu
		s.disconnect()  // as it will, in the end
		s.mu.Unlock()
		got := h.mustFind(s.ID, "")
		if got == s || got.isClosed() {
			t.Error("the session that was found is closed")
		}
		if _, err := got.Server(context.Background()); err != nil {
			t.Error(err)
		}
		got.Release()
		h.close()
	})
}

// A session that is used all the time counts all the time.
func TestBusySessionsCount(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, memory.New(), func(c *Config) { c.MaxSessions = 1 })
		s := h.open("")
		for until := time.Now().Add(2 * timeout); time.Now().Before(until); {
			h.mustFind(s.ID, "").Release()
			time.Sleep(rest / 3)
		}
		if other, err := h.New(h.engine, ""); err == nil {
			t.Error("the limit is not held")
			h.Discard(other)
			other.Release()
		}
		h.close()
	})
}

// A session that another replica has ended is not found, whatever is asked of it.
func TestChangesOfASessionThatIsGone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		st := memory.New()
		h := newHouse(t, st, nil)
		s := h.mustFind(h.open("").ID, "")
		if err := st.Delete(t.Context(), recordKey(s.ID)); err != nil {
			t.Fatal(err)
		}
		for name, f := range map[string]func(context.Context) error{
			"initialized": func(ctx context.Context) error { return s.Initialized(ctx, nil, nil) },
			"level":       func(ctx context.Context) error { return s.SetLogLevel(ctx, "error") },
		} {
			if err := f(t.Context()); !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrEnded) {
				t.Errorf("%s: %v (store's own: %v)", name, err, errors.Is(err, store.ErrNotFound))
			}
		}
		s.Release()
		h.close()
	})
}
