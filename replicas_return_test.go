package sluice

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-mcp/sluice/internal/wire"
)

// These tests are about clients that come back for a stream: when, where and how often.

// drainAside drains a site that has a call to wait for, and returns when it is leaving.
func drainAside(t *testing.T, s *site, grace time.Duration) (drained <-chan error) {
	t.Helper()
	done := make(chan error, 1)
	ctx, cancel := context.WithTimeout(t.Context(), grace)
	go func() {
		defer cancel()
		done <- s.handler.Drain(ctx)
	}()
	eventually(t, "the replica leaves", s.handler.draining.Load)
	return done
}

// TestLeavingReplicaSendsBack comes to a replica that drains for streams that it cannot show. A refusal would end the whole
// session of some clients (the SDK's), so it must be a stream that says to come again.
func TestLeavingReplicaSendsBack(t *testing.T) {
	t.Parallel()
	for _, version := range sessionRevisions {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				cl := newCluster(t, 2, Options{})
				c := newClient(version)
				c.open(t, cl.sites[0], cl.sites[1])
				busy := c.post(t, cl.sites[0], tool("busy", "count", `{"n":30,"ms":100}`))
				busy.message(t)
				other := c.post(t, cl.sites[1], tool("other", "count", `{"n":30,"ms":100}`))
				other.message(t)
				other.close()
				drained := drainAside(t, cl.sites[0], time.Minute)
				for what, last := range map[string]string{"the session's own stream": "", "a stream of another replica": other.last} {
					a := c.get(t, cl.sites[0], last)
					a.wantStatus(t, what, http.StatusOK)
					if !a.stream() {
						t.Fatalf("%s: content type %q", what, a.Header.Get("Content-Type"))
					}
					if e, err := a.next(); err != nil || !e.retry || e.data != "" {
						t.Errorf("%s: got %+v, %v, want to be told when to come back", what, e, err)
					}
					if e, err := a.next(); !errors.Is(err, io.EOF) {
						t.Errorf("%s: got %+v, %v, want the end", what, e, err)
					}
					if a.last != last {
						t.Errorf("%s: the client is left with event ID %q, came with %q", what, a.last, last)
					}
				}
				again := c.get(t, cl.sites[1], other.last)
				if all := again.rest(t); len(all) == 0 || all[len(all)-1].text() != "counted 30" {
					t.Errorf("got %v of a call at a replica that stays", all)
				}
				if err := <-drained; err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// TestSilentCallOutlastsTheGrace lets go of calls that have said nothing. Where the client has an event ID by then
// (2025-11-25) it comes back for the rest elsewhere; where it has none it must be told here.
func TestSilentCallOutlastsTheGrace(t *testing.T) {
	t.Parallel()
	for _, version := range sessionRevisions {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				cl := newCluster(t, 2, Options{})
				c := newClient(version)
				c.open(t, cl.sites[0], cl.sites[1])
				silent := tool("silent", "count", `{"n":1,"ms":60000}`)
				calls := map[string]*response{silent: nil}
				if version == wire.Rev0326 {
					calls["["+tool("one", "count", `{"n":1,"ms":60000}`)+","+tool("two", "count", `{"n":1,"ms":60000}`)+"]"] = nil
				}
				for body := range calls {
					calls[body] = c.post(t, cl.sites[0], body)
				}
				drained := drainAside(t, cl.sites[0], 5*time.Second)
				for body, a := range calls {
					all := a.rest(t)
					if a.last != "" && len(all) == 0 {
						all = c.get(t, cl.sites[1], a.last).rest(t)
					}
					if want := strings.Count(body, "tools/call"); len(all) != want {
						t.Errorf("%d calls, and the client has heard %v (event ID %q)", want, all, a.last)
					}
					for _, m := range all {
						if m.Method != "" || m.Error == nil {
							t.Errorf("got %s, want an error", m.text())
						}
					}
				}
				if err := <-drained; !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("Drain: %v", err)
				}
			})
		})
	}
}
