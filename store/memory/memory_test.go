package memory_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-mcp/sluice/store"
	"github.com/sluice-mcp/sluice/store/memory"
	"github.com/sluice-mcp/sluice/store/storetest"
)

func TestContract(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) store.Store {
		m := memory.New()
		t.Cleanup(func() { _ = m.Close() })
		return m
	})
}

func TestExpiryIsExact(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m, ctx := memory.New(), t.Context()
		for i := range 100 {
			if err := m.Put(ctx, fmt.Sprint(i), nil, time.Duration(i+1)*time.Millisecond); err != nil {
				t.Fatal(err)
			}
			if err := m.Append(ctx, fmt.Sprint(i), 0, nil, store.Bounds{TTL: time.Duration(i+1) * time.Millisecond}); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 100 {
			time.Sleep(time.Millisecond)
			for j := range 100 {
				_, err := m.Get(ctx, fmt.Sprint(j))
				if gone := errors.Is(err, store.ErrNotFound); gone != (j <= i) {
					t.Fatalf("after %d ms: record %d: %v", i+1, j, err)
				}
				_, _, err = m.Read(ctx, fmt.Sprint(j), 0, 1)
				if gone := errors.Is(err, store.ErrNotFound); gone != (j <= i) {
					t.Fatalf("after %d ms: log %d: %v", i+1, j, err)
				}
			}
		}
		// Not closed on purpose: a store that is forgotten must not keep a goroutine, or the bubble would not end.
	})
}

func TestTouchedRecordStays(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m, ctx := memory.New(), t.Context()
		if err := m.Put(ctx, "k", nil, 10*time.Second); err != nil {
			t.Fatal(err)
		}
		for range 100 {
			time.Sleep(9 * time.Second)
			if err := m.Touch(ctx, "k", 10*time.Second); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(10 * time.Second)
		if _, err := m.Get(ctx, "k"); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("got %v, want ErrNotFound", err)
		}
	})
}

// TestMemory is not parallel: it looks at the heap.
func TestMemory(t *testing.T) {
	const n, size = 10_000, 512
	value := bytes.Repeat([]byte("v"), size)
	synctest.Test(t, func(t *testing.T) {
		m, ctx := memory.New(), t.Context()
		empty, goroutines := heap(), runtime.NumGoroutine()
		for i := range n {
			key := fmt.Sprintf("session:%032x", i)
			if err := m.Put(ctx, key, value, time.Hour); err != nil {
				t.Fatal(err)
			}
		}
		full := heap()
		if over := (full-empty)/n - size - 40; over > 200 {
			t.Errorf("a record costs %d bytes beside its key and value, want at most 200", over)
		} else {
			t.Logf("a record costs %d bytes beside its key and value", over)
		}
		if now := runtime.NumGoroutine(); now > goroutines {
			t.Errorf("%d goroutines more", now-goroutines)
		}
		for i := range n { // sooner than they were to expire
			if err := m.Touch(ctx, fmt.Sprintf("session:%032x", i), time.Minute+time.Duration(i)*time.Millisecond); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(2 * time.Minute)
		if left := heap() - empty; left > n*size/50 {
			t.Errorf("%d bytes are left after all has expired", left)
		}
		runtime.KeepAlive(m)
	})
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return int64(s.HeapAlloc)
}

func TestCloseStopsTheTimer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := memory.New()
		if err := m.Put(context.Background(), "k", nil, time.Second); err != nil {
			t.Fatal(err)
		}
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if _, err := m.Get(context.Background(), "k"); !errors.Is(err, store.ErrClosed) {
			t.Errorf("got %v, want ErrClosed", err)
		}
	})
}
