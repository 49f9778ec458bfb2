package demo

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

type addInput struct {
	A int64 `json:"a" jsonschema:"the first number"`
	B int64 `json:"b" jsonschema:"the second number"`
}

type addOutput struct {
	Result int64 `json:"result" jsonschema:"the sum"`
}

func add(_ context.Context, _ *mcp.CallToolRequest, in addInput) (*mcp.CallToolResult, addOutput, error) {
	if err := errors.Join(exact("a", in.A), exact("b", in.B)); err != nil {
		return nil, addOutput{}, err
	}
	sum := in.A + in.B
	// Without a text of its own the result would repeat the structured content as JSON.
	return text(strconv.FormatInt(sum, 10)), addOutput{Result: sum}, nil
}

// exact refuses what has lost digits already: on its way here a number has passed through float64.
func exact(name string, n int64) error {
	const limit int64 = 1<<53 - 1
	if n < -limit || n > limit {
		return fmt.Errorf("%s is %d, want -%d to %d", name, n, limit, limit)
	}
	return nil
}

type countdownInput struct {
	From    int `json:"from" jsonschema:"where to start, from 0 to 10000"`
	DelayMS int `json:"delay_ms" jsonschema:"pause before each step in milliseconds, from 0 to 60000"`
}

func countdown(ctx context.Context, req *mcp.CallToolRequest, in countdownInput) (*mcp.CallToolResult, any, error) {
	// Anyone may call: without bounds one call could hold its resources for years.
	if in.From < 0 || in.From > 10_000 {
		return nil, nil, fmt.Errorf("from is %d, want 0 to 10000", in.From)
	}
	if in.DelayMS < 0 || in.DelayMS > 60_000 {
		return nil, nil, fmt.Errorf("delay_ms is %d, want 0 to 60000", in.DelayMS)
	}
	for step := 1; step <= in.From; step++ {
		if err := takeStep(ctx, req, in.DelayMS, step, in.From, strconv.Itoa(in.From-step)); err != nil {
			return nil, nil, fmt.Errorf("stopped at %d: %w", in.From-step+1, err)
		}
	}
	return text(fmt.Sprintf("Counted down from %d.", in.From)), nil, nil
}

// takeStep is work that takes its time. It fails when nobody wants it any more.
func takeStep(ctx context.Context, req *mcp.CallToolRequest, delayMS, step, steps int, message string) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(time.Duration(delayMS) * time.Millisecond):
	}
	token := req.Params.GetProgressToken()
	if token == nil {
		return nil // the client did not ask for progress
	}
	// Progress is a courtesy: the result is owed even if nobody hears about the steps.
	_ = req.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{
		ProgressToken: token,
		Progress:      float64(step),
		Total:         float64(steps),
		Message:       message,
	})
	return nil
}

type auditInput struct {
	Steps   int `json:"steps" jsonschema:"how many steps, from 1 to 10000"`
	DelayMS int `json:"delay_ms" jsonschema:"pause before each step in milliseconds, from 0 to 60000"`
}

type auditOutput struct {
	Checked  int  `json:"checked" jsonschema:"steps that were done"`
	Complete bool `json:"complete" jsonschema:"whether these are all"`
}

