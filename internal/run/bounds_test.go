package run

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-mcp/sluice/store/memory"
)

// A durable stream is bounded in bytes, too: while its reader is slow, what it has not seen must neither pile up nor be trimmed away.
func TestDurableIsBoundedInBytes(t *testing.T) {
	t.Parallel()
	for name, n := range map[string]int{"messages": 200, "one large message": 1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := NewStream("S", 1)
				s.Persist(memory.New(), "log", true)
				r := s.Attach(-1)
				size := 100 << 10
				if n == 1 {
					size = 3 << 20
				}
				go func() {
					for range n {
						_ = s.Send(t.Context(), make([]byte, size))
					}
					_ = s.Respond(make([]byte, size), 200)
				}()
				seen := 0
				for {
					time.Sleep(10 * time.Millisecond) // the client takes its time
					synctest.Wait()
					s.mu.Lock()
					if s.bytes > 2*MaxBytes {
						t.Errorf("%d MiB are kept", s.bytes>>20)
					}
					s.mu.Unlock()
					events, ended, err := r.Next()
					if err != nil {
						t.Fatalf("after %d events: %v", seen, err)
					}
					if seen += len(events); ended {
						break
					}
				}
				if seen != n+2 {
					t.Errorf("%d events", seen)
				}
			})
		})
	}
}

// Bytes that wait for a store that is away are bounded as well.
func TestOutageIsBoundedInBytes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var away atomic.Bool
		away.Store(true)
		s := NewStream("S", 1)
		s.Persist(newFaultyLog(func(bool) fault {
			if away.Load() {
				return refused
			}
			return none
		}), "log", true)
		ctx, cancel := context.WithCancel(t.Context())
		n := 0
		go counted(ctx, s, make([]byte, 100<<10), &n)
		time.Sleep(time.Minute)
		synctest.Wait()
		if n > MaxBytes/(100<<10) {
			t.Errorf("%d MiB wait", n*100>>10)
		}
		cancel()
		for range 2 * MaxEvents {
			if s.Offer(make([]byte, 100<<10)) != nil {
				break
			}
			n++
		}
		if n > 2*MaxBytes/(100<<10) {
			t.Errorf("with offers, %d MiB wait", n*100>>10)
		}
		away.Store(false)
		time.Sleep(3 * time.Second)
	})
}
