//go:build unix

package chaos_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-mcp/sluice/e2e"
)

// TestSilence stops a replica without killing it, for longer than its lease, and lets it go on: what it ran has
// been taken over, and what it still has to say is kept out of the streams that are no longer its own.
func TestSilence(t *testing.T) {
	storeURL := sharedStore(t)
	cluster := servers(t, 3, storeURL, storeURL)
	l := newLoad(t, cluster, storeURL, 5)
	cluster.Pick(e2e.Pin(0))
	type running struct {
		session *e2e.RawSession
		call    *e2e.RawCall
		key     string // of a charge
		ids     []string
	}
	var calls []*running
	begin := func(r *running, tool string, args map[string]any) {
		r.session = l.sessions[len(calls)%len(l.sessions)]
		r.call = r.session.CallTool(t.Context(), tool, args)
		calls = append(calls, r)
	}
	for i := range 10 {
		begin(&running{}, "countdown", map[string]any{"from": 40, "delay_ms": 100})
		key := fmt.Sprint("silent-", i)
		begin(&running{key: key}, "charge", map[string]any{"key": key, "from": 100, "delay_ms": 100})
	}
	var work sync.WaitGroup
	begun := make(chan struct{}, len(calls))
	for _, r := range calls {
		work.Go(func() {
			first := true
			var last e2e.Message
			for m, err := range r.call.Messages() {
				if err != nil {
					t.Errorf("%s%v: %v (%+v)", r.key, r.call.ID, err, r.call.Stats)
					return
				}
				last = m
				r.ids = append(r.ids, m.EventID)
				if first {
					first = false
					begun <- struct{}{}
				}
			}
			switch {
			case r.call.Stats.Duplicates+r.call.Stats.OutOfOrder > 0:
				t.Errorf("call %d: events twice or out of order: %+v", r.call.ID, r.call.Stats)
			case r.key == "" && textOf(last.Result) != "counted down from 40":
				t.Errorf("call %d: %v %s", r.call.ID, last.Error, last.Result)
			case r.key != "" && (last.Error == nil || last.Error.Code != replicaLost):
				t.Errorf("%s: want the error of a lost replica, got %v %s", r.key, last.Error, last.Result)
			}
		})
	}
	for range calls {
		<-begun
	}
	cluster.Servers[0].Pause()
	cluster.Pick(func() e2e.Picker { // the other two
		n := 0
		return func(e2e.Request) int { n++; return 1 + n%2 }
	}())
	cluster.CutAll()
	work.Wait()
	cluster.Servers[0].Resume()

	// It goes on with its handlers, finds its streams taken, and says so in its log.
	deadline := time.Now().Add(20 * time.Second)
	for strings.Count(cluster.Servers[0].Log(), "taken over by another replica") < len(calls) {
		if time.Now().After(deadline) {
			t.Fatalf("the replica that woke up has noticed %d of %d lost calls",
				strings.Count(cluster.Servers[0].Log(), "taken over by another replica"), len(calls))
		}
		time.Sleep(50 * time.Millisecond)
	}
	// All replicas show the same streams, the one that slept too.
	for _, r := range calls {
		for i := range cluster.Servers {
			cluster.Pick(e2e.Pin(i))
			if got, want := replay(t, cluster, r.session, r.ids[0]), strings.Join(r.ids[1:], " "); got != want {
				t.Errorf("call %d at replica %d: events\n%s, were\n%s", r.call.ID, i, got, want)
			}
		}
	}
	counted := executions(t, storeURL)
	for _, r := range calls {
		if n := counted[r.key]; r.key != "" && n != 1 {
			t.Errorf("%s was executed %d times", r.key, n)
		}
	}
}

// replay returns the IDs of the events after one of them, up to the stream's end.
func replay(t *testing.T, at e2e.Endpoint, s *e2e.RawSession, after string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at.URL(), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "text/event-stream")
	req.Header.Set("Mcp-Session-Id", s.ID)
	req.Header.Set("Last-Event-ID", after)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("replaying a stream: %s %s %v", resp.Status, body, err)
	}
	var ids []string
	for line := range strings.Lines(string(body)) {
		if id, ok := strings.CutPrefix(line, "id: "); ok && strings.TrimSpace(id) != after {
			ids = append(ids, strings.TrimSpace(id))
		}
	}
	return strings.Join(ids, " ")
}
