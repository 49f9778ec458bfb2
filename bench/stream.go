package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/sluice-mcp/sluice/bench/internal/client"
)

// streamEvents is how many progress notifications one call sends.
const streamEvents = 1000

// A streamRow is how a server streams in one era.
type streamRow struct {
	Server string
	Era    client.Era
	Ours   bool
	Events float64 // per second of CPU, in thousands, the median of the rounds
	First  float64 // ms from the tool's first message to the first byte at the client, the median
	Worst  float64 // and the 95th percentile
	Lost   float64 // percent of the events that did not arrive
}

type streamSlot struct {
	p      *process
	era    client.Era
	events []float64
	first  []float64
	sent   int
	came   int
}

func (b *bench) compareStreams(ctx context.Context) ([]streamRow, error) {
	var slots []*streamSlot
	for _, s := range b.servers {
		if !s.streams {
			continue
		}
		p, err := b.start(ctx, s)
		if err != nil {
			return nil, err
		}
		defer p.stop()
		for _, era := range s.eras {
			slots = append(slots, &streamSlot{p: p, era: era})
		}
	}
	b.progress.begin("streams", b.rounds*len(slots))
	for range b.rounds {
		for _, s := range slots {
			if err := s.measure(b.slot); err != nil {
				return nil, fmt.Errorf("%s, %s: %w", s.p.server.name, s.era, err)
			}
			b.progress.step()
		}
	}
	var rows []streamRow
	for _, s := range slots {
		rows = append(rows, streamRow{
			Server: s.p.server.name, Era: s.era, Ours: s.p.server.ours,
			Events: quantile(s.events, 0.5), First: quantile(s.first, 0.5), Worst: quantile(s.first, 0.95),
			Lost: 100 * float64(s.sent-s.came) / float64(s.sent),
		})
	}
	return rows, nil
}

// measure calls "count" for a while, over one connection, and "mark" a few times.
func (s *streamSlot) measure(d time.Duration) error {
	c, err := client.Dial(s.p.addr)
	if err != nil {
		return err
	}
	defer c.Close()
	session, err := client.Open(c, s.era, s.p.addr, client.Plain)
	if err != nil {
		return err
	}
	count := session.Call("count", fmt.Sprintf(`{"n":%d}`, streamEvents), true)
	if _, err := s.stream(c, count); err != nil { // warm-up
		return err
	}
	began, err := s.p.cpu()
	if err != nil {
		return err
	}
	came := 0
	for end := time.Now().Add(d); time.Now().Before(end); {
		n, err := s.stream(c, count)
		if err != nil {
			return err
		}
		came += n
	}
	ended, err := s.p.cpu()
	if err != nil {
		return err
	}
	s.events = append(s.events, float64(came)/(ended-began).Seconds()/1000)
	mark := session.Call("mark", `{}`, true)
	for range 5 {
		ms, err := firstByte(c, mark)
		if err != nil {
			return err
		}
		s.first = append(s.first, ms)
	}
	return nil
}

// stream makes a call and returns how many events came.
func (s *streamSlot) stream(c *client.Conn, call *client.Call) (int, error) {
	res, err := c.Do(call.Next())
	if err != nil {
		return 0, err
	}
	result, err := res.Result()
	if err != nil {
		return 0, err
	}
	came := res.Events()
	if came != streamEvents && !s.p.server.lossy || result.Structured.N == nil {
		return 0, fmt.Errorf("%d events of %d", came, streamEvents)
	}
	s.sent += streamEvents
	s.came += came
	return came, nil
}

// firstByte returns how many ms after the tool spoke the head of the response was here.
func firstByte(c *client.Conn, call *client.Call) (float64, error) {
	res, length, err := c.Start(call.Next())
	if err != nil {
		return 0, err
	}
	if length >= 0 {
		return 0, errors.New("mark: not a stream")
	}
	var body []byte
	for {
		chunk, err := c.Chunk()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return 0, err
		}
		body = append(body, chunk...)
	}
	_, rest, ok := bytes.Cut(body, []byte(`"message":"`))
	if !ok {
		return 0, fmt.Errorf("mark said nothing: %s", body)
	}
	text, _, _ := bytes.Cut(rest, []byte(`"`))
	spoke, err := strconv.ParseInt(string(text), 10, 64)
	if err != nil {
		return 0, err
	}
	return float64(res.First.UnixNano()-spoke) / 1e6, nil
}
