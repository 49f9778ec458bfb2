package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice/e2e"
)

func countdown(from, delayMS int) map[string]int {
	return map[string]int{"from": from, "delay_ms": delayMS}
}

// result reads a call to its end and fails the test if that is not the text.
func result(t *testing.T, c *e2e.RawCall, want string) {
	t.Helper()
	got, err := c.Result()
	if err != nil {
		t.Fatalf("%v (%+v)", err, c.Stats)
	}
	if !strings.Contains(string(got), `"`+want+`"`) {
		t.Errorf("result %s, want text %q", got, want)
	}
	if c.Stats.Duplicates+c.Stats.OutOfOrder > 0 {
		t.Errorf("%+v", c.Stats)
	}
}

// progress reads a call to its end and returns the progress values.
func progress(t *testing.T, c *e2e.RawCall) []float64 {
	t.Helper()
	var got []float64
	for m, err := range c.Messages() {
		if err != nil {
			t.Fatalf("%v (%+v)", err, c.Stats)
		}
		if m.Method == "notifications/progress" {
			var p struct{ Progress float64 }
			if err := json.Unmarshal(m.Params, &p); err != nil {
				t.Fatal(err)
			}
			got = append(got, p.Progress)
		}
	}
	return got
}

func TestRawSessionResumesAfterEveryCut(t *testing.T) {
	t.Parallel()
	proxy := e2e.Proxy(t, startEcho(t))
	for name, tt := range map[string]struct {
		fault   e2e.Fault
		delayMS int
	}{
		"events": {e2e.CutAfterEvents(2), 10},
		"bytes":  {e2e.CutAfterBytes(400), 10},
		"idle":   {e2e.DropIdle(200 * time.Millisecond), 400},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			session := e2e.RawConnect(t, proxy, nil)
			hit := proxy.Inject(tt.fault.When(func(r e2e.Request) bool {
				return r.HTTP.Header.Get("Mcp-Session-Id") == session.ID && r.RPC == "tools/call"
			}))
			call := session.CallTool(t.Context(), "countdown", countdown(5, tt.delayMS))
			got := progress(t, call)
			if len(got) != 5 {
				t.Errorf("progress %v", got)
			}
			if hit.Hits() != 1 || call.Stats.Resumes == 0 || call.Stats.Duplicates+call.Stats.OutOfOrder > 0 {
				t.Errorf("hits %d, %+v", hit.Hits(), call.Stats)
			}
		})
	}
}

func TestRawSessionResumesWhenCutNow(t *testing.T) {
	t.Parallel()
	proxy := e2e.Proxy(t, startEcho(t))
	session := e2e.RawConnect(t, proxy, nil)
	proxy.Inject(e2e.StallAfterEvents(3).On("tools/call").Once()) // or a slow reader could have all of it before the cut
	call := session.CallTool(t.Context(), "countdown", countdown(4, 20))
	for range 2 {
		if _, err := call.Next(); err != nil {
			t.Fatal(err)
		}
	}
	proxy.CutAll()
	result(t, call, "liftoff")
	if call.Stats.Resumes != 1 {
		t.Errorf("%+v", call.Stats)
	}
}

func TestRawSessionLeavesASilentConnection(t *testing.T) {
	t.Parallel()
	proxy := e2e.Proxy(t, startEcho(t))
	session := e2e.RawConnect(t, proxy, nil)
	session.Idle = 200 * time.Millisecond
	stall := proxy.Inject(e2e.StallAfterEvents(2).On("tools/call").Once())
	call := session.CallTool(t.Context(), "countdown", countdown(5, 1))
	result(t, call, "liftoff")
	if stall.Hits() != 1 || call.Stats.Resumes == 0 {
		t.Errorf("hits %d, %+v", stall.Hits(), call.Stats)
	}
}

