package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice/tasks"
)

// connectTimeout bounds the handshake, closeTimeout the end of a session.
const (
	connectTimeout = 30 * time.Second
	closeTimeout   = 10 * time.Second
)

// Connect gives a client session that speaks exactly this revision; it is
// closed at the end of the test, and if the test fails, what was said is shown.
func (e *endpoint) Connect(t testing.TB, r Revision, opts ...ClientOption) *mcp.ClientSession {
	t.Helper()
	session, err := e.connect(t, r, newClientConfig(opts))
	if err != nil {
		t.Fatalf("e2e: connecting to %s with revision %s: %v", e.address(r), r, err)
	}
	return session
}

func (e *endpoint) connect(t testing.TB, r Revision, cfg *clientConfig) (*mcp.ClientSession, error) {
	httpClient := &http.Client{Transport: &headerTransport{header: cfg.header, next: taskWatch{newTransport()}}}
	transport, err := e.transport(r, httpClient)
	if err != nil {
		return nil, err
	}
	client := mcp.NewClient(&mcp.Implementation{Name: "e2e", Version: "v1.0.0"}, &cfg.opts)
	client.AddRoots(cfg.roots...)
	if streamable, ok := transport.(*mcp.StreamableClientTransport); ok {
		if err := tasks.Enable(client, streamable); err != nil {
			return nil, err
		}
	}
	said := new(transcript)
	client.AddReceivingMiddleware(said.middleware("←", "→"))
	client.AddSendingMiddleware(said.middleware("→", "←"), askFor(cfg, r))

	// The stream of the old transport lives as long as this context.
	ctx, cancel := context.WithCancelCause(context.Background())
	t.Cleanup(func() {
		httpClient.CloseIdleConnections()
		cancel(nil)
	})
	timer := time.AfterFunc(connectTimeout, func() { cancel(errors.New("no answer in time")) })
	session, err := client.Connect(ctx, transport, &mcp.ClientSessionOptions{ProtocolVersion: r.version()})
	if !timer.Stop() && err != nil {
		err = errors.Join(err, context.Cause(ctx))
	}
	if err != nil {
		return nil, fmt.Errorf("%w\n%s", err, said)
	}
	t.Cleanup(func() {
		t.Helper()
		if t.Failed() {
			t.Logf("session of revision %s with %s:\n%s", r, e.address(r), said)
		}
		closed := make(chan struct{})
		go func() {
			_ = session.Close() // the server may be gone: no concern of a session that ends
			close(closed)
		}()
		select {
		case <-closed:
		case <-time.After(closeTimeout):
			t.Logf("e2e: the session with %s did not close within %v", e.address(r), closeTimeout)
		}
	})
	if got := session.InitializeResult().ProtocolVersion; got != r.version() {
		return nil, fmt.Errorf("the server chose revision %s\n%s", got, said)
	}
	if cfg.logLevel != "" && r.version() < "2026-07-28" {
		err = session.SetLoggingLevel(ctx, &mcp.SetLoggingLevelParams{Level: cfg.logLevel})
	}
	return session, err
}

// address is what a revision is spoken to.
func (e *endpoint) address(r Revision) string {
	switch {
	case r.stdio():
		return "a process of its own"
	case r.version() == "2024-11-05":
		return e.base + e.ssePath
	}
	return e.URL()
}

func (e *endpoint) transport(r Revision, client *http.Client) (mcp.Transport, error) {
	switch {
	case !slices.Contains(mcp.SupportedProtocolVersions(), r.version()):
		return nil, errors.New("no such revision")
	case r.stdio():
		if e.stdio == nil {
			return nil, errors.New("not known to speak stdio: see e2e.Stdio")
		}
		cmd, err := e.stdio()
		return &mcp.CommandTransport{Command: cmd}, err
	case r.version() == "2024-11-05":
		if e.ssePath == "" {
			return nil, errors.New("not known to speak HTTP+SSE: see e2e.SSE")
		}
		return &mcp.SSEClientTransport{Endpoint: e.base + e.ssePath, HTTPClient: client}, nil
	default:
		return &mcp.StreamableClientTransport{Endpoint: e.URL(), HTTPClient: client}, nil
	}
}

// askFor adds to tool calls what makes the server report progress and, where each request says it, logs.
func askFor(cfg *clientConfig, r Revision) mcp.Middleware {
	var tokens atomic.Int64
	return func(next mcp.MethodHandler) mcp.MethodHandler {
		return func(ctx context.Context, method string, req mcp.Request) (mcp.Result, error) {
			if method == "tools/call" {
				params := req.GetParams().(mcp.RequestParams)
				if cfg.progress && params.GetProgressToken() == nil {
					params.SetProgressToken(fmt.Sprintf("e2e-%d", tokens.Add(1)))
				}
				if cfg.logLevel != "" && r.version() >= "2026-07-28" {
					meta := params.GetMeta()
					if meta == nil {
						meta = map[string]any{}
						params.SetMeta(meta)
					}
					meta[mcp.MetaKeyLogLevel] = string(cfg.logLevel)
				}
			}
			return next(ctx, method, req)
		}
	}
}

// EachRevision runs f as one parallel subtest, with a session of its own, for every
// revision and transport that the endpoint speaks.
func EachRevision(t *testing.T, e Endpoint, f func(*testing.T, *mcp.ClientSession), opts ...ClientOption) {
	t.Helper()
	// The group waits for its parallel members, so that what follows in the test comes after them.
	t.Run("revision", func(t *testing.T) {
		for _, r := range e.Revisions() {
			t.Run(string(r), func(t *testing.T) {
				t.Parallel()
				f(t, e.Connect(t, r, opts...))
			})
		}
	})
}

// newTransport gives a session connections of its own.
func newTransport() *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.Proxy = nil // what is tested is on this machine, or was named by its URL
	return t
}

type headerTransport struct {
	header http.Header
	next   taskWatch
}

func (t *headerTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	if len(t.header) > 0 {
		req = req.Clone(req.Context())
		for name, values := range t.header {
			req.Header[name] = append(req.Header[name], values...)
		}
	}
	return t.next.RoundTrip(req)
}

// CloseIdleConnections is what http.Client looks for.
func (t *headerTransport) CloseIdleConnections() { t.next.CloseIdleConnections() }
