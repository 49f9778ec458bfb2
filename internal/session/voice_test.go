package session_test

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

	"github.com/sluice-mcp/sluice"
	"github.com/sluice-mcp/sluice/internal/sitetest"
)

// A handler may keep its session and speak long after its call, when the session has rested here: what it says reaches the
// client at whichever replica it listens, and what it asks is answered.
func TestHandlersKeepTheirVoice(t *testing.T) {
	t.Parallel()
	for _, replicas := range []int{1, 2} {
		for _, version := range sitetest.Revisions {
			t.Run(fmt.Sprint(replicas, " ", version), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) { keepVoice(t, replicas, version) })
			})
		}
	}
}

func keepVoice(t *testing.T, replicas int, version string) {
	cl := sitetest.NewCluster(t, replicas, sluice.Options{})
	here, there := cl.Sites[0], cl.Sites[replicas-1]
	var held *mcp.ServerSession
	for _, s := range cl.Sites { // one version everywhere
		s.Server.AddTool(&mcp.Tool{Name: "keep", InputSchema: json.RawMessage(`{"type":"object"}`)}, func(_ context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			held = req.Session
			return sitetest.Text("kept"), nil
		})
	}
	spoken := 0 // by the server's own middleware
	here.Server.AddSendingMiddleware(func(next mcp.MethodHandler) mcp.MethodHandler {
		return func(ctx context.Context, method string, req mcp.Request) (mcp.Result, error) {
			if method == "notifications/message" {
				spoken++
			}
			return next(ctx, method, req)
		}
	})
	c, other := sitetest.NewClient(version), sitetest.NewClient(version)
	for _, c := range []*sitetest.Client{c, other} {
		c.Open(t, here, here)
		c.Post(t, here, sitetest.SetLevel("info")).WantStatus(t, "level", http.StatusOK)
	}
	c.Post(t, here, sitetest.Call("1", "keep", `{}`)).Want(t, "kept")

	if err := held.Log(t.Context(), &mcp.LoggingMessageParams{Level: "info", Data: "to nobody"}); err == nil {
		t.Error("nobody listens, and the handler is not told")
	}
	time.Sleep(time.Minute) // it rests
	stream, others := c.Get(t, there, ""), other.Get(t, there, "")
	stream.WantStatus(t, "GET", http.StatusOK)
	others.WantStatus(t, "GET", http.StatusOK)
	time.Sleep(time.Minute) // and again, where nobody listens

	for _, word := range []string{"one", "two"} {
		if err := held.Log(context.Background(), &mcp.LoggingMessageParams{Level: "info", Data: word}); err != nil {
			t.Fatalf("saying %s: %v", word, err)
		}
		if m := stream.Message(t); m.Method != "notifications/message" || !strings.Contains(string(m.Params), word) {
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
	q := stream.Message(t)
	time.Sleep(2 * time.Minute) // whoever asks does not rest
	c.Post(t, there, fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":{"action":"accept","content":{"x":"yes"}}}`, q.ID)).WantStatus(t, "answer", http.StatusAccepted)
	if got := <-answers; got != "yes" {
		t.Errorf("asked, and got %q", got)
	}

	c.Do(t.Context(), there, http.MethodDelete, "", "") //nolint:errcheck,bodyclose // what follows looks at the outcome
	time.Sleep(time.Second)
	if err := held.NotifyProgress(context.Background(), &mcp.ProgressNotificationParams{ProgressToken: "1", Progress: 1}); err == nil {
		t.Error("the session has ended, and its handler may speak")
	}
	if more := stream.Rest(t); len(more) > 0 {
		t.Errorf("after the end: %v", more)
	}
	other.Do(t.Context(), there, http.MethodDelete, "", "") //nolint:errcheck,bodyclose // as above
	if more := others.Rest(t); len(more) > 0 {
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
		cl := sitetest.NewCluster(t, 1, sluice.Options{SessionTimeout: 10 * time.Minute})
		at := cl.Sites[0]
		var held *mcp.ServerSession
		at.Server.AddTool(&mcp.Tool{Name: "keep", InputSchema: json.RawMessage(`{"type":"object"}`)}, func(_ context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			held = req.Session
			return sitetest.Text("kept"), nil
		})
		c := sitetest.NewClient("2025-11-25")
		c.Open(t, at, at)
		c.Post(t, at, sitetest.Call("1", "keep", `{}`)).Want(t, "kept")
		for range 30 {
			time.Sleep(time.Minute)
			_ = held.NotifyProgress(context.Background(), &mcp.ProgressNotificationParams{ProgressToken: "1", Progress: 1}) // nobody listens
		}
		c.Post(t, at, sitetest.Call("2", "fast", `{}`)).WantStatus(t, "after the timeout", http.StatusNotFound)
	})
}

// What a server says to all of its sessions reaches every client that listens, once and in order: those that have called just
// now, those that have not for long, and those that could be asked.
func TestServersSpeakToAll(t *testing.T) {
	t.Parallel()
	for _, version := range sitetest.Revisions {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { speakToAll(t, version) })
		})
	}
}

