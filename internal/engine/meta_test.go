package engine

import (
	"context"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice/internal/wire"
)

// What a handler does to its _meta is not there in the next call, which may be another client's.
func TestMetaIsOfOneCall(t *testing.T) {
	t.Parallel()
	server := newServer()
	dirty := false
	server.AddReceivingMiddleware(func(next mcp.MethodHandler) mcp.MethodHandler {
		return func(ctx context.Context, method string, req mcp.Request) (mcp.Result, error) {
			m := req.GetParams().GetMeta()
			if inner, ok := m["x"].(map[string]any); ok {
				if inner["secret"] != nil || m["secret"] != nil || inner["list"].([]any)[0] != "a" {
					dirty = true
				}
				inner["secret"], m["secret"] = 1, 1
				inner["list"].([]any)[0] = "b"
			}
			return next(ctx, method, req)
		}
	})
	e := New(server, quiet())
	s, err := e.Lend("", meta(`{}`, `{}`), &outbox{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for range 3 {
		c := call("tools/call", `{"name":"echo","_meta":{"x":{"list":["a"]}}}`)
		p, _ := wire.ParseParams(c.Params)
		c.Parsed = &p
		if _, err := s.Do(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	if dirty {
		t.Error("one call sees what another has done to its _meta")
	}
}
