package sluice

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

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
	eventually(t, "the replica leaves", func() bool { return s.handler.Ready(t.Context()) != nil })
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

// TestListenerComesBackLate comes back to a session's own stream that has been given up, or of which nothing is left, as a
// laptop does that was asleep: it must get a stream again on which it hears of changes.
func TestListenerComesBackLate(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		away   time.Duration
		missed int // changes while the stream still took them
	}{
		{"given up", 3 * time.Minute, 0},
		{"given up with something to show", 3 * time.Minute, 2},
		{"log gone", 20 * time.Minute, 2},
	} {
		for _, where := range []string{"alone", "here", "elsewhere"} {
			t.Run(tt.name+" "+where, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					cl := newCluster(t, 2, Options{})
					first, second := cl.sites[0], cl.sites[0]
					switch where {
					case "alone":
						server := testServer()
						first = newAlone(t, Options{}, func() *mcp.Server { return server })
						first.server = server
						second = first
					case "elsewhere":
						second = cl.sites[1]
					}
					c := newClient(wire.Rev1125)
					c.open(t, first, first)
					a := c.get(t, first, "")
					l := listenTo("before", a)
					time.Sleep(time.Second)
					change := func(name string) {
						if second != first && name != "new" { // which has it from the start
							second.server.AddTool(&mcp.Tool{Name: name, InputSchema: json.RawMessage(`{"type":"object"}`)}, nil)
						}
						first.server.AddTool(&mcp.Tool{Name: name, InputSchema: json.RawMessage(`{"type":"object"}`)}, nil)
						time.Sleep(time.Second)
					}
					change("seen")
					if got := l.heard(); len(got) != 1 {
						t.Fatalf("heard %q of one change", got)
					}
					a.close()
					time.Sleep(time.Second)
					for i := range tt.missed {
						change(fmt.Sprint("missed ", i))
					}
					time.Sleep(tt.away)

					a = c.get(t, second, a.last)
					a.wantStatus(t, "coming back", http.StatusOK)
					l = listenTo("after", a)
					time.Sleep(time.Second)
					heard := l.heard()
					if tt.missed > 0 && len(heard) > 0 { // what there was to show; the stream ends with it
						if len(heard) != tt.missed {
							t.Errorf("heard %q, missed %d", heard, tt.missed)
						}
						a = c.get(t, second, a.last)
						a.wantStatus(t, "coming back again", http.StatusOK)
						l = listenTo("after", a)
						time.Sleep(time.Second)
					}
					change("new")
					if got := l.heard(); len(got) != 1 {
						t.Errorf("heard %q of a change since the client is back", got)
					}
				})
			})
		}
	}
}

// TestDeadConnectionElsewhere comes back to the replica that runs the call while another one still shows the stream, on a
// connection that is dead and has not been found out.
func TestDeadConnectionElsewhere(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, 2, Options{})
		c := newClient(wire.Rev1125)
		c.open(t, cl.sites[0], cl.sites[1])
		first := c.post(t, cl.sites[0], tool("quiet", "count", `{"n":1,"ms":60000}`))
		if _, err := first.next(); err != nil {
			t.Fatal(err)
		}
		dead := c.get(t, cl.sites[1], first.last)
		defer dead.close()
		start := time.Now()
		if all := first.rest(t); len(all) > 0 || time.Since(start) > 2*time.Second {
			t.Errorf("%v after %v: a connection that was given up for another must end", all, time.Since(start))
		}
		back := c.get(t, cl.sites[0], first.last)
		if all := back.rest(t); len(all) != 2 || all[1].text() != "counted 1" {
			t.Errorf("the client heard %v after %v, want all up to the result", all, time.Since(start))
		}
	})
}

// TestOneConnectionAStream resumes a stream over and over at a replica that does not write it, without leaving.
func TestOneConnectionAStream(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, 2, Options{})
		c := newClient(wire.Rev1125)
		c.open(t, cl.sites[0], cl.sites[1])
		first := c.post(t, cl.sites[0], tool("quiet", "count", `{"n":1,"ms":20000}`))
		if _, err := first.next(); err != nil {
			t.Fatal(err)
		}
		var all []*response
		for range 50 {
			all = append(all, c.get(t, cl.sites[1], first.last))
		}
		time.Sleep(2 * time.Second)
		cl.sites[1].tap.spent()
		time.Sleep(time.Second)
		if n := cl.sites[1].tap.spent()["read"]; n > 10 {
			t.Errorf("%d reads of the log in a second", n)
		}
		for i, a := range all {
			want := 0
			if i == len(all)-1 {
				want = 2
			}
			if got := len(a.rest(t)); got != want {
				t.Errorf("connection %d heard %d messages, want %d", i, got, want)
			}
		}
	})
}

// oddIDs are ones that encoding/json would write in its own way.
var oddIDs = []string{"plain", "<&>", "\u2028"}

