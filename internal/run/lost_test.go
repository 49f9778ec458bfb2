package run_test

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-mcp/sluice"
	"github.com/sluice-mcp/sluice/internal/sitetest"
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
			for _, version := range sitetest.Revisions {
				for way, play := range map[string]func(l *lossPlay){
					"open":              (*lossPlay).open,
					"followed":          (*lossPlay).followed,
					"resumed elsewhere": (*lossPlay).resumed,
				} {
					t.Run(version+", "+way, func(t *testing.T) {
						synctest.Test(t, func(t *testing.T) {
							l := &lossPlay{t: t, cl: sitetest.NewCluster(t, 2, sluice.Options{}), c: sitetest.NewClient(version), refused: loss.refused}
							l.lose = func() {
								stream, _, _ := wire.ParseEventID(l.call.Last)
								in := strings.NewReplacer("$", l.c.Session, "@", stream)
								for _, key := range loss.keys {
									_ = l.cl.Shared.Delete(t.Context(), in.Replace(key))
								}
								if loss.log {
									_ = l.cl.Shared.Drop(t.Context(), in.Replace("stream:$:@"))
								}
								if loss.notes {
									for _, s := range l.cl.Sites {
										s.Tap.LoseNotes(time.Millisecond)
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
	cl   *sitetest.Cluster
	c    *sitetest.Client
	call *sitetest.Response
	lose func()

	refused int
}

func (l *lossPlay) begin() {
	l.c.Open(l.t, l.cl.Sites[0], l.cl.Sites[0])
	l.call = l.c.Post(l.t, l.cl.Sites[0], sitetest.Call("count", "count", `{"n":100,"ms":100}`))
	l.call.Message(l.t)
	l.call.Message(l.t)
}

// hear reads to the result, of which progress from and later is still to come.
func (l *lossPlay) hear(what string, a *sitetest.Response, from int) {
	l.t.Helper()
	all := a.Rest(l.t)
	if n := len(all); n == 0 || all[n-1].Text() != "counted 100" {
		l.t.Errorf("%s: the call did not end in its result: %v", what, all)
		return
	}
	for i, m := range all[:len(all)-1] {
		if got := m.Progress(); got != from+i {
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
	follower := l.c.Get(l.t, l.cl.Sites[1], l.call.Last)
	follower.Message(l.t)
	l.lose()
	l.hear("another replica", follower, 4)
}

func (l *lossPlay) resumed() {
	l.begin()
	l.lose()
	_ = l.call.Body.Close()
	a := l.c.Get(l.t, l.cl.Sites[1], l.call.Last)
	if l.refused != 0 {
		a.WantStatus(l.t, "resume", l.refused)
		return
	}
	a.WantStatus(l.t, "resume", http.StatusOK)
	l.hear("after coming back", a, 3)
}

// The replica that wrote the stream is gone as well as its log: the call runs again, or ends in an error, at another one.
func TestLogIsLostWithItsReplica(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := &lossPlay{t: t, cl: sitetest.NewCluster(t, 2, sluice.Options{}), c: sitetest.NewClient(wire.Rev1125)}
		l.begin()
		stream, _, _ := wire.ParseEventID(l.call.Last)
		l.cl.Sites[0].Kill()
		_ = l.cl.Shared.Drop(t.Context(), fmt.Sprintf("stream:%s:%s", l.c.Session, stream))
		a := l.c.Get(t, l.cl.Sites[1], l.call.Last)
		a.WantStatus(t, "resume", http.StatusOK)
		all := a.Rest(t)
		if n := len(all); n == 0 || !strings.Contains(all[n-1].Text(), strconv.Itoa(wire.CodeReplicaLost)) {
			t.Errorf("got %v", all)
		}
	})
}

// Nobody knows who writes the stream: it ends, and is not waited for for ever.
func TestRegistrationIsLostWithItsReplica(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := &lossPlay{t: t, cl: sitetest.NewCluster(t, 2, sluice.Options{}), c: sitetest.NewClient(wire.Rev1125)}
		l.begin()
		stream, _, _ := wire.ParseEventID(l.call.Last)
		l.cl.Sites[0].Kill()
		_ = l.cl.Shared.Delete(t.Context(), fmt.Sprintf("run:%s:%s", l.c.Session, stream))
		start := time.Now()
		a := l.c.Get(t, l.cl.Sites[1], l.call.Last)
		if all := a.Rest(t); len(all) > 0 {
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
	for _, version := range sitetest.Revisions {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := &lossPlay{t: t, cl: sitetest.NewCluster(t, 2, sluice.Options{}), c: sitetest.NewClient(version)}
				l.begin()
				last := l.call.Last
				start := time.Now()
				l.cl.Sites[0].Tap.Set(sitetest.Away)
				l.hear("the open connection", l.call, 3)
				if took := time.Since(start); took > 30*time.Second {
					t.Errorf("took %v", took)
				}
				if l.call.Last != last {
					t.Errorf("an event has the ID %s, and is in no log", l.call.Last)
				}
				l.cl.Sites[0].Tap.Set(sitetest.Open)
				time.Sleep(10 * time.Second)
				// It got there in the end.
				l.hear("after the outage", l.c.Get(t, l.cl.Sites[1], last), 3)
			})
		})
	}
}
