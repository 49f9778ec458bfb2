package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sluice-mcp/sluice/store"
)

var busCases = map[string]func(t *testing.T, s store.Store){
	"nobody listens": func(t *testing.T, s store.Store) {
		if n, err := s.Publish(t.Context(), "t", []byte("m")); n != 0 || err != nil {
			t.Errorf("Publish: got %d, %v", n, err)
		}
		wantReceivers(t, s, "t", false)
		sub := subscribe(t, s)
		wantReceivers(t, s, "t", false)
		must(t, sub.Close())
	},

	"publish": func(t *testing.T, s store.Store) {
		one, two := subscribe(t, s, "t", "u"), subscribe(t, s, "t")
		for _, want := range []string{"m", "", "\x00\xff\r\n", strings.Repeat("big", 1<<18)} {
			publish(t, s, "t", want)
			for _, sub := range []store.Subscription{one, two} {
				if m := receive(t, sub); m.Topic != "t" || string(m.Data) != want {
					t.Errorf("got %.40q on %q, want %.40q", m.Data, m.Topic, want)
				}
			}
		}
		publish(t, s, "u", "only one")
		publish(t, s, "t", "both")
		wantData(t, one, "only one", "both")
		wantData(t, two, "both")
	},

	"messages belong to the store": func(t *testing.T, s store.Store) {
		sub := subscribe(t, s, "t")
		v := []byte("aaa")
		_, err := s.Publish(t.Context(), "t", v)
		must(t, err)
		copy(v, "bbb")
		wantData(t, sub, "aaa")
	},

	"receivers": func(t *testing.T, s store.Store) {
		one := subscribe(t, s, "t")
		wantReceivers(t, s, "t", true)
		two := subscribe(t, s, "t")
		must(t, one.Close())
		wantReceivers(t, s, "t", true)
		must(t, two.Remove(t.Context(), "t"))
		waitNoReceivers(t, s, "t")
		if n, err := s.Publish(t.Context(), "t", nil); n != 0 || err != nil {
			t.Errorf("Publish: got %d, %v", n, err)
		}
		must(t, two.Add(t.Context(), "t"))
		wantReceivers(t, s, "t", true)
		publish(t, s, "t", "m")
		wantData(t, two, "m")
		must(t, two.Close())
		waitNoReceivers(t, s, "t")
	},

	"add and remove": func(t *testing.T, s store.Store) {
		ctx := t.Context()
		sub := subscribe(t, s)
		other := subscribe(t, s, "a", "b", "c")
		must(t, sub.Remove(ctx, "never had"))
		must(t, sub.Add(ctx))
		must(t, sub.Add(ctx, "a", "b"))
		must(t, sub.Add(ctx, "b", "c"))
		publish(t, s, "b", "1")
		publish(t, s, "c", "2")
		wantData(t, sub, "1", "2") // what is still on its way would go with the topic
		must(t, sub.Remove(ctx, "b", "a"))
		publish(t, s, "a", "3")
		publish(t, s, "b", "4")
		publish(t, s, "c", "5")
		wantData(t, sub, "5")
		wantData(t, other, "1", "2", "3", "4", "5")
	},

	"order": func(t *testing.T, s store.Store) {
		const publishers, each = 4, 20
		sub := subscribe(t, s, "even", "odd")
		together(publishers, func(p int) {
			for i := range each {
				publish(t, s, []string{"even", "odd"}[p%2], fmt.Sprint(p, " ", i))
			}
		})
		var next [publishers]int
		for range publishers * each {
			m := receive(t, sub)
			a, b, _ := strings.Cut(string(m.Data), " ")
			p, _ := strconv.Atoi(a)
			i, _ := strconv.Atoi(b)
			if i != next[p] {
				t.Fatalf("publisher %d: got message %d, want %d", p, i, next[p])
			}
			next[p]++
		}
	},

	"a slow receiver": func(t *testing.T, s store.Store) {
		slow, quick := subscribe(t, s, "t"), subscribe(t, s, "quick")
		const sent = 2000
		together(8, func(int) {
			for range sent / 8 {
				publish(t, s, "t", "m")
			}
		})
		publish(t, s, "quick", "m")
		wantData(t, quick, "m") // whoever is slow keeps nobody waiting
		seen := 0
		for m := range slow.C() {
			if m.Topic == "" {
				break
			}
			if seen++; seen == sent {
				t.Fatal("got all messages: make the test publish more")
			}
		}
		// The rest of the flood may still be on its way, and this message may drown in it too.
		eventually(t, "messages flow again", func() bool {
			publish(t, s, "t", "after")
			for {
				select {
				case m := <-slow.C():
					if string(m.Data) == "after" {
						return true
					}
				case <-time.After(20 * time.Millisecond):
					return false
				}
			}
		})
	},

	"close of a subscription": func(t *testing.T, s store.Store) {
		ctx := t.Context()
		sub, other := subscribe(t, s, "t"), subscribe(t, s, "t")
		for range 2 {
			must(t, sub.Close())
		}
		wantClosed(t, sub)
		wantErr(t, sub.Add(ctx, "u"), store.ErrClosed, "Add")
		wantErr(t, sub.Remove(ctx, "t"), store.ErrClosed, "Remove")
		publish(t, s, "t", "m")
		wantData(t, other, "m")
		wantReceivers(t, s, "u", false)
	},

	"subscriptions come and go": func(t *testing.T, s store.Store) {
		ctx := t.Context()
		stay := subscribe(t, s, "stay")
		together(8, func(i int) {
			for round := range 10 {
				sub, err := s.Subscribe(ctx, "shared")
				if err != nil {
					t.Error(err)
					return
				}
				own := fmt.Sprint("own ", i)
				must := func(err error) {
					if err != nil {
						t.Error(err)
					}
				}
				must(sub.Add(ctx, own))
				_, err = s.Publish(ctx, "shared", []byte("noise"))
				must(err)
				n, err := s.Publish(ctx, own, []byte(own))
				must(err)
				if n == 0 {
					t.Errorf("round %d: a topic was added, yet nobody listens", round)
				}
				for m := range sub.C() {
					if m.Topic == own {
						break
					}
				}
				if round%2 == 0 {
					must(sub.Remove(ctx, own))
				}
				must(sub.Close())
			}
		})
		publish(t, s, "stay", "m")
		wantData(t, stay, "m")
		waitNoReceivers(t, s, "shared")
	},

	"many topics": func(t *testing.T, s store.Store) {
		topics := make([]string, 2000)
		for i := range topics {
			topics[i] = fmt.Sprint("t", i)
		}
		sub := subscribe(t, s, topics...)
		publish(t, s, topics[0], "first")
		publish(t, s, topics[1999], "last")
		wantData(t, sub, "first", "last")
		must(t, sub.Remove(t.Context(), topics[1:]...))
		publish(t, s, topics[1], "removed")
		publish(t, s, topics[0], "end")
		wantData(t, sub, "end")
	},
}

