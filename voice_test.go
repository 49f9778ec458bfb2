package sluice

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice/store/memory"
)

// A handler may keep its session and speak long after its call, when the session has rested here: what it says reaches the
// client at whichever replica it listens, and what it asks is answered.
func TestHandlersKeepTheirVoice(t *testing.T) {
	t.Parallel()
	for _, replicas := range []int{1, 2} {
		for _, version := range sessionRevisions {
			t.Run(fmt.Sprint(replicas, " ", version), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) { keepVoice(t, replicas, version) })
			})
		}
	}
}

func keepVoice(t *testing.T, replicas int, version string) {
	cl := newCluster(t, replicas, Options{})
	here, there := cl.sites[0], cl.sites[replicas-1]
	var held *mcp.ServerSession
	for _, s := range cl.sites { // one version everywhere
		s.server.AddTool(&mcp.Tool{Name: "keep", InputSchema: json.RawMessage(`{"type":"object"}`)}, func(_ context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			held = req.Session
			return textResult("kept"), nil
		})
	}
	spoken := 0 // by the server's own middleware
	here.server.AddSendingMiddleware(func(next mcp.MethodHandler) mcp.MethodHandler {
		return func(ctx context.Context, method string, req mcp.Request) (mcp.Result, error) {
			if method == "notifications/message" {
				spoken++
			}
			return next(ctx, method, req)
		}
	})
	c, other := newClient(version), newClient(version)
	for _, c := range []*client{c, other} {
		c.open(t, here, here)
		c.post(t, here, setLevel("info")).wantStatus(t, "level", http.StatusOK)
	}
	c.post(t, here, tool("1", "keep", `{}`)).want(t, "kept")

	if err := held.Log(t.Context(), &mcp.LoggingMessageParams{Level: "info", Data: "to nobody"}); err == nil {
		t.Error("nobody listens, and the handler is not told")
	}
	time.Sleep(time.Minute) // it rests
	stream, others := c.get(t, there, ""), other.get(t, there, "")
	stream.wantStatus(t, "GET", http.StatusOK)
	others.wantStatus(t, "GET", http.StatusOK)
	time.Sleep(time.Minute) // and again, where nobody listens

	for _, word := range []string{"one", "two"} {
		if err := held.Log(context.Background(), &mcp.LoggingMessageParams{Level: "info", Data: word}); err != nil {
			t.Fatalf("saying %s: %v", word, err)
		}
		if m := stream.message(t); m.Method != "notifications/message" || !strings.Contains(string(m.Params), word) {
			t.Fatalf("said %s, heard %s %s", word, m.Method, m.Params)
		}
		time.Sleep(time.Minute)
	}
	answers := make(chan string)
	go func() {
		res, err := held.Elicit(context.Background(), &mcp.ElicitParams{Message: "?", RequestedSchema: json.RawMessage(`{"type":"object","properties":{"x":{"type":"string"}}}`)})
		if err != nil {
			answers <- err.Error()
			return
		}
		answers <- fmt.Sprint(res.Content["x"])
	}()
	q := stream.message(t)
	time.Sleep(2 * time.Minute) // whoever asks does not rest
	c.post(t, there, fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":{"action":"accept","content":{"x":"yes"}}}`, q.ID)).wantStatus(t, "answer", http.StatusAccepted)
	if got := <-answers; got != "yes" {
		t.Errorf("asked, and got %q", got)
	}

	c.do(t.Context(), there, http.MethodDelete, "", "") //nolint:errcheck,bodyclose // what follows looks at the outcome
	time.Sleep(time.Second)
	if err := held.NotifyProgress(context.Background(), &mcp.ProgressNotificationParams{ProgressToken: "1", Progress: 1}); err == nil {
		t.Error("the session has ended, and its handler may speak")
	}
	if more := stream.rest(t); len(more) > 0 {
		t.Errorf("after the end: %v", more)
	}
	other.do(t.Context(), there, http.MethodDelete, "", "") //nolint:errcheck,bodyclose // as above
	if more := others.rest(t); len(more) > 0 {
		t.Errorf("another client heard %v", more)
	}
	if spoken < 3 {
		t.Errorf("the server's middleware saw %d messages", spoken)
	}
}

// A server that never falls silent does not keep a session whose client has gone.
func TestVoiceKeepsNoSession(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, 1, Options{SessionTimeout: 10 * time.Minute})
		at := cl.sites[0]
		var held *mcp.ServerSession
		at.server.AddTool(&mcp.Tool{Name: "keep", InputSchema: json.RawMessage(`{"type":"object"}`)}, func(_ context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			held = req.Session
			return textResult("kept"), nil
		})
		c := newClient("2025-11-25")
		c.open(t, at, at)
		c.post(t, at, tool("1", "keep", `{}`)).want(t, "kept")
		for range 30 {
			time.Sleep(time.Minute)
			_ = held.NotifyProgress(context.Background(), &mcp.ProgressNotificationParams{ProgressToken: "1", Progress: 1}) // nobody listens
		}
		c.post(t, at, tool("2", "fast", `{}`)).wantStatus(t, "after the timeout", http.StatusNotFound)
	})
}

// What a server says to all of its sessions reaches every client that listens, once and in order: those that have called just
// now, those that have not for long, and those that could be asked.
func TestServersSpeakToAll(t *testing.T) {
	t.Parallel()
	for _, version := range sessionRevisions {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { speakToAll(t, version) })
		})
	}
}

