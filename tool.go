package sluice

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"sync"

	"github.com/google/jsonschema-go/jsonschema"
	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice/internal/typed"
)

// AddTool adds a typed tool to s: [mcp.AddTool], with the same arguments and
// the same answers, at a small part of its cost per call.
//
// The types and schemas are compiled here, once. A call that they make clear is
// decoded, checked and given its defaults in one pass, and so is its output.
// Every other call, invalid ones among them, takes the SDK's way, as do tools
// whose types or schemas are beyond the compiler: those with custom JSON forms,
// $ref, combinations such as oneOf, patternProperties and the like.
//
// One answer differs: arguments of null mean an empty object here when the
// input schema has defaults, where the SDK panics.
//
// Like [mcp.AddTool] it panics when the tool is invalid.
func AddTool[In, Out any](s *mcp.Server, t *mcp.Tool, h mcp.ToolHandlerFor[In, Out]) {
	tool := *t
	asked := &mcp.Tool{Name: t.Name} // with the schemas as they are now: a map or JSON may change before the SDK is asked
	in, out := reflect.TypeFor[In](), reflect.TypeFor[Out]()
	c := call[In, Out]{handler: h}
	if in == reflect.TypeFor[any]() && t.InputSchema == nil {
		tool.InputSchema = &jsonschema.Schema{Type: "object"}
	}
	schema, err := schemaOf(&tool.InputSchema, in)
	if err == nil {
		c.input = typed.ForInput(schema, in)
		c.defaults = typed.HasDefaults(schema)
		asked.InputSchema = schema
		if t.OutputSchema != nil || out != reflect.TypeFor[any]() {
			if schema, err = schemaOf(&tool.OutputSchema, out); err == nil {
				c.output = typed.ForOutput(schema, out)
				asked.OutputSchema = schema
			}
		}
	}
	if err != nil || c.input == nil && c.output == nil && !c.defaults {
		mcp.AddTool(s, t, h) // which knows how to panic, too
		return
	}
	c.sdk = &oracle[In, Out]{tool: asked}
	s.AddTool(&tool, c.serve)
}

// schemaOf returns the schema in *field. When there is none, it puts the one inferred from t there.
func schemaOf(field *any, t reflect.Type) (*jsonschema.Schema, error) {
	if *field == nil {
		if t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		inferred, err := jsonschema.ForType(t, &jsonschema.ForOptions{})
		if err != nil {
			return nil, err
		}
		*field = inferred
		return inferred, nil
	}
	schema, ok := (*field).(*jsonschema.Schema)
	if !ok {
		data, err := json.Marshal(*field)
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(data, &schema); err != nil {
			return nil, err
		}
	}
	if schema == nil {
		return nil, errors.New("no schema")
	}
	_, err := schema.Resolve(&jsonschema.ResolveOptions{ValidateDefaults: true})
	return schema, err
}

// A call is what the calls of one tool have in common.
type call[In, Out any] struct {
	handler  mcp.ToolHandlerFor[In, Out]
	input    *typed.Plan // nil: the SDK decodes
	output   *typed.Plan // nil: the SDK encodes
	defaults bool        // the input schema has some
	sdk      *oracle[In, Out]
}

func (c *call[In, Out]) serve(ctx context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	var in In
	if args := req.Params.Arguments; c.input == nil || !c.input.Decode(args, &in) {
		if c.defaults && bytes.HasPrefix(bytes.TrimSpace(args), []byte("null")) {
			args = nil // the SDK would write the defaults into a nil map
		}
		var refusal *mcp.CallToolResult
		var err error
		if in, refusal, err = c.sdk.decode(ctx, args); refusal != nil || err != nil {
			return refusal, err
		}
	}
	res, out, err := c.handler(ctx, req, in)
	if err != nil {
		if wire, ok := err.(*jsonrpc.Error); ok { //nolint:errorlint // the SDK's rule: a wrapped one is the tool's error
			return nil, wire
		}
		res = &mcp.CallToolResult{}
		res.SetError(err)
		return res, nil
	}
	if res == nil {
		res = &mcp.CallToolResult{}
	}
	if res.InputRequests != nil { // the client is asked for more: there is no output yet
		return res, nil
	}
	if c.output != nil {
		if data, ok := c.output.Append(make([]byte, 0, 64), &out); ok {
			res.StructuredContent = json.RawMessage(data)
			if res.Content == nil {
				res.Content = []mcp.Content{&mcp.TextContent{Text: string(data)}}
			}
			return res, nil
		}
	}
	if any(out) == nil { // Out is an interface
		return res, nil
	}
	return c.sdk.encode(ctx, res, out)
}

