//go:build unix

package chaos_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/rueidis"
)

// sharedURL is the Redis for the tests that do not need one of their own; "" when there is none.
var sharedURL string

// TestMain takes the server that SLUICE_TEST_REDIS_URL names, else starts one if it is installed.
func TestMain(m *testing.M) { os.Exit(run(m)) } //nolint:forbidigo // a TestMain is a main

func run(m *testing.M) int {
	sharedURL = os.Getenv("SLUICE_TEST_REDIS_URL")
	if sharedURL == "" && installed() {
		dir, err := os.MkdirTemp("", "chaos")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer func() { _ = os.RemoveAll(dir) }()
		s, err := launchRedis(dir, "--appendonly", "no")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer s.kill()
		sharedURL = s.url()
	}
	return m.Run()
}

func installed() bool {
	_, err := exec.LookPath("redis-server")
	return err == nil
}

// skip skips, except in CI, which must have what the tests need.
func skip(t testing.TB, why string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// A redis is a redis-server process of our own.
type redis struct {
	dir  string
	port int
	args []string
	cmd  *exec.Cmd
}

// newRedis starts a server that ends with the test, and keeps what it was told when it is restarted.
func newRedis(t testing.TB) *redis {
	t.Helper()
	if !installed() {
		skip(t, "redis-server is not installed")
	}
	s, err := launchRedis(t.TempDir(), "--appendonly", "yes", "--appendfsync", "always")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.kill)
	return s
}

func launchRedis(dir string, args ...string) (*redis, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	port := l.Addr().(*net.TCPAddr).Port
	if err := l.Close(); err != nil {
		return nil, err
	}
	s := &redis{dir: dir, port: port, args: args}
	return s, s.start()
}

func (s *redis) addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }
func (s *redis) url() string  { return "redis://" + s.addr() }

// start returns when the server accepts connections.
func (s *redis) start() error {
	s.cmd = exec.Command("redis-server", append([]string{
		"--bind", "127.0.0.1", "--port", strconv.Itoa(s.port), "--dir", s.dir, "--save", "",
	}, s.args...)...)
	// A killed test binary must not leave the server behind.
	setProcAttr(s.cmd)
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

func (s *redis) kill() {
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
}

// stop ends the server in an orderly way.
func (s *redis) stop(t testing.TB) {
	t.Helper()
	s.signal(t, syscall.SIGTERM)
	_ = s.cmd.Wait()
}

func (s *redis) signal(t testing.TB, sig syscall.Signal) {
	t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		t.Error(err)
	}
}

// withPrefix is the URL of a Redis with names of our own in it.
func withPrefix(t testing.TB, rawURL string) string {
	t.Helper()
	u, err := url.Parse(rawURL)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	q.Set("prefix", "chaos-"+rand.Text()+":")
	u.RawQuery = q.Encode()
	return u.String()
}

// executions returns how often each key was charged.
func executions(t testing.TB, rawURL string) map[string]int {
	t.Helper()
	opt, err := rueidis.ParseURL(rawURL)
	if err != nil {
		t.Fatal(err)
	}
	opt.ForceSingleClient, opt.DisableCache = true, true
	client, err := rueidis.NewClient(opt)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	u, _ := url.Parse(rawURL)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	keys, err := client.Do(ctx, client.B().Lrange().Key(u.Query().Get("prefix")+"charged").Start(0).Stop(-1).Build()).AsStrSlice()
	if err != nil {
		t.Fatal(err)
	}
	out := make(map[string]int)
	for _, k := range keys {
		out[k]++
	}
	return out
}

// sweep removes what a test has left in a Redis that is not ours alone.
func sweep(rawURL string) {
	opt, err := rueidis.ParseURL(rawURL)
	if err != nil {
		return
	}
	opt.ForceSingleClient, opt.DisableCache = true, true
	client, err := rueidis.NewClient(opt)
	if err != nil {
		return
	}
	defer client.Close()
	u, _ := url.Parse(rawURL)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	match := strings.NewReplacer("*", `\*`, "?", `\?`).Replace(u.Query().Get("prefix")) + "*"
	for cursor := uint64(0); ; {
		entry, err := client.Do(ctx, client.B().Scan().Cursor(cursor).Match(match).Count(1000).Build()).AsScanEntry()
		if err != nil {
			return
		}
		if len(entry.Elements) > 0 {
			_ = client.Do(ctx, client.B().Del().Key(entry.Elements...).Build()).Error()
		}
		if cursor = entry.Cursor; cursor == 0 {
			return
		}
	}
}
