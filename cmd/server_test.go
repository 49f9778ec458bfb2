package cmd_test

import (
	"bufio"
	"context"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice/internal/schematest"
)

// eras are a revision with sessions and the first without.
var eras = []string{"2025-11-25", "2026-07-28"}

func connect(t *testing.T, url, revision string, opts *mcp.ClientOptions) *mcp.ClientSession {
	t.Helper()
	client := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "v1"}, opts)
	watched := &http.Client{Transport: schematest.Transport(t, http.DefaultTransport, schematest.Server)}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	session, err := client.Connect(ctx, &mcp.StreamableClientTransport{Endpoint: url, HTTPClient: watched}, &mcp.ClientSessionOptions{ProtocolVersion: revision})
	if err != nil {
		t.Fatal(err)
	}
	if got := session.InitializeResult().ProtocolVersion; got != revision {
		t.Fatalf("negotiated %s, want %s", got, revision)
	}
	// Closing waits for the server to answer, and some tests end it.
	t.Cleanup(func() { go session.Close() })
	return session
}

// A running call is a countdown that has begun.
type runningCall struct {
	done chan struct{} // closed when the call has ended
	res  *mcp.CallToolResult
	err  error
}

func countdown(t *testing.T, url, revision string, from, delayMS int) *runningCall {
	t.Helper()
	begun := make(chan struct{}, from)
	session := connect(t, url, revision, &mcp.ClientOptions{
		ProgressNotificationHandler: func(context.Context, *mcp.ProgressNotificationClientRequest) { begun <- struct{}{} },
	})
	params := &mcp.CallToolParams{Name: "countdown", Arguments: map[string]int{"from": from, "delay_ms": delayMS}}
	params.SetProgressToken("steps")
	c := &runningCall{done: make(chan struct{})}
	go func() {
		defer close(c.done)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		c.res, c.err = session.CallTool(ctx, params)
	}()
	select {
	case <-begun:
	case <-c.done:
		t.Fatalf("the call ended before its first step: %+v, %v", c.res, c.err)
	case <-time.After(patience):
		t.Fatal("no first step")
	}
	return c
}

func TestAnnouncement(t *testing.T) {
	t.Parallel()
	p := serveHTTP(t, nil, serverBinary)
	for key, want := range map[string]string{
		"address":   strings.TrimSuffix(strings.TrimPrefix(p.url, "http://"), "/mcp"),
		"revisions": "2026-07-28, 2025-11-25, 2025-06-18, 2025-03-26",
		"connect":   "claude mcp add --transport http mcp-server-demo " + p.url,
	} {
		if got := p.logged(key); got != want {
			t.Errorf("%s: %q, want %q", key, got, want)
		}
	}
}

// One dependency that looks methods up by name makes the linker keep them all, and nobody sees it in review.
func TestBinaryStaysSmall(t *testing.T) {
	t.Parallel()
	info, err := os.Stat(serverBinary)
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() > 20_000_000 {
		t.Errorf("the stripped server has %d bytes, more than 20 MB", info.Size())
	}
}

func TestProbes(t *testing.T) {
	t.Parallel()
	p := serveHTTP(t, nil, serverBinary)
	for path, want := range map[string]string{"/healthz": "alive\n", "/readyz": "ready\n"} {
		if status, body := p.get(path); status != http.StatusOK || body != want {
			t.Errorf("%s: %d %q", path, status, body)
		}
	}
	check := start(t, []string{"MCP_SERVER_HOST=0.0.0.0"}, serverBinary, "--healthcheck", "--port", p.port())
	if code := check.wait(patience); code != 0 {
		t.Errorf("health check: exit code %d", code)
	}
}

func TestAllowedHosts(t *testing.T) {
	t.Parallel()
	p := serveHTTP(t, []string{"MCP_ALLOWED_HOSTS=mcp.example.com,other.example.com:8443"}, serverBinary)
	for host, allowed := range map[string]bool{
		"mcp.example.com": true, "MCP.example.com": true, "mcp.example.com:8443": true, "localhost": true, "other.example.com:8443": true,
		"other.example.com": false, "other.example.com:443": false, "example.com": false, "mcp.example.com.evil.example": false,
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.url, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = host
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if allowed == (resp.StatusCode == http.StatusForbidden) {
			t.Errorf("%s: HTTP %d", host, resp.StatusCode)
		}
	}
}

func (p *process) port() string {
	_, port, err := net.SplitHostPort(p.logged("address"))
	if err != nil {
		p.t.Fatal(err)
	}
	return port
}

