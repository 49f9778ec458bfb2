package session

import (
	"hash/maphash"
	"slices"
	"time"

	"github.com/sluice-mcp/sluice/internal/run"
)

// A program that tells something to all of [mcp.Server.Sessions] says it on each SDK session that it found there. Which ones those were
// cannot be seen, and meanwhile they come and go. For one client it may have found the watcher alone, or the session of its own
// too; and the one that is being closed beside the one that has taken its place. So what comes on a second SDK session word for
// word, within moments, is the same telling: the client hears it once. What comes twice on the same one was said twice.

// telling is something that a program has said to the client of a session, maybe on several SDK sessions.
type telling struct {
	words
	at   time.Time
	on   [4]any // the SDK sessions, as many as can be there at a time: the watcher, an old, a new, and one for a call
	said bool
}

// words are what is said, and where the client hears it: in a run, or on the standalone stream.
type words struct {
	sum uint64
	run *run.Run
}

var seed = maphash.MakeSeed()

func wordsOf(r *run.Run, method string, params []byte) words {
	var h maphash.Hash
	h.SetSeed(seed)
	_, _ = h.WriteString(method)
	_, _ = h.Write(params)
	return words{h.Sum64(), r}
}

const (
	// tellingTakes bounds the time in which a program goes through the sessions of its server.
	tellingTakes = 10 * time.Second
	// maxTellings bounds what is remembered of a program that says much: it is the last things that come again.
	maxTellings = 64
)

// settled reports whether whoever goes through the server's sessions now has found those of this client as they are. s.mu is held.
func (s *Session) settled(now time.Time) bool { return now.Sub(s.moved) >= tellingTakes }

// firstOf reports whether the client has yet to hear what is said on an SDK session. If wait is set, it hears it only when it is
// said on another one. s.mu is held.
func (s *Session) firstOf(w words, on any, now time.Time, wait bool) bool {
	s.forgetTellings(now)
	// The newest first: an older one that is still incomplete was told before this SDK session was there.
	for i := len(s.tellings) - 1; i >= 0; i-- {
		t := &s.tellings[i]
		free := slices.Index(t.on[:], nil)
		if t.words != w || free < 0 || slices.Contains(t.on[:], on) {
			continue
		}
		t.on[free] = on
		first := !t.said && !wait
		t.said = t.said || first
		return first
	}
	if len(s.tellings) == maxTellings {
		s.tellings = slices.Delete(s.tellings, 0, 1)
	}
	s.tellings = append(s.tellings, telling{words: w, at: now, on: [4]any{on}, said: !wait})
	return !wait
}

// forgetTellings forgets what does not come again. s.mu is held.
func (s *Session) forgetTellings(now time.Time) {
	n := 0
	for n < len(s.tellings) && now.Sub(s.tellings[n].at) >= tellingTakes {
		n++
	}
	if s.tellings = slices.Delete(s.tellings, 0, n); len(s.tellings) == 0 {
		s.tellings = nil
	}
}
