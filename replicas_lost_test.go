package sluice

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-mcp/sluice/internal/wire"
)

// What a store may lose of a stream while its call runs, by eviction or because it comes back empty.
var losses = map[string]struct {
	keys  []string // of $, the session, and @, the stream
	log   bool
	notes bool // connections to the store are lost as well
	// refused is what a client hears that then comes to a replica which knows nothing of its session, or stream.
	refused int
}{
	"log":                  {log: true},
	"registration":         {keys: []string{"run:$:@"}},
	"log and registration": {keys: []string{"run:$:@"}, log: true, refused: http.StatusBadRequest},
	"lease":                {keys: []string{"lease:0"}},
	"session":              {keys: []string{"session:$"}, refused: http.StatusNotFound},
	"everything":           {keys: []string{"run:$:@", "session:$", "alone:$", "lease:0", "lease:1"}, log: true, refused: http.StatusNotFound},
	"everything, noticed":  {keys: []string{"run:$:@", "session:$", "alone:$", "lease:0", "lease:1"}, log: true, notes: true, refused: http.StatusNotFound},
	"log, noticed":         {log: true, notes: true},
}

// TestLostByTheStore has the store lose what it has of a stream. Nobody else writes it, so its call comes to its end,
// and whoever is connected hears that, wherever that is.
func TestLostByTheStore(t *testing.T) {
	t.Parallel()
	for name, loss := range losses {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, version := range sessionRevisions {
				for way, play := range map[string]func(l *lossPlay){
					"open":              (*lossPlay).open,
					"followed":          (*lossPlay).followed,
					"resumed elsewhere": (*lossPlay).resumed,
				} {
					t.Run(version+", "+way, func(t *testing.T) {
						synctest.Test(t, func(t *testing.T) {
							l := &lossPlay{t: t, cl: newCluster(t, 2, Options{}), c: newClient(version), refused: loss.refused}
							l.lose = func() {
								stream, _, _ := wire.ParseEventID(l.call.last)
								in := strings.NewReplacer("$", l.c.session, "@", stream)
								for _, key := range loss.keys {
									_ = l.cl.shared.Delete(t.Context(), in.Replace(key))
								}
								if loss.log {
									_ = l.cl.shared.Drop(t.Context(), in.Replace("stream:$:@"))
								}
								if loss.notes {
									for _, s := range l.cl.sites {
										s.tap.loseNotes(time.Millisecond)
									}
								}
							}
							play(l)
						})
					})
				}
			}
		})
	}
}

type lossPlay struct {
	t    *testing.T
	cl   *cluster
	c    *client
	call *response
	lose func()

	refused int
}

func (l *lossPlay) begin() {
	l.c.open(l.t, l.cl.sites[0], l.cl.sites[0])
	l.call = l.c.post(l.t, l.cl.sites[0], tool("count", "count", `{"n":100,"ms":100}`))
	l.call.message(l.t)
	l.call.message(l.t)
}

// hear reads to the result, of which progress from and later is still to come.
func (l *lossPlay) hear(what string, a *response, from int) {
	l.t.Helper()
	all := a.rest(l.t)
	if n := len(all); n == 0 || all[n-1].text() != "counted 100" {
		l.t.Errorf("%s: the call did not end in its result: %v", what, all)
		return
	}
	for i, m := range all[:len(all)-1] {
		if got := progressIn(m); got != from+i {
			l.t.Fatalf("%s: progress %d, want %d", what, got, from+i)
		}
	}
}

func (l *lossPlay) open() {
	l.begin()
	l.lose()
	l.hear("the open connection", l.call, 3)
}

func (l *lossPlay) followed() {
	l.begin()
	follower := l.c.get(l.t, l.cl.sites[1], l.call.last)
	follower.message(l.t)
	l.lose()
	l.hear("another replica", follower, 4)
}

func (l *lossPlay) resumed() {
	l.begin()
	l.lose()
	_ = l.call.Body.Close()
	a := l.c.get(l.t, l.cl.sites[1], l.call.last)
	if l.refused != 0 {
		a.wantStatus(l.t, "resume", l.refused)
		return
	}
	a.wantStatus(l.t, "resume", http.StatusOK)
	l.hear("after coming back", a, 3)
}

// The replica that wrote the stream is gone as well as its log: the call runs again, or ends in an error, at another one.
func TestLogIsLostWithItsReplica(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := &lossPlay{t: t, cl: newCluster(t, 2, Options{}), c: newClient(wire.Rev1125)}
		l.begin()
		stream, _, _ := wire.ParseEventID(l.call.last)
		l.cl.sites[0].kill()
		_ = l.cl.shared.Drop(t.Context(), fmt.Sprintf("stream:%s:%s", l.c.session, stream))
		a := l.c.get(t, l.cl.sites[1], l.call.last)
		a.wantStatus(t, "resume", http.StatusOK)
		all := a.rest(t)
		if n := len(all); n == 0 || !strings.Contains(all[n-1].text(), strconv.Itoa(wire.CodeReplicaLost)) {
			t.Errorf("got %v", all)
		}
	})
}

// Nobody knows who writes the stream: it ends, and is not waited for for ever.
func TestRegistrationIsLostWithItsReplica(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := &lossPlay{t: t, cl: newCluster(t, 2, Options{}), c: newClient(wire.Rev1125)}
		l.begin()
		stream, _, _ := wire.ParseEventID(l.call.last)
		l.cl.sites[0].kill()
		_ = l.cl.shared.Delete(t.Context(), fmt.Sprintf("run:%s:%s", l.c.session, stream))
		start := time.Now()
		a := l.c.get(t, l.cl.sites[1], l.call.last)
		if all := a.rest(t); len(all) > 0 {
			t.Errorf("got %v", all)
		}
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

// A store that goes on to refuse what it is told does not cost a call its end: the open connection hears it all, without IDs.
func TestStoreRefusesForLong(t *testing.T) {
	t.Parallel()
	for _, version := range sessionRevisions {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := &lossPlay{t: t, cl: newCluster(t, 2, Options{}), c: newClient(version)}
				l.begin()
				last := l.call.last
				start := time.Now()
				l.cl.sites[0].tap.set(tapAway)
				l.hear("the open connection", l.call, 3)
				if took := time.Since(start); took > 30*time.Second {
					t.Errorf("took %v", took)
				}
				if l.call.last != last {
					t.Errorf("an event has the ID %s, and is in no log", l.call.last)
				}
				l.cl.sites[0].tap.set(tapOpen)
				time.Sleep(10 * time.Second)
				// It got there in the end.
				l.hear("after the outage", l.c.get(t, l.cl.sites[1], last), 3)
			})
		})
	}
}
