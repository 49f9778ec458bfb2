package session_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice"
	"github.com/sluice-mcp/sluice/internal/replica"
	"github.com/sluice-mcp/sluice/internal/run"
	"github.com/sluice-mcp/sluice/internal/sitetest"
	"github.com/sluice-mcp/sluice/internal/wire"
	"github.com/sluice-mcp/sluice/store"
)

// hooked is a store that stops before or after a call for something else to happen first.
type hooked struct {
	store.Store
	beforeClaim, afterAlone atomic.Pointer[func()] // of a stream's log; of the key that says where the session's own stream is
}

// once calls a hook and takes it away.
func once(hook *atomic.Pointer[func()]) {
	if f := hook.Swap(nil); f != nil {
		(*f)()
	}
}

func (h *hooked) Append(ctx context.Context, log string, at int64, entries [][]byte, b store.Bounds) error {
	if len(entries) == 1 && entries[0][0] == byte(run.Claim) {
		once(&h.beforeClaim)
	}
	return h.Store.Append(ctx, log, at, entries, b)
}

func (h *hooked) Get(ctx context.Context, key string) ([]byte, error) {
	v, err := h.Store.Get(ctx, key)
	if strings.HasPrefix(key, "alone:") {
		once(&h.afterAlone)
	}
	return v, err
}

// TestChangeWhileTheStreamMoves has a change in each moment of a move of the session's own stream: it is told once.
func TestChangeWhileTheStreamMoves(t *testing.T) {
	t.Parallel()
	changes := map[string]func(s *sitetest.Site){
		"resources/updated": func(s *sitetest.Site) {
			_ = s.Server.ResourceUpdated(context.Background(), &mcp.ResourceUpdatedNotificationParams{URI: sitetest.Item})
		},
		"tools/list_changed": func(s *sitetest.Site) {
			s.Server.AddTool(&mcp.Tool{Name: "new", InputSchema: json.RawMessage(`{"type":"object"}`)}, nil)
		},
	}
	moments := map[string]func(m *move){
		// The old replica knows that the stream is leaving, the new one does not have it yet.
		"claimed": func(m *move) {
			m.to.beforeClaim.Store(new(func() {
				m.change(m.cl.Sites[0])
				time.Sleep(time.Second)
			}))
			m.come(1)
		},
		// The old replica has just seen that the stream is its own, and says it too late.
		"taken": func(m *move) {
			m.from.afterAlone.Store(new(func() {
				m.come(1)
				time.Sleep(time.Second)
			}))
			m.change(m.cl.Sites[2])
		},
		// The old replica has said it, and word of the change comes to the new one when it has the stream.
		"on its way": func(m *move) {
			m.change(m.cl.Sites[0])
			time.Sleep(time.Second)
			note := m.note()
			late := m.cl.Launch()
			m.change(late) // it begins with what has changed
			m.come(len(m.cl.Sites) - 1)
			time.Sleep(time.Second)
			late.Tap.Tell(note)
		},
		// The old replica dies, and the client comes back a moment later.
		"dead": func(m *move) {
			m.cl.Sites[0].Kill()
			m.change(m.cl.Sites[2])
			time.Sleep(4 * time.Second)
			m.come(1)
		},
	}
	for what, change := range changes {
		for when, happen := range moments {
			t.Run(what+" "+when, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					m := newMove(t, change)
					happen(m)
					time.Sleep(5 * time.Second)
					if got := m.heard(); !slices.Equal(got, []string{what}) {
						t.Errorf("heard %q, want it once", got)
					}
					// All is as ever afterwards.
					m.change(m.cl.Sites[2])
					time.Sleep(time.Second)
					if what == "resources/updated" {
						if got := m.heard(); !slices.Equal(got, []string{what}) {
							t.Errorf("heard %q of the next change", got)
						}
					}
				})
			})
		}
	}
}

