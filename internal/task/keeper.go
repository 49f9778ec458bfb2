package task

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-mcp/sluice/internal/large"
	"github.com/sluice-mcp/sluice/internal/observed"
	"github.com/sluice-mcp/sluice/internal/replica"
	"github.com/sluice-mcp/sluice/internal/wire"
	"github.com/sluice-mcp/sluice/observe"
	"github.com/sluice-mcp/sluice/store"
)

// Errors, some wrapped with context.
var (
	// ErrUnknown: there is no such task, no longer, or it is another principal's. Which one is nothing for a client to know.
	ErrUnknown = errors.New("unknown task")
	// ErrTooLarge: what the task's client or its tool has said in one round is more than a record may have.
	ErrTooLarge = errors.New("more than a task may have to remember")
	// ErrTooMany: this replica works on as many tasks as it may.
	ErrTooMany = errors.New("too many tasks at this server")
	// ErrTooManyOfYours: it works on as many of this principal as it may.
	ErrTooManyOfYours = fmt.Errorf("%w of this client", ErrTooMany)
)

// maxID bounds an ID, in bytes. Ours are shorter, and nobody need look for longer ones.
const maxID = 64

// maxRecord keeps a record below what a value of the store may have, in bytes.
const maxRecord = 900 << 10

// Config is what a [Keeper] is made with. Every field must be set that does not say what nil means.
type Config struct {
	Store store.Store
	Log   *slog.Logger
	// Name is this replica's, unique among all that share the store.
	Name string
	// Replica is nil when nobody shares the store.
	Replica *replica.Replica
	// Resume returns what executes the next round of a task that comes here without a request of its client, because the replica
	// that worked on it is lost.
	Resume func(*Record) Round
	// Max bounds the tasks that this replica works on at a time, MaxPerPrincipal those of one principal other than "".
	Max, MaxPerPrincipal int
	// Observer may be nil: nobody observes.
	Observer observe.Observer
}

// Keeper keeps tasks. It is safe for concurrent use.
type Keeper struct {
	Config
	pages   pages
	ctx     context.Context // ends with Close
	stop    context.CancelFunc
	workers sync.WaitGroup
	owners  chan struct{} // has an element when another replica has begun to work on tasks
	doubts  chan struct{} // has an element when this replica was out of touch with the others
	resting atomic.Bool   // takes nothing over

	mu       sync.Mutex
	working  map[string]*work // by task ID
	handlers int              // that have not returned, also those whose task is over
	by       map[string]int   // handlers, by principal
	leaving  bool
	idle     chan struct{} // closed when no work is left; nil while nobody waits

	subscribing chan struct{} // held by who changes what sub has; a channel, because the store is asked meanwhile
	sub         store.Subscription
	hearing     sync.Mutex
	heard       map[string]map[*Watch]struct{} // by task ID
}

// New returns a keeper that works on nothing yet.
func New(c Config) *Keeper {
	k := &Keeper{
		Config: c, working: make(map[string]*work), by: make(map[string]int), heard: make(map[string]map[*Watch]struct{}),
		owners: make(chan struct{}, 1), doubts: make(chan struct{}, 1), subscribing: make(chan struct{}, 1),
	}
	k.ctx, k.stop = context.WithCancel(context.Background())
	k.pages = pages{store: c.Store, replica: c.Name, shared: c.Replica != nil, enlisted: k.tellOwner, roster: make(chan struct{}, 1)}
	return k
}

// Start begins to look after the tasks of lost replicas, which must be known to the others by now.
func (k *Keeper) Start() {
	if k.Replica != nil {
		k.workers.Go(k.watchOwners)
	}
}

// Rest has this replica take nothing over any more, because it is about to leave.
func (k *Keeper) Rest() { k.resting.Store(true) }

// start runs f on a goroutine that Close waits for. It reports false when this replica leaves, and does nothing then.
func (k *Keeper) start(f func()) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.leaving {
		return false
	}
	k.workers.Go(f)
	return true
}

