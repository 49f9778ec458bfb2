package task

import (
	"context"
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
	k.watching.Lock()
	defer k.watching.Unlock()
	if k.sub == nil {
		sub, err := k.Store.Subscribe(ctx, topics...)
		if err != nil {
			return nil, err
		}
		k.sub = sub
		k.workers.Go(func() { k.hear(sub) })
	} else if err := k.sub.Add(ctx, topics...); err != nil {
		return nil, err
	}
	for _, id := range ids {
		if k.heard[id] == nil {
			k.heard[id] = make(map[*Watch]struct{})
		}
		k.heard[id][w] = struct{}{}
	}
	return w, nil
}

// Close ends the watch.
func (w *Watch) Close() {
	k := w.k
	k.watching.Lock()
	defer k.watching.Unlock()
	var alone []string
	for _, id := range w.ids {
		if delete(k.heard[id], w); len(k.heard[id]) == 0 {
			delete(k.heard, id)
			alone = append(alone, recordKey(id))
		}
	}
	if len(alone) > 0 {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = k.sub.Remove(ctx, alone...) // what is heard for nobody is dropped
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
			k.watching.Lock()
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
			k.watching.Unlock()
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
