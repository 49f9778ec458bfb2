//go:build unix

package serve

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice/internal/redistest"
)

// command has the server run commands that answer with OK.
func command(t *testing.T, addr string, lines ...string) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, line := range lines {
		fmt.Fprintf(conn, "%s\r\n", line)
		answer := make([]byte, 5)
		if _, err := io.ReadFull(conn, answer); err != nil || string(answer) != "+OK\r\n" {
			t.Fatalf("%s: %s, %v", line, answer, err)
		}
	}
}

// TestStoreSettings starts with stores that no waiting will make usable: the process says which setting is wrong, and ends with 2.
func TestStoreSettings(t *testing.T) {
	t.Parallel()
	locked := redistest.New(t, "--requirepass", "sesame").Addr()
	noScripts := redistest.New(t).Addr()
	command(t, noScripts, "ACL SETUSER default -@scripting")
	for store, says := range map[string]string{
		"redis://127.0.0.1:1/x":            `"x" is no number of a database`,
		"redis://127.0.0.1:1?ssl=true":     `unknown parameter "ssl"`,
		"redis://127.0.0.1:1?prefx=x":      `unknown parameter "prefx"`,
		"redis://:hunter/2@127.0.0.1":      "percent-encoded",
		"memory:8":                         "nothing behind it",
		"redis://" + locked:                "NOAUTH",
		"redis://:hunter2@" + locked + "/": "WRONGPASS",
		"redis://" + noScripts + "/":       "NOPERM",
		"redis://" + redistest.New(t, "--cluster-enabled", "yes").Addr(): "Redis Cluster",
	} {
		var stdout, stderr bytes.Buffer
		server := mcp.NewServer(&mcp.Implementation{Name: "test", Version: "1"}, nil)
		code := run(server, []string{"test", "--port=0", "--store-url=" + store}, &stdout, &stderr)
		said := stderr.String()
		if code != exitUsage || !strings.Contains(said, "--store-url (MCP_STORE_URL): ") || !strings.Contains(said, says) || strings.Count(said, "\n") != 1 {
			t.Errorf("%s: code %d, %q; want %d, %q", store, code, said, exitUsage, says)
		}
		if strings.Contains(said, "hunter") {
			t.Errorf("%s: the password is in %q", store, said)
		}
	}
}

// A record is a log that can be read while it is written.
type record struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (r *record) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.buf.Write(b)
}

func (r *record) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.buf.String()
}

func startWithStore(t *testing.T, store string) (*App, *record) {
	t.Helper()
	server := mcp.NewServer(&mcp.Implementation{Name: "test", Version: "1"}, nil)
	mcp.AddTool(server, &mcp.Tool{Name: "count"}, func(ctx context.Context, req *mcp.CallToolRequest, _ struct{}) (*mcp.CallToolResult, any, error) {
		for i := range 20 {
			select {
			case <-time.After(50 * time.Millisecond):
			case <-ctx.Done():
				return nil, nil, context.Cause(ctx)
			}
			_ = req.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{ProgressToken: req.Params.GetProgressToken(), Progress: float64(1 + i)})
		}
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: "counted"}}}, nil, nil
	})
	app, err := New(server, Config{StoreURL: store, ShutdownGrace: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	logged := new(record)
	app.log = slog.New(slog.NewTextHandler(logged, nil))
	if err := app.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = app.Stop() })
	return app, logged
}

