package demo

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

var tones = []string{"formal", "friendly", "funny", "short"}

func toneList() string { return strings.Join(tones, ", ") }

func welcome(_ context.Context, req *mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
	tone := req.Params.Arguments["tone"]
	if !slices.Contains(tones, tone) {
		return nil, &jsonrpc.Error{
			Code:    jsonrpc.CodeInvalidParams,
			Message: fmt.Sprintf("argument tone is %q, want one of %s", tone, toneList()),
		}
	}
	return &mcp.GetPromptResult{
		Description: "A " + tone + " welcome",
		Messages: []*mcp.PromptMessage{{
			Role:    "user",
			Content: &mcp.TextContent{Text: "Write a " + tone + " welcome for a guest of our restaurant."},
		}},
	}, nil
}

func complete(_ context.Context, req *mcp.CompleteRequest) (*mcp.CompleteResult, error) {
	values := []string{} // an empty list, never null
	ref, arg := req.Params.Ref, req.Params.Argument
	if ref != nil && ref.Type == "ref/prompt" && ref.Name == "welcome" && arg.Name == "tone" {
		for _, tone := range tones {
			if strings.HasPrefix(tone, strings.ToLower(arg.Value)) {
				values = append(values, tone)
			}
		}
	}
	return &mcp.CompleteResult{
		Completion: mcp.CompletionResultDetails{Values: values, Total: len(values)},
	}, nil
}
