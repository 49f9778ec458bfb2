package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice/internal/wire"
)

// outbox keeps what a server says.
type outbox struct {
	mu   sync.Mutex
	said []Outgoing
	say  func(context.Context, Outgoing) error // nil takes everything
}

func (o *outbox) Say(ctx context.Context, m Outgoing) error {
	o.mu.Lock()
	o.said = append(o.said, m)
	o.mu.Unlock()
	if o.say != nil {
		return o.say(ctx, m)
	}
	return nil
}

func (o *outbox) all() []Outgoing {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]Outgoing(nil), o.said...)
}

// seen is what a server's handlers got.
type seen struct {
	mu     sync.Mutex
	params []string
}

func (s *seen) middleware(next mcp.MethodHandler) mcp.MethodHandler {
	return func(ctx context.Context, method string, req mcp.Request) (mcp.Result, error) {
		s.mu.Lock()
		s.params = append(s.params, fmt.Sprintf("%s %T %s", method, req, spell(req.GetParams())))
		s.mu.Unlock()
		return next(ctx, method, req)
	}
}

// spell writes params down, absent ones and empty ones apart.
func spell(p mcp.Params) string {
	raw, err := json.Marshal(p)
	return fmt.Sprintf("%#v %s %v", p == nil, raw, err)
}

func (s *seen) take() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.params
	s.params = nil
	return all
}

// newServer has something of everything.
func newServer() *mcp.Server {
	s := mcp.NewServer(&mcp.Implementation{Name: "test <1>", Version: "1"}, &mcp.ServerOptions{
		CompletionHandler: func(_ context.Context, req *mcp.CompleteRequest) (*mcp.CompleteResult, error) {
			return &mcp.CompleteResult{Completion: mcp.CompletionResultDetails{Values: []string{req.Params.Argument.Value + "!"}}}, nil
		},
		SubscribeHandler:   func(context.Context, *mcp.SubscribeRequest) error { return nil },
		UnsubscribeHandler: func(context.Context, *mcp.UnsubscribeRequest) error { return nil },
		PageSize:           2,
	})
	schema := json.RawMessage(`{"type":"object"}`)
	for name, h := range map[string]mcp.ToolHandler{
		"echo": func(_ context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: string(req.Params.Arguments)}}, StructuredContent: req.Params.Meta}, nil
		},
		"fail": func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			return nil, errors.New("it does not work")
		},
		"panic": func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) { panic("on purpose") },
		"progress": func(ctx context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			return &mcp.CallToolResult{}, req.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{ProgressToken: req.Params.GetProgressToken(), Progress: 1})
		},
		"ask": func(ctx context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			res, err := req.Session.Elicit(ctx, &mcp.ElicitParams{Message: "?", RequestedSchema: map[string]any{"type": "object", "properties": map[string]any{}}})
			if err != nil {
				return nil, err
			}
			return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: res.Action}}}, nil
		},
	} {
		s.AddTool(&mcp.Tool{Name: name, InputSchema: schema}, h)
	}
	s.AddPrompt(&mcp.Prompt{Name: "hi"}, func(_ context.Context, req *mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
		return &mcp.GetPromptResult{Description: fmt.Sprint(req.Params.Arguments)}, nil
	})
	s.AddResource(&mcp.Resource{Name: "r", URI: "test://r"}, func(_ context.Context, req *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
		return &mcp.ReadResourceResult{Contents: []*mcp.ResourceContents{{URI: req.Params.URI, Text: "<r>"}}}, nil
	})
	s.AddResourceTemplate(&mcp.ResourceTemplate{Name: "t", URITemplate: "test://t/{x}"}, func(_ context.Context, req *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
		return nil, mcp.ResourceNotFoundError(req.Params.URI)
	})
	return s
}

// records keeps what is logged.
type records struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (r *records) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.buf.Write(p)
}

func (r *records) lines() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.FieldsFunc(r.buf.String(), func(c rune) bool { return c == '\n' })
}

func (r *records) logger() *slog.Logger { return slog.New(slog.NewTextHandler(r, nil)) }

// legacyState is a session that has been initialized.
func legacyState() *mcp.ServerSessionState {
	return &mcp.ServerSessionState{
		InitializeParams:  &mcp.InitializeParams{ProtocolVersion: wire.Rev1125, Capabilities: &mcp.ClientCapabilities{Elicitation: &mcp.ElicitationCapabilities{}}},
		InitializedParams: &mcp.InitializedParams{},
	}
}

func connect(t *testing.T, e *Engine, state *mcp.ServerSessionState, out Outlet) *Session {
	t.Helper()
	s, err := e.Connect(context.Background(), "S", state, out)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func call(method, params string) *Call {
	c := &Call{Method: method, Extra: &mcp.RequestExtra{}}
	if params != "" {
		c.Params = json.RawMessage(params)
	}
	return c
}
