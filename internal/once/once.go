// Package once executes calls that have an idempotency key: of those with the same principal, tool and key one is executed, at one
// of the replicas that share a store. The others get what it says from then on, and its outcome, while it runs and for a time after.
//
// The record of a call is in the store before its handler is called, and its outcome before anybody is told: whoever has an answer
// has the one that all others will get. When the replica dies in between, nobody knows whether the handler has done its work.
// Then the outcome is an error that says so, and stays.
package once

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/sluice-mcp/sluice/internal/engine"
	"github.com/sluice-mcp/sluice/internal/large"
	"github.com/sluice-mcp/sluice/internal/replica"
	"github.com/sluice-mcp/sluice/internal/run"
	"github.com/sluice-mcp/sluice/internal/wire"
	"github.com/sluice-mcp/sluice/store"
)

// Config is what [Calls] are made with. Every field but Replica must be set.
type Config struct {
	Store store.Store
	Log   *slog.Logger
	// Name is this replica's, unique among all that share the store.
	Name string
	// Replica is nil when nobody shares the store.
	Replica *replica.Replica
	// TTL is how long an outcome is kept.
	TTL time.Duration
}

// Calls are those that are executed once. It is safe for concurrent use.
type Calls struct {
	Config
	ctx  context.Context // ends with Close
	stop context.CancelFunc

	mu   sync.Mutex
	here map[string]*execution // by the call's name
}

// New returns calls of which none has been executed here.
func New(c Config) *Calls {
	k := &Calls{Config: c, here: make(map[string]*execution)}
	k.ctx, k.stop = context.WithCancel(context.Background())
	return k
}

// Close leaves what runs here to other replicas, as if this one had died: no outcome is written any more.
func (k *Calls) Close() { k.stop() }

const (
	// runs is how long a call that has not ended is remembered.
	runs = run.KeepOpen
	// poll bounds how often the store is asked for the outcome of a call that runs at another replica.
	firstPoll, longestPoll = 20 * time.Millisecond, 500 * time.Millisecond
)

var (
	errOther     = wire.InvalidParams("Invalid params: the idempotency key was used with other arguments")
	errLost      = &wire.Error{Code: wire.CodeReplicaLost, Message: "The replica that ran this call is gone. It may have done its work: with this idempotency key it will not run again"}
	errCancelled = wire.Internal("The call was cancelled by its client")
	errAway      = &wire.Error{Code: wire.CodeBusy, Message: "Idempotency keys are out of reach: nothing has begun"}
	errUnasked   = wire.Internal("The client lost its connection before it could answer what it was asked in the call")
	errAskAgain  = &wire.Error{Code: wire.CodeBusy, Message: "The client lost its connection before it could answer what it was asked: ask again"}
	errLarge     = wire.Internal("The call has been executed, and its result is larger than what is kept for an idempotency key")
)

// Do executes a call, or returns the outcome of the one that has been executed with its key; r is the run that asks, for a client that may
// leave. What is executed goes on all the same: that is what a key is for.
//
// Errors: those of execute; a [*wire.Error] for a key that was used with other arguments, for a call whose replica was lost, and, with
// wire.CodeBusy, when the store is out of reach and nothing has begun.
func (k *Calls) Do(r *run.Run, c *Call, client *Client, execute func() (json.RawMessage, error)) (json.RawMessage, error) {
	for {
		x, mine := k.enter(c, r)
		switch {
		case mine:
			k.decide(x, c, client, execute)
			k.leave(x)
			return x.result, x.err
		case x.wants != c.wants():
			return nil, errOther
		}
		stop := x.run.Copy(func(data []byte) {
			if m := c.retold(data, x.run, r); m != nil {
				_ = r.Stream.Offer(m) // the outcome is what matters
			}
		})
		select {
		case <-x.done:
		case <-r.Done():
		}
		stop()
		switch {
		case r.Err() != nil:
			return nil, run.ErrCancelled
		case !x.unknown:
			return x.result, x.err
		}
	}
}

