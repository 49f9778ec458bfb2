package task

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sluice-mcp/sluice/internal/observed"
	"github.com/sluice-mcp/sluice/internal/wire"
	"github.com/sluice-mcp/sluice/observe"
	"github.com/sluice-mcp/sluice/store"
)

const (
	// look is how often a replica looks whether those that work on tasks still live, and glance how often when nobody else is known
	// to work on any: who begins to says so, and is heard of sooner.
	look   = time.Second
	glance = 10 * time.Second
	// maxClaims bounds how often a task changes hands: one that kills its process must not kill them all.
	maxClaims = 16
	// atOnce is how many tasks of a lost replica are taken over at a time.
	atOnce = 16
)

// watchOwners takes over the tasks of replicas that are lost. Nobody has to ask for them.
func (k *Keeper) watchOwners() {
	timer := time.NewTimer(look) // all may have been lost before this one began
	defer timer.Stop()
	doubtful := false
	for {
		select {
		case <-timer.C:
		case <-k.owners:
		case <-k.doubts:
			doubtful = true
		case <-k.ctx.Done():
			return
		}
		var err error
		if doubtful {
			err = k.mend(k.ctx)
			doubtful = err != nil
		}
		others := false
		if err == nil {
			others, err = k.lookAround()
		}
		if err != nil && k.ctx.Err() == nil {
			k.Log.Debug("owners of tasks not looked at", "error", err)
		}
		next := look
		if err == nil && !others {
			next = glance
		}
		timer.Reset(next + rand.N(next/8)) //nolint:gosec // not all replicas at the same moment
	}
}

// lookAround looks after the owners of tasks, and reports whether there are others.
func (k *Keeper) lookAround() (others bool, err error) {
	ctx, cancel := context.WithTimeout(k.ctx, 10*time.Second)
	defer cancel()
	if err := k.pages.retire(ctx); err != nil {
		return false, err
	}
	roster, _, err := readRoster(ctx, k.Store)
	if err != nil {
		return false, err
	}
	if k.pages.astray(roster) {
		if err := k.pages.again(ctx); err != nil {
			return true, err
		}
	}
	if k.resting.Load() {
		return false, nil
	}
	for owner, listed := range roster {
		if owner == k.Name {
			continue
		}
		others = true
		alive, err := k.Replica.Alive(ctx, owner)
		if err != nil {
			return others, err
		}
		if alive {
			continue
		}
		if err := k.inherit(k.ctx, owner, listed); err != nil {
			return others, err
		}
	}
	return others, nil
}

// inherit goes on with the tasks of a dead replica. What it does can be done again from the start, by any replica.
func (k *Keeper) inherit(ctx context.Context, dead string, listed listing) error {
	var ids []string
	written := make([][]byte, listed.Pages)
	for n := range written {
		raw, err := k.Store.Get(ctx, pageKey(dead, n))
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		if fields := strings.Fields(string(raw)); len(fields) > 0 { // the first is the page's version
			ids, written[n] = append(ids, fields[1:]...), raw
		}
	}
	rand.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] }) //nolint:gosec // others are at it, too
	err := each(ids, func(id string) error { return k.claim(ctx, id, dead) })
	if err != nil {
		return err // and is done again
	}
	for n, raw := range written {
		if raw == nil {
			continue
		}
		// What has been written since says that it lives after all: it keeps that, and its place.
		err := k.Store.Swap(ctx, pageKey(dead, n), raw, nil, time.Second)
		if errors.Is(err, store.ErrConflict) {
			return nil
		}
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
	}
	return changeRoster(ctx, k.Store, func(r map[string]listing) bool {
		if r[dead] != listed { // another one has been here, or it lives after all, and says so
			return false
		}
		delete(r, dead)
		return true
	})
}

// each calls f for each ID, several at a time, and returns one of the errors. A task that is unknown is none.
func each(ids []string, f func(id string) error) error {
	var (
		all   sync.WaitGroup
		slots = make(chan struct{}, atOnce)
		mu    sync.Mutex
		worst error
	)
	for _, id := range ids {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			if err := f(id); err != nil && !errors.Is(err, ErrUnknown) {
				mu.Lock()
				defer mu.Unlock()
				worst = err
			}
		})
	}
	all.Wait()
	return worst
}

