package spec_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// A probe is the side channel between a test and the tools of its server: a tool says how far it
// has come, a test waits for that and lets the tool go on.
type probe struct {
	mu      sync.Mutex
	states  map[string]string
	gates   map[string]chan struct{}
	changed chan struct{}
	running int
}

func newProbe() *probe {
	return &probe{states: map[string]string{}, gates: map[string]chan struct{}{}, changed: make(chan struct{})}
}

func (p *probe) set(key, state string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.states[key] = state
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *probe) get(key string) (state string, changed <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.states[key], p.changed
}

// add counts handlers that run.
func (p *probe) add(n int) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.running += n
	return p.running
}

// await waits until the tool with this key has come to the state.
func (p *probe) await(t *testing.T, key, want string) {
	t.Helper()
	p.awaitWithin(t, key, want, patience)
}

func (p *probe) awaitWithin(t *testing.T, key, want string, d time.Duration) {
	t.Helper()
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		state, changed := p.get(key)
		if state == want {
			return
		}
		select {
		case <-changed:
		case <-timer.C:
			t.Fatalf("tool %q is %q after %v, want %q", key, state, d, want)
		}
	}
}

// stays fails when the tool leaves the state within the next moment.
func (p *probe) stays(t *testing.T, key, want, why string) {
	t.Helper()
	timer := time.NewTimer(quietly)
	defer timer.Stop()
	for {
		state, changed := p.get(key)
		if state != want {
			t.Fatalf("tool %q is %q, want %q; %s", key, state, want, why)
		}
		select {
		case <-changed:
		case <-timer.C:
			return
		}
	}
}

// gate is closed by release.
func (p *probe) gate(key string) chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gates[key] == nil {
		p.gates[key] = make(chan struct{})
	}
	return p.gates[key]
}

func (p *probe) release(key string) { close(p.gate(key)) }

// args are the arguments of the raw tools; each uses what it needs.
type args struct {
	Key  string `json:"key"`
	Text string `json:"text"`
	N    int    `json:"n"`
}

func text(format string, a ...any) *mcp.CallToolResult {
	return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: fmt.Sprintf(format, a...)}}}
}

const anyInput = `{"type":"object","properties":{"key":{"type":"string"},"text":{"type":"string"},"n":{"type":"integer"}}}`

// nameSchema is what the asking tools want to know.
const nameSchema = `{"type":"object","properties":{"name":{"type":"string"},"age":{"type":"integer"}},"required":["name"]}`