// decide finds out what becomes of a call.
func (k *Calls) decide(x *execution, c *Call, client *Client, execute func() (json.RawMessage, error)) {
	for pause := firstPoll; ; pause = min(2*pause, longestPoll) {
		rec, mine, err := k.claim(x.run, x.name, c)
		switch {
		case x.run.Err() != nil && !mine:
			x.nothing(run.ErrCancelled)
			return
		case err != nil: // all who ask meanwhile are told at once: the store may be slow to fail
			x.answer = answer{err: k.told(err)}
			return
		case mine && (x.run.Err() != nil || !client.begin()):
			go k.void(x.name, rec)
			x.nothing(run.ErrCancelled)
			return
		case mine:
			if k.execute(x, rec, c, execute) {
				return
			}
		case rec.Outcome != nil:
			x.answer = k.recall(x.run, rec)
			return
		}
		select {
		case <-time.After(pause):
		case <-x.run.Done():
			x.nothing(run.ErrCancelled)
			return
		}
	}
}

// claim makes this replica the one that executes a call, or returns what is known of it.
func (k *Calls) claim(ctx context.Context, name string, c *Call) (rec record, mine bool, err error) {
	key := recordKey(name)
	next := record{Wants: c.wants(), Owner: k.Name, Mark: rand.Text()}
	err = k.Store.Create(ctx, key, encode(next), runs)
	if err == nil {
		return next, true, nil
	}
	if !errors.Is(err, store.ErrExists) {
		go k.void(name, next) // it may be there
		return rec, false, fmt.Errorf("noting an idempotency key: %w", err)
	}
	raw, err := k.Store.Get(ctx, key)
	if errors.Is(err, store.ErrNotFound) {
		return rec, false, nil // it has just expired
	}
	if err == nil {
		err = json.Unmarshal(raw, &rec)
	}
	if err != nil {
		return rec, false, fmt.Errorf("reading what an idempotency key stands for: %w", err)
	}
	ttl := runs
	switch {
	case rec.Void: // as if it were not there
	case rec.Wants != next.Wants:
		return rec, false, errOther
	case rec.Outcome != nil:
		return rec, false, nil
	case rec.Owner == k.Name: // noted in vain: what is executed here is known here, see enter
	default:
		if k.mayLive(ctx, rec.Owner) {
			return rec, false, nil
		}
		next.Claims = rec.Claims + 1
		if next.Claims > maxClaims || !c.Repeatable() {
			next.Outcome, ttl = &outcome{Err: errLost}, k.TTL
		}
	}
	err = k.Store.Swap(ctx, key, raw, encode(next), ttl)
	switch {
	case err == nil:
		return next, next.Outcome == nil, nil
	case errors.Is(err, store.ErrConflict), errors.Is(err, store.ErrNotFound): // somebody was faster
		return rec, false, nil
	}
	if next.Outcome == nil { // that nobody knows what it has done stays
		go k.void(name, next)
	}
	return rec, false, fmt.Errorf("claiming an idempotency key: %w", err)
}

// mayLive reports whether the replica that executes a call lives, as far as is known: what cannot be found out now can be in a moment.
func (k *Calls) mayLive(ctx context.Context, owner string) bool {
	if k.Replica == nil { // a process that had the store before
		return false
	}
	alive, err := k.Replica.Alive(ctx, owner)
	return alive || err != nil
}

// recall returns a kept outcome.
func (k *Calls) recall(ctx context.Context, rec record) answer {
	if rec.Outcome.Err != nil {
		return answer{err: rec.Outcome.Err}
	}
	result, err := rec.Outcome.Result.Read(ctx, k.Store)
	if errors.Is(err, store.ErrNotFound) {
		return answer{err: errLarge}
	}
	if err != nil {
		return answer{err: k.told(err), unknown: true}
	}
	return answer{result: result}
}

// told is what a client is told of an error before anything has begun.
func (k *Calls) told(err error) error {
	if _, ok := errors.AsType[*wire.Error](err); ok {
		return err
	}
	k.Log.Error("idempotency keys are out of reach", "error", err)
	return errAway
}

// execute calls the handler, and has the outcome kept before anybody is told. It reports false when another replica has taken the call
// over meanwhile.
func (k *Calls) execute(x *execution, rec record, c *Call, execute func() (json.RawMessage, error)) bool {
	result, err := execute()
	free := IsNotBegun(err)
	switch { // a tool may say in its result that it has been cancelled
	case free, err == nil && !wire.IsError(result):
	case x.run.Vain():
		if err, free = errUnasked, c.Repeatable(); free {
			err = errAskAgain
		}
	case x.run.Err() == nil:
	case errors.Is(context.Cause(x.run), run.ErrCancelled):
		err = errCancelled
	default: // the process ends, or another replica has taken the stream over
		err, free = errLost, c.Repeatable()
	}
	if free {
		k.void(x.name, rec)
		x.nothing(err)
		return true
	}
	x.answer = answer{result: result, err: err}
	other, err := k.insist(x, rec, patience, firstTry)
	switch {
	case err != nil:
		k.Log.Warn("the outcome of a call with an idempotency key is not kept yet", "error", err)
		x.unwritten = &rec
	case other != nil: // this replica was thought dead, and others are told something else: there is one truth for a key
		return false
	}
	return true
}

