package memory

import (
	"container/heap"
	"context"
	"maps"
	"math"
	"sync"
	"time"

	"github.com/sluice-mcp/sluice/store"
)

const (
	// sweepEvery is how long an expired item may hold its memory. It is invisible at once.
	sweepEvery = time.Second
	// sweepMost is how many items are swept before others get the lock.
	sweepMost = 1024
)

// A table is a map whose items expire. One timer, set only while an item can expire, frees them.
type table[V any] struct {
	mu     sync.Mutex
	closed bool
	start  time.Time // deadlines count from here: monotonic, and half the size of a time.Time
	items  map[string]*item[V]
	peak   int // the largest len(items) since items was made
	due    queue[V]
	timer  *time.Timer
	wake   time.Duration // when timer fires; 0 when it is not set
}

type item[V any] struct {
	key      string
	value    V
	deadline time.Duration // 0: never
	queued   time.Duration // its order in due: its deadline or, when that was put off since, an earlier time
	pos      int           // its place in due, or -1
}

func newTable[V any]() *table[V] {
	return &table[V]{start: time.Now(), items: make(map[string]*item[V])}
}

// lock fails when the caller has given up, as a distant backend would, or the table is closed.
func (t *table[V]) lock(ctx context.Context) error {
	if err := alive(ctx); err != nil {
		return err
	}
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return store.ErrClosed
	}
	return nil
}

// get returns the item, or nil when there is none or it has expired.
func (t *table[V]) get(key string) *item[V] {
	it := t.items[key]
	if it != nil && it.deadline != 0 && it.deadline <= time.Since(t.start) {
		t.remove(it)
		return nil
	}
	return it
}

// add makes a new item, which the caller must know to be absent. It does not expire yet.
func (t *table[V]) add(key string) *item[V] {
	it := &item[V]{key: key, pos: -1}
	t.items[key] = it
	t.peak = max(t.peak, len(t.items))
	return it
}

func (t *table[V]) remove(it *item[V]) {
	delete(t.items, it.key)
	if it.pos >= 0 {
		heap.Remove(&t.due, it.pos)
	}
}

// expire sets the time to live anew. Putting off a deadline, the usual case, leaves the queue alone.
func (t *table[V]) expire(it *item[V], ttl time.Duration) {
	if ttl <= 0 {
		it.deadline = 0
		if it.pos >= 0 {
			heap.Remove(&t.due, it.pos)
		}
		return
	}
	now := time.Since(t.start)
	it.deadline = now + min(ttl, math.MaxInt64-now)
	switch {
	case it.pos < 0:
		it.queued = it.deadline
		heap.Push(&t.due, it)
	case it.deadline < it.queued:
		it.queued = it.deadline
		heap.Fix(&t.due, it.pos)
	}
	t.arm(now)
}

// arm makes sure that the timer fires when the first item is due, but at least sweepEvery from now.
func (t *table[V]) arm(now time.Duration) {
	if len(t.due) == 0 {
		return
	}
	wake := max(t.due[0].queued, now+sweepEvery)
	if t.wake != 0 && t.wake <= wake {
		return
	}
	t.wake = wake
	if t.timer == nil {
		t.timer = time.AfterFunc(wake-now, t.sweep)
	} else {
		t.timer.Reset(wake - now)
	}
}

// sweep frees what has expired and sets the timer again if anything is left to expire.
func (t *table[V]) sweep() {
	for t.sweepSome() {
	}
}

func (t *table[V]) sweepSome() (more bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return false
	}
	now := time.Since(t.start)
	for range sweepMost {
		if len(t.due) == 0 || t.due[0].queued > now {
			t.shrink()
			t.wake = 0
			t.arm(now)
			return false
		}
		if it := t.due[0]; it.deadline > now {
			it.queued = it.deadline
			heap.Fix(&t.due, 0)
		} else {
			t.remove(it)
		}
	}
	return true
}

// shrink makes the map anew when it is mostly empty, for Go's maps only grow.
func (t *table[V]) shrink() {
	if t.peak < 1024 || len(t.items) > t.peak/4 {
		return
	}
	items := make(map[string]*item[V], len(t.items))
	maps.Copy(items, t.items)
	t.items, t.peak = items, len(items)
	t.due = append(queue[V](nil), t.due...)
}

func (t *table[V]) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	t.items, t.due = nil, nil
	if t.timer != nil {
		t.timer.Stop()
	}
}

// A queue is a heap.Interface of items, the one that may be due first at its top.
type queue[V any] []*item[V]

func (q queue[V]) Len() int           { return len(q) }
func (q queue[V]) Less(i, j int) bool { return q[i].queued < q[j].queued }

func (q queue[V]) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].pos, q[j].pos = i, j
}

func (q *queue[V]) Push(x any) {
	it := x.(*item[V])
	it.pos = len(*q)
	*q = append(*q, it)
}

func (q *queue[V]) Pop() any {
	last := len(*q) - 1
	it := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	it.pos = -1
	return it
}
