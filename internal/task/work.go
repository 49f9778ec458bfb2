package task

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"runtime/debug"
	"sync"
	"time"

	"github.com/sluice-mcp/sluice/internal/large"
	"github.com/sluice-mcp/sluice/internal/wire"
	"github.com/sluice-mcp/sluice/store"
)

// A Round executes the work of a task until it ends or asks its client something. It is called once. params are those
// of the call; say makes a text the status message. When ctx ends, the client wants no more, or the time is up.
type Round func(ctx context.Context, r *Record, params json.RawMessage, say func(string)) Outcome

// ErrCancelled is the cause of a round's context when the client has cancelled the task.
var ErrCancelled = errors.New("task cancelled by the client")

var errTooLong = errors.New("the task took longer than its time to live")

// cancelGrace is how long a handler has to come to its end after a cancellation.
const cancelGrace = 5 * time.Second

// errTaking: another request of the client is taking the task, or the round before has just ended and is being put away.
var errTaking = errors.New("the task is being taken")

// work is a round that is executed here.
type work struct {
	k      *Keeper
	id     string
	record *Record // as the round began; nil until then
	ctx    context.Context
	cancel context.CancelCauseFunc

	mu    sync.Mutex
	said  string      // the last, which may not be written yet
	timer *time.Timer // for what was said; nil when nothing waits
	last  time.Time
	over  bool
}

// reserve counts a task that this replica is about to work on, as the record says. force passes the limits. Errors: errTaking, ErrTooMany,
// store.ErrUnavailable when this replica leaves.
func (k *Keeper) reserve(r *Record, force bool) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.leaving:
		return store.ErrUnavailable
	case force:
	case k.handlers >= k.Max:
		return ErrTooMany
	case r.Principal != "" && k.by[r.Principal] >= k.MaxPerPrincipal:
		return ErrTooManyOfYours
	}
	if w := k.working[r.ID]; w != nil {
		if w.record != nil && w.record.Claims < r.Claims { // it is another's since, and has not heard of it
			w.cancel(ErrLost)
		}
		return errTaking
	}
	ctx, cancel := context.WithCancelCause(k.ctx)
	k.working[r.ID] = &work{k: k, id: r.ID, ctx: ctx, cancel: cancel}
	k.handlers++
	if r.Principal != "" {
		k.by[r.Principal]++
	}
	return nil
}

// giveBack undoes reserve.
func (k *Keeper) giveBack(r *Record) {
	k.returned(r.Principal)
	k.release(r.ID)
}

// release ends the work on a task.
func (k *Keeper) release(id string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if w := k.working[id]; w != nil {
		w.cancel(nil)
		delete(k.working, id)
	}
	if len(k.working) == 0 && k.idle != nil {
		close(k.idle)
		k.idle = nil
	}
}

// returned counts a handler that has returned. Until then it is under the limits: one that does not heed its context costs as much as ever,
// whatever has become of its task.
func (k *Keeper) returned(principal string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.handlers--
	if principal != "" {
		if k.by[principal]--; k.by[principal] <= 0 {
			delete(k.by, principal)
		}
	}
}

// Working is how many tasks this replica works on.
func (k *Keeper) Working() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.working)
}

// Idle returns a channel that is closed when this replica works on no task.
func (k *Keeper) Idle() <-chan struct{} {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.idle == nil {
		k.idle = make(chan struct{})
	}
	idle := k.idle
	if len(k.working) == 0 {
		close(idle)
		k.idle = nil
	}
	return idle
}

// Abandon undoes [Keeper.Create] for a client that never got to know of its task.
func (k *Keeper) Abandon(r *Record) {
	ctx, cancel := context.WithTimeout(k.ctx, 5*time.Second)
	defer cancel()
	_ = k.Store.Delete(ctx, recordKey(r.ID)) // it expires otherwise
	r.Params.Drop(ctx, k.Store)
	k.pages.remove(r.ID)
	k.giveBack(r)
}

