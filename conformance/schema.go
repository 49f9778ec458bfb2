package main

import (
	"context"
	"encoding/json"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// everyKeyword is an input schema with the keywords of JSON Schema 2020-12
// that have been lost on the way through tools/list before.
var everyKeyword = json.RawMessage(`{
	"$schema": "https://json-schema.org/draft/2020-12/schema",
	"type": "object",
	"$defs": {
		"address": {
			"$anchor": "addressDef",
			"type": "object",
			"properties": {"street": {"type": "string"}, "city": {"type": "string"}}
		}
	},
	"properties": {
		"name": {"type": "string"},
		"address": {"$ref": "#/$defs/address"},
		"contactMethod": {"type": "string", "enum": ["phone", "email"]},
		"phone": {"type": "string"},
		"email": {"type": "string"}
	},
	"allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
	"if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
	"then": {"required": ["phone"]},
	"else": {"required": ["email"]},
	"additionalProperties": false
}`)

// mirrored is an input schema with an argument that clients of 2026-07-28
// repeat in the header Mcp-Param-Region.
var mirrored = json.RawMessage(`{
	"type": "object",
	"properties": {
		"region": {"type": "string", "description": "Also sent as a header.", "x-mcp-header": "Region"}
	}
}`)

// addSchemaTools adds the tools that matter for their input schema only.
func addSchemaTools(s *mcp.Server) {
	done := func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) { return text("done"), nil }
	s.AddTool(&mcp.Tool{
		Name:        "json_schema_2020_12_tool",
		Description: "Has an input schema that uses JSON Schema 2020-12 in full.",
		InputSchema: everyKeyword,
	}, done)
	s.AddTool(&mcp.Tool{
		Name:        "test_x_mcp_header",
		Description: "Has an argument that is mirrored into a header.",
		InputSchema: mirrored,
	}, done)
}
