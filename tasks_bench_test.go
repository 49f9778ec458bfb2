package sluice

import (
	"bytes"
	"encoding/json"
	"net/http"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// manyTasks is how many are open at once.
const manyTasks = 10_000

// TestOpenTasksAreSmall bounds what a task costs its replica while it is worked on, and while it waits for its client.
func TestOpenTasksAreSmall(t *testing.T) {
	if testing.Short() || raceDetector() {
		t.Skip("measures")
	}
	for _, tt := range []struct {
		tool       string
		goroutines float64
		bytes      float64
	}{
		{"work", 3.5, 32 << 10},
		{"ask", 0.1, 4 << 10}, // its record, which is in a memory store here
	} {
		t.Run(tt.tool, func(t *testing.T) {
			server := taskServer(&executions{})
			h := NewHandler(func(*http.Request) *mcp.Server { return server }, &Options{MaxTasks: 2 * manyTasks, MaxCalls: 2 * manyTasks})
			defer h.Close()
			caps := `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":` + taskCaps + `}`
			begin := newPost(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"`+tt.tool+`","arguments":{"MS":600000},`+caps+`}}`,
				map[string]string{"Mcp-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": tt.tool})
			create := func() string {
				w := &keepingWriter{header: make(http.Header)}
				_, _ = begin.body.Seek(0, 0)
				h.ServeHTTP(w, begin.request)
				var m struct{ Result struct{ TaskID string } }
				start := max(0, bytes.IndexByte(w.body.Bytes(), '{')) // on a busy machine the answer may come as an event
				if err := json.NewDecoder(bytes.NewReader(w.body.Bytes()[start:])).Decode(&m); err != nil || m.Result.TaskID == "" {
					t.Fatalf("%s: %v", w.body.Bytes(), err)
				}
				return m.Result.TaskID
			}
			create()
			before, objects := liveMemory(), runtime.NumGoroutine()
			ids := make([]string, manyTasks)
			for i := range ids {
				ids[i] = create()
			}
			for deadline := time.Now().Add(10 * time.Second); tt.tool == "ask" && h.tasks.Working() > 0; time.Sleep(10 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("%d still work", h.tasks.Working())
				}
			}
			perTask := (liveMemory() - before) / manyTasks
			goroutines := float64(runtime.NumGoroutine()-objects) / manyTasks

			var took []time.Duration
			for _, id := range ids[:1000] {
				get := newPost(`{"jsonrpc":"2.0","id":1,"method":"tasks/get","params":{"taskId":"`+id+`",`+caps+`}}`,
					map[string]string{"Mcp-Protocol-Version": "2026-07-28", "Mcp-Method": "tasks/get", "Mcp-Name": id})
				begun := time.Now()
				get.send(h)
				took = append(took, time.Since(begun))
				if get.writer.status != http.StatusOK {
					t.Fatalf("get: %d", get.writer.status)
				}
			}
			slices.Sort(took)
			t.Logf("%d tasks of %s: %.1f KB and %.2f goroutines each; tasks/get p50 %v, p99 %v", manyTasks, tt.tool, perTask/1024, goroutines, took[500], took[990])
			if perTask > tt.bytes || goroutines > tt.goroutines {
				t.Errorf("a task of %s costs %.0f bytes and %.2f goroutines, more than %.0f and %.2f", tt.tool, perTask, goroutines, tt.bytes, tt.goroutines)
			}
		})
	}
}

// liveMemory is what is in use on heap and stacks, in bytes.
func liveMemory() float64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc + m.StackInuse)
}
