// Command oddserver has tools, prompts and resources with every trait that has
// made clients refuse a server: what is empty, nil, large, or of a type that
// not all revisions know. clients/odd.test.js says what clients must get.
package main

import (
	"context"
	"encoding/json"
	"strings"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice"
	"github.com/sluice-mcp/sluice/serve"
)

func main() {
	server := mcp.NewServer(&mcp.Implementation{Name: "odd", Version: "v1"}, &mcp.ServerOptions{
		CompletionHandler: func(context.Context, *mcp.CompleteRequest) (*mcp.CompleteResult, error) {
			return &mcp.CompleteResult{}, nil
		},
	})
	addTools(server)
	addResources(server)
	addPrompts(server)
	serve.Main(server)
}

type none struct{}

// add adds a typed tool twice, in our way and in the SDK's.
func add[In, Out any](server *mcp.Server, name string, f func(In) (*mcp.CallToolResult, Out)) {
	handler := func(_ context.Context, _ *mcp.CallToolRequest, in In) (*mcp.CallToolResult, Out, error) {
		res, out := f(in)
		return res, out, nil
	}
	sluice.AddTool(server, &mcp.Tool{Name: "sluice_" + name}, handler)
	mcp.AddTool(server, &mcp.Tool{Name: "sdk_" + name}, handler)
}

// give adds a tool that always has this output.
func give[Out any](server *mcp.Server, name string, out Out) {
	add(server, name, func(none) (*mcp.CallToolResult, Out) { return nil, out })
}

type free struct {
	Any   any             `json:"any"`
	Raw   json.RawMessage `json:"raw"`
	Bytes []byte          `json:"bytes"`
}

type nils struct {
	List  []string         `json:"list"`
	Map   map[string]int   `json:"map"`
	Lists map[string][]int `json:"lists"`
}

type large struct {
	N    int64            `json:"n"`
	List []int64          `json:"list"`
	Map  map[string]int64 `json:"map"`
}

type needed struct {
	Words []string `json:"words"`
	Count int      `json:"count"`
}

func addTools(server *mcp.Server) {
	give(server, "list", []string{"a", "b"})
	give(server, "no_list", []string(nil))
	give(server, "text", "words")
	give(server, "number", 1.5)
	give(server, "truth", true)
	give(server, "map", map[string]int{"a": 1})
	give(server, "no_map", map[string]int(nil))
	give(server, "nils", nils{Lists: map[string][]int{"x": nil}})
	give(server, "free", free{Any: []any{1, nil}, Raw: json.RawMessage(`{"a":[1,"b"]}`), Bytes: []byte("bytes")})
	add(server, "echo_free", func(in free) (*mcp.CallToolResult, free) { return nil, in })
	add(server, "echo_large", func(in large) (*mcp.CallToolResult, large) { return nil, in })
	add(server, "fails", func(none) (*mcp.CallToolResult, needed) {
		res := &mcp.CallToolResult{IsError: true, Content: []mcp.Content{&mcp.TextContent{Text: "its own words"}}}
		return res, needed{}
	})
	add(server, "untyped", func(in map[string]any) (*mcp.CallToolResult, any) { return nil, in })

	// A tool whose schemas are JSON, with true wherever a schema may stand, and whose name and annotations are at the limits.
	no := false
	server.AddTool(&mcp.Tool{
		Name: "Raw.tool-with_" + strings.Repeat("x", 100), Title: "Raw \"tool\" <é>", Description: "",
		Annotations:  &mcp.ToolAnnotations{DestructiveHint: &no, OpenWorldHint: &no, Title: "another"},
		InputSchema:  json.RawMessage(`{"type":"object","properties":{"x":true,"y":{"type":"array","items":true},"z":{"anyOf":[true,{"not":false}]}},"additionalProperties":true}`),
		OutputSchema: json.RawMessage(`{"type":"object","properties":{"got":true},"required":["got"]}`),
	}, func(_ context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		got, err := json.Marshal(map[string]json.RawMessage{"got": req.Params.Arguments})
		return &mcp.CallToolResult{StructuredContent: json.RawMessage(got)}, err
	})
	server.AddTool(&mcp.Tool{
		Name: "raw_array", InputSchema: json.RawMessage(`{"type":"object"}`),
		OutputSchema: json.RawMessage(`{"type":"array","items":{"type":"integer"}}`),
	}, func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		return &mcp.CallToolResult{StructuredContent: []int{1, 2}, Content: []mcp.Content{&mcp.TextContent{Text: "[1,2]"}}}, nil
	})
	server.AddTool(&mcp.Tool{Name: "raw_content", InputSchema: json.RawMessage(`{"type":"object"}`)},
		func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			size := int64(0)
			return &mcp.CallToolResult{Content: []mcp.Content{
				&mcp.TextContent{},
				&mcp.ImageContent{MIMEType: "image/png"},
				&mcp.AudioContent{MIMEType: "audio/wav"},
				&mcp.EmbeddedResource{Resource: &mcp.ResourceContents{URI: "odd://empty"}},
				&mcp.EmbeddedResource{Resource: &mcp.ResourceContents{URI: "odd://blob", Blob: []byte{}}},
				&mcp.ResourceLink{URI: "odd://empty", Name: "empty", Size: &size},
			}}, nil
		})
	server.AddTool(&mcp.Tool{Name: "raw_nothing", InputSchema: json.RawMessage(`{"type":"object"}`)},
		func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			return &mcp.CallToolResult{}, nil
		})
}

func addResources(server *mcp.Server) {
	for uri, contents := range map[string][]*mcp.ResourceContents{
		"odd://empty":   {{URI: "odd://empty"}},
		"odd://blob":    {{URI: "odd://blob", MIMEType: "application/octet-stream", Blob: []byte{}}},
		"odd://bytes":   {{URI: "odd://bytes", Blob: []byte{0, 255}}},
		"odd://nothing": nil,
	} {
		server.AddResource(&mcp.Resource{URI: uri, Name: strings.TrimPrefix(uri, "odd://")},
			func(context.Context, *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
				return &mcp.ReadResourceResult{Contents: contents}, nil
			})
	}
	server.AddResourceTemplate(&mcp.ResourceTemplate{URITemplate: "items://café/{id}", Name: "item"},
		func(_ context.Context, req *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
			return &mcp.ReadResourceResult{Contents: []*mcp.ResourceContents{{URI: req.Params.URI, Text: "found"}}}, nil
		})
}

func addPrompts(server *mcp.Server) {
	server.AddPrompt(&mcp.Prompt{Name: "needs", Arguments: []*mcp.PromptArgument{{Name: "what", Required: true}, {Name: "more"}}},
		func(_ context.Context, req *mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
			return &mcp.GetPromptResult{Messages: []*mcp.PromptMessage{{Role: "user", Content: &mcp.TextContent{Text: req.Params.Arguments["what"]}}}}, nil
		})
	server.AddPrompt(&mcp.Prompt{Name: "silent"}, func(context.Context, *mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
		return &mcp.GetPromptResult{}, nil
	})
	server.AddPrompt(&mcp.Prompt{Name: "embeds"}, func(context.Context, *mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
		return &mcp.GetPromptResult{Messages: []*mcp.PromptMessage{
			{Role: "assistant", Content: &mcp.EmbeddedResource{Resource: &mcp.ResourceContents{URI: "odd://empty"}}},
			{Role: "user", Content: &mcp.TextContent{}},
		}}, nil
	})
}
