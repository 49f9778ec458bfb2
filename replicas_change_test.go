package sluice

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice/internal/replica"
	"github.com/sluice-mcp/sluice/internal/run"
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
	changes := map[string]func(s *site){
		"resources/updated": func(s *site) {
			_ = s.server.ResourceUpdated(context.Background(), &mcp.ResourceUpdatedNotificationParams{URI: testItem})
		},
		"tools/list_changed": func(s *site) {
			s.server.AddTool(&mcp.Tool{Name: "new", InputSchema: json.RawMessage(`{"type":"object"}`)}, nil)
		},
	}
	moments := map[string]func(m *move){
		// The old replica knows that the stream is leaving, the new one does not have it yet.
		"claimed": func(m *move) {
			m.to.beforeClaim.Store(new(func() {
				m.change(m.cl.sites[0])
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
			m.change(m.cl.sites[2])
		},
		// The old replica has said it, and word of the change comes to the new one when it has the stream.
		"on its way": func(m *move) {
			m.change(m.cl.sites[0])
			time.Sleep(time.Second)
			note := m.note()
			late := m.cl.launch()
			m.change(late) // it begins with what has changed
			m.come(len(m.cl.sites) - 1)
			time.Sleep(time.Second)
			late.tap.tell(note)
		},
		// The old replica dies, and the client comes back a moment later.
		"dead": func(m *move) {
			m.cl.sites[0].kill()
			m.change(m.cl.sites[2])
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
					m.change(m.cl.sites[2])
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
	cl       *cluster
	from, to *hooked
	change   func(*site)
	c        *client
	now      *listener
	all      []*listener
	notes    store.Subscription
}

func newMove(t *testing.T, change func(*site)) *move {
	m := &move{t: t, cl: newCluster(t, 0, Options{}), change: change, c: newClient(wire.Rev1125)}
	m.from, m.to = &hooked{Store: m.cl.shared}, &hooked{Store: m.cl.shared}
	for _, way := range []store.Store{m.from, m.to, m.cl.shared} {
		m.cl.addOver(way, testServer())
	}
	m.cl.warm()
	m.c.open(t, m.cl.sites[0], m.cl.sites[0])
	m.c.post(t, m.cl.sites[0], subscribe(true)).wantStatus(t, "subscribe", http.StatusOK)
	m.come(0)
	time.Sleep(time.Second)
	var err error
	if m.notes, err = m.cl.shared.Subscribe(t.Context(), "replicas"); err != nil {
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
		last = m.now.a.last
		m.now.a.close()
	}
	a := m.c.get(m.t, m.cl.sites[i], last)
	a.wantStatus(m.t, "GET", http.StatusOK)
	m.now = listenTo("move", a)
	m.all = append(m.all, m.now)
}

func (m *move) heard() (all []string) {
	synctest.Wait()
	for _, l := range m.all {
		all = append(all, l.heard()...)
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
