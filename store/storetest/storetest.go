// Package storetest is the contract of package store as tests. Every backend passes it.
// It owns no backend, and tests nothing that the contract does not say.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sluice-mcp/sluice/store"
)

// patience is how long something that must happen may take on a busy machine.
const patience = 10 * time.Second

// Run runs the suite. open returns a store that holds nothing and that the test may close;
// it closes the store itself, with t.Cleanup, because not every test does. Time must pass by itself in the
// backend. The subtests run in parallel.
func Run(t *testing.T, open func(t *testing.T) store.Store) {
	for _, group := range []struct {
		name  string
		cases map[string]func(t *testing.T, s store.Store)
	}{
		{"KV", kvCases},
		{"Log", logCases},
		{"Bus", busCases},
		{"Store", storeCases},
	} {
		t.Run(group.name, func(t *testing.T) {
			for name, run := range group.cases {
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					run(t, open(t))
				})
			}
		})
	}
}

// call names one call of a store's method.
type call struct {
	name string
	do   func(ctx context.Context) error
}

// calls is every method that takes a context, with arguments that succeed on the stores that setUp has seen.
func calls(s store.Store, sub store.Subscription) []call {
	return []call{
		{"Ping", s.Ping},
		{"Get", func(ctx context.Context) error { _, err := s.Get(ctx, "there"); return err }},
		{"Put", func(ctx context.Context) error { return s.Put(ctx, "put", nil, time.Minute) }},
		{"Create", func(ctx context.Context) error { return s.Create(ctx, "new", nil, time.Minute) }},
		{"Swap", func(ctx context.Context) error {
			return s.Swap(ctx, "there", []byte("v"), []byte("v"), time.Minute)
		}},
		{"Touch", func(ctx context.Context) error { return s.Touch(ctx, "there", time.Minute) }},
		{"Touch forever", func(ctx context.Context) error { return s.Touch(ctx, "there", 0) }},
		{"Delete", func(ctx context.Context) error { return s.Delete(ctx, "new") }},
		{"Append", func(ctx context.Context) error {
			return s.Append(ctx, "log", 1, [][]byte{[]byte("e")}, store.Bounds{})
		}},
		{"Read", func(ctx context.Context) error { _, _, err := s.Read(ctx, "log", 0, 10); return err }},
		{"Drop", func(ctx context.Context) error { return s.Drop(ctx, "log") }},
		{"Publish", func(ctx context.Context) error { _, err := s.Publish(ctx, "topic", nil); return err }},
		{"Receivers", func(ctx context.Context) error { _, err := s.Receivers(ctx, "topic"); return err }},
		{"Subscribe", func(ctx context.Context) error {
			sub, err := s.Subscribe(ctx, "other")
			if err == nil {
				_ = sub.Close()
			}
			return err
		}},
		{"Add", func(ctx context.Context) error { return sub.Add(ctx, "more") }},
	}
}

// setUp makes what calls needs.
func setUp(t *testing.T, s store.Store) store.Subscription {
	t.Helper()
	must(t, s.Put(t.Context(), "there", []byte("v"), time.Minute))
	must(t, s.Append(t.Context(), "log", 0, [][]byte{[]byte("e")}, store.Bounds{}))
	return subscribe(t, s, "topic")
}

var storeCases = map[string]func(t *testing.T, s store.Store){
	"all calls succeed": func(t *testing.T, s store.Store) {
		sub := setUp(t, s)
		for _, c := range calls(s, sub) {
			if err := c.do(t.Context()); err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
		}
	},

	"a context that is done": func(t *testing.T, s store.Store) {
		sub := setUp(t, s)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for _, c := range calls(s, sub) {
			err := c.do(ctx)
			if !errors.Is(err, store.ErrUnavailable) || !errors.Is(err, context.Canceled) {
				t.Errorf("%s: got %v, want ErrUnavailable and context.Canceled", c.name, err)
			}
		}
		must(t, s.Ping(t.Context()))
	},

	"close": func(t *testing.T, s store.Store) {
		sub := setUp(t, s)
		cs := calls(s, sub)
		for range 2 {
			must(t, s.Close())
		}
		for _, c := range cs {
			wantErr(t, c.do(t.Context()), store.ErrClosed, c.name)
		}
		wantErr(t, sub.Remove(t.Context(), "topic"), store.ErrClosed, "Remove")
		wantClosed(t, sub)
		must(t, sub.Close())
	},

	"close while in use": func(t *testing.T, s store.Store) {
		done := make(chan error)
		for i := range 8 {
			go func() {
				for {
					if err := s.Put(context.Background(), fmt.Sprint(i), nil, time.Minute); err != nil {
						done <- err
						return
					}
				}
			}()
		}
		must(t, s.Close())
		for range 8 {
			select {
			case err := <-done:
				// A call on the way when the store closes may not know how it ended.
				if !errors.Is(err, store.ErrClosed) && !errors.Is(err, store.ErrUnavailable) {
					t.Errorf("got %v, want ErrClosed", err)
				}
			case <-time.After(patience):
				t.Fatal("a call hangs after Close")
			}
		}
	},

	"names of one kind do not meet another's": func(t *testing.T, s store.Store) {
		ctx := t.Context()
		sub := subscribe(t, s, "n")
		must(t, s.Put(ctx, "n", []byte("record"), 0))
		must(t, s.Append(ctx, "n", 0, [][]byte{[]byte("entry")}, store.Bounds{}))
		if m := receive(t, sub); m.Topic != "n" || len(m.Data) != 0 {
			t.Errorf("got %+v", m)
		}
		must(t, s.Delete(ctx, "n"))
		wantLog(t, s, "n", 0, "entry")
		must(t, s.Put(ctx, "n", []byte("record"), 0))
		must(t, s.Drop(ctx, "n"))
		wantValue(t, s, "n", "record")
	},
}

// oddNames may come from clients, so that every backend must take them as they are.
var oddNames = []string{
	"", " ", "a b", "\x00\xff\r\n", "*", "{a}b", "a:b", "%s", "ünïcode", strings.Repeat("long", 4096),
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t *testing.T, err, want error, what string) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: got error %v, want %v", what, err, want)
	}
}

// eventually waits for ok.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}
