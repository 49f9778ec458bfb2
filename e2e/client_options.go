package e2e

import (
	"context"
	"maps"
	"net/http"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// A ClientOption configures a client session.
type ClientOption func(*clientConfig)

type clientConfig struct {
	opts     mcp.ClientOptions
	header   http.Header
	roots    []*mcp.Root
	progress bool
	logLevel mcp.LoggingLevel
}

func newClientConfig(opts []ClientOption) *clientConfig {
	c := &clientConfig{header: http.Header{}}
	// The SDK declares the roots capability by itself; a test declares what it asks for.
	c.opts.Capabilities = &mcp.ClientCapabilities{}
	for _, o := range opts {
		o(c)
	}
	return c
}

// OnElicit answers what the server asks the person.
func OnElicit(f func(context.Context, *mcp.ElicitRequest) (*mcp.ElicitResult, error)) ClientOption {
	return func(c *clientConfig) { c.opts.ElicitationHandler = f }
}

// Accept answers every elicitation with this content.
func Accept(content map[string]any) ClientOption {
	return answer(&mcp.ElicitResult{Action: "accept", Content: content})
}

// Decline declines every elicitation.
func Decline() ClientOption { return answer(&mcp.ElicitResult{Action: "decline"}) }

// Cancel dismisses every elicitation without an answer.
func Cancel() ClientOption { return answer(&mcp.ElicitResult{Action: "cancel"}) }

func answer(r *mcp.ElicitResult) ClientOption {
	return OnElicit(func(context.Context, *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
		// A copy each time: the SDK fills the schema's defaults in.
		return &mcp.ElicitResult{Action: r.Action, Content: maps.Clone(r.Content)}, nil
	})
}

// OnSample answers what the server asks the model.
func OnSample(f func(context.Context, *mcp.CreateMessageRequest) (*mcp.CreateMessageResult, error)) ClientOption {
	return func(c *clientConfig) { c.opts.CreateMessageHandler = f }
}

// Sample answers every sampling request with this text.
func Sample(text string) ClientOption {
	return OnSample(func(context.Context, *mcp.CreateMessageRequest) (*mcp.CreateMessageResult, error) {
		return &mcp.CreateMessageResult{
			Role: "assistant", Model: "e2e", StopReason: "endTurn", Content: &mcp.TextContent{Text: text},
		}, nil
	})
}

// Roots gives the client these roots.
func Roots(uris ...string) ClientOption {
	return func(c *clientConfig) {
		c.opts.Capabilities.RootsV2 = &mcp.RootCapabilities{}
		for _, uri := range uris {
			c.roots = append(c.roots, &mcp.Root{URI: uri})
		}
	}
}

// Progress asks for progress on every tool call and collects it.
func Progress(inbox *Inbox[*mcp.ProgressNotificationParams]) ClientOption {
	return func(c *clientConfig) {
		c.progress = true
		c.opts.ProgressNotificationHandler = func(_ context.Context, req *mcp.ProgressNotificationClientRequest) {
			inbox.add(req.Params)
		}
	}
}

// Logs asks for log messages of this level and above and collects them.
func Logs(level mcp.LoggingLevel, inbox *Inbox[*mcp.LoggingMessageParams]) ClientOption {
	return func(c *clientConfig) {
		c.logLevel = level
		c.opts.LoggingMessageHandler = func(_ context.Context, req *mcp.LoggingMessageRequest) {
			inbox.add(req.Params)
		}
	}
}

// Header adds a header, such as Authorization, to every HTTP request.
func Header(name, value string) ClientOption {
	return func(c *clientConfig) { c.header.Add(name, value) }
}

// Client gives access to the SDK client's own options, for what has no option here.
func Client(f func(*mcp.ClientOptions)) ClientOption {
	return func(c *clientConfig) { f(&c.opts) }
}
