// Command echoserver is what the end-to-end kit is tested against: a small MCP server
// on the SDK alone, for every revision and transport.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

func main() {
	server := newServer()
	if os.Getenv("MCP_TRANSPORT") == "stdio" {
		if err := server.Run(context.Background(), &mcp.StdioTransport{}); err != nil {
			slog.Error("stdio", "err", err)
			os.Exit(1)
		}
		return
	}
	if os.Getenv("ECHO_IGNORE_TERM") != "" {
		signal.Ignore(syscall.SIGTERM)
	}
	addr := os.Getenv("MCP_SERVER_HOST") + ":" + os.Getenv("MCP_SERVER_PORT")
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, nil)))
	slog.Info("listening", "addr", addr, "pid", os.Getpid())
	srv := &http.Server{Addr: addr, Handler: newHandler(server), ReadHeaderTimeout: time.Minute}
	if err := srv.ListenAndServe(); err != nil {
		slog.Error("serving", "err", err)
		os.Exit(1)
	}
}

func newHandler(server *mcp.Server) http.Handler {
	get := func(*http.Request) *mcp.Server { return server }
	sessions := mcp.NewStreamableHTTPHandler(get, &mcp.StreamableHTTPOptions{EventStore: mcp.NewMemoryEventStore(nil)})
	stateless := mcp.NewStreamableHTTPHandler(get, &mcp.StreamableHTTPOptions{Stateless: true})
	mux := http.NewServeMux()
	mux.HandleFunc("/mcp", func(w http.ResponseWriter, r *http.Request) {
		// The SDK's handler serves either era, not both.
		if r.Header.Get("Mcp-Protocol-Version") >= "2026" {
			stateless.ServeHTTP(w, r)
			return
		}
		sessions.ServeHTTP(w, r)
	})
	mux.Handle("/sse", mcp.NewSSEHandler(get, nil))
	mux.HandleFunc("GET /readyz", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /pid", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, os.Getpid()) })
	return mux
}

type addIn struct {
	A int `json:"a" jsonschema:"first summand"`
	B int `json:"b" jsonschema:"second summand"`
}

type addOut struct {
	Sum int `json:"sum"`
}

type countdownIn struct {
	From    int `json:"from"`
	DelayMS int `json:"delay_ms"`
}

type textIn struct {
	Text string `json:"text"`
}

func newServer() *mcp.Server {
	opts := &mcp.ServerOptions{Instructions: "Echo."}
	if only := os.Getenv("ECHO_ONLY"); only != "" {
		opts.SupportedProtocolVersions = []string{only}
	}
	server := mcp.NewServer(&mcp.Implementation{Name: "echo", Version: "v1.0.0"}, opts)
	mcp.AddTool(server, &mcp.Tool{Name: "add", Description: "Add two numbers."},
		func(_ context.Context, _ *mcp.CallToolRequest, in addIn) (*mcp.CallToolResult, addOut, error) {
			return text("%d", in.A+in.B), addOut{in.A + in.B}, nil
		})
	mcp.AddTool(server, &mcp.Tool{Name: "echo", Description: "Return the text."},
		func(_ context.Context, _ *mcp.CallToolRequest, in textIn) (*mcp.CallToolResult, any, error) {
			return text("%s", in.Text), nil, nil
		})
	mcp.AddTool(server, &mcp.Tool{Name: "fail", Description: "Always fail, for the given reason."},
		func(_ context.Context, _ *mcp.CallToolRequest, in textIn) (*mcp.CallToolResult, any, error) {
			return nil, nil, fmt.Errorf("failed: %s", in.Text)
		})
	mcp.AddTool(server, &mcp.Tool{Name: "countdown", Description: "Count down, reporting each step."}, countdown)
	mcp.AddTool(server, &mcp.Tool{Name: "log", Description: "Log the text."},
		func(ctx context.Context, req *mcp.CallToolRequest, in textIn) (*mcp.CallToolResult, any, error) {
			err := req.Session.Log(ctx, &mcp.LoggingMessageParams{Level: "info", Data: in.Text})
			return text("logged"), nil, err
		})
	mcp.AddTool(server, &mcp.Tool{Name: "crash", Description: "End the process."},
		func(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, any, error) {
			os.Exit(3)
			return nil, nil, nil
		})
	mcp.AddTool(server, &mcp.Tool{Name: "ask", Description: "Ask the person, the model and for the roots."}, ask)
	server.AddResource(&mcp.Resource{URI: "test://about", Name: "about", MIMEType: "text/plain"}, read)
	server.AddResourceTemplate(&mcp.ResourceTemplate{URITemplate: "test://item/{id}", Name: "item"}, read)
	server.AddPrompt(&mcp.Prompt{Name: "greet", Arguments: []*mcp.PromptArgument{{Name: "name", Required: true}}},
		func(_ context.Context, req *mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
			return &mcp.GetPromptResult{Messages: []*mcp.PromptMessage{
				{Role: "user", Content: &mcp.TextContent{Text: "Greet " + req.Params.Arguments["name"] + "."}},
			}}, nil
		})
	return server
}

func text(format string, args ...any) *mcp.CallToolResult {
	return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: fmt.Sprintf(format, args...)}}}
}

