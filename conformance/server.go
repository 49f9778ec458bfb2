package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// noArguments is the input schema of the many tools that take none.
var noArguments = json.RawMessage(`{"type":"object"}`)

// newServer returns a server with everything that the scenarios of all
// revisions look for.
func newServer() (*mcp.Server, error) {
	// Naming any capability drops the SDK's default, which is logging.
	caps := &mcp.ServerCapabilities{Logging: &mcp.LoggingCapabilities{}}
	caps.AddExtension(skillsExtension, map[string]any{"directoryRead": true})
	s := mcp.NewServer(&mcp.Implementation{Name: "sluice-conformance", Version: "v1.0.0"}, &mcp.ServerOptions{
		Capabilities:      caps,
		CompletionHandler: complete,
		// The SDK keeps the subscriptions itself; the handlers only have to agree.
		SubscribeHandler:   func(context.Context, *mcp.SubscribeRequest) error { return nil },
		UnsubscribeHandler: func(context.Context, *mcp.UnsubscribeRequest) error { return nil },
	})
	addContentTools(s)
	addSchemaTools(s)
	addTalkingTools(s)
	addStatelessTools(s)
	addInputTools(s)
	addChangingTools(s)
	addResources(s)
	addPrompts(s)
	addTasks(s)
	if err := addSkills(s); err != nil {
		return nil, fmt.Errorf("add the skills: %w", err)
	}
	return s, nil
}

// addTool adds a tool that takes no arguments.
func addTool(s *mcp.Server, name, description string, h mcp.ToolHandler) {
	s.AddTool(&mcp.Tool{Name: name, Description: description, InputSchema: noArguments}, h)
}

// text returns a result of one text.
func text(s string) *mcp.CallToolResult {
	return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: s}}}
}

// complete suggests values for any argument of any prompt.
func complete(_ context.Context, req *mcp.CompleteRequest) (*mcp.CompleteResult, error) {
	values := []string{"harbour", "hello", "lock", "weir", "world"}
	values = slices.DeleteFunc(values, func(v string) bool { return !strings.HasPrefix(v, req.Params.Argument.Value) })
	return &mcp.CompleteResult{Completion: mcp.CompletionResultDetails{Values: values, Total: len(values)}}, nil
}
