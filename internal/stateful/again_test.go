package stateful_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice"
	"github.com/sluice-mcp/sluice/internal/sitetest"
)

// These tests are about requests that come again as they were: the same session, ID and bytes.

// paid counts the calls of the tool of [payServer].
type paid struct{ atomic.Int32 }

// payServer has a tool that takes its time, in steps if it is to tell of them, and says how often it has been called.
func payServer(ran *paid) *mcp.Server {
	s := mcp.NewServer(&mcp.Implementation{Name: "pay", Version: "1"}, nil)
	s.AddTool(&mcp.Tool{Name: "pay", InputSchema: json.RawMessage(`{"type":"object"}`)}, func(ctx context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		var in struct {
			ID    string
			MS, N int
		}
		if err := json.Unmarshal(req.Params.Arguments, &in); err != nil {
			return nil, err
		}
		time := ran.Add(1)
		for i := range max(in.N, 1) {
			if err := pause(ctx, in.MS); err != nil {
				return nil, err
			}
			if in.N > 0 {
				_ = req.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{ProgressToken: req.Params.GetProgressToken(), Progress: float64(i + 1)})
			}
		}
		return sitetest.Text(fmt.Sprintf("done %s, time %d", in.ID, time)), nil
	})
	return s
}

func pause(ctx context.Context, ms int) error {
	select {
	case <-time.After(time.Duration(ms) * time.Millisecond):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// inSessions plays at one replica, in each revision with sessions.
func inSessions(t *testing.T, play func(t *testing.T, at *sitetest.Site, c *sitetest.Client, ran *paid)) {
	t.Helper()
	for _, version := range sitetest.Revisions {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ran := &paid{}
				cl := sitetest.NewCluster(t, 0, sluice.Options{})
				at := cl.Add(payServer(ran))
				c := sitetest.NewClient(version)
				c.Open(t, at, at)
				play(t, at, c, ran)
			})
		})
	}
}

// begin sends a call whose answer nobody reads.
func begin(t *testing.T, at *sitetest.Site, c *sitetest.Client, body string) {
	t.Helper()
	go func() {
		resp, err := c.Do(t.Context(), at, http.MethodPost, body, "") //nolint:bodyclose // the response is read to its end
		if err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
		}
	}()
}

// all returns what a call's answer says, to its end.
func all(t *testing.T, a *sitetest.Response) []sitetest.Message {
	t.Helper()
	if a.Stream() {
		return a.Rest(t)
	}
	return []sitetest.Message{a.Message(t)}
}

// A request that comes again as it was is the one before, while that is in flight or its stream is kept.
func TestRepeatedRequest(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		args         string
		cut, again   time.Duration // after the request, after the cut
		otherBytes   bool
		want         string
		calls        int32
		wantStatus   int
		wantProgress bool // of before the cut, too
	}{
		"before anything was said":        {args: `{"ID":"1","MS":3000}`, cut: 100 * time.Millisecond, again: 100 * time.Millisecond, want: "done 1, time 1", calls: 1},
		"when it has become a stream":     {args: `{"ID":"1","MS":3000}`, cut: 2 * time.Second, again: 100 * time.Millisecond, want: "done 1, time 1", calls: 1},
		"after it has spoken":             {args: `{"ID":"1","MS":500,"N":6}`, cut: 1700 * time.Millisecond, again: 100 * time.Millisecond, want: "done 1, time 1", calls: 1, wantProgress: true},
		"after the end":                   {args: `{"ID":"1","MS":500,"N":6}`, cut: 1700 * time.Millisecond, again: 3 * time.Second, want: "done 1, time 1", calls: 1, wantProgress: true},
		"long after the end":              {args: `{"ID":"1","MS":500,"N":6}`, cut: 1700 * time.Millisecond, again: 5 * time.Minute, want: "done 1, time 1", calls: 1, wantProgress: true},
		"when nobody has read the end":    {args: `{"ID":"1","MS":200}`, cut: 100 * time.Millisecond, again: 200 * time.Millisecond, want: "done 1, time 1", calls: 1},
		"while the client is still there": {args: `{"ID":"1","MS":3000}`, again: 100 * time.Millisecond, want: "done 1, time 1", calls: 1},
		"with other bytes":                {args: `{"ID":"1","MS":3000}`, cut: 100 * time.Millisecond, again: 100 * time.Millisecond, otherBytes: true, wantStatus: 400, calls: 1},
		"with other bytes after the end":  {args: `{"ID":"1","MS":500}`, cut: 400 * time.Millisecond, again: 3 * time.Second, otherBytes: true, want: "done 2, time 2", calls: 2},
		"when its stream is forgotten":    {args: `{"ID":"1","MS":500}`, cut: 400 * time.Millisecond, again: 12 * time.Minute, want: "done 1, time 2", calls: 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inSessions(t, func(t *testing.T, at *sitetest.Site, client *sitetest.Client, ran *paid) {
				begin(t, at, client, sitetest.Call("c1", "pay", c.args))
				time.Sleep(c.cut)
				if c.cut > 0 {
					at.Cut()
				}
				time.Sleep(c.again)
				args := c.args
				if c.otherBytes {
					args = strings.Replace(args, `"1"`, `"2"`, 1)
				}
				a := client.Post(t, at, sitetest.Call("c1", "pay", args))
				defer a.Leave()
				if c.wantStatus != 0 {
					a.WantStatus(t, "repeated", c.wantStatus)
					return
				}
				said := all(t, a)
				if got := said[len(said)-1].Text(); got != c.want {
					t.Errorf("got %s", got)
				}
				if c.wantProgress && len(said) != 7 {
					t.Errorf("the stream has %d messages", len(said))
				}
				if n := ran.Load(); n != c.calls {
					t.Errorf("called %d times", n)
				}
			})
		})
	}
}

