package sluice

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice/internal/wire"
	"github.com/sluice-mcp/sluice/store"
	"github.com/sluice-mcp/sluice/store/memory"
)

// These tests run several handlers over one memory store, in virtual time. What happens when replicas go is in
// replicas_model_test.go and, with real processes, in package chaos.

// cluster is several replicas that share a store.
type cluster struct {
	t      *testing.T
	shared store.Store
	opts   Options
	sites  []*site
	rng    *rand.Rand
}

// newCluster starts n replicas of [testServer], for as long as the test takes.
func newCluster(t *testing.T, n int, opts Options) *cluster {
	shared := memory.New()
	c := &cluster{t: t, shared: shared, opts: opts, rng: rand.New(rand.NewPCG(1, uint64(n)))}
	for range n {
		c.launch()
	}
	t.Cleanup(func() {
		for _, s := range c.sites {
			s.cut()
			s.tap.set(tapOpen)
			if err := s.handler.Close(); err != nil {
				t.Errorf("closing %s: %v", s.name, err)
			}
		}
		_ = shared.Close()
		time.Sleep(2 * time.Second) // what was asked to end does; time stops with the test
	})
	return c
}

// launch starts one more replica of [testServer].
func (c *cluster) launch() *site { return c.add(testServer()) }

// add starts a replica of a server.
func (c *cluster) add(server *mcp.Server) *site { return c.addOver(c.shared, server) }

// addOver starts a replica that has its own way to the store.
func (c *cluster) addOver(way store.Store, server *mcp.Server) *site {
	s := c.start(way, func() *mcp.Server { return server })
	s.server = server
	return s
}

// addEach starts a replica whose sessions have servers of their own.
func (c *cluster) addEach(getServer func() *mcp.Server) *site { return c.start(c.shared, getServer) }

func (c *cluster) start(way store.Store, getServer func() *mcp.Server) *site {
	name := strconv.Itoa(len(c.sites))
	s := newSite(c.t, name, newTap(name, way), c.opts, getServer)
	c.sites = append(c.sites, s)
	return s
}

// newAlone starts a server that shares nothing, for as long as the test takes.
func newAlone(t *testing.T, opts Options, getServer func() *mcp.Server) *site {
	s := newSite(t, "alone", nil, opts, getServer)
	t.Cleanup(func() {
		s.cut()
		if err := s.handler.Close(); err != nil {
			t.Error(err)
		}
		time.Sleep(2 * time.Second) // as above
	})
	return s
}

// warm makes every replica know its server: it watches one that it has seen twice.
func (c *cluster) warm() {
	for _, s := range c.sites {
		for range 2 {
			modern(c.t, s, "tools/call", "fast", `"name":"fast","arguments":{}`).want(c.t, "fast")
		}
	}
}

func (c *cluster) any() *site { return c.sites[c.rng.IntN(len(c.sites))] }

const testItem = "test://item/1"

