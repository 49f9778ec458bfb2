package auth

import (
	"fmt"
	"math"
	"testing"
	"time"

	"golang.org/x/time/rate"
)

func TestBucketsFillAndAreForgotten(t *testing.T) {
	t.Parallel()
	l := &limiter{limit: rate.Limit(2), burst: 4, full: 2 * time.Second}
	now := time.Unix(1e9, 0)
	for n := range 4 {
		if wait := l.take("alice", now); wait != 0 {
			t.Errorf("take %d: wait %v", n, wait)
		}
	}
	for range 3 { // who is refused is charged nothing
		if wait := l.take("alice", now); wait != 500*time.Millisecond {
			t.Errorf("empty: wait %v", wait)
		}
	}
	// A steady user stays limited, however often generations turn.
	taken := 0
	for range 1000 {
		now = now.Add(10 * time.Millisecond)
		if l.take("alice", now) == 0 {
			taken++
		}
	}
	if taken != 20 {
		t.Errorf("%d taken in ten seconds, want 20", taken)
	}
	// Those who come once do not stay.
	for n := range 100_000 {
		now = now.Add(time.Millisecond)
		l.take(fmt.Sprint(n), now)
		if held := len(l.young) + len(l.old); held > 4002 {
			t.Fatalf("%d buckets for 4000 users in the last 4 seconds", held)
		}
	}
}

func TestRateLimitRefusesNonsense(t *testing.T) {
	t.Parallel()
	for _, perSecond := range []float64{0, -1, math.NaN(), math.Inf(1), math.Inf(-1), 1e-12} {
		if _, err := RateLimit(perSecond, 10); err == nil {
			t.Errorf("%v a second is accepted", perSecond)
		}
	}
	if _, err := RateLimit(1, 0); err == nil {
		t.Error("a burst of 0 is accepted")
	}
}
