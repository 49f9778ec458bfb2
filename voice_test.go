package sluice

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// A handler may keep its session and speak long after its call, when the session has rested here: what it says reaches the
// client at whichever replica it listens, and what it asks is answered.
func TestHandlersKeepTheirVoice(t *testing.T) {
	t.Parallel()
	for _, replicas := range []int{1, 2} {
		for _, version := range sessionRevisions {
			t.Run(fmt.Sprint(replicas, " ", version), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) { keepVoice(t, replicas, version) })
			})
		}
	}
}

func keepVoice(t *testing.T, replicas int, version string) {
	cl := newCluster(t, replicas, Options{})
	here, there := cl.sites[0], cl.sites[replicas-1]
	var held *mcp.ServerSession
	here.server.AddTool(&mcp.Tool{Name: "keep", InputSchema: json.RawMessage(`{"type":"object"}`)}, func(_ context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		held = req.Session
		return textResult("kept"), nil
	})
	spoken := 0 // by the server's own middleware
	here.server.AddSendingMiddleware(func(next mcp.MethodHandler) mcp.MethodHandler {
		return func(ctx context.Context, method string, req mcp.Request) (mcp.Result, error) {
			if method == "notifications/message" {
				spoken++
			}
			return next(ctx, method, req)
		}
	})
	c, other := newClient(version), newClient(version)
	for _, c := range []*client{c, other} {
		c.open(t, here, here)
		c.post(t, here, setLevel("info")).wantStatus(t, "level", http.StatusOK)
	}
	c.post(t, here, tool("1", "keep", `{}`)).want(t, "kept")

	if err := held.Log(t.Context(), &mcp.LoggingMessageParams{Level: "info", Data: "to nobody"}); err == nil {
		t.Error("nobody listens, and the handler is not told")
	}
	time.Sleep(time.Minute) // it rests
	stream, others := c.get(t, there, ""), other.get(t, there, "")
	stream.wantStatus(t, "GET", http.StatusOK)
	others.wantStatus(t, "GET", http.StatusOK)
	time.Sleep(time.Minute) // and again, where nobody listens

	for _, word := range []string{"one", "two"} {
		if err := held.Log(context.Background(), &mcp.LoggingMessageParams{Level: "info", Data: word}); err != nil {
			t.Fatalf("saying %s: %v", word, err)
		}
		if m := stream.message(t); m.Method != "notifications/message" || !strings.Contains(string(m.Params), word) {
			t.Fatalf("said %s, heard %s %s", word, m.Method, m.Params)
		}
		time.Sleep(time.Minute)
	}
	answers := make(chan string)
	go func() {
		res, err := held.Elicit(context.Background(), &mcp.ElicitParams{Message: "?", RequestedSchema: json.RawMessage(`{"type":"object","properties":{"x":{"type":"string"}}}`)})
		if err != nil {
			answers <- err.Error()
			return
		}
		answers <- fmt.Sprint(res.Content["x"])
	}()
	q := stream.message(t)
	time.Sleep(2 * time.Minute) // whoever asks does not rest
	c.post(t, there, fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":{"action":"accept","content":{"x":"yes"}}}`, q.ID)).wantStatus(t, "answer", http.StatusAccepted)
	if got := <-answers; got != "yes" {
		t.Errorf("asked, and got %q", got)
	}

	c.do(t.Context(), there, http.MethodDelete, "", "") //nolint:errcheck,bodyclose // what follows looks at the outcome
	time.Sleep(time.Second)
	if err := held.NotifyProgress(context.Background(), &mcp.ProgressNotificationParams{ProgressToken: "1", Progress: 1}); err == nil {
		t.Error("the session has ended, and its handler may speak")
	}
	if more := stream.rest(t); len(more) > 0 {
		t.Errorf("after the end: %v", more)
	}
	other.do(t.Context(), there, http.MethodDelete, "", "") //nolint:errcheck,bodyclose // as above
	if more := others.rest(t); len(more) > 0 {
		t.Errorf("another client heard %v", more)
	}
	if spoken < 3 {
		t.Errorf("the server's middleware saw %d messages", spoken)
	}
}

// A server that never falls silent does not keep a session whose client has gone.
func TestVoiceKeepsNoSession(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, 1, Options{SessionTimeout: 10 * time.Minute})
		at := cl.sites[0]
		var held *mcp.ServerSession
		at.server.AddTool(&mcp.Tool{Name: "keep", InputSchema: json.RawMessage(`{"type":"object"}`)}, func(_ context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			held = req.Session
			return textResult("kept"), nil
		})
		c := newClient("2025-11-25")
		c.open(t, at, at)
		c.post(t, at, tool("1", "keep", `{}`)).want(t, "kept")
		for range 30 {
			time.Sleep(time.Minute)
			_ = held.NotifyProgress(context.Background(), &mcp.ProgressNotificationParams{ProgressToken: "1", Progress: 1}) // nobody listens
		}
		c.post(t, at, tool("2", "fast", `{}`)).wantStatus(t, "after the timeout", http.StatusNotFound)
	})
}