// testServer has a tool for each thing that a call can do.
func testServer() *mcp.Server {
	server := mcp.NewServer(&mcp.Implementation{Name: "replica", Version: "1"}, &mcp.ServerOptions{
		SubscribeHandler:   func(context.Context, *mcp.SubscribeRequest) error { return nil },
		UnsubscribeHandler: func(context.Context, *mcp.UnsubscribeRequest) error { return nil },
	})
	server.AddResource(&mcp.Resource{URI: testItem, Name: "item"}, func(context.Context, *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
		return &mcp.ReadResourceResult{}, nil
	})
	type input struct{ N, MS int }
	tools := map[string]func(ctx context.Context, req *mcp.CallToolRequest, in input) (*mcp.CallToolResult, error){
		"fast": func(context.Context, *mcp.CallToolRequest, input) (*mcp.CallToolResult, error) {
			return textResult("fast"), nil
		},
		"count": func(ctx context.Context, req *mcp.CallToolRequest, in input) (*mcp.CallToolResult, error) {
			for i := 1; i <= in.N; i++ {
				select {
				case <-time.After(time.Duration(in.MS) * time.Millisecond):
				case <-ctx.Done():
					return nil, context.Cause(ctx)
				}
				_ = req.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{ProgressToken: req.Params.GetProgressToken(), Progress: float64(i)})
			}
			return textResult(fmt.Sprintf("counted %d", in.N)), nil
		},
		"ask": func(ctx context.Context, req *mcp.CallToolRequest, _ input) (*mcp.CallToolResult, error) {
			res, err := req.Session.Elicit(ctx, &mcp.ElicitParams{Message: "?", RequestedSchema: json.RawMessage(`{"type":"object","properties":{"x":{"type":"string"}}}`)})
			if err != nil {
				return nil, err
			}
			return textResult(fmt.Sprint("asked ", res.Content["x"])), nil
		},
		"log": func(ctx context.Context, req *mcp.CallToolRequest, _ input) (*mcp.CallToolResult, error) {
			for _, level := range []mcp.LoggingLevel{"debug", "info", "warning", "error"} {
				if err := req.Session.Log(ctx, &mcp.LoggingMessageParams{Level: level, Data: string(level)}); err != nil {
					return nil, err
				}
			}
			return textResult("logged"), nil
		},
		"input": func(_ context.Context, req *mcp.CallToolRequest, _ input) (*mcp.CallToolResult, error) {
			if answer, ok := req.Params.InputResponses["q"].(*mcp.ElicitResult); ok {
				return textResult(fmt.Sprint("input ", answer.Content["x"], " with ", req.Params.RequestState)), nil
			}
			return &mcp.CallToolResult{
				InputRequests: mcp.InputRequestMap{"q": &mcp.ElicitParams{Mode: "form", Message: "?", RequestedSchema: map[string]any{"type": "object"}}},
				RequestState:  "state of the handler",
			}, nil
		},
	}
	for name, f := range tools {
		server.AddTool(&mcp.Tool{Name: name, InputSchema: json.RawMessage(`{"type":"object"}`)}, func(ctx context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			var in input
			if err := json.Unmarshal(req.Params.Arguments, &in); err != nil {
				return nil, err
			}
			return f(ctx, req, in)
		})
	}
	return server
}

func textResult(s string) *mcp.CallToolResult {
	return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: s}}}
}

// modern sends a request of 2026-07-28.
func modern(t *testing.T, at *site, method, name, params string) *response {
	t.Helper()
	meta := `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{"elicitation":{}}}`
	if params != "" {
		meta = params + "," + meta
	}
	body := fmt.Sprintf(`{"jsonrpc":"2.0","id":"m","method":%q,"params":{%s}}`, method, meta)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://127.0.0.1/mcp", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", bothTypes)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Mcp-Protocol-Version", wire.Rev2026)
	req.Header.Set("Mcp-Method", method)
	if name != "" {
		req.Header.Set("Mcp-Name", name)
	}
	resp, err := at.RoundTrip(req) //nolint:bodyclose // the response's reader closes it
	if err != nil {
		t.Fatal(err)
	}
	return newResponse(resp)
}

func newClient(version string) *client { return &client{version: version, caps: `{"elicitation":{}}`} }

var sessionRevisions = []string{wire.Rev0326, wire.Rev0618, wire.Rev1125}

// want checks the result of the next message.
func (a *response) want(t *testing.T, text string) {
	t.Helper()
	if m := a.message(t); m.text() != text {
		t.Errorf("want %q, got %s (status %d)", text, m.text(), a.StatusCode)
	}
}

func (a *response) wantStatus(t *testing.T, what string, status int) {
	t.Helper()
	if a.StatusCode != status {
		body, _ := io.ReadAll(a.Body)
		t.Errorf("%s: status %d, want %d: %s", what, a.StatusCode, status, body)
	}
}

// wantBusy checks that the client is told to come back.
func (a *response) wantBusy(t *testing.T, what string) {
	t.Helper()
	a.wantStatus(t, what, http.StatusServiceUnavailable)
	if a.StatusCode == http.StatusServiceUnavailable && a.Header.Get("Retry-After") == "" {
		t.Errorf("%s: 503 without Retry-After", what)
	}
}

