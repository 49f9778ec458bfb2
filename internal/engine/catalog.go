package engine

import (
	"sync/atomic"
)

// A catalog is what the endpoint needs to know of one list of the server, by name. It is kept until the server says that the list
// has changed; before the engine watches, and from a server that does not say, it is read each time.
type catalog[T any] struct {
	kept    atomic.Pointer[map[string]T] // nil: to be read afresh
	changed atomic.Int64                 // how often the list has
}

// forget is called when the list has changed.
func (c *catalog[T]) forget() {
	c.changed.Add(1)
	c.kept.Store(nil)
}

// has reports whether name is in the list that is kept.
func (c *catalog[T]) has(name string) bool {
	kept := c.kept.Load()
	if kept == nil {
		return false
	}
	_, ok := (*kept)[name]
	return ok
}

// find returns what is listed under name. read reads the list, and returns nil if it cannot be had; keep says whether the server
// tells of changes.
func (c *catalog[T]) find(name string, read func() map[string]T, keep func() bool) (T, bool) {
	seen, kept := c.changed.Load(), c.kept.Load()
	// A middleware may list less to one client than to another: what is not in the list that is kept may be in this client's.
	if kept != nil {
		if v, ok := (*kept)[name]; ok {
			return v, true
		}
	}
	all := read()
	v, ok := all[name]
	if ok && keep() && c.kept.CompareAndSwap(kept, &all) && c.changed.Load() != seen {
		c.kept.Store(nil) // it changed while it was read
	}
	return v, ok
}
