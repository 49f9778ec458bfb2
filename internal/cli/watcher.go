package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strings"
	"sync"
	"syscall"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"

	"github.com/sluice-mcp/sluice/internal/proxy"
)

// A watcher carries HTTP exchanges and remembers how the last one failed: an error that comes out of the SDK tells of
// every layer on its way, and no longer what the server said.
type watcher struct {
	base http.RoundTripper
	tap  tap

	mu     sync.Mutex
	failed error // an *exitError unless the server spoke MCP
	old    bool  // the server may know HTTP+SSE only
}

// RoundTrip implements [http.RoundTripper].
func (w *watcher) RoundTrip(req *http.Request) (*http.Response, error) {
	w.tap.sent(req)
	resp, err := w.base.RoundTrip(req)
	if req.Method == http.MethodDelete {
		return resp, err // the end of a session: whatever becomes of it, it is over
	}
	failed, old := failureOf(resp, err), err == nil && proxy.MayBeOld(resp)
	w.mu.Lock()
	w.failed, w.old = failed, old
	w.mu.Unlock()
	if err == nil {
		w.tap.open(resp)
	}
	return resp, err
}

// mayBeOld reports whether the last answer may be that of a server which knows HTTP+SSE only.
func (w *watcher) mayBeOld() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.old
}

// failureOf says in the words of a person how an exchange failed, nil if it did not.
func failureOf(resp *http.Response, err error) error {
	unreachable := func(format string, args ...any) error {
		return &exitError{exitUnreachable, fmt.Errorf(format, args...)}
	}
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return unreachable("no server is listening there (connection refused)")
	case err != nil:
		return unreachable("%w", err)
	}
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	switch {
	case resp.StatusCode >= http.StatusBadRequest:
		start := proxy.Peek(resp)
		var body struct{ Error struct{ Message string } }
		if json.Unmarshal(start, &body) == nil && body.Error.Message != "" {
			if resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden {
				return unreachable("HTTP %s: %s", resp.Status, body.Error.Message)
			}
			return errors.New(body.Error.Message)
		}
		text := ""
		if kind == "text/plain" {
			text = ": " + strings.TrimSpace(string(start[:min(len(start), 200)]))
		}
		return unreachable("HTTP %s%s", resp.Status, text)
	case resp.StatusCode == http.StatusOK && kind != "application/json" && kind != "text/event-stream":
		return unreachable("this is no MCP endpoint: it answers with %q", kind)
	}
	return nil
}

// explain picks what a person can act on: that time is up, how the last exchange failed, what the server says, or else
// the SDK's error.
func (w *watcher) explain(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failed != nil {
		return w.failed
	}
	if said, ok := errors.AsType[*jsonrpc.Error](err); ok && said.Message != "" {
		return errors.New(said.Message)
	}
	return err
}