// TestAnyReplica does whatever a client can do, each time at a random replica.
func TestAnyReplica(t *testing.T) {
	t.Parallel()
	for _, version := range sessionRevisions {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			for seed := range 20 {
				synctest.Test(t, func(t *testing.T) { anyReplica(t, version, uint64(seed)) })
			}
		})
	}
}

func anyReplica(t *testing.T, version string, seed uint64) {
	cl := newCluster(t, 3, Options{})
	cl.rng = rand.New(rand.NewPCG(seed, 7))
	c := newClient(version)
	c.open(t, cl.any(), cl.any())
	actions := map[string]func(id string){
		"fast": func(id string) { c.post(t, cl.any(), tool(id, "fast", `{}`)).want(t, "fast") },
		"ping": func(id string) {
			if m := c.post(t, cl.any(), fmt.Sprintf(`{"jsonrpc":"2.0","id":%q,"method":"ping"}`, id)).message(t); string(m.Result) != "{}" {
				t.Errorf("ping: %s", m.Result)
			}
		},
		"ask": func(id string) {
			a := c.post(t, cl.any(), tool(id, "ask", `{}`))
			q := a.message(t)
			c.post(t, cl.any(), fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":{"action":"accept","content":{"x":%q}}}`, q.ID, id)).wantStatus(t, "answer", http.StatusAccepted)
			a.want(t, "asked "+id)
		},
		"cancel": func(id string) {
			a := c.post(t, cl.any(), tool(id, "count", `{"n":1000,"ms":100}`))
			a.message(t)
			c.post(t, cl.any(), fmt.Sprintf(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":%q}}`, id)).wantStatus(t, "cancel", http.StatusAccepted)
			for _, m := range a.rest(t) {
				if m.Method == "" {
					t.Errorf("cancelled, and yet answered: %s", m.text())
				}
			}
		},
		"resume": func(id string) {
			a := c.post(t, cl.any(), tool(id, "count", `{"n":9,"ms":100}`))
			for i := 1; i <= 9; i++ {
				m := a.message(t)
				if got := progressIn(m); got != i {
					t.Fatalf("progress %d, want %d", got, i)
				}
				if cl.rng.IntN(3) == 0 {
					a.close()
					a = c.get(t, cl.any(), a.last)
					a.wantStatus(t, "resume", http.StatusOK)
				}
			}
			a.want(t, "counted 9")
			if more := a.rest(t); len(more) > 0 {
				t.Errorf("after the response: %v", more)
			}
			// Also later: the whole stream is kept for a while.
			again := c.get(t, cl.any(), a.last)
			again.wantStatus(t, "resume after the end", http.StatusOK)
			if more := again.rest(t); len(more) > 0 {
				t.Errorf("after the end: %v", more)
			}
		},
		"listen": func(string) {
			a := c.get(t, cl.any(), "")
			a.wantStatus(t, "GET", http.StatusOK)
			a.close()
		},
		"wait": func(string) { time.Sleep(3 * time.Second) }, // until it is forgotten everywhere
	}
	names := slices.Sorted(func(yield func(string) bool) {
		for name := range actions {
			if !yield(name) {
				return
			}
		}
	})
	for i := range 12 {
		name := names[cl.rng.IntN(len(names))]
		actions[name](fmt.Sprint(name, "-", i))
		if t.Failed() {
			t.Fatalf("seed %d: action %d, %s", seed, i, name)
		}
	}
	long := c.post(t, cl.any(), tool("long", "count", `{"n":1000,"ms":100}`))
	long.message(t)
	c.do(t.Context(), cl.any(), http.MethodDelete, "", "") //nolint:errcheck,bodyclose // what follows looks at the outcome
	for _, m := range long.rest(t) {
		if m.Method == "" {
			t.Errorf("the session ended, and yet a call was answered: %s", m.text())
		}
	}
	time.Sleep(100 * time.Millisecond) // for the others to be told
	for _, s := range cl.sites {
		c.post(t, s, tool("gone", "fast", `{}`)).wantStatus(t, "after DELETE", http.StatusNotFound)
		c.get(t, s, "").wantStatus(t, "after DELETE", http.StatusNotFound)
	}
}

func progressIn(m rpc) int {
	var p struct{ Progress int }
	_ = json.Unmarshal(m.Params, &p)
	return p.Progress
}

// levelsOf returns the levels of the log messages of a call.
func levelsOf(t *testing.T, a *response) string {
	t.Helper()
	var levels []string
	for {
		m := a.message(t)
		if m.Method != "notifications/message" {
			return strings.Join(levels, " ")
		}
		var p struct{ Level string }
		_ = json.Unmarshal(m.Params, &p)
		levels = append(levels, p.Level)
	}
}

func setLevel(level string) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":"level","method":"logging/setLevel","params":{"level":%q}}`, level)
}

func subscribe(on bool) string {
	method := "resources/subscribe"
	if !on {
		method = "resources/unsubscribe"
	}
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":"subscribe","method":%q,"params":{"uri":%q}}`, method, testItem)
}

// TestAdoption looks whether a session is the same where it was not opened.
func TestAdoption(t *testing.T) {
	t.Parallel()
	for _, version := range sessionRevisions {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				cl := newCluster(t, 2, Options{})
				c := newClient(version)
				c.open(t, cl.sites[0], cl.sites[1])
				c.post(t, cl.sites[0], setLevel("warning")).wantStatus(t, "setLevel", http.StatusOK)
				late := cl.launch()
				const want = "warning error"
				if got := levelsOf(t, c.post(t, late, tool("a", "log", `{}`))); got != want {
					t.Errorf("at a new replica: %q, want %q", got, want)
				}
				// The other one had the session already; it learns of the change a moment later.
				eventually(t, "the level reaches the replica that had the session", func() bool {
					return levelsOf(t, c.post(t, cl.sites[1], tool("b", "log", `{}`))) == want
				})
				// A call in flight must not keep a replica from learning.
				long := c.post(t, cl.sites[0], tool("long", "count", `{"n":20,"ms":100}`))
				c.post(t, late, setLevel("error")).wantStatus(t, "setLevel", http.StatusOK)
				time.Sleep(100 * time.Millisecond)
				c.post(t, cl.sites[0], tool("c", "log", `{}`))
				long.rest(t)
				if got := levelsOf(t, c.post(t, cl.sites[0], tool("d", "log", `{}`))); got != "error" {
					t.Errorf("after a call in flight: %q, want error", got)
				}
				time.Sleep(5 * time.Second)
				for _, s := range cl.sites {
					s.tap.spent()
					c.post(t, s, tool("rested", "fast", `{}`)).want(t, "fast")
					if n := s.tap.spent()["get"]; n != 1 {
						t.Errorf("replica %s has read the record of an idle session %d times, as if it had not forgotten it", s.name, n)
					}
				}
				time.Sleep(5 * time.Second)
				if got := levelsOf(t, c.post(t, cl.sites[1], tool("e", "log", `{}`))); got != "error" {
					t.Errorf("after a rest: %q, want error", got)
				}
			})
		})
	}
}