func subscribe(t *testing.T, s store.Store, topics ...string) store.Subscription {
	t.Helper()
	sub, err := s.Subscribe(t.Context(), topics...)
	must(t, err)
	t.Cleanup(func() { _ = sub.Close() })
	return sub
}

// publish may be called in any goroutine.
func publish(t *testing.T, s store.Store, topic, data string) {
	t.Helper()
	if _, err := s.Publish(t.Context(), topic, []byte(data)); err != nil {
		t.Error(err)
	}
}

func receive(t *testing.T, sub store.Subscription) store.Message {
	t.Helper()
	select {
	case m, ok := <-sub.C():
		if !ok {
			t.Fatal("the subscription is closed")
		}
		return m
	case <-time.After(patience):
		t.Fatal("no message")
	}
	return store.Message{} // not reached
}

func wantData(t *testing.T, sub store.Subscription, want ...string) {
	t.Helper()
	for _, w := range want {
		if m := receive(t, sub); !bytes.Equal(m.Data, []byte(w)) {
			t.Errorf("got %.40q on %q, want %.40q", m.Data, m.Topic, w)
		}
	}
}

func wantReceivers(t *testing.T, s store.Store, topic string, want bool) {
	t.Helper()
	n, err := s.Receivers(t.Context(), topic)
	if err != nil || (n > 0) != want {
		t.Errorf("Receivers of %q: got %d, %v, want some: %v", topic, n, err, want)
	}
}

func waitNoReceivers(t *testing.T, s store.Store, topic string) {
	t.Helper()
	eventually(t, topic+" has no receivers", func() bool {
		n, err := s.Receivers(t.Context(), topic)
		must(t, err)
		return n == 0
	})
}

func wantClosed(t *testing.T, sub store.Subscription) {
	t.Helper()
	for end := time.After(patience); ; {
		select {
		case _, ok := <-sub.C():
			if !ok {
				return
			}
		case <-end:
			t.Fatal(errors.New("the channel is not closed"))
		}
	}
}