// TestBatchOfALostReplica loses a replica when it has answered some of a batch.
func TestBatchOfALostReplica(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, 2, Options{})
		c := newClient(wire.Rev0326)
		c.open(t, cl.sites[0], cl.sites[1])
		var calls []string
		for _, id := range oddIDs {
			calls = append(calls, oddTool(id, "count", `{"n":1,"ms":1000}`))
		}
		calls = append(calls, tool("long", "count", `{"n":1,"ms":60000}`))
		a := c.post(t, cl.sites[0], "["+strings.Join(calls, ",")+"]")
		answers := map[string]int{}
		count := func(m rpc) {
			if m.Method == "" {
				answers[wire.Unquote(m.ID)]++
			}
		}
		for len(answers) < len(oddIDs) {
			count(a.message(t))
		}
		cl.sites[0].kill()
		for _, m := range c.get(t, cl.sites[1], a.last).rest(t) {
			count(m)
		}
		for _, id := range append([]string{"long"}, oddIDs...) {
			if n := answers[id]; n != 1 {
				t.Errorf("%q was answered %d times", id, n)
			}
		}
	})
}

// oddTool is [tool] with the ID as it is, not escaped.
func oddTool(id, name, args string) string {
	return strings.ReplaceAll(tool("\x00", name, args), `"\x00"`, `"`+id+`"`)
}

// TestSentAwayAfterATakeover drains a replica that has taken over a call which has said nothing since. The SDK's client
// remembers an event ID only for the connection that brought it: it must get its own back, although the log has had an entry.
func TestSentAwayAfterATakeover(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, 3, Options{})
		for _, s := range cl.sites {
			s.server.AddTool(&mcp.Tool{
				Name: "again", InputSchema: json.RawMessage(`{"type":"object"}`), Annotations: &mcp.ToolAnnotations{IdempotentHint: true},
			}, func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
				time.Sleep(10 * time.Second)
				return textResult("done"), nil
			})
		}
		c := newClient(wire.Rev1125)
		c.open(t, cl.sites[0], cl.sites[1])
		first := c.post(t, cl.sites[0], tool("quiet", "again", `{}`))
		if _, err := first.next(); err != nil {
			t.Fatal(err)
		}
		cl.sites[0].kill()
		second := c.get(t, cl.sites[1], first.last)
		time.Sleep(5 * time.Second) // for it to be taken over
		drained := drainAside(t, cl.sites[1], time.Minute)
		if all := second.rest(t); len(all) > 0 || second.last != first.last {
			t.Errorf("heard %v, and is left with event ID %q, came with %q", all, second.last, first.last)
		}
		if all := c.get(t, cl.sites[2], first.last).rest(t); len(all) != 1 || all[0].text() != "done" {
			t.Errorf("elsewhere: %v", all)
		}
		if err := <-drained; err != nil {
			t.Error(err)
		}
	})
}

// TestQuietConnectionIsLost comes back to a call that says nothing, and loses that connection too.
func TestQuietConnectionIsLost(t *testing.T) {
	t.Parallel()
	for _, where := range []int{0, 1} {
		synctest.Test(t, func(t *testing.T) {
			cl := newCluster(t, 2, Options{})
			c := newClient(wire.Rev1125)
			c.open(t, cl.sites[0], cl.sites[1])
			first := c.post(t, cl.sites[0], tool("quiet", "count", `{"n":1,"ms":60000}`))
			if _, err := first.next(); err != nil {
				t.Fatal(err)
			}
			first.close()
			again := c.get(t, cl.sites[where], first.last)
			go func() { _, _ = again.next() }()
			time.Sleep(2 * time.Second)
			again.close()
			synctest.Wait()
			if again.last != first.last {
				t.Errorf("the client is left with event ID %q, came with %q", again.last, first.last)
			}
		})
	}
}

// TestStreamComesBackToAnEarlierWriter has a stream come back to a replica that wrote it before another one did, and then loses that
// other one: the first must not take itself for the writer still.
func TestStreamComesBackToAnEarlierWriter(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMove(t, func(s *site) {
			_ = s.server.ResourceUpdated(context.Background(), &mcp.ResourceUpdatedNotificationParams{URI: testItem})
			time.Sleep(time.Second)
		})
		for _, at := range []int{1, 0} {
			m.come(at)
			time.Sleep(time.Second)
			m.change(m.cl.sites[2])
			if got := m.heard(); len(got) != 1 {
				t.Errorf("at %d: heard %q of one change", at, got)
			}
		}
		m.cl.sites[1].kill()
		time.Sleep(5 * time.Second)
		m.change(m.cl.sites[2])
		if got := m.heard(); len(got) != 1 {
			t.Errorf("without the other one: heard %q of one change", got)
		}
	})
}
