package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// TokenEstimate estimates how many tokens of a model's context the definitions of these tools take: the
// bytes of their JSON divided by four, rounded up for each tool. Tokenizers differ; this is a measure
// to compare by, the same everywhere.
func TokenEstimate(tools []*mcp.Tool) int {
	sum := 0
	for _, tool := range tools {
		sum += toolTokens(tool)
	}
	return sum
}

func toolTokens(tool *mcp.Tool) int { return (len(toJSON(tool)) + 3) / 4 }

// TokenBudget fails the test when the server's tools take more tokens, by [TokenEstimate], than the
// budget: each client pays them on every turn.
func TokenBudget(t testing.TB, e Endpoint, budget int, opts ...ClientOption) {
	t.Helper()
	c, err := readContract(t.Context(), e.Connect(t, newest(t, e), opts...))
	if err != nil {
		t.Fatalf("e2e: %s: %v", e.URL(), err)
	}
	total := TokenEstimate(c.Tools)
	if total <= budget {
		return
	}
	slices.SortFunc(c.Tools, func(a, b *mcp.Tool) int { return toolTokens(b) - toolTokens(a) })
	var list strings.Builder
	for _, tool := range c.Tools {
		fmt.Fprintf(&list, "\n%6d  %s", toolTokens(tool), tool.Name)
	}
	t.Errorf("e2e: the tools take about %d tokens, the budget is %d:%s", total, budget, &list)
}
