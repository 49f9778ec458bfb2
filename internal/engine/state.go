package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	segment "github.com/segmentio/encoding/json"

	"github.com/sluice-mcp/sluice/internal/wire"
)

// capabilities are a client's as they stand on the wire. The SDK's own field Roots
// cannot tell an absent capability from an empty one; it keeps both forms.
type capabilities struct {
	mcp.ClientCapabilities
	Roots *mcp.RootCapabilities `json:"roots,omitempty"`
}

func (c *capabilities) sdk() *mcp.ClientCapabilities {
	if c == nil {
		return &mcp.ClientCapabilities{}
	}
	out := c.ClientCapabilities
	if out.RootsV2 = c.Roots; c.Roots != nil {
		out.Roots = *c.Roots //nolint:staticcheck // what handlers read may be the older field
	}
	return &out
}

// ParseInitialize decodes the params of initialize as the SDK's connection does.
func ParseInitialize(raw json.RawMessage) (*mcp.InitializeParams, error) {
	var p struct {
		mcp.InitializeParams
		Capabilities *capabilities `json:"capabilities"`
	}
	if _, err := segment.Parse(raw, &p, segment.DontMatchCaseInsensitiveStructFields); err != nil {
		return nil, fmt.Errorf("reading the params of initialize: %w", err)
	}
	out := p.InitializeParams
	out.Capabilities = p.Capabilities.sdk()
	return &out, nil
}

// PrepareInitialize checks the params of a client's initialize and returns them with the version that the handshake can
// negotiate: the SDK would take a client that asks for 2026-07-28 at its word, and
// then refuse it what sessions have.
func PrepareInitialize(raw json.RawMessage) (json.RawMessage, *wire.Error) {
	var p struct {
		Version      *string         `json:"protocolVersion"`
		Capabilities json.RawMessage `json:"capabilities"`
		ClientInfo   json.RawMessage `json:"clientInfo"`
	}
	switch {
	case len(raw) == 0:
		return nil, wire.InvalidParams("Invalid params: initialize needs params")
	case len(raw) > maxInitialize:
		return nil, wire.InvalidParams("Invalid params: more than " + strconv.Itoa(maxInitialize) + " bytes to initialize with")
	}
	if err := json.Unmarshal(raw, &p); err != nil {
		return nil, wire.InvalidParams("Invalid params: " + err.Error())
	}
	switch {
	case p.Version == nil:
		return nil, wire.InvalidParams("Invalid params: protocolVersion is missing")
	case len(p.Capabilities) == 0 || p.Capabilities[0] != '{':
		return nil, wire.InvalidParams("Invalid params: capabilities must be an object")
	case len(p.ClientInfo) == 0 || p.ClientInfo[0] != '{':
		return nil, wire.InvalidParams("Invalid params: clientInfo must be an object")
	}
	if _, err := ParseInitialize(raw); err != nil {
		return nil, wire.InvalidParams("Invalid params: " + err.Error())
	}
	return NegotiatedParams(raw, wire.Negotiate(*p.Version)), nil
}

// maxInitialize bounds what a client can have kept for as long as its session lasts, in the store too.
const maxInitialize = 64 << 10

// Initialize has the server answer a client's initialize. It does so on an SDK session that is closed with the answer: a
// client that goes on is connected as the answer says, when and where there is need.
func (e *Engine) Initialize(ctx context.Context, id string, params json.RawMessage, extra *mcp.RequestExtra, out Outlet) (mcp.Result, error) {
	s, err := e.Connect(ctx, id, nil, out)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	p, err := ParseInitialize(params)
	if err != nil {
		return nil, wire.InvalidParams("Invalid params: " + err.Error())
	}
	req := &mcp.ServerRequest[*mcp.InitializeParams]{Session: s.ss, Params: p, Extra: extra}
	return s.call(ctx, "initialize", req)
}

// Initialized tells the server that a client has said notifications/initialized, and returns when its handler has.
func (s *Session) Initialized(ctx context.Context, params json.RawMessage, extra *mcp.RequestExtra) error {
	p := &mcp.InitializedParams{}
	if len(params) > 0 {
		if _, err := segment.Parse(params, p, segment.DontMatchCaseInsensitiveStructFields); err != nil {
			return fmt.Errorf("reading the params of notifications/initialized: %w", err)
		}
	}
	req := &mcp.InitializedRequest{Session: s.ss, Params: p, Extra: extra}
	_, err := s.call(ctx, "notifications/initialized", req)
	return err
}

// call calls the composed handler. The guard turns a panic into an error, and no result of a request, too.
func (s *Session) call(ctx context.Context, method string, req mcp.Request) (mcp.Result, error) {
	s.engine.guard()
	return s.engine.fitted(ctx, s.engine.composed(), method, req)
}

// NegotiatedParams returns the params of initialize as if the client had asked for version.
func NegotiatedParams(raw json.RawMessage, version string) json.RawMessage {
	return wire.ReplaceMember(raw, "protocolVersion", wire.AppendString(nil, version))
}

// ConnectRequest opens a session for one call of the stateless era that goes through the connection: ctx must carry
// the call, see [Detached]. An error that is the client's fault is a [*wire.Error].
func (e *Engine) ConnectRequest(ctx context.Context, m wire.Meta, out Outlet) (*Session, error) {
	state, err := requestState(m)
	if err != nil {
		return nil, err
	}
	return e.Connect(ctx, "", state, out)
}

// requestState is the state of the SDK's session that serves one call of the
// stateless era: what other revisions learn from initialize comes with the request.
func requestState(m wire.Meta) (*mcp.ServerSessionState, error) {
	var caps capabilities
	if err := json.Unmarshal(m.ClientCapabilities, &caps); err != nil {
		return nil, wire.InvalidParams("Invalid params: _meta field " + strconv.Quote(wire.MetaClientCapabilities) + " cannot be read")
	}
	params := &mcp.InitializeParams{ProtocolVersion: wire.Unquote(m.ProtocolVersion), Capabilities: caps.sdk()}
	if m.ClientInfo != nil {
		params.ClientInfo = &mcp.Implementation{}
		if err := json.Unmarshal(m.ClientInfo, params.ClientInfo); err != nil {
			return nil, wire.InvalidParams("Invalid params: _meta field " + strconv.Quote(wire.MetaClientInfo) + " cannot be read")
		}
	}
	return &mcp.ServerSessionState{
		InitializeParams:  params,
		InitializedParams: &mcp.InitializedParams{},
		// In a session of one call, its level and the session's are the same.
		LogLevel: mcp.LoggingLevel(wire.Unquote(m.LogLevel)),
	}, nil
}
