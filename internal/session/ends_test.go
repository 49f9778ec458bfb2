package session_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice"
	"github.com/sluice-mcp/sluice/internal/sitetest"
	"github.com/sluice-mcp/sluice/internal/wire"
)

var anything = json.RawMessage(`{"type":"object"}`)

// A book is what a program is told of its sessions.
type book struct {
	mu    sync.Mutex
	lines []string
}

func (b *book) note(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lines = append(b.lines, fmt.Sprintf(format, args...))
}

func (b *book) read() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	lines := b.lines
	b.lines = nil
	slices.Sort(lines)
	return lines
}

// keeper is a server that notes subscriptions.
func (b *book) keeper() *mcp.Server {
	server := mcp.NewServer(&mcp.Implementation{Name: "test", Version: "1"}, &mcp.ServerOptions{
		SubscribeHandler: func(context.Context, *mcp.SubscribeRequest) error { return nil },
		UnsubscribeHandler: func(_ context.Context, req *mcp.UnsubscribeRequest) error {
			if req.Session.ID() != "" { // not that of a watcher
				b.note("unsubscribed %s", req.Params.URI)
			}
			return nil
		},
	})
	server.AddResource(&mcp.Resource{Name: "item", URI: sitetest.Item}, func(context.Context, *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
		return &mcp.ReadResourceResult{}, nil
	})
	server.AddTool(&mcp.Tool{Name: "close", InputSchema: anything}, func(_ context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		return sitetest.Text("closed"), req.Session.Close()
	})
	return server
}

func toResource(method, uri string) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":"s","method":"resources/%s","params":{"uri":%q}}`, method, uri)
}

// A program is told once that a session is over, however it ends and wherever it has been, and its server of each subscription
// that ends with it.
func TestSessionEnded(t *testing.T) {
	t.Parallel()
	ends := map[string]func(t *testing.T, c *sitetest.Client, sites []*sitetest.Site, here *sitetest.Site){
		"DELETE": func(t *testing.T, c *sitetest.Client, _ []*sitetest.Site, here *sitetest.Site) { c.Delete(t, here) },
		"DELETE after a rest": func(t *testing.T, c *sitetest.Client, _ []*sitetest.Site, here *sitetest.Site) {
			time.Sleep(time.Minute)
			c.Delete(t, here)
		},
		"expiry": func(*testing.T, *sitetest.Client, []*sitetest.Site, *sitetest.Site) { time.Sleep(2 * time.Hour) },
		"closed by its server": func(t *testing.T, c *sitetest.Client, _ []*sitetest.Site, here *sitetest.Site) {
			c.Post(t, here, sitetest.Call("c", "close", `{}`)).Leave()
		},
		"DELETE at all at once": func(t *testing.T, c *sitetest.Client, sites []*sitetest.Site, _ *sitetest.Site) {
			var all sync.WaitGroup
			for _, s := range sites {
				all.Go(func() { _, _ = c.Do(t.Context(), s, http.MethodDelete, "", "") }) //nolint:bodyclose // it has none
			}
			all.Wait()
		},
	}
	for _, replicas := range []int{1, 3} {
		for name, end := range ends {
			for _, subscribed := range []bool{false, true} {
				t.Run(fmt.Sprint(replicas, " ", name, " subscribed ", subscribed), func(t *testing.T) {
					t.Parallel()
					synctest.Test(t, func(t *testing.T) {
						var b book
						opts := sluice.Options{SessionEnded: func(id string) { b.note("ended %s", id) }}
						var sites []*sitetest.Site
						if replicas == 1 {
							sites = []*sitetest.Site{sitetest.NewAlone(t, opts, b.keeper)}
						} else {
							cl := sitetest.NewCluster(t, 0, opts)
							for range replicas {
								cl.AddEach(b.keeper)
							}
							sites = cl.Sites
						}
						c := sitetest.NewClient(wire.Rev1125)
						c.Open(t, sites[0], sites[len(sites)-1])
						want := map[string]bool{"ended " + c.Session: true}
						for _, s := range sites {
							c.Post(t, s, `{"jsonrpc":"2.0","id":1,"method":"ping"}`).WantStatus(t, "ping", http.StatusOK)
						}
						if subscribed {
							c.Post(t, sites[0], toResource("subscribe", sitetest.Item)).WantStatus(t, "subscribe", http.StatusOK)
							c.Post(t, sites[0], toResource("subscribe", "test://other")).WantStatus(t, "subscribe", http.StatusOK)
							c.Post(t, sites[0], toResource("unsubscribe", "test://other")).WantStatus(t, "unsubscribe", http.StatusOK)
							want["unsubscribed "+sitetest.Item] = true
							if got := b.read(); !slices.Equal(got, []string{"unsubscribed test://other"}) {
								t.Errorf("told %q of one that was given up", got)
							}
						}
						time.Sleep(5 * time.Second)
						if got := b.read(); len(got) > 0 {
							t.Errorf("told %q of a session that lives", got)
						}
						end(t, c, sites, sites[len(sites)-1])
						time.Sleep(2 * time.Minute)
						got := b.read()
						if n := len(got); replicas > 1 && n > 2 && got[n-1] == got[n-2] {
							got = got[:n-1] // the server that closes it had taken the subscription over
						}
						if !slices.Equal(got, slices.Sorted(maps.Keys(want))) {
							t.Errorf("told %q, want %v", got, want)
						}
						time.Sleep(3 * time.Hour)
						if got := b.read(); len(got) > 0 {
							t.Errorf("told %q later", got)
						}
					})
				})
			}
		}
	}
}

// With a store of its own, what the handler keeps ends with it; a session that was never opened has not ended.
func TestSessionsEndWithTheirHandler(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var b book
		at := sitetest.NewAlone(t, sluice.Options{SessionEnded: func(id string) { b.note("%s", id); panic("a bug of the program") }}, b.keeper)
		a, c := sitetest.NewClient(wire.Rev1125), sitetest.NewClient(wire.Rev0326)
		a.Open(t, at, at)
		time.Sleep(time.Minute)
		c.Open(t, at, at)
		c.Post(t, at, `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}`).WantStatus(t, "initialize", http.StatusBadRequest)
		at.Cut()
		if err := at.Handler.Close(); err != nil {
			t.Error(err)
		}
		want := []string{a.Session, c.Session}
		slices.Sort(want)
		if got := b.read(); !slices.Equal(got, want) {
			t.Errorf("told %q, want %q", got, want)
		}
	})
}
