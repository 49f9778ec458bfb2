package stateless

import (
	"encoding/json"
	"net/http"

	"github.com/sluice-mcp/sluice/internal/once"
	"github.com/sluice-mcp/sluice/internal/run"
	"github.com/sluice-mcp/sluice/internal/view"
	"github.com/sluice-mcp/sluice/internal/wire"
	"github.com/sluice-mcp/sluice/observe"
)

// This file is for calls with an idempotency key, which are executed once. In this revision a client that leaves cancels its call;
// one that has given a key comes back for the outcome, and says so in so many words if it does not want it any more.

// appendOnce is appendResult for a call with a key.
func (p *Endpoint) appendOnce(dst []byte, rn *run.Run, c *call) ([]byte, error) {
	result, err := p.Once.Do(rn, &once.Call{
		Principal:  c.principal,
		Tool:       wire.Unquote(c.params.Name),
		Key:        c.key,
		Revision:   wire.Rev2026,
		Arguments:  c.params.Arguments,
		Answers:    [2]json.RawMessage{c.params.InputResponses, c.params.RequestState},
		Token:      c.meta.ProgressToken,
		Reaches:    func(level []byte) bool { return wire.LevelReaches(level, wire.Unquote(c.meta.LogLevel)) },
		Repeatable: func() bool { return p.repeatable(rn, c) },
	}, c.client, func() (result json.RawMessage, err error) {
		err = c.engine.Safely(rn.Method, func() error { // others wait for the end, also if it is a panic
			result, err = p.appendResult(nil, rn, c)
			return err
		})
		return result, err
	})
	if wire.IsError(result) { // of a call that was executed before
		c.ended.Outcome = observe.ToolError
	}
	return append(dst, result...), err
}

// repeatable reports whether the tool says that it may run twice.
func (p *Endpoint) repeatable(rn *run.Run, c *call) bool {
	server, err := c.engine.Lend(c.principal, c.meta, &outlet{run: rn})
	if err != nil {
		return false
	}
	defer server.Return()
	return server.Tool(rn.Context(), wire.Unquote(c.params.Name), c.extra).Repeatable
}

// outlive has a call that has begun go on when its client leaves, or when the platform ends the HTTP request.
func (p *Endpoint) outlive(c *call, rn *run.Run, shown *view.View) {
	client := new(once.Client)
	c.client = client
	shown.Gone = func() {
		if client.Leave() {
			rn.Cancel()
		} else {
			rn.Stream.Abandon()
		}
	}
	shown.TimeUp = func() {
		e := &wire.Error{Code: wire.CodeBusy, Message: "The call goes on: ask again with the same idempotency key"}
		response := wire.AppendError(nil, rn.ID, e)
		if client.Leave() { // it goes on elsewhere, if at all
			rn.Answer(response, http.StatusServiceUnavailable)
		} else {
			_ = rn.Stream.Respond(response, http.StatusServiceUnavailable) // it may have ended just now
		}
	}
}

// notified takes a notification: that a call with a key is to be cancelled. The revision itself has none over HTTP.
func (p *Endpoint) notified(r *http.Request, m wire.Message) {
	if m.Method != "notifications/cancelled" {
		return
	}
	raw := wire.Member(m.Params, "_meta")
	meta, e := wire.ParseMeta(raw)
	if e != nil {
		return // what is malformed is ignored (Cancellation, "Error Handling")
	}
	if key, e := once.KeyOf(r.Header, meta); e == nil && key != "" {
		p.Once.Cancel(r.Context(), &once.Call{Principal: p.Principal(r), Tool: wire.Unquote(wire.Member(raw, wire.MetaTool)), Key: key})
	}
}
