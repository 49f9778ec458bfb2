package session_test

import (
	"context"
	"fmt"
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

// TestAdoption looks whether a session is the same where it was not opened.
func TestAdoption(t *testing.T) {
	t.Parallel()
	for _, version := range sitetest.Revisions {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				cl := sitetest.NewCluster(t, 2, sluice.Options{})
				c := sitetest.NewClient(version)
				c.Open(t, cl.Sites[0], cl.Sites[1])
				c.Post(t, cl.Sites[0], sitetest.SetLevel("warning")).WantStatus(t, "setLevel", http.StatusOK)
				late := cl.Launch()
				const want = "warning error"
				if got := sitetest.Levels(t, c.Post(t, late, sitetest.Call("a", "log", `{}`))); got != want {
					t.Errorf("at a new replica: %q, want %q", got, want)
				}
				// The other one had the session already; it learns of the change a moment later.
				sitetest.Eventually(t, "the level reaches the replica that had the session", func() bool {
					return sitetest.Levels(t, c.Post(t, cl.Sites[1], sitetest.Call("b", "log", `{}`))) == want
				})
				// A call in flight must not keep a replica from learning.
				long := c.Post(t, cl.Sites[0], sitetest.Call("long", "count", `{"n":20,"ms":100}`))
				c.Post(t, late, sitetest.SetLevel("error")).WantStatus(t, "setLevel", http.StatusOK)
				time.Sleep(100 * time.Millisecond)
				c.Post(t, cl.Sites[0], sitetest.Call("c", "log", `{}`))
				long.Rest(t)
				if got := sitetest.Levels(t, c.Post(t, cl.Sites[0], sitetest.Call("d", "log", `{}`))); got != "error" {
					t.Errorf("after a call in flight: %q, want error", got)
				}
				time.Sleep(5 * time.Second)
				for _, s := range cl.Sites {
					s.Tap.Spent()
					c.Post(t, s, sitetest.Call("rested", "fast", `{}`)).Want(t, "fast")
					if n := s.Tap.Spent()["get"]; n != 1 {
						t.Errorf("replica %s has read the record of an idle session %d times, as if it had not forgotten it", s.Name, n)
					}
				}
				time.Sleep(5 * time.Second)
				if got := sitetest.Levels(t, c.Post(t, cl.Sites[1], sitetest.Call("e", "log", `{}`))); got != "error" {
					t.Errorf("after a rest: %q, want error", got)
				}
			})
		})
	}
}

// A tool hears of a malformed answer that comes to another replica, too.
func TestMalformedAnswerElsewhere(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cl := sitetest.NewCluster(t, 2, sluice.Options{})
		c := sitetest.NewClient(wire.Rev1125)
		c.Open(t, cl.Sites[0], cl.Sites[0])
		call := c.Post(t, cl.Sites[0], sitetest.Call("1", "ask", `{}`))
		question := call.Message(t)
		start := time.Now()
		c.Post(t, cl.Sites[1], fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":5}`, question.ID)).WantStatus(t, "a malformed answer", http.StatusBadRequest)
		m := call.Message(t)
		if took := time.Since(start); !strings.Contains(m.Text(), "malformed") || took > 5*time.Second {
			t.Errorf("the tool was told %s after %v", m.Text(), took)
		}
	})
}

// A server hears that a client is initialized wherever the client says so, and however late, once.
func TestInitializedIsHeard(t *testing.T) {
	t.Parallel()
	for _, pause := range []time.Duration{0, time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			heard := 0
			cl := sitetest.NewCluster(t, 0, sluice.Options{})
			for range 2 {
				server := mcp.NewServer(&mcp.Implementation{Name: "replica", Version: "1"}, &mcp.ServerOptions{
					InitializedHandler: func(_ context.Context, req *mcp.InitializedRequest) {
						heard++
						if got := req.Session.InitializeParams().ClientInfo.Name; got != "t" {
							t.Errorf("the client is %q", got)
						}
					},
				})
				cl.Add(server)
			}
			c := sitetest.NewClient("2025-11-25")
			for i, other := range []int{0, 1} {
				c.Session = ""
				a := c.Post(t, cl.Sites[0], fmt.Sprintf(`{"jsonrpc":"2.0","id":"init","method":"initialize","params":{"protocolVersion":%q,"capabilities":{},"clientInfo":{"name":"t","version":"1"}}}`, c.Version))
				c.Session = a.Header.Get("Mcp-Session-Id")
				time.Sleep(pause)
				c.Post(t, cl.Sites[other], `{"jsonrpc":"2.0","method":"notifications/initialized"}`).WantStatus(t, "initialized", http.StatusAccepted)
				synctest.Wait()
				if heard != i+1 {
					t.Errorf("after %v, said at replica %d: heard %d times", pause, other, heard)
				}
			}
		})
	}
}
