package e2e_test

import (
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice/e2e"
)

func TestSnapshot(t *testing.T) {
	t.Parallel()
	srv := startEcho(t)
	e2e.Snapshot(t, srv)
	e2e.TokenBudget(t, srv, 1000)
}

func TestTokenEstimate(t *testing.T) {
	t.Parallel()
	tool := &mcp.Tool{Name: "add", InputSchema: map[string]any{"type": "object"}}
	// {"inputSchema":{"type":"object"},"name":"add"} has 46 bytes.
	if got := e2e.TokenEstimate([]*mcp.Tool{tool, tool}); got != 24 {
		t.Errorf("TokenEstimate = %d, want 24", got)
	}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("the suite takes seconds")
	}
	e2e.Conformance(t, startEcho(t))
}