// audit is work for a task: it takes long, and has a question halfway. Like bookTable it works in two rounds. The state says
// how far the first one came, so the second does not begin anew; nothing is kept between them.
func audit(ctx context.Context, req *mcp.CallToolRequest, in auditInput) (*mcp.CallToolResult, auditOutput, error) {
	const question = "go_on"
	if in.Steps < 1 || in.Steps > 10_000 {
		return nil, auditOutput{}, fmt.Errorf("steps is %d, want 1 to 10000", in.Steps)
	}
	if in.DelayMS < 0 || in.DelayMS > 60_000 {
		return nil, auditOutput{}, fmt.Errorf("delay_ms is %d, want 0 to 60000", in.DelayMS)
	}
	half := in.Steps / 2
	state := fmt.Sprintf("%d of %d", half, in.Steps)
	answer, answered := req.Params.InputResponses[question].(*mcp.ElicitResult)
	step := 0
	if answered {
		if req.Params.RequestState != state {
			return nil, auditOutput{}, fmt.Errorf("the answer belongs to another audit than %d steps", in.Steps)
		}
		if answer.Action != "accept" || answer.Content[question] == false {
			return text("Stopped after " + state + " steps."), auditOutput{Checked: half}, nil
		}
		step = half
	}
	for step++; step <= in.Steps; step++ {
		if err := takeStep(ctx, req, in.DelayMS, step, in.Steps, fmt.Sprintf("step %d of %d", step, in.Steps)); err != nil {
			return nil, auditOutput{}, fmt.Errorf("stopped at step %d: %w", step, err)
		}
		if step == half && !answered && canAsk(req.Session) {
			return &mcp.CallToolResult{
				InputRequests: mcp.InputRequestMap{question: &mcp.ElicitParams{
					Mode:            "form",
					Message:         state + " steps are done. Go on?",
					RequestedSchema: goOnSchema,
				}},
				RequestState: state,
			}, auditOutput{}, nil
		}
	}
	return text(fmt.Sprintf("Audited %d steps.", in.Steps)), auditOutput{Checked: in.Steps, Complete: true}, nil
}

// canAsk reports whether a client shows questions to a person. One that does not gets its audit without.
func canAsk(s *mcp.ServerSession) bool {
	opened := s.InitializeParams()
	return opened != nil && opened.Capabilities != nil && opened.Capabilities.Elicitation != nil
}

var goOnSchema = map[string]any{
	"type": "object",
	"properties": map[string]any{
		"go_on": map[string]any{"type": "boolean", "title": "Go on", "default": true},
	},
}

type bookInput struct {
	Guests int `json:"guests" jsonschema:"how many people will come, from 1 to 20"`
}

// bookTable works in two rounds. The first returns the question, the second carries the answer.
// That is the way of revision 2026-07-28; for a client of an older one the SDK asks
// by elicitation between the rounds, and this function does not notice.
func bookTable(_ context.Context, req *mcp.CallToolRequest, in bookInput) (*mcp.CallToolResult, any, error) {
	const question = "confirm"
	if in.Guests < 1 || in.Guests > 20 {
		return nil, nil, fmt.Errorf("guests is %d, want 1 to 20", in.Guests)
	}
	// The second round repeats the arguments, and nothing but this state ties them to what was confirmed.
	state := fmt.Sprintf("guests=%d", in.Guests)

	answer, ok := req.Params.InputResponses[question].(*mcp.ElicitResult)
	if !ok {
		return &mcp.CallToolResult{
			InputRequests: mcp.InputRequestMap{question: &mcp.ElicitParams{
				Mode:            "form",
				Message:         fmt.Sprintf("Book a table for %d?", in.Guests),
				RequestedSchema: confirmSchema,
			}},
			RequestState: state,
		}, nil, nil
	}
	if req.Params.RequestState != state {
		return nil, nil, fmt.Errorf("not booked: the answer belongs to another booking than guests = %d", in.Guests)
	}
	switch answer.Action {
	case "accept":
	case "decline":
		return text("Not booked: the person declined."), nil, nil
	default:
		return text("Not booked: the person closed the question without an answer."), nil, nil
	}
	switch confirmed := answer.Content["confirm"].(type) {
	case nil: // left at its default
	case bool:
		if !confirmed {
			return text("Not booked: the person did not confirm."), nil, nil
		}
	default:
		return nil, nil, fmt.Errorf("not booked: confirm is %v, want true or false", confirmed)
	}
	return text(fmt.Sprintf("Booked a table for %d.", in.Guests)), nil, nil
}

var confirmSchema = map[string]any{
	"type": "object",
	"properties": map[string]any{
		"confirm": map[string]any{"type": "boolean", "title": "Confirm the booking", "default": true},
	},
}

func text(s string) *mcp.CallToolResult {
	return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: s}}}
}