func speakToAll(t *testing.T, version string) {
	cl := newCluster(t, 1, Options{})
	at := cl.sites[0]
	type listener struct {
		*client
		level string
		heard *response
	}
	var all []listener
	for _, caps := range []string{`{}`, `{"elicitation":{}}`} {
		for _, level := range []string{"", "debug", "error"} {
			c := newClient(version)
			c.caps = caps
			c.open(t, at, at)
			if level != "" {
				c.post(t, at, setLevel(level)).wantStatus(t, "level", http.StatusOK)
			}
			all = append(all, listener{c, level, c.get(t, at, "")})
		}
	}
	newClient(version).open(t, at, at) // does not listen
	for round, pause := range []time.Duration{0, time.Minute, time.Second, time.Hour} {
		time.Sleep(pause)
		for i, l := range all {
			if (i+round)%2 == 0 {
				l.post(t, at, tool("1", "fast", `{}`)).want(t, "fast")
			}
		}
		for i := range 3 {
			for ss := range at.server.Sessions() {
				_ = ss.NotifyProgress(t.Context(), &mcp.ProgressNotificationParams{ProgressToken: "t", Progress: float64(i)}) // who does not listen is no error of the server's
				_ = ss.Log(t.Context(), &mcp.LoggingMessageParams{Level: "warning", Data: i})
			}
		}
		at.server.AddTool(&mcp.Tool{Name: fmt.Sprint("new", round), InputSchema: json.RawMessage(`{"type":"object"}`)}, func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			return &mcp.CallToolResult{}, nil
		})
		for i, l := range all {
			var want []string
			for i := range 3 {
				want = append(want, fmt.Sprint("notifications/progress ", i))
				if l.level == "debug" {
					want = append(want, fmt.Sprint("notifications/message ", i))
				}
			}
			want = append(want, "notifications/tools/list_changed ")
			for _, w := range want {
				m := l.heard.message(t)
				var p struct{ Progress, Data json.Number }
				_ = json.Unmarshal(m.Params, &p)
				if got := fmt.Sprint(m.Method, " ", p.Progress, p.Data); got != w {
					t.Fatalf("round %d, client %d (%s, level %q) heard %s, want %s", round, i, l.caps, l.level, got, w)
				}
			}
		}
	}
	for _, l := range all {
		l.do(t.Context(), at, http.MethodDelete, "", "") //nolint:errcheck,bodyclose // it ends what is looked at
		if more := l.heard.rest(t); len(more) > 0 {
			t.Errorf("heard twice: %v", more)
		}
	}
}

// A client that only listens costs the SDK no session, unless it can be asked something.
func TestListenersAreNotConnected(t *testing.T) {
	t.Parallel()
	for caps, want := range map[string]int{`{}`: 0, `{"elicitation":{}}`: 5, `{"roots":{}}`: 5, `{"sampling":{}}`: 5, `{"experimental":{}}`: 0} {
		synctest.Test(t, func(t *testing.T) {
			cl := newCluster(t, 1, Options{})
			at := cl.sites[0]
			cl.warm()
			time.Sleep(10 * time.Second)
			connected := func() (n int) {
				for range at.server.Sessions() {
					n++
				}
				return n
			}
			before := connected() // our watcher
			for range 5 {
				c := newClient("2025-11-25")
				c.caps = caps
				c.open(t, at, at)
				defer c.get(t, at, "").close()
				c.post(t, at, tool("1", "fast", `{}`)).want(t, "fast")
			}
			time.Sleep(10 * time.Second)
			if got := connected() - before; got != want {
				t.Errorf("%s: %d SDK sessions for five clients that listen, want %d", caps, got, want)
			}
		})
	}
}

// A server hears that a client is initialized wherever the client says so, and however late, once.
func TestInitializedIsHeard(t *testing.T) {
	t.Parallel()
	for _, pause := range []time.Duration{0, time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			heard := 0
			shared := memory.New()
			var sites []*site
			for _, name := range []string{"0", "1"} {
				server := mcp.NewServer(&mcp.Implementation{Name: "replica", Version: "1"}, &mcp.ServerOptions{
					InitializedHandler: func(_ context.Context, req *mcp.InitializedRequest) {
						heard++
						if got := req.Session.InitializeParams().ClientInfo.Name; got != "t" {
							t.Errorf("the client is %q", got)
						}
					},
				})
				sites = append(sites, newSite(name, newTap(name, shared), server, Options{}))
			}
			c := newClient("2025-11-25")
			for i, other := range []int{0, 1} {
				c.session = ""
				a := c.post(t, sites[0], fmt.Sprintf(`{"jsonrpc":"2.0","id":"init","method":"initialize","params":{"protocolVersion":%q,"capabilities":{},"clientInfo":{"name":"t","version":"1"}}}`, c.version))
				c.session = a.Header.Get("Mcp-Session-Id")
				time.Sleep(pause)
				c.post(t, sites[other], `{"jsonrpc":"2.0","method":"notifications/initialized"}`).wantStatus(t, "initialized", http.StatusAccepted)
				synctest.Wait()
				if heard != i+1 {
					t.Errorf("after %v, said at replica %d: heard %d times", pause, other, heard)
				}
			}
			for _, s := range sites {
				s.cut()
				_ = s.handler.Close()
			}
			_ = shared.Close()
			time.Sleep(10 * time.Second)
		})
	}
}