// Close leaves what is being worked on to other replicas, as if this one had died.
func (k *Keeper) Close() {
	k.mu.Lock()
	k.leaving = true
	for _, w := range k.working {
		w.cancel(errLeft)
	}
	k.mu.Unlock()
	k.stop()
	k.workers.Wait()
}

func recordKey(id string) string { return "task:" + id }

// ErrLost is the cause of a round's context when another replica has the task now.
var ErrLost = errors.New("another replica has taken the task over")

// errLeft is that when another one may have it, because this one leaves.
var errLeft = fmt.Errorf("left for other replicas to go on with: %w", ErrLost)

// Create keeps a new task and returns it; r has what its caller knows. It is in the store when it returns, and
// begins with [Keeper.Begin]. Errors: ErrTooMany, ErrTooLarge, store.ErrUnavailable.
func (k *Keeper) Create(ctx context.Context, r *Record, params json.RawMessage) (*Record, error) {
	now := time.Now()
	r.ID, r.Mark = rand.Text(), rand.Text()
	r.Created, r.Updated = now.UnixMilli(), now.UnixMilli()
	r.Status, r.Owner, r.Round = Working, k.Name, 1
	if err := k.reserve(r, false); err != nil {
		return nil, err
	}
	if err := k.create(ctx, r, params); err != nil {
		k.giveBack(r)
		return nil, err
	}
	return r, nil
}

func (k *Keeper) create(ctx context.Context, r *Record, params json.RawMessage) (err error) {
	if len(params) > large.Max { // the log would drop its beginning
		return ErrTooLarge
	}
	if r.Params, err = large.Write(ctx, k.Store, "task-in:"+r.ID, params, r.kept(time.Now())); err != nil {
		return err
	}
	raw, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if len(raw) > maxRecord {
		return ErrTooLarge
	}
	// The page comes with the record and not after it: nobody would look for a task that is on no page.
	paged := make(chan error, 1)
	go func() { paged <- k.pages.add(ctx, r.ID, r.until()) }()
	err = k.Store.Create(ctx, recordKey(r.ID), raw, r.kept(time.Now()))
	if page := <-paged; err == nil {
		err = page
	}
	if err != nil {
		k.pages.remove(r.ID)
		return fmt.Errorf("keeping a task: %w", err)
	}
	k.observe(ctx, r, "")
	return nil
}

// observe tells of a change of a task's status.
func (k *Keeper) observe(ctx context.Context, r *Record, from Status) {
	if k.Observer != nil && r.Status != from {
		k.Observer.Event(ctx, observe.TaskChanged{Task: observed.Name(r.ID), From: string(from), To: string(r.Status)})
	}
}

// Get returns a task of a principal, and its result if it is completed. Errors: ErrUnknown, store.ErrUnavailable.
func (k *Keeper) Get(ctx context.Context, id, principal string) (*Record, json.RawMessage, error) {
	r, err := k.Look(ctx, id, principal)
	if err != nil {
		return nil, nil, err
	}
	result, err := r.Result.Read(ctx, k.Store)
	if errors.Is(err, store.ErrNotFound) {
		err = ErrUnknown
	}
	return r, result, err
}

// Look is [Keeper.Get] without the result, which may be large.
func (k *Keeper) Look(ctx context.Context, id, principal string) (*Record, error) {
	r, _, err := k.load(ctx, id)
	switch {
	case err != nil:
		return nil, err
	case r.Principal != principal:
		return nil, ErrUnknown
	case !k.overdue(r):
		return r, nil
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return k.change(ctx, id, func(r *Record) (bool, error) { return k.overdue(r) && r.expired(time.Now()), nil })
}

// patience is how long a client waits to hear what has become of a change when the store does not say.
const patience = 2 * time.Second

// grace is how far the clocks of replicas may differ before one fails what another works on.
const grace = 5 * time.Second

func (k *Keeper) overdue(r *Record) bool {
	late := time.Duration(0)
	if r.Owner != "" && r.Owner != k.Name {
		late = grace
	}
	return !r.Status.Final() && time.Since(r.ends()) >= late
}

func (k *Keeper) load(ctx context.Context, id string) (*Record, []byte, error) {
	if len(id) > maxID {
		return nil, nil, ErrUnknown
	}
	raw, err := k.Store.Get(ctx, recordKey(id))
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil, ErrUnknown
	}
	if err != nil {
		return nil, nil, fmt.Errorf("reading a task: %w", err)
	}
	r := new(Record)
	if err := json.Unmarshal(raw, r); err != nil {
		return nil, nil, fmt.Errorf("reading a task: %w", err)
	}
	return r, raw, nil
}

