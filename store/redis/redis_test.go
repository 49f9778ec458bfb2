//go:build unix

package redis_test

import (
	"bufio"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/sluice-mcp/sluice/internal/redistest"
	"github.com/sluice-mcp/sluice/store"
	"github.com/sluice-mcp/sluice/store/redis"
	"github.com/sluice-mcp/sluice/store/storetest"
)

func TestContract(t *testing.T) {
	t.Parallel()
	redistest.Need(t, realURL)
	storetest.Run(t, func(t *testing.T) store.Store { return openPatient(t, realURL) })
}

func TestContractMiniredis(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) store.Store { return openPatient(t, "redis://"+newMini(t).Addr()) })
}

// newMini starts a miniredis whose time passes.
func newMini(t *testing.T) *miniredis.Miniredis {
	t.Helper()
	m := miniredis.RunT(t)
	done, ticker := make(chan struct{}), time.NewTicker(5*time.Millisecond)
	t.Cleanup(func() { ticker.Stop(); close(done) })
	go func() {
		last := time.Now()
		for {
			select {
			case <-done:
				return
			case now := <-ticker.C:
				m.FastForward(now.Sub(last))
				last = now
			}
		}
	}()
	return m
}

func TestOutage(t *testing.T) {
	t.Parallel()
	t.Run("killed", func(t *testing.T) {
		t.Parallel()
		storetest.RunOutage(t, func(t *testing.T) (store.Store, storetest.Outage) {
			srv := redistest.New(t)
			return open(t, srv.URL()), storetest.Outage{
				Stop: func(*testing.T) { srv.Kill() },
				Start: func(t *testing.T) {
					if err := srv.Start(); err != nil {
						t.Fatal(err)
					}
				},
			}
		})
	})
	t.Run("stopped", func(t *testing.T) {
		t.Parallel()
		storetest.RunOutage(t, func(t *testing.T) (store.Store, storetest.Outage) {
			srv := redistest.New(t)
			return open(t, srv.URL()), storetest.Outage{
				Stop:      func(t *testing.T) { srv.Signal(t, syscall.SIGSTOP) },
				Start:     func(t *testing.T) { srv.Signal(t, syscall.SIGCONT) },
				Unnoticed: true,
			}
		})
	})
}

func TestOpen(t *testing.T) {
	t.Parallel()
	t.Run("the server comes later", func(t *testing.T) {
		t.Parallel()
		srv := redistest.New(t)
		srv.Kill()
		r := open(t, srv.URL())
		if err := r.Ping(t.Context()); !errors.Is(err, store.ErrUnavailable) {
			t.Fatalf("got %v, want ErrUnavailable", err)
		}
		if err := srv.Start(); err != nil {
			t.Fatal(err)
		}
		if err := r.Put(t.Context(), "k", nil, time.Minute); err != nil {
			t.Error(err)
		}
	})
	t.Run("password", func(t *testing.T) {
		t.Parallel()
		srv := redistest.New(t, "--requirepass", "sesame")
		open(t, "redis://:sesame@"+srv.Addr())
		for _, u := range []string{srv.URL(), "redis://:guess@" + srv.Addr(), "redis://user:guess@" + srv.Addr()} {
			refused(t, u)
		}
	})
	t.Run("cluster", func(t *testing.T) {
		t.Parallel()
		refused(t, redistest.New(t, "--cluster-enabled", "yes").URL())
	})
	t.Run("bad URL", func(t *testing.T) {
		t.Parallel()
		for _, u := range []string{
			"", "memory:", "http://127.0.0.1", "unix:///tmp/socket", "redis://user:guess@h:port", "redis://:guess@h:70000", "redis://:guess@h:0",
			"redis://:guess@h/db", "redis://:guess@h/%zz",
		} {
			refused(t, u)
		}
	})
	t.Run("TLS", func(t *testing.T) {
		t.Parallel()
		srv := redistest.New(t)
		p := newProxy(t, srv.Addr(), true)
		r := open(t, "rediss://"+p.addr()+"?skip_verify=true")
		if err := r.Ping(t.Context()); err != nil {
			t.Error(err)
		}
		r = open(t, "rediss://"+p.addr())
		if err := r.Ping(t.Context()); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("got %v of a server with an unknown certificate", err)
		}
	})
	t.Run("default prefix", func(t *testing.T) {
		t.Parallel()
		m := miniredis.RunT(t)
		r, err := redis.Open(t.Context(), "redis://"+m.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = r.Close() }()
		if err := r.Put(t.Context(), "k", nil, 0); err != nil {
			t.Fatal(err)
		}
		if !m.Exists("sluice:k:k") {
			t.Errorf("got keys %q", m.Keys())
		}
	})
}

func refused(t *testing.T, rawURL string) {
	t.Helper()
	r, err := redis.Open(t.Context(), rawURL)
	if err == nil {
		_ = r.Close()
		t.Errorf("%s: no error", rawURL)
	} else if strings.Contains(err.Error(), "guess") {
		t.Errorf("%s: the error tells the password: %v", rawURL, err)
	}
}