// listener collects the methods of what a stream says.
type listener struct {
	name string
	a    *response
	got  chan string
}

func listenTo(name string, a *response) *listener {
	l := &listener{name: name, a: a, got: make(chan string, 1000)}
	go func() {
		for {
			e, err := a.next()
			if err != nil {
				return
			}
			if e.data != "" {
				l.got <- e.message().Method
			}
		}
	}()
	return l
}

// heard returns what has come since the last time, sorted.
func (l *listener) heard() []string {
	var out []string
	for len(l.got) > 0 {
		out = append(out, strings.TrimPrefix(<-l.got, "notifications/"))
	}
	slices.Sort(out)
	return out
}

// TestChangesReachEveryReplica changes something at each replica and looks what all clients hear.
func TestChangesReachEveryReplica(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, 3, Options{})
		var all []*listener
		for i, s := range cl.sites {
			// A session whose stream is here, and that has subscribed elsewhere.
			for _, version := range sessionRevisions {
				c := newClient(version)
				c.open(t, cl.any(), cl.any())
				all = append(all, listenTo(fmt.Sprint(version, " at ", i), c.get(t, s, "")))
				c.post(t, cl.sites[(i+1)%3], subscribe(true)).wantStatus(t, "subscribe", http.StatusOK)
			}
			a := modern(t, s, "subscriptions/listen", "",
				`"notifications":{"toolsListChanged":true,"resourceSubscriptions":["`+testItem+`"]}`)
			all = append(all, listenTo(fmt.Sprint("2026 at ", i), a))
		}
		time.Sleep(time.Second)
		for _, l := range all {
			if got := l.heard(); len(got) > 1 || len(got) == 1 && got[0] != "subscriptions/acknowledged" {
				t.Errorf("%s heard %v before anything has changed", l.name, got)
			}
		}
		check := func(what string, want ...string) {
			t.Helper()
			time.Sleep(2 * time.Second)
			for _, l := range all {
				if got := l.heard(); !slices.Equal(got, want) {
					t.Errorf("%s: %s heard %q, want %q", what, l.name, got, want)
				}
			}
		}
		for i, s := range cl.sites {
			_ = s.server.ResourceUpdated(t.Context(), &mcp.ResourceUpdatedNotificationParams{URI: testItem})
			check(fmt.Sprint("resource updated at ", i), "resources/updated")
			s.server.AddTool(&mcp.Tool{Name: "new", InputSchema: json.RawMessage(`{"type":"object"}`)},
				func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) { return textResult(""), nil })
			check(fmt.Sprint("tool added at ", i), "tools/list_changed")
			_ = s.server.ResourceUpdated(t.Context(), &mcp.ResourceUpdatedNotificationParams{URI: "test://other"})
			check(fmt.Sprint("something else updated at ", i))
		}
		// Still so after a minute: interest is renewed. And at a replica that came later.
		time.Sleep(3 * time.Minute)
		for _, l := range all {
			l.heard()
		}
		late := cl.launch()
		modern(t, late, "tools/call", "fast", `"name":"fast","arguments":{}`).want(t, "fast")
		modern(t, late, "tools/call", "fast", `"name":"fast","arguments":{}`).want(t, "fast")
		time.Sleep(time.Second)
		_ = late.server.ResourceUpdated(t.Context(), &mcp.ResourceUpdatedNotificationParams{URI: testItem})
		check("resource updated at a new replica", "resources/updated")
		// A replica that has lost its subscription for a moment catches up.
		cl.sites[1].tap.loseNotes(time.Second)
		time.Sleep(time.Second)
		_ = cl.sites[0].server.ResourceUpdated(t.Context(), &mcp.ResourceUpdatedNotificationParams{URI: testItem})
		check("after lost notes", "resources/updated")
	})
}