func read(_ context.Context, req *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
	return &mcp.ReadResourceResult{Contents: []*mcp.ResourceContents{{URI: req.Params.URI, Text: "text of " + req.Params.URI}}}, nil
}

func countdown(ctx context.Context, req *mcp.CallToolRequest, in countdownIn) (*mcp.CallToolResult, any, error) {
	for i := 1; i <= in.From; i++ {
		select {
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		case <-time.After(time.Duration(in.DelayMS) * time.Millisecond):
		}
		if token := req.Params.GetProgressToken(); token != nil {
			err := req.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{
				ProgressToken: token, Progress: float64(i), Total: float64(in.From),
			})
			if err != nil {
				return nil, nil, err
			}
		}
	}
	return text("liftoff"), nil, nil
}

// ask needs answers from the client in either era's way: the SDK turns the
// input requests into calls for clients of the older revisions.
func ask(_ context.Context, req *mcp.CallToolRequest, in textIn) (*mcp.CallToolResult, any, error) {
	if len(req.Params.InputResponses) == 0 {
		return &mcp.CallToolResult{InputRequests: mcp.InputRequestMap{
			"person": &mcp.ElicitParams{Message: in.Text, RequestedSchema: map[string]any{
				"type": "object", "properties": map[string]any{"answer": map[string]any{"type": "string"}},
			}},
			"model": &mcp.CreateMessageParams{MaxTokens: 10, Messages: []*mcp.SamplingMessage{
				{Role: "user", Content: &mcp.TextContent{Text: in.Text}},
			}},
			"roots": &mcp.ListRootsParams{},
		}}, nil, nil
	}
	var said []string
	if r, ok := req.Params.InputResponses["person"].(*mcp.ElicitResult); ok {
		said = append(said, fmt.Sprintf("person %s %v", r.Action, r.Content["answer"]))
	}
	switch r := req.Params.InputResponses["model"].(type) {
	case *mcp.CreateMessageResult:
		if c, ok := r.Content.(*mcp.TextContent); ok {
			said = append(said, "model "+c.Text)
		}
	case *mcp.CreateMessageWithToolsResult:
		for _, c := range r.Content {
			if c, ok := c.(*mcp.TextContent); ok {
				said = append(said, "model "+c.Text)
			}
		}
	}
	if r, ok := req.Params.InputResponses["roots"].(*mcp.ListRootsResult); ok {
		for _, root := range r.Roots {
			said = append(said, "root "+root.URI)
		}
	}
	return text("%s", strings.Join(said, ", ")), nil, nil
}
