// Package replica owns this process's place among those that share a store: the
// lease that says it lives, the notes that replicas send each other, and the
// answer whether another one still lives. It does not know what the notes mean.
package replica

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/sluice-mcp/sluice/internal/observed"
	"github.com/sluice-mcp/sluice/observe"
	"github.com/sluice-mcp/sluice/store"
)

const (
	// Lease is how long a replica that has fallen silent still counts as alive. One whose process has
	// died is noticed sooner: its subscription goes with its connection.
	Lease = 3 * time.Second
	renew = Lease / 3

	everyone = "replicas"
)

// Note is a message between replicas.
type Note struct {
	From string          `json:"from"`
	Kind string          `json:"kind"`
	Body json.RawMessage `json:"body,omitempty"`
}

// Replica is this process as others see it. Its methods are safe for concurrent use.
type Replica struct {
	ID    string
	store store.Store
	log   *slog.Logger
	take  func(Note)
	lost  func()

	observer observe.Observer // nil: nobody observes

	sub  store.Subscription
	stop context.CancelFunc
	done sync.WaitGroup

	mu      sync.Mutex
	outside error                // why the others do not know of this replica; nil when they do
	dead    map[string]time.Time // peers found without a subscription, and since when
	trouble time.Time            // when the store last failed us, or may have
}

var errOutside = errors.New("not yet known to the other replicas")

// New returns a replica that has not joined the others yet. o may be nil: nobody observes.
func New(s store.Store, log *slog.Logger, id string, o observe.Observer) *Replica {
	return &Replica{ID: id, store: s, log: log, observer: o, stop: func() {}, outside: errOutside, dead: make(map[string]time.Time)}
}

// Start joins the replicas that share the store. take is called for each note from another replica, one
// after the other; lost is called when notes may have been missed. When the store is out of reach, joining is
// tried again in the background, and until it succeeds the replica counts as dead to others.
func (r *Replica) Start(take func(Note), lost func()) {
	r.take, r.lost = take, lost
	ctx, stop := context.WithCancel(context.Background())
	r.stop = stop
	joined := make(chan struct{})
	r.done.Go(func() { r.live(ctx, joined) })
	// A moment for the ordinary case: who uses the replica at once finds it joined.
	select {
	case <-joined:
	case <-time.After(time.Second):
	}
}

func topic(id string) string { return "replica:" + id }

func leaseKey(id string) string { return "lease:" + id }

// live joins, and then takes notes and has the lease renewed until ctx ends.
func (r *Replica) live(ctx context.Context, joined chan struct{}) {
	tick := time.NewTicker(renew)
	defer tick.Stop()
	for {
		err := r.join(ctx)
		if err == nil {
			break
		}
		r.setOutside(fmt.Errorf("%w: %w", errOutside, err))
		r.log.Error("cannot join the other replicas", "error", err)
		select {
		case <-tick.C:
		case <-ctx.Done():
			if r.sub != nil {
				r.leave()
			}
			return
		}
	}
	r.setOutside(nil)
	close(joined)
	var keeping sync.WaitGroup
	defer func() {
		keeping.Wait() // a lease that is renewed late would outlive this replica
		r.leave()
	}()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	keeping.Go(func() { r.keep(ctx) })
	for {
		select {
		case m, ok := <-r.sub.C():
			if !ok {
				return
			}
			r.taken(m)
		case <-ctx.Done():
			return
		}
	}
}

// keep renews the lease. It does nothing else: a note that takes its time must not make a dead replica of this one.
func (r *Replica) keep(ctx context.Context) {
	tick := time.NewTicker(renew)
	defer tick.Stop()
	failing, renewed := false, time.Now()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		begun := time.Now() // the store counts from a moment between this and its answer, which may be long in coming
		err := r.renew(ctx)
		if (err != nil) != failing { // say it once, not every second
			failing = err != nil
			r.log.Warn("lease", "renewed", !failing, "error", err)
		}
		if err == nil {
			if time.Since(renewed) > Lease { // others took this replica for dead, and what it did for theirs
				r.failed()
				go r.lost()
			}
			renewed = begun
		}
	}
}

