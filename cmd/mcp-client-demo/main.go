// Command mcp-client-demo calls the demo server's add tool and prints what it answers.
// Its result goes to standard output and everything else to standard error.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/alexflint/go-arg"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice/internal/terminal"
)

type config struct {
	URL     string `arg:"--url,env:MCP_URL" default:"http://127.0.0.1:8000/mcp" help:"the server's endpoint"`
	Quiet   bool   `arg:"-q,--quiet" help:"log nothing; print the result, or one line about what failed"`
	Verbose bool   `arg:"-v,--verbose" help:"log every HTTP exchange too"`
}

// Description is the first line of the help.
func (config) Description() string {
	return "Call add(10, 5) on an MCP server and print the result.\n"
}

// timeout bounds the whole run: a server that accepts and never answers is a failure too.
const timeout = 30 * time.Second

func main() {
	// What a server says must do nothing on a terminal but be read.
	stdout, stderr := terminal.Writer(os.Stdout), terminal.Writer(os.Stderr)
	if err := run(os.Args[1:], stdout, stderr); err != nil {
		fmt.Fprintf(stderr, "mcp-client-demo: %s\n", strings.Join(strings.Fields(err.Error()), " "))
		os.Exit(1)
	}
}

func run(args []string, stdout, stderr io.Writer) error {
	var cfg config
	parser, err := arg.NewParser(arg.Config{Program: "mcp-client-demo"}, &cfg)
	if err != nil {
		return err
	}
	if err := parser.Parse(args); errors.Is(err, arg.ErrHelp) {
		parser.WriteHelp(stdout)
		return nil
	} else if err != nil {
		return err
	}
	if cfg.Quiet && cfg.Verbose {
		return errors.New("--quiet and --verbose contradict each other")
	}
	if u, err := url.Parse(cfg.URL); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return fmt.Errorf("--url: %q is not an http:// or https:// URL", cfg.URL)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("no answer within %v", timeout))
	defer cancel()
	return callAdd(ctx, cfg, stdout, stderr)
}

func callAdd(ctx context.Context, cfg config, stdout, stderr io.Writer) error {
	log := newLogger(cfg, stderr)
	watch := &watcher{log: log}

	client := mcp.NewClient(&mcp.Implementation{Name: "mcp-client-demo", Version: "v1.0.0"}, nil)
	session, err := client.Connect(ctx, &mcp.StreamableClientTransport{
		Endpoint:             cfg.URL,
		HTTPClient:           &http.Client{Transport: watch},
		DisableStandaloneSSE: true, // one call needs no stream for what the server says unasked
	}, nil)
	if err != nil {
		return fmt.Errorf("cannot connect to %s: %w", cfg.URL, watch.explain(ctx, err))
	}
	defer session.Close()
	log.Info("connected", "url", cfg.URL, "revision", session.InitializeResult().ProtocolVersion)
	if id := session.ID(); id != "" {
		log.Info("session", "id", id[:min(len(id), 6)]) // whoever has all of it can speak for the client
	}

	result, err := session.CallTool(ctx, &mcp.CallToolParams{
		Name:      "add",
		Arguments: map[string]int{"a": 10, "b": 5},
	})
	if err != nil {
		return fmt.Errorf("calling add: %w", watch.explain(ctx, err))
	}
	answer := firstText(result)
	if result.IsError {
		return fmt.Errorf("add failed: %s", answer)
	}
	_, err = fmt.Fprintf(stdout, "Result of add(10, 5): %s\n", answer)
	return err
}

func firstText(result *mcp.CallToolResult) string {
	for _, c := range result.Content {
		if t, ok := c.(*mcp.TextContent); ok {
			return t.Text
		}
	}
	return "(no text)"
}

func newLogger(cfg config, w io.Writer) *slog.Logger {
	level := slog.LevelInfo
	switch {
	case cfg.Quiet:
		return slog.New(slog.DiscardHandler)
	case cfg.Verbose:
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level}))
}
