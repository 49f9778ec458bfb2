package tools

import (
	"context"
	"strings"
	"unicode/utf8"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

type countInput struct {
	Text string `json:"text" jsonschema:"the text to count in"`
}

type countOutput struct {
	Words      int `json:"words" jsonschema:"words, separated by white space"`
	Characters int `json:"characters" jsonschema:"characters, white space included"`
}

// countWords is a tool: its input and output types are its schema, and an error that it returns is shown to the model.
func countWords(_ context.Context, _ *mcp.CallToolRequest, in countInput) (*mcp.CallToolResult, countOutput, error) {
	return nil, count(in.Text), nil
}

func count(text string) countOutput {
	return countOutput{Words: len(strings.Fields(text)), Characters: utf8.RuneCountInString(text)}
}
