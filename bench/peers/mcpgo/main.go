// Command mcpgo serves the bench's tools with github.com/mark3labs/mcp-go. By default that checks no
// arguments against the schema; -mode checked turns its validation of input and output on.
package main

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"

	"github.com/sluice-mcp/sluice/bench/internal/peer"
)

func main() {
	peer.Serve(func(mode string, idle time.Duration) http.Handler {
		var opts []server.ServerOption
		if mode == "checked" {
			opts = append(opts, server.WithInputSchemaValidation(), server.WithOutputSchemaValidation())
		}
		s := server.NewMCPServer("bench", "1", opts...)
		s.AddTool(mcp.NewTool("add", mcp.WithInputSchema[peer.AddIn](), mcp.WithOutputSchema[peer.AddOut]()),
			mcp.NewStructuredToolHandler(add))
		s.AddTool(mcp.NewTool("count", mcp.WithInputSchema[peer.CountIn](), mcp.WithOutputSchema[peer.CountOut]()),
			mcp.NewStructuredToolHandler(count))
		s.AddTool(mcp.NewTool("mark", mcp.WithInputSchema[peer.MarkIn](), mcp.WithOutputSchema[peer.MarkOut]()),
			mcp.NewStructuredToolHandler(mark))
		return server.NewStreamableHTTPServer(s, server.WithStateful(true), server.WithSessionIdleTTL(idle),
			server.WithStreamableHTTPLogger(slog.New(slog.DiscardHandler))) // it writes a line for each session that expires
	})
}

func add(_ context.Context, _ mcp.CallToolRequest, in peer.AddIn) (peer.AddOut, error) {
	return peer.AddOut{Sum: in.A + in.B}, nil
}

func count(ctx context.Context, r mcp.CallToolRequest, in peer.CountIn) (peer.CountOut, error) {
	for i := range in.N {
		err := progress(ctx, r, map[string]any{"progress": i + 1, "total": in.N})
		if err != nil {
			return peer.CountOut{}, err
		}
	}
	return peer.CountOut(in), nil
}

func mark(ctx context.Context, r mcp.CallToolRequest, _ peer.MarkIn) (peer.MarkOut, error) {
	if err := progress(ctx, r, map[string]any{"progress": 1, "message": peer.Now()}); err != nil {
		return peer.MarkOut{}, err
	}
	time.Sleep(peer.MarkPause)
	return peer.MarkOut{Done: true}, nil
}

func progress(ctx context.Context, r mcp.CallToolRequest, params map[string]any) error {
	params["progressToken"] = r.Params.Meta.ProgressToken
	for {
		err := server.ServerFromContext(ctx).SendNotificationToClient(ctx, "notifications/progress", params)
		if err != server.ErrNotificationChannelBlocked { //nolint:errorlint // returned as it is
			return err
		}
		time.Sleep(100 * time.Microsecond) // its queue is full: it drops rather than waits
	}
}