// join may be called again when it has failed: a subscription that was made is kept, with the notes that it has taken.
func (r *Replica) join(ctx context.Context) error {
	if r.sub == nil {
		sub, err := r.store.Subscribe(ctx, topic(r.ID), everyone)
		if err != nil {
			return err
		}
		r.sub = sub
	}
	return r.renew(ctx)
}

func (r *Replica) renew(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, renew)
	defer cancel()
	err := r.store.Put(ctx, leaseKey(r.ID), []byte("1"), Lease)
	observed.Tell(ctx, r.observer, observe.LeaseRenewed{OK: err == nil})
	if err != nil {
		r.failed()
	}
	return err
}

// Joined returns nil when the others know of this replica, else why they do not.
func (r *Replica) Joined() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.outside
}

func (r *Replica) setOutside(why error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.outside = why
}

func (r *Replica) failed() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.trouble = time.Now()
}

// leave tells the others at once that this replica is gone.
func (r *Replica) leave() {
	_ = r.sub.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = r.store.Delete(ctx, leaseKey(r.ID)) // it ends by itself otherwise
}

func (r *Replica) taken(m store.Message) {
	if m.Topic == "" {
		r.failed()
		r.lost()
		return
	}
	var n Note
	if err := json.Unmarshal(m.Data, &n); err != nil {
		r.log.Error("unreadable note from a replica", "error", err)
		return
	}
	if n.From != r.ID {
		r.take(n)
	}
}

// Stop leaves the replicas. It is idempotent.
func (r *Replica) Stop() {
	r.stop()
	r.done.Wait()
}

// Send sends a note to one replica. It reports false when nobody took it.
func (r *Replica) Send(ctx context.Context, to, kind string, body any) (bool, error) {
	n, err := r.publish(ctx, topic(to), kind, body)
	return n > 0, err
}

// Broadcast sends a note to all others.
func (r *Replica) Broadcast(ctx context.Context, kind string, body any) error {
	_, err := r.publish(ctx, everyone, kind, body)
	return err
}

func (r *Replica) publish(ctx context.Context, topic, kind string, body any) (int, error) {
	raw, err := json.Marshal(body)
	if err != nil {
		return 0, err
	}
	note, err := json.Marshal(Note{From: r.ID, Kind: kind, Body: raw})
	if err != nil {
		return 0, err
	}
	n, err := r.store.Publish(ctx, topic, note)
	observed.Tell(ctx, r.observer, observe.NoteSent{Kind: kind, All: topic == everyone, OK: err == nil && n > 0})
	if err != nil {
		return 0, fmt.Errorf("telling other replicas: %w", err)
	}
	return n, nil
}

const (
	// confirm is how long a replica must be without a subscription to count as dead: a
	// connection to the store that is being mended is not a death.
	confirm = 150 * time.Millisecond
	// forgetSighting bounds the age of the first sighting that confirms.
	forgetSighting = 2 * time.Second
	// settle is how long after trouble with the store nobody counts as dead: the leases of all have run out meanwhile, and
	// their subscriptions come back one after the other.
	settle = renew + time.Second
)

// Alive reports whether another replica lives: it has renewed its lease, and is there to take notes.
// Errors: store.ErrUnavailable; nothing is known then.
func (r *Replica) Alive(ctx context.Context, id string) (bool, error) {
	if id == r.ID {
		return true, nil
	}
	_, err := r.store.Get(ctx, leaseKey(id))
	leased := err == nil
	receivers := 0
	if err == nil || errors.Is(err, store.ErrNotFound) {
		receivers, err = r.store.Receivers(ctx, topic(id))
	}
	if err != nil {
		if ctx.Err() == nil {
			r.failed()
		}
		return false, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case leased && receivers > 0:
		delete(r.dead, id)
		return true, nil
	case time.Since(r.trouble) < settle:
		return true, nil
	case !leased:
		return false, nil
	}
	since, known := r.dead[id]
	if !known || time.Since(since) > forgetSighting {
		if len(r.dead) > 1000 { // replicas come and go over the years
			clear(r.dead)
		}
		r.dead[id] = time.Now()
		return true, nil
	}
	return time.Since(since) < confirm, nil
}