const (
	// writing bounds one try to write to the store.
	writing = 2 * time.Second
	// patience is how long a call that is over waits for the store. Who is told its outcome before it is there may be told the truth alone:
	// if this replica is lost then, all others hear that nobody knows. A store that is away for longer must not cost the call its end.
	patience = 10 * time.Second
	// firstTry is how soon a write is tried again.
	firstTry = 100 * time.Millisecond
)

// keep writes the answer of an execution to the store. It returns another replica's record, if that has taken the call over.
func (k *Calls) keep(x *execution, rec record) (other *record, err error) {
	ctx, cancel := context.WithTimeout(k.ctx, writing)
	defer cancel()
	o := &outcome{}
	switch {
	case x.err != nil:
		o.Err = engine.ToError(x.err)
	case len(x.result) > large.Max:
		o.Err = errLarge
	default: // each try has a log of its own: the last one may have got half of it there
		if o.Result, err = large.Write(ctx, k.Store, "once-out:"+x.name+":"+rand.Text()[:8], x.result, k.TTL); err != nil {
			return nil, err
		}
	}
	next := rec
	next.Outcome = o
	return k.replace(ctx, x.name, rec.Mark, next)
}

// insist tries to keep an answer for a while, with pauses that grow up to the longest.
func (k *Calls) insist(x *execution, rec record, within, longest time.Duration) (other *record, err error) {
	end := time.Now().Add(within)
	for pause := firstTry; ; pause = min(2*pause, longest) {
		other, err = k.keep(x, rec)
		if err == nil || k.ctx.Err() != nil || !time.Now().Before(end) {
			return other, err
		}
		select {
		case <-time.After(pause):
		case <-k.ctx.Done():
		}
	}
}

// void frees a key that this replica may have noted, and has executed nothing for.
func (k *Calls) void(name string, rec record) {
	mark := rec.Mark
	rec.Void, rec.Outcome = true, nil
	for pause := firstTry; pause < time.Minute; pause *= 2 {
		ctx, cancel := context.WithTimeout(k.ctx, writing)
		_, err := k.replace(ctx, name, mark, rec)
		cancel()
		if err == nil {
			return
		}
		select {
		case <-time.After(pause):
		case <-k.ctx.Done():
			return
		}
	}
}

// replace writes a record in the place of that with a mark. It returns the one that it finds there instead, if there is another.
func (k *Calls) replace(ctx context.Context, name, mark string, next record) (other *record, err error) {
	key, ttl := recordKey(name), k.TTL
	for {
		raw, err := k.Store.Get(ctx, key)
		if errors.Is(err, store.ErrNotFound) {
			if next.Void {
				return nil, nil
			}
			err = k.Store.Create(ctx, key, encode(next), ttl) // the store has lost it
			if errors.Is(err, store.ErrExists) {
				continue
			}
			return nil, err
		}
		if err != nil {
			return nil, err
		}
		var have record
		if err := json.Unmarshal(raw, &have); err != nil {
			return nil, err
		}
		if have.Mark != mark {
			return &have, nil
		}
		err = k.Store.Swap(ctx, key, raw, encode(next), ttl)
		if !errors.Is(err, store.ErrConflict) && !errors.Is(err, store.ErrNotFound) {
			return nil, err
		}
	}
}

const noteCancel = "cancel-once"

// Cancel cancels the call with a key, wherever it runs. A call that is unknown or over is no error.
func (k *Calls) Cancel(ctx context.Context, c *Call) {
	k.cancelHere(c.series())
	if k.Replica == nil {
		return
	}
	// Also when there is something here: it may only wait for what another replica executes.
	if err := k.Replica.Broadcast(ctx, noteCancel, c.series()); err != nil {
		k.Log.Warn("a call is not cancelled that may run at another replica", "error", err)
	}
}

// Take takes a note of another replica. It reports false for one that is not for calls with keys.
func (k *Calls) Take(n replica.Note) bool {
	if n.Kind != noteCancel {
		return false
	}
	var series string
	if json.Unmarshal(n.Body, &series) == nil {
		k.cancelHere(series)
	}
	return true
}
