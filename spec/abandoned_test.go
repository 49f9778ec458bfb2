package spec_test

import (
	"fmt"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestAbandoned leaves 1,000 of everything that a client can leave behind and looks at what it costs: over real
// connections what must end with them, and in virtual time what the endpoint keeps for a while, for a client
// that may come back. It runs alone, so that goroutines and memory are its own.
func TestAbandoned(t *testing.T) {
	const many = 1000
	tests := map[string]struct {
		leave func(t *testing.T, e *env, i int)
		bytes uint64        // that each may still hold when it is abandoned
		after time.Duration // of virtual time; zero means real time, at once
	}{
		// An idle session costs its record.
		"sessions": {func(t *testing.T, e *env, _ int) { e.open(t, v11) }, 8 << 10, 3 * time.Second},
		// A session that was used, too.
		"used sessions": {func(t *testing.T, e *env, _ int) { e.open(t, v11).run(t, "echo", obj{"text": "x"}) }, 8 << 10, 3 * time.Second},
		"GET streams": {func(t *testing.T, e *env, _ int) {
			s := e.open(t, v11)
			s.listen(t, "").cut()
		}, 8 << 10, 5 * time.Minute},
		"elicitations": {func(t *testing.T, e *env, i int) {
			s := e.open(t, v11)
			stream := s.send(t, call(1, "elicit", obj{"key": fmt.Sprint("k", i)})).events(t)
			stream.message(t)
			stream.cut()
		}, 8 << 10, 2 * time.Hour},
		"calls of sessions": {func(t *testing.T, e *env, i int) {
			s := e.open(t, v11)
			key := fmt.Sprint("k", i)
			s.broken(t, 2, key, 1) // to its end, with nobody there to see it
		}, 8 << 10, 3 * time.Second},
		"stateless calls": {func(t *testing.T, e *env, i int) {
			key := fmt.Sprint("k", i)
			x := e.begin(t, e.modern(t, call(1, "slow", obj{"key": key})))
			e.await(t, key, "running")
			x.cut()
		}, 4 << 10, 0},
		"subscriptions": {func(t *testing.T, e *env, _ int) {
			e.subscribe(t, 1, obj{"toolsListChanged": true, "resourceSubscriptions": []string{"test://item/01"}}).cut()
		}, 4 << 10, 0},
		"half requests": {func(t *testing.T, e *env, _ int) {
			l := e.dial(t)
			_, _ = l.conn.Write([]byte("POST /mcp HTTP/1.1\r\nHost: " + e.addr + "\r\nContent-Type: application/json\r\nAccept: */*\r\nContent-Length: 1000000\r\n\r\n{"))
			l.cut()
		}, 4 << 10, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if tt.after == 0 {
				abandon(t, serve(t, counted), many, tt.leave, 0, tt.bytes)
				return
			}
			synctest.Test(t, func(t *testing.T) { abandon(t, serve(t, virtual, counted), many, tt.leave, tt.after, tt.bytes) })
		})
	}
}

func abandon(t *testing.T, e *env, many int, leave func(*testing.T, *env, int), after time.Duration, bytes uint64) {
	for i := range 10 { // what is made once is no leak
		leave(t, e, -1-i)
	}
	crowd(10 * many)
	time.Sleep(after)
	goroutines, heap := quiesced(), inUse()
	for i := range many {
		leave(t, e, i)
	}
	time.Sleep(after)
	deadline := time.Now().Add(patience)
	for runtime.NumGoroutine() > goroutines+20 {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines, %d before:\n%.4000s", runtime.NumGoroutine(), goroutines, stacks(t))
		}
		time.Sleep(5 * time.Millisecond)
	}
	each := (max(inUse(), heap) - heap) / uint64(many)
	t.Logf("%d bytes each", each)
	if each > bytes {
		t.Errorf("each still holds %d bytes, want at most %d", each, bytes)
	}
}

// crowd has n goroutines at once. The runtime never gives back what it keeps about a goroutine, half a kilobyte, but uses it for the
// next one: how many there are at once, while things are left behind, depends on how busy the machine is and is no leak.
func crowd(n int) {
	var all sync.WaitGroup
	enough := make(chan struct{})
	for range n {
		all.Go(func() { <-enough })
	}
	close(enough)
	all.Wait()
}

// quiesced waits until the number of goroutines stops falling and returns it.
func quiesced() int {
	n := runtime.NumGoroutine()
	for range 20 {
		time.Sleep(5 * time.Millisecond)
		if m := runtime.NumGoroutine(); m < n {
			n = m
		}
	}
	return n
}

// inUse returns the bytes of reachable memory.
func inUse() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
