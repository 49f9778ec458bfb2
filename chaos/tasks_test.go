//go:build unix

package chaos_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-mcp/sluice/e2e"
	"github.com/sluice-mcp/sluice/internal/redistest"
)

// taskReply is what the test looks at of an answer about a task.
type taskReply struct {
	ResultType    string
	TaskID        string
	Status        string
	InputRequests map[string]json.RawMessage
	Result        json.RawMessage
	Error         *e2e.RPCError
}

// ask sends one request of 2026-07-28 and returns its result. An error says that there was none.
func ask(ctx context.Context, url, method, name string, params map[string]any) (r taskReply, err error) {
	params["_meta"] = map[string]any{
		"io.modelcontextprotocol/protocolVersion":    "2026-07-28",
		"io.modelcontextprotocol/clientCapabilities": map[string]any{"elicitation": map[string]any{}, "extensions": map[string]any{"io.modelcontextprotocol/tasks": map[string]any{}}},
	}
	body, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
	if err != nil {
		return r, err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return r, err
	}
	for k, v := range map[string]string{
		"Content-Type": "application/json", "Accept": "application/json, text/event-stream",
		"Mcp-Protocol-Version": "2026-07-28", "Mcp-Method": method, "Mcp-Name": name,
	} {
		req.Header.Set(k, v)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return r, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return r, err
	}
	if _, data, is := bytes.Cut(text, []byte("data: ")); is { // a store that is slow makes a stream of it
		text, _, _ = bytes.Cut(data, []byte("\n"))
	}
	var m struct {
		Result taskReply
		Error  *struct {
			Code    int
			Message string
		}
	}
	if err := json.Unmarshal(text, &m); err != nil {
		return r, fmt.Errorf("%d %s: %w", resp.StatusCode, text, err)
	}
	if resp.StatusCode == http.StatusServiceUnavailable || resp.StatusCode == http.StatusTooManyRequests {
		return r, fmt.Errorf("%w: %d %s", errNotAsked, resp.StatusCode, text)
	}
	if m.Error != nil {
		return r, &e2e.RPCError{Code: m.Error.Code, Message: m.Error.Message}
	}
	return m.Result, nil
}

// errNotAsked: the request was refused and nothing was done.
var errNotAsked = errors.New("refused")