// newServer writes the server under test with the SDK, as a user would.
// Its page size is small, so that lists have pages.
func newServer(p *probe, edit func(*mcp.ServerOptions)) *mcp.Server {
	opts := &mcp.ServerOptions{
		Instructions:       "Tools for the statements.",
		PageSize:           10,
		SubscribeHandler:   func(context.Context, *mcp.SubscribeRequest) error { return nil },
		UnsubscribeHandler: func(context.Context, *mcp.UnsubscribeRequest) error { return nil },
		CompletionHandler: func(_ context.Context, req *mcp.CompleteRequest) (*mcp.CompleteResult, error) {
			return &mcp.CompleteResult{Completion: mcp.CompletionResultDetails{Values: []string{req.Params.Argument.Value + "a"}, Total: 1}}, nil
		},
	}
	if edit != nil {
		edit(opts)
	}
	srv := mcp.NewServer(&mcp.Implementation{Name: "spec", Version: "v1"}, opts)

	raw := func(name, schema string, h func(context.Context, *mcp.CallToolRequest, args) (*mcp.CallToolResult, error)) {
		srv.AddTool(&mcp.Tool{Name: name, Description: "See the tests.", InputSchema: json.RawMessage(schema)},
			func(ctx context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
				p.add(1)
				defer p.add(-1)
				var a args
				_ = json.Unmarshal(req.Params.Arguments, &a)
				return h(ctx, req, a)
			})
	}
	tool := func(name string, h func(context.Context, *mcp.CallToolRequest, args) (*mcp.CallToolResult, error)) {
		raw(name, anyInput, h)
	}

	// wait blocks a tool until the test releases its key, or the call is cancelled.
	wait := func(ctx context.Context, key string) error {
		select {
		case <-ctx.Done():
			p.set(key, "cancelled")
			return ctx.Err()
		case <-p.gate(key):
			return nil
		}
	}

	tool("echo", func(_ context.Context, _ *mcp.CallToolRequest, a args) (*mcp.CallToolResult, error) {
		return text("%s", a.Text), nil
	})
	tool("slow", func(ctx context.Context, _ *mcp.CallToolRequest, a args) (*mcp.CallToolResult, error) {
		p.set(a.Key, "running")
		if err := wait(ctx, a.Key); err != nil {
			return nil, err
		}
		p.set(a.Key, "done")
		return text("slow %s", a.Key), nil
	})
	tool("slow_status", func(_ context.Context, _ *mcp.CallToolRequest, a args) (*mcp.CallToolResult, error) {
		state, _ := p.get(a.Key)
		return text("%s", state), nil
	})
	// steps sends n progress notifications, then waits, then sends n more and answers.
	tool("steps", func(ctx context.Context, req *mcp.CallToolRequest, a args) (*mcp.CallToolResult, error) {
		notify := func(i int) error {
			return req.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{
				ProgressToken: req.Params.GetProgressToken(), Progress: float64(i), Total: float64(2 * a.N), Message: a.Text,
			})
		}
		for i := 1; i <= a.N; i++ {
			if err := notify(i); err != nil {
				return nil, err
			}
		}
		p.set(a.Key, "halfway")
		if a.Key != "" {
			if err := wait(ctx, a.Key); err != nil {
				return nil, err
			}
		}
		for i := a.N + 1; i <= 2*a.N; i++ {
			if err := notify(i); err != nil {
				return nil, err
			}
		}
		p.set(a.Key, "done")
		return text("steps %s", a.Key), nil
	})
	// late reports progress once more after its answer.
	tool("late", func(ctx context.Context, req *mcp.CallToolRequest, a args) (*mcp.CallToolResult, error) {
		token := req.Params.GetProgressToken()
		_ = req.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{ProgressToken: token, Progress: 1})
		go func() {
			<-p.gate(a.Key)
			_ = req.Session.NotifyProgress(context.WithoutCancel(ctx), &mcp.ProgressNotificationParams{ProgressToken: token, Progress: 2})
			p.set(a.Key, "late")
		}()
		return text("late"), nil
	})
	tool("elicit", func(ctx context.Context, req *mcp.CallToolRequest, a args) (*mcp.CallToolResult, error) {
		p.set(a.Key, "asking")
		res, err := req.Session.Elicit(ctx, &mcp.ElicitParams{Message: "Who are you?", RequestedSchema: json.RawMessage(nameSchema)})
		if err != nil {
			p.set(a.Key, "failed")
			return nil, fmt.Errorf("eliciting: %w", err)
		}
		p.set(a.Key, "answered")
		return text("%s %v", res.Action, res.Content["name"]), nil
	})
	tool("sample", func(ctx context.Context, req *mcp.CallToolRequest, a args) (*mcp.CallToolResult, error) {
		p.set(a.Key, "asking")
		res, err := req.Session.CreateMessage(ctx, &mcp.CreateMessageParams{
			MaxTokens: 10, Messages: []*mcp.SamplingMessage{{Role: "user", Content: &mcp.TextContent{Text: "Say something."}}},
		})
		if err != nil {
			p.set(a.Key, "failed")
			return nil, fmt.Errorf("sampling: %w", err)
		}
		p.set(a.Key, "answered")
		return text("%s", res.Content.(*mcp.TextContent).Text), nil
	})
	tool("roots", func(ctx context.Context, req *mcp.CallToolRequest, a args) (*mcp.CallToolResult, error) {
		p.set(a.Key, "asking")
		res, err := req.Session.ListRoots(ctx, nil)
		if err != nil {
			p.set(a.Key, "failed")
			return nil, fmt.Errorf("asking for roots: %w", err)
		}
		p.set(a.Key, "answered")
		return text("%d roots", len(res.Roots)), nil
	})
	tool("log", func(ctx context.Context, req *mcp.CallToolRequest, _ args) (*mcp.CallToolResult, error) {
		for _, level := range []mcp.LoggingLevel{"debug", "info", "error"} {
			if err := req.Session.Log(ctx, &mcp.LoggingMessageParams{Level: level, Logger: "spec", Data: "logged"}); err != nil {
				return nil, err
			}
		}
		return text("logged"), nil
	})
	// close_stream asks the client to come back for the rest.
	tool("close_stream", func(ctx context.Context, req *mcp.CallToolRequest, a args) (*mcp.CallToolResult, error) {
		if req.Extra.CloseSSEStream == nil {
			p.set(a.Key, "unclosable")
			return nil, errors.New("the stream cannot be closed")
		}
		req.Extra.CloseSSEStream(mcp.CloseSSEStreamArgs{RetryAfter: 10 * time.Millisecond})
		p.set(a.Key, "closed")
		if err := wait(ctx, a.Key); err != nil {
			return nil, err
		}
		return text("after the close"), nil
	})
	tool("panic", func(context.Context, *mcp.CallToolRequest, args) (*mcp.CallToolResult, error) {
		panic("a tool panics")
	})
	tool("big", func(_ context.Context, _ *mcp.CallToolRequest, a args) (*mcp.CallToolResult, error) {
		return text("%s", strings.Repeat("x", a.N)), nil
	})
	// fail_late speaks first and then fails with a protocol error.
	tool("fail_late", func(ctx context.Context, req *mcp.CallToolRequest, _ args) (*mcp.CallToolResult, error) {
		_ = req.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{ProgressToken: req.Params.GetProgressToken(), Progress: 1})
		return nil, &jsonrpc.Error{Code: jsonrpc.CodeInvalidParams, Message: "no such thing"}
	})
	tool("whoami", func(_ context.Context, req *mcp.CallToolRequest, _ args) (*mcp.CallToolResult, error) {
		name, user := "", ""
		if ci := req.ClientInfo(); ci != nil {
			name = ci.Name
		}
		if req.Extra != nil && req.Extra.TokenInfo != nil {
			user = req.Extra.TokenInfo.UserID
		}
		caps := req.ClientCapabilities()
		return text("%s elicitation=%t version=%s user=%s", name, caps != nil && caps.Elicitation != nil, req.ProtocolVersion(), user), nil
	})
	// fetch calls another service, as tools do. It gets the caller's context and nothing else.
	tool("fetch", func(ctx context.Context, _ *mcp.CallToolRequest, a args) (*mcp.CallToolResult, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.Text, nil)
		if err != nil {
			return nil, err
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return nil, err
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		return text("%s", body), err
	})
	raw("hdr", `{"type":"object","properties":{
		"region":{"type":"string","x-mcp-header":"Region"},
		"count":{"type":"integer","x-mcp-header":"Count"},
		"flag":{"type":"boolean","x-mcp-header":"Flag"},
		"place":{"type":"object","properties":{"city":{"type":"string","x-mcp-header":"City"}}},
		"note":{"type":"string"}}}`,
		func(_ context.Context, req *mcp.CallToolRequest, _ args) (*mcp.CallToolResult, error) {
			return text("%s", req.Params.Arguments), nil
		})
	mcp.AddTool(srv, &mcp.Tool{Name: "add", Description: "Add two numbers."},
		func(_ context.Context, _ *mcp.CallToolRequest, in struct {
			A int `json:"a"`
			B int `json:"b"`
		},
		) (*mcp.CallToolResult, any, error) {
			return text("%d", in.A+in.B), nil, nil
		})

	// ask and ask_other need input that depends on n: one kind, or several, or a state alone.
	ask := func(_ context.Context, req *mcp.CallToolRequest, a args) (*mcp.CallToolResult, error) {
		requests, state, answer := inputs(a.Text, req.Params.InputResponses, req.Params.RequestState)
		if requests != nil {
			return &mcp.CallToolResult{InputRequests: requests, RequestState: state}, nil
		}
		p.set("ask", answer)
		return text("%s", answer), nil
	}
	tool("ask", ask)
	tool("ask_other", ask)

	srv.AddPrompt(&mcp.Prompt{Name: "greet", Description: "A greeting.", Arguments: []*mcp.PromptArgument{{Name: "name", Required: true}}},
		func(_ context.Context, req *mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
			return &mcp.GetPromptResult{Messages: []*mcp.PromptMessage{{Role: "user", Content: &mcp.TextContent{Text: "Greet " + req.Params.Arguments["name"]}}}}, nil
		})
	srv.AddPrompt(&mcp.Prompt{Name: "ask_prompt", Description: "A prompt that asks first."},
		func(_ context.Context, req *mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
			requests, state, answer := inputs("elicit", req.Params.InputResponses, req.Params.RequestState)
			if requests != nil {
				return &mcp.GetPromptResult{InputRequests: requests, RequestState: state}, nil
			}
			return &mcp.GetPromptResult{Messages: []*mcp.PromptMessage{{Role: "user", Content: &mcp.TextContent{Text: answer}}}}, nil
		})

	read := func(_ context.Context, req *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
		return &mcp.ReadResourceResult{Contents: []*mcp.ResourceContents{{URI: req.Params.URI, MIMEType: "text/plain", Text: "content of " + req.Params.URI}}}, nil
	}
	for i := range 12 {
		srv.AddResource(&mcp.Resource{Name: fmt.Sprint("item", i), URI: fmt.Sprintf("test://item/%02d", i), MIMEType: "text/plain"}, read)
	}
	srv.AddResource(&mcp.Resource{Name: "accent", URI: "test://café", MIMEType: "text/plain"}, read)
	srv.AddResource(&mcp.Resource{Name: "asking", URI: "test://ask", MIMEType: "text/plain"},
		func(_ context.Context, req *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
			requests, state, answer := inputs("elicit", req.Params.InputResponses, req.Params.RequestState)
			if requests != nil {
				return &mcp.ReadResourceResult{InputRequests: requests, RequestState: state}, nil
			}
			return &mcp.ReadResourceResult{Contents: []*mcp.ResourceContents{{URI: req.Params.URI, Text: answer}}}, nil
		})
	srv.AddResourceTemplate(&mcp.ResourceTemplate{Name: "thing", URITemplate: "test://thing/{id}", MIMEType: "text/plain"}, read)
	return srv
}

