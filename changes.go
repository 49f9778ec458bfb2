package sluice

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"slices"
	"sync"
	"time"

	"github.com/sluice-mcp/sluice/internal/engine"
	"github.com/sluice-mcp/sluice/internal/replica"
	"github.com/sluice-mcp/sluice/internal/session"
	"github.com/sluice-mcp/sluice/internal/wire"
)

// This file carries changes of servers to clients: of lists, and of resources that clients have
// subscribed to; within this replica, and to those of the others.

const (
	noteList     = "changes.list"     // a list of the server has changed
	noteUpdated  = "changes.updated"  // a resource has
	noteInterest = "changes.interest" // resources that clients of the sender have subscribed to
	noteWho      = "changes.who"      // a new replica asks for everybody's interest
)

type changeNote struct {
	Name   string          `json:"name,omitempty"` // of the change, the same at all replicas
	Method string          `json:"method,omitempty"`
	Params json.RawMessage `json:"params,omitempty"`
	URIs   []string        `json:"uris,omitempty"`
}

// A change is one of a server, here or at another replica.
type change struct {
	changeNote
	engine *engine.Engine // of the server; nil: any
	at     time.Time
}

// changed is called when a server of this replica says that something has changed. Listening clients of
// 2026-07-28 here are told by the SDK, on the session that each of them has.
func (h *Handler) changed(e *engine.Engine, method string, params json.RawMessage) {
	c := change{changeNote: changeNote{Method: method, Params: params}, engine: e}
	if h.replica != nil {
		c.Name = rand.Text()
	}
	go func() { // the SDK waits for us, and tells its sessions one after the other
		kind := noteList
		if method == wire.ResourceUpdated {
			kind = noteUpdated
		}
		if h.replica != nil {
			h.changes.remember(c)
			ctx, cancel := context.WithTimeout(h.ctx, 5*time.Second)
			defer cancel()
			if err := h.replica.Broadcast(ctx, kind, c.changeNote); err != nil {
				h.log.Warn("other replicas not told of a change", "method", method, "error", err)
			}
		}
		h.eachSession(c.tell)
	}()
}

// tell tells a session of the change, if it concerns it.
func (c change) tell(s *session.Session) {
	switch {
	case c.engine != nil && s.Engine != c.engine:
	case c.Method != wire.ResourceUpdated:
		s.Changed(c.Name, c.Method)
	case slices.Contains(s.Subscribed(), wire.Unquote(wire.Member(c.Params, "uri"))):
		s.SayAloneIfHere(c.Name, wire.AppendCall(nil, "", c.Method, c.Params))
	}
}

// repeatChanges tells a session, whose own stream has come here, of the changes of the last moments: the replica that it came
// from may be dead, or may have thought that they are said here when they were not yet. What the stream has had it does not say again.
func (h *Handler) repeatChanges(s *session.Session) {
	h.changes.mu.Lock()
	recent := slices.Clone(h.changes.recent)
	h.changes.mu.Unlock()
	for _, c := range recent {
		if time.Since(c.at) < repeatFor {
			c.tell(s)
		}
	}
}

const (
	// repeatFor is as long as it takes that a replica is found dead and its clients have come back.
	repeatFor = 10 * time.Second
	// maxRecent bounds the changes that are remembered.
	maxRecent = 128
)

// remember keeps a change for [Handler.repeatChanges]. It comes before anybody is told.
func (c *changes) remember(change change) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change.at = time.Now()
	c.recent = append(c.recent[max(0, len(c.recent)+1-maxRecent):], change)
}

// tellListeners tells the sessions that only listen what a server says to all of its sessions: those that are connected are
// told one by one.
func (h *Handler) tellListeners(e *engine.Engine, method string, params json.RawMessage) {
	h.sessions.Each(func(s *session.Session) {
		if s.Engine == e {
			s.Overhear(method, params)
		}
	})
}

// closeListeners ends the sessions that only listen, when a server has closed all of its sessions.
func (h *Handler) closeListeners(e *engine.Engine) {
	h.sessions.Each(func(s *session.Session) {
		if s.Engine == e && !s.Connected() {
			go s.Closed()
		}
	})
}

// takeNote takes a note of another replica.
func (h *Handler) takeNote(n replica.Note) {
	if h.sessions.Take(n) {
		return
	}
	var body changeNote
	if err := json.Unmarshal(n.Body, &body); err != nil {
		h.log.Error("unreadable note", "note", n.Kind, "error", err)
		return
	}
	switch n.Kind {
	case noteList, noteUpdated:
		c := change{changeNote: body}
		h.changes.remember(c)
		go h.eachSession(c.tell)
		h.mu.Lock()
		defer h.mu.Unlock()
		for l := range h.listens {
			l.tell(body.Method, body.Params)
		}
	case noteInterest:
		h.changes.want(body.URIs)
	case noteWho:
		h.changes.announce()
	}
}

