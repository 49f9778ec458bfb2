package session_test

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice"
	"github.com/sluice-mcp/sluice/internal/sitetest"
)

// A client that subscribes again, and is refused this time, keeps what it had, also when its session has rested since.
func TestRefusedSubscriptionKeepsTheOneBefore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var refuse atomic.Bool
		server := mcp.NewServer(&mcp.Implementation{Name: "test", Version: "1"}, &mcp.ServerOptions{
			SubscribeHandler: func(context.Context, *mcp.SubscribeRequest) error {
				if refuse.Load() {
					return errors.New("not now")
				}
				return nil
			},
			UnsubscribeHandler: func(context.Context, *mcp.UnsubscribeRequest) error { return nil },
		})
		at := sitetest.NewCluster(t, 0, sluice.Options{}).Add(server)
		c := sitetest.NewClient("2025-11-25")
		c.Open(t, at, at)
		c.Post(t, at, sitetest.Subscribe(true)).WantStatus(t, "subscribing", http.StatusOK)
		time.Sleep(time.Second) // the server's watcher subscribes, too
		refuse.Store(true)
		if m := c.Post(t, at, sitetest.Subscribe(true)).Message(t); m.Error == nil {
			t.Error("the second subscription is not refused")
		}
		refuse.Store(false)
		time.Sleep(time.Minute)
		stream := c.Get(t, at, "")
		time.Sleep(time.Second)
		if err := server.ResourceUpdated(t.Context(), &mcp.ResourceUpdatedNotificationParams{URI: sitetest.Item}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		c.Do(t.Context(), at, http.MethodDelete, "", "") //nolint:errcheck,bodyclose // it ends what is looked at
		if all := stream.Rest(t); len(all) != 1 || all[0].Method != "notifications/resources/updated" {
			t.Errorf("heard %v", all)
		}
	})
}
