package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// A transcript keeps the last messages of a session, to be shown when a test fails.
type transcript struct {
	mu      sync.Mutex
	lines   []string
	dropped int
}

const (
	transcriptLines   = 100
	transcriptLineMax = 600
)

func (t *transcript) add(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.lines) == transcriptLines {
		t.lines = t.lines[1:]
		t.dropped++
	}
	t.lines = append(t.lines, shorten(fmt.Sprintf(format, args...)))
}

func (t *transcript) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var b strings.Builder
	if t.dropped > 0 {
		fmt.Fprintf(&b, "  … %d messages before\n", t.dropped)
	}
	for _, l := range t.lines {
		fmt.Fprintf(&b, "  %s\n", l)
	}
	return b.String()
}

// middleware writes down requests, with the arrow of their direction, and their results.
func (t *transcript) middleware(there, back string) mcp.Middleware {
	return func(next mcp.MethodHandler) mcp.MethodHandler {
		return func(ctx context.Context, method string, req mcp.Request) (mcp.Result, error) {
			t.add("%s %s %s", there, method, brief(req.GetParams()))
			res, err := next(ctx, method, req)
			switch {
			case err != nil:
				t.add("%s %s error: %v", back, method, err)
			case !strings.HasPrefix(method, "notifications/"):
				t.add("%s %s %s", back, method, brief(res))
			}
			return res, err
		}
	}
}

// brief is the message without what each one repeats from 2026-07-28 on.
func brief(v any) string {
	text := toJSON(v)
	var fields map[string]json.RawMessage
	var meta map[string]json.RawMessage
	if json.Unmarshal([]byte(text), &fields) != nil || json.Unmarshal(fields["_meta"], &meta) != nil {
		return text
	}
	for _, key := range []string{
		mcp.MetaKeyProtocolVersion, mcp.MetaKeyClientInfo, mcp.MetaKeyClientCapabilities, mcp.MetaKeyServerInfo,
	} {
		delete(meta, key)
	}
	delete(fields, "_meta")
	if len(meta) > 0 {
		fields["_meta"] = json.RawMessage(toJSON(meta))
	}
	return toJSON(fields)
}

func shorten(s string) string {
	if len(s) <= transcriptLineMax {
		return s
	}
	return fmt.Sprintf("%s… (%d bytes)", strings.ToValidUTF8(s[:transcriptLineMax], ""), len(s))
}

func toJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprintf("%+v", v)
	}
	return string(b)
}
