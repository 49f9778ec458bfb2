package storetest

import (
	"context"
	"testing"
	"time"

	"github.com/sluice-mcp/sluice/store"
)

// An Outage makes a backend go away and come back. It may forget everything meanwhile.
type Outage struct {
	Stop, Start func(t *testing.T)
	// Unnoticed says that what is connected can outlast the outage, so that subscriptions need not be told.
	Unnoticed bool
}

// RunOutage checks that a store fails fast while its backend is away and mends itself afterwards.
// open returns a store whose backend is there and is nobody else's.
func RunOutage(t *testing.T, open func(t *testing.T) (store.Store, Outage)) {
	s, outage := open(t)
	sub := setUp(t, s)
	for round := range 2 {
		outage.Stop(t)
		cs := calls(s, sub)
		together(3*len(cs), func(i int) {
			c, limit := cs[i/3], time.Second
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			switch i % 3 {
			case 1:
				limit = 100 * time.Millisecond
				ctx, cancel = context.WithTimeout(ctx, limit)
				defer cancel()
			case 2:
				limit = 100 * time.Millisecond
				defer time.AfterFunc(limit, cancel).Stop()
			}
			start := time.Now()
			wantErr(t, c.do(ctx), store.ErrUnavailable, c.name)
			const busy = 700 * time.Millisecond
			if took := time.Since(start); took > limit+busy {
				t.Errorf("round %d: %s took %v, want at most %v", round, c.name, took, limit)
			}
		})
		wantErr(t, sub.Add(t.Context(), "topic", "failed"), store.ErrUnavailable, "Add")
		outage.Start(t)

		eventually(t, "the store answers", func() bool { return s.Ping(t.Context()) == nil })
		must(t, s.Drop(t.Context(), "log"))
		must(t, s.Delete(t.Context(), "new"))
		after := setUp(t, s)
		for _, c := range calls(s, sub) {
			if err := c.do(t.Context()); err != nil {
				t.Errorf("round %d: %s after the outage: %v", round, c.name, err)
			}
		}
		eventually(t, "the old subscription has its topic again", func() bool {
			publish(t, s, "topic", "after")
			for told := outage.Unnoticed; ; {
				select {
				case m := <-sub.C():
					told = told || m.Topic == ""
					if string(m.Data) == "after" {
						if !told {
							t.Fatal("messages come again, but nothing says that some were lost")
						}
						return true
					}
				case <-time.After(20 * time.Millisecond):
					return false
				}
			}
		})
		publish(t, s, "more", "added later")
		for receive(t, sub).Topic != "more" {
		}
		waitNoReceivers(t, s, "failed") // none or all are added
		must(t, after.Close())
		must(t, sub.Remove(t.Context(), "more"))
		must(t, s.Drop(t.Context(), "log"))
		must(t, s.Append(t.Context(), "log", 0, data("e"), store.Bounds{}))
	}
}
