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
//
// Others may take a living replica for dead, go on with what its pages list, and cross it out. So a page is written by
// compare-and-swap: when it is no longer what it was, the roster is told anew. And who crosses a replica out does so only if the roster
// still says what it said before the pages were read.
type pages struct {
	store   store.Store
	replica string
	shared  bool
	// enlisted is called when the roster has this replica anew.
	enlisted func(context.Context)

	mu   sync.Mutex
	all  []*page
	at   map[string]*page
	turn int // grows when the roster has to be told anew

	// roster is held by who changes what the roster says of this replica. It is a channel because the store is asked meanwhile,
	// and nobody must wait for that longer than it may.
	roster chan struct{}
	listed listing
}

// A listing is what the roster says of a replica.
type listing struct {
	Pages int `json:"pages"`
	Turn  int `json:"turn"` // tells it from what was said before
}

// unsure is a listing of which it is not known whether the roster has it.
var unsure = listing{Pages: -1}

// A page is written by one goroutine at a time. Who comes while it is being written waits for the next writing, which has
// everything that came meanwhile.
type page struct {
	number    int
	version   int // tells what was written last from all before
	ids       []string
	until     time.Time // when the last of its tasks is kept no longer: the store need not keep the page then, whatever has become of us
	now, next *writing
	stored    []byte // what the store has; nil when that is nothing, or not known
}

// A writing is one of a page. err may be read when done is closed.
type writing struct {
	done chan struct{}
	err  error
}

const (
	pageSize  = 128
	rosterKey = "task-owners"
	// emptyTTL is how long a page without tasks is kept: most will have some soon.
	emptyTTL = time.Minute
)

func pageKey(replica string, n int) string { return "task-own:" + replica + ":" + strconv.Itoa(n) }

// add puts a task on a page, and returns when the store has it. Errors: store.ErrUnavailable.
func (p *pages) add(ctx context.Context, id string, until time.Time) error {
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
	if len(g.ids) == 0 || until.After(g.until) {
		g.until = until
	}
	g.ids = append(g.ids, id)
	p.at[id] = g
	w := p.write(g)
	p.mu.Unlock()
	if err := w.wait(ctx); err != nil {
		return err
	}
	return p.enlist(ctx)
}

// wait returns when the page is written.
func (w *writing) wait(ctx context.Context) error {
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
		g.version++
		w, stored, value, ttl := g.now, g.stored, []byte(strconv.Itoa(g.version)+" "+strings.Join(g.ids, " ")), emptyTTL
		if len(g.ids) > 0 {
			ttl = max(ttl, time.Until(g.until))
		}
		p.mu.Unlock()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		anew, err := p.put(ctx, pageKey(p.replica, g.number), stored, value, ttl)
		cancel()
		p.mu.Lock()
		if g.stored = value; err != nil {
			g.stored = nil
		}
		if anew {
			p.turn++
		}
		w.err = err
		close(w.done)
		g.now, g.next = g.next, nil
	}
}

// put writes a page over what the store has of it. anew tells that it may not have been there.
func (p *pages) put(ctx context.Context, key string, stored, value []byte, ttl time.Duration) (anew bool, err error) {
	if stored != nil {
		err = p.store.Swap(ctx, key, stored, value, ttl)
		if !errors.Is(err, store.ErrConflict) && !errors.Is(err, store.ErrNotFound) {
			return false, err
		}
	}
	return true, p.store.Put(ctx, key, value, ttl)
}

// again writes everything anew: the others may have done away with what this replica had.
func (p *pages) again(ctx context.Context) error {
	if !p.shared {
		return nil
	}
	var all []*writing
	p.mu.Lock()
	for _, g := range p.all {
		if len(g.ids) > 0 {
			all = append(all, p.write(g))
		}
	}
	p.turn++
	p.mu.Unlock()
	for _, w := range all {
		if err := w.wait(ctx); err != nil {
			return err
		}
	}
	if len(all) == 0 {
		return nil
	}
	return p.enlist(ctx)
}

// hold waits for its turn at the roster. Errors: store.ErrUnavailable.
func (p *pages) hold(ctx context.Context) error {
	select {
	case p.roster <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("listing an owner of tasks: %w: %w", store.ErrUnavailable, context.Cause(ctx))
	}
}

func (p *pages) letGo() { <-p.roster }

// enlist has the roster know of this replica's pages.
func (p *pages) enlist(ctx context.Context) error {
	if err := p.hold(ctx); err != nil {
		return err
	}
	defer p.letGo()
	p.mu.Lock()
	want := listing{Pages: len(p.all), Turn: p.turn}
	p.mu.Unlock()
	if p.listed == want {
		return nil
	}
	before := p.listed
	p.listed = unsure // until it is known
	err := changeRoster(ctx, p.store, func(r map[string]listing) bool {
		r[p.replica] = want
		return true
	})
	if err != nil {
		return err
	}
	if before.Pages <= 0 {
		p.enlisted(ctx)
	}
	p.listed = want
	return nil
}

// astray reports whether the roster does not say what it should.
func (p *pages) astray(roster map[string]listing) bool {
	select {
	case p.roster <- struct{}{}:
		defer p.letGo()
	default: // it is being changed
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.at) > 0 && (p.listed.Turn != p.turn || roster[p.replica] != p.listed)
}

// retire takes this replica off the roster when it works on nothing, so that nobody looks after it.
func (p *pages) retire(ctx context.Context) error {
	if err := p.hold(ctx); err != nil { // who adds a task now comes after, and is enlisted anew
		return err
	}
	defer p.letGo()
	p.mu.Lock()
	busy := len(p.at) > 0
	p.mu.Unlock()
	if busy || p.listed == (listing{}) {
		return nil
	}
	p.listed = unsure
	err := changeRoster(ctx, p.store, func(r map[string]listing) bool {
		_, there := r[p.replica]
		delete(r, p.replica)
		return there
	})
	if err == nil {
		p.listed = listing{}
	}
	return err
}

func readRoster(ctx context.Context, s store.Store) (map[string]listing, []byte, error) {
	raw, err := s.Get(ctx, rosterKey)
	if errors.Is(err, store.ErrNotFound) {
		return map[string]listing{}, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("reading who works on tasks: %w", err)
	}
	roster := map[string]listing{}
	if err := json.Unmarshal(raw, &roster); err != nil {
		return nil, nil, fmt.Errorf("reading who works on tasks: %w", err)
	}
	return roster, raw, nil
}

func changeRoster(ctx context.Context, s store.Store, f func(map[string]listing) bool) error {
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
