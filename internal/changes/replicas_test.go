package changes_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice"
	"github.com/sluice-mcp/sluice/internal/sitetest"
)

// TestChangesReachEveryReplica changes something at each replica and looks what all clients hear.
func TestChangesReachEveryReplica(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cl := sitetest.NewCluster(t, 3, sluice.Options{})
		var all []*sitetest.Listener
		for i, s := range cl.Sites {
			// A session whose stream is here, and that has subscribed elsewhere.
			for _, version := range sitetest.Revisions {
				c := sitetest.NewClient(version)
				c.Open(t, cl.Any(), cl.Any())
				all = append(all, sitetest.Listen(fmt.Sprint(version, " at ", i), c.Get(t, s, "")))
				c.Post(t, cl.Sites[(i+1)%3], sitetest.Subscribe(true)).WantStatus(t, "subscribe", http.StatusOK)
			}
			a := sitetest.Stateless(t, s, "subscriptions/listen", "",
				`"notifications":{"toolsListChanged":true,"resourceSubscriptions":["`+sitetest.Item+`"]}`)
			all = append(all, sitetest.Listen(fmt.Sprint("2026 at ", i), a))
		}
		time.Sleep(time.Second)
		for _, l := range all {
			if got := l.Heard(); len(got) > 1 || len(got) == 1 && got[0] != "subscriptions/acknowledged" {
				t.Errorf("%s heard %v before anything has changed", l.Name, got)
			}
		}
		check := func(what string, want ...string) {
			t.Helper()
			time.Sleep(2 * time.Second)
			for _, l := range all {
				if got := l.Heard(); !slices.Equal(got, want) {
					t.Errorf("%s: %s heard %q, want %q", what, l.Name, got, want)
				}
			}
		}
		for i, s := range cl.Sites {
			_ = s.Server.ResourceUpdated(t.Context(), &mcp.ResourceUpdatedNotificationParams{URI: sitetest.Item})
			check(fmt.Sprint("resource updated at ", i), "resources/updated")
			s.Server.AddTool(&mcp.Tool{Name: "new", InputSchema: json.RawMessage(`{"type":"object"}`)},
				func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
					return sitetest.Text(""), nil
				})
			check(fmt.Sprint("tool added at ", i), "tools/list_changed")
			_ = s.Server.ResourceUpdated(t.Context(), &mcp.ResourceUpdatedNotificationParams{URI: "test://other"})
			check(fmt.Sprint("something else updated at ", i))
		}
		// Still so after a minute: interest is renewed. And at a replica that came later.
		time.Sleep(3 * time.Minute)
		for _, l := range all {
			l.Heard()
		}
		late := cl.Launch()
		sitetest.Stateless(t, late, "tools/call", "fast", `"name":"fast","arguments":{}`).Want(t, "fast")
		sitetest.Stateless(t, late, "tools/call", "fast", `"name":"fast","arguments":{}`).Want(t, "fast")
		time.Sleep(time.Second)
		_ = late.Server.ResourceUpdated(t.Context(), &mcp.ResourceUpdatedNotificationParams{URI: sitetest.Item})
		check("resource updated at a new replica", "resources/updated")
		// A replica that has lost its subscription for a moment catches up.
		cl.Sites[1].Tap.LoseNotes(time.Second)
		time.Sleep(time.Second)
		_ = cl.Sites[0].Server.ResourceUpdated(t.Context(), &mcp.ResourceUpdatedNotificationParams{URI: sitetest.Item})
		check("after lost notes", "resources/updated")
	})
}

// Interest that comes back while a slow server still unsubscribes is not lost.
func TestInterestComesBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cl := sitetest.NewCluster(t, 1, sluice.Options{})
		unsubscribing := make(chan struct{}, 10)
		server := mcp.NewServer(&mcp.Implementation{Name: "slow", Version: "1"}, &mcp.ServerOptions{
			SubscribeHandler: func(context.Context, *mcp.SubscribeRequest) error { return nil },
			UnsubscribeHandler: func(context.Context, *mcp.UnsubscribeRequest) error {
				unsubscribing <- struct{}{}
				time.Sleep(5 * time.Second)
				return nil
			},
		})
		slow := cl.Add(server)
		sitetest.Stateless(t, slow, "tools/list", "", "").WantStatus(t, "list", http.StatusOK) // it knows its server now
		c := sitetest.NewClient("2025-11-25")
		c.Open(t, cl.Sites[0], cl.Sites[0])
		heard := sitetest.Listen("it", c.Get(t, cl.Sites[0], ""))
		c.Post(t, cl.Sites[0], sitetest.Subscribe(true)).WantStatus(t, "subscribe", http.StatusOK)
		time.Sleep(time.Second)
		c.Post(t, cl.Sites[0], sitetest.Subscribe(false)).WantStatus(t, "unsubscribe", http.StatusOK)
		<-unsubscribing // nobody has been interested for a minute
		c.Post(t, cl.Sites[0], sitetest.Subscribe(true)).WantStatus(t, "subscribe again", http.StatusOK)
		time.Sleep(10 * time.Second)
		if err := server.ResourceUpdated(t.Context(), &mcp.ResourceUpdatedNotificationParams{URI: sitetest.Item}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if got := heard.Heard(); !slices.Equal(got, []string{"resources/updated"}) {
			t.Errorf("heard %q", got)
		}
	})
}