// TestScriptsAreReloaded makes the server forget the scripts, as one that took over from another may.
func TestScriptsAreReloaded(t *testing.T) {
	t.Parallel()
	srv := redistest.New(t)
	r := open(t, srv.URL())
	for i := range int64(3) {
		if err := r.Append(t.Context(), "l", i, [][]byte{nil}, store.Bounds{}); err != nil {
			t.Fatal(err)
		}
		command(t, srv.Addr(), "SCRIPT FLUSH")
		if _, next, err := r.Read(t.Context(), "l", 0, 1); err != nil || next != i+1 {
			t.Fatal(next, err)
		}
	}
}

// command has the server run a command that answers with one line.
func command(t *testing.T, addr, line string) string {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := fmt.Fprintf(conn, "%s\r\n", line); err != nil {
		t.Fatal(err)
	}
	answer, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(answer)
}

// TestReplicas has two stores meet at one server.
func TestReplicas(t *testing.T) {
	t.Parallel()
	redistest.Need(t, realURL)
	ctx, rawURL := t.Context(), redistest.WithPrefix(t, realURL, rand.Text()+":")
	replica := func() *redis.Redis {
		r, err := redis.Open(ctx, rawURL)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = r.Close() })
		return r
	}
	one, two := replica(), replica()

	if err := one.Append(ctx, "l", 0, [][]byte{[]byte("a")}, store.Bounds{}); err != nil {
		t.Fatal(err)
	}
	if err := two.Append(ctx, "l", 0, [][]byte{[]byte("b")}, store.Bounds{}); !errors.Is(err, store.ErrFenced) {
		t.Errorf("got %v, want ErrFenced", err)
	}

	sub, err := two.Subscribe(ctx, "t", "l")
	if err != nil {
		t.Fatal(err)
	}
	if n, err := one.Publish(ctx, "t", []byte("m")); n != 1 || err != nil {
		t.Errorf("got %d, %v", n, err)
	}
	if m := next(t, sub); m.Topic != "t" || string(m.Data) != "m" {
		t.Errorf("got %+v", m)
	}
	if err := one.Append(ctx, "l", 1, nil, store.Bounds{}); err != nil {
		t.Fatal(err)
	}
	if m := next(t, sub); m.Topic != "l" || len(m.Data) != 0 {
		t.Errorf("got %+v", m)
	}

	// Whoever holds a subscription is alive: it goes when the replica goes.
	if err := two.Close(); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		n, err := one.Receivers(ctx, "t")
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatal("a closed replica still counts as a receiver")
		}
	}
}

// TestFailover has the primary become a replica of another server, at an address that leads there from now on.
func TestFailover(t *testing.T) {
	t.Parallel()
	one, two := redistest.New(t), redistest.New(t)
	p := newProxy(t, one.Addr(), false)
	r := open(t, "redis://"+p.addr())
	sub, err := r.Subscribe(t.Context(), "t")
	if err != nil {
		t.Fatal(err)
	}
	p.redirect(two.Addr())
	if got := command(t, one.Addr(), fmt.Sprintf("REPLICAOF 127.0.0.1 %d", two.Port())); got != "+OK" {
		t.Fatal(got)
	}
	if err := r.Append(t.Context(), "l", 0, nil, store.Bounds{}); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("got %v of a replica, want ErrUnavailable", err)
	}
	if m := next(t, sub); m.Topic != "" {
		t.Errorf("got %+v, want the empty message", m)
	}
	if err := r.Append(t.Context(), "l", 0, nil, store.Bounds{}); err != nil {
		t.Error(err)
	}
	if n, err := r.Receivers(t.Context(), "t"); n != 1 || err != nil {
		t.Errorf("got %d receivers, %v, want 1", n, err)
	}
}

// TestSilentConnection has the network swallow what the old connections carry, without closing them.
func TestSilentConnection(t *testing.T) {
	t.Parallel()
	srv := redistest.New(t)
	p := newProxy(t, srv.Addr(), false)
	r := open(t, "redis://"+p.addr())
	sub, err := r.Subscribe(t.Context(), "t")
	if err != nil {
		t.Fatal(err)
	}
	p.stall()
	if m := next(t, sub); m.Topic != "" {
		t.Fatalf("got %+v, want the empty message", m)
	}
	for { // the connection for calls is found out on its own
		_, err := r.Publish(t.Context(), "t", []byte("m"))
		if err == nil {
			break
		}
		if !errors.Is(err, store.ErrUnavailable) {
			t.Fatal(err)
		}
	}
	for string(next(t, sub).Data) != "m" {
	}
}

func next(t *testing.T, sub store.Subscription) store.Message {
	t.Helper()
	select {
	case m := <-sub.C():
		return m
	case <-time.After(10 * time.Second):
		t.Fatal("no message")
	}
	panic("unreachable")
}

// TestCloseIsBounded closes while the server answers nothing.
func TestCloseIsBounded(t *testing.T) {
	t.Parallel()
	srv := redistest.New(t)
	r := open(t, srv.URL())
	sub, err := r.Subscribe(t.Context(), "t")
	if err != nil {
		t.Fatal(err)
	}
	srv.Signal(t, syscall.SIGSTOP)
	defer srv.Signal(t, syscall.SIGCONT)
	start := time.Now()
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if took := time.Since(start); took > 4*time.Second {
		t.Errorf("Close took %v", took)
	}
	if _, ok := <-sub.C(); ok {
		t.Error("the subscription is not closed")
	}
}
