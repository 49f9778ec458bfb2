// Package tools owns what this server offers: its tools, resources and prompts. It knows nothing of transports.
package tools

import (
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/sluice-mcp/sluice"
)

// NewServer returns the MCP server. It keeps no state, so one is enough for every client.
func NewServer() *mcp.Server {
	server := mcp.NewServer(
		&mcp.Implementation{Name: "my-project", Version: "v0.1.0"},
		&mcp.ServerOptions{Instructions: "Counts words, and knows how long texts of common kinds may be."},
	)
	no := false
	sluice.AddTool(server, &mcp.Tool{
		Name:        "count_words",
		Description: "Count the words and characters of a text.",
		// A read-only tool may run again when its replica is lost, and clients need not ask a person first.
		Annotations: &mcp.ToolAnnotations{ReadOnlyHint: true, IdempotentHint: true, OpenWorldHint: &no},
	}, countWords)
	server.AddResource(&mcp.Resource{
		URI:         limitsURI,
		Name:        "limits",
		Description: "Usual lengths of common kinds of text, in words.",
		MIMEType:    "text/markdown",
	}, limits)
	server.AddPrompt(&mcp.Prompt{
		Name:        "shorten",
		Description: "Shorten a text to a number of words.",
		Arguments:   []*mcp.PromptArgument{{Name: "words", Description: "how many words at most", Required: true}},
	}, shorten)
	return server
}
