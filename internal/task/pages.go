package task

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sluice-mcp/sluice/store"
)

// pages is the list of the tasks that this replica works on, for others to go on with when it is lost. The store has no listing: so
// there are pages, which only their replica writes, and one roster of the replicas that have some.
//
// A task is on a page before it is its replica's. An entry whose record says otherwise means nothing.
type pages struct {
	store   store.Store
	replica string
	shared  bool
	// enlisted is called when the roster has this replica anew.
	enlisted func(context.Context)

	mu     sync.Mutex
	all    []*page
	at     map[string]*page
	listed int // pages that the roster knows of
	roster sync.Mutex
}

// A page is written by one goroutine at a time. Who comes while it is being written waits for the next writing, which has
// everything that came meanwhile.
type page struct {
	number    int
	ids       []string
	now, next *writing
}

// A writing is one of a page. err may be read when done is closed.
type writing struct {
	done chan struct{}
	err  error
}

const (
	pageSize  = 128
	rosterKey = "task-owners"
)

func pageKey(replica string, n int) string { return "task-own:" + replica + ":" + strconv.Itoa(n) }

// add puts a task on a page, and returns when the store has it. Errors: store.ErrUnavailable.
func (p *pages) add(ctx context.Context, id string) error {
	if !p.shared {
		return nil
	}
	p.mu.Lock()
	if p.at == nil {
		p.at = make(map[string]*page)
	}
	if p.at[id] != nil {
		p.mu.Unlock()
		return nil
	}
	i := slices.IndexFunc(p.all, func(g *page) bool { return len(g.ids) < pageSize })
	if i < 0 {
		i = len(p.all)
		p.all = append(p.all, &page{number: i})
	}
	g := p.all[i]
	g.ids = append(g.ids, id)
	p.at[id] = g
	count := len(p.all)
	w := p.write(g)
	p.mu.Unlock()
	if err := p.enlist(ctx, count); err != nil {
		return err
	}
	select {
	case <-w.done:
		return w.err
	case <-ctx.Done():
		return fmt.Errorf("listing a task: %w: %w", store.ErrUnavailable, context.Cause(ctx))
	}
}

// remove takes a task off its page. It does not wait: an entry that is left behind means nothing.
func (p *pages) remove(id string) {
	if !p.shared {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	g := p.at[id]
	if g == nil {
		return
	}
	delete(p.at, id)
	g.ids = slices.DeleteFunc(g.ids, func(other string) bool { return other == id })
	p.write(g)
}

// write has a page written as it is now. The mutex is held.
func (p *pages) write(g *page) *writing {
	w := &writing{done: make(chan struct{})}
	switch {
	case g.now == nil:
		g.now = w
		go p.writeOut(g)
	case g.next == nil:
		g.next = w
	default:
		w = g.next
	}
	return w
}

func (p *pages) writeOut(g *page) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for g.now != nil {
		w, value := g.now, []byte(strings.Join(g.ids, " "))
		p.mu.Unlock()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		w.err = p.store.Put(ctx, pageKey(p.replica, g.number), value, 0)
		cancel()
		close(w.done)
		p.mu.Lock()
		g.now, g.next = g.next, nil
	}
}

// again writes everything anew: the others have taken this replica for dead, and done away with what it had.
func (p *pages) again(ctx context.Context) error {
	if !p.shared {
		return nil
	}
	p.mu.Lock()
	for _, g := range p.all {
		p.write(g)
	}
	count := len(p.all)
	p.mu.Unlock()
	if count == 0 {
		return nil
	}
	p.roster.Lock()
	p.listed = 0
	p.roster.Unlock()
	return p.enlist(ctx, count)
}

// enlist has the roster know of this replica's pages.
func (p *pages) enlist(ctx context.Context, count int) error {
	p.roster.Lock()
	defer p.roster.Unlock()
	if p.listed >= count {
		return nil
	}
	err := changeRoster(ctx, p.store, func(r map[string]int) bool {
		r[p.replica] = max(r[p.replica], count)
		return true
	})
	if err != nil {
		return err
	}
	if p.listed == 0 {
		p.enlisted(ctx)
	}
	p.listed = count
	return nil
}

// retire takes this replica off the roster when it works on nothing, so that nobody looks after it.
func (p *pages) retire(ctx context.Context) error {
	p.roster.Lock() // who adds a task now comes after, and is enlisted anew
	defer p.roster.Unlock()
	p.mu.Lock()
	busy := len(p.at) > 0
	p.mu.Unlock()
	if busy || p.listed == 0 {
		return nil
	}
	err := changeRoster(ctx, p.store, func(r map[string]int) bool {
		delete(r, p.replica)
		return true
	})
	if err == nil {
		p.listed = 0
	}
	return err
}

func readRoster(ctx context.Context, s store.Store) (map[string]int, []byte, error) {
	raw, err := s.Get(ctx, rosterKey)
	if errors.Is(err, store.ErrNotFound) {
		return map[string]int{}, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("reading who works on tasks: %w", err)
	}
	roster := map[string]int{}
	if err := json.Unmarshal(raw, &roster); err != nil {
		return nil, nil, fmt.Errorf("reading who works on tasks: %w", err)
	}
	return roster, raw, nil
}

func changeRoster(ctx context.Context, s store.Store, f func(map[string]int) bool) error {
	for {
		roster, old, err := readRoster(ctx, s)
		if err != nil || !f(roster) {
			return err
		}
		value, err := json.Marshal(roster)
		if err != nil {
			return err
		}
		if old == nil {
			err = s.Create(ctx, rosterKey, value, 0)
		} else {
			err = s.Swap(ctx, rosterKey, old, value, 0)
		}
		if err == nil || !errors.Is(err, store.ErrConflict) && !errors.Is(err, store.ErrExists) && !errors.Is(err, store.ErrNotFound) {
			return err
		}
	}
}
