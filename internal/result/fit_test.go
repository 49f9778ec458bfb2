package result

import (
	"context"
	"encoding/json"
	"runtime"
	"testing"
	"time"
	"weak"

	"github.com/google/jsonschema-go/jsonschema"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// What is known of a tool is forgotten with it: a program may make tools for each client.
func TestToolsAreForgotten(t *testing.T) {
	t.Parallel()
	var keys []weak.Pointer[mcp.Tool]
	for _, tool := range []*mcp.Tool{
		{Name: "plain", InputSchema: &jsonschema.Schema{Type: "object"}},
		{Name: "raw", InputSchema: json.RawMessage(`{"type":"object"}`)},
	} {
		list := &mcp.ListToolsResult{Tools: []*mcp.Tool{tool}}
		first, second := Fit(list, "2025-11-25").(*mcp.ListToolsResult), Fit(list, "2025-11-25").(*mcp.ListToolsResult)
		if first.Tools[0] != second.Tools[0] {
			t.Errorf("%s is looked through each time", tool.Name)
		}
		keys = append(keys, weak.Make(tool))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for _, key := range keys {
		for known := true; known; _, known = fittedTools.Load(key) {
			if ctx.Err() != nil {
				t.Fatal("a tool that nobody has any more is still known")
			}
			runtime.GC()
			time.Sleep(time.Millisecond) // cleanups run on a goroutine of the runtime
		}
	}
}

// An ordinary result costs nothing to look at.
func TestFittingAllocatesNothing(t *testing.T) {
	for name, res := range map[string]*mcp.CallToolResult{
		"typed": typed(`{"sum":5}`),
		"text":  texts("hello"),
		"value": {Content: texts("x").Content, StructuredContent: map[string]any{"a": 1}},
	} {
		for _, revision := range []string{"2025-06-18", "2026-07-28"} {
			if n := testing.AllocsPerRun(100, func() { Fit(res, revision) }); n > 0 {
				t.Errorf("%s, %s: %v allocations", name, revision, n)
			}
			if Fit(res, revision) != mcp.Result(res) {
				t.Errorf("%s, %s: copied", name, revision)
			}
		}
	}
}

// What a handler has returned is its own, and may be returned again.
func TestFitLeavesWhatItGets(t *testing.T) {
	t.Parallel()
	content := make([]mcp.Content, 1, 4) // with room that is not ours
	content[0] = &mcp.TextContent{Text: "x"}
	res := &mcp.CallToolResult{Content: content, StructuredContent: []int{1}}
	got, _ := Fit(res, "2025-06-18").(*mcp.CallToolResult)
	if len(got.Content) != 2 || got.StructuredContent != nil {
		t.Errorf("%+v", got)
	}
	if len(res.Content) != 1 || res.StructuredContent == nil || content[:2][1] != nil {
		t.Errorf("the handler's result became %+v", res)
	}
}
