package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
)

// A Target is a server under test: a program to run, or a URL where one runs already.
type Target struct {
	pkg  string // Go main package, built before use
	argv []string
	url  string
}

// Command is a Go main package, such as "./cmd/server", relative to the root of the
// module that the test is in, and its arguments. It is built once per test run; with the race
// detector if the test itself runs under it.
//
// In arguments, {port} stands for the port to listen on. The program is also given it, in
// MCP_SERVER_PORT and PORT, and its host in MCP_SERVER_HOST.
func Command(pkg string, args ...string) Target {
	return Target{pkg: pkg, argv: args}
}

// Argv is a program in any language and its arguments. {port} and the
// variables of [Command] tell it where to listen. A relative path
// with a slash is taken relative to the directory of the test.
func Argv(program string, args ...string) Target {
	return Target{argv: append([]string{program}, args...)}
}

// URL is the MCP endpoint of a server that is already running; it cannot be killed, paused or
// restarted from here.
func URL(url string) Target { return Target{url: url} }

func (t Target) String() string {
	switch {
	case t.url != "":
		return t.url
	case t.pkg != "":
		return strings.Join(append([]string{t.pkg}, t.argv...), " ")
	}
	return strings.Join(t.argv, " ")
}

// program returns what to execute, built if need be, with its arguments.
func (t Target) program() ([]string, error) {
	if t.pkg == "" {
		return t.argv, nil
	}
	exe, err := buildOnce(t.pkg)
	if err != nil {
		return nil, err
	}
	return append([]string{exe}, t.argv...), nil
}

// builds maps a package pattern to a function that builds it the first time.
var builds sync.Map

func buildOnce(pkg string) (string, error) {
	f, _ := builds.LoadOrStore(pkg, sync.OnceValues(func() (string, error) { return build(pkg) }))
	return f.(func() (string, error))()
}

// build leaves the executable in the go command's own cache: there is nothing to clean up, and it
// is linked again only after a change.
//
// "go run -exec echo" prints where the executable is. On the run that links it, that is a
// temporary file which is gone afterwards; from then on it is the cached one.
func build(pkg string) (string, error) {
	root, err := moduleRoot()
	if err != nil {
		return "", fmt.Errorf("e2e: building %s: %w", pkg, err)
	}
	args := []string{"run", "-exec", "echo"}
	if raceEnabled {
		args = append(args, "-race")
	}
	for range 3 {
		cmd := exec.Command("go", append(args, pkg)...)
		cmd.Dir = root
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			return "", fmt.Errorf("e2e: building %s in %s: %w\n%s", pkg, root, err, stderr.Bytes())
		}
		exe := strings.TrimSpace(string(out))
		if _, err := os.Stat(exe); err == nil {
			return exe, nil
		}
	}
	return "", fmt.Errorf("e2e: building %s: the go command did not keep the executable", pkg)
}

func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("no go.mod in this directory or above it")
		}
		dir = parent
	}
}
