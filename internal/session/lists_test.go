package session_test

import (
	"context"
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice"
	"github.com/sluice-mcp/sluice/internal/sitetest"
	"github.com/sluice-mcp/sluice/internal/wire"
)

// lister is a server of a version with these lists.
func lister(opts *mcp.ServerOptions, tools, prompts, resources string) *mcp.Server {
	server := mcp.NewServer(&mcp.Implementation{Name: "test", Version: "1"}, opts)
	for _, c := range tools {
		server.AddTool(&mcp.Tool{Name: string(c), InputSchema: anything}, func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			return sitetest.Text("called"), nil
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
					cl := sitetest.NewCluster(t, 0, sluice.Options{})
					from := cl.Add(lister(nil, "ab", "p", "r"))
					getServer := next.server
					if getServer == nil { // for each request
						getServer = func() *mcp.Server { return lister(nil, "abc", "p", "r") }
					} else {
						one := getServer()
						getServer = func() *mcp.Server { return one }
					}
					to := cl.AddEach(getServer)
					c := sitetest.NewClient(wire.Rev1125)
					c.Open(t, from, from)
					var l *sitetest.Listener
					var stream *sitetest.Response
					if how != "no stream yet" {
						stream = c.Get(t, from, "")
						l = sitetest.Listen("before", stream)
						time.Sleep(time.Second)
					}
					c.Post(t, to, `{"jsonrpc":"2.0","id":1,"method":"ping"}`).WantStatus(t, "ping", http.StatusOK)
					var got []string
					switch how {
					case "stream moves":
						time.Sleep(time.Second)
						got = l.Heard()
						stream.Leave()
						time.Sleep(time.Second)
						l = sitetest.Listen("after", c.Get(t, to, stream.Last))
					case "no stream yet":
						time.Sleep(time.Minute)
						l = sitetest.Listen("after", c.Get(t, to, ""))
					}
					time.Sleep(5 * time.Second)
					got = append(got, l.Heard()...)
					slices.Sort(got)
					if !slices.Equal(got, next.want) {
						t.Errorf("heard %q, want %q", got, next.want)
					}
					for range 3 { // and no more
						time.Sleep(time.Minute)
						c.Post(t, to, `{"jsonrpc":"2.0","id":1,"method":"ping"}`).WantStatus(t, "ping", http.StatusOK)
					}
					time.Sleep(time.Minute)
					if got := l.Heard(); len(got) > 0 {
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
		at := sitetest.NewAlone(t, sluice.Options{}, func() *mcp.Server { return server })
		c := sitetest.NewClient(wire.Rev1125)
		c.Open(t, at, at)
		time.Sleep(time.Minute)
		server.AddTool(&mcp.Tool{Name: "b", InputSchema: anything}, nil)
		time.Sleep(time.Minute)
		stream := c.Get(t, at, "")
		l := sitetest.Listen("first", stream)
		time.Sleep(time.Second)
		if got := l.Heard(); !slices.Equal(got, []string{"tools/list_changed"}) {
			t.Errorf("heard %q", got)
		}
		server.AddTool(&mcp.Tool{Name: "c", InputSchema: anything}, nil)
		time.Sleep(time.Second)
		if got := l.Heard(); !slices.Equal(got, []string{"tools/list_changed"}) {
			t.Errorf("heard %q of the next", got)
		}
		stream.Leave()
		time.Sleep(5 * time.Minute)
		l = sitetest.Listen("second", c.Get(t, at, ""))
		time.Sleep(time.Second)
		if got := l.Heard(); len(got) > 0 {
			t.Errorf("heard %q of what it has heard", got)
		}
	})
}