// Interest that comes back while a slow server still unsubscribes is not lost.
func TestInterestComesBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, 1, Options{})
		unsubscribing := make(chan struct{}, 10)
		server := mcp.NewServer(&mcp.Implementation{Name: "slow", Version: "1"}, &mcp.ServerOptions{
			SubscribeHandler: func(context.Context, *mcp.SubscribeRequest) error { return nil },
			UnsubscribeHandler: func(context.Context, *mcp.UnsubscribeRequest) error {
				unsubscribing <- struct{}{}
				time.Sleep(5 * time.Second)
				return nil
			},
		})
		slow := cl.add(server)
		modern(t, slow, "tools/list", "", "").wantStatus(t, "list", http.StatusOK) // it knows its server now
		c := newClient("2025-11-25")
		c.open(t, cl.sites[0], cl.sites[0])
		heard := listenTo("it", c.get(t, cl.sites[0], ""))
		c.post(t, cl.sites[0], subscribe(true)).wantStatus(t, "subscribe", http.StatusOK)
		time.Sleep(time.Second)
		c.post(t, cl.sites[0], subscribe(false)).wantStatus(t, "unsubscribe", http.StatusOK)
		<-unsubscribing // nobody has been interested for a minute
		c.post(t, cl.sites[0], subscribe(true)).wantStatus(t, "subscribe again", http.StatusOK)
		time.Sleep(10 * time.Second)
		if err := server.ResourceUpdated(t.Context(), &mcp.ResourceUpdatedNotificationParams{URI: testItem}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if got := heard.heard(); !slices.Equal(got, []string{"resources/updated"}) {
			t.Errorf("heard %q", got)
		}
	})
}