// A move is a client whose own stream goes from the first of three replicas to another one.
type move struct {
	t        *testing.T
	cl       *sitetest.Cluster
	from, to *hooked
	change   func(*sitetest.Site)
	c        *sitetest.Client
	now      *sitetest.Listener
	all      []*sitetest.Listener
	notes    store.Subscription
}

func newMove(t *testing.T, change func(*sitetest.Site)) *move {
	m := &move{t: t, cl: sitetest.NewCluster(t, 0, sluice.Options{}), change: change, c: sitetest.NewClient(wire.Rev1125)}
	m.from, m.to = &hooked{Store: m.cl.Shared}, &hooked{Store: m.cl.Shared}
	for _, way := range []store.Store{m.from, m.to, m.cl.Shared} {
		m.cl.AddOver(way, sitetest.NewServer())
	}
	m.cl.Warm()
	m.c.Open(t, m.cl.Sites[0], m.cl.Sites[0])
	m.c.Post(t, m.cl.Sites[0], sitetest.Subscribe(true)).WantStatus(t, "subscribe", http.StatusOK)
	m.come(0)
	time.Sleep(time.Second)
	var err error
	if m.notes, err = m.cl.Shared.Subscribe(t.Context(), "replicas"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.notes.Close() })
	return m
}

// come leaves the stream where it is and comes back to it elsewhere.
func (m *move) come(i int) {
	last := ""
	if m.now != nil {
		synctest.Wait() // for it to have read what there is
		last = m.now.Response.Last
		m.now.Response.Leave()
	}
	a := m.c.Get(m.t, m.cl.Sites[i], last)
	a.WantStatus(m.t, "GET", http.StatusOK)
	m.now = sitetest.Listen("move", a)
	m.all = append(m.all, m.now)
}

func (m *move) heard() (all []string) {
	synctest.Wait()
	for _, l := range m.all {
		all = append(all, l.Heard()...)
	}
	return all
}

// note returns what was told of the change.
func (m *move) note() store.Message {
	for {
		told := <-m.notes.C()
		var n replica.Note
		if err := json.Unmarshal(told.Data, &n); err != nil {
			m.t.Fatal(err)
		}
		if strings.HasPrefix(n.Kind, "changes.") && n.Kind != "changes.interest" && n.Kind != "changes.who" {
			return told
		}
	}
}

// TestStandaloneStreamMoves opens a session's own stream at one replica and comes back to it at another.
func TestStandaloneStreamMoves(t *testing.T) {
	t.Parallel()
	for _, version := range sitetest.Revisions {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				cl := sitetest.NewCluster(t, 3, sluice.Options{})
				c := sitetest.NewClient(version)
				c.Open(t, cl.Sites[0], cl.Sites[0])
				cl.Warm()
				c.Post(t, cl.Sites[0], sitetest.Subscribe(true)).WantStatus(t, "subscribe", http.StatusOK)
				a := c.Get(t, cl.Sites[0], "")
				time.Sleep(time.Second)
				update := func(i int) {
					_ = cl.Sites[i].Server.ResourceUpdated(t.Context(), &mcp.ResourceUpdatedNotificationParams{URI: sitetest.Item})
					time.Sleep(time.Second)
				}
				heard := func(what string, n int) {
					t.Helper()
					l := sitetest.Listen(what, a)
					time.Sleep(time.Second)
					if got := l.Heard(); len(got) != n {
						t.Errorf("%s: heard %q, want %d", what, got, n)
					}
				}
				update(0)
				if m := a.Message(t); m.Method != "notifications/resources/updated" {
					t.Fatalf("got %s", m.Method)
				}
				a.Leave()
				update(1) // while nobody listens
				update(2)
				last := a.Last
				a = c.Get(t, cl.Sites[1], last)
				a.WantStatus(t, "resume", http.StatusOK)
				// The very moment of the move is in TestChangeWhileTheStreamMoves.
				time.Sleep(time.Second)
				update(2)
				update(1)
				update(0)
				heard("after a move", 5)
				a.Leave()
				a = c.Get(t, cl.Sites[2], last) // all of it again: the client lost it
				heard("after a second move", 5)
			})
		})
	}
}

