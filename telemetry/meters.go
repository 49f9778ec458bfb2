package telemetry

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/sluice-mcp/sluice/observe"
)

var (
	// seconds are the boundaries that the conventions name.
	seconds = []float64{0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120, 300}
	// fast are those of what takes microseconds if all is well: for the conventions' boundaries all of it would be the same.
	fast = []float64{0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1, 5}
)

// meters are the instruments. Levels are kept here, and read when somebody collects: that costs a call an addition.
type meters struct {
	calls, asked, lives metric.Float64Histogram // of the conventions

	fast, store, takeover, drain, rounds metric.Float64Histogram

	opened, adopted, closed, resumed, cut, takeovers, repeated, lost, fenced,
	refused, lease, left, changes, tasks metric.Int64Counter

	inFlight [2]atomic.Int64 // by era
	working  atomic.Int64    // rounds of tasks
	sessions levels
	streams  levels
	up       atomic.Int64 // whether the store has answered last: 1, 0, or -1 before it is asked

	revisions bounded[string, []metric.RecordOption]
	storeOps  bounded[storeOp, []metric.RecordOption]
}

type storeOp struct {
	op     string
	result observe.StoreResult
}

func newMeters(meter metric.Meter, version string, kinds *kinds) (*meters, error) {
	kinds.make = prepare
	i := instruments{meter: meter}
	m := &meters{
		calls: i.seconds("mcp.server.operation.duration", "From the receipt of a request until its response is on its way.", seconds),
		asked: i.seconds("mcp.client.operation.duration", "From sending a request to the client until its answer.", seconds),
		lives: i.seconds("mcp.server.session.duration", "From the beginning of a session to its end.", seconds),

		fast:     i.seconds("sluice.call.duration", "The same as mcp.server.operation.duration, for fast calls.", fast),
		store:    i.seconds("sluice.store.duration", "Of a round trip to the store.", fast),
		takeover: i.seconds("sluice.takeover.duration", "From the claim of a lost replica's stream to its end.", seconds),
		drain:    i.seconds("sluice.drain.duration", "Of the wait for the calls in flight when a replica leaves.", seconds),
		rounds:   i.seconds("sluice.task.round.duration", "Of a call of a task's handler.", seconds),

		opened:    i.counter("sluice.sessions.opened", "{session}", "Sessions that clients have opened here."),
		adopted:   i.counter("sluice.sessions.adopted", "{session}", "Sessions that have come from another replica."),
		closed:    i.counter("sluice.sessions.ended", "{session}", "Ends of the life of sessions here."),
		resumed:   i.counter("sluice.streams.resumed", "{stream}", "Clients that came back for a stream."),
		cut:       i.counter("sluice.streams.cut", "{stream}", "Streams that a client was shown the end of before there was one."),
		takeovers: i.counter("sluice.takeovers", "{takeover}", "Streams and tasks that were taken over from lost replicas, or not."),
		repeated:  i.counter("sluice.calls.repeated", "{call}", "Calls that ran again here after their replica was lost."),
		lost:      i.counter("sluice.calls.lost", "{call}", "Calls whose outcome is not known: their replica was lost."),
		fenced:    i.counter("sluice.calls.fenced", "{call}", "Calls that another replica took over though this one lives."),
		refused:   i.counter("sluice.refused", "{request}", "Requests that were turned away."),
		lease:     i.counter("sluice.lease.renewals", "{renewal}", "Signs of life to the other replicas."),
		left:      i.counter("sluice.drain.left", "{call}", "Calls that were let go unfinished when a replica left."),
		changes:   i.counter("sluice.changes.told", "{change}", "Changes of the server that clients here are told of."),
		tasks:     i.counter("sluice.tasks.changed", "{task}", "Tasks that have come to a status here."),
	}
	m.up.Store(-1)
	m.revisions.make = func(revision string) []metric.RecordOption {
		return []metric.RecordOption{metric.WithAttributeSet(attribute.NewSet(inRevision(revision)...))}
	}
	m.storeOps.make = func(op storeOp) []metric.RecordOption {
		return []metric.RecordOption{metric.WithAttributeSet(attribute.NewSet(opKey.String(op.op), resultKey.String(string(op.result))))}
	}
	i.levels(m, version, kinds)
	if err := errors.Join(i.errs...); err != nil {
		return nil, err
	}
	m.zero()
	return m, nil
}

// instruments makes instruments.
type instruments struct {
	meter metric.Meter
	errs  []error
}

func (i *instruments) seconds(name, description string, boundaries []float64) metric.Float64Histogram {
	h, err := i.meter.Float64Histogram(name, metric.WithUnit("s"), metric.WithDescription(description), metric.WithExplicitBucketBoundaries(boundaries...))
	i.errs = append(i.errs, err)
	return h
}

