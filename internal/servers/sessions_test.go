package servers_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice"
	"github.com/sluice-mcp/sluice/internal/sitetest"
	"github.com/sluice-mcp/sluice/internal/wire"
)

// counting makes servers that count the calls of their session, and tells how many there are.
func counting(made *atomic.Int64) func() *mcp.Server {
	return func() *mcp.Server {
		made.Add(1)
		server := mcp.NewServer(&mcp.Implementation{Name: "test", Version: "1"}, nil)
		calls := 0
		server.AddTool(&mcp.Tool{Name: "count", InputSchema: json.RawMessage(`{"type":"object"}`)}, func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			calls++
			return sitetest.Text(strconv.Itoa(calls)), nil
		})
		return server
	}
}

// A session keeps the server that was made for it while it lives here, whatever idles; another replica makes one of its own.
func TestSessionKeepsItsServer(t *testing.T) {
	t.Parallel()
	for _, shared := range []bool{false, true} {
		t.Run(fmt.Sprint("shared ", shared), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var made, madeThere atomic.Int64
				cl := sitetest.NewCluster(t, 0, sluice.Options{})
				start := cl.AddEach
				if !shared {
					start = func(getServer func() *mcp.Server) *sitetest.Site {
						return sitetest.NewAlone(t, sluice.Options{}, getServer)
					}
				}
				here := start(counting(&made))
				clients := make([]*sitetest.Client, 300) // more than are kept of servers that no session has
				for i := range clients {
					clients[i] = sitetest.NewClient(wire.Rev1125)
					clients[i].Open(t, here, here)
				}
				for round := 1; round <= 5; round++ {
					for _, c := range clients {
						c.Post(t, here, sitetest.Call("1", "count", `{}`)).Want(t, strconv.Itoa(round))
					}
					time.Sleep(time.Duration(round) * 3 * time.Minute)
				}
				if n := made.Load(); n != int64(len(clients)) {
					t.Errorf("%d servers were made for %d sessions", n, len(clients))
				}
				if !shared {
					return
				}
				there := start(counting(&madeThere))
				for range 3 {
					for _, c := range clients[:3] {
						c.Post(t, there, sitetest.Call("1", "count", `{}`))
					}
					time.Sleep(time.Minute)
				}
				clients[0].Post(t, there, sitetest.Call("1", "count", `{}`)).Want(t, "4")
				clients[0].Post(t, here, sitetest.Call("1", "count", `{}`)).Want(t, "6")
				if n := madeThere.Load(); n != 3 {
					t.Errorf("%d servers were made for 3 sessions that came", n)
				}
			})
		})
	}
}

// A session that idles costs no goroutine, also if it has a server of its own and has listened; one that is over leaves no server.
//
//nolint:paralleltest // it counts the goroutines of the process
func TestServersOfSessionsThatIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var servers []weak.Pointer[mcp.Server]
		var made atomic.Int64
		fresh := counting(&made)
		at := sitetest.NewAlone(t, sluice.Options{SessionTimeout: time.Hour}, func() *mcp.Server {
			mu.Lock()
			defer mu.Unlock()
			server := fresh()
			servers = append(servers, weak.Make(server))
			return server
		})
		open := func() *sitetest.Client {
			c := sitetest.NewClient(wire.Rev1125)
			c.Open(t, at, at)
			c.Post(t, at, sitetest.Call("1", "count", `{}`)).Want(t, "1")
			return c
		}
		before := runtime.NumGoroutine()
		var clients []*sitetest.Client
		for range 200 {
			clients = append(clients, open())
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if n := runtime.NumGoroutine() - before; n > 5 {
			t.Errorf("%d goroutines for 200 idle sessions", n)
		}
		listens := clients[0].Get(t, at, "")
		listens.WantStatus(t, "GET", http.StatusOK)
		listens.Leave()
		for _, c := range clients[:100] {
			c.Delete(t, at)
		}
		time.Sleep(time.Minute)
		left := func() (n int) {
			runtime.GC()
			runtime.GC()
			for _, p := range servers {
				if p.Value() != nil {
					n++
				}
			}
			return n
		}
		if n := left(); n > 105 {
			t.Errorf("%d servers are left of 100 sessions", n)
		}
		time.Sleep(3 * time.Hour)
		if n := left(); n > 5 { // what a frame of the stack still names
			t.Errorf("%d servers are left of sessions that have expired", n)
		}
	})
}
