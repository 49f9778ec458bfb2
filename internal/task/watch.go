package task

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sluice-mcp/sluice/store"
)

// A Watch hears that tasks have changed, at any replica.
type Watch struct {
	k   *Keeper
	ids []string

	mu      sync.Mutex
	changed map[string]struct{}
	wake    chan struct{}
}

// Watch begins to watch tasks. Call [Watch.Close] when done with it. Errors: store.ErrUnavailable.
func (k *Keeper) Watch(ctx context.Context, ids []string) (*Watch, error) {
	w := &Watch{k: k, ids: ids, changed: make(map[string]struct{}), wake: make(chan struct{}, 1)}
	topics := make([]string, len(ids))
	for i, id := range ids {
		topics[i] = recordKey(id)
	}
	select {
	case k.subscribing <- struct{}{}:
		defer func() { <-k.subscribing }()
	case <-ctx.Done():
		return nil, fmt.Errorf("watching tasks: %w: %w", store.ErrUnavailable, context.Cause(ctx))
	}
	k.hearing.Lock()
	for _, id := range ids {
		if k.heard[id] == nil {
			k.heard[id] = make(map[*Watch]struct{})
		}
		k.heard[id][w] = struct{}{}
	}
	k.hearing.Unlock()
	if err := k.subscribe(ctx, topics); err != nil {
		k.forget(w)
		return nil, err
	}
	return w, nil
}

// subscribe is called by one goroutine at a time.
func (k *Keeper) subscribe(ctx context.Context, topics []string) error {
	if k.sub != nil {
		return k.sub.Add(ctx, topics...)
	}
	sub, err := k.Store.Subscribe(ctx, topics...)
	if err != nil {
		return err
	}
	if !k.start(func() { k.hear(sub) }) {
		_ = sub.Close()
		return store.ErrUnavailable
	}
	k.sub = sub
	return nil
}

// forget drops a watch, and returns the topics that nobody else watches.
func (k *Keeper) forget(w *Watch) (alone []string) {
	k.hearing.Lock()
	defer k.hearing.Unlock()
	for _, id := range w.ids {
		if delete(k.heard[id], w); len(k.heard[id]) == 0 {
			delete(k.heard, id)
			alone = append(alone, recordKey(id))
		}
	}
	return alone
}

// Close ends the watch. It takes no longer than a moment.
func (w *Watch) Close() {
	k := w.k
	alone := k.forget(w)
	if len(alone) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	select {
	case k.subscribing <- struct{}{}:
		defer func() { <-k.subscribing }()
	case <-ctx.Done():
		return // what is heard for nobody is dropped
	}
	k.hearing.Lock()
	alone = slices.DeleteFunc(alone, func(topic string) bool { // who has come meanwhile needs it
		return k.heard[strings.TrimPrefix(topic, recordKey(""))] != nil
	})
	k.hearing.Unlock()
	if len(alone) > 0 {
		_ = k.sub.Remove(ctx, alone...)
	}
}

// C has an element when [Watch.Changed] may have something.
func (w *Watch) C() <-chan struct{} { return w.wake }

// Changed returns the tasks that have changed since it was last asked.
func (w *Watch) Changed() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	ids := slices.Sorted(maps.Keys(w.changed))
	clear(w.changed)
	return ids
}

func (w *Watch) note(id string) {
	w.mu.Lock()
	w.changed[id] = struct{}{}
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// hear hands on what the bus brings, until the keeper is closed.
func (k *Keeper) hear(sub store.Subscription) {
	defer sub.Close()
	for {
		select {
		case m, ok := <-sub.C():
			if !ok {
				return
			}
			k.hearing.Lock()
			if m.Topic == "" { // something may have been missed
				for id, watches := range k.heard {
					for w := range watches {
						w.note(id)
					}
				}
			}
			id := strings.TrimPrefix(m.Topic, recordKey(""))
			for w := range k.heard[id] {
				w.note(id)
			}
			k.hearing.Unlock()
		case <-k.ctx.Done():
			return
		}
	}
}

// tell tells those who watch a task, at any replica, that it has changed.
func (k *Keeper) tell(id string) {
	ctx, cancel := context.WithTimeout(k.ctx, 2*time.Second)
	defer cancel()
	if _, err := k.Store.Publish(ctx, recordKey(id), nil); err != nil {
		k.Log.Debug("a change of a task is not told", "error", err) // who listens looks again by itself
	}
}
