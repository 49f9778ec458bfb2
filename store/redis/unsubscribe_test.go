//go:build unix

package redis_test

import (
	"strings"
	"testing"
	"time"

	"github.com/sluice-mcp/sluice/internal/redistest"
)

// TestUnsubscribeFromAnIllServer ends subscriptions while the server refuses PING, which ended the process.
func TestUnsubscribeFromAnIllServer(t *testing.T) {
	t.Parallel()
	srv := redistest.New(t, "--replica-serve-stale-data", "no")
	r := openPatient(t, srv.URL())
	stays, err := r.Subscribe(t.Context(), "stays")
	if err != nil {
		t.Fatal(err)
	}
	goes, err := r.Subscribe(t.Context(), "goes")
	if err != nil {
		t.Fatal(err)
	}
	if got := command(t, srv.Addr(), "REPLICAOF 127.0.0.1 1"); got != "+OK" {
		t.Fatal(got)
	}
	for end := time.Now().Add(time.Minute); !strings.HasPrefix(command(t, srv.Addr(), "PING"), "-MASTERDOWN"); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the server goes on to answer PING")
		}
	}
	_ = goes.Close()
	if m, ok := <-stays.C(); !ok || m.Topic != "" {
		t.Errorf("received %+v, %t, want word that something may have been missed", m, ok)
	}
	if got := command(t, srv.Addr(), "REPLICAOF NO ONE"); got != "+OK" {
		t.Fatal(got)
	}
	for topic, want := range map[string]int{"goes": 0, "stays": 1} {
		for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
			n, err := r.Receivers(t.Context(), topic)
			if err == nil && n == want {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("%s has %d receivers, %v, want %d", topic, n, err, want)
			}
		}
	}
}