// claim takes a task over from a dead replica: it is worked on here if it may run again, and ends otherwise.
func (k *Keeper) claim(ctx context.Context, id, dead string) error {
	r, _, err := k.load(ctx, id)
	if err != nil || r.Owner != dead || r.Status.Final() {
		return err
	}
	goesOn := func(r *Record) bool { return r.Repeatable && !r.CancelWanted && r.Lost < maxClaims }
	mine := goesOn(r)
	if mine {
		if err := k.reserve(r, true); err != nil {
			return err
		}
		if err := k.pages.add(ctx, id, r.until()); err != nil {
			k.pages.remove(id)
			k.giveBack(r)
			return err
		}
	}
	reserved := r
	begun, ended := false, false
	r, err = k.change(ctx, id, func(r *Record) (bool, error) {
		begun, ended = false, false
		now := time.Now()
		switch {
		case r.Owner != dead || r.Status.Final():
			return false, nil
		case r.expired(now):
		case r.CancelWanted:
			r.finish(Cancelled, now)
		case !goesOn(r) || !mine:
			r.fail(lost(r), now)
			ended = true
		default:
			r.own(k.Name, now)
			r.Lost++
			begun = true
		}
		return true, nil
	})
	if begun && err == nil {
		k.Log.Info("a task of a lost replica goes on here", "round", r.Round, "claims", r.Claims)
		observed.Tell(ctx, k.Observer, observe.Takeover{Task: observed.Name(id), Stage: observe.Won, Claim: r.Claims, Repeated: 1})
		k.Begin(r, k.Resume(r))
		return nil
	}
	if ended && err == nil {
		observed.Tell(ctx, k.Observer, observe.Takeover{Task: observed.Name(id), Stage: observe.Won, Claim: r.Claims + 1, Lost: 1})
		k.observeLost(ctx, r)
	}
	if mine && ctx.Err() == nil {
		k.pages.remove(id)
		k.giveBack(reserved)
	}
	return err
}

// observeLost tells of a round whose replica was lost, and with it the task.
func (k *Keeper) observeLost(ctx context.Context, r *Record) {
	if k.Observer == nil {
		return
	}
	_, end := k.Observer.Call(ctx, r.Call(r.Claims+1))
	end(observe.End{Outcome: observe.Lost, Code: r.Error.Code, Shape: observe.Task})
}

// lost is what a client is told of a task that cannot go on.
func lost(r *Record) *wire.Error {
	e := &wire.Error{Code: wire.CodeReplicaLost, Message: "The replica that worked on the task was lost, and its tool is not annotated as safe to run twice: it may have had an effect"}
	if r.Repeatable {
		e.Message = "The replicas that worked on the task were lost, one after the other"
	}
	return e
}

// Doubt has this replica look after what may have been lost while it was out of touch with the others. It does not wait.
func (k *Keeper) Doubt() {
	select {
	case k.doubts <- struct{}{}:
	default:
	}
}

// mend writes the pages anew, which others may have done away with, and gives up tasks that are theirs now: a handler that says nothing
// would not hear of it before its end.
func (k *Keeper) mend(ctx context.Context) error {
	if err := k.pages.again(ctx); err != nil {
		return err
	}
	k.mu.Lock()
	here := make(map[string]*work, len(k.working))
	for id, w := range k.working {
		if w.record != nil {
			here[id] = w
		}
	}
	k.mu.Unlock()
	return each(slices.Collect(maps.Keys(here)), func(id string) error {
		r, _, err := k.load(ctx, id)
		switch w := here[id]; {
		case errors.Is(err, ErrUnknown):
			w.cancel(ErrLost)
		case err != nil:
		case r.Status.Final() || r.Owner != k.Name || r.Claims != w.record.Claims:
			w.cancel(ErrLost)
		case r.CancelWanted:
			w.cancel(ErrCancelled)
		}
		return err
	})
}
