package changes

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice/internal/engine"
	"github.com/sluice-mcp/sluice/internal/replica"
	"github.com/sluice-mcp/sluice/internal/wire"
	"github.com/sluice-mcp/sluice/store/memory"
)

const toolsChanged = "notifications/tools/list_changed"

// audience notes what it is told.
type audience struct {
	mu         sync.Mutex
	told       []Change
	subscribed []string
}

func (a *audience) Tell(c Change) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.told = append(a.told, c)
}

func (a *audience) Subscribed() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.subscribed
}

func (a *audience) all() []Change {
	synctest.Wait()
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.told)
}

// site is a replica with an audience.
type site struct {
	*Changes
	audience *audience
}

// sites returns n replicas that share a store; they end with the test.
func sites(t *testing.T, n int, subscribed ...string) (all []site) {
	t.Helper()
	shared := memory.New()
	t.Cleanup(func() { _ = shared.Close() })
	log := slog.New(slog.DiscardHandler)
	for i := range n {
		rep := replica.New(shared, log, fmt.Sprint(i), nil)
		s := site{New(rep, log, func(func(*engine.Engine)) {}, nil), &audience{subscribed: subscribed}}
		s.Join(s.audience)
		rep.Start(s.Take, s.Doubt)
		s.Start()
		t.Cleanup(func() { s.Stop(); rep.Stop() })
		all = append(all, s)
	}
	return all
}

// Without other replicas a change reaches every audience of this one, without a name, and is not remembered.
func TestAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := engine.New(nil, nil)
		one, another := &audience{subscribed: []string{"test://a"}}, &audience{}
		c := New(nil, slog.New(slog.DiscardHandler), func(func(*engine.Engine)) { t.Error("watchers are asked to subscribe") }, nil)
		c.Join(one, another)
		c.Start()
		defer c.Stop()
		c.Changed(e, toolsChanged, json.RawMessage(`{}`))
		c.Interested("test://a")
		for _, a := range []*audience{one, another} {
			told := a.all()
			if len(told) != 1 || told[0].Method != toolsChanged || told[0].Engine != e || told[0].Name != "" {
				t.Errorf("told %+v", told)
			}
		}
		if got := c.Recent(); len(got) != 0 {
			t.Errorf("remembers %+v", got)
		}
	})
}

// A change is told once at every replica, by one name; only where it happened is it known whose it is.
func TestEverywhere(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		all := sites(t, 3)
		e := engine.New(nil, nil)
		all[0].Changed(e, toolsChanged, nil)
		time.Sleep(time.Second)
		all[0].Changed(e, wire.ResourceUpdated, json.RawMessage(`{"uri":"test://a"}`))
		var names []string
		for i, s := range all {
			told := s.audience.all()
			if len(told) != 2 || told[0].Method != toolsChanged || told[0].URI() != "" || told[1].URI() != "test://a" {
				t.Fatalf("%d was told %+v", i, told)
			}
			if (told[0].Engine == e) != (i == 0) {
				t.Errorf("%d: engine %v", i, told[0].Engine)
			}
			names = append(names, told[0].Name)
			if told[0].Name == told[1].Name {
				t.Error("two changes have one name")
			}
		}
		if names[0] == "" || len(slices.Compact(names)) != 1 {
			t.Errorf("one change is called %q", names)
		}
	})
}

// Streams that come here find what they may have missed, for a moment, oldest first and not without bound.
func TestRecent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		all := sites(t, 2)
		for i := range maxRecent + 5 {
			all[0].Changed(nil, wire.ResourceUpdated, json.RawMessage(fmt.Sprintf(`{"uri":"test://%d"}`, i)))
			synctest.Wait()
		}
		time.Sleep(repeatFor / 2)
		all[0].Changed(nil, toolsChanged, nil)
		synctest.Wait()
		for i, s := range all {
			recent := s.Recent()
			if len(recent) != maxRecent || recent[0].URI() != "test://6" || recent[maxRecent-1].Method != toolsChanged {
				t.Fatalf("%d remembers %d: %v …", i, len(recent), recent[0].URI())
			}
		}
		time.Sleep(repeatFor / 2)
		for i, s := range all {
			if recent := s.Recent(); len(recent) != 1 || recent[0].Method != toolsChanged {
				t.Errorf("%d still remembers %d", i, len(recent))
			}
		}
		time.Sleep(repeatFor / 2)
		if recent := all[0].Recent(); len(recent) != 0 {
			t.Errorf("still remembers %+v", recent)
		}
	})
}

