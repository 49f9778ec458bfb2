package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync"
	"syscall"
	"time"
)

// server is the running conformance server.
type server struct {
	url string

	cmd    *exec.Cmd
	cancel context.CancelFunc
	exited chan error

	mu    sync.Mutex
	lines bytes.Buffer
}

var readyLine = regexp.MustCompile(`url=(http://\S+)`)

// startServer builds the server that lives in dir, starts it on a free port
// and waits for the line that says where it listens.
func startServer(ctx context.Context, dir, temp string) (*server, error) {
	binary := filepath.Join(temp, "server")
	build := exec.CommandContext(ctx, "go", "build", "-o", binary, ".")
	build.Dir = dir
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go build: %w\n%s", err, out)
	}

	ctx, cancel := context.WithCancel(ctx)
	s := &server{cancel: cancel, exited: make(chan error, 1)}
	s.cmd = exec.CommandContext(ctx, binary)
	s.cmd.Env = append(os.Environ(), "MCP_SERVER_PORT=0")
	stderr, err := s.cmd.StderrPipe()
	if err != nil {
		cancel()
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		cancel()
		return nil, fmt.Errorf("start the server: %w", err)
	}
	ready := make(chan string, 1)
	go func() {
		s.follow(stderr, ready)
		s.exited <- s.cmd.Wait()
	}()
	select {
	case s.url = <-ready:
		return s, nil
	case err := <-s.exited:
		cancel()
		return nil, fmt.Errorf("the server ended before it was ready: %w\n%s", err, s.log())
	case <-time.After(30 * time.Second):
		cancel()
		return nil, fmt.Errorf("the server did not say where it listens\n%s", s.log())
	}
}

// follow keeps what the server logs, and sends the first URL in it to ready.
func (s *server) follow(r io.Reader, ready chan<- string) {
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadString('\n')
		s.mu.Lock()
		s.lines.WriteString(line)
		s.mu.Unlock()
		if m := readyLine.FindStringSubmatch(line); m != nil {
			select {
			case ready <- m[1]:
			default:
			}
		}
		if err != nil {
			return
		}
	}
}

// stop asks the server to end and waits for it. It returns an error if the
// server had ended before, takes too long or says that something went wrong.
func (s *server) stop() error {
	defer s.cancel()
	select {
	case err := <-s.exited:
		return fmt.Errorf("it ended while the suite ran: %w", err)
	default:
	}
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case err := <-s.exited:
		return err
	case <-time.After(15 * time.Second):
		return errors.New("it was still running 15 s after SIGTERM")
	}
}

func (s *server) log() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lines.String()
}
