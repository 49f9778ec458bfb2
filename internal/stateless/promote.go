package stateless

import (
	"context"
	"encoding/json"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-mcp/sluice/internal/engine"
	"github.com/sluice-mcp/sluice/internal/run"
	"github.com/sluice-mcp/sluice/internal/task"
	"github.com/sluice-mcp/sluice/internal/wire"
)

// mayBecomeTask reports whether a call becomes a task when it takes long.
func (p *Endpoint) mayBecomeTask(c *call, hint *engine.TaskHint) bool {
	return p.Tasks != nil && p.Tasks.After > 0 && c.method == "tools/call" && (hint == nil || hint.Mode == "") && c.declaresTasks()
}

// A promotion is a call that is running and may become a task: it is called once, whatever it becomes. One of three comes
// first, and decides: its result, which its client gets as ever; its client leaving, which cancels it; or its time.
type promotion struct {
	run      *run.Run
	injected bool // the client has not asked for progress
	decided  atomic.Int32
	done     chan finished

	mu  sync.Mutex
	say func(string) // once it is a task
}

const (
	ordinary int32 = iota + 1 // the result came first, or the client has left
	promoted
)

// promoteAfter executes a call, and answers with a handle when it takes longer than it may.
func (p *Endpoint) promoteAfter(dst []byte, rn *run.Run, c *call, tool engine.Tool, asked *engine.Call) ([]byte, error) {
	values := run.Outside(rn.Context())
	ctx, cancel := context.WithCancelCause(values)
	m := &promotion{run: rn, injected: c.meta.ProgressToken == nil, done: make(chan finished, 1)}
	context.AfterFunc(rn.Context(), func() { // the run ends with its answer, or with its client
		if m.decided.CompareAndSwap(0, ordinary) {
			cancel(run.ErrCancelled)
		}
	})
	e, extra, params := c.engine, c.extra, asked.Params // the call's room is used again when it has been answered
	record := &task.Record{Principal: c.principal, Round: 1}
	go func() {
		m.done <- p.execute(ctx, e, extra, record, params, &taskOutlet{before: m})
		cancel(nil)
	}()

	timer := time.NewTimer(p.Tasks.After)
	defer timer.Stop()
	select {
	case f := <-m.done:
		return p.stayOrdinary(dst, m, c, f)
	case <-timer.C:
	}
	bound, stop := context.WithTimeout(rn.Context(), time.Second)
	r, err := p.create(bound, c, tool, asked)
	stop()
	if err != nil {
		p.Log.Warn("a long call does not become a task", "error", err)
		return p.stayOrdinary(dst, m, c, <-m.done)
	}
	select {
	case f := <-m.done: // just in time
		p.Tasks.Keeper.Abandon(r)
		return p.stayOrdinary(dst, m, c, f)
	default:
	}
	if !m.decided.CompareAndSwap(0, promoted) {
		p.Tasks.Keeper.Abandon(r)
		return nil, run.ErrCancelled
	}
	p.Tasks.Keeper.Begin(r, func(taskCtx context.Context, r *task.Record, _ json.RawMessage, say func(string)) task.Outcome {
		_, end := p.observeRound(values, r, 0) // the handler runs with the context of the call
		m.promote(say)
		defer context.AfterFunc(taskCtx, func() { cancel(context.Cause(taskCtx)) })()
		o := outcomeOf(e, <-m.done)
		end(taskCtx, o)
		return o
	})
	return p.appendHandle(rn.Context(), dst, c, r), nil
}

// stayOrdinary answers with the result of a call that does not become a task.
func (p *Endpoint) stayOrdinary(dst []byte, m *promotion, c *call, f finished) ([]byte, error) {
	m.decided.CompareAndSwap(0, ordinary)
	if f.err != nil {
		return nil, f.err
	}
	return p.finish(dst, c, f.caps, f.res)
}

func (m *promotion) promote(say func(string)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.say = say
}

// heard takes what the handler says: as notifications to the client while this is a call, as the status message afterwards.
func (m *promotion) heard(ctx context.Context, o engine.Outgoing) error {
	m.mu.Lock()
	say := m.say
	m.mu.Unlock()
	progress := o.Method == "notifications/progress"
	switch {
	case say != nil:
		if progress {
			say(progressText(o.Params))
		}
		return nil
	case o.Method == "notifications/cancelled", progress && m.injected, m.decided.Load() == promoted:
		return nil
	}
	return m.run.Send(ctx, wire.AppendCall(nil, "", o.Method, o.Params))
}
