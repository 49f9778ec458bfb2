// Package redistest has real Redis servers for tests: one that all tests of a package share, under prefixes, and those that a
// test starts for itself, to stop, freeze and kill.
package redistest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// A Server is a redis-server process of our own, on a port of the loopback interface.
type Server struct {
	dir  string
	port int
	args []string
	cmd  *exec.Cmd
}

// New starts a server with more arguments, or skips the test if it is not installed. The server ends with the test, and
// keeps nothing over a restart unless the arguments say so.
func New(tb testing.TB, args ...string) *Server {
	tb.Helper()
	s := NewStopped(tb, args...)
	if err := s.Start(); err != nil {
		tb.Fatal(err)
	}
	return s
}

// NewStopped is [New] for a server that is to be started later.
func NewStopped(tb testing.TB, args ...string) *Server {
	tb.Helper()
	if !installed() {
		Skip(tb, "redis-server is not installed")
	}
	port, err := freePort()
	if err != nil {
		tb.Fatal(err)
	}
	s := &Server{dir: tb.TempDir(), port: port, args: args}
	tb.Cleanup(s.Kill)
	return s
}

// Shared takes the server that SLUICE_TEST_REDIS_URL names, else starts one if it is installed. The URL is empty if there is
// none: see [Need]. Whoever calls it calls end when the tests are over.
func Shared() (rawURL string, end func(), err error) {
	if rawURL = os.Getenv("SLUICE_TEST_REDIS_URL"); rawURL != "" || !installed() {
		return rawURL, func() {}, nil
	}
	port, err := freePort()
	if err != nil {
		return "", nil, err
	}
	dir, err := os.MkdirTemp("", "redis")
	if err != nil {
		return "", nil, err
	}
	s := &Server{dir: dir, port: port}
	if err := s.Start(); err != nil {
		_ = os.RemoveAll(dir)
		return "", nil, err
	}
	return s.URL(), func() {
		s.Kill()
		_ = os.RemoveAll(dir)
	}, nil
}

// Need skips a test that needs the shared server if there is none.
func Need(tb testing.TB, rawURL string) {
	tb.Helper()
	if rawURL == "" {
		Skip(tb, "no Redis: install redis-server or set SLUICE_TEST_REDIS_URL")
	}
}

// Skip skips, except in CI, which must have what the tests need.
func Skip(tb testing.TB, why string) {
	tb.Helper()
	if os.Getenv("CI") != "" {
		tb.Fatal(why)
	}
	tb.Skip(why)
}

// WithPrefix is the URL of a server, with a prefix for the names of all keys in it.
func WithPrefix(tb testing.TB, rawURL, prefix string) string {
	tb.Helper()
	u, err := url.Parse(rawURL)
	if err != nil {
		tb.Fatal(err)
	}
	q := u.Query()
	q.Set("prefix", prefix)
	u.RawQuery = q.Encode()
	return u.String()
}

// Port is the server's port.
func (s *Server) Port() int { return s.port }

// Addr is host and port of the server.
func (s *Server) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

// URL is what a store is opened with.
func (s *Server) URL() string { return "redis://" + s.Addr() }

// Start returns when the server accepts connections. It may have been stopped or killed before.
func (s *Server) Start() error {
	ctx := context.Background() // it ends by itself, or is killed
	args := append([]string{
		"--bind", "127.0.0.1", "--port", strconv.Itoa(s.port), "--dir", s.dir, "--save", "", "--appendonly", "no",
	}, s.args...)
	s.cmd = exec.CommandContext(ctx, "redis-server", args...) //nolint:gosec // the tests' own arguments
	endWithParent(s.cmd)                                      // a test binary that is killed must not leave the server behind
	if err := s.cmd.Start(); err != nil {
		return err
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", s.Addr())
		if err == nil {
			return conn.Close()
		}
		if time.Now().After(end) {
			s.Kill()
			return fmt.Errorf("redis-server does not come up: %w", err)
		}
	}
}

// Kill ends the server with SIGKILL.
func (s *Server) Kill() {
	if s.cmd == nil || s.cmd.Process == nil {
		return // it was never started
	}
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
}

// Stop ends the server in an orderly way.
func (s *Server) Stop(tb testing.TB) {
	tb.Helper()
	s.Signal(tb, syscall.SIGTERM)
	_ = s.cmd.Wait()
}

// Signal sends a signal to the server.
func (s *Server) Signal(tb testing.TB, sig syscall.Signal) {
	tb.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		tb.Error(err)
	}
}

func installed() bool {
	_, err := exec.LookPath("redis-server")
	return err == nil
}

// Ports are taken from below the range that systems give to outgoing connections, and from below those of package e2e. Somebody who dials
// a port of that range until a server listens there is given the very port for his own end one day, and is connected to himself.
const (
	firstPort = 10000
	ports     = 10000
)

// lastPort is the one handed out last. Test binaries that run at the same time begin at different ports.
var lastPort atomic.Int64

func init() { lastPort.Store(int64(os.Getpid()) * 61 % ports) }

// freePort returns a port that nobody listens on.
func freePort() (int, error) {
	for range ports {
		port := firstPort + int(lastPort.Add(1)%ports)
		l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err == nil {
			return port, l.Close()
		}
	}
	return 0, errors.New("no free port on 127.0.0.1")
}
