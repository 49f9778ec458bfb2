package engine

import (
	"context"
	"log/slog"
	"runtime"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// However many sessions a server has had, a call passes one guard.
func TestGuardIsAddedOnce(t *testing.T) {
	t.Parallel()
	server := mcp.NewServer(&mcp.Implementation{Name: "s", Version: "1"}, nil)
	depth := 0
	server.AddReceivingMiddleware(func(next mcp.MethodHandler) mcp.MethodHandler {
		return func(ctx context.Context, method string, req mcp.Request) (mcp.Result, error) {
			depth = runtime.Callers(0, make([]uintptr, 1000))
			return next(ctx, method, req)
		}
	})
	e := New(server, slog.New(slog.DiscardHandler))
	measure := func() int {
		s, err := e.Connect(t.Context(), "", nil, Mute{})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if _, err := s.Do(t.Context(), &Call{Method: "ping"}); err != nil {
			t.Fatal(err)
		}
		return depth
	}
	first := measure()
	for range 100 {
		measure()
	}
	if last := measure(); last != first {
		t.Errorf("a call has %d frames after the first session and %d after a hundred", first, last)
	}
}
