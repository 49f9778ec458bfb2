package sitetest

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// Item is the resource of [NewServer].
const Item = "test://item/1"

// NewServer returns a server that has a tool for each thing that a call can do.
func NewServer() *mcp.Server {
	server := mcp.NewServer(&mcp.Implementation{Name: "replica", Version: "1"}, &mcp.ServerOptions{
		SubscribeHandler:   func(context.Context, *mcp.SubscribeRequest) error { return nil },
		UnsubscribeHandler: func(context.Context, *mcp.UnsubscribeRequest) error { return nil },
	})
	server.AddResource(&mcp.Resource{URI: Item, Name: "item"}, func(context.Context, *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
		return &mcp.ReadResourceResult{}, nil
	})
	type input struct{ N, MS int }
	tools := map[string]func(ctx context.Context, req *mcp.CallToolRequest, in input) (*mcp.CallToolResult, error){
		"fast": func(context.Context, *mcp.CallToolRequest, input) (*mcp.CallToolResult, error) {
			return Text("fast"), nil
		},
		"count": func(ctx context.Context, req *mcp.CallToolRequest, in input) (*mcp.CallToolResult, error) {
			for i := 1; i <= in.N; i++ {
				select {
				case <-time.After(time.Duration(in.MS) * time.Millisecond):
				case <-ctx.Done():
					return nil, context.Cause(ctx)
				}
				_ = req.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{ProgressToken: req.Params.GetProgressToken(), Progress: float64(i)})
			}
			return Text(fmt.Sprintf("counted %d", in.N)), nil
		},
		"ask": func(ctx context.Context, req *mcp.CallToolRequest, _ input) (*mcp.CallToolResult, error) {
			res, err := req.Session.Elicit(ctx, &mcp.ElicitParams{Message: "?", RequestedSchema: json.RawMessage(`{"type":"object","properties":{"x":{"type":"string"}}}`)})
			if err != nil {
				return nil, err
			}
			return Text(fmt.Sprint("asked ", res.Content["x"])), nil
		},
		"log": func(ctx context.Context, req *mcp.CallToolRequest, _ input) (*mcp.CallToolResult, error) {
			for _, level := range []mcp.LoggingLevel{"debug", "info", "warning", "error"} {
				if err := req.Session.Log(ctx, &mcp.LoggingMessageParams{Level: level, Data: string(level)}); err != nil {
					return nil, err
				}
			}
			return Text("logged"), nil
		},
		"input": func(_ context.Context, req *mcp.CallToolRequest, _ input) (*mcp.CallToolResult, error) {
			if answer, ok := req.Params.InputResponses["q"].(*mcp.ElicitResult); ok {
				return Text(fmt.Sprint("input ", answer.Content["x"], " with ", req.Params.RequestState)), nil
			}
			return &mcp.CallToolResult{
				InputRequests: mcp.InputRequestMap{"q": &mcp.ElicitParams{Mode: "form", Message: "?", RequestedSchema: map[string]any{"type": "object"}}},
				RequestState:  "state of the handler",
			}, nil
		},
	}
	for name, f := range tools {
		server.AddTool(&mcp.Tool{Name: name, InputSchema: json.RawMessage(`{"type":"object"}`)}, func(ctx context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			var in input
			if err := json.Unmarshal(req.Params.Arguments, &in); err != nil {
				return nil, err
			}
			return f(ctx, req, in)
		})
	}
	return server
}

// Text is a result with a text.
func Text(s string) *mcp.CallToolResult {
	return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: s}}}
}