// TestStateOpensElsewhere carries the sealed state of a multi round-trip request to another replica.
func TestStateOpensElsewhere(t *testing.T) {
	t.Parallel()
	key := bytes.Repeat([]byte{7}, 32)
	for name, tt := range map[string]struct {
		keys [][]byte
		ok   bool
	}{"shared keys": {[][]byte{key}, true}, "keys of their own": {nil, false}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				cl := newCluster(t, 2, Options{StateKeys: tt.keys})
				m := modern(t, cl.sites[0], "tools/call", "input", `"name":"input","arguments":{}`).message(t)
				var r struct{ RequestState string }
				if err := json.Unmarshal(m.Result, &r); err != nil || r.RequestState == "" {
					t.Fatalf("first round: %s", m.Result)
				}
				state, _ := json.Marshal(r.RequestState)
				a := modern(t, cl.sites[1], "tools/call", "input",
					`"name":"input","arguments":{},"inputResponses":{"q":{"action":"accept","content":{"x":"yes"}}},"requestState":`+string(state))
				if !tt.ok {
					a.wantStatus(t, "state of a stranger", http.StatusBadRequest)
					return
				}
				a.want(t, "input yes with state of the handler")
			})
		})
	}
}

// TestStandaloneStreamMoves opens a session's own stream at one replica and comes back to it at another.
func TestStandaloneStreamMoves(t *testing.T) {
	t.Parallel()
	for _, version := range sessionRevisions {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				cl := newCluster(t, 3, Options{})
				c := newClient(version)
				c.open(t, cl.sites[0], cl.sites[0])
				cl.warm()
				c.post(t, cl.sites[0], subscribe(true)).wantStatus(t, "subscribe", http.StatusOK)
				a := c.get(t, cl.sites[0], "")
				time.Sleep(time.Second)
				update := func(i int) {
					_ = cl.sites[i].server.ResourceUpdated(t.Context(), &mcp.ResourceUpdatedNotificationParams{URI: testItem})
					time.Sleep(time.Second)
				}
				heard := func(what string, n int) {
					t.Helper()
					l := listenTo(what, a)
					time.Sleep(time.Second)
					if got := l.heard(); len(got) != n {
						t.Errorf("%s: heard %q, want %d", what, got, n)
					}
				}
				update(0)
				if m := a.message(t); m.Method != "notifications/resources/updated" {
					t.Fatalf("got %s", m.Method)
				}
				a.close()
				update(1) // while nobody listens
				update(2)
				last := a.last
				a = c.get(t, cl.sites[1], last)
				a.wantStatus(t, "resume", http.StatusOK)
				// The very moment of the move is in TestChangeWhileTheStreamMoves.
				time.Sleep(time.Second)
				update(2)
				update(1)
				update(0)
				heard("after a move", 5)
				a.close()
				a = c.get(t, cl.sites[2], last) // all of it again: the client lost it
				heard("after a second move", 5)
			})
		})
	}
}

// TestStoreOutage takes the store away from everybody and looks what goes on, what is refused, and what has become of it afterwards.
func TestStoreOutage(t *testing.T) {
	t.Parallel()
	for _, version := range sessionRevisions {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { storeOutage(t, version) })
		})
	}
}

