package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// The suite, and the Node that it needs, which npm brings along.
const (
	conformanceSuite = "@modelcontextprotocol/conformance@0.2.0-alpha.12"
	conformanceNode  = "node@22"
)

const (
	conformanceTimeout = 10 * time.Minute // of one run
	suiteTimeout       = 3 * time.Minute  // of getting the suite
)

// A ConformanceOption says what [Conformance] runs.
type ConformanceOption func(*conformance)

type conformance struct {
	runs     [][]string // name, arguments
	baseline string
	required bool
}

// Scenarios runs these scenarios of the suite instead of the default ones.
func Scenarios(names ...string) ConformanceOption {
	return func(c *conformance) {
		for _, n := range names {
			c.runs = append(c.runs, []string{n, "--scenario", n})
		}
	}
}

// Requirements runs all that the suite holds a server of this revision to. The server must have
// the tools, resources and prompts that the suite's scenarios describe.
func Requirements(r Revision) ConformanceOption {
	return func(c *conformance) { c.runs = append(c.runs, []string{string(r), "--requirements", string(r)}) }
}

// Baseline names a YAML file of failures that are expected. An unexpected pass fails, too.
func Baseline(path string) ConformanceOption {
	return func(c *conformance) { c.baseline = path }
}

// Require makes it a failure when the suite cannot be run, which otherwise skips the test. Where the
// variable CI is set, that is the default.
func Require() ConformanceOption {
	return func(c *conformance) { c.required = true }
}

// Conformance runs the official conformance suite against the server, through npx. By default it runs the scenarios
// that every server can pass, whatever its tools are; each run is a subtest.
func Conformance(t *testing.T, e Endpoint, opts ...ConformanceOption) {
	t.Helper()
	c := &conformance{required: os.Getenv("CI") != ""}
	for _, o := range opts {
		o(c)
	}
	if len(c.runs) == 0 {
		Scenarios("server-initialize", "ping", "tools-list", "dns-rebinding-protection")(c)
	}
	if err := suiteAvailable(); err != nil {
		if c.required {
			t.Fatalf("e2e: the conformance suite is required, but cannot be run: %v", err)
		}
		t.Skipf("e2e: CONFORMANCE NOT CHECKED: the suite cannot be run: %v (e2e.Require makes this a failure)", err)
	}
	for _, run := range c.runs {
		t.Run(run[0], func(t *testing.T) {
			args := append([]string{"server", "--url", e.URL()}, run[1:]...)
			if c.baseline != "" {
				args = append(args, "--expected-failures", c.baseline)
			}
			ctx, cancel := context.WithTimeout(t.Context(), conformanceTimeout)
			defer cancel()
			out, err := npx(ctx, args...)
			if err != nil {
				t.Errorf("e2e: conformance %s: %v\n%s", strings.Join(args, " "), err, summary(out))
			}
		})
	}
}

// suiteAvailable gets the suite, once.
var suiteAvailable = sync.OnceValue(func() error {
	ctx, cancel := context.WithTimeout(context.Background(), suiteTimeout)
	defer cancel()
	if out, err := npx(ctx, "--version"); err != nil {
		return fmt.Errorf("%w\n%s", err, shorten(string(out)))
	}
	return nil
})

func npx(ctx context.Context, args ...string) ([]byte, error) {
	path, err := exec.LookPath("npx")
	if err != nil {
		return nil, err
	}
	out, err := os.CreateTemp("", "conformance-*.log")
	if err != nil {
		return nil, err
	}
	defer os.Remove(out.Name())
	defer out.Close()
	p, err := startProcess(append([]string{
		path, "--yes", "--package", conformanceNode, "--package", conformanceSuite, "--", "conformance",
	}, args...), nil, out)
	if err != nil {
		return nil, err
	}
	select {
	case <-p.done:
	case <-ctx.Done():
		_ = p.kill() // the whole group: npx has children
		<-p.done
		err = context.Cause(ctx)
	}
	if err == nil && !p.cmd.ProcessState.Success() {
		err = errors.New(p.cmd.ProcessState.String())
	}
	text, readErr := os.ReadFile(out.Name())
	return text, errors.Join(err, readErr)
}

var ansi = regexp.MustCompile("\x1b\\[[0-9;]*m")

// summary keeps the lines that say what failed; the suite repeats each scenario's whole description.
func summary(out []byte) string {
	var keep []string
	for line := range strings.Lines(ansi.ReplaceAllString(string(out), "")) {
		for _, mark := range []string{"FAILURE", "WARNING", "Error:", "Passed:", "nexpected", "npm error"} {
			if strings.Contains(line, mark) {
				keep = append(keep, line)
				break
			}
		}
	}
	if len(keep) == 0 {
		return string(out)
	}
	return strings.Join(keep, "")
}
