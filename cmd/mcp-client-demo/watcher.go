package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"strings"
	"sync"
	"syscall"
)

// A watcher carries the client's HTTP exchanges and remembers how the last one failed: by the time
// an error comes out of the SDK it tells of every layer on its way, and no longer what the server said.
type watcher struct {
	log *slog.Logger

	mu     sync.Mutex
	failed error
}

// RoundTrip implements [http.RoundTripper].
func (w *watcher) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := http.DefaultTransport.RoundTrip(req)
	failed := err
	if err != nil {
		w.log.Debug("exchange failed", "method", req.Method, "error", err)
		if errors.Is(err, syscall.ECONNREFUSED) {
			failed = errors.New("no server is listening there (connection refused)")
		}
	} else {
		w.log.Debug("exchange", "method", req.Method, "mcp", req.Header.Get("Mcp-Method"), "status", resp.Status)
		kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
		switch {
		case resp.StatusCode >= http.StatusBadRequest:
			failed = fmt.Errorf("HTTP %s%s", resp.Status, peek(resp, kind))
		case resp.StatusCode == http.StatusOK && kind != "application/json" && kind != "text/event-stream":
			failed = fmt.Errorf("this is no MCP endpoint: it answers with %q", kind)
		}
	}
	w.mu.Lock()
	w.failed = failed
	w.mu.Unlock()
	return resp, err
}

// peek returns what the body says about the failure, behind a colon, and leaves the body whole.
func peek(resp *http.Response, kind string) string {
	start, _ := io.ReadAll(io.LimitReader(resp.Body, 8<<10))
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(start), resp.Body), resp.Body}

	var text string
	switch kind {
	case "text/plain":
		text = strings.TrimSpace(string(start[:min(len(start), 200)]))
	case "application/json":
		var body struct {
			Error struct{ Message string }
		}
		if json.Unmarshal(start, &body) == nil {
			text = body.Error.Message
		}
	}
	if text == "" {
		return ""
	}
	return ": " + text
}

// explain picks what a person can act on: that time is up, how the last exchange failed, or else the SDK's error.
func (w *watcher) explain(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failed != nil {
		return w.failed
	}
	return err
}
