package sluice

import (
	"encoding/json"
	"log/slog"
	"sync"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice/internal/engine"
)

// engines keeps one engine for each server that is seen again. getServer may return the same
// server always, one for each tenant, or a new one for each request; the last must leave nothing behind.
type engines struct {
	log      *slog.Logger
	onChange func(e *engine.Engine, method string, params json.RawMessage)
	onTell   func(e *engine.Engine, method string, params json.RawMessage)
	onClosed func(e *engine.Engine)
	voice    engine.Voice
	// watched is called for each engine that begins to be watched.
	watched func(e *engine.Engine)

	mu   sync.Mutex
	kept map[*mcp.Server]*keptEngine
	tick int
}

type keptEngine struct {
	engine *engine.Engine
	last   int
	again  bool
}

// maxEngines bounds the servers that are kept. The least recently used one is let go: it loses
// its watch and its cache, and nothing else.
const maxEngines = 256

func (c *engines) get(server *mcp.Server) *engine.Engine {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tick++
	if k := c.kept[server]; k != nil {
		k.last = c.tick
		if !k.again || !k.engine.Watched() {
			// A server that comes again is worth a session that watches it for changes. Its program may have closed that one.
			k.again = true
			c.watch(k.engine)
		}
		return k.engine
	}
	if c.kept == nil {
		c.kept = make(map[*mcp.Server]*keptEngine)
	}
	if len(c.kept) >= maxEngines {
		c.evict()
	}
	k := &keptEngine{engine: engine.New(server, c.log), last: c.tick}
	k.engine.Voice = c.voice
	c.kept[server] = k
	if c.watched != nil { // clients of other replicas may be interested in it from the first
		k.again = true
		c.watch(k.engine)
	}
	return k.engine
}

func (c *engines) watch(e *engine.Engine) {
	began, err := e.Watch(
		func(method string, params json.RawMessage) { c.onChange(e, method, params) },
		func(method string, params json.RawMessage) { c.onTell(e, method, params) },
		func() { c.onClosed(e) },
	)
	if err != nil {
		c.log.Warn("changes of the server will not be told", "error", err)
		return
	}
	if began && c.watched != nil {
		go c.watched(e)
	}
}

// each calls f for the engines that are kept.
func (c *engines) each(f func(*engine.Engine)) {
	c.mu.Lock()
	all := make([]*engine.Engine, 0, len(c.kept))
	for _, k := range c.kept {
		all = append(all, k.engine)
	}
	c.mu.Unlock()
	for _, e := range all {
		f(e)
	}
}

func (c *engines) evict() {
	var oldest *mcp.Server
	for server, k := range c.kept {
		if oldest == nil || k.last < c.kept[oldest].last {
			oldest = server
		}
	}
	go c.kept[oldest].engine.Close()
	delete(c.kept, oldest)
}

func (c *engines) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, k := range c.kept {
		k.engine.Close()
	}
	c.kept = nil
}
