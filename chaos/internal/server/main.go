// Command server is what the chaos tests run: tools that may run twice, tools that must not and leave
// a mark in Redis each time they do, and tools that ask their client.
package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/redis/rueidis"

	"github.com/sluice-mcp/sluice"
	"github.com/sluice-mcp/sluice/serve"
)

func main() {
	book, err := openLedger(os.Getenv("CHAOS_LEDGER_URL"))
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		os.Exit(1) //nolint:forbidigo // this is a main
	}
	server := mcp.NewServer(&mcp.Implementation{Name: "chaos", Version: "v1.0.0"}, nil)
	mcp.AddTool(server, &mcp.Tool{
		Name:        "add",
		Annotations: &mcp.ToolAnnotations{ReadOnlyHint: true},
	}, add)
	mcp.AddTool(server, asTask(&mcp.Tool{
		Name:        "countdown",
		Annotations: &mcp.ToolAnnotations{IdempotentHint: true},
	}), countdown)
	mcp.AddTool(server, &mcp.Tool{
		Name:        "confirm",
		Annotations: &mcp.ToolAnnotations{IdempotentHint: true},
	}, confirm)
	mcp.AddTool(server, asTask(&mcp.Tool{Name: "charge"}), book.charge)
	mcp.AddTool(server, &mcp.Tool{Name: "transfer"}, book.charge) // a task when it takes long, see MCP_TASK_AFTER
	mcp.AddTool(server, asTask(&mcp.Tool{Name: "approve"}), book.approve)
	serve.Main(server)
}

// asTask has the calls of a tool become tasks for clients that know them.
func asTask(t *mcp.Tool) *mcp.Tool {
	sluice.MarkTask(t, sluice.TaskOptions{Mode: sluice.TaskPrefer})
	return t
}

type addInput struct {
	A int `json:"a"`
	B int `json:"b"`
}

func add(_ context.Context, _ *mcp.CallToolRequest, in addInput) (*mcp.CallToolResult, any, error) {
	return text(fmt.Sprint(in.A + in.B)), nil, nil
}

type steps struct {
	From    int `json:"from"`
	DelayMS int `json:"delay_ms"`
}

func (in steps) walk(ctx context.Context, req *mcp.CallToolRequest) error {
	for step := 1; step <= in.From; step++ {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(time.Duration(in.DelayMS) * time.Millisecond):
		}
		if token := req.Params.GetProgressToken(); token != nil {
			_ = req.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{ProgressToken: token, Progress: float64(step), Total: float64(in.From)})
		}
	}
	return nil
}

func countdown(ctx context.Context, req *mcp.CallToolRequest, in steps) (*mcp.CallToolResult, any, error) {
	if err := in.walk(ctx, req); err != nil {
		return nil, nil, err
	}
	return text(fmt.Sprintf("counted down from %d", in.From)), nil, nil
}

func confirm(ctx context.Context, req *mcp.CallToolRequest, _ struct{}) (*mcp.CallToolResult, any, error) {
	res, err := req.Session.Elicit(ctx, &mcp.ElicitParams{
		Message:         "Sure?",
		RequestedSchema: map[string]any{"type": "object", "properties": map[string]any{"sure": map[string]any{"type": "boolean"}}},
	})
	if err != nil {
		return nil, nil, err
	}
	return text(res.Action), nil, nil
}

// ledger counts executions where the test can see them, whichever process they were made by.
type ledger struct {
	client rueidis.Client
	list   string
}

func openLedger(rawURL string) (*ledger, error) {
	if rawURL == "" {
		return &ledger{}, nil
	}
	u, err := url.Parse(rawURL)
	if err != nil {
		return nil, errors.New("CHAOS_LEDGER_URL is not a URL")
	}
	opt, err := rueidis.ParseURL(rawURL)
	if err != nil {
		return nil, err
	}
	opt.ForceSingleClient, opt.DisableCache = true, true
	opt.DisableRetry = true // a mark that is made twice would look like an execution
	client, err := rueidis.NewClient(opt)
	if err != nil {
		return nil, err
	}
	return &ledger{client, u.Query().Get("prefix") + "charged"}, nil
}

type chargeInput struct {
	steps
	Key string `json:"key"`
}

// charge has its effect first and then takes its time, as those tools do that one would rather not have run twice.
func (l *ledger) charge(ctx context.Context, req *mcp.CallToolRequest, in chargeInput) (*mcp.CallToolResult, any, error) {
	if err := l.mark(ctx, in.Key); err != nil {
		return nil, nil, err
	}
	if err := in.walk(ctx, req); err != nil {
		return nil, nil, err
	}
	return text("charged " + in.Key), nil, nil
}

// approve is a charge in two parts, between which it asks. Each leaves its mark.
func (l *ledger) approve(ctx context.Context, req *mcp.CallToolRequest, in chargeInput) (*mcp.CallToolResult, any, error) {
	answer, answered := req.Params.InputResponses["sure"].(*mcp.ElicitResult)
	part := in.Key + " before"
	if answered {
		part = in.Key + " after"
	}
	if err := l.mark(ctx, part); err != nil {
		return nil, nil, err
	}
	if err := in.walk(ctx, req); err != nil {
		return nil, nil, err
	}
	if answered {
		return text(fmt.Sprint(answer.Action, " ", req.Params.RequestState)), nil, nil
	}
	return &mcp.CallToolResult{
		InputRequests: mcp.InputRequestMap{"sure": &mcp.ElicitParams{
			Message:         "Sure?",
			RequestedSchema: map[string]any{"type": "object", "properties": map[string]any{"sure": map[string]any{"type": "boolean"}}},
		}},
		RequestState: in.Key,
	}, nil, nil
}

// mark notes that something has had its effect, even if the caller is gone: the effect is not taken back either.
func (l *ledger) mark(ctx context.Context, what string) error {
	if l.client == nil {
		return errors.New("no ledger: CHAOS_LEDGER_URL is not set")
	}
	if err := l.client.Do(context.WithoutCancel(ctx), l.client.B().Rpush().Key(l.list).Element(what).Build()).Error(); err != nil {
		return fmt.Errorf("not charged: %w", err)
	}
	return nil
}

func text(s string) *mcp.CallToolResult {
	return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: s}}}
}