func storeOutage(t *testing.T, version string) {
	cl := newCluster(t, 2, Options{})
	here, there := cl.sites[0], cl.sites[1]
	c := newClient(version)
	c.open(t, here, here)
	fresh := newClient(version) // has not said initialized
	m := fresh.post(t, here, fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":%q,"capabilities":{},"clientInfo":{"name":"t","version":"1"}}}`, version))
	fresh.session = m.Header.Get("Mcp-Session-Id")
	asking := c.post(t, there, tool("ask", "ask", `{}`))
	question := asking.message(t)
	counting := c.post(t, here, tool("count", "count", `{"n":100,"ms":100}`))
	counting.message(t)
	alone := c.get(t, here, "")
	alone.wantStatus(t, "GET", http.StatusOK)
	ready := func() error { return here.handler.Ready(t.Context()) }
	if err := ready(); err != nil {
		t.Errorf("Ready: %v", err)
	}

	for _, s := range cl.sites {
		s.tap.set(tapAway)
	}
	if err := ready(); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Ready during the outage: %v", err)
	}
	modern(t, here, "tools/call", "fast", `"name":"fast","arguments":{}`).want(t, "fast")
	if all := modern(t, here, "tools/call", "count", `"name":"count","arguments":{"n":3,"ms":200}`).rest(t); len(all) != 1 || all[0].text() != "counted 3" {
		t.Errorf("a streamed call of 2026-07-28: %v", all)
	}
	// What the replica that has the session can do by itself.
	c.post(t, here, tool("fast", "fast", `{}`)).want(t, "fast")
	// A call that has begun when it turns out that its stream cannot be kept comes to its end.
	streamed := c.post(t, here, tool("volatile", "count", `{"n":5,"ms":100}`))
	streamed.wantStatus(t, "a call that becomes a stream", http.StatusOK)
	if streamed.StatusCode == http.StatusOK {
		all := streamed.rest(t)
		if n := len(all); n != 6 || all[5].text() != "counted 5" {
			t.Errorf("a call that becomes a stream: %v", all)
		}
		if streamed.last != "" {
			t.Errorf("its events have IDs, and nobody keeps them: %s", streamed.last)
		}
	}
	// What needs the store.
	initialize := newClient(version)
	initialize.post(t, here, fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":%q,"capabilities":{},"clientInfo":{"name":"t","version":"1"}}}`, version)).wantBusy(t, "initialize")
	fresh.post(t, here, `{"jsonrpc":"2.0","method":"notifications/initialized"}`).wantBusy(t, "initialized")
	other := cl.launch()
	c.post(t, other, tool("x", "fast", `{}`)).wantStatus(t, "a replica that has the store", http.StatusOK)
	other.tap.set(tapAway)
	time.Sleep(3 * time.Second) // it forgets the session
	c.post(t, other, tool("x", "fast", `{}`)).wantBusy(t, "a call where the session is not alive")
	c.post(t, here, setLevel("error")).wantBusy(t, "setLevel")
	c.post(t, here, subscribe(true)).wantBusy(t, "subscribe")
	c.get(t, here, "").wantBusy(t, "GET")
	c.get(t, there, counting.last).wantBusy(t, "resume elsewhere")
	answer := fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":{"action":"accept","content":{"x":"yes"}}}`, question.ID)
	c.post(t, here, answer).wantBusy(t, "an answer that must be handed on")
	deleted := newClient(version)
	deleted.session = c.session
	if resp, err := deleted.do(t.Context(), here, http.MethodDelete, "", ""); err != nil || //nolint:bodyclose // it has none
		resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Errorf("DELETE: %v, %v", resp, err)
	}

	for _, s := range cl.sites {
		s.tap.set(tapOpen)
	}
	time.Sleep(3 * time.Second)
	if err := ready(); err != nil {
		t.Errorf("Ready after the outage: %v", err)
	}
	// Nothing was half done.
	if got := levelsOf(t, c.post(t, here, tool("log", "log", `{}`))); got == "error" {
		t.Error("the level that was refused is in force")
	}
	_ = there.server.ResourceUpdated(t.Context(), &mcp.ResourceUpdatedNotificationParams{URI: testItem})
	fresh.post(t, there, `{"jsonrpc":"2.0","method":"notifications/initialized"}`).wantStatus(t, "initialized", http.StatusAccepted)
	c.post(t, here, answer).wantStatus(t, "the answer again", http.StatusAccepted)
	asking.want(t, "asked yes")
	all := counting.rest(t)
	for i, m := range all[:len(all)-1] {
		if got := progressIn(m); got != i+2 {
			t.Fatalf("progress %d, want %d: events were lost", got, i+2)
		}
	}
	if got := all[len(all)-1].text(); got != "counted 100" {
		t.Errorf("the call that ran during the outage: %s", got)
	}
	c.post(t, there, tool("y", "fast", `{}`)).want(t, "fast")
	c.get(t, there, counting.last).wantStatus(t, "resume", http.StatusOK)
	c.post(t, here, setLevel("error")).wantStatus(t, "setLevel", http.StatusOK)
	l := listenTo("alone", alone)
	time.Sleep(time.Second)
	if got := l.heard(); len(got) > 0 {
		t.Errorf("the subscription that was refused is in force: %v", got)
	}
}

