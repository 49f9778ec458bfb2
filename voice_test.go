package sluice

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
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

// A program that speaks to all takes time: the sessions that it has found at its server are not those that are there when it comes to
// them. Whether a client rests meanwhile or calls, it hears once what is said to all, in whichever order.
func TestSpeakingToAllTakesTime(t *testing.T) {
	t.Parallel()
	const asked = `{"elicitation":{}}`
	call := func(t *testing.T, at *site, c *client) { c.post(t, at, tool("1", "fast", `{}`)).want(t, "fast") }
	rest := func(*testing.T, *site, *client) { time.Sleep(5 * time.Second) }
	work := func(t *testing.T, at *site, c *client) { // for longer than anybody takes to speak to all
		for range 40 {
			call(t, at, c)
			time.Sleep(time.Second / 2)
		}
	}
	type step = func(*testing.T, *site, *client)
	for name, tt := range map[string]struct {
		caps    string
		before  []step // after each the program looks who is there
		between []step // one each time before it speaks
	}{
		"rests":                {`{}`, []step{rest}, nil},
		"has called":           {`{}`, []step{call}, nil},
		"works":                {`{}`, []step{work}, nil},
		"comes to rest":        {`{}`, []step{call}, []step{rest}},
		"rests, then is told":  {`{}`, []step{call}, []step{nil, rest}},
		"works, then rests":    {`{}`, []step{work}, []step{nil, rest}},
		"calls":                {`{}`, []step{rest}, []step{call}},
		"calls and rests":      {`{}`, []step{rest}, []step{call, rest, call, rest}},
		"rests and calls":      {`{}`, []step{call}, []step{rest, call, rest, call}},
		"is there twice":       {`{}`, []step{call, rest, call}, nil},
		"is there twice, goes": {`{}`, []step{call, rest, call}, []step{rest}},
		"can be asked":         {asked, []step{rest}, []step{call, rest}},
		"could be asked long":  {asked, []step{work}, []step{rest, call}},
	} {
		for _, backwards := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, backwards %v", name, backwards), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					at := newCluster(t, 1, Options{}).sites[0]
					c := newClient("2025-11-25")
					c.caps = tt.caps
					c.open(t, at, at)
					heard := c.get(t, at, "")
					end := func() {
						c.do(context.Background(), at, http.MethodDelete, "", "") //nolint:errcheck,bodyclose // it ends what is looked at
					}
					defer time.AfterFunc(time.Hour, end).Stop() // else who hears nothing waits for ever
					for _, word := range []int{1, 1, 2} {
						found := foundBy(t, at, func(look func()) {
							for _, do := range tt.before {
								do(t, at, c)
								look()
							}
						})
						if backwards {
							slices.Reverse(found)
						}
						for i, ss := range found {
							if i < len(tt.between) && tt.between[i] != nil {
								tt.between[i](t, at, c)
							}
							if err := ss.NotifyProgress(context.Background(), &mcp.ProgressNotificationParams{ProgressToken: "t", Progress: float64(word)}); err != nil {
								t.Errorf("said to %d of %d: %v", i, len(found), err)
							}
						}
					}
					wantProgress(t, heard, 1, 1, 2)

					// What is said to one client twice, it hears twice.
					synctest.Wait() // it is initialized
					var own *mcp.ServerSession
					for _, ss := range foundBy(t, at, func(look func()) { call(t, at, c); look() }) {
						if ss.ID() == c.session {
							own = ss
						}
					}
					for range 2 {
						if err := own.NotifyProgress(context.Background(), &mcp.ProgressNotificationParams{ProgressToken: "t", Progress: 3}); err != nil {
							t.Error(err)
						}
						rest(t, at, c)
					}
					wantProgress(t, heard, 3, 3)
					end()
					if more := heard.rest(t); len(more) > 0 {
						t.Errorf("heard twice: %v", more)
					}
				})
			})
		}
	}
}

// foundBy returns the SDK sessions that the server had at any of the times that f looks: those that it has at once when an
// old one takes its time to close.
func foundBy(t *testing.T, at *site, f func(look func())) (found []*mcp.ServerSession) {
	t.Helper()
	f(func() {
		for ss := range at.server.Sessions() {
			if !slices.Contains(found, ss) {
				found = append(found, ss)
			}
		}
	})
	return found
}

