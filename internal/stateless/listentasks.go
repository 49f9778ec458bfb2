package stateless

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/sluice-mcp/sluice/internal/task"
	"github.com/sluice-mcp/sluice/internal/wire"
)

// This file is the part of subscriptions/listen that the Tasks extension adds: params.notifications.taskIds.

const (
	// maxTaskIDs bounds the tasks of one subscription.
	maxTaskIDs = 1000
	// lookAgain is how often a task is looked at of which nothing was heard: a change may have been told to nobody.
	lookAgain = 5 * time.Second
)

// taskTeller tells a listener of its tasks.
type taskTeller struct {
	endpoint  *Endpoint
	listen    *listen
	principal string
	ids       []string
	watch     *task.Watch
	told      map[string]string // the mark of what was told last, by task
	over      map[string]bool   // tasks that never change again
}

// watchTasks returns nil for a subscription that asks for no task which its client may see. Others are left out without a word.
func (p *Endpoint) watchTasks(ctx context.Context, l *listen, c *call) (*taskTeller, error) {
	raw := wire.Member(wire.Member(c.raw, "notifications"), "taskIds")
	if raw == nil || p.Tasks == nil {
		return nil, nil
	}
	if !c.declaresTasks() {
		return nil, errUndeclared()
	}
	var asked []string
	if err := json.Unmarshal(raw, &asked); err != nil || len(asked) > maxTaskIDs {
		return nil, wire.InvalidParams("Invalid params: taskIds must be at most 1000 strings")
	}
	t := &taskTeller{endpoint: p, listen: l, principal: c.principal, told: make(map[string]string), over: make(map[string]bool)}
	known := make(map[string]bool, len(asked))
	for _, id := range asked {
		if known[id] {
			continue
		}
		known[id] = true
		_, err := p.Tasks.Keeper.Look(ctx, id, c.principal)
		switch {
		case err == nil:
			t.ids = append(t.ids, id)
		case !errors.Is(err, task.ErrUnknown):
			return nil, p.taskError(ctx, err)
		}
	}
	if len(t.ids) == 0 {
		return nil, nil
	}
	watch, err := p.Tasks.Keeper.Watch(ctx, t.ids) // before the acknowledgement, so that nothing falls between
	if err != nil {
		return nil, p.taskError(ctx, err)
	}
	t.watch = watch
	return t, nil
}

func (t *taskTeller) end() { t.watch.Close() }

// tell tells how the tasks are, once the subscription is acknowledged, and then each time that one has changed.
func (t *taskTeller) tell(ctx context.Context) {
	select {
	case <-t.listen.acknowledged:
	case <-ctx.Done():
		return
	}
	again := time.NewTicker(lookAgain)
	defer again.Stop()
	ids := t.ids
	for {
		for _, id := range ids {
			t.say(ctx, id)
		}
		select {
		case <-t.watch.C():
			ids = t.watch.Changed()
		case <-again.C:
			ids = t.ids
		case <-ctx.Done():
			return
		}
	}
}

// say tells how a task is now, if that has not been told.
func (t *taskTeller) say(ctx context.Context, id string) {
	if t.over[id] {
		return
	}
	r, result, err := t.endpoint.Tasks.Keeper.Get(ctx, id, t.principal)
	if err != nil {
		if errors.Is(err, task.ErrUnknown) {
			t.over[id] = true
		}
		return // it is looked at again
	}
	if t.told[id] == r.Mark {
		return
	}
	meta := wire.SetMembers([]byte("{}"), wire.Pair{Key: wire.MetaSubscriptionID, Value: []byte(t.listen.run.ID)})
	params := wire.SetMembers(r.AppendDetail(nil, result), wire.Pair{Key: "_meta", Value: meta})
	// Nobody else waits for this listener. One that is slow to read hears the later how its tasks are, and a thousand at once do not end it.
	rn := t.listen.run
	if rn.Send(ctx, wire.AppendCall(nil, "", "notifications/tasks", t.listen.restore(params))) == nil {
		t.told[id], t.over[id] = r.Mark, r.Status.Final()
	}
}

// withTasks adds the tasks that were agreed to to an acknowledgement.
func (l *listen) withTasks(params json.RawMessage) json.RawMessage {
	if l.tasks == nil {
		return params
	}
	ids, err := json.Marshal(l.tasks)
	if err != nil { // they are strings
		return params
	}
	agreed := wire.SetMembers(wire.Member(params, "notifications"), wire.Pair{Key: "taskIds", Value: ids})
	return wire.ReplaceMember(params, "notifications", agreed)
}