// change writes what f makes of a record, which f may be asked several times. When f reports false, nothing is written. It
// returns the record as it is then. Once it has tried to write, it returns when it knows what has become of that, or when ctx ends:
// a record that says what its writer does not know would be nobody's for ever.
func (k *Keeper) change(ctx context.Context, id string, f func(*Record) (bool, error)) (*Record, error) {
	for pause := 10 * time.Millisecond; ; {
		r, raw, err := k.load(ctx, id)
		if err != nil {
			return nil, err
		}
		next := r.clone()
		write, err := f(next)
		if errors.Is(err, errTaking) {
			select {
			case <-time.After(10 * time.Millisecond):
				continue
			case <-ctx.Done():
				return r, store.ErrUnavailable
			}
		}
		if err != nil || !write {
			return r, err
		}
		next.Mark = rand.Text()
		value, err := json.Marshal(next)
		if err != nil {
			return nil, err
		}
		if len(value) > maxRecord {
			return r, ErrTooLarge
		}
		err = k.Store.Swap(ctx, recordKey(id), raw, value, next.kept(time.Now()))
		switch {
		case err == nil:
		case errors.Is(err, store.ErrConflict):
			continue
		case errors.Is(err, store.ErrNotFound):
			return nil, ErrUnknown
		default:
			written, e := k.written(ctx, id, next.Mark)
			if e != nil {
				return nil, fmt.Errorf("changing a task: %w", err)
			}
			if !written { // writing again keeps out what may still be on its way, too
				select {
				case <-time.After(pause): // a store may take no writes and answer reads all the time
					pause = min(2*pause, time.Second)
					continue
				case <-ctx.Done():
					return nil, fmt.Errorf("changing a task: %w", err)
				}
			}
		}
		k.observe(ctx, next, r.Status)
		k.tell(id)
		return next, nil
	}
}

// written finds out whether a write was made of which nothing is known. Errors: ctx's.
func (k *Keeper) written(ctx context.Context, id, mark string) (bool, error) {
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		r, _, err := k.load(ctx, id)
		switch {
		case err == nil:
			return r.Mark == mark, nil
		case errors.Is(err, ErrUnknown):
			return false, nil
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return false, context.Cause(ctx)
		}
	}
}

// Update takes the answers of the client. check refuses one that is not what was asked for; nothing is taken then. The last answer
// that is missing makes this replica work on the task, with round. Errors: ErrUnknown, ErrTooMany,
// store.ErrUnavailable, those of check.
func (k *Keeper) Update(ctx context.Context, id, principal string, answers map[string]json.RawMessage, check func(Ask, json.RawMessage) error, round Round) error {
	done := make(chan error, 1)
	// Once it has begun to take the task, the client's patience is no measure: see change.
	if !k.start(func() { done <- k.update(ctx, id, principal, answers, check, round) }) {
		return store.ErrUnavailable
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("updating a task: %w: %w", store.ErrUnavailable, context.Cause(ctx))
	}
}

