// Package demo owns the server that the demo command shows: a few small tools, resources and a
// prompt, chosen so that each shape of an answer occurs once. It knows nothing of transports.
package demo

import (
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice"
)

// Server returns a new demo server. It keeps no state, so one is enough for every client.
func Server() *mcp.Server {
	server := mcp.NewServer(
		&mcp.Implementation{Name: "sluice-demo", Title: "Sluice demo", Version: "v1.0.0"},
		&mcp.ServerOptions{
			Instructions:      "Adds numbers, counts down with progress, audits for as long as it takes, and books a table once a person has confirmed.",
			CompletionHandler: complete,
		},
	)

	// Clients take these two hints as true when absent, and none of the tools below
	// destroys anything or reaches outside.
	no := new(bool)

	sluice.AddTool(server, &mcp.Tool{
		Name:        "add",
		Description: "Add two whole numbers.",
		Annotations: &mcp.ToolAnnotations{ReadOnlyHint: true, IdempotentHint: true, OpenWorldHint: no},
	}, add)
	sluice.AddTool(server, &mcp.Tool{
		Name:        "countdown",
		Description: "Count down to zero and report progress at each step.",
		Annotations: &mcp.ToolAnnotations{ReadOnlyHint: true, IdempotentHint: true, OpenWorldHint: no},
	}, countdown)
	auditTool := &mcp.Tool{
		Name:        "audit",
		Description: "Check something step by step, and ask halfway whether to go on.",
		Annotations: &mcp.ToolAnnotations{ReadOnlyHint: true, IdempotentHint: true, OpenWorldHint: no},
	}
	sluice.MarkTask(auditTool, sluice.TaskOptions{Mode: sluice.TaskPrefer})
	sluice.AddTool(server, auditTool, audit)
	sluice.AddTool(server, &mcp.Tool{
		Name:        "book_table",
		Description: "Book a table after a person has confirmed it.",
		Annotations: &mcp.ToolAnnotations{DestructiveHint: no, OpenWorldHint: no},
	}, bookTable)

	server.AddResource(&mcp.Resource{
		URI:         "demo://about",
		Name:        "about",
		Description: "What this server is.",
		MIMEType:    "text/plain",
	}, about)
	server.AddResourceTemplate(&mcp.ResourceTemplate{
		URITemplate: greetingScheme + "{name}",
		Name:        "greeting",
		Description: "A greeting for the name in the URI.",
		MIMEType:    "text/plain",
	}, greeting)

	server.AddPrompt(&mcp.Prompt{
		Name:        "welcome",
		Description: "Ask for a welcome message in a given tone.",
		Arguments: []*mcp.PromptArgument{
			{Name: "tone", Description: "One of " + toneList() + ".", Required: true},
		},
	}, welcome)
	return server
}
