package main

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice"
)

// addTasks adds the tools of the scenarios of the Tasks extension (SEP-2663).
func addTasks(s *mcp.Server) {
	add := func(name, description, properties string, o sluice.TaskOptions, h mcp.ToolHandler) {
		tool := &mcp.Tool{Name: name, Description: description, InputSchema: json.RawMessage(`{"type":"object","properties":{` + properties + `}}`)}
		sluice.MarkTask(tool, o)
		s.AddTool(tool, h)
	}
	prefer, require := sluice.TaskOptions{Mode: sluice.TaskPrefer}, sluice.TaskOptions{Mode: sluice.TaskRequire}
	add("greet", "Greets; never a task.", `"name":{"type":"string"}`, sluice.TaskOptions{Mode: sluice.TaskNever}, greet)
	add("slow_compute", "Takes its time.", `"seconds":{"type":"number"},"label":{"type":"string"}`, prefer, slowCompute)
	add("failing_job", "Ends with the error of a tool.", ``, require, failingJob)
	add("protocol_error_job", "Ends with an error of the protocol.", ``, prefer, protocolErrorJob)
	add("confirm_delete", "Asks before it deletes.", `"filename":{"type":"string"}`, prefer, confirmDelete)
	add("multi_input", "Asks two things at once.", ``, prefer, multiInput)
	add("test_tool_with_task", "Asks in the call, and becomes a task then.", ``, sluice.TaskOptions{Mode: sluice.TaskRequire, AskFirst: true}, askThenWork)
}

// arguments reads the arguments of a call.
func arguments[T any](req *mcp.CallToolRequest) (in T, err error) {
	if len(req.Params.Arguments) > 0 {
		err = json.Unmarshal(req.Params.Arguments, &in)
	}
	return in, err
}

func greet(_ context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	in, err := arguments[struct{ Name string }](req)
	if err != nil {
		return nil, err
	}
	return text("Hello, " + in.Name + "!"), nil
}

func slowCompute(ctx context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	in, err := arguments[struct {
		Seconds float64
		Label   string
	}](req)
	if err != nil {
		return nil, err
	}
	select {
	case <-time.After(time.Duration(in.Seconds * float64(time.Second))):
		return text("computed " + in.Label), nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func failingJob(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	res := text("the job failed")
	res.IsError = true
	return res, nil
}

func protocolErrorJob(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	return nil, &jsonrpc.Error{Code: -32603, Message: "the job broke"}
}

// oneField is the schema of a form with one field.
func oneField(name, kind string) json.RawMessage {
	return json.RawMessage(`{"type":"object","properties":{"` + name + `":{"type":"` + kind + `"}}}`)
}

func answerTo(req *mcp.CallToolRequest, key string) (*mcp.ElicitResult, bool) {
	answer, ok := req.Params.InputResponses[key].(*mcp.ElicitResult)
	return answer, ok
}

func confirmDelete(_ context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	in, err := arguments[struct{ Filename string }](req)
	if err != nil {
		return nil, err
	}
	answer, answered := answerTo(req, "confirm")
	switch {
	case !answered:
		return &mcp.CallToolResult{InputRequests: mcp.InputRequestMap{"confirm": form("Delete "+in.Filename+"?", oneField("confirm", "boolean"))}}, nil
	case answer.Action == "accept" && answer.Content["confirm"] == true:
		return text("deleted " + in.Filename), nil
	}
	return text("kept " + in.Filename), nil
}

func multiInput(_ context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	if len(req.Params.InputResponses) == 0 {
		return &mcp.CallToolResult{InputRequests: mcp.InputRequestMap{
			"name":    form("What is your name?", oneField("name", "string")),
			"confirm": form("Go on?", oneField("confirm", "boolean")),
		}}, nil
	}
	name, ok := answerTo(req, "name")
	if _, both := answerTo(req, "confirm"); !ok || !both {
		return nil, errors.New("an answer is missing")
	}
	given, _ := name.Content["name"].(string)
	return text("done, " + given), nil
}

func askThenWork(_ context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	for key := range req.Params.InputResponses {
		if answer, ok := answerTo(req, key); ok {
			name, _ := answer.Content["name"].(string)
			return text("Hello, " + name + "!"), nil
		}
	}
	return &mcp.CallToolResult{InputRequests: mcp.InputRequestMap{"name": form("What is your name?", oneField("name", "string"))}, RequestState: "asked"}, nil
}
