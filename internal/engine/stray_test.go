package engine_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice"
	"github.com/sluice-mcp/sluice/internal/schematest"
)

// What a handler says after its call must not reach the client of another call that has got the same SDK session.
func TestStrayMessagesReachNobody(t *testing.T) {
	t.Parallel()
	type spoken struct {
		ctx context.Context
		ss  *mcp.ServerSession
	}
	left := make(chan spoken, 1)
	begun, goOn := make(chan struct{}), make(chan struct{})
	server := mcp.NewServer(&mcp.Implementation{Name: "s", Version: "1"}, nil)
	schema := json.RawMessage(`{"type":"object"}`)
	server.AddTool(&mcp.Tool{Name: "first", InputSchema: schema}, func(ctx context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		left <- spoken{ctx, req.Session}
		return &mcp.CallToolResult{}, nil
	})
	server.AddTool(&mcp.Tool{Name: "second", InputSchema: schema}, func(ctx context.Context, _ *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		close(begun)
		<-goOn
		return &mcp.CallToolResult{}, nil
	})
	h := sluice.NewHandler(func(*http.Request) *mcp.Server { return server }, nil)
	defer func() { _ = h.Close() }()
	call := func(tool string) string {
		body := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"` + tool + `","_meta":{"progressToken":"t","io.modelcontextprotocol/protocolVersion":"2026-07-28",` +
			`"io.modelcontextprotocol/logLevel":"debug","io.modelcontextprotocol/clientInfo":{"name":"c","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}}}}`
		r := httptest.NewRequest(http.MethodPost, "http://localhost/mcp", bytes.NewReader([]byte(body)))
		for k, v := range map[string]string{"Content-Type": "application/json", "Accept": "application/json, text/event-stream", "MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": tool} {
			r.Header.Set(k, v)
		}
		w := httptest.NewRecorder()
		schematest.Watch(t, h).ServeHTTP(w, r)
		return w.Body.String()
	}
	call("first")
	<-left
	call("first")
	stray := <-left
	second := make(chan string)
	go func() { second <- call("second") }()
	<-begun
	for _, ctx := range []context.Context{stray.ctx, context.WithoutCancel(stray.ctx), context.Background()} {
		_ = stray.ss.NotifyProgress(ctx, &mcp.ProgressNotificationParams{ProgressToken: "t", Progress: 1, Message: "secret of the first"})
		_ = stray.ss.Log(ctx, &mcp.LoggingMessageParams{Level: "error", Data: "secret of the first"})
	}
	close(goOn)
	if got := <-second; strings.Contains(got, "secret") {
		t.Errorf("the second client sees %s", got)
	}
}