// A response that was shown to one who repeats may be asked for once more, and must not have become another call's meanwhile: small
// responses stand in memory that is used again.
func TestRepeatedTwice(t *testing.T) {
	t.Parallel()
	inSessions(t, func(t *testing.T, at *sitetest.Site, c *sitetest.Client, _ *paid) {
		body := sitetest.Call("c1", "pay", `{"ID":"1","MS":200}`)
		begin(t, at, c, body)
		time.Sleep(100 * time.Millisecond)
		at.Cut()
		time.Sleep(time.Second)
		for i := range 20 {
			c.Post(t, at, body).Want(t, "done 1, time 1")
			c.Post(t, at, sitetest.Call(fmt.Sprint("other", i), "pay", `{"ID":"2","MS":0}`)).Message(t)
		}
	})
}

// The first connection is not known to be dead when its request comes again, at once or in the moment when it becomes a stream. Whoever
// came last has the answer, and the end of the first one's connection takes nothing from it.
func TestRepeatedBesideTheFirst(t *testing.T) {
	t.Parallel()
	for _, after := range []time.Duration{time.Millisecond, 100 * time.Millisecond, 249 * time.Millisecond, 250 * time.Millisecond, 251 * time.Millisecond, time.Second} {
		t.Run(after.String(), func(t *testing.T) {
			t.Parallel()
			inSessions(t, func(t *testing.T, at *sitetest.Site, c *sitetest.Client, ran *paid) {
				body := sitetest.Call("c1", "pay", `{"ID":"1","MS":400,"N":5}`)
				ctx, leave := context.WithCancel(t.Context())
				first := make(chan []byte, 1)
				go func() {
					resp, err := c.Do(ctx, at, http.MethodPost, body, "") //nolint:bodyclose // as above
					if err != nil {
						first <- nil
						return
					}
					what, _ := io.ReadAll(resp.Body)
					first <- what
				}()
				time.Sleep(after)
				time.AfterFunc(30*time.Millisecond, leave)
				said := all(t, c.Post(t, at, body))
				if len(said) != 6 || said[5].Text() != "done 1, time 1" || ran.Load() != 1 {
					t.Errorf("of %d calls: %v", ran.Load(), said)
				}
				if got := <-first; strings.Contains(string(got), "result") {
					t.Errorf("the first was shown the response, too: %s", got)
				}
			})
		})
	}
}