func TestStallHoldsUntilRemoved(t *testing.T) {
	t.Parallel()
	proxy := e2e.Proxy(t, startEcho(t))
	session := e2e.RawConnect(t, proxy, nil)
	stall := proxy.Inject(e2e.Stall().On("tools/call"))
	done := make(chan error, 1)
	go func() {
		_, err := session.CallTool(t.Context(), "add", addIn{1, 2}).Result()
		done <- err
	}()
	select {
	case err := <-done:
		t.Fatalf("the stalled call ended: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	stall.Remove()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestBufferHoldsTheBody(t *testing.T) {
	t.Parallel()
	proxy := e2e.Proxy(t, startEcho(t))
	session := e2e.RawConnect(t, proxy, nil)
	spread := func() time.Duration {
		call := session.CallTool(t.Context(), "countdown", countdown(5, 100))
		if _, err := call.Next(); err != nil {
			t.Fatal(err)
		}
		first := time.Now()
		result(t, call, "liftoff")
		return time.Since(first)
	}
	if d := spread(); d < 200*time.Millisecond {
		t.Errorf("without a fault, the events came within %v", d)
	}
	proxy.Inject(e2e.Buffer())
	if d := spread(); d > 200*time.Millisecond {
		t.Errorf("behind a buffer, the events came over %v", d)
	}
}

func TestLatencyDelaysBothWays(t *testing.T) {
	t.Parallel()
	proxy := e2e.Proxy(t, startEcho(t))
	session := e2e.RawConnect(t, proxy, nil)
	proxy.Inject(e2e.Latency(50 * time.Millisecond))
	start := time.Now()
	result(t, session.CallTool(t.Context(), "add", addIn{1, 2}), "3")
	if d := time.Since(start); d < 100*time.Millisecond {
		t.Errorf("took %v", d)
	}
}

func TestCutBeforeAnEventIsAnUnknownOutcome(t *testing.T) {
	t.Parallel()
	proxy := e2e.Proxy(t, startEcho(t))
	session := e2e.RawConnect(t, proxy, nil)
	proxy.Inject(e2e.CutAfterEvents(0).On("tools/call").Once())
	_, err := session.CallTool(t.Context(), "add", addIn{1, 2}).Result()
	if !errors.Is(err, e2e.ErrUnknownOutcome) {
		t.Errorf("err = %v", err)
	}
	result(t, session.CallTool(t.Context(), "add", addIn{1, 2}), "3")
}

// TestSentAwayIsNoDuplicate has a server close a quiet stream, and say the client's own event ID with when to come back.
func TestSentAwayIsNoDuplicate(t *testing.T) {
	t.Parallel()
	var gets atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		const response = `{"jsonrpc":"2.0","id":%d,"result":{"protocolVersion":"2025-11-25","content":[{"type":"text","text":"ok"}]}}`
		switch {
		case r.URL.Path == "/readyz":
		case strings.Contains(string(body), `"initialize"`):
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Mcp-Session-Id", "s")
			fmt.Fprintf(w, response, 1)
		case r.Method == http.MethodPost && !strings.Contains(string(body), `"id"`):
			w.WriteHeader(http.StatusAccepted)
		case r.Method == http.MethodDelete:
			w.WriteHeader(http.StatusNoContent)
		default:
			w.Header().Set("Content-Type", "text/event-stream")
			switch {
			case r.Method == http.MethodPost:
				fmt.Fprint(w, "id: a-0\ndata:\n\n")
			case gets.Add(1) < 3:
				fmt.Fprint(w, "id: a-0\nretry: 10\n\n")
			default:
				fmt.Fprintf(w, "id: a-1\ndata: "+response+"\n\n", 2)
			}
		}
	}))
	t.Cleanup(srv.Close)
	call := e2e.RawConnect(t, e2e.Start(t, e2e.URL(srv.URL)), nil).CallTool(t.Context(), "any", nil)
	result(t, call, "ok")
	if call.Stats.Resumes != 3 || call.Stats.Events != 4 {
		t.Errorf("%+v, want 3 resumes and 4 blocks with an ID", call.Stats)
	}
}

func TestCloseMidBodyLeavesHalf(t *testing.T) {
	t.Parallel()
	srv := startEcho(t)
	proxy := e2e.Proxy(t, srv)
	proxy.Inject(e2e.CloseMidBody())
	whole := backend(t, srv)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, strings.TrimSuffix(proxy.URL(), "/mcp")+"/pid", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if !errors.Is(err, io.ErrUnexpectedEOF) || len(got) == 0 || len(got) >= len(whole) {
		t.Errorf("read %q of %q, err = %v", got, whole, err)
	}
}