// TestListenerComesBackLate comes back to a session's own stream that has been given up, or of which nothing is left, as a
// laptop does that was asleep: it must get a stream again on which it hears of changes.
func TestListenerComesBackLate(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		away   time.Duration
		missed int // changes while the stream still took them
	}{
		{"given up", 3 * time.Minute, 0},
		{"given up with something to show", 3 * time.Minute, 2},
		{"log gone", 20 * time.Minute, 2},
	} {
		for _, where := range []string{"alone", "here", "elsewhere"} {
			t.Run(tt.name+" "+where, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					cl := sitetest.NewCluster(t, 2, sluice.Options{})
					first, second := cl.Sites[0], cl.Sites[0]
					switch where {
					case "alone":
						server := sitetest.NewServer()
						first = sitetest.NewAlone(t, sluice.Options{}, func() *mcp.Server { return server })
						first.Server = server
						second = first
					case "elsewhere":
						second = cl.Sites[1]
					}
					c := sitetest.NewClient(wire.Rev1125)
					c.Open(t, first, first)
					a := c.Get(t, first, "")
					l := sitetest.Listen("before", a)
					time.Sleep(time.Second)
					change := func(name string) {
						if second != first && name != "new" { // which has it from the start
							second.Server.AddTool(&mcp.Tool{Name: name, InputSchema: json.RawMessage(`{"type":"object"}`)}, nil)
						}
						first.Server.AddTool(&mcp.Tool{Name: name, InputSchema: json.RawMessage(`{"type":"object"}`)}, nil)
						time.Sleep(time.Second)
					}
					change("seen")
					if got := l.Heard(); len(got) != 1 {
						t.Fatalf("heard %q of one change", got)
					}
					a.Leave()
					time.Sleep(time.Second)
					for i := range tt.missed {
						change(fmt.Sprint("missed ", i))
					}
					time.Sleep(tt.away)

					a = c.Get(t, second, a.Last)
					a.WantStatus(t, "coming back", http.StatusOK)
					l = sitetest.Listen("after", a)
					time.Sleep(time.Second)
					heard := l.Heard()
					if tt.missed > 0 && len(heard) > 0 { // what there was to show; the stream ends with it
						if len(heard) != tt.missed {
							t.Errorf("heard %q, missed %d", heard, tt.missed)
						}
						a = c.Get(t, second, a.Last)
						a.WantStatus(t, "coming back again", http.StatusOK)
						l = sitetest.Listen("after", a)
						time.Sleep(time.Second)
					}
					change("new")
					if got := l.Heard(); len(got) != 1 {
						t.Errorf("heard %q of a change since the client is back", got)
					}
				})
			})
		}
	}
}

// TestStreamComesBackToAnEarlierWriter has a stream come back to a replica that wrote it before another one did, and then loses that
// other one: the first must not take itself for the writer still.
func TestStreamComesBackToAnEarlierWriter(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMove(t, func(s *sitetest.Site) {
			_ = s.Server.ResourceUpdated(context.Background(), &mcp.ResourceUpdatedNotificationParams{URI: sitetest.Item})
			time.Sleep(time.Second)
		})
		for _, at := range []int{1, 0} {
			m.come(at)
			time.Sleep(time.Second)
			m.change(m.cl.Sites[2])
			if got := m.heard(); len(got) != 1 {
				t.Errorf("at %d: heard %q of one change", at, got)
			}
		}
		m.cl.Sites[1].Kill()
		time.Sleep(5 * time.Second)
		m.change(m.cl.Sites[2])
		if got := m.heard(); len(got) != 1 {
			t.Errorf("without the other one: heard %q of one change", got)
		}
	})
}
