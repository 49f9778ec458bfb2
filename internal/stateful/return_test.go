package stateful_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice"
	"github.com/sluice-mcp/sluice/internal/sitetest"
	"github.com/sluice-mcp/sluice/internal/wire"
)

// These tests are about clients that come back for a stream: when, where and how often.

// drainAside drains a site that has a call to wait for, and returns when it is leaving.
func drainAside(t *testing.T, s *sitetest.Site, grace time.Duration) (drained <-chan error) {
	t.Helper()
	done := make(chan error, 1)
	ctx, cancel := context.WithTimeout(t.Context(), grace)
	go func() {
		defer cancel()
		done <- s.Handler.Drain(ctx)
	}()
	sitetest.Eventually(t, "the replica leaves", func() bool { return s.Handler.Ready(t.Context()) != nil })
	return done
}

// TestLeavingReplicaSendsBack comes to a replica that drains for streams that it cannot show. A refusal would end the whole
// session of some clients (the SDK's), so it must be a stream that says to come again.
func TestLeavingReplicaSendsBack(t *testing.T) {
	t.Parallel()
	for _, version := range sitetest.Revisions {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				cl := sitetest.NewCluster(t, 2, sluice.Options{})
				c := sitetest.NewClient(version)
				c.Open(t, cl.Sites[0], cl.Sites[1])
				busy := c.Post(t, cl.Sites[0], sitetest.Call("busy", "count", `{"n":30,"ms":100}`))
				busy.Message(t)
				other := c.Post(t, cl.Sites[1], sitetest.Call("other", "count", `{"n":30,"ms":100}`))
				other.Message(t)
				other.Leave()
				drained := drainAside(t, cl.Sites[0], time.Minute)
				for what, last := range map[string]string{"the session's own stream": "", "a stream of another replica": other.Last} {
					a := c.Get(t, cl.Sites[0], last)
					a.WantStatus(t, what, http.StatusOK)
					if !a.Stream() {
						t.Fatalf("%s: content type %q", what, a.Header.Get("Content-Type"))
					}
					if e, err := a.Next(); err != nil || !e.Retry || e.Data != "" {
						t.Errorf("%s: got %+v, %v, want to be told when to come back", what, e, err)
					}
					if e, err := a.Next(); !errors.Is(err, io.EOF) {
						t.Errorf("%s: got %+v, %v, want the end", what, e, err)
					}
					if a.Last != last {
						t.Errorf("%s: the client is left with event ID %q, came with %q", what, a.Last, last)
					}
				}
				again := c.Get(t, cl.Sites[1], other.Last)
				if all := again.Rest(t); len(all) == 0 || all[len(all)-1].Text() != "counted 30" {
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
	for _, version := range sitetest.Revisions {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				cl := sitetest.NewCluster(t, 2, sluice.Options{})
				c := sitetest.NewClient(version)
				c.Open(t, cl.Sites[0], cl.Sites[1])
				silent := sitetest.Call("silent", "count", `{"n":1,"ms":60000}`)
				calls := map[string]*sitetest.Response{silent: nil}
				if version == wire.Rev0326 {
					calls["["+sitetest.Call("one", "count", `{"n":1,"ms":60000}`)+","+sitetest.Call("two", "count", `{"n":1,"ms":60000}`)+"]"] = nil
				}
				for body := range calls {
					calls[body] = c.Post(t, cl.Sites[0], body)
				}
				drained := drainAside(t, cl.Sites[0], 5*time.Second)
				for body, a := range calls {
					all := a.Rest(t)
					if a.Last != "" && len(all) == 0 {
						all = c.Get(t, cl.Sites[1], a.Last).Rest(t)
					}
					if want := strings.Count(body, "tools/call"); len(all) != want {
						t.Errorf("%d calls, and the client has heard %v (event ID %q)", want, all, a.Last)
					}
					for _, m := range all {
						if m.Method != "" || m.Error == nil {
							t.Errorf("got %s, want an error", m.Text())
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

// TestDeadConnectionElsewhere comes back to the replica that runs the call while another one still shows the stream, on a
// connection that is dead and has not been found out.
func TestDeadConnectionElsewhere(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cl := sitetest.NewCluster(t, 2, sluice.Options{})
		c := sitetest.NewClient(wire.Rev1125)
		c.Open(t, cl.Sites[0], cl.Sites[1])
		first := c.Post(t, cl.Sites[0], sitetest.Call("quiet", "count", `{"n":1,"ms":60000}`))
		if _, err := first.Next(); err != nil {
			t.Fatal(err)
		}
		dead := c.Get(t, cl.Sites[1], first.Last)
		defer dead.Leave()
		start := time.Now()
		if all := first.Rest(t); len(all) > 0 || time.Since(start) > 2*time.Second {
			t.Errorf("%v after %v: a connection that was given up for another must end", all, time.Since(start))
		}
		back := c.Get(t, cl.Sites[0], first.Last)
		if all := back.Rest(t); len(all) != 2 || all[1].Text() != "counted 1" {
			t.Errorf("the client heard %v after %v, want all up to the result", all, time.Since(start))
		}
	})
}

// TestOneConnectionAStream resumes a stream over and over at a replica that does not write it, without leaving.
func TestOneConnectionAStream(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cl := sitetest.NewCluster(t, 2, sluice.Options{})
		c := sitetest.NewClient(wire.Rev1125)
		c.Open(t, cl.Sites[0], cl.Sites[1])
		first := c.Post(t, cl.Sites[0], sitetest.Call("quiet", "count", `{"n":1,"ms":20000}`))
		if _, err := first.Next(); err != nil {
			t.Fatal(err)
		}
		var all []*sitetest.Response
		for range 50 {
			all = append(all, c.Get(t, cl.Sites[1], first.Last))
		}
		time.Sleep(2 * time.Second)
		cl.Sites[1].Tap.Spent()
		time.Sleep(time.Second)
		if n := cl.Sites[1].Tap.Spent()["read"]; n > 10 {
			t.Errorf("%d reads of the log in a second", n)
		}
		for i, a := range all {
			want := 0
			if i == len(all)-1 {
				want = 2
			}
			if got := len(a.Rest(t)); got != want {
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
		cl := sitetest.NewCluster(t, 2, sluice.Options{})
		c := sitetest.NewClient(wire.Rev0326)
		c.Open(t, cl.Sites[0], cl.Sites[1])
		var calls []string
		for _, id := range oddIDs {
			calls = append(calls, oddTool(id, "count", `{"n":1,"ms":1000}`))
		}
		calls = append(calls, sitetest.Call("long", "count", `{"n":1,"ms":60000}`))
		a := c.Post(t, cl.Sites[0], "["+strings.Join(calls, ",")+"]")
		answers := map[string]int{}
		count := func(m sitetest.Message) {
			if m.Method == "" {
				answers[wire.Unquote(m.ID)]++
			}
		}
		for len(answers) < len(oddIDs) {
			count(a.Message(t))
		}
		cl.Sites[0].Kill()
		for _, m := range c.Get(t, cl.Sites[1], a.Last).Rest(t) {
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
	return strings.ReplaceAll(sitetest.Call("\x00", name, args), `"\x00"`, `"`+id+`"`)
}

// TestSentAwayAfterATakeover drains a replica that has taken over a call which has said nothing since. The SDK's client
// remembers an event ID only for the connection that brought it: it must get its own back, although the log has had an entry.
func TestSentAwayAfterATakeover(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cl := sitetest.NewCluster(t, 3, sluice.Options{})
		for _, s := range cl.Sites {
			s.Server.AddTool(&mcp.Tool{
				Name: "again", InputSchema: json.RawMessage(`{"type":"object"}`), Annotations: &mcp.ToolAnnotations{IdempotentHint: true},
			}, func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
				time.Sleep(10 * time.Second)
				return sitetest.Text("done"), nil
			})
		}
		c := sitetest.NewClient(wire.Rev1125)
		c.Open(t, cl.Sites[0], cl.Sites[1])
		first := c.Post(t, cl.Sites[0], sitetest.Call("quiet", "again", `{}`))
		if _, err := first.Next(); err != nil {
			t.Fatal(err)
		}
		cl.Sites[0].Kill()
		second := c.Get(t, cl.Sites[1], first.Last)
		time.Sleep(5 * time.Second) // for it to be taken over
		drained := drainAside(t, cl.Sites[1], time.Minute)
		if all := second.Rest(t); len(all) > 0 || second.Last != first.Last {
			t.Errorf("heard %v, and is left with event ID %q, came with %q", all, second.Last, first.Last)
		}
		if all := c.Get(t, cl.Sites[2], first.Last).Rest(t); len(all) != 1 || all[0].Text() != "done" {
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
			cl := sitetest.NewCluster(t, 2, sluice.Options{})
			c := sitetest.NewClient(wire.Rev1125)
			c.Open(t, cl.Sites[0], cl.Sites[1])
			first := c.Post(t, cl.Sites[0], sitetest.Call("quiet", "count", `{"n":1,"ms":60000}`))
			if _, err := first.Next(); err != nil {
				t.Fatal(err)
			}
			first.Leave()
			again := c.Get(t, cl.Sites[where], first.Last)
			go func() { _, _ = again.Next() }()
			time.Sleep(2 * time.Second)
			again.Leave()
			synctest.Wait()
			if again.Last != first.Last {
				t.Errorf("the client is left with event ID %q, came with %q", again.Last, first.Last)
			}
		})
	}
}