func (k *Keeper) update(client context.Context, id, principal string, answers map[string]json.RawMessage, check func(Ask, json.RawMessage) error, round Round) error {
	var reserved *Record
	begun := false
	r, err := k.change(k.ctx, id, func(r *Record) (bool, error) {
		begun = false
		if r.Principal != principal {
			return false, ErrUnknown
		}
		now := time.Now()
		if k.overdue(r) {
			return r.expired(now), nil
		}
		for key, a := range answers {
			if ask, outstanding := r.Asked[key]; outstanding && r.Status == InputRequired {
				if err := check(ask, a); err != nil {
					return false, err
				}
			}
		}
		took, all := r.answer(answers, now)
		if all {
			// A place on this replica's pages comes before the task is its own, or nobody would look for it.
			if reserved == nil {
				if err := k.reserve(r, false); err != nil {
					if client.Err() != nil {
						err = store.ErrUnavailable
					}
					return false, err
				}
				reserved = r
				if err := k.pages.add(k.ctx, id, r.until()); err != nil {
					return false, err
				}
			}
			r.own(k.Name, now)
			r.Round++
			r.Lost = 0
			begun = true
		}
		return took, nil
	})
	switch {
	case err == nil && begun:
		k.Begin(r, round)
	case reserved != nil && k.ctx.Err() == nil:
		k.pages.remove(id)
		k.giveBack(reserved)
	}
	return err
}

const (
	noteCancel = "task.cancel"
	noteOwner  = "task.owner"
)

// tellOwner tells the others that this replica works on tasks from now on.
func (k *Keeper) tellOwner(ctx context.Context) {
	if err := k.Replica.Broadcast(ctx, noteOwner, struct{}{}); err != nil {
		k.Log.Debug("other replicas not told of an owner of tasks", "error", err) // they look by themselves, too
	}
}

type cancelNote struct {
	ID string `json:"id"`
}

// Cancel asks for the end of a task. One that nobody works on ends at once; of another one, the replica that does is told.
// Errors: ErrUnknown, store.ErrUnavailable.
func (k *Keeper) Cancel(ctx context.Context, id, principal string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	r, err := k.change(ctx, id, func(r *Record) (bool, error) {
		switch {
		case r.Principal != principal:
			return false, ErrUnknown
		case r.Status.Final():
			return false, nil
		case r.Owner == "":
			r.finish(Cancelled, time.Now())
			return true, nil
		}
		again := r.CancelWanted
		r.CancelWanted = true
		return !again, nil
	})
	switch {
	case err != nil || r.Status.Final():
		return err
	case r.Owner == k.Name:
		k.cancelHere(id)
		return nil
	case k.Replica == nil:
		return nil
	}
	// When nobody takes the note, the mark still stands: who works on the task, or takes it over, heeds it.
	if _, err := k.Replica.Send(ctx, r.Owner, noteCancel, cancelNote{id}); err != nil {
		k.Log.Warn("a replica is not told that its task is cancelled", "error", err)
	}
	return nil
}

// Take takes a note of another replica, and reports whether it was for tasks.
func (k *Keeper) Take(n replica.Note) bool {
	switch n.Kind {
	case noteCancel:
	case noteOwner:
		select {
		case k.owners <- struct{}{}:
		default:
		}
		return true
	default:
		return false
	}
	var body cancelNote
	if err := json.Unmarshal(n.Body, &body); err != nil {
		k.Log.Error("unreadable note", "note", n.Kind, "error", err)
		return true
	}
	k.cancelHere(body.ID)
	return true
}

// Error is what a client is told of an error of this package.
func Error(err error) *wire.Error {
	switch {
	case errors.Is(err, ErrUnknown):
		return wire.InvalidParams("Invalid params: there is no task with this taskId, or no longer")
	case errors.Is(err, ErrTooLarge):
		return wire.InvalidParams("Invalid params: " + err.Error())
	case errors.Is(err, ErrTooMany):
		return &wire.Error{Code: wire.CodeBusy, Message: err.Error()}
	case errors.Is(err, store.ErrUnavailable):
		return &wire.Error{Code: wire.CodeBusy, Message: "Tasks are out of reach"}
	}
	return wire.Internal("Internal error")
}
