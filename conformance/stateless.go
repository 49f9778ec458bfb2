package main

import (
	"context"
	"encoding/json"
	"sync"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// addStatelessTools adds the tools that try what 2026-07-28 forbids a server.
func addStatelessTools(s *mcp.Server) {
	addTool(s, "test_missing_capability", "Needs a client that samples.", needSampling)
	addTool(s, "test_streaming_elicitation", "Tries to elicit with a request on the response stream.", elicitOnStream)
	addTool(s, "test_logging_tool", "Tries to log a line.", func(ctx context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		if err := logLine(ctx, req, "This line is only for those who asked for it."); err != nil {
			return nil, err
		}
		return text("Logged."), nil
	})
}

func needSampling(_ context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	if caps := req.ClientCapabilities(); caps == nil || caps.Sampling == nil {
		return nil, &jsonrpc.Error{
			Code:    mcp.CodeMissingRequiredClientCapabilities,
			Message: "this tool needs a client that supports sampling",
			Data:    json.RawMessage(`{"requiredCapabilities":{"sampling":{}}}`),
		}
	}
	return text("The client supports sampling."), nil
}

// elicitOnStream does what a tool of the session era does. Clients of
// 2026-07-28 must not see that request: they are asked in the result.
func elicitOnStream(ctx context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	if token := req.Params.GetProgressToken(); token != nil {
		if err := req.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{ProgressToken: token, Progress: 1}); err != nil {
			return nil, err
		}
	}
	if res, err := elicit(ctx, req, "May I?", json.RawMessage(`{"type":"object","properties":{"ok":{"type":"boolean"}}}`)); err == nil {
		return res, nil
	}
	return text("The person could not be asked."), nil
}

// addChangingTools adds the tools that change the server's lists.
func addChangingTools(s *mcp.Server) {
	addTool(s, "test_trigger_tool_change", "Changes the list of tools.", toggle("The list of tools changed.",
		func() {
			addTool(s, "test_changed_tool", "Comes and goes.", func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
				return text("Still here."), nil
			})
		},
		func() { s.RemoveTools("test_changed_tool") },
	))
	addTool(s, "test_trigger_prompt_change", "Changes the list of prompts.", toggle("The list of prompts changed.",
		func() {
			s.AddPrompt(&mcp.Prompt{Name: "test_changed_prompt", Description: "Comes and goes."}, simplePrompt)
		},
		func() { s.RemovePrompts("test_changed_prompt") },
	))
}

// toggle returns a tool that calls add and remove in turn.
func toggle(done string, add, remove func()) mcp.ToolHandler {
	var mu sync.Mutex
	var added bool
	return func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		mu.Lock()
		defer mu.Unlock()
		if added {
			remove()
		} else {
			add()
		}
		added = !added
		return text(done), nil
	}
}
