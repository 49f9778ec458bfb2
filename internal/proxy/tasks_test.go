package proxy_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice"
	"github.com/sluice-mcp/sluice/e2e"
)

// asks returns the URL of a server with a tool that is always a task, and asks before it ends. Requests of the extension whose
// header does not name their task do not reach it.
func asks(t *testing.T) string {
	t.Helper()
	server := mcp.NewServer(&mcp.Implementation{Name: "asks", Version: "v1"}, nil)
	tool := &mcp.Tool{Name: "ask"}
	sluice.MarkTask(tool, sluice.TaskOptions{Mode: sluice.TaskRequire})
	sluice.AddTool(server, tool, func(_ context.Context, req *mcp.CallToolRequest, _ struct{}) (*mcp.CallToolResult, any, error) {
		if answer, ok := req.Params.InputResponses["q"].(*mcp.ElicitResult); ok {
			return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: answer.Action}}}, nil, nil
		}
		return &mcp.CallToolResult{InputRequests: mcp.InputRequestMap{"q": &mcp.ElicitParams{Mode: "form", Message: "?", RequestedSchema: map[string]any{"type": "object"}}}}, nil, nil
	})
	handler := sluice.NewHandler(func(*http.Request) *mcp.Server { return server }, nil)
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch method := r.Header.Get("Mcp-Method"); method {
		case "tasks/get", "tasks/update", "tasks/cancel":
			if len(r.Header.Get("Mcp-Name")) != 26 { // that it is the body's, the server looks at
				http.Error(w, "Mcp-Name is missing", http.StatusTeapot)
				return
			}
		}
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		web.CloseClientConnections()
		web.Close()
		_ = handler.Close()
	})
	return web.URL
}

// A client on stdio has tasks, if its server has them.
func TestBridgeTasks(t *testing.T) {
	t.Parallel()
	c := bridge(t, asks(t))
	n := 0
	request := func(method, params string) string {
		n++
		return fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":%q,"params":{%s,"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28",`+
			`"io.modelcontextprotocol/clientCapabilities":{"elicitation":{"form":{}},"extensions":{"io.modelcontextprotocol/tasks":{}}}}}}`, n, method, params)
	}
	do := func(method, params string) map[string]any {
		t.Helper()
		c.send(request(method, params))
		m := c.receive()
		result, ok := m["result"].(map[string]any)
		if !ok {
			t.Fatalf("%s: %v", method, m)
		}
		return result
	}
	until := func(id, status string) map[string]any {
		t.Helper()
		for range 100 {
			if r := do("tasks/get", id); r["status"] == status {
				return r
			}
			time.Sleep(20 * time.Millisecond)
		}
		t.Fatalf("never %s", status)
		return nil
	}
	begin := func() string {
		t.Helper()
		handle := do("tools/call", `"name":"ask","arguments":{}`)
		if handle["resultType"] != "task" {
			t.Fatalf("the handle is %v", handle)
		}
		return fmt.Sprintf(`"taskId":%q`, handle["taskId"])
	}

	id := begin()
	for key := range until(id, "input_required")["inputRequests"].(map[string]any) {
		do("tasks/update", fmt.Sprintf(`%s,"inputResponses":{%q:{"action":"decline"}}`, id, key))
	}
	result := until(id, "completed")["result"].(map[string]any)
	if text := result["content"].([]any)[0].(map[string]any)["text"]; text != "decline" {
		t.Errorf("the result is %v", result)
	}

	id = begin()
	do("tasks/cancel", id)
	until(id, "cancelled")

	// A listener is told what it would see.
	c.send(request("subscriptions/listen", fmt.Sprintf(`"notifications":{"taskIds":[%s]}`, id[len(`"taskId":`):])))
	if m := c.receive(); m["method"] != "notifications/subscriptions/acknowledged" {
		t.Errorf("first comes %v", m)
	}
	if m := c.receive(); m["method"] != "notifications/tasks" || m["params"].(map[string]any)["status"] != "cancelled" {
		t.Errorf("then comes %v", m)
	}
}

// An SDK's client that knows no tasks is told so through the bridge as it would be without.
func TestBridgeWithoutTasks(t *testing.T) {
	t.Parallel()
	session := bridge(t, e2e.Start(t, e2e.Command("./cmd/mcp-server-demo")).URL()).connect("2026-07-28", nil)
	defer session.Close()
	res, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "audit", Arguments: map[string]int{"steps": 2, "delay_ms": 1}})
	if err != nil || len(res.Content) != 1 || res.Content[0].(*mcp.TextContent).Text != "Audited 2 steps." {
		t.Errorf("%+v, %v", res, err)
	}
}