// TestStoreRefuses has a store that answers, and refuses: the process is not ready, and says why.
func TestStoreRefuses(t *testing.T) {
	t.Parallel()
	addr := redistest.New(t).Addr()
	app, _ := startWithStore(t, "redis://"+addr+"/")
	readyz := func() (int, string) {
		resp, err := http.Get("http://" + app.Addr().String() + "/readyz")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(text)
	}
	await := func(status int, says string) {
		t.Helper()
		for end := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
			got, text := readyz()
			if got == status && strings.Contains(text, says) {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("/readyz: %d %s, want %d %s", got, text, status, says)
			}
		}
	}
	await(http.StatusOK, "ready")
	for _, tt := range []struct{ ill, well, says string }{
		{"CONFIG SET min-replicas-to-write 1", "CONFIG SET min-replicas-to-write 0", "NOREPLICAS"},
		{"CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0", "OOM"},
		{"REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE", "READONLY"},
		{"ACL SETUSER default -eval -evalsha", "ACL SETUSER default +@all", "NOPERM"},
		{"ACL SETUSER default resetchannels", "ACL SETUSER default allchannels", "NOPERM"},
	} {
		command(t, addr, tt.ill)
		await(http.StatusServiceUnavailable, tt.says)
		command(t, addr, tt.well)
		await(http.StatusOK, "ready")
	}
}

func TestEvictionIsWarnedOf(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		policy string
		warned bool
	}{{"noeviction", false}, {"allkeys-lru", true}, {"volatile-lfu", true}} {
		t.Run(tt.policy, func(t *testing.T) {
			t.Parallel()
			_, logged := startWithStore(t, "redis://"+redistest.New(t, "--maxmemory", "100mb", "--maxmemory-policy", tt.policy).Addr())
			warned := func() bool { return strings.Contains(logged.String(), "policy="+tt.policy) }
			for end := time.Now().Add(10 * time.Second); tt.warned && !warned() && time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
			}
			if !tt.warned {
				time.Sleep(200 * time.Millisecond)
			}
			if warned() != tt.warned || strings.Count(logged.String(), "noeviction") > 1 {
				t.Errorf("warned: %v, want %v:\n%s", warned(), tt.warned, logged)
			}
		})
	}
}

// A store that comes later is asked then.
func TestEvictionIsWarnedOfLater(t *testing.T) {
	t.Parallel()
	late := redistest.NewStopped(t, "--maxmemory-policy", "allkeys-random")
	_, logged := startWithStore(t, late.URL())
	if err := late.Start(); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(20 * time.Second); !strings.Contains(logged.String(), "policy=allkeys-random"); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("no warning:\n%s", logged)
		}
	}
}

// TestCallOutlivesItsStore has the store lose or refuse what a call says while it runs. The client hears all of it, and the log says what is true,
// and nobody's session ID.
func TestCallOutlivesItsStore(t *testing.T) {
	t.Parallel()
	for name, lines := range map[string][]string{
		"FLUSHALL":        {"FLUSHALL"},
		"full":            {"CONFIG SET maxmemory 1"},
		"no replicas":     {"CONFIG SET min-replicas-to-write 1"},
		"a replica":       {"REPLICAOF 127.0.0.1 1"},
		"no scripts":      {"ACL SETUSER default -eval -evalsha"},
		"no keys":         {"ACL SETUSER default resetkeys"},
		"full, and empty": {"CONFIG SET maxmemory 1", "FLUSHALL"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			addr := redistest.New(t).Addr()
			app, logged := startWithStore(t, "redis://"+addr)
			progress := make(chan float64, 100)
			client := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, &mcp.ClientOptions{
				ProgressNotificationHandler: func(_ context.Context, req *mcp.ProgressNotificationClientRequest) { progress <- req.Params.Progress },
			})
			transport := &mcp.StreamableClientTransport{Endpoint: app.URL(), DisableStandaloneSSE: true}
			session, err := client.Connect(t.Context(), transport, &mcp.ClientSessionOptions{ProtocolVersion: "2025-11-25"})
			if err != nil {
				t.Fatal(err)
			}
			defer session.Close()
			go func() {
				<-progress
				command(t, addr, lines...)
			}()
			ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
			defer cancel()
			params := &mcp.CallToolParams{Name: "count"}
			params.SetProgressToken("p")
			res, err := session.CallTool(ctx, params)
			if err != nil || res.Content[0].(*mcp.TextContent).Text != "counted" {
				t.Errorf("got %v, %v", res, err)
			}
			if log := logged.String(); strings.Contains(log, "taken over") || strings.Contains(log, session.ID()) {
				t.Errorf("the log: %s", log)
			}
		})
	}
}
