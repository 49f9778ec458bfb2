// Command conformance is the server that the official MCP conformance suite
// runs against: the tools, resources and prompts that its scenarios name,
// written with the official SDK and served on one URL for every revision.
//
// It owns those features and nothing else. Whatever belongs to the protocol is
// left to the endpoint on purpose, so that a scenario that passes says
// something about the endpoint: the requestState of a tool is plain here, for
// instance, and only the endpoint can tell that it was tampered with.
//
// The directory run holds the program that installs the suite, runs it and
// compares the outcome with baseline.yml.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice"
)

func main() {
	logger := slog.New(slog.NewTextHandler(os.Stderr, nil))
	if err := serve(logger, cmp.Or(os.Getenv("MCP_SERVER_PORT"), "8000")); err != nil {
		logger.Error("conformance server failed", "error", err)
		os.Exit(1)
	}
}

// serve answers on the port of the loopback interface until it is told to end
// by a signal. The address is logged once connections are accepted, so that
// whoever started the server with port 0 learns where it is and that it is
// ready.
func serve(logger *slog.Logger, port string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", port))
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	server, err := newServer()
	if err != nil {
		return err
	}
	endpoint := sluice.NewHandler(func(*http.Request) *mcp.Server { return server }, &sluice.Options{Logger: logger})
	mux := http.NewServeMux()
	mux.Handle("/mcp", endpoint)
	httpServer := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}

	logger.Info("conformance server ready", "url", "http://"+listener.Addr().String()+"/mcp")
	failed := make(chan error, 1)
	go func() { failed <- httpServer.Serve(listener) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}

	// Streams first: Shutdown would wait for every one that is still open.
	grace, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return errors.Join(endpoint.Drain(grace), endpoint.Close(), httpServer.Shutdown(grace))
}
