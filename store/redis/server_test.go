//go:build unix

package redis_test

import (
	"crypto/rand"
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sluice-mcp/sluice/internal/redistest"
	"github.com/sluice-mcp/sluice/store/redis"
)

// realURL is the server for the tests that do not need one of their own; "" when there is none.
var realURL string

// TestMain takes the real server that SLUICE_TEST_REDIS_URL names, else starts one if it is installed.
func TestMain(m *testing.M) { os.Exit(run(m)) } //nolint:forbidigo // a TestMain is a main

func run(m *testing.M) int {
	url, end, err := redistest.Shared()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer end()
	realURL = url
	code := m.Run()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	return code
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
	r, err := redis.OpenWithin(tb.Context(), redistest.WithPrefix(tb, rawURL, rand.Text()+":"), timeout)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = r.Close() })
	return r
}
