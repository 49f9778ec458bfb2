// Command gosdk serves the bench's tools with the handler of the official Go SDK, in one of its configurations.
package main

import (
	"context"
	"net/http"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice/bench/internal/peer"
)

func main() {
	peer.Serve(func(mode string, idle time.Duration) http.Handler {
		var opts mcp.StreamableHTTPOptions
		switch mode {
		case "stateless": // its fastest in both eras
			opts = mcp.StreamableHTTPOptions{Stateless: true, JSONResponse: true}
		case "stateless-sse":
			opts = mcp.StreamableHTTPOptions{Stateless: true}
		case "sessions":
			opts = mcp.StreamableHTTPOptions{SessionTimeout: idle}
		default:
			peer.Fatal(peer.ErrMode)
		}
		s := mcp.NewServer(&mcp.Implementation{Name: "bench", Version: "1"}, nil)
		mcp.AddTool(s, &mcp.Tool{Name: "add"}, add)
		mcp.AddTool(s, &mcp.Tool{Name: "count"}, count)
		mcp.AddTool(s, &mcp.Tool{Name: "mark"}, mark)
		return mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s }, &opts)
	})
}

func add(_ context.Context, _ *mcp.CallToolRequest, in peer.AddIn) (*mcp.CallToolResult, peer.AddOut, error) {
	return nil, peer.AddOut{Sum: in.A + in.B}, nil
}

func count(ctx context.Context, r *mcp.CallToolRequest, in peer.CountIn) (*mcp.CallToolResult, peer.CountOut, error) {
	token := r.Params.GetProgressToken()
	for i := range in.N {
		p := &mcp.ProgressNotificationParams{ProgressToken: token, Progress: float64(i + 1), Total: float64(in.N)}
		if err := r.Session.NotifyProgress(ctx, p); err != nil {
			return nil, peer.CountOut{}, err
		}
	}
	return nil, peer.CountOut(in), nil
}

func mark(ctx context.Context, r *mcp.CallToolRequest, _ peer.MarkIn) (*mcp.CallToolResult, peer.MarkOut, error) {
	p := &mcp.ProgressNotificationParams{ProgressToken: r.Params.GetProgressToken(), Progress: 1, Message: peer.Now()}
	if err := r.Session.NotifyProgress(ctx, p); err != nil {
		return nil, peer.MarkOut{}, err
	}
	time.Sleep(peer.MarkPause)
	return nil, peer.MarkOut{Done: true}, nil
}