func wantProgress(t *testing.T, heard *response, want ...float64) {
	t.Helper()
	for _, w := range want {
		m := heard.message(t)
		var p struct{ Progress float64 }
		if err := json.Unmarshal(m.Params, &p); err != nil || p.Progress != w {
			t.Fatalf("heard %s %s, want progress %v", m.Method, m.Params, w)
		}
	}
}

// Who has been connected for a while hears what is said on its own session, and not what a program says to others in other words.
func TestSpeakingToEach(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		at := newCluster(t, 1, Options{}).sites[0]
		c := newClient("2025-11-25")
		c.open(t, at, at)
		heard := c.get(t, at, "")
		time.Sleep(time.Minute)
		for ss := range at.server.Sessions() {
			_ = ss.NotifyProgress(t.Context(), &mcp.ProgressNotificationParams{ProgressToken: "t", Progress: float64(len(ss.ID()))}) // looked at below
		}
		wantProgress(t, heard, float64(len(c.session)))
		c.do(t.Context(), at, http.MethodDelete, "", "") //nolint:errcheck,bodyclose // it ends what is looked at
		if more := heard.rest(t); len(more) > 0 {
			t.Errorf("heard also: %v", more)
		}
	})
}

// A tool that speaks to all reaches its own client in the response to its call, and the others on their own streams.
func TestToolsSpeakToAll(t *testing.T) {
	t.Parallel()
	for _, pause := range []time.Duration{0, 5 * time.Second} { // since the tool's client has called
		synctest.Test(t, func(t *testing.T) {
			at := newCluster(t, 1, Options{}).sites[0]
			var found []*mcp.ServerSession // before the call: one of them may still be closing
			at.server.AddTool(&mcp.Tool{Name: "tell", InputSchema: json.RawMessage(`{"type":"object"}`)}, func(ctx context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
				for ss := range at.server.Sessions() {
					if !slices.Contains(found, ss) {
						found = append(found, ss)
					}
				}
				for i := range 2 {
					for _, ss := range found {
						_ = ss.NotifyProgress(ctx, &mcp.ProgressNotificationParams{ProgressToken: req.Params.GetProgressToken(), Progress: float64(i)})
					}
				}
				return textResult("told"), nil
			})
			c, other := newClient("2025-11-25"), newClient("2025-11-25")
			var heard []*response
			for _, c := range []*client{c, other} {
				c.caps = `{}`
				c.open(t, at, at)
				heard = append(heard, c.get(t, at, ""))
				synctest.Wait() // it is initialized
				c.post(t, at, tool("1", "fast", `{}`)).want(t, "fast")
			}
			found = slices.Collect(at.server.Sessions())
			time.Sleep(pause)
			answer := c.post(t, at, `{"jsonrpc":"2.0","id":"2","method":"tools/call","params":{"name":"tell","arguments":{},"_meta":{"progressToken":"t"}}}`)
			wantProgress(t, answer, 0, 1)
			answer.want(t, "told")
			wantProgress(t, heard[1], 0, 1)
			for i, c := range []*client{c, other} {
				c.do(t.Context(), at, http.MethodDelete, "", "") //nolint:errcheck,bodyclose // it ends what is looked at
				if more := heard[i].rest(t); len(more) > 0 {
					t.Errorf("after %v, client %d heard also %v", pause, i, more)
				}
			}
		})
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
			cl := newCluster(t, 0, Options{})
			for range 2 {
				server := mcp.NewServer(&mcp.Implementation{Name: "replica", Version: "1"}, &mcp.ServerOptions{
					InitializedHandler: func(_ context.Context, req *mcp.InitializedRequest) {
						heard++
						if got := req.Session.InitializeParams().ClientInfo.Name; got != "t" {
							t.Errorf("the client is %q", got)
						}
					},
				})
				cl.add(server)
			}
			c := newClient("2025-11-25")
			for i, other := range []int{0, 1} {
				c.session = ""
				a := c.post(t, cl.sites[0], fmt.Sprintf(`{"jsonrpc":"2.0","id":"init","method":"initialize","params":{"protocolVersion":%q,"capabilities":{},"clientInfo":{"name":"t","version":"1"}}}`, c.version))
				c.session = a.Header.Get("Mcp-Session-Id")
				time.Sleep(pause)
				c.post(t, cl.sites[other], `{"jsonrpc":"2.0","method":"notifications/initialized"}`).wantStatus(t, "initialized", http.StatusAccepted)
				synctest.Wait()
				if heard != i+1 {
					t.Errorf("after %v, said at replica %d: heard %d times", pause, other, heard)
				}
			}
		})
	}
}
