package observe_test

import (
	"context"
	"slices"
	"testing"

	"github.com/sluice-mcp/sluice/observe"
)

// voice is an observer that says its name.
type voice struct {
	name  string
	trace string
	said  *[]string
}

type key struct{}

func (v voice) Call(ctx context.Context, _ observe.Call) (context.Context, func(observe.End)) {
	before, _ := ctx.Value(key{}).(string)
	*v.said = append(*v.said, "call "+before+v.name)
	return context.WithValue(ctx, key{}, before+v.name), func(observe.End) { *v.said = append(*v.said, "end "+v.name) }
}

func (v voice) Ask(context.Context, observe.Ask) (observe.Trace, func(observe.End)) {
	*v.said = append(*v.said, "ask "+v.name)
	return observe.Trace{Parent: v.trace}, nil
}

func (v voice) Event(context.Context, observe.Event) { *v.said = append(*v.said, "event "+v.name) }

func TestJoin(t *testing.T) {
	t.Parallel()
	if o := observe.Join(); o != nil {
		t.Errorf("nobody is %v", o)
	}
	if o := observe.Join(nil, nil); o != nil {
		t.Errorf("nobody is %v", o)
	}
	var said []string
	a, b, c := voice{"a", "", &said}, voice{"b", "of b", &said}, voice{"c", "of c", &said}
	if o := observe.Join(nil, a); o != observe.Observer(a) {
		t.Errorf("one is %v", o)
	}
	o := observe.Join(a, nil, b, c)
	ctx, end := o.Call(t.Context(), observe.Call{})
	if got := ctx.Value(key{}); got != "abc" {
		t.Errorf("the context is that of %v", got)
	}
	trace, asked := o.Ask(ctx, observe.Ask{})
	if trace.Parent != "of b" {
		t.Errorf("the trace is %q", trace.Parent)
	}
	asked(observe.End{})
	o.Event(ctx, observe.DrainBegun{})
	end(observe.End{})
	want := []string{"call a", "call ab", "call abc", "ask a", "ask b", "ask c", "event a", "event b", "event c", "end c", "end b", "end a"}
	if !slices.Equal(said, want) {
		t.Errorf("said %v", said)
	}
}
