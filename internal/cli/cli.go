// Package cli owns the command line of "sluice": its commands, what they print where, and the exit codes. What the
// commands do beyond that is in packages of its own.
//
// Results go to standard output; progress, questions and errors go to standard error.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/sluice-mcp/sluice/internal/terminal"
)

// Exit codes. Scripts rely on them, and docs/sluice.md lists them.
const (
	exitOK          = 0
	exitFailed      = 1   // it was tried and failed: the tool, the call, the project
	exitUsage       = 2   // the command line is wrong; nothing was tried
	exitUnreachable = 3   // no MCP server could be talked to at the URL
	exitInterrupted = 130 // by a signal, as shells have it
)

// An exitError is an error that ends the program with a code of its own.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error {
	return &exitError{exitUsage, fmt.Errorf(format, args...)}
}

// Run executes a command line and returns the exit code.
func Run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the program at once

	root := newRoot(stdout)
	// What a server says can reach every line that is printed, and must do nothing there but be read.
	stdout, stderr = terminal.Writer(stdout), terminal.Writer(stderr)
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	// What cobra refuses, it refuses before a command runs.
	running := false
	for _, cmd := range commands(root) {
		if run := cmd.RunE; run != nil {
			cmd.RunE = func(cmd *cobra.Command, args []string) error {
				running = true
				return run(cmd, args)
			}
		}
	}
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	code := exitFailed
	var coded *exitError
	switch {
	case ctx.Err() != nil:
		fmt.Fprintln(stderr, "sluice: interrupted")
		return exitInterrupted
	case errors.As(err, &coded):
		code = coded.code
	case !running:
		code = exitUsage
	}
	fmt.Fprintf(stderr, "sluice: %s\n", oneLine(err.Error()))
	if code == exitUsage {
		fmt.Fprintf(stderr, "Run '%s --help' to see how it is used.\n", cmd.CommandPath())
	}
	return code
}

// commands returns those below a command.
func commands(of *cobra.Command) (all []*cobra.Command) {
	for _, cmd := range of.Commands() {
		all = append(append(all, cmd), commands(cmd)...)
	}
	return all
}

// oneLine keeps a message in one line, whatever a server put into it.
func oneLine(s string) string {
	return strings.Join(strings.Fields(s), " ")
}

// version is what the go command stamped into the program.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "(devel)"
	}
	return info.Main.Version
}

// newRoot returns the whole command line. The proxy writes messages to wire, as they are.
func newRoot(wire io.Writer) *cobra.Command {
	root := &cobra.Command{
		Use:   "sluice",
		Short: "Make MCP servers, and talk to them",
		Long: `Make an MCP server project that is tested end to end, and talk to MCP servers that run somewhere.

Results go to standard output, all else to standard error. Exit codes: 0 all is well; 1 it was tried and failed;
2 the command line is wrong; 3 there is no MCP server that can be talked to; 130 interrupted.`,
		Example: `  sluice new example.com/acme/weather
  sluice inspect http://127.0.0.1:8000/mcp
  sluice call http://127.0.0.1:8000/mcp add '{"a":10,"b":5}'
  sluice proxy https://weather-abc123.a.run.app/mcp --token-command 'gcloud auth print-identity-token'`,
		Version:       version(),
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.CompletionOptions.SetDefaultShellCompDirective(cobra.ShellCompDirectiveNoFileComp)
	root.AddCommand(newCommand(), callCommand(), taskCommand(), inspectCommand(), proxyCommand(wire))
	return root
}
