package sluice

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice/internal/wire"
)

var anything = json.RawMessage(`{"type":"object"}`)

// counting makes servers that count the calls of their session, and tells how many there are.
func counting(made *atomic.Int64) func() *mcp.Server {
	return func() *mcp.Server {
		made.Add(1)
		server := mcp.NewServer(&mcp.Implementation{Name: "test", Version: "1"}, nil)
		calls := 0
		server.AddTool(&mcp.Tool{Name: "count", InputSchema: anything}, func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			calls++
			return textResult(strconv.Itoa(calls)), nil
		})
		return server
	}
}

func (c *client) delete(t testing.TB, at *site) {
	t.Helper()
	resp, err := c.do(t.Context(), at, http.MethodDelete, "", "") //nolint:bodyclose // it has none
	if err != nil || resp.StatusCode != http.StatusNoContent {
		t.Errorf("DELETE: %v, %v", resp, err)
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
				cl := newCluster(t, 0, Options{})
				start := cl.addEach
				if !shared {
					start = func(getServer func() *mcp.Server) *site { return newAlone(t, Options{}, getServer) }
				}
				here := start(counting(&made))
				clients := make([]*client, 300) // more than are kept of servers that no session has
				for i := range clients {
					clients[i] = newClient(wire.Rev1125)
					clients[i].open(t, here, here)
				}
				for round := 1; round <= 5; round++ {
					for _, c := range clients {
						c.post(t, here, tool("1", "count", `{}`)).want(t, strconv.Itoa(round))
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
						c.post(t, there, tool("1", "count", `{}`))
					}
					time.Sleep(time.Minute)
				}
				clients[0].post(t, there, tool("1", "count", `{}`)).want(t, "4")
				clients[0].post(t, here, tool("1", "count", `{}`)).want(t, "6")
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
		at := newAlone(t, Options{SessionTimeout: time.Hour}, func() *mcp.Server {
			mu.Lock()
			defer mu.Unlock()
			server := fresh()
			servers = append(servers, weak.Make(server))
			return server
		})
		open := func() *client {
			c := newClient(wire.Rev1125)
			c.open(t, at, at)
			c.post(t, at, tool("1", "count", `{}`)).want(t, "1")
			return c
		}
		before := runtime.NumGoroutine()
		var clients []*client
		for range 200 {
			clients = append(clients, open())
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if n := runtime.NumGoroutine() - before; n > 5 {
			t.Errorf("%d goroutines for 200 idle sessions", n)
		}
		listens := clients[0].get(t, at, "")
		listens.wantStatus(t, "GET", http.StatusOK)
		listens.close()
		for _, c := range clients[:100] {
			c.delete(t, at)
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
	server.AddResource(&mcp.Resource{Name: "item", URI: testItem}, func(context.Context, *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
		return &mcp.ReadResourceResult{}, nil
	})
	server.AddTool(&mcp.Tool{Name: "close", InputSchema: anything}, func(_ context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		return textResult("closed"), req.Session.Close()
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
	ends := map[string]func(t *testing.T, c *client, sites []*site, here *site){
		"DELETE":              func(t *testing.T, c *client, _ []*site, here *site) { c.delete(t, here) },
		"DELETE after a rest": func(t *testing.T, c *client, _ []*site, here *site) { time.Sleep(time.Minute); c.delete(t, here) },
		"expiry":              func(*testing.T, *client, []*site, *site) { time.Sleep(2 * time.Hour) },
		"closed by its server": func(t *testing.T, c *client, _ []*site, here *site) {
			c.post(t, here, tool("c", "close", `{}`)).close()
		},
		"DELETE at all at once": func(t *testing.T, c *client, sites []*site, _ *site) {
			var all sync.WaitGroup
			for _, s := range sites {
				all.Go(func() { _, _ = c.do(t.Context(), s, http.MethodDelete, "", "") }) //nolint:bodyclose // it has none
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
						opts := Options{SessionEnded: func(id string) { b.note("ended %s", id) }}
						var sites []*site
						if replicas == 1 {
							sites = []*site{newAlone(t, opts, b.keeper)}
						} else {
							cl := newCluster(t, 0, opts)
							for range replicas {
								cl.addEach(b.keeper)
							}
							sites = cl.sites
						}
						c := newClient(wire.Rev1125)
						c.open(t, sites[0], sites[len(sites)-1])
						want := map[string]bool{"ended " + c.session: true}
						for _, s := range sites {
							c.post(t, s, `{"jsonrpc":"2.0","id":1,"method":"ping"}`).wantStatus(t, "ping", http.StatusOK)
						}
						if subscribed {
							c.post(t, sites[0], toResource("subscribe", testItem)).wantStatus(t, "subscribe", http.StatusOK)
							c.post(t, sites[0], toResource("subscribe", "test://other")).wantStatus(t, "subscribe", http.StatusOK)
							c.post(t, sites[0], toResource("unsubscribe", "test://other")).wantStatus(t, "unsubscribe", http.StatusOK)
							want["unsubscribed "+testItem] = true
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
		at := newAlone(t, Options{SessionEnded: func(id string) { b.note("%s", id); panic("a bug of the program") }}, b.keeper)
		a, c := newClient(wire.Rev1125), newClient(wire.Rev0326)
		a.open(t, at, at)
		time.Sleep(time.Minute)
		c.open(t, at, at)
		c.post(t, at, `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}`).wantStatus(t, "initialize", http.StatusBadRequest)
		at.cut()
		if err := at.handler.Close(); err != nil {
			t.Error(err)
		}
		want := []string{a.session, c.session}
		slices.Sort(want)
		if got := b.read(); !slices.Equal(got, want) {
			t.Errorf("told %q, want %q", got, want)
		}
	})
}

// lister is a server of a version with these lists.
func lister(opts *mcp.ServerOptions, tools, prompts, resources string) *mcp.Server {
	server := mcp.NewServer(&mcp.Implementation{Name: "test", Version: "1"}, opts)
	for _, c := range tools {
		server.AddTool(&mcp.Tool{Name: string(c), InputSchema: anything}, func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			return textResult("called"), nil
		})
	}
	for _, c := range prompts {
		server.AddPrompt(&mcp.Prompt{Name: string(c)}, nil)
	}
	for _, c := range resources {
		server.AddResourceTemplate(&mcp.ResourceTemplate{Name: string(c), URITemplate: "test://" + string(c) + "/{x}"}, nil)
	}
	return server
}

// A session that is adopted by a server with other lists is told which of them have changed, once, on its own stream.
func TestOtherListsElsewhere(t *testing.T) {
	t.Parallel()
	silent := &mcp.ServerOptions{Capabilities: &mcp.ServerCapabilities{Tools: &mcp.ToolCapabilities{}}}
	const toolsChanged, promptsChanged, resourcesChanged = "tools/list_changed", "prompts/list_changed", "resources/list_changed"
	for name, next := range map[string]struct {
		server func() *mcp.Server
		want   []string
	}{
		"same":              {func() *mcp.Server { return lister(nil, "ba", "p", "r") }, nil},
		"another tool":      {func() *mcp.Server { return lister(nil, "abc", "p", "r") }, []string{toolsChanged}},
		"a tool less":       {func() *mcp.Server { return lister(nil, "a", "p", "r") }, []string{toolsChanged}},
		"no tools":          {func() *mcp.Server { return lister(nil, "", "p", "r") }, []string{toolsChanged}},
		"other prompts":     {func() *mcp.Server { return lister(nil, "ab", "q", "r") }, []string{promptsChanged}},
		"other templates":   {func() *mcp.Server { return lister(nil, "ab", "p", "s") }, []string{resourcesChanged}},
		"all":               {func() *mcp.Server { return lister(nil, "c", "", "rs") }, []string{promptsChanged, resourcesChanged, toolsChanged}},
		"it does not tell":  {func() *mcp.Server { return lister(silent, "abc", "p", "r") }, nil},
		"one of its own":    {nil, []string{toolsChanged}},
		"refuses strangers": {guarded, nil},
	} {
		for _, how := range []string{"stream stays", "stream moves", "no stream yet"} {
			t.Run(name+" "+how, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					cl := newCluster(t, 0, Options{})
					from := cl.add(lister(nil, "ab", "p", "r"))
					getServer := next.server
					if getServer == nil { // for each request
						getServer = func() *mcp.Server { return lister(nil, "abc", "p", "r") }
					} else {
						one := getServer()
						getServer = func() *mcp.Server { return one }
					}
					to := cl.addEach(getServer)
					c := newClient(wire.Rev1125)
					c.open(t, from, from)
					var l *listener
					var stream *response
					if how != "no stream yet" {
						stream = c.get(t, from, "")
						l = listenTo("before", stream)
						time.Sleep(time.Second)
					}
					c.post(t, to, `{"jsonrpc":"2.0","id":1,"method":"ping"}`).wantStatus(t, "ping", http.StatusOK)
					var got []string
					switch how {
					case "stream moves":
						time.Sleep(time.Second)
						got = l.heard()
						stream.close()
						time.Sleep(time.Second)
						l = listenTo("after", c.get(t, to, stream.last))
					case "no stream yet":
						time.Sleep(time.Minute)
						l = listenTo("after", c.get(t, to, ""))
					}
					time.Sleep(5 * time.Second)
					got = append(got, l.heard()...)
					slices.Sort(got)
					if !slices.Equal(got, next.want) {
						t.Errorf("heard %q, want %q", got, next.want)
					}
					for range 3 { // and no more
						time.Sleep(time.Minute)
						c.post(t, to, `{"jsonrpc":"2.0","id":1,"method":"ping"}`).wantStatus(t, "ping", http.StatusOK)
					}
					time.Sleep(time.Minute)
					if got := l.heard(); len(got) > 0 {
						t.Errorf("heard %q again", got)
					}
				})
			})
		}
	}
}

// guarded is a server that shows its lists to clients with a header only.
func guarded() *mcp.Server {
	server := lister(nil, "abc", "p", "r")
	server.AddReceivingMiddleware(func(next mcp.MethodHandler) mcp.MethodHandler {
		return func(ctx context.Context, method string, req mcp.Request) (mcp.Result, error) {
			if method == "tools/list" && req.GetExtra().Header == nil {
				var nobody *mcp.ServerSession
				_ = nobody.ID() // a bug that must do no harm
				panic("who is it?")
			}
			return next(ctx, method, req)
		}
	})
	return server
}

// A change that nobody was there to hear is told when the client begins to listen.
func TestChangeWhileNobodyListens(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := lister(nil, "a", "", "")
		at := newAlone(t, Options{}, func() *mcp.Server { return server })
		c := newClient(wire.Rev1125)
		c.open(t, at, at)
		time.Sleep(time.Minute)
		server.AddTool(&mcp.Tool{Name: "b", InputSchema: anything}, nil)
		time.Sleep(time.Minute)
		stream := c.get(t, at, "")
		l := listenTo("first", stream)
		time.Sleep(time.Second)
		if got := l.heard(); !slices.Equal(got, []string{"tools/list_changed"}) {
			t.Errorf("heard %q", got)
		}
		server.AddTool(&mcp.Tool{Name: "c", InputSchema: anything}, nil)
		time.Sleep(time.Second)
		if got := l.heard(); !slices.Equal(got, []string{"tools/list_changed"}) {
			t.Errorf("heard %q of the next", got)
		}
		stream.close()
		time.Sleep(5 * time.Minute)
		l = listenTo("second", c.get(t, at, ""))
		time.Sleep(time.Second)
		if got := l.heard(); len(got) > 0 {
			t.Errorf("heard %q of what it has heard", got)
		}
	})
}

// A tool hears of a malformed answer that comes to another replica, too.
func TestMalformedAnswerElsewhere(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, 2, Options{})
		c := newClient(wire.Rev1125)
		c.open(t, cl.sites[0], cl.sites[0])
		call := c.post(t, cl.sites[0], tool("1", "ask", `{}`))
		question := call.message(t)
		start := time.Now()
		c.post(t, cl.sites[1], fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":5}`, question.ID)).wantStatus(t, "a malformed answer", http.StatusBadRequest)
		m := call.message(t)
		if took := time.Since(start); !strings.Contains(m.text(), "malformed") || took > 5*time.Second {
			t.Errorf("the tool was told %s after %v", m.text(), took)
		}
	})
}