// inputs is the logic of every handler that asks: what it needs next for the kind, or its answer.
// Its state is plain text, for the endpoint is to seal it.
func inputs(kind string, responses mcp.InputResponseMap, state string) (mcp.InputRequestMap, string, string) {
	name := &mcp.ElicitParams{Mode: "form", Message: "Who are you?", RequestedSchema: json.RawMessage(nameSchema)}
	sample := &mcp.CreateMessageParams{MaxTokens: 10, Messages: []*mcp.SamplingMessage{{Role: "user", Content: &mcp.TextContent{Text: "Say something."}}}}
	answered := func(key string) string {
		switch r := responses[key].(type) {
		case *mcp.ElicitResult:
			return fmt.Sprint(r.Content["name"])
		case *mcp.CreateMessageWithToolsResult:
			return fmt.Sprint(len(r.Content), " messages")
		case *mcp.ListRootsResult:
			return fmt.Sprint(len(r.Roots), " roots")
		}
		return ""
	}
	switch kind {
	case "sample":
		if answered("words") == "" {
			return mcp.InputRequestMap{"words": sample}, "plain-sample", ""
		}
		return nil, "", "said " + answered("words") + " after " + state
	case "roots":
		if answered("roots") == "" {
			return mcp.InputRequestMap{"roots": &mcp.ListRootsParams{}}, "plain-roots", ""
		}
		return nil, "", "seen " + answered("roots") + " after " + state
	case "state": // no input, only a state to bring back
		if state == "" {
			return mcp.InputRequestMap{}, "plain-state", ""
		}
		return nil, "", "back with " + state
	case "rounds": // two rounds, the first answer kept in the state
		switch {
		case state == "" || answered("name") == "":
			return mcp.InputRequestMap{"name": name}, "round-1", ""
		case state == "round-1":
			return mcp.InputRequestMap{"name": name}, "round-2 " + answered("name"), ""
		}
		return nil, "", answered("name") + " after " + state
	default:
		if answered("name") == "" {
			return mcp.InputRequestMap{"name": name}, "plain-name", ""
		}
		return nil, "", "Hello, " + answered("name") + " after " + state
	}
}

func mustJSON(t *testing.T, v any) []byte {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
