//go:build unix

package chaos_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/sluice-mcp/sluice/internal/redistest"
)

// sharedURL is the Redis for the tests that do not need one of their own; "" when there is none.
var sharedURL string

// TestMain takes the server that SLUICE_TEST_REDIS_URL names, else starts one if it is installed.
func TestMain(m *testing.M) { os.Exit(run(m)) } //nolint:forbidigo // a TestMain is a main

func run(m *testing.M) int {
	url, end, err := redistest.Shared()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer end()
	sharedURL = url
	return m.Run()
}

// newRedis starts a server that ends with the test, and keeps what it was told when it is restarted.
func newRedis(t testing.TB) *redistest.Server {
	t.Helper()
	return redistest.New(t, "--appendonly", "yes", "--appendfsync", "always")
}

// withPrefix is the URL of a Redis with names of our own in it.
func withPrefix(t testing.TB, rawURL string) string {
	t.Helper()
	return redistest.WithPrefix(t, rawURL, "chaos-"+rand.Text()+":")
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

// forever returns the names in a Redis that match a pattern and do not expire.
func forever(t testing.TB, rawURL, pattern string) (names []string) {
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
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	keys, err := client.Do(ctx, client.B().Keys().Pattern(pattern).Build()).AsStrSlice()
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range keys {
		if ttl, err := client.Do(ctx, client.B().Ttl().Key(key).Build()).AsInt64(); err != nil || ttl == -1 {
			names = append(names, key)
		}
	}
	return names
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
