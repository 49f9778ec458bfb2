package tasks_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice"
	"github.com/sluice-mcp/sluice/tasks"
)

// breaking breaks the first of a client's calls of tools, each in another way.
type breaking struct {
	ways []way
	n    atomic.Int32 // calls sent
	said atomic.Int32 // cancellations
}

func (b *breaking) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body == nil {
		return http.DefaultTransport.RoundTrip(req)
	}
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	req.Body = io.NopCloser(bytes.NewReader(body))
	if bytes.Contains(body, []byte(`"notifications/cancelled"`)) {
		b.said.Add(1)
	}
	if bytes.Contains(body, []byte(`"tools/call"`)) {
		if n := int(b.n.Add(1)); n <= len(b.ways) {
			return b.ways[n-1](req)
		}
	}
	return http.DefaultTransport.RoundTrip(req)
}

// A way is how a request fares.
type way func(*http.Request) (*http.Response, error)

var errCut = errors.New("cut")

// unsent loses a request on its way.
func unsent(*http.Request) (*http.Response, error) { return nil, errCut }

// cutAfter loses the connection some time after the request was sent.
func cutAfter(d time.Duration) way {
	return func(req *http.Request) (*http.Response, error) {
		ctx, cancel := context.WithTimeout(req.Context(), d)
		defer cancel()
		resp, err := http.DefaultTransport.RoundTrip(req.Clone(ctx))
		if err == nil {
			_ = resp.Body.Close()
		}
		return nil, errCut
	}
}

// cutBody loses the connection after some bytes of the body.
func cutBody(n int64) way {
	return func(req *http.Request) (*http.Response, error) {
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err == nil {
			resp.Body = struct {
				io.Reader
				io.Closer
			}{io.MultiReader(io.LimitReader(resp.Body, n), failing{}), resp.Body}
		}
		return resp, err
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// refused is what a proxy says whose server is gone.
func refused(status int) way {
	return func(req *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("away")), Request: req}, nil
	}
}

// A call that loses its connection is sent again, and executed once.
func TestCallIsNotInDoubt(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"2026-07-28", "2025-11-25", "2025-06-18"} {
		for name, ways := range map[string][]way{
			"never sent":             {unsent, unsent},
			"cut at once":            {cutAfter(20 * time.Millisecond)},
			"cut later":              {cutAfter(200 * time.Millisecond)},
			"cut again":              {cutAfter(20 * time.Millisecond), cutAfter(50 * time.Millisecond), unsent},
			"refused":                {refused(502), refused(503), refused(504)},
			"cut before the headers": {cutBody(0)},
			"cut in the body":        {cutBody(20)},
			"cut later in the body":  {cutBody(150), cutBody(100)},
		} {
			for _, tool := range []string{"silent", "talks"} {
				t.Run(version+"/"+name+"/"+tool, func(t *testing.T) {
					t.Parallel()
					var ran atomic.Int32
					cs, _ := connectBreaking(t, version, &ran, ways, 400*time.Millisecond)
					result, err := tasks.Call(t.Context(), cs, &mcp.CallToolParams{Name: tool, Meta: mcp.Meta{"progressToken": "p"}}, nil)
					if err != nil {
						t.Fatal(err)
					}
					if got := result.Content[0].(*mcp.TextContent).Text; got != "time 1" || ran.Load() != 1 {
						t.Errorf("the result is %q after %d executions", got, ran.Load())
					}
				})
			}
		}
	}
}

// A server that ends the stream of a call again and again, without a word, is not asked as fast as it can answer, nor for ever. The
// parameters stay the caller's own: with them he may make another call.
func TestCallWhoseStreamsAreEmpty(t *testing.T) {
	t.Parallel()
	empty := func(req *http.Request) (*http.Response, error) {
		head := http.Header{"Content-Type": {"text/event-stream"}}
		return &http.Response{StatusCode: http.StatusOK, Header: head, Body: io.NopCloser(strings.NewReader(":\n\n")), Request: req}, nil
	}
	var ran, sent atomic.Int32
	breaks := func(req *http.Request) (*http.Response, error) {
		sent.Add(1)
		return empty(req)
	}
	cs, _ := connectBreaking(t, "2026-07-28", &ran, slices.Repeat([]way{breaks}, 1000), 0)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	params := &mcp.CallToolParams{Name: "silent"}
	if _, err := tasks.Call(ctx, cs, params, nil); err == nil {
		t.Error("no error")
	}
	if ctx.Err() != nil || sent.Load() > 50 {
		t.Errorf("sent %d times", sent.Load())
	}
	if len(params.Meta) != 0 {
		t.Errorf("the parameters have become %v", params.Meta)
	}
}

// Who gives a call up says so: a server goes on with one that has a key, for a client that may come back.
func TestCallThatIsGivenUp(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"2026-07-28", "2025-11-25"} {
		for _, tool := range []string{"silent", "talks"} {
			t.Run(version+"/"+tool, func(t *testing.T) {
				t.Parallel()
				var ran atomic.Int32
				cs, stopped := connectBreaking(t, version, &ran, nil, time.Minute)
				ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
				defer cancel()
				if _, err := tasks.Call(ctx, cs, &mcp.CallToolParams{Name: tool, Meta: mcp.Meta{"progressToken": "p"}}, nil); err == nil {
					t.Error("no error")
				}
				select {
				case <-stopped:
				case <-time.After(20 * time.Second):
					t.Error("the tool goes on")
				}
			})
		}
	}
}

// connectBreaking returns a client whose connection breaks. stopped is closed when a tool was cancelled.
func connectBreaking(t *testing.T, version string, ran *atomic.Int32, ways []way, takes time.Duration) (cs *mcp.ClientSession, stopped chan struct{}) {
	t.Helper()
	stopped = make(chan struct{})
	stop := sync.OnceFunc(func() { close(stopped) })
	server := mcp.NewServer(&mcp.Implementation{Name: "fixture", Version: "v1"}, nil)
	for _, name := range []string{"silent", "talks"} {
		sluice.AddTool(server, &mcp.Tool{Name: name}, func(ctx context.Context, req *mcp.CallToolRequest, _ struct{}) (*mcp.CallToolResult, any, error) {
			n := ran.Add(1)
			if name == "talks" {
				_ = req.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{ProgressToken: req.Params.GetProgressToken(), Progress: 1, Message: "begun"})
			}
			select {
			case <-time.After(takes):
			case <-ctx.Done():
				stop()
			}
			return text(fmt.Sprintf("time %d", n)), nil, nil
		})
	}
	h := sluice.NewHandler(func(*http.Request) *mcp.Server { return server }, nil)
	srv := httptest.NewServer(h)
	t.Cleanup(func() {
		srv.CloseClientConnections()
		srv.Close()
		_ = h.Close()
	})
	client := mcp.NewClient(&mcp.Implementation{Name: "t", Version: "v1"}, &mcp.ClientOptions{})
	transport := &mcp.StreamableClientTransport{Endpoint: srv.URL, HTTPClient: &http.Client{Transport: &breaking{ways: ways}}}
	if err := tasks.Enable(client, transport); err != nil {
		t.Fatal(err)
	}
	cs, err := client.Connect(t.Context(), transport, &mcp.ClientSessionOptions{ProtocolVersion: version})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cs.Close() })
	return cs, stopped
}
