//go:build unix

package redis_test

import (
	"crypto/rand"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sluice-mcp/sluice/store/redis"
)

// realURL is the server for the tests that do not need one of their own; "" when there is none.
var realURL string

// TestMain takes the real server that SLUICE_TEST_REDIS_URL names, else starts one if it is installed.
func TestMain(m *testing.M) { os.Exit(run(m)) } //nolint:forbidigo // a TestMain is a main

func run(m *testing.M) int {
	realURL = os.Getenv("SLUICE_TEST_REDIS_URL")
	if realURL == "" && installed() {
		dir, err := os.MkdirTemp("", "redis")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer func() { _ = os.RemoveAll(dir) }()
		s, err := launch(dir, freePort())
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer s.kill()
		realURL = s.url()
	}
	code := m.Run()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	return code
}

func installed() bool {
	_, err := exec.LookPath("redis-server")
	return err == nil
}

// skip skips, except in CI, which must have what the tests need.
func skip(tb testing.TB, why string) {
	tb.Helper()
	if os.Getenv("CI") != "" {
		tb.Fatal(why)
	}
	tb.Skip(why)
}

func needServer(tb testing.TB) {
	tb.Helper()
	if realURL == "" {
		skip(tb, "no Redis: install redis-server or set SLUICE_TEST_REDIS_URL")
	}
}

// open opens the store at a server under a prefix of its own.
func open(tb testing.TB, rawURL string) *redis.Redis {
	tb.Helper()
	return openWithin(tb, rawURL, time.Second)
}

// openPatient opens a store that a busy machine does not make fail.
func openPatient(tb testing.TB, rawURL string) *redis.Redis {
	tb.Helper()
	return openWithin(tb, rawURL, 20*time.Second)
}

func openWithin(tb testing.TB, rawURL string, timeout time.Duration) *redis.Redis {
	tb.Helper()
	r, err := redis.OpenWithin(tb.Context(), withPrefix(tb, rawURL, rand.Text()+":"), timeout)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = r.Close() })
	return r
}

func withPrefix(tb testing.TB, rawURL, prefix string) string {
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

// A server is a redis-server process of our own.
type server struct {
	dir  string
	port int
	args []string
	cmd  *exec.Cmd
}

// newServer starts a server that ends with the test.
func newServer(tb testing.TB, args ...string) *server {
	tb.Helper()
	if !installed() {
		skip(tb, "redis-server is not installed")
	}
	s, err := launch(tb.TempDir(), freePort(), args...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(s.kill)
	return s
}

func launch(dir string, port int, args ...string) (*server, error) {
	s := &server{dir: dir, port: port, args: args}
	return s, s.start()
}

func (s *server) addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }
func (s *server) url() string  { return "redis://" + s.addr() }

// start returns when the server accepts connections.
func (s *server) start() error {
	s.cmd = exec.Command("redis-server", append([]string{
		"--bind", "127.0.0.1", "--port", strconv.Itoa(s.port),
		"--dir", s.dir, "--save", "", "--appendonly", "no",
	}, s.args...)...)
	if err := s.cmd.Start(); err != nil {
		return err
	}
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		conn, err := net.Dial("tcp", s.addr())
		if err == nil {
			return conn.Close()
		}
		if time.Now().After(end) {
			s.kill()
			return fmt.Errorf("redis-server does not come up: %w", err)
		}
	}
}

func (s *server) kill() {
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
}

func (s *server) signal(tb testing.TB, sig syscall.Signal) {
	tb.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		tb.Error(err)
	}
}

func freePort() int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port
}
