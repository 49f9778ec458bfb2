package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// revision is a revision of the specification and what the suite has for it.
type revision struct {
	name string
	// args selects the scenarios.
	args []string
	// extra names the scenarios that no selection of the suite includes.
	extra []string
}

// revisions lists what is run. A set of requirements holds the scenarios that
// are scored and those that are only reported; 2025-06-18 has none.
var revisions = []revision{
	{name: "2025-06-18", args: []string{"--suite", "all", "--spec-version", "2025-06-18"}},
	{name: "2025-11-25", args: []string{"--requirements", "2025-11-25"}},
	{
		name:  "2026-07-28",
		args:  []string{"--requirements", "2026-07-28"},
		extra: []string{"sep-2640-skills-directory", "sep-2640-skills-enumeration", "sep-2640-skills-manifest"},
	},
}

// suite is the installed suite.
type suite struct{ node, script, requirements string }

// install installs what package-lock.json in dir lists, unless it is there already.
func install(ctx context.Context, dir string) (*suite, error) {
	modules := filepath.Join(dir, "node_modules")
	home := filepath.Join(modules, "@modelcontextprotocol", "conformance")
	s := &suite{
		node:         filepath.Join(modules, "node", "bin", "node"),
		script:       filepath.Join(home, "dist", "index.js"),
		requirements: filepath.Join(home, "requirements"),
	}
	wanted, err := os.Stat(filepath.Join(dir, "package-lock.json"))
	if err != nil {
		return nil, err
	}
	// npm writes this file when it has installed everything.
	installed, err := os.Stat(filepath.Join(modules, ".package-lock.json"))
	if err == nil && !installed.ModTime().Before(wanted.ModTime()) {
		return s, nil
	}
	npm := exec.CommandContext(ctx, "npm", "ci", "--no-audit", "--no-fund", "--loglevel=error")
	npm.Dir = dir
	npm.WaitDelay = 5 * time.Second
	if out, err := npm.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("npm ci, to install the suite: %w\n%s", err, out)
	}
	return s, nil
}

// A check is one finding of the suite.
type check struct {
	ID           string `json:"id"`
	Status       string `json:"status"` // SUCCESS, FAILURE, WARNING, SKIPPED, INFO
	Description  string `json:"description"`
	ErrorMessage string `json:"errorMessage"`
}

// run runs the scenarios of rev against the server at url. It returns the
// checks of each scenario; a scenario that broke off has none.
func (s *suite) run(ctx context.Context, rev revision, url, out string) (map[string][]check, error) {
	stdout, err := s.call(ctx, append([]string{"--url", url, "-o", out}, rev.args...))
	if err != nil {
		return nil, err
	}
	m := planned.FindStringSubmatch(stdout)
	if m == nil {
		return nil, fmt.Errorf("the suite did not say how many scenarios it runs:\n%s", stdout)
	}
	want, err := strconv.Atoi(m[1])
	if err != nil {
		return nil, err
	}
	for _, scenario := range rev.extra {
		if _, err := s.call(ctx, []string{"--url", url, "-o", out, "--scenario", scenario}); err != nil {
			return nil, err
		}
	}
	results, err := readResults(out)
	if err != nil {
		return nil, err
	}
	if want += len(rev.extra); want == 0 || len(results) != want {
		return nil, fmt.Errorf("the suite has results of %d scenarios, and not of %d:\n%s", len(results), want, stdout)
	}
	return results, nil
}

var planned = regexp.MustCompile(`\((\d+) scenarios\)`)

// call runs the suite. That a scenario failed is not an error: results say so.
func (s *suite) call(ctx context.Context, args []string) (string, error) {
	cmd := exec.CommandContext(ctx, s.node, append([]string{s.script, "server", "--timeout", "30000"}, args...)...)
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.CombinedOutput()
	if exit := (*exec.ExitError)(nil); ctx.Err() != nil {
		return "", fmt.Errorf("the suite did not finish in time: %w\n%s", ctx.Err(), out)
	} else if err != nil && !errors.As(err, &exit) {
		return "", fmt.Errorf("run the suite: %w", err)
	}
	return string(out), nil
}

// resultDir is how the suite names the directory of one scenario's results.
var resultDir = regexp.MustCompile(`^server-(.+)-\d{4}-\d\d-\d\dT[\d-]+Z$`)

func readResults(dir string) (map[string][]check, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("the suite left no results: %w", err)
	}
	results := make(map[string][]check)
	for _, e := range entries {
		m := resultDir.FindStringSubmatch(e.Name())
		if m == nil {
			return nil, fmt.Errorf("the suite left results of an unknown kind: %s", e.Name())
		}
		results[m[1]] = nil
		data, err := os.ReadFile(filepath.Join(dir, e.Name(), "checks.json"))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		var checks []check
		if err := json.Unmarshal(data, &checks); err != nil {
			return nil, fmt.Errorf("results of %s: %w", m[1], err)
		}
		results[m[1]] = checks
	}
	return results, nil
}

// scored returns the scenarios that count for conformance to rev, as far as
// the suite says which do.
func (s *suite) scored(rev revision) []string {
	text, err := os.ReadFile(filepath.Join(s.requirements, rev.name+".yaml"))
	if err != nil {
		return nil
	}
	var names []string
	_, list, _ := strings.Cut(string(text), "\nserver:\n")
	for line := range strings.Lines(list) {
		name, ok := strings.CutPrefix(strings.TrimSpace(line), "- ")
		if !ok {
			break
		}
		names = append(names, name)
	}
	return names
}
