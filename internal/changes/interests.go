package changes

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/sluice-mcp/sluice/internal/engine"
)

// interests keeps the watchers of this replica's servers subscribed to the resources that clients of any
// replica are interested in: the SDK tells of a change only those that are subscribed where it happens.
// Interest is announced again and again, and ends when it no longer is.
type interests struct {
	changes *Changes
	each    func(func(*engine.Engine))

	mu    sync.Mutex
	until map[string]time.Time // by URI
	timer *time.Timer
	done  bool
}

const (
	announceEvery = 20 * time.Second
	interestFor   = 3 * announceEvery
)

func (i *interests) start() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.changes.spread(noteWho, nil)
	i.timer = time.AfterFunc(announceEvery, i.tick)
}

func (i *interests) stop() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.done = true
	if i.timer != nil {
		i.timer.Stop()
	}
}

func (i *interests) tick() {
	i.changes.announce()
	now := time.Now()
	i.mu.Lock()
	var over []string
	for uri, until := range i.until {
		if now.After(until) {
			over = append(over, uri)
			delete(i.until, uri)
		}
	}
	if !i.done {
		i.timer.Reset(announceEvery)
	}
	i.mu.Unlock()
	i.follow(over)
}

// want notes interest in resources.
func (i *interests) want(uris []string) {
	i.mu.Lock()
	var fresh []string
	if i.until == nil {
		i.until = make(map[string]time.Time)
	}
	for _, uri := range uris {
		if _, known := i.until[uri]; !known {
			fresh = append(fresh, uri)
		}
		i.until[uri] = time.Now().Add(interestFor)
	}
	i.mu.Unlock()
	i.follow(fresh)
}

// follow has the watchers subscribe to resources that somebody is interested in, and unsubscribe from others.
func (i *interests) follow(uris []string) {
	if len(uris) == 0 {
		return
	}
	go i.each(func(e *engine.Engine) { i.watch(e, uris) })
}

func (i *interests) watch(e *engine.Engine, uris []string) {
	for _, uri := range uris {
		// The server's handlers take their time, and interest that ended may be back before they have unsubscribed. Whoever is done
		// last finds what is wanted by then.
		for {
			on := i.wanted(uri)
			if err := e.WatchResource(i.changes.ctx, uri, on); err != nil {
				i.changes.log.Info("resource not watched", "uri", uri, "error", err) // a server without subscriptions
			}
			if i.wanted(uri) == on {
				break
			}
		}
	}
}

func (i *interests) wanted(uri string) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	_, known := i.until[uri]
	return known
}

// Watched subscribes the watcher of an engine that has just begun to be watched.
func (c *Changes) Watched(e *engine.Engine) {
	c.interests.mu.Lock()
	uris := slices.Collect(maps.Keys(c.interests.until))
	c.interests.mu.Unlock()
	c.interests.watch(e, uris)
}

// Interested tells everybody, this replica too, of resources that a client here has subscribed to just now. To announce
// everything each time would let one client cost as much as all have subscribed to.
func (c *Changes) Interested(uris ...string) {
	if c.replica == nil || len(uris) == 0 {
		return // nobody else is there, and the SDK tells its own sessions
	}
	c.interests.want(uris)
	c.spread(noteInterest, uris)
}

// Doubt mends what lost notes may have left wrong.
func (c *Changes) Doubt() {
	c.announce()
	c.spread(noteWho, nil)
}

// announce tells everybody, this replica too, what the clients here are subscribed to.
func (c *Changes) announce() {
	var uris []string
	for _, a := range c.audiences {
		uris = append(uris, a.Subscribed()...)
	}
	slices.Sort(uris)
	c.Interested(slices.Compact(uris)...)
}

func (c *Changes) spread(kind string, uris []string) {
	go func() {
		if err := c.broadcast(kind, note{URIs: uris}); err != nil {
			c.log.Warn("subscriptions not announced", "error", err)
		}
	}()
}
