// Package serve owns the process around an MCP server: configuration, listener, probes, signals and
// an orderly end. [Main] is all that most programs need; a program that
// has a life of its own uses [New], [App.Start] and [App.Stop], or only the root package's handler.
//
// It does not own the protocol: every MCP message goes to the root package or, over stdio, to the SDK.
package serve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// Exit codes of [Main].
const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 2
)

// Main serves server as flags and environment say, until SIGTERM or SIGINT, and ends the process:
// with code 0 after an orderly end, 1 after a failure, 2 when the configuration is wrong. A second signal ends it at once.
// It does not return.
func Main(server *mcp.Server, options ...Option) {
	//nolint:forbidigo // Main is the program's main in all but name.
	os.Exit(run(server, os.Args, os.Stdout, os.Stderr, options...))
}

// A settingError is one that only shows when the server starts, and that another start of this program with the same settings would meet
// again.
type settingError struct{ error }

func (e settingError) Unwrap() error { return e.error }

func run(server *mcp.Server, argv []string, stdout, stderr io.Writer, options ...Option) int {
	name := filepath.Base(argv[0])
	fail := func(code int, err error) int {
		// One line, whatever the error holds: whoever started us may show only the last one.
		fmt.Fprintf(stderr, "%s: %s\n", name, strings.ReplaceAll(err.Error(), "\n", "; "))
		return code
	}

	cmd, help, err := parse(name, argv[1:])
	if err != nil {
		return fail(exitUsage, err)
	}
	if help != "" {
		fmt.Fprint(stdout, help)
		return exitOK
	}
	for _, option := range options {
		option(&cmd.Config)
	}
	app, err := New(server, cmd.Config)
	if err != nil {
		return fail(exitUsage, err)
	}

	setDefault(app.log)
	signaled, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	context.AfterFunc(signaled, func() {
		stop() // first: when we say that we stop, the next signal has its default effect again
		cancel()
	})

	work := app.Run
	if cmd.Healthcheck {
		work = app.cfg.healthcheck
	}
	if err := work(ctx); err != nil {
		if _, ok := errors.AsType[settingError](err); ok {
			return fail(exitUsage, err)
		}
		return fail(exitFailure, err)
	}
	return exitOK
}
