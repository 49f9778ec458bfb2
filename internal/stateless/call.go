package stateless

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice/internal/engine"
	"github.com/sluice-mcp/sluice/internal/once"
	"github.com/sluice-mcp/sluice/internal/run"
	"github.com/sluice-mcp/sluice/internal/wire"
	"github.com/sluice-mcp/sluice/observe"
)

// appendResult calls the server and appends the result to dst.
func (p *Endpoint) appendResult(dst []byte, rn *run.Run, c *call) ([]byte, error) {
	ctx := rn.Context()
	asked := &engine.Call{Method: rn.Method, Params: c.raw, Parsed: &c.params, Token: c.meta.ProgressToken, Extra: c.extra}
	if c.ofTask() {
		return p.appendTask(dst, rn, c)
	}
	if !engine.Direct(rn.Method) {
		result, err := relay(ctx, rn, c, asked)
		if err == nil && len(result) > 0 && result[0] == '{' { // the SDK gives a type to its own results only
			result = wire.Complete(result, `"complete"`, c.engine.Describe(ctx, c.extra).ServerInfo)
		}
		return append(dst, result...), err
	}
	// The session is this call's alone while it runs: nothing of one client can reach another's handler.
	server, err := c.engine.Lend(c.principal, c.meta, &outlet{run: rn})
	if err != nil {
		return nil, once.NotBegun(err)
	}
	defer server.Return()
	var tool engine.Tool
	if rn.Method == "tools/call" {
		tool = server.Tool(ctx, wire.Unquote(c.params.Name), c.extra)
		if e := wire.CheckParams(wire.Header(c.extra.Header), tool.Headers, c.params.Arguments); e != nil {
			return nil, e
		}
	}
	isTask, e := p.becomesTask(c, tool.Task)
	if e != nil {
		return nil, e
	}
	res, err := p.admit(ctx, c, server, asked)
	if err == nil && res == nil {
		if isTask {
			return p.begin(dst, rn, c, tool, asked)
		}
		if p.mayBecomeTask(c, tool.Task) {
			return p.promoteAfter(dst, rn, c, tool, asked)
		}
		res, err = server.Do(ctx, asked)
	}
	if err != nil {
		return nil, err
	}
	if c.method == "server/discover" {
		return p.finishDiscover(ctx, dst, c, server, res)
	}
	return p.finish(dst, c, server.Capabilities(), res)
}

// relay takes the way through the SDK's connection, for methods that a server has added.
func relay(ctx context.Context, rn *run.Run, c *call, asked *engine.Call) ([]byte, error) {
	server, err := c.engine.ConnectRequest(engine.Detached(ctx, asked), c.meta, &outlet{run: rn})
	if err != nil {
		return nil, err
	}
	defer server.Close()
	return server.Relay(ctx, asked)
}

// finish checks a result, completes it as the revision asks, and appends it to dst as JSON.
func (p *Endpoint) finish(dst []byte, c *call, caps *mcp.ClientCapabilities, res mcp.Result) ([]byte, error) {
	if interim := asInterim(res); interim != nil {
		c.ended.Outcome = observe.InputRequired
		if err := p.sealState(c, caps, interim); err != nil {
			return nil, err
		}
		// An interim result is not cacheable, and it has no content, which the SDK writes as null.
		return c.engine.AppendModern(dst, interim.result, "input_required", func(raw json.RawMessage) json.RawMessage {
			return wire.RemoveMembers(raw, "ttlMs", "cacheScope", "content", "contents", "messages")
		})
	}
	if call, ok := res.(*mcp.CallToolResult); ok && call != nil && call.IsError {
		c.ended.Outcome = observe.ToolError
	}
	if cacheable[c.method] && c.principal != "" {
		// What an authorized client sees may depend on who it is.
		return c.engine.AppendModern(dst, res, "complete", func(raw json.RawMessage) json.RawMessage {
			return wire.ReplaceMember(raw, "cacheScope", []byte(`"private"`))
		})
	}
	return c.engine.AppendModern(dst, res, "complete", nil)
}

// finishDiscover is finish for server/discover, whose result names the extensions that this endpoint serves besides.
func (p *Endpoint) finishDiscover(ctx context.Context, dst []byte, c *call, server *engine.Session, res mcp.Result) ([]byte, error) {
	return c.engine.AppendModern(dst, res, "complete", func(raw json.RawMessage) json.RawMessage {
		if c.principal != "" {
			raw = wire.ReplaceMember(raw, "cacheScope", []byte(`"private"`))
		}
		if p.advertises(ctx, c, server) {
			raw = wire.Declare(raw, "extensions", wire.ExtensionTasks, []byte("{}"))
		}
		return wire.Declare(raw, "extensions", wire.ExtensionOnce, p.Once.Declaration())
	})
}

// cacheable are the methods whose complete results carry caching hints (Caching, "Cacheable Results").
var cacheable = map[string]bool{
	"server/discover": true, "tools/list": true, "prompts/list": true,
	"resources/list": true, "resources/templates/list": true, "resources/read": true,
}

// An outlet takes what a handler says during one call.
type outlet struct {
	run *run.Run
}

var (
	errNoRequests  = errors.New("revision 2026-07-28 has no requests to clients; return input requests instead")
	errNotThisCall = errors.New("said outside of a call: in revision 2026-07-28 there is no other way to a client (use the context that the handler was called with)")
)

// Say implements [engine.Outlet].
func (o *outlet) Say(ctx context.Context, m engine.Outgoing) error {
	if m.Reply != nil {
		return errNoRequests
	}
	if m.Method == "notifications/cancelled" { // of a request that could not be sent
		return nil
	}
	// The session was lent to other calls before and will be to others after. What comes from a handler that outlives its
	// call, or hides which call it speaks in, must not reach another client.
	if run.From(ctx) != o.run {
		return errNotThisCall
	}
	return o.run.Send(ctx, wire.AppendCall(nil, "", m.Method, m.Params))
}
