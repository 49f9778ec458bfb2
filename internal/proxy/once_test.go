package proxy_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice"
)

// A server that heeds idempotency keys is asked again when a call has lost its connection, and executes it once.
func TestCallIsNotInDoubt(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"2026-07-28", "2025-11-25", "2025-03-26"} {
		for _, tool := range []string{"silent", "talks"} {
			t.Run(version+"/"+tool, func(t *testing.T) {
				t.Parallel()
				srv, ran, stopped := flaky(t)
				session := bridge(t, srv.URL).connect(version, nil)
				call := func(ctx context.Context, takes time.Duration) (string, error) {
					res, err := session.CallTool(ctx, &mcp.CallToolParams{Name: tool, Arguments: map[string]any{"ms": takes.Milliseconds()}, Meta: mcp.Meta{"progressToken": "p"}})
					if err != nil {
						return "", err
					}
					return res.Content[0].(*mcp.TextContent).Text, nil
				}
				for i, cut := range []time.Duration{50 * time.Millisecond, 500 * time.Millisecond} {
					go func() {
						time.Sleep(cut)
						srv.CloseClientConnections()
					}()
					if got, err := call(t.Context(), time.Second); err != nil || got != fmt.Sprint("time ", i+1) || int(ran.Load()) != i+1 {
						t.Errorf("cut after %v: %q, %v, executed %d times", cut, got, err, ran.Load())
					}
				}
				// Who gives a call up says so.
				ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
				defer cancel()
				if got, err := call(ctx, time.Minute); err == nil {
					t.Errorf("a cancelled call has a result: %s", got)
				}
				select {
				case <-stopped:
				case <-time.After(20 * time.Second):
					t.Error("the tool goes on though its client has cancelled it")
				}
			})
		}
	}
}

func flaky(t *testing.T) (srv *httptest.Server, ran *atomic.Int32, stopped chan struct{}) {
	t.Helper()
	ran, stopped = new(atomic.Int32), make(chan struct{}, 10)
	server := mcp.NewServer(&mcp.Implementation{Name: "fixture", Version: "v1"}, nil)
	type input struct {
		MS int `json:"ms"`
	}
	for _, name := range []string{"silent", "talks"} {
		sluice.AddTool(server, &mcp.Tool{Name: name}, func(ctx context.Context, req *mcp.CallToolRequest, in input) (*mcp.CallToolResult, any, error) {
			n := ran.Add(1)
			if name == "talks" {
				_ = req.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{ProgressToken: req.Params.GetProgressToken(), Progress: 1})
			}
			select {
			case <-time.After(time.Duration(in.MS) * time.Millisecond):
			case <-ctx.Done():
				stopped <- struct{}{}
			}
			return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: fmt.Sprintf("time %d", n)}}}, nil, nil
		})
	}
	h := sluice.NewHandler(func(*http.Request) *mcp.Server { return server }, nil)
	srv = httptest.NewServer(h)
	t.Cleanup(func() {
		srv.CloseClientConnections()
		srv.Close()
		_ = h.Close()
	})
	return srv, ran, stopped
}
