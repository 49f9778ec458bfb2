package telemetry

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/sluice-mcp/sluice/observe"
)

// bounded is a map that is read by every call and hardly ever written: readers neither wait nor allocate. It grows to the number of
// kinds that there are, which make sees to.
type bounded[K comparable, V any] struct {
	all  atomic.Pointer[map[K]V]
	mu   sync.Mutex
	make func(K) V
}

// of returns what the map has of a key, or what is made and kept for it.
func (b *bounded[K, V]) of(key K) V {
	if v, ok := b.snapshot()[key]; ok {
		return v
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	old := b.snapshot()
	if v, ok := old[key]; ok {
		return v
	}
	all := make(map[K]V, len(old)+1)
	maps.Copy(all, old)
	v := b.make(key)
	all[key] = v
	b.all.Store(&all)
	return v
}

// snapshot is not to be written.
func (b *bounded[K, V]) snapshot() map[K]V {
	if all := b.all.Load(); all != nil {
		return *all
	}
	return nil
}

// kind is what calls have in common that are counted together. The endpoint bounds all of it but the names of tools and prompts, of
// which a server may have a different list for each of its callers.
type kind struct {
	method, target, revision string
	round                    bool // a round of a task
	ask                      bool // of the server, to its client
}

// most is how many kinds are told apart. Servers that have more than some hundred tools see the others as one; the SDK drops
// all attributes from the 2000th series on.
const most = 500

// kinds are the kinds of calls that there were.
type kinds struct {
	bounded[kind, *prepared]
}

func (k *kinds) of(key kind) *prepared {
	if p, ok := k.snapshot()[key]; ok {
		return p
	}
	if len(k.snapshot()) >= most && key.target != "" {
		key.target = observe.Other
	}
	if len(k.snapshot()) >= 2*most { // nothing that a client does leads here
		key.method, key.revision = observe.Other, ""
	}
	return k.bounded.of(key)
}

// prepared is what calls of a kind need, made once: building sets of attributes is most of what measuring costs.
type prepared struct {
	kind
	name  string // of the span
	start []trace.SpanStartOption
	attrs []attribute.KeyValue // of metrics, but for the error's type

	ok     []metric.RecordOption
	failed bounded[string, []metric.RecordOption] // by type of error

	bytes atomic.Int64 // that calls of this kind have said
	set   metric.MeasurementOption
}

func prepare(k kind) *prepared {
	p := &prepared{kind: k, name: k.method}
	if k.round {
		p.name = "task"
	}
	if k.target != "" {
		p.name += " " + k.target
	}
	p.attrs = append(p.attrs, methodKey.String(k.method))
	switch {
	case k.target == "":
	case k.method == "prompts/get":
		p.attrs = append(p.attrs, promptKey.String(k.target))
	default:
		p.attrs = append(p.attrs, operationKey.String("execute_tool"), toolKey.String(k.target))
	}
	if k.revision != "" {
		p.attrs = append(p.attrs, revisionKey.String(k.revision))
	}
	p.attrs = append(p.attrs, network...)

	role := trace.SpanKindServer
	switch {
	case k.round:
		role = trace.SpanKindInternal
	case k.ask:
		role = trace.SpanKindClient
	}
	p.start = []trace.SpanStartOption{trace.WithSpanKind(role), trace.WithAttributes(p.attrs...)}
	p.set = metric.WithAttributeSet(attribute.NewSet(slices.Clone(p.attrs)...)) // it sorts what it is given
	p.ok = []metric.RecordOption{p.set}
	p.failed.make = func(errorType string) []metric.RecordOption {
		return []metric.RecordOption{metric.WithAttributeSet(attribute.NewSet(append(slices.Clip(p.attrs), errorKey.String(errorType))...))}
	}
	return p
}

// measuredAs returns the attributes with which a call that ended so is measured.
func (p *prepared) measuredAs(e observe.End) []metric.RecordOption {
	if t := measured(e); t != "" {
		return p.failed.of(t)
	}
	return p.ok
}
