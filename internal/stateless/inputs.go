package stateless

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/google/jsonschema-go/jsonschema"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice/internal/engine"
	"github.com/sluice-mcp/sluice/internal/wire"
)

// interim is a result that asks the client for more, taken apart.
type interim struct {
	result   mcp.Result // a copy: a handler may keep what it returned
	requests mcp.InputRequestMap
	state    *string // of the copy
}

// asInterim returns nil for a result that is complete.
func asInterim(res mcp.Result) *interim {
	switch r := res.(type) {
	case *mcp.CallToolResult:
		if r != nil && r.NeedsInput() {
			c := *r
			return &interim{&c, c.InputRequests, &c.RequestState}
		}
	case *mcp.GetPromptResult:
		if r != nil && r.NeedsInput() {
			c := *r
			return &interim{&c, c.InputRequests, &c.RequestState}
		}
	case *mcp.ReadResourceResult:
		if r != nil && r.NeedsInput() {
			c := *r
			return &interim{&c, c.InputRequests, &c.RequestState}
		}
	}
	return nil
}

// schemas returns what the answers to elicitations must match.
func (i *interim) schemas() (map[string]json.RawMessage, error) {
	out := make(map[string]json.RawMessage)
	for key, request := range i.requests {
		elicit, ok := request.(*mcp.ElicitParams)
		if !ok {
			continue
		}
		out[key] = json.RawMessage("{}")
		if elicit.RequestedSchema == nil {
			continue
		}
		schema, err := json.Marshal(elicit.RequestedSchema)
		if err != nil {
			return nil, fmt.Errorf("input request %q: %w", key, err)
		}
		out[key] = schema
	}
	return out, nil
}

// sealState checks the input requests of an interim result and seals its state, with the schemas that the
// answers will be checked by.
func (p *Endpoint) sealState(c *call, caps *mcp.ClientCapabilities, i *interim) error {
	if e := mayAsk(caps, i.requests); e != nil {
		return e
	}
	schemas, err := i.schemas()
	if err != nil {
		return err
	}
	*i.state, err = p.sealer.seal(c.purpose(), sealed{State: *i.state, Schemas: schemas}, p.StateTTL)
	return err
}

func (c *call) purpose() string {
	name := c.params.Name
	if name == nil {
		name = c.params.URI
	}
	return purposeOf(c.principal, c.method, wire.Unquote(name), c.params.Arguments)
}

// mayAsk reports an error if the client has not declared what the requests need.
func mayAsk(caps *mcp.ClientCapabilities, requests mcp.InputRequestMap) *wire.Error {
	missing := map[string]any{}
	for _, request := range requests {
		switch r := request.(type) {
		case *mcp.ElicitParams:
			e := caps.Elicitation
			switch {
			case e == nil:
				missing["elicitation"] = map[string]any{}
			case isURL(r) && e.URL == nil:
				missing["elicitation"] = map[string]any{"url": map[string]any{}}
			case !isURL(r) && e.Form == nil && e.URL != nil:
				missing["elicitation"] = map[string]any{"form": map[string]any{}}
			}
		case *mcp.CreateMessageParams:
			if caps.Sampling == nil {
				missing["sampling"] = map[string]any{}
			}
		case *mcp.CreateMessageWithToolsParams:
			withTools := len(r.Tools) > 0 || r.ToolChoice != nil
			switch {
			case withTools && (caps.Sampling == nil || caps.Sampling.Tools == nil):
				missing["sampling"] = map[string]any{"tools": map[string]any{}}
			case caps.Sampling == nil:
				missing["sampling"] = map[string]any{}
			}
		case *mcp.ListRootsParams:
			if caps.RootsV2 == nil {
				missing["roots"] = map[string]any{}
			}
		}
	}
	if len(missing) == 0 {
		return nil
	}
	data, err := json.Marshal(map[string]any{"requiredCapabilities": missing})
	if err != nil {
		return wire.Internal(err.Error())
	}
	return &wire.Error{Code: wire.CodeMissingCapability, Message: "Missing required client capability", Data: data}
}

