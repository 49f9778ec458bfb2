package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-mcp/sluice/store"
)

// short is a time to live that the tests wait for; long one that never ends in a test.
const (
	short = 50 * time.Millisecond
	long  = time.Hour
)

var kvCases = map[string]func(t *testing.T, s store.Store){
	"absent": func(t *testing.T, s store.Store) {
		ctx := t.Context()
		_, err := s.Get(ctx, "k")
		wantErr(t, err, store.ErrNotFound, "Get")
		wantErr(t, s.Swap(ctx, "k", nil, []byte("v"), 0), store.ErrNotFound, "Swap")
		wantErr(t, s.Touch(ctx, "k", long), store.ErrNotFound, "Touch")
		wantErr(t, s.Touch(ctx, "k", 0), store.ErrNotFound, "Touch forever")
		must(t, s.Delete(ctx, "k"))
		wantAbsent(t, s, "k")
	},

	"put": func(t *testing.T, s store.Store) {
		for _, v := range []string{"one", "two", "", "\x00\xff\r\n"} {
			must(t, s.Put(t.Context(), "k", []byte(v), long))
			wantValue(t, s, "k", v)
		}
		must(t, s.Put(t.Context(), "k", nil, 0))
		wantValue(t, s, "k", "")
	},

	"create": func(t *testing.T, s store.Store) {
		ctx := t.Context()
		must(t, s.Create(ctx, "k", []byte("one"), long))
		wantErr(t, s.Create(ctx, "k", []byte("two"), 0), store.ErrExists, "second Create")
		wantErr(t, s.Create(ctx, "k", []byte("two"), long), store.ErrExists, "third Create")
		wantValue(t, s, "k", "one")
		must(t, s.Delete(ctx, "k"))
		wantAbsent(t, s, "k")
		must(t, s.Create(ctx, "k", []byte("three"), 0))
		wantValue(t, s, "k", "three")
	},

	"swap": func(t *testing.T, s store.Store) {
		ctx := t.Context()
		must(t, s.Put(ctx, "k", []byte("one"), 0))
		wantErr(t, s.Swap(ctx, "k", []byte("on"), []byte("two"), 0), store.ErrConflict, "Swap of a prefix")
		wantErr(t, s.Swap(ctx, "k", nil, []byte("two"), 0), store.ErrConflict, "Swap of nothing")
		wantValue(t, s, "k", "one")
		must(t, s.Swap(ctx, "k", []byte("one"), nil, long))
		wantValue(t, s, "k", "")
		must(t, s.Swap(ctx, "k", nil, []byte("\x00"), 0))
		wantValue(t, s, "k", "\x00")
	},

	"values belong to the store": func(t *testing.T, s store.Store) {
		ctx := t.Context()
		v := []byte("aaa")
		must(t, s.Put(ctx, "put", v, 0))
		must(t, s.Create(ctx, "create", v, 0))
		must(t, s.Swap(ctx, "create", v, v, 0))
		copy(v, "bbb")
		wantValue(t, s, "put", "aaa")
		wantValue(t, s, "create", "aaa")
	},

	"expiry": func(t *testing.T, s store.Store) {
		ctx := t.Context()
		must(t, s.Put(ctx, "put", []byte("v"), short))
		must(t, s.Create(ctx, "create", []byte("v"), short))
		must(t, s.Put(ctx, "swap", []byte("v"), long))
		must(t, s.Swap(ctx, "swap", []byte("v"), []byte("w"), short))
		must(t, s.Put(ctx, "touch", []byte("v"), long))
		must(t, s.Touch(ctx, "touch", short))
		for _, k := range []string{"put", "create", "swap", "touch"} {
			waitAbsent(t, s, k)
			wantErr(t, s.Touch(ctx, k, long), store.ErrNotFound, "Touch")
			wantErr(t, s.Swap(ctx, k, []byte("v"), nil, long), store.ErrNotFound, "Swap")
			must(t, s.Create(ctx, k, []byte("again"), long))
			wantValue(t, s, k, "again")
		}
	},

	"expiry put off": func(t *testing.T, s store.Store) {
		ctx := t.Context()
		keys := make(map[string]string)
		for i, ttl := range []time.Duration{long, 0, -1} {
			for _, op := range []string{"put", "swap", "touch", "late create"} {
				k := op + strconv.Itoa(i)
				keys[k] = "v"
				err := store.ErrNotFound
				for errors.Is(err, store.ErrNotFound) { // a busy machine may be late for what is short
					if op != "late create" {
						must(t, s.Put(ctx, k, []byte("v"), short))
					}
					switch op {
					case "put":
						err = s.Put(ctx, k, []byte("v"), ttl)
					case "swap":
						err = s.Swap(ctx, k, []byte("v"), []byte("v"), ttl)
					case "touch":
						err = s.Touch(ctx, k, ttl)
					default:
						err = s.Create(ctx, k, []byte("v"), ttl)
					}
				}
				must(t, err)
			}
		}
		must(t, s.Put(ctx, "clock", nil, 2*short))
		waitAbsent(t, s, "clock")
		for k, v := range keys {
			wantValue(t, s, k, v)
		}
	},

	"very short and very long expiry": func(t *testing.T, s store.Store) {
		ctx := t.Context()
		must(t, s.Put(ctx, "short", nil, time.Nanosecond))
		must(t, s.Put(ctx, "long", nil, 100*365*24*time.Hour))
		waitAbsent(t, s, "short")
		wantValue(t, s, "long", "")
	},

	"create has one winner": func(t *testing.T, s store.Store) {
		for round := range 10 {
			var winners atomic.Int32
			key := fmt.Sprint("k", round)
			together(16, func(i int) {
				switch err := s.Create(t.Context(), key, []byte{byte(i)}, long); {
				case err == nil:
					winners.Add(1)
				case !errors.Is(err, store.ErrExists):
					t.Error(err)
				}
			})
			if n := winners.Load(); n != 1 {
				t.Errorf("%d won, want 1", n)
			}
		}
	},

	"swap loses no update": func(t *testing.T, s store.Store) {
		const writers, each = 8, 20
		ctx := t.Context()
		must(t, s.Put(ctx, "n", []byte("0"), long))
		together(writers, func(int) {
			for done := 0; done < each; {
				old, err := s.Get(ctx, "n")
				if err != nil {
					t.Error(err)
					return
				}
				n, _ := strconv.Atoi(string(old))
				switch err := s.Swap(ctx, "n", old, strconv.AppendInt(nil, int64(n+1), 10), long); {
				case err == nil:
					done++
				case !errors.Is(err, store.ErrConflict):
					t.Error(err)
					return
				}
			}
		})
		wantValue(t, s, "n", strconv.Itoa(writers*each))
	},

	"big values": func(t *testing.T, s store.Store) {
		ctx := t.Context()
		one, two := bytes.Repeat([]byte("1"), 1<<20), bytes.Repeat([]byte("2"), 1<<20)
		must(t, s.Create(ctx, "k", one, long))
		wantErr(t, s.Swap(ctx, "k", two, one, long), store.ErrConflict, "Swap")
		must(t, s.Swap(ctx, "k", one, two, long))
		wantValue(t, s, "k", string(two))
	},

	"odd keys": func(t *testing.T, s store.Store) {
		ctx := t.Context()
		for i, k := range oddNames {
			must(t, s.Create(ctx, k, []byte{byte(i)}, long))
		}
		for i, k := range oddNames {
			wantValue(t, s, k, string([]byte{byte(i)}))
			must(t, s.Swap(ctx, k, []byte{byte(i)}, nil, long))
			must(t, s.Touch(ctx, k, 0))
			must(t, s.Delete(ctx, k))
			wantAbsent(t, s, k)
		}
	},
}

// together runs n calls of f at once and waits for them.
func together(n int, f func(i int)) {
	start := make(chan struct{})
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			<-start
			f(i)
		})
	}
	close(start)
	wg.Wait()
}

func wantValue(t *testing.T, s store.Store, key, want string) {
	t.Helper()
	got, err := s.Get(t.Context(), key)
	if err != nil {
		t.Errorf("%.40q: %v", key, err)
	} else if string(got) != want {
		t.Errorf("%.40q: got %.40q, want %.40q", key, got, want)
	}
}

func wantAbsent(t *testing.T, s store.Store, key string) {
	t.Helper()
	_, err := s.Get(t.Context(), key)
	wantErr(t, err, store.ErrNotFound, fmt.Sprintf("Get %.40q", key))
}

func waitAbsent(t *testing.T, s store.Store, key string) {
	t.Helper()
	eventually(t, key+" expires", func() bool {
		_, err := s.Get(t.Context(), key)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			t.Fatal(err)
		}
		return err != nil
	})
}