// The store is slow, and the request comes again while the first one's stream is being registered: that is done once.
func TestRepeatedWhileItIsKept(t *testing.T) {
	t.Parallel()
	inSessions(t, func(t *testing.T, at *sitetest.Site, c *sitetest.Client, _ *paid) {
		body := sitetest.Call("c1", "pay", `{"ID":"1","MS":100,"N":10}`)
		at.Tap.Decide(func(op string) sitetest.Fate {
			if op == "create" {
				time.Sleep(500 * time.Millisecond)
			}
			return sitetest.Done
		})
		at.Tap.Spent()
		begin(t, at, c, body)
		time.Sleep(200 * time.Millisecond)
		a := c.Post(t, at, body)
		said := all(t, a)
		if len(said) != 11 || said[10].Text() != "done 1, time 1" || a.Last == "" {
			t.Errorf("after event %q: %v", a.Last, said)
		}
		for i, m := range said[:10] {
			if m.Progress() != i+1 {
				t.Errorf("progress %d: %s", i+1, m.Params)
			}
		}
		if n := at.Tap.Spent()["create"]; n != 1 {
			t.Errorf("registered %d times", n)
		}
	})
}

// Many repeat at once: each has the answer, or its stream ends because another has come after it.
func TestRepeatedByMany(t *testing.T) {
	t.Parallel()
	inSessions(t, func(t *testing.T, at *sitetest.Site, c *sitetest.Client, ran *paid) {
		body := sitetest.Call("c1", "pay", `{"ID":"1","MS":200}`)
		var clients sync.WaitGroup
		var answers atomic.Int32
		for range 8 {
			clients.Go(func() {
				a := c.Post(t, at, body)
				for _, m := range all(t, a) {
					if m.Text() != "done 1, time 1" {
						t.Error(m.Text())
					}
					answers.Add(1)
				}
			})
		}
		clients.Wait()
		if answers.Load() != 1 || ran.Load() != 1 {
			t.Errorf("%d answers of %d calls", answers.Load(), ran.Load())
		}
	})
}

// A client that cancels a call, whose first connection it has lost, is not waited for.
func TestRepeatedAndCancelled(t *testing.T) {
	t.Parallel()
	inSessions(t, func(t *testing.T, at *sitetest.Site, c *sitetest.Client, ran *paid) {
		body := sitetest.Call("c1", "pay", `{"ID":"1","MS":3000}`)
		ctx, leave := context.WithCancel(t.Context())
		go func() { _, _ = c.Do(ctx, at, http.MethodPost, body, "") }() //nolint:bodyclose // there is no answer
		time.Sleep(50 * time.Millisecond)
		over := make(chan []sitetest.Message, 1)
		go func() { over <- all(t, c.Post(t, at, body)) }()
		time.Sleep(50 * time.Millisecond)
		leave()
		time.Sleep(50 * time.Millisecond)
		c.Post(t, at, `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"c1"}}`).WantStatus(t, "cancelling", http.StatusAccepted)
		if said := <-over; len(said) != 0 {
			t.Errorf("said after the cancellation: %v", said)
		}
		if n := ran.Load(); n != 1 {
			t.Errorf("called %d times", n)
		}
	})
}

// A key in a header does not say which call of a batch it is for.
func TestKeyOfABatch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ran := &paid{}
		cl := sitetest.NewCluster(t, 0, sluice.Options{})
		at := cl.Add(payServer(ran))
		c := sitetest.NewClient("2025-03-26")
		c.Open(t, at, at)
		one := sitetest.Call("c1", "pay", `{"ID":"1"}`)
		for body, want := range map[string]int{"[" + one + "]": http.StatusOK, "[" + one + "," + sitetest.Call("c2", "pay", `{"ID":"2"}`) + "]": http.StatusBadRequest} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://127.0.0.1/mcp", strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			for name, v := range map[string]string{"Accept": sitetest.Accept, "Content-Type": "application/json", "Mcp-Session-Id": c.Session, "Idempotency-Key": "a"} {
				req.Header.Set(name, v)
			}
			resp, err := at.RoundTrip(req) //nolint:bodyclose // the response's reader closes it
			if err != nil {
				t.Fatal(err)
			}
			sitetest.NewResponse(resp).WantStatus(t, body, want)
		}
		if n := ran.Load(); n != 1 {
			t.Errorf("called %d times", n)
		}
	})
}