// An oracle is the tool as the SDK makes it, on a server that nobody else
// sees. It says what the SDK says, in the SDK's words.
type oracle[In, Out any] struct {
	tool *mcp.Tool

	// Started by the first call that needs it: most tools never do, and a server is up sooner.
	once    sync.Once
	method  mcp.MethodHandler
	session *mcp.ServerSession
	err     error
}

type (
	decodedKey      struct{}
	outputKey       struct{}
	output[Out any] struct {
		res *mcp.CallToolResult
		out Out
	}
)

// errDecoded ends an oracle's call once it has the arguments. Of all errors, a
// *jsonrpc.Error is the one that comes back as it is.
var errDecoded = &jsonrpc.Error{Message: "decoded"}

// start makes the server, with two tools: one tells its decoded arguments, the other gives the output that it is told.
func (o *oracle[In, Out]) start() {
	s := mcp.NewServer(&mcp.Implementation{Name: o.tool.Name}, nil)
	mcp.AddTool(s, o.tool, func(ctx context.Context, _ *mcp.CallToolRequest, in In) (_ *mcp.CallToolResult, out Out, _ error) {
		if p, ok := ctx.Value(decodedKey{}).(*In); ok {
			*p = in
		}
		return nil, out, errDecoded
	})
	encoder := &mcp.Tool{Name: o.encoder(), OutputSchema: o.tool.OutputSchema}
	mcp.AddTool(s, encoder, func(ctx context.Context, _ *mcp.CallToolRequest, _ any) (_ *mcp.CallToolResult, out Out, _ error) {
		if p, ok := ctx.Value(outputKey{}).(*output[Out]); ok {
			return p.res, p.out, nil
		}
		return nil, out, errDecoded
	})
	s.AddReceivingMiddleware(func(next mcp.MethodHandler) mcp.MethodHandler {
		o.method = next
		return next
	})
	// A session of an older revision: for those of 2026-07-28 the server marks the results, which is our server's to do.
	state := &mcp.ServerSessionState{InitializeParams: &mcp.InitializeParams{ProtocolVersion: "2025-11-25"}}
	o.session, o.err = s.Connect(context.Background(), nowhere{}, &mcp.ServerSessionOptions{State: state})
}

func (o *oracle[In, Out]) encoder() string { return o.tool.Name + "_encode" }

// decode returns the decoded arguments, or the answer for arguments that are wrong.
func (o *oracle[In, Out]) decode(ctx context.Context, args json.RawMessage) (in In, refusal *mcp.CallToolResult, err error) {
	refusal, err = o.call(context.WithValue(ctx, decodedKey{}, &in), o.tool.Name, args)
	if err == error(errDecoded) { //nolint:errorlint // this very value
		err = nil
	}
	return in, refusal, err
}

// encode returns res with out in it.
func (o *oracle[In, Out]) encode(ctx context.Context, res *mcp.CallToolResult, out Out) (*mcp.CallToolResult, error) {
	return o.call(context.WithValue(ctx, outputKey{}, &output[Out]{res, out}), o.encoder(), nil)
}

func (o *oracle[In, Out]) call(ctx context.Context, name string, args json.RawMessage) (*mcp.CallToolResult, error) {
	if o.once.Do(o.start); o.err != nil {
		return nil, fmt.Errorf("starting the server behind tool %q: %w", o.tool.Name, o.err)
	}
	req := &mcp.CallToolRequest{Session: o.session, Params: &mcp.CallToolParamsRaw{Name: name, Arguments: args}}
	res, err := o.method(ctx, "tools/call", req)
	if err != nil {
		return nil, err
	}
	result, _ := res.(*mcp.CallToolResult)
	return result, nil
}

// nowhere is the transport of a session that is only ever called directly.
type nowhere struct{}

func (nowhere) Connect(context.Context) (mcp.Connection, error) { return nowhere{}, nil }
func (nowhere) Read(context.Context) (jsonrpc.Message, error)   { return nil, io.EOF }
func (nowhere) Write(context.Context, jsonrpc.Message) error    { return io.ErrClosedPipe }
func (nowhere) Close() error                                    { return nil }
func (nowhere) SessionID() string                               { return "" }