// Begin executes a round of a task that is this replica's. It does not wait.
func (k *Keeper) Begin(r *Record, round Round) {
	k.mu.Lock()
	w := k.working[r.ID]
	w.record = r
	k.mu.Unlock()
	begun := k.start(func() {
		defer k.release(r.ID)
		w.run(r, round)
	})
	if !begun { // its page stays, so that another replica begins it
		k.giveBack(r)
	}
}

func (k *Keeper) cancelHere(id string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if w := k.working[id]; w != nil {
		w.cancel(ErrCancelled)
	}
}

// run executes the round and writes how it ended.
func (w *work) run(r *Record, round Round) {
	if r.CancelWanted {
		w.cancel(ErrCancelled)
	}
	late := time.AfterFunc(time.Until(r.ends()), func() { w.cancel(errTooLong) })
	defer late.Stop()

	done := make(chan Outcome, 1)
	go func() {
		o := Outcome{Err: handlerFailed()} // unless it returns: a handler may end its goroutine
		defer func() {
			w.k.returned(r.Principal)
			done <- o
		}()
		o = w.execute(r, round)
	}()
	var o Outcome
	returned := false
	select {
	case o = <-done:
		returned = true
	case <-w.ctx.Done():
	}
	// A handler may have returned just because its context has ended. So the cause comes first.
	switch cause := context.Cause(w.ctx); {
	case cause == nil:
	case errors.Is(cause, ErrCancelled):
		if !returned {
			o = w.outlast(done)
		}
	case errors.Is(cause, errTooLong):
		o = Outcome{Err: tooLong()}
	case errors.Is(cause, ErrLost) && !errors.Is(cause, errLeft):
		w.stopTalking()
		w.k.pages.remove(w.id)
		return
	default: // its page stays, so that another replica goes on with it
		w.stopTalking()
		return
	}
	w.finish(o, w.stopTalking())
	w.cancel(nil)
}

// outlast gives a handler that was cancelled its time, and takes what comes in it.
func (w *work) outlast(done <-chan Outcome) Outcome {
	timer := time.NewTimer(cancelGrace)
	defer timer.Stop()
	select {
	case o := <-done:
		return o
	case <-timer.C:
	case <-w.k.ctx.Done(): // nothing can be written any more
	}
	return Outcome{Err: wire.Internal(ErrCancelled.Error())}
}

func (w *work) execute(r *Record, round Round) (o Outcome) {
	defer func() {
		if p := recover(); p != nil { // a handler's own are caught by who calls it; what chooses its server is a program's, too
			w.k.Log.Error("a task panicked", "panic", p, "stack", string(debug.Stack()))
			o = Outcome{Err: handlerFailed()}
		}
	}()
	params, err := w.params(r)
	if err != nil {
		return Outcome{Err: wire.Internal("The parameters of the task are lost")}
	}
	o = round(w.ctx, r, params, w.say)
	if len(o.Result) > large.Max {
		return Outcome{Err: wire.Internal("The result of the task is too large to be kept")}
	}
	return o
}

func handlerFailed() *wire.Error { return wire.Internal("Internal error: the handler failed") }

// params reads those of the call. A store that is away is waited for.
func (w *work) params(r *Record) (json.RawMessage, error) {
	for pause := 100 * time.Millisecond; ; pause = min(2*pause, 5*time.Second) {
		params, err := r.Params.Read(w.ctx, w.k.Store)
		if !errors.Is(err, store.ErrUnavailable) {
			return params, err
		}
		select {
		case <-time.After(pause):
		case <-w.ctx.Done():
			return nil, err
		}
	}
}

// finish writes an outcome, and tries until the task is kept no longer: work that is done must not be lost to an
// outage of the store.
//
// said is what the handler said last, which may not have been written: a round can be over sooner.
func (w *work) finish(o Outcome, said string) {
	var result large.Value
	err := error(nil)
	if o.Err == nil && len(o.Asked) == 0 {
		result, err = w.keep(o.Result)
	}
	if err == nil {
		err = w.write(o, said, result)
	}
	if errors.Is(err, ErrTooLarge) {
		err = w.write(Outcome{Err: wire.Internal("The tool says " + ErrTooLarge.Error())}, said, large.Value{})
	}
	if err == nil || errors.Is(err, ErrUnknown) || errors.Is(err, ErrLost) {
		w.k.pages.remove(w.id) // else it stays, so that another replica goes on with it
	}
}