// howMany is a number from the environment.
func howMany(t *testing.T, name string, def int) int {
	t.Helper()
	v := os.Getenv(name)
	if v == "" {
		return def
	}
	n, err := strconv.Atoi(v)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestTasksSurvive kills, stops, drains and restarts three replicas at random while they work on tasks, and takes their Redis away. Every task
// whose handle its client has ends in its right result or one definite error and stays as it ended, none that must not runs twice, and nothing
// of them stays in the store for ever.
//
// SLUICE_CHAOS_TASKS is how many tasks there are (500 if it is not set; the full number is 10000), SLUICE_CHAOS_TASKS_AT_ONCE how many are open at
// a time (200).
func TestTasksSurvive(t *testing.T) {
	ledgerURL := sharedStore(t) // which stays
	r := newRedis(t)
	cluster := servers(t, 3, r.URL(), ledgerURL, "MCP_TASK_AFTER=1s", "MCP_SHUTDOWN_GRACE=2s")
	total, atOnce := int64(howMany(t, "SLUICE_CHAOS_TASKS", 500)), howMany(t, "SLUICE_CHAOS_TASKS_AT_ONCE", 200)
	l := &taskLoad{t: t, url: cluster.URL(), marks: make(map[string]bool)}
	begun := time.Now()
	over := make(chan struct{})
	trouble := troubles(t, cluster, r, over)
	var clients sync.WaitGroup
	for i := range atOnce {
		clients.Go(func() {
			rng := rand.New(rand.NewPCG(4, uint64(i)))
			for !t.Failed() {
				n := l.begun.Add(1)
				if n > total {
					return
				}
				l.task(rng, n)
			}
		})
	}
	clients.Wait()
	close(over)
	trouble.Wait()
	t.Logf("%d tasks in %v, %d at once: %d results, %d lost with their replica, %d cancelled; %d calls without a handle, of which %d refused",
		total, time.Since(begun).Round(time.Second), atOnce, l.done.Load(), l.lost.Load(), l.cancelled.Load(), l.unknown.Load()+l.refused.Load(), l.refused.Load())
	t.Log(trouble)
	if n := l.done.Load() + l.lost.Load() + l.cancelled.Load(); n != total {
		t.Errorf("%d tasks have ended as they may, of %d", n, total)
	}
	if l.lost.Load() == 0 {
		t.Error("nothing was hit: the test proves nothing")
	}
	counted := executions(t, ledgerURL)
	for what, n := range counted {
		if n > 1 {
			t.Errorf("%s was executed %d times", what, n)
		}
	}
	for what := range l.marks {
		if counted[what] != 1 {
			t.Errorf("%s is done, and was executed %d times", what, counted[what])
		}
	}
	if left := forever(t, r.URL(), "sluice:*task*"); len(left) > 1 { // all but the roster, which is one
		t.Errorf("left behind for ever: %v", left)
	}
}

// A troublemaker counts what it has done.
type troublemaker struct {
	sync.WaitGroup
	kills, pauses, drains, outages, restarts atomic.Int64
}

func (m *troublemaker) String() string {
	return fmt.Sprintf("%d replicas killed, %d stopped for longer than their lease, %d drained; Redis hung %d times and was killed %d times",
		m.kills.Load(), m.pauses.Load(), m.drains.Load(), m.outages.Load(), m.restarts.Load())
}

// troubles makes trouble until over is closed, and leaves all well.
func troubles(t *testing.T, cluster *e2e.Cluster, r *redistest.Server, over <-chan struct{}) *troublemaker {
	m := new(troublemaker)
	// A replica that starts needs the store. What begins waits for what is under way.
	var away sync.RWMutex
	wait := func(d time.Duration) bool {
		select {
		case <-over:
			return false
		case <-time.After(d):
			return true
		}
	}
	between := func(rng *rand.Rand, least, most int) time.Duration {
		return time.Duration(least+rng.IntN(most-least)) * time.Millisecond
	}
	for i, s := range cluster.Servers {
		m.Go(func() {
			rng := rand.New(rand.NewPCG(3, uint64(i)))
			for wait(between(rng, 2000, 8000)) {
				away.RLock()
				switch what := rng.IntN(8); {
				case what < 4:
					s.Kill()
					m.kills.Add(1)
					time.Sleep(between(rng, 1, 1000))
					s.Restart()
				case what < 6:
					s.Pause()
					time.Sleep(between(rng, 3500, 6000))
					s.Resume()
					m.pauses.Add(1)
				default:
					s.Stop()
					s.Restart()
					m.drains.Add(1)
				}
				away.RUnlock()
			}
		})
	}
	m.Go(func() {
		rng := rand.New(rand.NewPCG(5, 0))
		for wait(between(rng, 8000, 20000)) {
			away.Lock()
			if rng.IntN(2) == 0 {
				r.Signal(t, syscall.SIGSTOP)
				time.Sleep(between(rng, 500, 5000))
				r.Signal(t, syscall.SIGCONT)
				m.outages.Add(1)
			} else {
				r.Kill()
				time.Sleep(between(rng, 1, 4000))
				start(t, r)
				m.restarts.Add(1)
			}
			away.Unlock()
		}
	})
	return m
}

// taskLoad is what has come of tasks.
type taskLoad struct {
	t   *testing.T
	url string

	begun, done, lost, cancelled, unknown, refused atomic.Int64

	mu    sync.Mutex
	marks map[string]bool // of what is done
}

// task calls tools until one call has become a task, and follows that to its end.
func (l *taskLoad) task(rng *rand.Rand, n int64) {
	t := l.t
	for try := 0; !t.Failed(); try++ {
		tool := []string{"countdown", "charge", "transfer", "approve"}[rng.IntN(4)]
		key := fmt.Sprintf("%s-%d-%d", tool, n, try)
		from, delay := 5+rng.IntN(20), 50+rng.IntN(100)
		arguments := map[string]any{"from": from, "delay_ms": delay}
		want, marks := "charged "+key, []string{key}
		switch tool {
		case "countdown":
			want, marks = fmt.Sprintf("counted down from %d", from), nil
		case "approve":
			want, marks = "accept "+key, []string{key + " before", key + " after"}
		}
		if tool != "countdown" {
			arguments["key"] = key
		}
		r, err := ask(t.Context(), l.url, "tools/call", tool, map[string]any{"name": tool, "arguments": arguments})
		switch {
		case errors.Is(err, errNotAsked):
			l.refused.Add(1)
			time.Sleep(100 * time.Millisecond)
			continue
		case err != nil || r.ResultType != "task":
			l.unknown.Add(1) // it knows of no task; or it was over too soon to become one
			continue
		}
		cancels := rng.IntN(20) == 0
		if cancels {
			time.AfterFunc(time.Duration(rng.IntN(3000))*time.Millisecond, func() {
				_, _ = ask(t.Context(), l.url, "tasks/cancel", r.TaskID, map[string]any{"taskId": r.TaskID})
			})
		}
		end := l.await(rng, r.TaskID)
		switch {
		case end.Status == "completed" && textOf(end.Result) == want:
			l.done.Add(1)
			l.mu.Lock()
			for _, m := range marks {
				l.marks[m] = true
			}
			l.mu.Unlock()
		case end.Status == "failed" && end.Error.Code == replicaLost && tool != "countdown":
			l.lost.Add(1)
		case end.Status == "cancelled" && cancels:
			l.cancelled.Add(1)
		default:
			t.Errorf("task %s of %s is %s: %s %v, want %q", r.TaskID, key, end.Status, end.Result, end.Error, want)
		}
		time.Sleep(time.Duration(rng.IntN(500)) * time.Millisecond)
		again := l.await(rng, r.TaskID)
		if again.Status != end.Status || !bytes.Equal(again.Result, end.Result) {
			t.Errorf("task %s was %s and is %s", r.TaskID, end.Status, again.Status)
		}
		return
	}
}

// await asks until a task has come to its end, whoever is there to be asked, and answers what it asks, now and then twice.
func (l *taskLoad) await(rng *rand.Rand, id string) taskReply {
	l.t.Helper()
	for deadline := time.Now().Add(3 * time.Minute); ; time.Sleep(time.Duration(200+rng.IntN(300)) * time.Millisecond) {
		r, err := ask(l.t.Context(), l.url, "tasks/get", id, map[string]any{"taskId": id})
		var rpc *e2e.RPCError
		switch {
		case err == nil && r.Status == "input_required":
			answers := make(map[string]any)
			for key := range r.InputRequests {
				answers[key] = map[string]any{"action": "accept", "content": map[string]any{"sure": true}}
			}
			for range 1 + rng.IntN(2) {
				go func() {
					_, _ = ask(l.t.Context(), l.url, "tasks/update", id, map[string]any{"taskId": id, "inputResponses": answers})
				}()
			}
		case err == nil && r.Status != "working":
			return r
		case errors.As(err, &rpc) && rpc.Code == -32602, time.Now().After(deadline):
			l.t.Errorf("task %s: %+v, %v", id, r, err)
			return r
		}
	}
}
