package serve

import (
	"context"
	"fmt"
	"os"
	"runtime/debug"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice"
	"github.com/sluice-mcp/sluice/internal/stdio"
)

// startStdio serves the one client at the other end of standard input and output.
func (a *App) startStdio(context.Context) error {
	// What a tool prints would end up between the messages; it belongs with the log.
	out := os.Stdout
	os.Stdout = os.Stderr
	a.onStop("standard output", func(context.Context) error {
		os.Stdout = out
		return nil
	})

	a.warnUnread()
	sluice.Conform(a.server)
	a.server.AddReceivingMiddleware(a.recoverPanics)
	stop, endInput := context.WithCancel(context.Background())
	cut, giveUp := context.WithCancel(context.Background())
	// Not Start's context: the session outlives it, and its calls would be cancelled with it instead of finished.
	session, err := a.server.Connect(context.Background(), patientTransport{
		Transport: &stdio.Transport{In: os.Stdin, Out: out},
		stop:      stop,
		cut:       cut,
		patience:  a.cfg.ShutdownGrace,
	}, nil)
	if err != nil {
		endInput()
		giveUp()
		return err
	}
	ended := make(chan struct{})
	a.onStop("session", func(ctx context.Context) error {
		// Closing the session instead would wait for the calls in flight, but drop their answers.
		defer giveUp()
		endInput()
		select {
		case <-ended:
		case <-ctx.Done():
		}
		return ctx.Err()
	})
	go func() {
		err := session.Wait()
		close(ended)
		a.done <- err
	}()
	a.log.Info("serving MCP over stdio")
	return nil
}

// recoverPanics turns a panic in a handler into an error to its caller and a line in the log. Over HTTP the endpoint does this.
func (a *App) recoverPanics(next mcp.MethodHandler) mcp.MethodHandler {
	return func(ctx context.Context, method string, req mcp.Request) (res mcp.Result, err error) {
		defer func() {
			if p := recover(); p != nil {
				a.log.Error("handler panicked", "method", method, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
				res, err = nil, &jsonrpc.Error{Code: jsonrpc.CodeInternalError, Message: "internal error: " + method + " failed"}
			}
		}()
		return next(ctx, method, req)
	}
}
