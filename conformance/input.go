package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// The tools below ask for input in their result (SEP-2322). They see a call
// afresh in every round, keep nothing between rounds but requestState, and ask
// again for whatever is missing or of the wrong kind.

var (
	nameForm    = json.RawMessage(`{"type":"object","properties":{"name":{"type":"string"}},"required":["name"]}`)
	colorForm   = json.RawMessage(`{"type":"object","properties":{"color":{"type":"string"}},"required":["color"]}`)
	contextForm = json.RawMessage(`{"type":"object","properties":{"context":{"type":"string"}},"required":["context"]}`)
	confirmForm = json.RawMessage(`{"type":"object","properties":{"ok":{"type":"boolean"}},"required":["ok"]}`)
)

func askName() mcp.InputRequest { return form("What is your name?", nameForm) }

// addInputTools adds the tools that ask for input in their result.
func addInputTools(s *mcp.Server) {
	addTool(s, "test_input_required_result_elicitation", "Asks for a name.", greetByName)
	addTool(s, "test_input_required_result_sampling", "Asks the client's model.", askCapital)
	addTool(s, "test_input_required_result_list_roots", "Asks for the client's roots.", countRoots)
	addTool(s, "test_input_required_result_request_state", "Asks for confirmation, with state.", confirm(func(state string) bool { return state == plainState }))
	addTool(s, "test_input_required_result_tampered_state", "Asks for confirmation, and trusts any state.", confirm(func(string) bool { return true }))
	addTool(s, "test_input_required_result_multiple_inputs", "Asks for three things at once.", askThree)
	addTool(s, "test_input_required_result_multi_round", "Asks twice.", askTwice)
	addTool(s, "test_input_required_result_capabilities", "Asks only for what the client supports.", askSupported)
}

func greetByName(_ context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	name, ok := field[string](req.Params.InputResponses, "user_name", "name")
	if !ok {
		return ask("", mcp.InputRequestMap{"user_name": askName()}), nil
	}
	return text("Hello, " + name + "!"), nil
}

func askCapital(_ context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	answer, ok := sampled(req.Params.InputResponses, "capital_question")
	if !ok {
		return ask("", mcp.InputRequestMap{"capital_question": sampling("What is the capital of France?", 100)}), nil
	}
	return text("The model says: " + answer), nil
}

func countRoots(_ context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	roots, ok := roots(req.Params.InputResponses, "client_roots")
	if !ok {
		return ask("", mcp.InputRequestMap{"client_roots": listRoots()}), nil
	}
	return text(fmt.Sprintf("%d roots: %s", len(roots), strings.Join(roots, ", "))), nil
}

// plainState is what a tool hands out as requestState: it is for the endpoint to seal it.
const plainState = "asked-to-confirm"

// confirm returns a tool that asks for confirmation and answers when it gets
// one with a state that it accepts. A tool that accepts any state shows that
// the endpoint refuses what it has not sealed.
func confirm(accept func(state string) bool) mcp.ToolHandler {
	return func(_ context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		ok, answered := field[bool](req.Params.InputResponses, "confirm", "ok")
		state := req.Params.RequestState
		if !answered || state == "" {
			return ask(plainState, mcp.InputRequestMap{"confirm": form("Please confirm", confirmForm)}), nil
		}
		if !accept(state) {
			return nil, fmt.Errorf("the state came back as %q", state)
		}
		return text(fmt.Sprintf("state-ok, confirmed: %t", ok)), nil
	}
}

func askThree(_ context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	in := req.Params.InputResponses
	name, hasName := field[string](in, "user_name", "name")
	greeting, hasGreeting := sampled(in, "greeting")
	roots, hasRoots := roots(in, "client_roots")
	if !hasName || !hasGreeting || !hasRoots {
		return ask("asked-for-three", mcp.InputRequestMap{
			"user_name":    askName(),
			"greeting":     sampling("Generate a greeting", 50),
			"client_roots": listRoots(),
		}), nil
	}
	return text(fmt.Sprintf("%s, %s! You have %d roots.", greeting, name, len(roots))), nil
}