func speakToAll(t *testing.T, version string) {
	cl := sitetest.NewCluster(t, 1, sluice.Options{})
	at := cl.Sites[0]
	type listener struct {
		*sitetest.Client
		level string
		heard *sitetest.Response
	}
	var all []listener
	for _, caps := range []string{`{}`, `{"elicitation":{}}`} {
		for _, level := range []string{"", "debug", "error"} {
			c := sitetest.NewClient(version)
			c.Caps = caps
			c.Open(t, at, at)
			if level != "" {
				c.Post(t, at, sitetest.SetLevel(level)).WantStatus(t, "level", http.StatusOK)
			}
			all = append(all, listener{c, level, c.Get(t, at, "")})
		}
	}
	sitetest.NewClient(version).Open(t, at, at) // does not listen
	for round, pause := range []time.Duration{0, time.Minute, time.Second, time.Hour} {
		time.Sleep(pause)
		for i, l := range all {
			if (i+round)%2 == 0 {
				l.Post(t, at, sitetest.Call("1", "fast", `{}`)).Want(t, "fast")
			}
		}
		for i := range 3 {
			for ss := range at.Server.Sessions() {
				_ = ss.NotifyProgress(t.Context(), &mcp.ProgressNotificationParams{ProgressToken: "t", Progress: float64(i)}) // who does not listen is no error of the server's
				_ = ss.Log(t.Context(), &mcp.LoggingMessageParams{Level: "warning", Data: i})
			}
		}
		at.Server.AddTool(&mcp.Tool{Name: fmt.Sprint("new", round), InputSchema: json.RawMessage(`{"type":"object"}`)}, func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
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
				m := l.heard.Message(t)
				var p struct{ Progress, Data json.Number }
				_ = json.Unmarshal(m.Params, &p)
				if got := fmt.Sprint(m.Method, " ", p.Progress, p.Data); got != w {
					t.Fatalf("round %d, client %d (%s, level %q) heard %s, want %s", round, i, l.Caps, l.level, got, w)
				}
			}
		}
	}
	for _, l := range all {
		l.Do(t.Context(), at, http.MethodDelete, "", "") //nolint:errcheck,bodyclose // it ends what is looked at
		if more := l.heard.Rest(t); len(more) > 0 {
			t.Errorf("heard twice: %v", more)
		}
	}
}

// A program that speaks to all takes time: the sessions that it has found at its server are not those that are there when it comes to
// them. Whether a client rests meanwhile or calls, it hears once what is said to all, in whichever order.
func TestSpeakingToAllTakesTime(t *testing.T) {
	t.Parallel()
	const asked = `{"elicitation":{}}`
	call := func(t *testing.T, at *sitetest.Site, c *sitetest.Client) {
		c.Post(t, at, sitetest.Call("1", "fast", `{}`)).Want(t, "fast")
	}
	rest := func(*testing.T, *sitetest.Site, *sitetest.Client) { time.Sleep(5 * time.Second) }
	work := func(t *testing.T, at *sitetest.Site, c *sitetest.Client) { // for longer than anybody takes to speak to all
		for range 40 {
			call(t, at, c)
			time.Sleep(time.Second / 2)
		}
	}
	type step = func(*testing.T, *sitetest.Site, *sitetest.Client)
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
					at := sitetest.NewCluster(t, 1, sluice.Options{}).Sites[0]
					c := sitetest.NewClient("2025-11-25")
					c.Caps = tt.caps
					c.Open(t, at, at)
					heard := c.Get(t, at, "")
					end := func() {
						c.Do(context.Background(), at, http.MethodDelete, "", "") //nolint:errcheck,bodyclose // it ends what is looked at
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
						if ss.ID() == c.Session {
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
					if more := heard.Rest(t); len(more) > 0 {
						t.Errorf("heard twice: %v", more)
					}
				})
			})
		}
	}
}

