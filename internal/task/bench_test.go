package task_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice"
	"github.com/sluice-mcp/sluice/internal/sitetest"
)

// manyTasks is how many are open at once.
const manyTasks = 10_000

// TestOpenTasksAreSmall bounds what a task costs its replica while it is worked on, and while it waits for its client.
func TestOpenTasksAreSmall(t *testing.T) {
	if testing.Short() || sitetest.RaceDetector() {
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
			server := taskServer(&sitetest.Executions{})
			h := sluice.NewHandler(func(*http.Request) *mcp.Server { return server }, &sluice.Options{MaxTasks: 2 * manyTasks, MaxCalls: 2 * manyTasks})
			defer h.Close()
			caps := `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":` + taskCaps + `}`
			begin := sitetest.NewPost(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"`+tt.tool+`","arguments":{"MS":600000},`+caps+`}}`,
				map[string]string{"Mcp-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": tt.tool})
			create := func() string {
				w := httptest.NewRecorder()
				begin.SendTo(h, w)
				var m struct{ Result struct{ TaskID string } }
				start := max(0, bytes.IndexByte(w.Body.Bytes(), '{')) // on a busy machine the answer may come as an event
				if err := json.NewDecoder(bytes.NewReader(w.Body.Bytes()[start:])).Decode(&m); err != nil || m.Result.TaskID == "" {
					t.Fatalf("%s: %v", w.Body.Bytes(), err)
				}
				return m.Result.TaskID
			}
			look := func(id string) *sitetest.Post {
				return sitetest.NewPost(`{"jsonrpc":"2.0","id":1,"method":"tasks/get","params":{"taskId":"`+id+`",`+caps+`}}`,
					map[string]string{"Mcp-Protocol-Version": "2026-07-28", "Mcp-Method": "tasks/get", "Mcp-Name": id})
			}
			create()
			before, objects := liveMemory(), runtime.NumGoroutine()
			ids := make([]string, manyTasks)
			for i := range ids {
				ids[i] = create()
			}
			if tt.tool == "ask" { // until each waits for its client, and nobody works on it
				for _, id := range ids {
					sitetest.Eventually(t, "it asks", func() bool {
						w := httptest.NewRecorder()
						look(id).SendTo(h, w)
						return strings.Contains(w.Body.String(), `"input_required"`)
					})
				}
			}
			perTask := (liveMemory() - before) / manyTasks
			goroutines := float64(runtime.NumGoroutine()-objects) / manyTasks

			var took []time.Duration
			for _, id := range ids[:1000] {
				get := look(id)
				begun := time.Now()
				get.Send(h)
				took = append(took, time.Since(begun))
				if get.Answer.Status != http.StatusOK {
					t.Fatalf("get: %d", get.Answer.Status)
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
