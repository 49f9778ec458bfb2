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
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-mcp/sluice/e2e"
)

// taskReply is what the test looks at of an answer about a task.
type taskReply struct {
	TaskID string
	Status string
	Result json.RawMessage
	Error  *struct {
		Code    int
		Message string
	}
}

// ask sends one request of 2026-07-28 and returns its result. An error says that there was none.
func ask(ctx context.Context, url, method, name string, params map[string]any) (r taskReply, err error) {
	params["_meta"] = map[string]any{
		"io.modelcontextprotocol/protocolVersion":    "2026-07-28",
		"io.modelcontextprotocol/clientCapabilities": map[string]any{"extensions": map[string]any{"io.modelcontextprotocol/tasks": map[string]any{}}},
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
	if m.Error != nil {
		return r, &e2e.RPCError{Code: m.Error.Code, Message: m.Error.Message}
	}
	return m.Result, nil
}

// TestTasksSurvive kills and restarts replicas at random while they work on tasks. Every task whose handle its client has ends in its right
// result or one definite error, and none that must not runs twice.
func TestTasksSurvive(t *testing.T) {
	storeURL := sharedStore(t)
	cluster := servers(t, 3, storeURL, storeURL)
	url := cluster.URL()
	stop := make(chan struct{})
	time.AfterFunc(troubleTime(t), func() { close(stop) })
	var killers, clients sync.WaitGroup
	var kills, begun, done, lost, unknown atomic.Int64
	for i, s := range cluster.Servers {
		killers.Go(func() {
			rng := rand.New(rand.NewPCG(3, uint64(i)))
			for {
				select {
				case <-stop:
					return
				case <-time.After(2*time.Second + time.Duration(rng.IntN(5000))*time.Millisecond):
				}
				s.Kill()
				kills.Add(1)
				time.Sleep(time.Duration(rng.IntN(1000)) * time.Millisecond)
				s.Restart()
			}
		})
	}
	var mu sync.Mutex
	fate := make(map[string]string) // of charges, by key
	for i := range 100 {
		clients.Go(func() {
			rng := rand.New(rand.NewPCG(4, uint64(i)))
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				tool, key := "countdown", fmt.Sprintf("task-%d-%d", i, n)
				from := 5 + rng.IntN(20)
				want := fmt.Sprintf("counted down from %d", from)
				arguments := map[string]any{"from": from, "delay_ms": 50 + rng.IntN(100)}
				if i%2 == 0 {
					tool, want = "charge", "charged "+key
					arguments["key"] = key
				}
				h, err := ask(t.Context(), url, "tools/call", tool, map[string]any{"name": tool, "arguments": arguments})
				if err != nil || h.TaskID == "" {
					unknown.Add(1) // it knows of no task
					time.Sleep(100 * time.Millisecond)
					continue
				}
				begun.Add(1)
				r := awaitTask(t, url, h.TaskID)
				switch {
				case r.Status == "completed" && textOf(r.Result) == want:
					done.Add(1)
				case r.Status == "failed" && r.Error.Code == replicaLost && tool == "charge":
					lost.Add(1)
				default:
					t.Errorf("%s: %+v %s, want %q", tool, r, r.Result, want)
				}
				if tool == "charge" {
					mu.Lock()
					fate[key] = r.Status
					mu.Unlock()
				}
			}
		})
	}
	clients.Wait()
	killers.Wait()
	t.Logf("%d kills; %d tasks: %d results, %d lost with their replica; %d calls without a handle", kills.Load(), begun.Load(), done.Load(), lost.Load(), unknown.Load())
	if lost.Load() == 0 {
		t.Error("nothing was hit: the test proves nothing")
	}
	counted := executions(t, storeURL)
	for key, status := range fate {
		if n := counted[key]; n > 1 || status == "completed" && n != 1 {
			t.Errorf("%s is %s and was executed %d times", key, status, n)
		}
	}
}

// awaitTask asks until a task has come to its end, whoever is there to be asked.
func awaitTask(t *testing.T, url, id string) taskReply {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(200 * time.Millisecond) {
		r, err := ask(t.Context(), url, "tasks/get", id, map[string]any{"taskId": id})
		var rpc *e2e.RPCError
		switch {
		case err == nil && r.Status != "working":
			return r
		case errors.As(err, &rpc) && rpc.Code == -32602, time.Now().After(deadline):
			t.Errorf("task: %+v, %v", r, err)
			return r
		}
	}
}
