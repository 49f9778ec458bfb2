package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-mcp/sluice/internal/scaffold"
)

func newCommand() *cobra.Command {
	var dir, replace string
	var force, noTidy bool
	cmd := &cobra.Command{
		Use:   "new MODULE",
		Short: "Make a project: an MCP server with tests end to end",
		Long: `Make a Go project that serves MCP: one tool, one resource and one prompt to replace by your own, tests that run the
real server over real HTTP in every revision of the protocol, linter, commit hook, CI workflow, dev container, Dockerfile,
and what Cloud Run and Kubernetes need to run it. The files are yours; nothing in them refers back to this command.

MODULE is the path of the new Go module. The directory, its last element by default, must be empty (but for a .git).`,
		Example: `  sluice new example.com/acme/weather
  sluice new github.com/acme/weather --dir .                 # into a repository that was just cloned
  sluice new example.com/acme/weather --replace ../sluice    # against a checkout of sluice`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			p := scaffold.Project{Module: args[0]}
			if err := scaffold.CheckModule(p.Module); err != nil {
				return usagef("%w", err)
			}
			info, ok := debug.ReadBuildInfo()
			if !ok {
				info = new(debug.BuildInfo)
			}
			here, err := os.Getwd()
			if err != nil {
				return err
			}
			if err := p.Source(info, replace, here); err != nil {
				return usagef("%w", err)
			}
			if dir == "" {
				dir = scaffold.Name(p.Module)
			}
			names, err := scaffold.Write(dir, p, force)
			if err != nil {
				return fmt.Errorf("%w%s", err, hint(err))
			}
			stderr := cmd.ErrOrStderr()
			fmt.Fprintf(stderr, "wrote %d files to %s\n", len(names), dir)
			if p.Replace != "" {
				fmt.Fprintf(stderr, "go.mod takes sluice from %s\n", p.Replace)
			}
			next := "  make test\n  make run\n"
			if noTidy {
				next = "  go mod tidy\n  make test\n"
			} else if err := tidy(cmd.Context(), dir, stderr); err != nil {
				return fmt.Errorf("the files are written, but go mod tidy failed (%w): run it again in %s", err, dir)
			}
			fmt.Fprintln(stderr, "next:")
			if filepath.Clean(dir) != "." {
				next = "  cd " + quoted(dir) + "\n" + next
			}
			fmt.Fprint(cmd.OutOrStdout(), next)
			return nil
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&dir, "dir", "", "write to this directory (default: the last element of MODULE)")
	flags.BoolVar(&force, "force", false, "write even if the directory is not empty, over files of the same names")
	flags.BoolVar(&noTidy, "no-tidy", false, "do not run go mod tidy, which may need the network")
	flags.StringVar(&replace, "replace", "", "take sluice from this checkout instead of a released version")
	_ = cmd.MarkFlagDirname("dir") // fails for a flag that does not exist
	_ = cmd.MarkFlagDirname("replace")
	return cmd
}

// tidy completes go.mod and go.sum. The go command says itself what it downloads.
func tidy(ctx context.Context, dir string, stderr io.Writer) error {
	begun := time.Now()
	fmt.Fprintln(stderr, "running go mod tidy; the first time, it downloads what sluice is built on ...")
	cmd := exec.CommandContext(ctx, "go", "mod", "tidy")
	cmd.Dir = dir
	cmd.Stderr = stderr
	cmd.WaitDelay = time.Second
	if err := cmd.Run(); err != nil {
		return err
	}
	fmt.Fprintf(stderr, "done in %.1f s\n", time.Since(begun).Seconds())
	return nil
}