// doubt mends what lost notes may have left wrong.
func (h *Handler) doubt() {
	h.sessions.Doubt()
	h.changes.announce()
	h.changes.broadcast(noteWho, nil)
}

// changes keeps the watchers of this replica's servers subscribed to the resources that clients of any
// replica are interested in: the SDK tells of a change only those that are subscribed where it happens.
// Interest is announced again and again, and ends when it no longer is.
type changes struct {
	h *Handler

	mu     sync.Mutex
	until  map[string]time.Time // by URI
	recent []change             // oldest first
	timer  *time.Timer
	done   bool
}

const (
	announceEvery = 20 * time.Second
	interestFor   = 3 * announceEvery
)

func (c *changes) start() {
	c.broadcast(noteWho, nil)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.timer = time.AfterFunc(announceEvery, c.tick)
}

func (c *changes) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.done = true
	if c.timer != nil {
		c.timer.Stop()
	}
}

func (c *changes) tick() {
	c.announce()
	now := time.Now()
	c.mu.Lock()
	var over []string
	for uri, until := range c.until {
		if now.After(until) {
			over = append(over, uri)
			delete(c.until, uri)
		}
	}
	if !c.done {
		c.timer.Reset(announceEvery)
	}
	c.mu.Unlock()
	c.subscribe(over, false)
}

// announce tells everybody, this replica too, what the clients here are subscribed to.
func (c *changes) announce() {
	if c.h == nil {
		return // nobody else is there, and the SDK tells its own sessions
	}
	set := make(map[string]bool)
	c.h.eachSession(func(s *session.Session) {
		for _, uri := range s.Subscribed() {
			set[uri] = true
		}
	})
	c.h.mu.Lock()
	for l := range c.h.listens {
		if w := l.wants.Load(); w != nil {
			for _, uri := range w.ResourceSubscriptions {
				set[uri] = true
			}
		}
	}
	c.h.mu.Unlock()
	if len(set) == 0 {
		return
	}
	uris := make([]string, 0, len(set))
	for uri := range set {
		uris = append(uris, uri)
	}
	c.want(uris)
	c.broadcast(noteInterest, uris)
}

// add tells everybody, this replica too, of resources that a client here has subscribed to just now. To announce everything each
// time would let one client cost as much as all have subscribed to.
func (c *changes) add(uris ...string) {
	if c.h == nil {
		return
	}
	c.want(uris)
	c.broadcast(noteInterest, uris)
}

func (c *changes) broadcast(kind string, uris []string) {
	go func() {
		ctx, cancel := context.WithTimeout(c.h.ctx, 5*time.Second)
		defer cancel()
		if err := c.h.replica.Broadcast(ctx, kind, changeNote{URIs: uris}); err != nil {
			c.h.log.Warn("subscriptions not announced", "error", err)
		}
	}()
}

// want notes interest in resources.
func (c *changes) want(uris []string) {
	c.mu.Lock()
	var fresh []string
	if c.until == nil {
		c.until = make(map[string]time.Time)
	}
	for _, uri := range uris {
		if _, known := c.until[uri]; !known {
			fresh = append(fresh, uri)
		}
		c.until[uri] = time.Now().Add(interestFor)
	}
	c.mu.Unlock()
	c.subscribe(fresh, true)
}

func (c *changes) subscribe(uris []string, on bool) {
	if len(uris) == 0 {
		return
	}
	go c.h.engines.each(func(e *engine.Engine) {
		for _, uri := range uris {
			if err := e.WatchResource(c.h.ctx, uri, on); err != nil {
				c.h.log.Info("resource not watched", "uri", uri, "error", err) // a server without subscriptions
			}
		}
	})
}

// subscribeAll subscribes a watcher that has just begun.
func (c *changes) subscribeAll(e *engine.Engine) {
	c.mu.Lock()
	uris := make([]string, 0, len(c.until))
	for uri := range c.until {
		uris = append(uris, uri)
	}
	c.mu.Unlock()
	for _, uri := range uris {
		if err := e.WatchResource(c.h.ctx, uri, true); err != nil {
			c.h.log.Info("resource not watched", "uri", uri, "error", err)
		}
	}
}