// foundBy returns the SDK sessions that the server had at any of the times that f looks: those that it has at once when an
// old one takes its time to close.
func foundBy(t *testing.T, at *sitetest.Site, f func(look func())) (found []*mcp.ServerSession) {
	t.Helper()
	f(func() {
		for ss := range at.Server.Sessions() {
			if !slices.Contains(found, ss) {
				found = append(found, ss)
			}
		}
	})
	return found
}

func wantProgress(t *testing.T, heard *sitetest.Response, want ...float64) {
	t.Helper()
	for _, w := range want {
		m := heard.Message(t)
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
		at := sitetest.NewCluster(t, 1, sluice.Options{}).Sites[0]
		c := sitetest.NewClient("2025-11-25")
		c.Open(t, at, at)
		heard := c.Get(t, at, "")
		time.Sleep(time.Minute)
		for ss := range at.Server.Sessions() {
			_ = ss.NotifyProgress(t.Context(), &mcp.ProgressNotificationParams{ProgressToken: "t", Progress: float64(len(ss.ID()))}) // looked at below
		}
		wantProgress(t, heard, float64(len(c.Session)))
		c.Do(t.Context(), at, http.MethodDelete, "", "") //nolint:errcheck,bodyclose // it ends what is looked at
		if more := heard.Rest(t); len(more) > 0 {
			t.Errorf("heard also: %v", more)
		}
	})
}

// A tool that speaks to all reaches its own client in the response to its call, and the others on their own streams.
func TestToolsSpeakToAll(t *testing.T) {
	t.Parallel()
	for _, pause := range []time.Duration{0, 5 * time.Second} { // since the tool's client has called
		synctest.Test(t, func(t *testing.T) {
			at := sitetest.NewCluster(t, 1, sluice.Options{}).Sites[0]
			var found []*mcp.ServerSession // before the call: one of them may still be closing
			at.Server.AddTool(&mcp.Tool{Name: "tell", InputSchema: json.RawMessage(`{"type":"object"}`)}, func(ctx context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
				for ss := range at.Server.Sessions() {
					if !slices.Contains(found, ss) {
						found = append(found, ss)
					}
				}
				for i := range 2 {
					for _, ss := range found {
						_ = ss.NotifyProgress(ctx, &mcp.ProgressNotificationParams{ProgressToken: req.Params.GetProgressToken(), Progress: float64(i)})
					}
				}
				return sitetest.Text("told"), nil
			})
			c, other := sitetest.NewClient("2025-11-25"), sitetest.NewClient("2025-11-25")
			var heard []*sitetest.Response
			for _, c := range []*sitetest.Client{c, other} {
				c.Caps = `{}`
				c.Open(t, at, at)
				heard = append(heard, c.Get(t, at, ""))
				synctest.Wait() // it is initialized
				c.Post(t, at, sitetest.Call("1", "fast", `{}`)).Want(t, "fast")
			}
			found = slices.Collect(at.Server.Sessions())
			time.Sleep(pause)
			answer := c.Post(t, at, `{"jsonrpc":"2.0","id":"2","method":"tools/call","params":{"name":"tell","arguments":{},"_meta":{"progressToken":"t"}}}`)
			wantProgress(t, answer, 0, 1)
			answer.Want(t, "told")
			wantProgress(t, heard[1], 0, 1)
			for i, c := range []*sitetest.Client{c, other} {
				c.Do(t.Context(), at, http.MethodDelete, "", "") //nolint:errcheck,bodyclose // it ends what is looked at
				if more := heard[i].Rest(t); len(more) > 0 {
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
			cl := sitetest.NewCluster(t, 1, sluice.Options{})
			at := cl.Sites[0]
			cl.Warm()
			time.Sleep(10 * time.Second)
			connected := func() (n int) {
				for range at.Server.Sessions() {
					n++
				}
				return n
			}
			before := connected() // our watcher
			for range 5 {
				c := sitetest.NewClient("2025-11-25")
				c.Caps = caps
				c.Open(t, at, at)
				defer c.Get(t, at, "").Leave()
				c.Post(t, at, sitetest.Call("1", "fast", `{}`)).Want(t, "fast")
			}
			time.Sleep(10 * time.Second)
			if got := connected() - before; got != want {
				t.Errorf("%s: %d SDK sessions for five clients that listen, want %d", caps, got, want)
			}
		})
	}
}
