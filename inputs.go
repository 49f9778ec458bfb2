package sluice

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/google/jsonschema-go/jsonschema"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice/internal/engine"
	"github.com/sluice-mcp/sluice/internal/wire"
)

// This file guards the multi round-trip requests of 2026-07-28: what a handler asks of its client, and
// what comes back.

// sealState checks the input requests of a result and seals its state. It returns the result to send: a
// copy where it differs, because a handler may keep what it returned.
func (h *Handler) sealState(c *modernCall, res mcp.Result) (out mcp.Result, needsInput bool, err error) {
	var requests mcp.InputRequestMap
	var state *string
	switch r := res.(type) {
	case *mcp.CallToolResult:
		if r == nil || !r.NeedsInput() {
			return res, false, nil
		}
		copied := *r
		out, requests, state = &copied, r.InputRequests, &copied.RequestState
	case *mcp.GetPromptResult:
		if r == nil || !r.NeedsInput() {
			return res, false, nil
		}
		copied := *r
		out, requests, state = &copied, r.InputRequests, &copied.RequestState
	case *mcp.ReadResourceResult:
		if r == nil || !r.NeedsInput() {
			return res, false, nil
		}
		copied := *r
		out, requests, state = &copied, r.InputRequests, &copied.RequestState
	default:
		return res, false, nil
	}
	if e := mayAsk(c.state.InitializeParams.Capabilities, requests); e != nil {
		return nil, false, e
	}
	s := sealed{State: *state}
	for key, request := range requests {
		elicit, ok := request.(*mcp.ElicitParams)
		if !ok || elicit.RequestedSchema == nil {
			continue
		}
		schema, err := json.Marshal(elicit.RequestedSchema)
		if err != nil {
			return nil, false, fmt.Errorf("input request %q: %w", key, err)
		}
		if s.Schemas == nil {
			s.Schemas = make(map[string]json.RawMessage)
		}
		s.Schemas[key] = schema
	}
	if s.State != "" || s.Schemas != nil || len(requests) == 0 {
		if *state, err = h.sealer.seal(c.purpose(), s, h.opts.StateTTL); err != nil {
			return nil, false, err
		}
	}
	return out, true, nil
}

func (c *modernCall) purpose() string {
	name := c.params.Name
	if name == nil {
		name = c.params.URI
	}
	return purposeOf(c.principal, c.message.Method, wire.Unquote(name), c.params.Arguments)
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
			case r.Mode == "url" && e.URL == nil:
				missing["elicitation"] = map[string]any{"url": map[string]any{}}
			case r.Mode != "url" && e.Form == nil && e.URL != nil:
				missing["elicitation"] = map[string]any{"form": map[string]any{}}
			}
		case *mcp.CreateMessageParams, *mcp.CreateMessageWithToolsParams:
			if caps.Sampling == nil {
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

// openState unseals the requestState of a call and checks the input responses against what was asked for.
// The handler then sees its own state.
func (h *Handler) openState(c *modernCall, call *engine.Call) error {
	if c.params.RequestState == nil || string(c.params.RequestState) == "null" {
		return nil
	}
	if c.params.RequestState[0] != '"' {
		return wire.InvalidParams("Invalid params: requestState must be a string")
	}
	s, err := h.sealer.open(c.purpose(), wire.Unquote(c.params.RequestState))
	if err != nil {
		return wire.InvalidParams("Invalid params: " + err.Error())
	}
	if err := checkInputs(s.Schemas, c.params.InputResponses); err != nil {
		return wire.InvalidParams("Invalid params: " + err.Error())
	}
	call.Params = wire.ReplaceMember(call.Params, "requestState", wire.AppendString(nil, s.State))
	return nil
}

// checkInputs checks the accepted answers to elicitations against their schemas. A missing answer is no
// error: the handler may ask again.
func checkInputs(schemas map[string]json.RawMessage, responses []byte) error {
	if len(responses) == 0 || len(schemas) == 0 {
		return nil
	}
	var answers map[string]struct {
		Action  string          `json:"action"`
		Content json.RawMessage `json:"content"`
	}
	if err := json.Unmarshal(responses, &answers); err != nil {
		return fmt.Errorf("inputResponses: %w", err)
	}
	for key, raw := range schemas {
		answer, ok := answers[key]
		if !ok {
			continue
		}
		switch answer.Action {
		case "decline", "cancel":
			continue
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
	}
	return nil
}

// unmarshalExact keeps numbers as they are written.
func unmarshalExact(raw []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	return dec.Decode(v)
}
