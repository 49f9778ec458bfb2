// Package changes carries changes of servers to the clients that are to hear of them: that a list has changed, or a resource.
// It does so within this replica and between those that share a store.
//
// It knows neither sessions nor listeners: they are audiences, which say what they are subscribed to and pass changes on.
package changes

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/sluice-mcp/sluice/internal/engine"
	"github.com/sluice-mcp/sluice/internal/observed"
	"github.com/sluice-mcp/sluice/internal/replica"
	"github.com/sluice-mcp/sluice/internal/wire"
	"github.com/sluice-mcp/sluice/observe"
)

// A Change is one of a server, here or at another replica.
type Change struct {
	// Name tells changes apart, the same at all replicas. It is empty when nobody shares the store.
	Name string
	// Method is that of the notification that tells of it, and Params are its params.
	Method string
	Params json.RawMessage
	// Engine is the server's, nil when the change happened at another replica.
	Engine *engine.Engine

	at time.Time
}

// URI is that of the resource that has changed, "" for a change of a list.
func (c Change) URI() string {
	if c.Method != wire.ResourceUpdated {
		return ""
	}
	return wire.Unquote(wire.Member(c.Params, "uri"))
}

// An Audience is a kind of clients of this replica.
type Audience interface {
	// Tell tells those whom the change concerns. It does not wait for them.
	Tell(c Change)
	// Subscribed returns the URIs of the resources that they are subscribed to. They may repeat.
	Subscribed() []string
}

// Changes is where the changes of this replica's servers, and those that other replicas tell of, meet the audiences. Its methods
// are safe for concurrent use.
type Changes struct {
	replica   *replica.Replica // nil when nobody shares the store
	log       *slog.Logger
	interests interests
	audiences []Audience
	observer  observe.Observer // nil: nobody observes

	ctx  context.Context // ends with Stop
	stop context.CancelFunc

	mu     sync.Mutex
	recent []Change // oldest first
}

// New returns changes that reach nobody yet. rep is nil when nobody shares the store; each calls its argument for every
// engine of this replica; o may be nil.
func New(rep *replica.Replica, log *slog.Logger, each func(func(*engine.Engine)), o observe.Observer) *Changes {
	c := &Changes{replica: rep, log: log, observer: o}
	c.ctx, c.stop = context.WithCancel(context.Background())
	c.interests = interests{changes: c, each: each}
	return c
}

// Join names the audiences. It comes before all other methods.
func (c *Changes) Join(audiences ...Audience) { c.audiences = audiences }

// Start begins to exchange interest in resources with the other replicas.
func (c *Changes) Start() {
	if c.replica != nil {
		c.interests.start()
	}
}

// Stop ends what Start began.
func (c *Changes) Stop() {
	c.stop()
	c.interests.stop()
}

const (
	noteList     = "changes.list"     // a list of the server has changed
	noteUpdated  = "changes.updated"  // a resource has
	noteInterest = "changes.interest" // resources that clients of the sender have subscribed to
	noteWho      = "changes.who"      // a new replica asks for everybody's interest
)

// note is what replicas tell each other.
type note struct {
	Name   string          `json:"name,omitempty"`
	Method string          `json:"method,omitempty"`
	Params json.RawMessage `json:"params,omitempty"`
	URIs   []string        `json:"uris,omitempty"`
}

// Changed tells everybody, here and elsewhere, of a change that a server of this replica has told of. It does not wait.
func (c *Changes) Changed(e *engine.Engine, method string, params json.RawMessage) {
	change := Change{Method: method, Params: params, Engine: e}
	if c.replica != nil {
		change.Name = rand.Text()
	}
	go func() { // the SDK waits for us, and tells its sessions one after the other
		if c.replica != nil {
			c.remember(change)
			kind := noteList
			if method == wire.ResourceUpdated {
				kind = noteUpdated
			}
			if err := c.broadcast(kind, note{Name: change.Name, Method: method, Params: params}); err != nil {
				c.log.Warn("other replicas not told of a change", "method", method, "error", err)
			}
		}
		c.tell(change)
	}()
}

func (c *Changes) tell(change Change) {
	observed.Tell(c.ctx, c.observer, observe.ChangeTold{Method: change.Method, Elsewhere: change.Engine == nil})
	for _, a := range c.audiences {
		a.Tell(change)
	}
}

func (c *Changes) broadcast(kind string, n note) error {
	ctx, cancel := context.WithTimeout(c.ctx, 5*time.Second)
	defer cancel()
	return c.replica.Broadcast(ctx, kind, n)
}

const (
	// repeatFor is as long as it takes that a replica is found dead and its clients have come back.
	repeatFor = 10 * time.Second
	// maxRecent bounds the changes that are remembered.
	maxRecent = 128
)

// remember keeps a change for [Changes.Recent]. It comes before anybody is told.
func (c *Changes) remember(change Change) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change.at = time.Now()
	c.recent = append(c.recent[max(0, len(c.recent)+1-maxRecent):], change)
}

// Recent returns the changes of the last moments, oldest first. A stream that has come here from another replica may have missed
// them: that one may be dead, or may have thought that they are said here when they were not yet.
func (c *Changes) Recent() []Change {
	c.mu.Lock()
	recent := slices.Clone(c.recent)
	c.mu.Unlock()
	return slices.DeleteFunc(recent, func(change Change) bool { return time.Since(change.at) >= repeatFor })
}

// Take takes a note of another replica.
func (c *Changes) Take(n replica.Note) {
	var body note
	if err := json.Unmarshal(n.Body, &body); err != nil {
		c.log.Error("unreadable note", "note", n.Kind, "error", err)
		return
	}
	switch n.Kind {
	case noteList, noteUpdated:
		change := Change{Name: body.Name, Method: body.Method, Params: body.Params}
		c.remember(change)
		go c.tell(change)
	case noteInterest:
		c.interests.want(body.URIs)
	case noteWho:
		c.announce()
	}
}
