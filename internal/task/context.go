package task

import "context"

type idKey struct{}

// With returns a context that belongs to a task.
func With(ctx context.Context, id string) context.Context { return context.WithValue(ctx, idKey{}, id) }

// ID returns the ID of the task that ctx belongs to.
func ID(ctx context.Context) (id string, ok bool) {
	id, ok = ctx.Value(idKey{}).(string)
	return id, ok
}