func TestH2C(t *testing.T) {
	t.Parallel()
	p := serveHTTP(t, nil, serverBinary)
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: protocols}
	defer transport.CloseIdleConnections()

	body := `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}`
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.ProtoMajor != 2 || resp.StatusCode != http.StatusOK || resp.Header.Get("Mcp-Session-Id") == "" {
		t.Errorf("%s %s, session %q", resp.Proto, resp.Status, resp.Header.Get("Mcp-Session-Id"))
	}
}

func TestTerminationFinishesCalls(t *testing.T) {
	t.Parallel()
	for _, revision := range eras {
		for _, sig := range []os.Signal{syscall.SIGTERM, syscall.SIGINT} {
			t.Run(revision+"/"+sig.String(), func(t *testing.T) {
				t.Parallel()
				p := serveHTTP(t, nil, serverBinary)
				call := countdown(t, p.url, revision, 20, 50)
				p.signal(sig)
				p.until("a probe that says draining", func() bool {
					status, body := p.get("/readyz")
					return status == http.StatusServiceUnavailable && strings.Contains(body, "draining")
				})
				<-call.done
				if call.err != nil || call.res.IsError {
					t.Errorf("the call ended in %+v, %v", call.res, call.err)
				}
				if code := p.wait(patience); code != 0 {
					t.Errorf("exit code %d, want 0", code)
				}
			})
		}
	}
}

// What nobody would ever end must not hold the process up.
func TestTerminationEndsStreams(t *testing.T) {
	t.Parallel()
	p := serveHTTP(t, nil, serverBinary)

	// The standalone stream of a session, which the client opens by itself,
	connect(t, p.url, "2025-11-25", nil)
	// a subscription to what changes, which takes its place,
	connect(t, p.url, "2026-07-28", &mcp.ClientOptions{
		ToolListChangedHandler: func(context.Context, *mcp.ToolListChangedRequest) {},
	})
	// and a connection on which nothing is ever sent.
	conn, err := net.Dial("tcp", p.logged("address"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()

	begin := time.Now()
	p.signal(syscall.SIGTERM)
	if code := p.wait(patience); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	// Neither the grace period nor the time that net/http gives a silent connection: there was nothing to wait for.
	if took := time.Since(begin); took > 4*time.Second {
		t.Errorf("took %v", took)
	}
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(conn).ReadByte(); err == nil {
		t.Error("the silent connection got an answer")
	}
}

func TestTerminationIsBounded(t *testing.T) {
	t.Parallel()
	for _, revision := range eras {
		t.Run(revision, func(t *testing.T) {
			t.Parallel()
			// A tenth of it is for telling the client, which a busy machine needs.
			p := serveHTTP(t, []string{"MCP_SHUTDOWN_GRACE=5s"}, serverBinary)
			call := countdown(t, p.url, revision, 10_000, 100)
			p.signal(syscall.SIGTERM)
			if code := p.wait(patience); code != 1 {
				t.Errorf("exit code %d, want 1: a call was cut off", code)
			}
			if !strings.Contains(p.stderr.String(), "drain:") {
				t.Error("nothing says that a call was cut off")
			}
			if revision < "2026-07-28" {
				return // a session's stream just ends yet, and its client goes on looking for the rest
			}
			<-call.done
			if call.err == nil && call.res.IsError {
				return // the tool itself noticed
			}
			if call.err == nil || !strings.Contains(call.err.Error(), "shut down") {
				t.Errorf("the call ended in %+v, %v; want an error that says why", call.res, call.err)
			}
		})
	}
}

func TestSecondSignalEndsAtOnce(t *testing.T) {
	t.Parallel()
	p := serveHTTP(t, []string{"MCP_SHUTDOWN_GRACE=1h"}, serverBinary)
	countdown(t, p.url, "2025-11-25", 10_000, 100)
	p.signal(syscall.SIGTERM)
	p.until("the line that says it stops", func() bool { return p.logged("grace") != "" })
	p.signal(syscall.SIGTERM)
	if code := p.wait(patience); code == 0 {
		t.Error("exit code 0, want another")
	}
}

func TestPanickingTool(t *testing.T) {
	t.Parallel()
	for _, revision := range eras {
		t.Run(revision, func(t *testing.T) {
			t.Parallel()
			p := serveHTTP(t, []string{"CMD_TEST_CHILD=1"}, os.Args[0])
			session := connect(t, p.url, revision, nil)
			res, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "panic"})
			if err == nil && !res.IsError {
				t.Errorf("the caller got %+v, want an error", res)
			}
			if _, err := session.ListTools(t.Context(), nil); err != nil {
				t.Errorf("afterwards: %v", err)
			}
			if n := strings.Count(p.stderr.String(), "a tool gave up"); n != 1 {
				t.Errorf("%d lines about it in the log, want 1", n)
			}
		})
	}
}