// isURL reports whether an elicitation is of the mode url, as the SDK infers it.
func isURL(p *mcp.ElicitParams) bool {
	return p.Mode == "url" || p.Mode == "" && (p.URL != "" || p.ElicitationID != "")
}

// admit checks the client's answers, if it brings any, and has asked bring them to the handler. The handler may have to be
// called to know what it asks for; when it then asks for nothing, its result is returned, and the call is over.
func (p *Endpoint) admit(ctx context.Context, c *call, server *engine.Session, asked *engine.Call) (mcp.Result, error) {
	state, responses := c.params.RequestState, c.params.InputResponses
	if state != nil && string(state) != "null" {
		if state[0] != '"' {
			return nil, wire.InvalidParams("Invalid params: requestState must be a string")
		}
		s, err := p.sealer.open(c.purpose(), wire.Unquote(state))
		if err != nil {
			return nil, wire.InvalidParams("Invalid params: " + err.Error())
		}
		if err := checkInputs(s.Schemas, responses); err != nil {
			return nil, wire.InvalidParams("Invalid params: " + err.Error())
		}
		asked.Params, asked.Parsed = wire.ReplaceMember(asked.Params, "requestState", wire.AppendString(nil, s.State)), nil
		return nil, nil
	}
	if len(responses) == 0 || responses[0] != '{' {
		return nil, nil // none, or for the SDK to refuse
	}
	// Answers without the state that the client was asked with: nothing says what they must match. So the
	// handler is asked what it asks for, and gets them when they do.
	params := asked.Params
	asked.Parsed = nil
	asked.Params = wire.RemoveMembers(params, "inputResponses")
	res, err := server.Do(ctx, asked)
	interim := asInterim(res)
	if err != nil || interim == nil {
		return res, err
	}
	schemas, err := interim.schemas()
	if err != nil {
		return nil, err
	}
	if err := checkInputs(schemas, responses); err != nil {
		return nil, wire.InvalidParams("Invalid params: " + err.Error())
	}
	asked.Params = wire.SetMembers(wire.RemoveMembers(params, "requestState"), wire.Pair{Key: "requestState", Value: wire.AppendString(nil, *interim.state)})
	return nil, nil
}

// checkInputs checks the accepted answers to elicitations against their schemas. A missing answer is no
// error: the handler may ask again.
func checkInputs(schemas map[string]json.RawMessage, responses []byte) error {
	if len(responses) == 0 || len(schemas) == 0 {
		return nil
	}
	var answers map[string]json.RawMessage
	if err := json.Unmarshal(responses, &answers); err != nil {
		return fmt.Errorf("inputResponses: %w", err)
	}
	for key, schema := range schemas {
		if answer, ok := answers[key]; ok {
			if err := checkInput(key, schema, answer); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkInput checks one answer to an elicitation.
func checkInput(key string, raw, response json.RawMessage) error {
	var answer struct {
		Action  string          `json:"action"`
		Content json.RawMessage `json:"content"`
	}
	if err := json.Unmarshal(response, &answer); err != nil {
		return fmt.Errorf("inputResponses: %s: %w", strconv.Quote(key), err)
	}
	switch answer.Action {
	case "decline", "cancel":
		return nil
	case "accept":
	default:
		return fmt.Errorf("inputResponses: %s: action must be accept, decline or cancel", strconv.Quote(key))
	}
	var schema jsonschema.Schema
	if err := json.Unmarshal(raw, &schema); err != nil {
		return fmt.Errorf("inputResponses: %s: %w", strconv.Quote(key), err)
	}
	resolved, err := schema.Resolve(nil)
	if err != nil {
		return fmt.Errorf("inputResponses: %s: %w", strconv.Quote(key), err)
	}
	content := map[string]any{}
	if len(answer.Content) > 0 {
		if err := json.Unmarshal(answer.Content, &content); err != nil {
			return fmt.Errorf("inputResponses: %s: content must be an object", strconv.Quote(key))
		}
	}
	if err := resolved.Validate(content); err != nil {
		return fmt.Errorf("inputResponses: %s does not match what was asked for: %w", strconv.Quote(key), err)
	}
	return nil
}
