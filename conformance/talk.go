package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// pause is how long a scenario wants a tool to wait between two messages.
const pause = 50 * time.Millisecond

// addTalkingTools adds the tools that speak to the client before they answer.
func addTalkingTools(s *mcp.Server) {
	addTool(s, "test_tool_with_progress", "Reports its progress three times.", reportProgress)
	addTool(s, "test_tool_with_logging", "Logs three lines.", logThrice)
	addTool(s, "test_reconnection", "Closes its stream before it answers.", closeStream)
	mcp.AddTool(s, &mcp.Tool{Name: "test_sampling", Description: "Asks the client's model."}, sample)
	mcp.AddTool(s, &mcp.Tool{Name: "test_elicitation", Description: "Asks the person for a name and an address."}, elicitContact)
	addTool(s, "test_elicitation_sep1034_defaults", "Asks with a default for every primitive type.", elicitForm(defaultsForm))
	addTool(s, "test_elicitation_sep1330_enums", "Asks with every form of a choice.", elicitForm(choicesForm))
}

func reportProgress(ctx context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	token := req.Params.GetProgressToken()
	for _, progress := range []float64{0, 50, 100} {
		if token != nil {
			err := req.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{ProgressToken: token, Progress: progress, Total: 100})
			if err != nil {
				return nil, err
			}
		}
		if err := wait(ctx, pause); err != nil {
			return nil, err
		}
	}
	return text("Progress reported."), nil
}

func logThrice(ctx context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	for _, line := range []string{"Tool execution started", "Tool processing data", "Tool execution completed"} {
		if err := logLine(ctx, req, line); err != nil {
			return nil, err
		}
		if err := wait(ctx, pause); err != nil {
			return nil, err
		}
	}
	return text("Logged."), nil
}

// logLine sends a log message to the client, at level info.
func logLine(ctx context.Context, req *mcp.CallToolRequest, line string) error {
	return req.Session.Log(ctx, &mcp.LoggingMessageParams{Level: "info", Data: line})
}

// closeStream has the client come back for the answer (SEP-1699).
func closeStream(ctx context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	if req.Extra != nil && req.Extra.CloseSSEStream != nil {
		req.Extra.CloseSSEStream(mcp.CloseSSEStreamArgs{RetryAfter: 10 * time.Millisecond})
	}
	if err := wait(ctx, 2*pause); err != nil {
		return nil, err
	}
	return text("Answered after the stream was closed."), nil
}

type promptArgs struct {
	Prompt string `json:"prompt" jsonschema:"what to ask the model"`
}

func sample(ctx context.Context, req *mcp.CallToolRequest, in promptArgs) (*mcp.CallToolResult, any, error) {
	res, err := req.Session.CreateMessage(ctx, sampling(in.Prompt, 100))
	if err != nil {
		return nil, nil, fmt.Errorf("sampling: %w", err)
	}
	answer, ok := res.Content.(*mcp.TextContent)
	if !ok {
		return nil, nil, fmt.Errorf("sampling: the model answered with %T, not with text", res.Content)
	}
	return text("LLM response: " + answer.Text), nil, nil
}

type messageArgs struct {
	Message string `json:"message" jsonschema:"what to ask the person"`
}

func elicitContact(ctx context.Context, req *mcp.CallToolRequest, in messageArgs) (*mcp.CallToolResult, any, error) {
	res, err := elicit(ctx, req, in.Message, json.RawMessage(`{
		"type": "object",
		"properties": {
			"username": {"type": "string", "description": "User's response"},
			"email": {"type": "string", "description": "User's email address"}
		},
		"required": ["username", "email"]
	}`))
	return res, nil, err
}

var defaultsForm = json.RawMessage(`{
	"type": "object",
	"properties": {
		"name": {"type": "string", "default": "John Doe"},
		"age": {"type": "integer", "default": 30},
		"score": {"type": "number", "default": 95.5},
		"status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
		"verified": {"type": "boolean", "default": true}
	}
}`)

var choicesForm = json.RawMessage(`{
	"type": "object",
	"properties": {
		"untitledSingle": {"type": "string", "enum": ["option1", "option2", "option3"]},
		"titledSingle": {"type": "string", "oneOf": [
			{"const": "value1", "title": "First Option"},
			{"const": "value2", "title": "Second Option"},
			{"const": "value3", "title": "Third Option"}
		]},
		"legacyEnum": {"type": "string", "enum": ["opt1", "opt2", "opt3"], "enumNames": ["Option One", "Option Two", "Option Three"]},
		"untitledMulti": {"type": "array", "items": {"type": "string", "enum": ["option1", "option2", "option3"]}},
		"titledMulti": {"type": "array", "items": {"anyOf": [
			{"const": "value1", "title": "First Choice"},
			{"const": "value2", "title": "Second Choice"},
			{"const": "value3", "title": "Third Choice"}
		]}}
	}
}`)

func elicitForm(form json.RawMessage) mcp.ToolHandler {
	return func(ctx context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		res, err := elicit(ctx, req, "Please fill in the form.", form)
		if err != nil {
			res = &mcp.CallToolResult{}
			res.SetError(err)
		}
		return res, nil
	}
}

// elicit asks the person over the session and answers with what they said.
func elicit(ctx context.Context, req *mcp.CallToolRequest, message string, form json.RawMessage) (*mcp.CallToolResult, error) {
	res, err := req.Session.Elicit(ctx, &mcp.ElicitParams{Message: message, RequestedSchema: form})
	if err != nil {
		return nil, fmt.Errorf("elicitation: %w", err)
	}
	content, err := json.Marshal(res.Content)
	if err != nil {
		return nil, fmt.Errorf("elicitation: %w", err)
	}
	return text(fmt.Sprintf("Elicitation completed: action=%s, content=%s", res.Action, content)), nil
}

// wait waits, unless the call is cancelled first.
func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
