package session

import (
	"maps"
	"time"

	"github.com/sluice-mcp/sluice/internal/engine"
	"github.com/sluice-mcp/sluice/internal/wire"
	"github.com/sluice-mcp/sluice/observe"
)

// A resident is a session that lives at this replica, whether or not it is awake. While it rests this is all that is here of it,
// besides its record in the store.
type resident struct {
	// engine is that of its server, which it keeps for as long as it lives here: a program may have made one for it alone.
	engine    *engine.Engine
	principal string
	until     time.Time // unless it is used
	since     int64     // when it came to live here, in Unix nanoseconds
	revision  string
	// counted: it was opened here, and counts against the limits. The others came from other replicas.
	counted     bool
	established bool // its client knows of it
	carried     bool // it lives as long as its connection
	earlier     *[]Earlier
}

// reserve counts a session that is about to be opened, until it expires or is released. Errors: ErrTooMany, ErrEnded.
func (m *Manager) reserve(id string, e *engine.Engine, principal string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return ErrEnded
	}
	now := time.Now()
	full := func() bool {
		return m.opened >= m.MaxSessions || principal != "" && m.counts[principal] >= m.MaxPerPrincipal
	}
	// Going through all of them takes milliseconds, and holds up every session: not for each that is refused.
	if full() && now.Sub(m.swept) > expireEvery {
		m.swept = now
		m.expire(now)
	}
	if full() {
		if m.opened < m.MaxSessions {
			return ErrTooManyOfYours
		}
		return ErrTooMany
	}
	m.residents[id] = resident{engine: e, principal: principal, until: now.Add(m.keep()), since: now.UnixNano(), counted: true}
	m.opened++
	m.counts[principal]++
	m.holds(e, 1)
	m.startSweep()
	return nil
}

// expireEvery is how often a full house is searched for sessions that have expired.
const expireEvery = time.Second

// settle notes a session that comes to life here, and returns the engine of its server: the one that it has had here, else e. adopted
// reports that it comes from elsewhere. m.mu is held.
func (m *Manager) settle(id string, e *engine.Engine, rec *Record) (_ *engine.Engine, adopted bool) {
	if r, known := m.residents[id]; known {
		return r.engine, false
	}
	// Those that come from elsewhere are bounded, too. What is beyond asks for its server again when it has rested.
	if len(m.residents)-m.opened < m.MaxSessions {
		now := time.Now()
		m.residents[id] = resident{
			engine: e, principal: rec.Principal, until: now.Add(m.keep()), since: now.UnixNano(),
			revision: wire.Same(rec.Version), established: true,
		}
		m.holds(e, 1)
		m.observeAdopted(id, rec.Version)
	}
	return e, true
}

// engineOf returns the engine of a session that lives here, or nil.
func (m *Manager) engineOf(id string) *engine.Engine {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.residents[id].engine
}

// established notes that the client of a session is told of it. m.mu is held.
func (m *Manager) established(id, revision string) {
	if r, ok := m.residents[id]; ok {
		r.established, r.revision = true, wire.Same(revision)
		m.residents[id] = r
	}
}

// carry notes that a session lives as long as its connection.
func (m *Manager) carry(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r, ok := m.residents[id]; ok {
		r.carried = true
		m.residents[id] = r
	}
}

// drop forgets a session that no longer lives here, and returns what was known of it. m.mu is held.
func (m *Manager) drop(id string) (r resident, known bool) {
	if r, known = m.residents[id]; !known {
		return r, false
	}
	delete(m.residents, id)
	if r.counted {
		m.opened--
		if m.counts[r.principal]--; m.counts[r.principal] == 0 {
			delete(m.counts, r.principal)
		}
	}
	m.holds(r.engine, -1)
	return r, true
}

func (m *Manager) holds(e *engine.Engine, n int) {
	if m.Holds != nil {
		m.Holds(e, n)
	}
}

// expire drops the sessions that nobody has used here for as long as they live. m.mu is held.
func (m *Manager) expire(now time.Time) {
	var over []string
	for id, r := range m.residents {
		if !r.carried && now.After(r.until) {
			m.drop(id)
			if r.established {
				over = append(over, id)
				if m.Observer != nil { // aside, because m.mu is held
					go m.observeEnded(observe.EndIdle, id, r)
				}
			}
			continue
		}
		if r.earlier != nil {
			r.earlier = prune(r.earlier, now)
			m.residents[id] = r
		}
	}
	if len(over) == 0 || m.Ended == nil {
		return
	}
	if m.Replica == nil {
		for _, id := range over {
			m.over(id, true)
		}
		return
	}
	// A record outlives what is known of it here by as much as its last renewal was late, see [Session.touch].
	time.AfterFunc(2*touchTimeout, func() {
		for _, id := range over {
			m.over(id, true)
		}
	})
}

// extend notes that a session was used.
func (m *Manager) extend(id string, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r, ok := m.residents[id]; ok && now.Add(m.keep()).After(r.until) {
		r.until = now.Add(m.keep())
		m.residents[id] = r
	}
}

// shrink makes the maps anew when most of what they once held is gone: a map keeps the room of its peak. m.mu is held.
func (m *Manager) shrink() {
	m.peak = max(m.peak, len(m.live), len(m.residents))
	if m.peak < 1024 || len(m.live) > m.peak/4 || len(m.residents) > m.peak/4 {
		return
	}
	m.live, m.residents, m.counts = anew(m.live), anew(m.residents), anew(m.counts)
	m.peak = max(len(m.live), len(m.residents))
}

// anew copies a map into one of its size ([maps.Clone] would keep the room).
func anew[V any](old map[string]V) map[string]V {
	m := make(map[string]V, len(old))
	maps.Copy(m, old)
	return m
}
