package main

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sluice-mcp/sluice/bench/internal/client"
	"github.com/sluice-mcp/sluice/bench/internal/peer"
)

// connections is how many the load comes over.
const connections = 16

// A load is a set of connections that call "add" as fast as the server answers.
type load struct {
	conns []*client.Conn
	calls [][]*client.Call // of each connection, made in turn
}

// newLoad opens a session for each connection.
func newLoad(p *process, era client.Era) (*load, error) {
	c, err := client.Dial(p.addr)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	list, err := openSessions(c, p, era, connections)
	if err != nil {
		return nil, err
	}
	return loadOf(p, list)
}

// loadOf calls in turn through sessions that are open, each on one of the connections.
func loadOf(p *process, list []*client.Session) (*load, error) {
	l := &load{calls: make([][]*client.Call, connections)}
	for i, s := range list {
		at := i % connections
		l.calls[at] = append(l.calls[at], s.Call("add", `{"a":10,"b":5}`, false))
	}
	for range connections {
		c, err := client.Dial(p.addr)
		if err != nil {
			l.close()
			return nil, err
		}
		l.conns = append(l.conns, c)
	}
	return l, nil
}

func (l *load) close() {
	for _, c := range l.conns {
		_ = c.Close()
	}
}

// answer is in every right answer, whatever its shape.
var answer = []byte(`"sum":15`)

// run loads the server for a while and returns how many calls it answered.
func (l *load) run(d time.Duration) (int, error) {
	var group errgroup.Group
	done := make([]int, len(l.conns))
	end := time.Now().Add(d)
	for i, c := range l.conns {
		group.Go(func() error {
			for time.Now().Before(end) {
				calls := l.calls[i]
				res, err := c.Do(calls[done[i]%len(calls)].Next())
				if err != nil {
					return err
				}
				if res.Status != 200 || !bytes.Contains(res.Body, answer) {
					return fmt.Errorf("status %d: %s", res.Status, res.Body)
				}
				done[i]++
			}
			return nil
		})
	}
	err := group.Wait()
	n := 0
	for _, d := range done {
		n += d
	}
	return n, err
}

// A sample is what one round of one server says about a call.
type sample struct {
	CPU     float64 // µs
	PerSec  float64 // calls a second, by the clock on the wall
	Bytes   float64 // allocated, Go programs only
	Objects float64 // allocations
}

// measureCalls loads a server for a while, after it has warmed up.
func measureCalls(ctx context.Context, p *process, era client.Era, warmUp, d time.Duration) (s sample, err error) {
	l, err := newLoad(p, era)
	if err != nil {
		return s, err
	}
	defer l.close()
	return l.measure(ctx, p, warmUp, d)
}

func (l *load) measure(ctx context.Context, p *process, warmUp, d time.Duration) (s sample, err error) {
	if _, err := l.run(warmUp); err != nil {
		return s, err
	}
	var before, after peer.Stats
	if !p.server.node() {
		if before, err = p.stats(ctx, false); err != nil {
			return s, err
		}
	}
	start, err := p.cpu()
	if err != nil {
		return s, err
	}
	began := time.Now()
	calls, err := l.run(d)
	if err != nil {
		return s, err
	}
	wall := time.Since(began)
	end, err := p.cpu()
	if err != nil {
		return s, err
	}
	if !p.server.node() {
		if after, err = p.stats(ctx, false); err != nil {
			return s, err
		}
	}
	n := float64(calls)
	return sample{
		CPU:     (end - start).Seconds() * 1e6 / n,
		PerSec:  n / wall.Seconds(),
		Bytes:   float64(after.TotalAlloc-before.TotalAlloc) / n,
		Objects: float64(after.Mallocs-before.Mallocs) / n,
	}, nil
}

// A callRow is what a server costs in one era.
type callRow struct {
	Server  string
	Era     client.Era
	Ours    bool
	CPU     float64 // µs a call, the median of the rounds
	Ratio   float64 // to the floor of the same round, the median
	Lean    float64 // the same to the lean floor
	Low     float64 // quartiles of the ratio
	High    float64
	Bytes   float64
	Objects float64
	PerSec  float64
}

type callSlot struct {
	p       *process
	era     client.Era
	samples []sample
}

// compareCalls measures the servers in turn, round after round, in both directions: what disturbs the
// machine for a while disturbs all of them.
func (b *bench) compareCalls(ctx context.Context) ([]callRow, error) {
	var slots []*callSlot
	for _, s := range b.servers {
		if s.noCalls {
			continue
		}
		p, err := b.start(ctx, s)
		if err != nil {
			return nil, err
		}
		defer p.stop()
		for _, era := range s.eras {
			if err := check(p, era); err != nil {
				return nil, fmt.Errorf("%s, %s: %w", s.name, era, err)
			}
			if s.node() { // its compiler needs a while to know what is hot
				if _, err := measureCalls(ctx, p, era, b.nodeWarmUp, time.Millisecond); err != nil {
					return nil, fmt.Errorf("%s, %s: %w", s.name, era, err)
				}
			}
			slots = append(slots, &callSlot{p: p, era: era})
		}
	}
	b.progress.begin("calls", b.rounds*len(slots))
	for range b.rounds {
		for _, s := range slots {
			m, err := measureCalls(ctx, s.p, s.era, b.warmUp, b.slot)
			if err != nil {
				return nil, fmt.Errorf("%s, %s: %w", s.p.server.name, s.era, err)
			}
			s.samples = append(s.samples, m)
			b.progress.step()
		}
		slices.Reverse(slots)
	}
	if b.rounds%2 == 1 {
		slices.Reverse(slots)
	}
	return callRows(slots), nil
}

func callRows(slots []*callSlot) []callRow {
	floors, lean := make(map[client.Era]*callSlot), make(map[client.Era]*callSlot)
	for _, s := range slots {
		switch s.p.server {
		case servers[0]:
			floors[s.era] = s
		case servers[1]:
			lean[s.era] = s
		}
	}
	var rows []callRow
	for _, s := range slots {
		var ratios, toLean []float64
		for i, m := range s.samples {
			ratios = append(ratios, m.CPU/floors[s.era].samples[i].CPU)
			toLean = append(toLean, m.CPU/lean[s.era].samples[i].CPU)
		}
		rows = append(rows, callRow{
			Server: s.p.server.name, Era: s.era, Ours: s.p.server.ours,
			CPU:     medianOf(s.samples, func(m sample) float64 { return m.CPU }),
			Bytes:   medianOf(s.samples, func(m sample) float64 { return m.Bytes }),
			Objects: medianOf(s.samples, func(m sample) float64 { return m.Objects }),
			PerSec:  medianOf(s.samples, func(m sample) float64 { return m.PerSec }),
			Lean:    quantile(toLean, 0.5),
			Ratio:   quantile(ratios, 0.5), Low: quantile(ratios, 0.25), High: quantile(ratios, 0.75),
		})
	}
	return rows
}