func (i *instruments) counter(name, unit, description string) metric.Int64Counter {
	c, err := i.meter.Int64Counter(name, metric.WithUnit(unit), metric.WithDescription(description))
	i.errs = append(i.errs, err)
	return c
}

func (i *instruments) level(name, unit, description string) metric.Int64ObservableUpDownCounter {
	g, err := i.meter.Int64ObservableUpDownCounter(name, metric.WithUnit(unit), metric.WithDescription(description))
	i.errs = append(i.errs, err)
	return g
}

func (i *instruments) gauge(name, description string) metric.Int64ObservableGauge {
	g, err := i.meter.Int64ObservableGauge(name, metric.WithDescription(description))
	i.errs = append(i.errs, err)
	return g
}

// levels makes the instruments that are read when somebody collects.
func (i *instruments) levels(m *meters, version string, kinds *kinds) {
	inFlight := i.level("sluice.calls.in_flight", "{call}", "Calls that have no response yet.")
	sessions := i.level("sluice.sessions", "{session}", "Sessions that live here.")
	streams := i.level("sluice.streams", "{stream}", "Event streams that clients are shown here.")
	working := i.level("sluice.tasks.running", "{task}", "Tasks whose handlers run here.")
	up := i.gauge("sluice.store.up", "Whether the store has answered last.")
	build := i.gauge("sluice.build_info", "1, with the version of sluice and of Go.")
	bytes, err := i.meter.Int64ObservableCounter("sluice.calls.bytes", metric.WithUnit("By"), metric.WithDescription("What calls have said: messages and responses."))
	i.errs = append(i.errs, err)

	eras := [...]metric.ObserveOption{metric.WithAttributes(eraKey.String("sessions")), metric.WithAttributes(eraKey.String("stateless"))}
	about := metric.WithAttributes(attribute.String("version", version), attribute.String("go", runtime.Version()))
	_, err = i.meter.RegisterCallback(func(_ context.Context, to metric.Observer) error {
		for era := range eras {
			to.ObserveInt64(inFlight, m.inFlight[era].Load(), eras[era])
		}
		m.sessions.each(func(revision string, n int64) {
			to.ObserveInt64(sessions, n, metric.WithAttributes(revisionKey.String(revision)))
		})
		m.streams.each(func(kind string, n int64) { to.ObserveInt64(streams, n, metric.WithAttributes(kindKey.String(kind))) })
		to.ObserveInt64(working, m.working.Load())
		if n := m.up.Load(); n >= 0 {
			to.ObserveInt64(up, n)
		}
		to.ObserveInt64(build, 1, about)
		for _, p := range kinds.snapshot() {
			if !p.round && !p.ask {
				to.ObserveInt64(bytes, p.bytes.Load(), p.set)
			}
		}
		return nil
	}, inFlight, sessions, streams, working, up, build, bytes)
	i.errs = append(i.errs, err)
}

// levels count up and down, by a name of which there are few.
type levels struct {
	mu sync.Mutex
	of map[string]int64
}

func (l *levels) add(name string, n int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.of == nil {
		l.of = make(map[string]int64)
	}
	l.of[name] += n
}

func (l *levels) each(f func(name string, n int64)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for name, n := range l.of {
		f(name, n)
	}
}

// stateless is the first revision without sessions. Revisions are dates.
const stateless = "2026-07-28"

func era(revision string) int {
	if revision >= stateless {
		return 1
	}
	return 0
}

func inRevision(revision string) []attribute.KeyValue {
	attrs := slices.Clone(network) // attribute.NewSet sorts what it is given
	if revision != "" {
		attrs = append(attrs, revisionKey.String(revision))
	}
	return attrs
}

// level is that which a call adds to while it runs.
func (m *meters) level(c observe.Call) *atomic.Int64 {
	if c.Round > 0 {
		return &m.working
	}
	return &m.inFlight[era(c.Revision)]
}

// ended measures a call, or a request to a client, that has ended.
func (m *meters) ended(ctx context.Context, p *prepared, took time.Duration, e observe.End) {
	switch {
	case p.ask:
		m.asked.Record(ctx, took.Seconds(), p.measuredAs(e)...)
	case p.round:
		m.rounds.Record(ctx, took.Seconds(), p.measuredAs(e)...)
	default:
		p.bytes.Add(e.Bytes)
		m.calls.Record(ctx, took.Seconds(), p.measuredAs(e)...)
		m.fast.Record(ctx, took.Seconds(), m.revisions.of(p.revision)...)
	}
	if e.Outcome == observe.Lost {
		m.lost.Add(ctx, 1)
	}
}
