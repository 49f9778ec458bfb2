package telemetry

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/sluice-mcp/sluice/observe"
)

// event counts and measures what is not a call.
func (m *meters) event(ctx context.Context, e observe.Event) {
	switch e := e.(type) {
	case observe.SessionOpened:
		m.sessions.add(e.Revision, 1)
		m.opened.Add(ctx, 1, metric.WithAttributes(revisionKey.String(e.Revision)))
	case observe.SessionAdopted:
		m.sessions.add(e.Revision, 1)
		m.adopted.Add(ctx, 1)
	case observe.SessionEnded:
		m.sessions.add(e.Revision, -1)
		m.closed.Add(ctx, 1, metric.WithAttributes(revisionKey.String(e.Revision), reasonKey.String(string(e.Reason))))
		// A session that goes on elsewhere has not ended, and one that came from elsewhere is older than it is here.
		if !e.Adopted && e.Reason != observe.EndLeft {
			m.lives.Record(ctx, e.Duration.Seconds(), m.revisions.of(e.Revision)...)
		}
	case observe.StreamOpened:
		m.streams.add(string(e.Kind), 1)
	case observe.StreamClosed:
		m.streams.add(string(e.Kind), -1)
		if e.Reason != observe.CloseEnded && e.Reason != observe.CloseResumed {
			m.cut.Add(ctx, 1, metric.WithAttributes(reasonKey.String(string(e.Reason))))
		}
	case observe.StreamResumed:
		m.resumed.Add(ctx, 1, metric.WithAttributes(resultKey.String(string(e.Result))))
	case observe.Takeover:
		m.tookOver(ctx, e)
	case observe.Fenced:
		m.fenced.Add(ctx, int64(e.Calls))
	case observe.StoreOp:
		m.store.Record(ctx, e.Duration.Seconds(), m.storeOps.of(storeOp{e.Op, e.Result})...)
		if e.Result == observe.StoreUnavailable {
			m.up.Store(0)
		} else {
			m.up.Store(1)
		}
	case observe.LeaseRenewed:
		m.lease.Add(ctx, 1, metric.WithAttributes(resultKey.String(word(e.OK, "ok", "failed"))))
	case observe.Refused:
		m.refused.Add(ctx, 1, metric.WithAttributes(reasonKey.String(string(e.Reason))))
	case observe.DrainEnded:
		m.drain.Record(ctx, e.Duration.Seconds())
		m.left.Add(ctx, int64(e.Left))
	case observe.TaskChanged:
		m.tasks.Add(ctx, 1, metric.WithAttributes(stateKey.String(e.To)))
	case observe.ChangeTold:
		m.changes.Add(ctx, 1, metric.WithAttributes(methodKey.String(e.Method), viaKey.String(word(e.Elsewhere, "replica", "here"))))
	}
}

func (m *meters) tookOver(ctx context.Context, e observe.Takeover) {
	if e.Stage == observe.Claimed {
		return
	}
	what := word(e.Task != "", "task", "stream")
	m.takeovers.Add(ctx, 1, metric.WithAttributes(kindKey.String(what), resultKey.String(string(e.Stage))))
	if e.Duration > 0 {
		m.takeover.Record(ctx, e.Duration.Seconds(), metric.WithAttributes(resultKey.String(string(e.Stage))))
	}
	if e.Repeated > 0 {
		m.repeated.Add(ctx, int64(e.Repeated))
	}
}

func word(yes bool, then, otherwise string) string {
	if yes {
		return then
	}
	return otherwise
}

// zero has counters exist before they count: to a rule that watches for an increase, a counter that appears as 1 has not increased.
func (m *meters) zero() {
	ctx := context.Background()
	for _, c := range []metric.Int64Counter{m.adopted, m.repeated, m.lost, m.fenced, m.left} {
		c.Add(ctx, 0)
	}
	of := func(c metric.Int64Counter, key attribute.Key, values ...string) {
		for _, value := range values {
			c.Add(ctx, 0, metric.WithAttributes(key.String(value)))
		}
	}
	of(m.lease, resultKey, "ok", "failed")
	of(m.tasks, stateKey, "working", "input_required", "completed", "failed", "cancelled")
	of(m.cut, reasonKey, texts(observe.CloseGone, observe.CloseStalled, observe.CloseReleased, observe.CloseFailed, observe.CloseTime)...)
	of(m.resumed, resultKey, texts(observe.ResumeHere, observe.ResumeMirrored, observe.ResumeBehind, observe.ResumeUnknown, observe.ResumeSentBack, observe.ResumeFailed)...)
	of(m.refused, reasonKey, texts(observe.RefusedOrigin, observe.RefusedHost, observe.RefusedUnauthorized, observe.RefusedScope,
		observe.RefusedKeys, observe.RefusedRate, observe.RefusedBody, observe.RefusedMalformed, observe.RefusedCalls, observe.RefusedSessions,
		observe.RefusedUnread, observe.RefusedTasks, observe.RefusedDraining, observe.RefusedStore, observe.RefusedNoSession)...)
	for _, kind := range []string{"stream", "task"} {
		for _, stage := range texts(observe.Won, observe.Outrun, observe.Broken) {
			m.takeovers.Add(ctx, 0, metric.WithAttributes(kindKey.String(kind), resultKey.String(stage)))
		}
	}
}

func texts[T ~string](all ...T) (text []string) {
	for _, t := range all {
		text = append(text, string(t))
	}
	return text
}