// TestRoundTrips counts what calls ask of the store.
func TestRoundTrips(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, 2, Options{})
		s := cl.sites[0]
		spent := func() map[string]int {
			time.Sleep(500 * time.Millisecond) // also what is done aside
			n := s.tap.spent()
			delete(n, "lease") // by the clock
			return n
		}
		total := func(n map[string]int) (sum int) {
			for _, v := range n {
				sum += v
			}
			return sum
		}
		modern(t, s, "tools/call", "fast", `"name":"fast","arguments":{}`).want(t, "fast")
		spent()
		for range 10 {
			modern(t, s, "tools/call", "fast", `"name":"fast","arguments":{}`).want(t, "fast")
		}
		modern(t, s, "tools/call", "count", `"name":"count","arguments":{"n":10,"ms":100}`).rest(t)
		if n := spent(); total(n) > 0 {
			t.Errorf("calls of 2026-07-28: %v", n)
		}
		for _, version := range sessionRevisions {
			c := newClient(version)
			c.open(t, s, s)
			t.Logf("%s: initialize and initialized: %v", version, spent())
			for range 10 {
				c.post(t, s, tool("f", "fast", `{}`)).want(t, "fast")
				if n := spent(); total(n) > 0 {
					t.Errorf("%s: a fast call: %v", version, n)
				}
			}
			time.Sleep(5 * time.Second) // an idle session is forgotten
			spent()
			c.post(t, s, tool("f", "fast", `{}`)).want(t, "fast")
			n := spent()
			t.Logf("%s: the first call of a session that was forgotten: %v", version, n)
			if n["get"] != 1 || total(n)-n["touch"] > 1 { // its time is renewed aside
				t.Errorf("%s: the first call: %v", version, n)
			}
			c.post(t, s, tool("f", "fast", `{}`)).want(t, "fast")
			if n := spent(); total(n) > 0 {
				t.Errorf("%s: the second call: %v", version, n)
			}
			const events = 20
			c.post(t, s, tool("c", "count", fmt.Sprintf(`{"n":%d,"ms":100}`, events))).rest(t)
			n = spent()
			t.Logf("%s: a stream of %d messages and a response: %v", version, events, n)
			prime := 0
			if version == wire.Rev1125 {
				prime = 1
			}
			if n["append"] > events+1+prime || total(n)-n["append"] > 2 {
				t.Errorf("%s: a stream of %d messages and a response: %v", version, events, n)
			}
			a := c.post(t, s, tool("q", "count", `{"n":3,"ms":5000}`))
			a.message(t)
			a.close()
			follower := cl.sites[1]
			a = c.get(t, follower, a.last)
			time.Sleep(time.Second)
			follower.tap.spent()
			time.Sleep(1900 * time.Millisecond)
			n = follower.tap.spent()
			t.Logf("%s: two seconds of following a quiet stream: %v", version, n)
			if delete(n, "lease"); total(n) > 10*4+2 {
				t.Errorf("%s: two seconds of following a quiet stream: %v", version, n)
			}
			a.rest(t)
			spent()
			c.post(t, s, tool("d", "count", `{"n":200,"ms":0}`)).rest(t)
			n = spent()
			t.Logf("%s: a stream of 200 messages in a burst: %v", version, n)
			if n["append"] > 20 {
				t.Errorf("%s: a burst is not pipelined: %v", version, n)
			}
		}
	})
}