func (s site) interest() []string {
	synctest.Wait()
	s.interests.mu.Lock()
	defer s.interests.mu.Unlock()
	var uris []string
	for uri := range s.interests.until {
		uris = append(uris, uri)
	}
	slices.Sort(uris)
	return uris
}

// What clients of one replica are subscribed to is known at all, also at one that comes later, and ends with its clients.
func TestInterest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		all := sites(t, 3)
		check := func(when string, want ...string) {
			t.Helper()
			for i, s := range all {
				if got := s.interest(); !slices.Equal(got, want) {
					t.Errorf("%s: %d knows of %v, want %v", when, i, got, want)
				}
			}
		}
		check("at first")
		set := func(uris ...string) {
			a := all[1].audience
			a.mu.Lock()
			defer a.mu.Unlock()
			a.subscribed = uris
		}
		set("test://b", "test://a", "test://b")
		all[1].Interested("test://b")
		check("told of one", "test://b")
		all[2].Doubt() // it may have missed something, and asks
		check("asked", "test://a", "test://b")
		set("test://a")
		time.Sleep(interestFor / 2)
		check("when one has unsubscribed", "test://a", "test://b")
		time.Sleep(interestFor/2 + 2*announceEvery)
		check("a while later", "test://a")
		set()
		time.Sleep(interestFor + 2*announceEvery)
		check("when nobody is left")
	})
}

// The watcher of a server subscribes to what clients of another replica are interested in, and unsubscribes when they no longer
// are: the server tells only those of a change that are subscribed where it happens.
func TestWatcherSubscribes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		shared, log := memory.New(), slog.New(slog.DiscardHandler)
		defer func() { _ = shared.Close() }()
		said := make(chan string, 9)
		server := mcp.NewServer(&mcp.Implementation{Name: "s", Version: "1"}, &mcp.ServerOptions{
			SubscribeHandler: func(_ context.Context, r *mcp.SubscribeRequest) error { said <- "+" + r.Params.URI; return nil },
			UnsubscribeHandler: func(_ context.Context, r *mcp.UnsubscribeRequest) error {
				said <- "-" + r.Params.URI
				return nil
			},
		})
		e := engine.New(server, log)
		defer func() { e.Close(); time.Sleep(time.Minute) }()
		if _, err := e.Watch(func(string, json.RawMessage) {}, nil, nil); err != nil {
			t.Fatal(err)
		}
		rep := replica.New(shared, log, "0", nil)
		c := New(rep, log, func(f func(*engine.Engine)) { f(e) }, nil)
		c.Join(&audience{})
		rep.Start(c.Take, c.Doubt)
		defer rep.Stop()
		c.Start()
		defer c.Stop()
		from := replica.New(shared, log, "1", nil)
		for range 2 { // to be interested again subscribes to nothing again
			if err := from.Broadcast(t.Context(), noteInterest, note{URIs: []string{"test://a"}}); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		time.Sleep(time.Second)
		if got := heard(said); !slices.Equal(got, []string{"+test://a"}) {
			t.Errorf("when somebody is interested: %v", got)
		}
		time.Sleep(interestFor + 2*announceEvery)
		if got := heard(said); !slices.Equal(got, []string{"-test://a"}) {
			t.Errorf("when nobody is any more: %v", got)
		}
	})
}

func heard(c <-chan string) (all []string) {
	for {
		select {
		case s := <-c:
			all = append(all, s)
		default:
			return all
		}
	}
}

// A replica that starts asks for the interest of those that are there.
func TestInterestOfThoseBefore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		all := sites(t, 2, "test://a")
		if got := all[1].interest(); !slices.Equal(got, []string{"test://a"}) {
			t.Errorf("the second knows of %v", got)
		}
	})
}

// A note that cannot be read does no harm, and one of a kind that is another's is left alone.
func TestOddNotes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := sites(t, 1)[0]
		for _, n := range []replica.Note{
			{Kind: noteList, Body: json.RawMessage(`[`)}, {Kind: noteInterest, Body: json.RawMessage(`{"uris":7}`)}, {Kind: "session.end", Body: json.RawMessage(`{}`)},
		} {
			s.Take(n)
		}
		if told, known := s.audience.all(), s.interest(); len(told) != 0 || len(known) != 0 {
			t.Errorf("told %v, knows of %v", told, known)
		}
	})
}
