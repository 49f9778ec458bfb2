// Package deploy_test keeps the manifests, the settings of the proxy and the pages about them true: everything is decoded
// strictly, held against what the program knows, and run where that takes no cluster and no cloud.
package deploy_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is how long a test waits for what should happen at once, on a busy machine.
const patience = 20 * time.Second

// program is the demo server, built as the Dockerfile builds it; settings are the variables that it knows, with
// their defaults.
var (
	program  string
	settings = map[string]string{}
)

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code) //nolint:forbidigo // the main of a test
}

func run(m *testing.M) (int, error) {
	dir, err := os.MkdirTemp("", "deploy_test")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	// Another user runs it behind nginx.
	if err := os.Chmod(dir, 0o755); err != nil {
		return 0, err
	}
	build, err := buildCommand()
	if err != nil {
		return 0, err
	}
	cmd := exec.Command("sh", "-c", build)
	cmd.Dir = ".."
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "OUT="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("%s: %w\n%s", build, err, out)
	}
	program = filepath.Join(dir, "server")
	if err := readSettings(); err != nil {
		return 0, err
	}
	return m.Run(), nil
}

// buildCommand is the Dockerfile's.
func buildCommand() (string, error) {
	dockerfile, err := os.ReadFile("../Dockerfile")
	if err != nil {
		return "", err
	}
	m := regexp.MustCompile(`(?m)^RUN (.*go build .*)$`).FindSubmatch(dockerfile)
	if m == nil {
		return "", errors.New("the Dockerfile has no go build")
	}
	return string(m[1]), nil
}

// readSettings asks the program for its help.
func readSettings() error {
	out, err := exec.Command(program, "--help").Output()
	if err != nil {
		return err
	}
	for _, m := range regexp.MustCompile(`\[(?:default: ([^,\]]*), )?env: ([A-Z_]+)\]`).FindAllStringSubmatch(string(out), -1) {
		settings[m[2]] = m[1]
	}
	if !strings.Contains(string(out), "the variable PORT") || settings["MCP_SERVER_PORT"] == "" {
		return fmt.Errorf("the help does not name PORT or has no default for MCP_SERVER_PORT:\n%s", out)
	}
	settings["PORT"] = ""
	return nil
}

// known reports whether a variable means something to the program or to the Go runtime in it.
func known(name string) bool {
	_, ok := settings[name]
	return ok || name == "GOMEMLIMIT" || name == "GOMAXPROCS" || name == "GODEBUG"
}

// A server is a process of the program.
type server struct {
	t    testing.TB
	addr string // host:port
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended

	mu  sync.Mutex
	log bytes.Buffer
}

// start runs the program with exactly these variables, on a free port unless they name one, and waits until it listens.
func start(t testing.TB, env map[string]string, configure ...func(*exec.Cmd)) *server {
	t.Helper()
	s := &server{t: t, cmd: exec.Command(program), done: make(chan struct{})}
	s.cmd.Env = []string{"LOG_FORMAT=json", "MCP_SERVER_PORT=0"}
	if env["PORT"] != "" {
		s.cmd.Env = s.cmd.Env[:1]
	}
	for name, value := range env {
		s.cmd.Env = append(s.cmd.Env, name+"="+value)
	}
	for _, f := range configure {
		f(s.cmd)
	}
	stderr, err := s.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	listening := make(chan string, 1)
	go func() {
		s.read(bufio.NewScanner(stderr), listening)
		_ = s.cmd.Wait()
		close(s.done)
	}()
	t.Cleanup(func() {
		_ = s.cmd.Process.Kill()
		<-s.done
		if t.Failed() {
			t.Logf("log of the server at %s:\n%s", s.addr, s.Log())
		}
	})
	select {
	case s.addr = <-listening:
	case <-s.done:
		t.Fatalf("the server ended at once:\n%s", s.Log())
	case <-time.After(patience):
		t.Fatalf("the server does not listen:\n%s", s.Log())
	}
	return s
}

func (s *server) read(lines *bufio.Scanner, listening chan<- string) {
	for lines.Scan() {
		s.mu.Lock()
		s.log.Write(lines.Bytes())
		s.log.WriteByte('\n')
		s.mu.Unlock()
		var line struct{ Address string }
		if json.Unmarshal(lines.Bytes(), &line) == nil && line.Address != "" {
			_, port, err := net.SplitHostPort(line.Address)
			if err == nil {
				listening <- net.JoinHostPort("127.0.0.1", port)
			}
		}
	}
}

// Log is what the server has logged so far.
func (s *server) Log() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.String()
}

// stop asks the server to end, waits for it and returns its exit code.
func (s *server) stop() int {
	s.t.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		s.t.Fatal(err)
	}
	select {
	case <-s.done:
	case <-time.After(2 * patience):
		s.t.Fatal("the server does not end")
	}
	return s.cmd.ProcessState.ExitCode()
}

// probe asks a path until it answers 200.
func (s *server) probe(client *http.Client, path string) {
	s.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		resp, err := client.Get("http://" + s.addr + path)
		if err != nil {
			s.t.Fatalf("GET %s: %v", path, err)
		}
		resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			return
		}
		// Only "not yet" is worth waiting for.
		if resp.StatusCode != http.StatusServiceUnavailable || time.Now().After(deadline) {
			s.t.Fatalf("GET %s: %s, want 200", path, resp.Status)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// read returns a file's content.
func read(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// require is for what a person's machine may lack and CI must have.
func require(t testing.TB, ok bool, what string) {
	t.Helper()
	switch {
	case ok:
	case os.Getenv("CI") == "true":
		t.Fatal("CI needs " + what)
	default:
		t.Skip("needs " + what)
	}
}