func TestConnectThroughAProxy(t *testing.T) {
	t.Parallel()
	proxy := e2e.Proxy(t, startEcho(t))
	proxy.Inject(e2e.Latency(time.Millisecond))
	e2e.EachRevision(t, proxy, func(t *testing.T, session *mcp.ClientSession) {
		if out := e2e.Call[addOut](t, session, "add", addIn{10, 5}); out.Sum != 15 {
			t.Errorf("add(10, 5) = %d", out.Sum)
		}
	})
}

// backend returns which process answers at the URL.
func backend(t *testing.T, e e2e.Endpoint) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, strings.TrimSuffix(e.URL(), "/mcp")+"/pid", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return resp.Status
	}
	return string(body)
}

func TestReplicasTakeTurns(t *testing.T) {
	t.Parallel()
	cluster := e2e.Replicas(t, 3, echo())
	turn := func() map[string]int {
		seen := map[string]int{}
		for range 6 {
			seen[backend(t, cluster)]++
		}
		return seen
	}
	if seen := turn(); len(seen) != 3 {
		t.Errorf("six requests went to %v", seen)
	}
	cluster.Pick(e2e.Pin(1))
	if seen := turn(); seen[backend(t, cluster.Servers[1])] != 6 {
		t.Errorf("six pinned requests went to %v", seen)
	}
	cluster.Pick(e2e.Random(1))
	cluster.Servers[0].Kill()
	if seen := turn(); len(seen) > 2 || seen["503 Service Unavailable"] > 0 {
		t.Errorf("with one of three killed, six requests went to %v", seen)
	}
	cluster.Servers[1].Kill()
	cluster.Servers[2].Kill()
	if seen := turn(); seen["503 Service Unavailable"] != 6 {
		t.Errorf("with all killed: %v", seen)
	}
	before := cluster.Servers[0].URL()
	cluster.Servers[0].Restart()
	if got := cluster.Servers[0].URL(); got != before {
		t.Errorf("restarted at %s, was %s", got, before)
	}
	if seen := turn(); seen[backend(t, cluster.Servers[0])] != 6 {
		t.Errorf("after the restart: %v", seen)
	}
}

func TestKilledBackendIsAnUnknownOutcome(t *testing.T) {
	t.Parallel()
	cluster := e2e.Replicas(t, 2, echo())
	cluster.Pick(e2e.Pin(0))
	session := e2e.RawConnect(t, cluster, nil)
	session.Patience = time.Second
	call := session.CallTool(t.Context(), "countdown", countdown(1000, 10))
	if _, err := call.Next(); err != nil {
		t.Fatal(err)
	}
	cluster.Servers[0].Kill()
	// The SDK's sessions live in one process: the other replica does not know this one.
	var status *e2e.StatusError
	if _, err := call.Result(); !errors.As(err, &status) || status.Code != http.StatusNotFound {
		t.Errorf("err = %v, want status 404", err)
	}
}

func TestPausedServerIsSilent(t *testing.T) {
	t.Parallel()
	srv := startEcho(t)
	srv.Pause()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, srv.URL(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := http.DefaultClient.Do(req); err == nil {
		resp.Body.Close()
		t.Errorf("a paused server answered %s", resp.Status)
	}
	srv.Resume()
	result(t, e2e.RawConnect(t, srv, nil).CallTool(t.Context(), "add", addIn{1, 2}), "3")
}

func TestManyCallsOverFaultyNetwork(t *testing.T) {
	t.Parallel()
	proxy := e2e.Proxy(t, startEcho(t))
	session := e2e.RawConnect(t, proxy, nil)
	proxy.Inject(e2e.CutAfterEvents(3).On("tools/call", "GET"))
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			call := session.CallTool(t.Context(), "countdown", countdown(8, 5))
			if _, err := call.Result(); err != nil || call.Stats.Duplicates+call.Stats.OutOfOrder > 0 || call.Stats.Resumes < 2 {
				t.Errorf("%v, %+v", err, call.Stats)
			}
		})
	}
	wg.Wait()
}
