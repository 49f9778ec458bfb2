package sluice

import (
	"context"
	"fmt"
	"reflect"
	"slices"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice/internal/typed"
)

// AddTool adds a typed tool to s: [mcp.AddTool], with the same arguments, at a small part of its cost per call.
//
// The types and schemas are compiled here, once. A call that they make clear is decoded, checked and given its defaults in one
// pass, and so is its output. Every other call is parsed, validated and decoded in several, as the SDK does it, and told of its
// mistakes in the SDK's words: invalid ones, and those of types and schemas beyond the compiler, such as $ref, combinations like
// oneOf, and patternProperties.
//
// Answers are those of [mcp.AddTool], except for these:
//
//   - Whole numbers keep their digits, in both directions and at any depth; the SDK passes them through float64, which knows
//     them up to 2^53. Limits of the schema are checked on the number itself. In an argument of type any a number is a float64,
//     and a [json.Number] if it is a whole one that float64 would change. A [json.Number] and a [json.RawMessage] keep every
//     digit as it was written.
//   - The inferred schema says what encoding/json reads and writes. A type with JSON of its own ([json.Unmarshaler] for
//     arguments, [json.Marshaler] for output) may be anything, json.RawMessage among them; one with text of its own
//     ([encoding.TextMarshaler]) is a string; bytes are a string in base64; a [json.Number] is a number, and a big.Int an
//     integer; fields with the option "string" are strings. A struct that is the whole of the arguments is described by its
//     fields, even if it reads them itself.
//   - A map or slice that is nil, in an output whose schema does not let it be null, is empty. The SDK fails the call.
//   - A result with IsError is the tool's own: an output that is zero is not added to it, nor one that the schema does not admit.
//   - Arguments of null mean an empty object when the input schema has defaults. The SDK panics.
//
// Like [mcp.AddTool] it panics when the tool is invalid.
func AddTool[In, Out any](s *mcp.Server, t *mcp.Tool, h mcp.ToolHandlerFor[In, Out]) {
	in, err := typed.NewInput(t.InputSchema, reflect.TypeFor[In]())
	if err != nil {
		panic(fmt.Sprintf("AddTool: tool %q: input schema: %v", t.Name, err)) //nolint:forbidigo // as mcp.AddTool does: a mistake of the program
	}
	out, err := typed.NewOutput(t.OutputSchema, reflect.TypeFor[Out]())
	if err != nil {
		panic(fmt.Sprintf("AddTool: tool %q: output schema: %v", t.Name, err)) //nolint:forbidigo // as above
	}
	tool := *t
	if tool.InputSchema == nil {
		tool.InputSchema = in.Schema()
	}
	if tool.OutputSchema == nil && out.Schema() != nil {
		tool.OutputSchema = out.Schema()
	}
	s.AddTool(&tool, (&call[In, Out]{h, in, out}).serve)
}

// A call is what the calls of one tool have in common.
type call[In, Out any] struct {
	handler mcp.ToolHandlerFor[In, Out]
	input   *typed.Input
	output  *typed.Output
}

func (c *call[In, Out]) serve(ctx context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	var in In
	if err := c.input.Decode(req.Params.Arguments, &in); err != nil {
		return failure(err), nil
	}
	res, out, err := c.handler(ctx, req, in)
	if err != nil {
		if wire, ok := err.(*jsonrpc.Error); ok { //nolint:errorlint // the SDK's rule: a wrapped one is the tool's error
			return nil, wire
		}
		return failure(err), nil
	}
	if res == nil {
		res = &mcp.CallToolResult{}
	}
	if res.InputRequests != nil { // the client is asked for more: there is no output yet
		return res, nil
	}
	v := reflect.ValueOf(&out).Elem()
	if v.Kind() == reflect.Interface && v.IsNil() || res.IsError && v.IsZero() {
		return res, nil
	}
	data, err := c.output.Encode(&out)
	if err != nil {
		if res.IsError { // which the tool has told in its own way
			return res, nil
		}
		return nil, err
	}
	res.StructuredContent = data
	if res.Content == nil {
		res.Content = []mcp.Content{&mcp.TextContent{Text: string(data)}}
	} else if data[0] != '{' { // older clients know no structured content but objects
		res.Content = append(slices.Clip(res.Content), &mcp.TextContent{Text: string(data)})
	}
	return res, nil
}

// failure is the result of a tool that failed.
func failure(err error) *mcp.CallToolResult {
	res := &mcp.CallToolResult{}
	res.SetError(err)
	return res
}
