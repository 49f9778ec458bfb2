package engine

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice/internal/result"
	"github.com/sluice-mcp/sluice/internal/wire"
)

// Description is what a server says of itself.
type Description struct {
	// ServerInfo is the server's Implementation as JSON, or nil.
	ServerInfo []byte
	// Revisions are those that the server speaks, newest first; its options may have narrowed them.
	Revisions []string
	// TellsTools reports that the server tells when its tools change, and so on.
	TellsTools, TellsPrompts, TellsResources bool
}

// Tells reports whether the server has said that it sends this list_changed notification.
func (d *Description) Tells(method string) bool {
	switch method {
	case "notifications/tools/list_changed":
		return d.TellsTools
	case "notifications/prompts/list_changed":
		return d.TellsPrompts
	case "notifications/resources/list_changed":
		return d.TellsResources
	}
	return false
}

// Describe asks the server what it is, once. The SDK keeps its identity to itself and
// puts it into results on a connection only, so it is asked for over one.
//
// It asks on behalf of a client, with the context and the extra of its request: a middleware of the server may refuse a stranger.
func (e *Engine) Describe(ctx context.Context, extra *mcp.RequestExtra) *Description {
	if d := e.description.Load(); d != nil {
		return d
	}
	d, ok := e.describe(context.WithoutCancel(ctx), extra)
	if ok { // else the next client may be let in
		e.description.Store(d)
	}
	return d
}

func (e *Engine) describe(ctx context.Context, extra *mcp.RequestExtra) (d *Description, ok bool) {
	d = &Description{Revisions: wire.Revisions()}
	s, err := e.Connect(ctx, "", nil, Mute{})
	if err != nil {
		return d, false
	}
	defer s.Close()
	params := json.RawMessage(`{"_meta":{"` + wire.MetaProtocolVersion + `":"` + wire.Rev2026 + `","` + wire.MetaClientCapabilities + `":{}}}`)
	raw, err := s.Relay(ctx, &Call{Method: "server/discover", Params: params, Extra: extra})
	var refused *jsonrpc.Error
	if errors.As(err, &refused) && refused.Code == wire.CodeUnsupportedVersion {
		var data mcp.UnsupportedProtocolVersionData
		if json.Unmarshal(refused.Data, &data) == nil {
			d.Revisions = data.Supported
		}
		return d, true
	}
	type list struct {
		ListChanged bool `json:"listChanged"`
	}
	var result struct {
		SupportedVersions []string                   `json:"supportedVersions"`
		Meta              map[string]json.RawMessage `json:"_meta"`
		Capabilities      struct {
			Tools     *list `json:"tools"`
			Prompts   *list `json:"prompts"`
			Resources *list `json:"resources"`
		} `json:"capabilities"`
	}
	if err != nil || json.Unmarshal(raw, &result) != nil {
		return d, false
	}
	d.Revisions = result.SupportedVersions
	tells := func(l *list) bool { return l == nil || l.ListChanged } // absent as long as there are none; of the first, the SDK tells
	d.TellsTools, d.TellsPrompts, d.TellsResources = tells(result.Capabilities.Tools), tells(result.Capabilities.Prompts), tells(result.Capabilities.Resources)
	d.ServerInfo = result.Meta[wire.MetaServerInfo]
	return d, true
}

// Mute is an [Outlet] behind which nobody is.
type Mute struct{}

// Say implements [Outlet].
func (Mute) Say(context.Context, Outgoing) error { return errNoClient }

// AppendResult appends a result as JSON, without HTML escapes, as the SDK's connection writes it.
func AppendResult(dst []byte, res mcp.Result) ([]byte, error) {
	if call, ok := res.(*mcp.CallToolResult); ok && call != nil {
		return result.AppendCallTool(dst, call, "", nil)
	}
	raw, err := result.Marshal(res)
	return append(dst, raw...), err
}

// AppendModern appends a result as JSON with what every result of 2026-07-28 carries: its type, and the identity of its
// server. edit, which may be nil, changes what is not the result of a tool.
func (e *Engine) AppendModern(dst []byte, res mcp.Result, resultType string, edit func(json.RawMessage) json.RawMessage) ([]byte, error) {
	var info []byte
	if d := e.description.Load(); d != nil { // the server was asked when the call began
		info = d.ServerInfo
	}
	if call, ok := res.(*mcp.CallToolResult); ok && call != nil {
		return result.AppendCallTool(dst, call, resultType, info)
	}
	raw, err := result.Marshal(res)
	if err != nil {
		return dst, err
	}
	if edit != nil {
		raw = edit(raw)
	}
	return append(dst, wire.Complete(raw, strconv.Quote(resultType), info)...), nil
}
