package engine

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice/internal/wire"
)

// pool keeps sessions of the stateless era for the next call of the same client: one that
// sends the same metadata on behalf of the same principal. Opening one costs more than a fast call (8 µs,
// 3 KB, a goroutine). A session serves one call at a time, so calls never meet in it.
type pool struct {
	mu    sync.Mutex
	idle  map[string][]*Session
	n     int
	sweep *time.Timer
}

const (
	// maxIdle bounds the sessions, each with a goroutine, that wait for a call.
	maxIdle = 64
	// idleFor is how long they wait, at least.
	idleFor = 2 * time.Second
)

// Lend returns a session for one call of the stateless era with the given metadata. What the
// handler says goes to out. The caller must [Session.Return] it. An error that is
// the client's fault is a [*wire.Error].
func (e *Engine) Lend(principal string, m wire.Meta, out Outlet) (*Session, error) {
	var room [512]byte // on the stack: an ordinary key is looked up without allocating
	key := append(room[:0], principal...)
	for _, part := range [][]byte{m.ProtocolVersion, m.ClientInfo, m.ClientCapabilities, m.LogLevel} {
		key = append(append(key, 0), part...)
	}
	if s := e.pool.take(key); s != nil {
		s.lent.out.Store(&out)
		return s, nil
	}
	state, err := requestState(m)
	if err != nil {
		return nil, err
	}
	lent := &lentOutlet{key: string(key), caps: state.InitializeParams.Capabilities}
	lent.out.Store(&out)
	s, err := e.Connect(context.Background(), "", state, lent)
	if err != nil {
		return nil, err
	}
	s.lent = lent
	return s, nil
}

// Return takes back a session that was lent.
func (s *Session) Return() {
	s.lent.out.Store(nil)
	e := s.engine
	// A server that is seen for the first time may be one of a kind: nothing of it is kept.
	if s.conn.closed() || len(s.lent.key) > 4096 || !e.Watched() || !e.pool.give(s) {
		s.Close()
	}
}

// Capabilities returns what the client of a lent session has declared.
func (s *Session) Capabilities() *mcp.ClientCapabilities { return s.lent.caps }

func (p *pool) take(key []byte) *Session {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := p.idle[string(key)]
	for n := len(list) - 1; n >= 0; n-- {
		s := list[n]
		list[n] = nil
		p.idle[s.lent.key] = list[:n]
		p.n--
		if !s.conn.closed() { // the server may have closed all its sessions
			return s
		}
	}
	return nil
}

func (p *pool) give(s *Session) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.n >= maxIdle {
		return false
	}
	if p.idle == nil {
		p.idle = make(map[string][]*Session)
	}
	s.lent.old = false
	p.idle[s.lent.key] = append(p.idle[s.lent.key], s)
	p.n++
	if p.sweep == nil {
		p.sweep = time.AfterFunc(idleFor, p.sweepOld)
	}
	return true
}

// sweepOld closes the sessions that have waited since the last time.
func (p *pool) sweepOld() {
	p.mu.Lock()
	var old []*Session
	for key, list := range p.idle {
		fresh := list[:0]
		for _, s := range list {
			if s.lent.old {
				old = append(old, s)
				continue
			}
			s.lent.old = true
			fresh = append(fresh, s)
		}
		clear(list[len(fresh):])
		if p.idle[key] = fresh; len(fresh) == 0 {
			delete(p.idle, key)
		}
	}
	if p.n -= len(old); p.n > 0 {
		p.sweep.Reset(idleFor)
	} else {
		p.sweep = nil
	}
	p.mu.Unlock()
	for _, s := range old {
		s.Close()
	}
}

func (p *pool) close() {
	p.mu.Lock()
	all := p.idle
	p.idle, p.n = nil, maxIdle // nothing more is taken in
	if p.sweep != nil {
		p.sweep.Stop()
	}
	p.mu.Unlock()
	for _, list := range all {
		for _, s := range list {
			s.Close()
		}
	}
}

// lentOutlet leads to whoever has the session. What a handler says after its call, with a
// context of its own, has nowhere to go.
type lentOutlet struct {
	key  string
	caps *mcp.ClientCapabilities
	out  atomic.Pointer[Outlet]
	old  bool // was idle at the last sweep; held by the pool
}

func (l *lentOutlet) Say(ctx context.Context, m Outgoing) error {
	out := l.out.Load()
	if out == nil {
		return errNoClient
	}
	return (*out).Say(ctx, m)
}
