package e2e

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// A Server is a running server under test. Its methods may be called from any goroutine; what
// goes wrong in them fails the test that started it, without stopping it.
type Server struct {
	endpoint
	t       testing.TB
	target  Target
	cfg     *config
	port    int
	logFile *os.File

	mu   sync.Mutex
	proc *process // nil for a URL
}

// Start runs the target until the end of the test and returns when it is ready: when GET
// /readyz answers 200 or, where there is no such path, when the MCP endpoint answers. What the
// server writes is shown if the test fails. A server that exits by itself fails the test.
func Start(t testing.TB, target Target, opts ...Option) *Server {
	t.Helper()
	s, err := start(t, target, newConfig(opts))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func start(t testing.TB, target Target, cfg *config) (*Server, error) {
	s := &Server{t: t, target: target, cfg: cfg, endpoint: endpoint{
		path: cfg.path, ssePath: cfg.ssePath, revisions: cfg.revisions,
	}}
	if target.url != "" {
		u, err := url.Parse(target.url)
		if err != nil {
			return nil, fmt.Errorf("e2e: %w", err)
		}
		s.base, s.path = u.Scheme+"://"+u.Host, u.Path
		if err := awaitReady(s.base, s.path, cfg.ready, nil); err != nil {
			return nil, fmt.Errorf("e2e: %s: %w", target, err)
		}
		return s, nil
	}
	var err error
	if s.logFile, err = createLog(t, target); err != nil {
		return nil, err
	}
	// Somebody else may take the port between our look and the server's: then it exits, and we try another.
	for range 3 {
		if s.port, err = freePort(); err != nil {
			return nil, err
		}
		s.base = "http://127.0.0.1:" + strconv.Itoa(s.port)
		if err = s.launch(); !errors.Is(err, errExited) {
			break
		}
	}
	if cfg.hasStdio {
		s.stdio = s.stdioCommand
	}
	t.Cleanup(s.cleanup)
	return s, err
}

func createLog(t testing.TB, target Target) (*os.File, error) {
	name := filepath.Base(target.pkg)
	if target.pkg == "" {
		name = filepath.Base(target.argv[0])
	}
	f, err := os.CreateTemp(t.ArtifactDir(), name+"-*.log")
	if err != nil {
		return nil, fmt.Errorf("e2e: %w", err)
	}
	return f, nil
}

// argv is the command line of a run, with its placeholders filled in.
func (s *Server) argv(more ...string) ([]string, error) {
	argv, err := s.target.program()
	if err != nil {
		return nil, err
	}
	filled := make([]string, 0, len(argv)+len(more))
	for _, a := range append(slices.Clip(argv), more...) {
		filled = append(filled, strings.ReplaceAll(a, "{port}", strconv.Itoa(s.port)))
	}
	return filled, nil
}

// launch starts the process and waits until it is ready. The caller holds mu, or is alone.
func (s *Server) launch() error {
	argv, err := s.argv()
	if err != nil {
		return err
	}
	port := strconv.Itoa(s.port)
	env := append([]string{"MCP_SERVER_HOST=127.0.0.1", "MCP_SERVER_PORT=" + port, "PORT=" + port}, s.cfg.env...)
	if s.proc, err = startProcess(argv, env, s.logFile); err != nil {
		return err
	}
	if err := awaitReady(s.base, s.path, s.cfg.ready, s.proc.done); err != nil {
		s.proc.asked = true
		if !errors.Is(err, errExited) {
			_ = s.proc.kill()
			<-s.proc.done
		}
		return fmt.Errorf("e2e: %s: %w", s.target, err)
	}
	return nil
}

func (s *Server) stdioCommand() (*exec.Cmd, error) {
	argv, err := s.argv(s.cfg.stdio...)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(append(os.Environ(), s.cfg.env...), "MCP_TRANSPORT=stdio")
	cmd.Stderr = s.logFile
	return cmd, nil
}

// with calls f with the process, which must be there.
func (s *Server) with(what string, f func(*process) error) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc == nil {
		s.t.Errorf("e2e: cannot %s %s: it was not started here", what, s.target)
		return
	}
	if err := f(s.proc); err != nil {
		s.t.Errorf("e2e: cannot %s %s: %v", what, s.target, err)
	}
}

// Kill ends the server with SIGKILL and waits until it is gone.
func (s *Server) Kill() {
	s.t.Helper()
	s.with("kill", func(p *process) error {
		p.asked = true
		if !p.running() {
			return nil
		}
		err := p.kill()
		if err == nil {
			<-p.done
		}
		return err
	})
}

// Stop ends the server with SIGTERM, waits until it is gone and returns how it
// ended. A server that takes too long (see [StopWithin]) is killed, and the test fails.
func (s *Server) Stop() *os.ProcessState {
	s.t.Helper()
	var state *os.ProcessState
	s.with("stop", func(p *process) error {
		if !p.end(s.cfg.grace) {
			return fmt.Errorf("still there %v after SIGTERM", s.cfg.grace)
		}
		state = p.cmd.ProcessState
		return nil
	})
	return state
}

// Pause freezes the server with SIGSTOP: its connections stay open, nothing happens on them.
func (s *Server) Pause() {
	s.t.Helper()
	s.with("pause", (*process).pause)
}

// Resume lets a paused server go on.
func (s *Server) Resume() {
	s.t.Helper()
	s.with("resume", (*process).resume)
}

// Restart starts the server anew on the same port, after a graceful stop if it still
// runs, and waits until it is ready.
func (s *Server) Restart() {
	s.t.Helper()
	s.with("restart", func(p *process) error {
		if !p.end(s.cfg.grace) {
			return fmt.Errorf("still there %v after SIGTERM", s.cfg.grace)
		}
		return s.launch()
	})
}

func (s *Server) cleanup() {
	s.t.Helper()
	defer s.logFile.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.proc; p != nil {
		if s.t.Failed() && !p.asked {
			// A crash may be why, and its connections end a moment before it does.
			select {
			case <-p.done:
			case <-time.After(crashWait):
			}
		}
		switch {
		case !p.running() && !p.asked:
			s.t.Errorf("e2e: %s exited by itself: %v", s.target, p.cmd.ProcessState)
		case !p.end(s.cfg.grace):
			s.t.Errorf("e2e: %s was still there %v after SIGTERM and was killed", s.target, s.cfg.grace)
		case raceEnabled && p.cmd.ProcessState.ExitCode() == raceExitCode:
			s.t.Errorf("e2e: %s: the race detector found races", s.target)
		}
	}
	if s.t.Failed() {
		s.t.Logf("output of %s:\n%s", s.target, s.logTail())
	}
}

// crashWait is how long a failed test waits for its server to crash.
const crashWait = 200 * time.Millisecond

// raceExitCode is what a program built with -race ends with when it had races.
const raceExitCode = 66
