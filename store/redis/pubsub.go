package redis

import (
	"context"
	"sync"
	"time"

	"github.com/redis/rueidis"

	"github.com/sluice-mcp/sluice/store"
	"github.com/sluice-mcp/sluice/store/internal/fanout"
)

// A pubsub keeps the connection that all subscriptions share subscribed to what the hub's subscriptions want.
// One goroutine does that, from the first subscription until close, so that
// SUBSCRIBE and UNSUBSCRIBE of one topic never overtake each other and concurrent changes share a round trip.
type pubsub struct {
	client  rueidis.Client
	prefix  string
	timeout time.Duration
	hub     *fanout.Hub
	kick    chan struct{} // there is something in pending
	quit    chan struct{}
	done    chan struct{}

	mu      sync.Mutex
	running bool
	closed  bool
	pending batch
}

// A batch is what has changed since the connection was last brought up to date.
type batch struct {
	topics  map[string]struct{} // subscribed or not: the hub knows
	waiters []chan<- error      // each has room for one
}

func newPubsub(client rueidis.Client, prefix string, timeout time.Duration) *pubsub {
	return &pubsub{
		client: client, prefix: prefix, timeout: timeout, hub: fanout.NewHub(),
		kick: make(chan struct{}, 1), quit: make(chan struct{}), done: make(chan struct{}),
	}
}

func (p *pubsub) channel(topic string) string { return p.prefix + topic }

// settle returns when the server knows that the topics, which the hub has, are subscribed to.
func (p *pubsub) settle(ctx context.Context, topics []string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if len(topics) == 0 {
		return nil
	}
	waiter := make(chan error, 1)
	p.changed(topics, waiter)
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	select {
	case err := <-waiter:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-p.quit:
		return store.ErrClosed
	}
}

// changed makes the goroutine look at topics again. waiter may be nil.
func (p *pubsub) changed(topics []string, waiter chan<- error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || (!p.running && waiter == nil) {
		return
	}
	if p.pending.topics == nil {
		p.pending.topics = make(map[string]struct{}, len(topics))
	}
	for _, t := range topics {
		p.pending.topics[t] = struct{}{}
	}
	if waiter != nil {
		p.pending.waiters = append(p.pending.waiters, waiter)
	}
	if !p.running {
		p.running = true
		go p.run()
	}
	select {
	case p.kick <- struct{}{}:
	default:
	}
}

func (p *pubsub) take() batch {
	select {
	case <-p.kick:
	default:
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	b := p.pending
	p.pending = batch{}
	return b
}

// close ends all subscriptions and waits for the goroutine.
func (p *pubsub) close() {
	p.mu.Lock()
	p.closed = true
	running := p.running
	p.mu.Unlock()
	close(p.quit)
	p.hub.Close()
	if running {
		<-p.done
	}
}

// run connects whenever somebody wants to subscribe, and by itself while there are subscriptions.
func (p *pubsub) run() {
	defer close(p.done)
	const soonest, latest = 50 * time.Millisecond, time.Second
	delay := soonest
	var lost bool
	for {
		if p.serve(lost) {
			lost, delay = true, soonest
		} else {
			delay = min(2*delay, latest)
		}
		if !p.wait(delay) {
			return
		}
	}
}

// wait returns when it is time to connect: at once for a call that waits, after delay for
// subscriptions that are there, else not before somebody subscribes. It reports false when p is closed.
func (p *pubsub) wait(delay time.Duration) bool {
	var again <-chan time.Time
	if len(p.hub.Topics()) > 0 {
		again = time.After(delay)
	}
	for {
		select {
		case <-p.quit:
			return false
		case <-again:
			return true
		case <-p.kick:
			p.mu.Lock()
			waiting := len(p.pending.waiters) > 0
			p.mu.Unlock()
			if waiting {
				return true
			}
		}
	}
}

// serve returns when the connection is lost; it reports whether there was one. When one
// has been lost before, subscriptions are told so as soon as it is replaced.
func (p *pubsub) serve(lost bool) (served bool) {
	conn, _ := p.client.Dedicate()
	defer conn.Close()
	gone := conn.SetPubSubHooks(rueidis.PubSubHooks{OnMessage: p.deliver})

	// In this order: what the batch waits for is then among the hub's topics.
	b := p.take()
	c := &link{conn: conn, pubsub: p, have: make(map[string]struct{})}
	err := c.subscribe(p.hub.Topics())
	if err == nil && lost {
		p.hub.Lost()
	}
	for {
		for _, w := range b.waiters {
			w <- err
		}
		if err != nil {
			return served
		}
		served = true
		select {
		case <-p.quit:
			return served
		case <-gone: //nolint:errcheck // that it is gone is all there is to know
			return served
		case <-p.kick:
			b = p.take()
			err = c.update(b.topics)
		}
	}
}

func (p *pubsub) deliver(m rueidis.PubSubMessage) {
	_, _ = p.hub.Publish(store.Message{Topic: m.Channel[len(p.prefix):], Data: []byte(m.Message)})
}

// A link is one connection and what it is subscribed to.
type link struct {
	*pubsub
	conn rueidis.DedicatedClient
	have map[string]struct{}
}

// update subscribes to those topics that have receivers and unsubscribes from the others.
func (l *link) update(topics map[string]struct{}) error {
	var add, remove []string
	for t := range topics {
		n, _ := l.hub.Receivers(t)
		_, have := l.have[t]
		switch {
		case n > 0 && !have:
			add = append(add, t)
		case n == 0 && have:
			remove = append(remove, t)
		}
	}
	if err := l.subscribe(add); err != nil {
		return err
	}
	return l.unsubscribe(remove)
}

func (l *link) subscribe(topics []string) error {
	if err := l.do(topics, func(channels []string) rueidis.Completed {
		return l.conn.B().Subscribe().Channel(channels...).Build()
	}); err != nil {
		return err
	}
	for _, t := range topics {
		l.have[t] = struct{}{}
	}
	return nil
}

// unsubscribe gives the connection up instead where the server refuses PING, as it does when it cannot write to its disk (MISCONF)
// or has lost its primary (MASTERDOWN): rueidis sends one behind each UNSUBSCRIBE, and panics at a refusal that it does not know.
func (l *link) unsubscribe(topics []string) error {
	if len(topics) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), l.timeout)
	defer cancel()
	if err := l.conn.Do(ctx, l.conn.B().Ping().Build()).Error(); err != nil {
		return err
	}
	if err := l.do(topics, func(channels []string) rueidis.Completed {
		return l.conn.B().Unsubscribe().Channel(channels...).Build()
	}); err != nil {
		return err
	}
	for _, t := range topics {
		delete(l.have, t)
	}
	return nil
}

func (l *link) do(topics []string, command func(channels []string) rueidis.Completed) error {
	if len(topics) == 0 {
		return nil
	}
	channels := make([]string, len(topics))
	for i, t := range topics {
		channels[i] = l.channel(t)
	}
	ctx, cancel := context.WithTimeout(context.Background(), l.timeout)
	defer cancel()
	return l.conn.Do(ctx, command(channels)).Error()
}
