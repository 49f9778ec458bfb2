package main

import (
	"context"
	"fmt"
	"time"

	"github.com/sluice-mcp/sluice/bench/internal/client"
)

// A scaleRow is what sessions cost a server.
type scaleRow struct {
	Server          string
	Ours            bool
	Idle            float64 // bytes of heap and stacks for each idle session
	IdleGoroutines  float64
	Open            float64 // the same with an open GET stream
	OpenGoroutines  float64
	Asked           float64 // and of a client that can be asked something
	AskedGoroutines float64
	One, Many       float64 // µs of CPU a call with few live sessions and with many
	Left            float64 // bytes a session that was forgotten leaves behind
	LeftGoroutines  float64
}

func (b *bench) compareScale(ctx context.Context) ([]scaleRow, error) {
	var chosen []*server
	for _, s := range b.servers {
		if s.sessions {
			chosen = append(chosen, s)
		}
	}
	b.progress.begin("sessions", 4*len(chosen))
	var rows []scaleRow
	for _, s := range chosen {
		row := scaleRow{Server: s.name, Ours: s.ours}
		for _, measure := range []func(context.Context, *server, *scaleRow) error{b.idleSessions, b.openStreams, b.askedStreams, b.forgotten} {
			if err := measure(ctx, s, &row); err != nil {
				return nil, fmt.Errorf("%s: %w", s.name, err)
			}
			b.progress.step()
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// rested is how long a server gets to put aside what it keeps warm for a client that was just here.
const rested = 4 * time.Second

// weigh returns the memory and the goroutines of a server that is at rest.
func weigh(ctx context.Context, p *process) (bytes, goroutines float64, err error) {
	select {
	case <-time.After(rested):
	case <-ctx.Done():
		return 0, 0, ctx.Err()
	}
	s, err := p.stats(ctx, true)
	return float64(s.Live), float64(s.Goroutines), err
}

// idleSessions opens sessions that nobody uses, and then calls through all of them in turn.
func (b *bench) idleSessions(ctx context.Context, s *server, row *scaleRow) error {
	p, err := b.start(ctx, s)
	if err != nil {
		return err
	}
	defer p.stop()
	c, err := client.Dial(p.addr)
	if err != nil {
		return err
	}
	defer c.Close()
	few, err := openSessions(c, p, client.Sessions, connections)
	if err != nil {
		return err
	}
	fewLoad, err := loadOf(p, few)
	if err != nil {
		return err
	}
	defer fewLoad.close()
	if _, err := fewLoad.run(b.slot); err != nil { // warm-up
		return err
	}
	bytes, goroutines, err := weigh(ctx, p)
	if err != nil {
		return err
	}
	many, err := openSessions(c, p, client.Sessions, b.sessions)
	if err != nil {
		return err
	}
	bytesThen, goroutinesThen, err := weigh(ctx, p)
	if err != nil {
		return err
	}
	row.Idle = (bytesThen - bytes) / float64(b.sessions)
	row.IdleGoroutines = (goroutinesThen - goroutines) / float64(b.sessions)

	manyLoad, err := loadOf(p, many)
	if err != nil {
		return err
	}
	defer manyLoad.close()
	var one, all []float64
	for range b.rounds {
		m, err := fewLoad.measure(ctx, p, b.warmUp, b.slot)
		if err != nil {
			return err
		}
		one = append(one, m.CPU)
		if m, err = manyLoad.measure(ctx, p, b.warmUp, 2*b.slot); err != nil {
			return err
		}
		all = append(all, m.CPU)
	}
	row.One, row.Many = quantile(one, 0.5), quantile(all, 0.5)
	return nil
}

func openSessions(c *client.Conn, p *process, era client.Era, n int) ([]*client.Session, error) {
	list := make([]*client.Session, n)
	for i := range list {
		s, err := client.Open(c, era, p.addr, client.Plain)
		if err != nil {
			return nil, err
		}
		list[i] = s
	}
	return list, nil
}

func (b *bench) openStreams(ctx context.Context, s *server, row *scaleRow) (err error) {
	row.Open, row.OpenGoroutines, err = b.listen(ctx, s, client.Plain)
	return err
}

func (b *bench) askedStreams(ctx context.Context, s *server, row *scaleRow) (err error) {
	row.Asked, row.AskedGoroutines, err = b.listen(ctx, s, client.CanBeAsked)
	return err
}

// listen opens sessions, each with the stream that a client keeps open for what the server may say, and returns what each costs.
func (b *bench) listen(ctx context.Context, s *server, capabilities string) (bytes, goroutines float64, err error) {
	p, err := b.start(ctx, s)
	if err != nil {
		return 0, 0, err
	}
	defer p.stop()
	open := func(n int) error {
		for range n {
			c, err := client.Dial(p.addr)
			if err != nil {
				return err
			}
			b.held = append(b.held, c)
			session, err := client.Open(c, client.Sessions, p.addr, capabilities)
			if err != nil {
				return err
			}
			res, _, err := c.Start(session.Listen())
			if err != nil {
				return err
			}
			if res.Status != 200 || !res.Stream {
				return fmt.Errorf("GET: status %d", res.Status)
			}
		}
		return nil
	}
	defer b.letGo()
	if err := open(10); err != nil {
		return 0, 0, err
	}
	before, goroutinesBefore, err := weigh(ctx, p)
	if err != nil {
		return 0, 0, err
	}
	if err := open(b.streams); err != nil {
		return 0, 0, err
	}
	bytes, goroutines, err = weigh(ctx, p)
	return (bytes - before) / float64(b.streams), (goroutines - goroutinesBefore) / float64(b.streams), err
}

func (b *bench) letGo() {
	for _, c := range b.held {
		_ = c.Close()
	}
	b.held = nil
}

// idleEnd is when servers end sessions in the test of forgetting.
const idleEnd = 10 * time.Second

// forgotten opens sessions, uses each once, and waits until the server has ended them.
func (b *bench) forgotten(ctx context.Context, s *server, row *scaleRow) error {
	p, err := b.start(ctx, s, "-idle", idleEnd.String())
	if err != nil {
		return err
	}
	defer p.stop()
	use := func(n int) error {
		c, err := client.Dial(p.addr)
		if err != nil {
			return err
		}
		defer c.Close()
		for range n {
			session, err := client.Open(c, client.Sessions, p.addr, client.Plain)
			if err != nil {
				return err
			}
			res, err := c.Do(session.Call("add", `{"a":10,"b":5}`, false).Next())
			if err != nil {
				return err
			}
			if _, err := res.Result(); err != nil {
				return err
			}
		}
		return nil
	}
	if err := use(100); err != nil {
		return err
	}
	wait(ctx, 2*idleEnd)
	bytes, goroutines, err := weigh(ctx, p)
	if err != nil {
		return err
	}
	if err := use(b.forget); err != nil {
		return err
	}
	wait(ctx, 2*idleEnd+idleEnd/2)
	bytesThen, goroutinesThen, err := weigh(ctx, p)
	row.Left = (bytesThen - bytes) / float64(b.forget)
	row.LeftGoroutines = (goroutinesThen - goroutines) / float64(b.forget)
	return err
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