func askTwice(_ context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	in := req.Params.InputResponses
	// The name given in the first round travels in the state of the second.
	if name, ok := strings.CutPrefix(req.Params.RequestState, "name="); ok {
		color, ok := field[string](in, "step2", "color")
		if !ok {
			return askColor(name), nil
		}
		return text(name + " likes " + color + "."), nil
	}
	name, ok := field[string](in, "step1", "name")
	if !ok {
		return ask("first", mcp.InputRequestMap{"step1": form("Step 1: What is your name?", nameForm)}), nil
	}
	return askColor(name), nil
}

func askColor(name string) *mcp.CallToolResult {
	return ask("name="+name, mcp.InputRequestMap{"step2": form("Step 2: What is your favorite color?", colorForm)})
}

func askSupported(_ context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	if len(req.Params.InputResponses) > 0 {
		return text("Thank you."), nil
	}
	requests := mcp.InputRequestMap{}
	if caps := req.ClientCapabilities(); caps != nil {
		if caps.Elicitation != nil {
			requests["user_name"] = askName()
		}
		if caps.Sampling != nil {
			requests["greeting"] = sampling("Generate a greeting", 50)
		}
		if caps.RootsV2 != nil {
			requests["client_roots"] = listRoots()
		}
	}
	if len(requests) == 0 {
		return text("There is nothing that this client could be asked."), nil
	}
	return ask("", requests), nil
}

// contextPrompt is the prompt that asks for input before it answers.
func contextPrompt(_ context.Context, req *mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
	subject, ok := field[string](req.Params.InputResponses, "user_context", "context")
	if !ok {
		return &mcp.GetPromptResult{InputRequests: mcp.InputRequestMap{
			"user_context": form("What context should the prompt use?", contextForm),
		}}, nil
	}
	return messages(&mcp.TextContent{Text: "The context is: " + subject}), nil
}

// ask returns the result that asks for input.
func ask(state string, requests mcp.InputRequestMap) *mcp.CallToolResult {
	return &mcp.CallToolResult{InputRequests: requests, RequestState: state}
}

func form(message string, schema json.RawMessage) mcp.InputRequest {
	return &mcp.ElicitParams{Message: message, RequestedSchema: schema}
}

func listRoots() mcp.InputRequest {
	return &mcp.ListRootsParams{}
}

func sampling(prompt string, maxTokens int64) *mcp.CreateMessageParams {
	return &mcp.CreateMessageParams{
		MaxTokens: maxTokens,
		Messages:  []*mcp.SamplingMessage{{Role: "user", Content: &mcp.TextContent{Text: prompt}}},
	}
}

// field returns a field of the form that the person accepted. It reports false
// when the form was not answered, was declined, or holds another type.
func field[T any](in mcp.InputResponseMap, key, name string) (T, bool) {
	var zero T
	res, ok := in[key].(*mcp.ElicitResult)
	if !ok || res.Action != "accept" {
		return zero, false
	}
	value, ok := res.Content[name].(T)
	return value, ok
}

// sampled returns the text that the model answered.
func sampled(in mcp.InputResponseMap, key string) (string, bool) {
	res, ok := in[key].(*mcp.CreateMessageWithToolsResult)
	if !ok || len(res.Content) == 0 {
		return "", false
	}
	answer, ok := res.Content[0].(*mcp.TextContent)
	if !ok {
		return "", false
	}
	return answer.Text, true
}

// roots returns the URIs of the client's roots.
func roots(in mcp.InputResponseMap, key string) ([]string, bool) {
	res, ok := in[key].(*mcp.ListRootsResult)
	if !ok {
		return nil, false
	}
	uris := make([]string, len(res.Roots))
	for i, root := range res.Roots {
		uris[i] = root.URI
	}
	return uris, true
}
