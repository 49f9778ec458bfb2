package tools

import (
	"context"
	"fmt"
	"strconv"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// shorten is a prompt: a message that a person picks from a menu.
func shorten(_ context.Context, req *mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
	words, err := strconv.Atoi(req.Params.Arguments["words"])
	if err != nil || words < 1 {
		return nil, &jsonrpc.Error{
			Code:    jsonrpc.CodeInvalidParams,
			Message: fmt.Sprintf("words is %q, want a number above zero", req.Params.Arguments["words"]),
		}
	}
	return &mcp.GetPromptResult{Messages: []*mcp.PromptMessage{{
		Role: "user",
		Content: &mcp.TextContent{Text: fmt.Sprintf("Shorten the text above to at most %d words without losing what matters. "+
			"Check the length with count_words.", words)},
	}}}, nil
}
