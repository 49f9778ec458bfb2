//go:build unix

package chaos_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice/e2e"
	"github.com/sluice-mcp/sluice/internal/redistest"
)

// TestStoreAway stops and starts Redis under load, in each way that a store goes away. Calls of 2026-07-28 do not
// notice; those of sessions that run come to their right end; new ones wait; nothing has to be restarted.
func TestStoreAway(t *testing.T) {
	for name, outage := range map[string]struct {
		leave, comeBack func(t *testing.T, r *redistest.Server)
		away            time.Duration
	}{
		"restarted": {func(t *testing.T, r *redistest.Server) { r.Stop(t) }, start, 2 * time.Second},
		"killed":    {func(_ *testing.T, r *redistest.Server) { r.Kill() }, start, 5 * time.Second},
		"hanging": {
			func(t *testing.T, r *redistest.Server) { r.Signal(t, syscall.SIGSTOP) },
			func(t *testing.T, r *redistest.Server) { r.Signal(t, syscall.SIGCONT) },
			6 * time.Second,
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRedis(t)
			ledgerURL := sharedStore(t) // which stays
			cluster := servers(t, 3, r.URL(), ledgerURL)
			modern := cluster.Connect(t, e2e.Latest)
			l := newLoad(t, cluster, ledgerURL, 10)
			stop := make(chan struct{})
			var worker sync.WaitGroup
			worker.Go(func() { l.run(50, stop) })
			time.Sleep(time.Second) // so that every kind of call is under way
			outage.leave(t, r)
			gone := time.Now()
			cluster.CutAll() // clients come back, to other replicas, before anybody can tell them anything
			awaitReadiness(t, cluster, http.StatusServiceUnavailable)
			fastest := time.Hour // a busy machine makes one or the other slow; the store, if it were asked, all
			for time.Since(gone) < outage.away {
				begun := time.Now()
				res, err := modern.CallTool(t.Context(), &mcp.CallToolParams{Name: "add", Arguments: map[string]any{"a": 1, "b": 2}})
				fastest = min(fastest, time.Since(begun))
				if err != nil || res.IsError {
					t.Errorf("a call of 2026-07-28 during the outage: %v, %v", res, err)
				}
				time.Sleep(100 * time.Millisecond)
			}
			if fastest > time.Second {
				t.Errorf("the fastest call of 2026-07-28 during the outage took %v", fastest)
			}
			outage.comeBack(t, r)
			back := time.Now()
			cluster.CutAll()
			awaitReadiness(t, cluster, http.StatusOK)
			t.Logf("ready %v after the store is back", time.Since(back).Round(time.Millisecond))
			time.Sleep(2 * time.Second)
			close(stop)
			worker.Wait()
			t.Logf("%v", l)
			if n := l.lost.Load(); n > 0 {
				t.Errorf("%d calls were taken from replicas that lived all the time", n)
			}
		})
	}
}

func start(t *testing.T, r *redistest.Server) {
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
}

// awaitReadiness waits until every replica says the same.
func awaitReadiness(t *testing.T, cluster *e2e.Cluster, status int) {
	t.Helper()
	for i, s := range cluster.Servers {
		url := strings.TrimSuffix(s.URL(), "/mcp") + "/readyz"
		for end := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
			got, text := fetch(t, url)
			if got == status {
				if status != http.StatusOK && !strings.Contains(text, "unavailable") {
					t.Errorf("replica %d does not say what is wrong: %s", i, text)
				}
				break
			}
			if time.Now().After(end) {
				t.Fatalf("replica %d still answers %d %s, want %d", i, got, text, status)
			}
		}
	}
}

func fetch(t *testing.T, url string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, fmt.Sprint(err)
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text)
}
