package task

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/sluice-mcp/sluice/internal/wire"
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
	timer := time.NewTimer(glance)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-k.owners:
		case <-k.ctx.Done():
			return
		}
		others, err := k.lookAround()
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
	for owner, count := range roster {
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
		if err := k.inherit(k.ctx, owner, count); err != nil {
			return others, err
		}
	}
	return others, nil
}

// inherit goes on with the tasks of a dead replica. What it does can be done again from the start, by any replica.
func (k *Keeper) inherit(ctx context.Context, dead string, count int) error {
	var ids []string
	for n := range count {
		raw, err := k.Store.Get(ctx, pageKey(dead, n))
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		ids = append(ids, strings.Fields(string(raw))...)
	}
	rand.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] }) //nolint:gosec // others are at it, too
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
			if err := k.claim(ctx, id, dead); err != nil && !errors.Is(err, ErrUnknown) {
				mu.Lock()
				defer mu.Unlock()
				worst = err
			}
		})
	}
	all.Wait()
	if worst != nil {
		return worst // and is done again
	}
	for n := range count {
		if err := k.Store.Delete(ctx, pageKey(dead, n)); err != nil {
			return err
		}
	}
	return changeRoster(ctx, k.Store, func(r map[string]int) bool {
		n, there := r[dead]
		if n > count { // it lives after all, and has come by more
			return false
		}
		delete(r, dead)
		return there
	})
}

// claim takes a task over from a dead replica: it is worked on here if it may run again, and ends otherwise.
func (k *Keeper) claim(ctx context.Context, id, dead string) error {
	r, _, err := k.load(ctx, id)
	if err != nil || r.Owner != dead || r.Status.Final() {
		return err
	}
	goesOn := func(r *Record) bool { return r.Repeatable && !r.CancelWanted && r.Claims < maxClaims }
	mine := goesOn(r)
	if mine {
		if err := k.reserve(id, r.Principal, true); err != nil {
			return err
		}
		if err := k.pages.add(ctx, id); err != nil {
			k.release(id, r.Principal)
			return err
		}
	}
	begun := false
	r, err = k.change(ctx, id, func(r *Record) (bool, error) {
		begun = false
		now := time.Now()
		switch {
		case r.Owner != dead || r.Status.Final():
			return false, nil
		case r.expired(now):
		case r.CancelWanted:
			r.finish(Cancelled, now)
		case !goesOn(r) || !mine:
			r.fail(lost(r), now)
		default:
			r.own(k.Name, now)
			begun = true
		}
		return true, nil
	})
	if begun && err == nil {
		k.Log.Info("a task of a lost replica goes on here", "round", r.Round, "claims", r.Claims)
		k.Begin(r, k.Resume(r))
		return nil
	}
	if mine {
		k.pages.remove(id)
		principal := ""
		if r != nil {
			principal = r.Principal
		}
		k.release(id, principal)
	}
	return err
}

// lost is what a client is told of a task that cannot go on.
func lost(r *Record) *wire.Error {
	e := &wire.Error{Code: wire.CodeReplicaLost, Message: "The replica that worked on the task was lost, and its tool is not annotated as safe to run twice: it may have had an effect"}
	if r.Repeatable {
		e.Message = "The replicas that worked on the task were lost, one after the other"
	}
	return e
}

// Doubt mends what has been lost while this replica was out of touch with the others.
func (k *Keeper) Doubt() {
	ctx, cancel := context.WithTimeout(k.ctx, 10*time.Second)
	defer cancel()
	if err := k.pages.again(ctx); err != nil {
		k.Log.Warn("the tasks of this replica are not listed", "error", err)
	}
}
