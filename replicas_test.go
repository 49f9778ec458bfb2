package sluice_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice"
	"github.com/sluice-mcp/sluice/internal/sitetest"
	"github.com/sluice-mcp/sluice/internal/wire"
	"github.com/sluice-mcp/sluice/store"
)

// These tests run several handlers over one memory store, in virtual time. What happens when replicas go is in
// replicas_model_test.go and, with real processes, in package chaos.

// TestAnyReplica does whatever a client can do, each time at a random replica.
func TestAnyReplica(t *testing.T) {
	t.Parallel()
	for _, version := range sitetest.Revisions {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			for seed := range 20 {
				synctest.Test(t, func(t *testing.T) { anyReplica(t, version, uint64(seed)) })
			}
		})
	}
}

func anyReplica(t *testing.T, version string, seed uint64) {
	cl := sitetest.NewCluster(t, 3, sluice.Options{})
	cl.Rand = rand.New(rand.NewPCG(seed, 7))
	c := sitetest.NewClient(version)
	c.Open(t, cl.Any(), cl.Any())
	actions := map[string]func(id string){
		"fast": func(id string) { c.Post(t, cl.Any(), sitetest.Call(id, "fast", `{}`)).Want(t, "fast") },
		"ping": func(id string) {
			if m := c.Post(t, cl.Any(), fmt.Sprintf(`{"jsonrpc":"2.0","id":%q,"method":"ping"}`, id)).Message(t); string(m.Result) != "{}" {
				t.Errorf("ping: %s", m.Result)
			}
		},
		"ask": func(id string) {
			a := c.Post(t, cl.Any(), sitetest.Call(id, "ask", `{}`))
			q := a.Message(t)
			c.Post(t, cl.Any(), fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":{"action":"accept","content":{"x":%q}}}`, q.ID, id)).WantStatus(t, "answer", http.StatusAccepted)
			a.Want(t, "asked "+id)
		},
		"cancel": func(id string) {
			a := c.Post(t, cl.Any(), sitetest.Call(id, "count", `{"n":1000,"ms":100}`))
			a.Message(t)
			c.Post(t, cl.Any(), fmt.Sprintf(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":%q}}`, id)).WantStatus(t, "cancel", http.StatusAccepted)
			for _, m := range a.Rest(t) {
				if m.Method == "" {
					t.Errorf("cancelled, and yet answered: %s", m.Text())
				}
			}
		},
		"resume": func(id string) {
			a := c.Post(t, cl.Any(), sitetest.Call(id, "count", `{"n":9,"ms":100}`))
			for i := 1; i <= 9; i++ {
				m := a.Message(t)
				if got := m.Progress(); got != i {
					t.Fatalf("progress %d, want %d", got, i)
				}
				if cl.Rand.IntN(3) == 0 {
					a.Leave()
					a = c.Get(t, cl.Any(), a.Last)
					a.WantStatus(t, "resume", http.StatusOK)
				}
			}
			a.Want(t, "counted 9")
			if more := a.Rest(t); len(more) > 0 {
				t.Errorf("after the response: %v", more)
			}
			// Also later: the whole stream is kept for a while.
			again := c.Get(t, cl.Any(), a.Last)
			again.WantStatus(t, "resume after the end", http.StatusOK)
			if more := again.Rest(t); len(more) > 0 {
				t.Errorf("after the end: %v", more)
			}
		},
		"listen": func(string) {
			a := c.Get(t, cl.Any(), "")
			a.WantStatus(t, "GET", http.StatusOK)
			a.Leave()
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
		name := names[cl.Rand.IntN(len(names))]
		actions[name](fmt.Sprint(name, "-", i))
		if t.Failed() {
			t.Fatalf("seed %d: action %d, %s", seed, i, name)
		}
	}
	long := c.Post(t, cl.Any(), sitetest.Call("long", "count", `{"n":1000,"ms":100}`))
	long.Message(t)
	c.Do(t.Context(), cl.Any(), http.MethodDelete, "", "") //nolint:errcheck,bodyclose // what follows looks at the outcome
	for _, m := range long.Rest(t) {
		if m.Method == "" {
			t.Errorf("the session ended, and yet a call was answered: %s", m.Text())
		}
	}
	time.Sleep(100 * time.Millisecond) // for the others to be told
	for _, s := range cl.Sites {
		c.Post(t, s, sitetest.Call("gone", "fast", `{}`)).WantStatus(t, "after DELETE", http.StatusNotFound)
		c.Get(t, s, "").WantStatus(t, "after DELETE", http.StatusNotFound)
	}
}

// TestStoreOutage takes the store away from everybody and looks what goes on, what is refused, and what has become of it afterwards.
func TestStoreOutage(t *testing.T) {
	t.Parallel()
	for _, version := range sitetest.Revisions {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { storeOutage(t, version) })
		})
	}
}

func storeOutage(t *testing.T, version string) {
	cl := sitetest.NewCluster(t, 2, sluice.Options{})
	here, there := cl.Sites[0], cl.Sites[1]
	c := sitetest.NewClient(version)
	c.Open(t, here, here)
	fresh := sitetest.NewClient(version) // has not said initialized
	m := fresh.Post(t, here, fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":%q,"capabilities":{},"clientInfo":{"name":"t","version":"1"}}}`, version))
	fresh.Session = m.Header.Get("Mcp-Session-Id")
	asking := c.Post(t, there, sitetest.Call("ask", "ask", `{}`))
	question := asking.Message(t)
	counting := c.Post(t, here, sitetest.Call("count", "count", `{"n":100,"ms":100}`))
	counting.Message(t)
	alone := c.Get(t, here, "")
	alone.WantStatus(t, "GET", http.StatusOK)
	ready := func() error { return here.Handler.Ready(t.Context()) }
	if err := ready(); err != nil {
		t.Errorf("Ready: %v", err)
	}

	for _, s := range cl.Sites {
		s.Tap.Set(sitetest.Away)
	}
	if err := ready(); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Ready during the outage: %v", err)
	}
	sitetest.Stateless(t, here, "tools/call", "fast", `"name":"fast","arguments":{}`).Want(t, "fast")
	if all := sitetest.Stateless(t, here, "tools/call", "count", `"name":"count","arguments":{"n":3,"ms":200}`).Rest(t); len(all) != 1 || all[0].Text() != "counted 3" {
		t.Errorf("a streamed call of 2026-07-28: %v", all)
	}
	// What the replica that has the session can do by itself.
	c.Post(t, here, sitetest.Call("fast", "fast", `{}`)).Want(t, "fast")
	// A call that has begun when it turns out that its stream cannot be kept comes to its end.
	streamed := c.Post(t, here, sitetest.Call("volatile", "count", `{"n":5,"ms":100}`))
	streamed.WantStatus(t, "a call that becomes a stream", http.StatusOK)
	if streamed.StatusCode == http.StatusOK {
		all := streamed.Rest(t)
		if n := len(all); n != 6 || all[5].Text() != "counted 5" {
			t.Errorf("a call that becomes a stream: %v", all)
		}
		if streamed.Last != "" {
			t.Errorf("its events have IDs, and nobody keeps them: %s", streamed.Last)
		}
	}
	// What needs the store.
	initialize := sitetest.NewClient(version)
	initialize.Post(t, here, fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":%q,"capabilities":{},"clientInfo":{"name":"t","version":"1"}}}`, version)).WantBusy(t, "initialize")
	fresh.Post(t, here, `{"jsonrpc":"2.0","method":"notifications/initialized"}`).WantBusy(t, "initialized")
	other := cl.Launch()
	c.Post(t, other, sitetest.Call("x", "fast", `{}`)).WantStatus(t, "a replica that has the store", http.StatusOK)
	other.Tap.Set(sitetest.Away)
	time.Sleep(3 * time.Second) // it forgets the session
	c.Post(t, other, sitetest.Call("x", "fast", `{}`)).WantBusy(t, "a call where the session is not alive")
	c.Post(t, here, sitetest.SetLevel("error")).WantBusy(t, "setLevel")
	c.Post(t, here, sitetest.Subscribe(true)).WantBusy(t, "subscribe")
	c.Get(t, here, "").WantBusy(t, "GET")
	c.Get(t, there, counting.Last).WantBusy(t, "resume elsewhere")
	answer := fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":{"action":"accept","content":{"x":"yes"}}}`, question.ID)
	c.Post(t, here, answer).WantBusy(t, "an answer that must be handed on")
	deleted := sitetest.NewClient(version)
	deleted.Session = c.Session
	if resp, err := deleted.Do(t.Context(), here, http.MethodDelete, "", ""); err != nil || //nolint:bodyclose // it has none
		resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Errorf("DELETE: %v, %v", resp, err)
	}

	for _, s := range cl.Sites {
		s.Tap.Set(sitetest.Open)
	}
	time.Sleep(3 * time.Second)
	if err := ready(); err != nil {
		t.Errorf("Ready after the outage: %v", err)
	}
	// Nothing was half done.
	if got := sitetest.Levels(t, c.Post(t, here, sitetest.Call("log", "log", `{}`))); got == "error" {
		t.Error("the level that was refused is in force")
	}
	_ = there.Server.ResourceUpdated(t.Context(), &mcp.ResourceUpdatedNotificationParams{URI: sitetest.Item})
	fresh.Post(t, there, `{"jsonrpc":"2.0","method":"notifications/initialized"}`).WantStatus(t, "initialized", http.StatusAccepted)
	c.Post(t, here, answer).WantStatus(t, "the answer again", http.StatusAccepted)
	asking.Want(t, "asked yes")
	all := counting.Rest(t)
	for i, m := range all[:len(all)-1] {
		if got := m.Progress(); got != i+2 {
			t.Fatalf("progress %d, want %d: events were lost", got, i+2)
		}
	}
	if got := all[len(all)-1].Text(); got != "counted 100" {
		t.Errorf("the call that ran during the outage: %s", got)
	}
	c.Post(t, there, sitetest.Call("y", "fast", `{}`)).Want(t, "fast")
	c.Get(t, there, counting.Last).WantStatus(t, "resume", http.StatusOK)
	c.Post(t, here, sitetest.SetLevel("error")).WantStatus(t, "setLevel", http.StatusOK)
	l := sitetest.Listen("alone", alone)
	time.Sleep(time.Second)
	if got := l.Heard(); len(got) > 0 {
		t.Errorf("the subscription that was refused is in force: %v", got)
	}
}

// TestRoundTrips counts what calls ask of the store.
func TestRoundTrips(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cl := sitetest.NewCluster(t, 2, sluice.Options{})
		s := cl.Sites[0]
		spent := func() map[string]int {
			time.Sleep(500 * time.Millisecond) // also what is done aside
			n := s.Tap.Spent()
			delete(n, "lease") // by the clock
			return n
		}
		total := func(n map[string]int) (sum int) {
			for _, v := range n {
				sum += v
			}
			return sum
		}
		sitetest.Stateless(t, s, "tools/call", "fast", `"name":"fast","arguments":{}`).Want(t, "fast")
		spent()
		for range 10 {
			sitetest.Stateless(t, s, "tools/call", "fast", `"name":"fast","arguments":{}`).Want(t, "fast")
		}
		sitetest.Stateless(t, s, "tools/call", "count", `"name":"count","arguments":{"n":10,"ms":100}`).Rest(t)
		if n := spent(); total(n) > 0 {
			t.Errorf("calls of 2026-07-28: %v", n)
		}
		for _, version := range sitetest.Revisions {
			c := sitetest.NewClient(version)
			c.Open(t, s, s)
			t.Logf("%s: initialize and initialized: %v", version, spent())
			for range 10 {
				c.Post(t, s, sitetest.Call("f", "fast", `{}`)).Want(t, "fast")
				if n := spent(); total(n) > 0 {
					t.Errorf("%s: a fast call: %v", version, n)
				}
			}
			time.Sleep(5 * time.Second) // an idle session is forgotten
			spent()
			c.Post(t, s, sitetest.Call("f", "fast", `{}`)).Want(t, "fast")
			n := spent()
			t.Logf("%s: the first call of a session that was forgotten: %v", version, n)
			if n["get"] != 1 || total(n)-n["touch"] > 1 { // its time is renewed aside
				t.Errorf("%s: the first call: %v", version, n)
			}
			c.Post(t, s, sitetest.Call("f", "fast", `{}`)).Want(t, "fast")
			if n := spent(); total(n) > 0 {
				t.Errorf("%s: the second call: %v", version, n)
			}
			const events = 20
			c.Post(t, s, sitetest.Call("c", "count", fmt.Sprintf(`{"n":%d,"ms":100}`, events))).Rest(t)
			n = spent()
			t.Logf("%s: a stream of %d messages and a response: %v", version, events, n)
			prime := 0
			if version == wire.Rev1125 {
				prime = 1
			}
			if n["append"] > events+1+prime || total(n)-n["append"] > 2 {
				t.Errorf("%s: a stream of %d messages and a response: %v", version, events, n)
			}
			a := c.Post(t, s, sitetest.Call("q", "count", `{"n":3,"ms":5000}`))
			a.Message(t)
			a.Leave()
			follower := cl.Sites[1]
			a = c.Get(t, follower, a.Last)
			time.Sleep(time.Second)
			follower.Tap.Spent()
			time.Sleep(1900 * time.Millisecond)
			n = follower.Tap.Spent()
			t.Logf("%s: two seconds of following a quiet stream: %v", version, n)
			if delete(n, "lease"); total(n) > 10*4+2 {
				t.Errorf("%s: two seconds of following a quiet stream: %v", version, n)
			}
			a.Rest(t)
			spent()
			c.Post(t, s, sitetest.Call("d", "count", `{"n":200,"ms":0}`)).Rest(t)
			n = spent()
			t.Logf("%s: a stream of 200 messages in a burst: %v", version, n)
			if n["append"] > 20 {
				t.Errorf("%s: a burst is not pipelined: %v", version, n)
			}
		}
	})
}
