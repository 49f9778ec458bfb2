package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"sync"
	"syscall"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
)

// A watcher carries HTTP exchanges and remembers how the last one failed: an error that comes out of the SDK tells of
// every layer on its way, and no longer what the server said.
type watcher struct {
	base http.RoundTripper

	mu     sync.Mutex
	failed error
}

// RoundTrip implements [http.RoundTripper].
func (w *watcher) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := w.base.RoundTrip(req)
	if req.Method == http.MethodDelete {
		return resp, err // the end of a session: whatever becomes of it, it is over
	}
	failed := err
	if errors.Is(err, syscall.ECONNREFUSED) {
		failed = errors.New("no server is listening there (connection refused)")
	}
	if err == nil {
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

	text := ""
	switch kind {
	case "text/plain":
		text = strings.TrimSpace(string(start[:min(len(start), 200)]))
	case "application/json":
		var body struct{ Error struct{ Message string } }
		if json.Unmarshal(start, &body) == nil {
			text = body.Error.Message
		}
	}
	if text == "" {
		return ""
	}
	return ": " + text
}

// explain picks what a person can act on: that time is up, what the server says, how the last exchange failed, or else
// the SDK's error.
func (w *watcher) explain(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	var said *jsonrpc.Error
	if w.failed != nil && !errors.As(err, &said) {
		return w.failed
	}
	return err
}
