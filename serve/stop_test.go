package serve

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestStopKeepsToTheGrace stops an app of which one part hangs.
func TestStopKeepsToTheGrace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := &App{cfg: Config{ShutdownGrace: 4 * time.Second}}
		rest := false
		a.onStop("last", func(context.Context) error { rest = true; return nil })
		a.onStop("store", func(context.Context) error { time.Sleep(time.Minute); return nil })
		a.onStop("drain", func(ctx context.Context) error { <-ctx.Done(); return errors.New("let go") })
		start := time.Now()
		err := a.Stop()
		if took := time.Since(start); took > a.cfg.ShutdownGrace*11/10 {
			t.Errorf("took %v", took)
		}
		if want := "drain: let go\nstore: context deadline exceeded"; err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
		if !rest {
			t.Error("what was opened first is not closed")
		}
		time.Sleep(time.Minute) // for what hung to end
	})
}
