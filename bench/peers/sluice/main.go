// Command sluice serves the bench's tools with this repository's handler. -mode sdk registers them with
// the SDK's mcp.AddTool instead of ours.
package main

import (
	"context"
	"net/http"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice"
	"github.com/sluice-mcp/sluice/bench/internal/peer"
)

func main() {
	peer.Serve(func(mode string, idle time.Duration) http.Handler {
		s := mcp.NewServer(&mcp.Implementation{Name: "bench", Version: "1"}, nil)
		if mode == "sdk" {
			mcp.AddTool(s, &mcp.Tool{Name: "add"}, add)
			mcp.AddTool(s, &mcp.Tool{Name: "count"}, count)
			mcp.AddTool(s, &mcp.Tool{Name: "mark"}, mark)
		} else {
			sluice.AddTool(s, &mcp.Tool{Name: "add"}, add)
			sluice.AddTool(s, &mcp.Tool{Name: "count"}, count)
			sluice.AddTool(s, &mcp.Tool{Name: "mark"}, mark)
		}
		return sluice.NewHandler(func(*http.Request) *mcp.Server { return s }, &sluice.Options{SessionTimeout: idle})
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
