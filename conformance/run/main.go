// Command run measures the conformance server with the official suite, one
// revision of the specification after the other, all on one URL:
//
//	go run ./conformance/run [-v] [revision ...]
//
// It needs npm, which brings the suite and the Node.js that the suite needs.
// It fails unless exactly what baseline.yml lists fails: a failure that is not
// listed is a regression, and a listed one that passes is a stale excuse.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// limit bounds the whole run, the installation included. A run takes seconds.
const limit = 8 * time.Minute

func main() {
	verbose := flag.Bool("v", false, "show the checks that failed as expected, and the log of the server")
	flag.Parse()
	ok, err := run(os.Stdout, flag.Args(), *verbose)
	if err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
	}
	if err != nil || !ok {
		os.Exit(1)
	}
}

// run measures the named revisions, or all of them, and reports to out. It
// returns false when the outcome is not the one that the baseline expects.
func run(out io.Writer, only []string, verbose bool) (ok bool, err error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	dir, err := findDir(ctx)
	if err != nil {
		return false, err
	}
	text, err := os.ReadFile(filepath.Join(dir, "baseline.yml"))
	if err != nil {
		return false, err
	}
	baseline, err := parseBaseline(string(text))
	if err != nil {
		return false, fmt.Errorf("baseline.yml: %w", err)
	}
	chosen, err := choose(only, baseline)
	if err != nil {
		return false, err
	}
	suite, err := install(ctx, dir)
	if err != nil {
		return false, err
	}
	temp, err := os.MkdirTemp("", "conformance-")
	if err != nil {
		return false, err
	}
	defer os.RemoveAll(temp)
	server, err := startServer(ctx, dir, temp)
	if err != nil {
		return false, err
	}
	defer func() {
		stopErr := server.stop()
		if stopErr != nil {
			ok = false
			fmt.Fprintln(out, "The server did not stop as it should:", stopErr)
		}
		if !ok || verbose {
			fmt.Fprintf(out, "\nThe log of the server:\n%s", server.log())
		}
	}()

	ok = true
	for _, rev := range chosen {
		results, err := suite.run(ctx, rev, server.url, filepath.Join(temp, rev.name))
		if err != nil {
			return false, fmt.Errorf("%s: %w", rev.name, err)
		}
		verdict := judge(results, baseline[rev.name])
		verdict.print(out, rev.name, suite.scored(rev), verbose)
		ok = ok && verdict.ok()
	}
	return ok, nil
}

// findDir returns the directory of the server, wherever in the module the
// program was started.
func findDir(ctx context.Context) (string, error) {
	mod, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("go env GOMOD: %w", err)
	}
	return filepath.Join(filepath.Dir(strings.TrimSpace(string(mod))), "conformance"), nil
}

// choose returns the revisions that are asked for, by default all.
func choose(only []string, baseline map[string]map[string]string) ([]revision, error) {
	known := func(name string) bool {
		return slices.ContainsFunc(revisions, func(r revision) bool { return r.name == name })
	}
	for name := range baseline {
		if !known(name) {
			return nil, fmt.Errorf("baseline.yml: %s is none of the revisions that are run", name)
		}
	}
	for _, name := range only {
		if !known(name) {
			return nil, fmt.Errorf("unknown revision %q", name)
		}
	}
	if len(only) == 0 {
		return revisions, nil
	}
	return slices.DeleteFunc(slices.Clone(revisions), func(r revision) bool { return !slices.Contains(only, r.name) }), nil
}