// insist tries f until it is done, or cannot be, or this replica leaves.
func (w *work) insist(f func(context.Context) error) error {
	k := w.k
	for pause := 100 * time.Millisecond; ; pause = min(2*pause, 5*time.Second) {
		ctx, cancel := context.WithTimeout(k.ctx, 10*time.Second)
		err := f(ctx)
		cancel()
		if err == nil || errors.Is(err, ErrUnknown) || errors.Is(err, ErrLost) || errors.Is(err, ErrTooLarge) {
			return err
		}
		k.Log.Warn("the end of a task is not kept yet", "error", err)
		select {
		case <-time.After(pause):
		case <-k.ctx.Done():
			return err
		}
	}
}

// keep keeps a result where a record can name it.
func (w *work) keep(data json.RawMessage) (result large.Value, err error) {
	ttl := w.record.kept(time.Now()) + time.Duration(w.record.Keep)*time.Millisecond
	err = w.insist(func(ctx context.Context) (err error) {
		log := "task-out:" + w.id + ":" + rand.Text()[:8] // another one each time: who knows what stands in the last
		if result, err = large.Write(ctx, w.k.Store, log, data, ttl); err != nil {
			large.Value{Log: log}.Drop(ctx, w.k.Store)
		}
		return err
	})
	return result, err
}

func (w *work) write(o Outcome, said string, result large.Value) error {
	k := w.k
	params := large.Value{}
	var r *Record
	err := w.insist(func(ctx context.Context) (err error) {
		r, err = k.change(ctx, w.id, func(r *Record) (bool, error) {
			if r.Status.Final() || r.Owner != k.Name || r.Claims != w.record.Claims {
				return false, ErrLost
			}
			params = r.Params
			if said != "" {
				r.Message = said
			}
			r.end(o, result, time.Now())
			return true, nil
		})
		return err
	})
	ctx, cancel := context.WithTimeout(k.ctx, 5*time.Second)
	defer cancel()
	// A result that a record may name must stay: who has lost may have won without hearing of it.
	if errors.Is(err, ErrUnknown) || r != nil && r.Result.Log != result.Log {
		result.Drop(ctx, k.Store)
	}
	if err == nil && r.Status.Final() {
		params.Drop(ctx, k.Store)
	}
	return err
}

// say makes a text the status message, once in a poll interval: nobody looks more often.
func (w *work) say(text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over {
		return
	}
	w.said = shorten(text)
	if w.timer == nil {
		w.timer = time.AfterFunc(time.Until(w.last.Add(time.Second)), w.tell)
	}
}

func (w *work) tell() {
	w.mu.Lock()
	text, over := w.said, w.over
	w.timer, w.last = nil, time.Now()
	w.mu.Unlock()
	if over {
		return
	}
	ctx, cancel := context.WithTimeout(w.ctx, 5*time.Second)
	defer cancel()
	_, err := w.k.change(ctx, w.id, func(r *Record) (bool, error) {
		switch {
		case r.Status.Final() || r.Owner != w.k.Name || r.Claims != w.record.Claims:
			w.cancel(ErrLost)
			return false, ErrLost
		case r.CancelWanted:
			w.cancel(ErrCancelled) // the note may have been lost
			return false, nil
		}
		now := time.Now()
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.over || r.Message == text {
			return false, nil
		}
		r.Message, r.Updated = text, now.UnixMilli()
		return true, nil
	})
	if err != nil && !errors.Is(err, ErrLost) {
		w.k.Log.Debug("a status message is not kept", "error", err)
	}
}

// stopTalking ends the status messages, and returns the last.
func (w *work) stopTalking() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.over = true
	if w.timer != nil {
		w.timer.Stop()
	}
	return w.said
}
