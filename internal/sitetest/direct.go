package sitetest

import (
	"context"
	"io"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// nowhere is the transport of a session that is only ever called directly.
type nowhere struct{}

func (nowhere) Connect(context.Context) (mcp.Connection, error) { return nowhere{}, nil }

func (nowhere) Read(context.Context) (jsonrpc.Message, error) { return nil, io.EOF }

func (nowhere) Write(context.Context, jsonrpc.Message) error { return io.ErrClosedPipe }

func (nowhere) Close() error { return nil }

func (nowhere) SessionID() string { return "" }

// Direct returns what it takes to call s without a client.
func Direct(tb testing.TB, s *mcp.Server, revision string) (h mcp.MethodHandler, ss *mcp.ServerSession) {
	tb.Helper()
	s.AddReceivingMiddleware(func(next mcp.MethodHandler) mcp.MethodHandler { h = next; return next })
	state := &mcp.ServerSessionState{InitializeParams: &mcp.InitializeParams{ProtocolVersion: revision}}
	ss, err := s.Connect(tb.Context(), nowhere{}, &mcp.ServerSessionOptions{State: state})
	if err != nil {
		tb.Fatal(err)
	}
	return h, ss
}
