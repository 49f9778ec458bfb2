package proxy_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice/internal/proxy"
)

// A scripted server answers initialize, with a session, and notifications; the test does the rest.
type scripted struct {
	call func(w http.ResponseWriter, r *http.Request, id json.RawMessage, body string) // requests
	get  http.HandlerFunc
}

func (s scripted) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.Method {
	case http.MethodGet:
		if s.get == nil {
			w.WriteHeader(http.StatusMethodNotAllowed)
			return
		}
		s.get(w, r)
	case http.MethodPost:
		body, _ := io.ReadAll(r.Body)
		var m struct {
			ID     json.RawMessage
			Method string
		}
		_ = json.Unmarshal(body, &m)
		switch {
		case m.ID == nil || m.Method == "":
			w.WriteHeader(http.StatusAccepted)
		case m.Method == "initialize":
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Mcp-Session-Id", "s")
			fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":{"protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{"name":"s","version":"1"}}}`, m.ID)
		default:
			s.call(w, r, m.ID, string(body))
		}
	}
}

func (s scripted) start(t *testing.T) *client {
	t.Helper()
	srv := httptest.NewServer(s)
	t.Cleanup(srv.Close)
	t.Cleanup(srv.CloseClientConnections)
	return bridge(t, srv.URL)
}

func events(w http.ResponseWriter, text string) {
	w.Header().Set("Content-Type", "text/event-stream")
	fmt.Fprint(w, text)
	w.(http.Flusher).Flush()
}

const (
	ping   = `{"jsonrpc":"2.0","id":1,"method":"ping"}`
	answer = `{"jsonrpc":"2.0","id":1,"result":{"right":true}}`
	notice = `{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"x"}}`
)

// right fails the test unless the next line is the answer to ping.
func (c *client) right() {
	c.t.Helper()
	got := c.receive()
	if result, _ := got["result"].(map[string]any); got["id"] != 1.0 || result["right"] != true {
		c.t.Errorf("received %v, want the answer", got)
	}
}

func (c *client) fails(want string) {
	c.t.Helper()
	got := c.receive()
	e, _ := got["error"].(map[string]any)
	if text, _ := e["message"].(string); got["id"] != 1.0 || !strings.Contains(text, want) {
		c.t.Errorf("received %v, want an error with %q", got, want)
	}
}

// strays are events that are no messages, or answer nothing that was asked.
var strays = []string{
	"event: ping\ndata: {}\n\n", "event: ping\ndata: " + strings.ReplaceAll(answer, "true", "false") + "\n\n",
	"data: {}\n\n", "data: null\n\n", "data: []\n\n", "data: \"hello\"\n\n", "data: 1\n\n", "data: keep-alive\n\n", "data: [1,{}]\n\n",
	"data: {\"type\":\"heartbeat\"}\n\n", "data: {\"result\":{}}\n\n", "data: {\"id\":1,\"result\":{}}\n\n",
	"data: {\"jsonrpc\":\"1.0\",\"id\":1,\"result\":{}}\n\n", "data: {\"jsonrpc\":\"2.0\",\"id\":1}\n\n",
	"data: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":\"x\"}\n\n", "data: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":null}\n\n",
	"data: {\"jsonrpc\":\"2.0\",\"id\":\"1\",\"result\":{}}\n\n", "data: {\"jsonrpc\":\"2.0\",\"id\":2,\"result\":{}}\n\n",
	"data: {\"jsonrpc\":\"2.0\",\"id\":2,\"error\":{\"code\":-1,\"message\":\"x\"}}\n\n",
	"data: {\"jsonrpc\":\"2.0\",\"id\":null,\"result\":{}}\n\n", "data: {\"jsonrpc\":\"2.0\",\"result\":{}}\n\n",
	"data: {\"jsonrpc\":\"2.0\",\"id\":1,\"error\":\"x\"}\n\n", "data: {\"jsonrpc\":\"2.0\",\"method\":7}\n\n",
	"data: " + answer[:20] + "\n\n", "data:\n\n", "id: 7\n\n",
}

// What is no message of MCP never reaches the client, and no call takes it for its end.
func TestStrayEvents(t *testing.T) {
	t.Parallel()
	for _, stray := range strays {
		c := scripted{
			call: func(w http.ResponseWriter, _ *http.Request, _ json.RawMessage, _ string) {
				events(w, stray+"event: message\ndata: "+notice+"\n\n"+stray+"data: "+answer+"\n\n")
			},
			get: func(w http.ResponseWriter, r *http.Request) {
				events(w, stray+"data: "+answer+"\n\n"+"data: ["+notice+"]\n\n")
				<-r.Context().Done()
			},
		}.start(t)
		open(c)
		if got := c.receive(); got["method"] != "notifications/message" {
			t.Errorf("%q: on the server's own stream %v", stray, got)
		}
		c.send(ping)
		if got := c.receive(); got["method"] != "notifications/message" {
			t.Errorf("%q: received %v", stray, got)
		}
		c.right()
	}
}

func TestStrayBodies(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		`{}`: "not MCP", `null`: "not MCP", `[]`: "not MCP", `"x"`: "not MCP", `1`: "not MCP", ``: "not MCP", `<html>`: "not MCP",
		`{"jsonrpc":"2.0","id":2,"result":{}}`:                            "answers another request",
		`{"jsonrpc":"2.0","id":"1","result":{}}`:                          "answers another request",
		`{"jsonrpc":"2.0","id":2,"error":{"code":-1,"message":"x"}}`:      "answers another request",
		`{"id":1,"result":{}}`:                                            "not MCP",
		notice:                                                            "not MCP",
		`{"jsonrpc":"2.0","id":null,"error":{"code":-1,"message":"bad"}}`: "bad",
		`{"jsonrpc":"2.0","error":{"code":-1,"message":"bad"}}`:           "bad",
	} {
		t.Run(body, func(t *testing.T) {
			t.Parallel()
			c := scripted{call: func(w http.ResponseWriter, _ *http.Request, _ json.RawMessage, _ string) {
				w.Header().Set("Content-Type", "application/json")
				fmt.Fprint(w, body)
			}}.start(t)
			open(c)
			c.send(ping)
			if body == notice {
				c.receive()
			}
			c.fails(want)
		})
	}
}

// However the lines of a stream end, and wherever it is cut in pieces, its events arrive when they are sent.
func TestLineEnds(t *testing.T) {
	t.Parallel()
	for _, end := range []string{"\n", "\r", "\r\n"} {
		for _, mark := range []string{"", "\ufeff"} {
			stop := make(chan struct{})
			c := scripted{call: func(w http.ResponseWriter, _ *http.Request, _ json.RawMessage, _ string) {
				events(w, mark)
				for _, b := range []byte(strings.ReplaceAll(": hi\ndata\n\nevent: message\ndata: "+answer[:17]+"\ndata: "+answer[17:]+"\n\n", "\n", end)) {
					events(w, string(b))
				}
				<-stop
			}}.start(t)
			open(c)
			c.send(ping)
			c.right()
			close(stop)
		}
	}
}

// A server that is too busy to begin is asked again; one that may have begun is not.
func TestBusy(t *testing.T) {
	t.Parallel()
	busy := `{"jsonrpc":"2.0","id":1,"error":{"code":-31010,"message":"draining"}}`
	for name, tt := range map[string]struct {
		status     int
		body, want string // "": the answer
		after      string
	}{
		"ours":             {503, busy, "", "0"},
		"ours, silent":     {503, busy, "", ""},
		"too many":         {429, "slow down", "", "1"},
		"too many, silent": {429, "", "", ""},
		"somebody else":    {503, "no healthy upstream", "503", "1"},
		"another code":     {503, strings.ReplaceAll(busy, "31010", "31011"), "draining", "1"},
		"too long":         {429, "slow down", "429", "3600"},
		"a date":           {429, "slow down", "429", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var asked atomic.Int32
			c := scripted{call: func(w http.ResponseWriter, _ *http.Request, _ json.RawMessage, _ string) {
				w.Header().Set("Content-Type", "application/json")
				if asked.Add(1) == 1 {
					if tt.after != "" {
						w.Header().Set("Retry-After", tt.after)
					}
					w.Header().Set("Content-Type", "text/plain")
					w.WriteHeader(tt.status)
					fmt.Fprint(w, tt.body)
					return
				}
				fmt.Fprint(w, answer)
			}}.start(t)
			open(c)
			c.send(ping)
			if tt.want == "" {
				c.right()
			} else {
				c.fails(tt.want)
			}
		})
	}
}

// A call that its client has given up is not sent when the server has time for it.
func TestBusyAndCancelled(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	c := scripted{call: func(w http.ResponseWriter, _ *http.Request, id json.RawMessage, _ string) {
		if string(id) == "1" && asked.Add(1) == 1 {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusTooManyRequests)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":{}}`, id)
	}}.start(t)
	open(c)
	c.send(ping)
	for asked.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(50 * time.Millisecond) // until the answer has been read
	c.send(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}`)
	time.Sleep(1500 * time.Millisecond)
	c.send(`{"jsonrpc":"2.0","id":2,"method":"ping"}`)
	if got := c.receive(); got["id"] != 2.0 || asked.Load() != 1 {
		t.Errorf("received %v; asked %d times", got, asked.Load())
	}
}

// A session that the server has forgotten is opened anew, whichever of the two codes says so, and the request is
// repeated once. What is wrong with a request itself is told.
func TestForgotten(t *testing.T) {
	t.Parallel()
	rpc := func(code int, text string) string {
		return fmt.Sprintf(`{"jsonrpc":"2.0","id":null,"error":{"code":%d,"message":%q}}`, code, text)
	}
	for _, tt := range []struct {
		status int
		body   string
		renews bool
	}{
		{404, rpc(-32001, "Session not found"), true},
		{404, "", true},
		{400, rpc(-32000, "Bad Request: No valid session ID provided"), true},
		{400, rpc(-32000, "Bad Request: Server not initialized"), true},
		{400, rpc(-32000, "Invalid session"), true},
		{400, rpc(-32600, "Session not found: abc"), true},
		{400, rpc(-32600, "initialize first"), true},
		{400, "Invalid or missing session ID", true},
		{400, "invalid Mcp-Session-Id", true},
		{400, "session has expired", true},
		{400, "Unknown session", true},
		{400, "Session terminated", true},
		{400, rpc(-32602, "unknown tool session"), false},
		{400, rpc(-32600, "jsonrpc must be 2.0"), false},
		{400, "Bad Request", false},
		{400, "The session header is fine; the body is not", false},
		{500, "Session not found", false},
	} {
		t.Run(tt.body, func(t *testing.T) {
			t.Parallel()
			var calls atomic.Int32
			c := scripted{call: func(w http.ResponseWriter, _ *http.Request, _ json.RawMessage, _ string) {
				if calls.Add(1) == 1 {
					w.WriteHeader(tt.status)
					fmt.Fprint(w, tt.body)
					return
				}
				w.Header().Set("Content-Type", "application/json")
				fmt.Fprint(w, answer)
			}}.start(t)
			open(c)
			c.send(ping)
			if tt.renews {
				c.right()
			} else {
				c.fails("")
				if calls.Load() != 1 {
					t.Errorf("sent %d times", calls.Load())
				}
			}
		})
	}
}

// Redirects that keep method and body are followed, with all that identifies the client, and to the same origin only.
func TestRedirects(t *testing.T) {
	t.Parallel()
	var leaked atomic.Bool
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { leaked.Store(true) }))
	t.Cleanup(elsewhere.Close)
	for _, tt := range []struct {
		status int
		to     string
		want   string
	}{
		{307, "/there/", ""},
		{308, "/there/", ""},
		{307, "there/", ""},
		{308, "/again", ""},
		{301, "/there/", "301"},
		{302, "/there/", "302"},
		{303, "/there/", "303"},
		{307, elsewhere.URL, elsewhere.URL},
		{308, elsewhere.URL, "308"},
		{308, "/mcp", "308"},
		{307, "", "307"},
	} {
		t.Run(fmt.Sprint(tt.status, tt.to), func(t *testing.T) {
			t.Parallel()
			there := scripted{
				call: func(w http.ResponseWriter, r *http.Request, _ json.RawMessage, body string) {
					w.Header().Set("Content-Type", "application/json")
					if r.Header.Get("Mcp-Session-Id") == "s" && r.Header.Get("Authorization") == "Bearer t" && body == ping {
						fmt.Fprint(w, answer)
					}
				},
				get: func(w http.ResponseWriter, r *http.Request) {
					events(w, "data: "+notice+"\n\n")
					<-r.Context().Done()
				},
			}
			var moved atomic.Bool
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodGet && tt.want != "" {
					w.WriteHeader(http.StatusMethodNotAllowed)
					return
				}
				switch {
				case r.URL.Path == "/there/" || !moved.Load():
					there.ServeHTTP(w, r)
				case r.URL.Path == "/again":
					http.Redirect(w, r, "/there/", http.StatusPermanentRedirect)
				default:
					if tt.to != "" {
						w.Header().Set("Location", tt.to)
					}
					w.WriteHeader(tt.status)
				}
			}))
			t.Cleanup(srv.Close)
			t.Cleanup(srv.CloseClientConnections)
			c := bridgeThrough(t, srv.URL+"/mcp", authorized{http.DefaultTransport.(*http.Transport).Clone()})
			c.send(initialize)
			c.receive()
			moved.Store(true)
			if tt.want == "" {
				c.send(initialized)
				if got := c.receive(); got["method"] != "notifications/message" {
					t.Errorf("on the redirected stream: %v", got)
				}
			}
			c.send(ping)
			if tt.want == "" {
				c.right()
			} else {
				c.fails(tt.want)
			}
			if leaked.Load() {
				t.Error("another server was asked")
			}
		})
	}
}

type authorized struct{ *http.Transport }

func (a authorized) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer t")
	return a.Transport.RoundTrip(r)
}

// A server that only speaks HTTP+SSE is spoken to in its own way.
func TestOldServer(t *testing.T) {
	t.Parallel()
	for name, refuse := range map[string]http.HandlerFunc{
		"404": http.NotFound,
		"405": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusMethodNotAllowed) },
		"400": func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "sessionid must be provided", http.StatusBadRequest)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := mcp.NewServer(&mcp.Implementation{Name: "old", Version: "v1"}, nil)
			began, over := make(chan struct{}, 10), make(chan struct{})
			mcp.AddTool(s, &mcp.Tool{Name: "ask"}, func(ctx context.Context, req *mcp.CallToolRequest, _ struct{}) (*mcp.CallToolResult, any, error) {
				res, err := req.Session.Elicit(ctx, &mcp.ElicitParams{Message: "sure?", RequestedSchema: map[string]any{"type": "object"}})
				if err != nil {
					return nil, nil, err
				}
				return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: res.Action}}}, nil, nil
			})
			mcp.AddTool(s, &mcp.Tool{Name: "wait"}, func(ctx context.Context, _ *mcp.CallToolRequest, _ struct{}) (*mcp.CallToolResult, any, error) {
				began <- struct{}{}
				select {
				case <-ctx.Done():
				case <-over: // the SDK's server does not notice that its client has left
				}
				return nil, nil, errors.New("over")
			})
			h := mcp.NewSSEHandler(func(*http.Request) *mcp.Server { return s }, nil)
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodPost && r.URL.RawQuery == "" {
					refuse(w, r)
					return
				}
				h.ServeHTTP(w, r)
			}))
			t.Cleanup(srv.Close)
			t.Cleanup(srv.CloseClientConnections)
			t.Cleanup(func() { close(over) })
			c := bridge(t, srv.URL)
			c.said.Exempt("the server is the SDK's, which leaves out properties in a schema that has none")
			session := c.connect("2025-06-18", &mcp.ClientOptions{
				ElicitationHandler: func(context.Context, *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
					return &mcp.ElicitResult{Action: "accept"}, nil
				},
			})
			ask := func() {
				t.Helper()
				res, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "ask"})
				if err != nil || res.Content[0].(*mcp.TextContent).Text != "accept" {
					t.Errorf("%+v, %v", res, err)
				}
			}
			ask()
			// A call that is cut off has a definite end, and what follows a stream of its own.
			failed := make(chan error, 1)
			go func() {
				_, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "wait"})
				failed <- err
			}()
			<-began
			srv.CloseClientConnections()
			if err := <-failed; err == nil || !strings.Contains(err.Error(), "unknown whether") {
				t.Errorf("a call that was cut off: %v", err)
			}
			ask()
			// One that is given up does not keep the bridge from ending.
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				<-began
				cancel()
			}()
			if _, err := session.CallTool(ctx, &mcp.CallToolParams{Name: "wait"}); err == nil {
				t.Error("a cancelled call has a result")
			}
			ask()
		})
	}
}

// An endpoint at another server would get what is meant for this one.
func TestOldServerElsewhere(t *testing.T) {
	t.Parallel()
	for _, stream := range []string{
		"event: endpoint\ndata: http://127.0.0.1:1/messages\n\n", "event: endpoint\ndata: //example.com/\n\n", "data: {}\n\n", "event: endpoint\n\n", ": hello\n\n",
	} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost {
				http.NotFound(w, r)
				return
			}
			events(w, stream)
		}))
		c := bridge(t, srv.URL)
		c.send(strings.Replace(initialize, `"id":0`, `"id":1`, 1))
		c.fails("HTTP 404")
		srv.Close()
	}
}

// network is one in memory, so that time can be virtual.
type network chan net.Conn

func (n network) Accept() (net.Conn, error) {
	if c, ok := <-n; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}
func (n network) Close() error { close(n); return nil }
func (network) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }

func (n network) dial(context.Context, string, string) (net.Conn, error) {
	here, there := net.Pipe()
	n <- there
	return here, nil
}

// virtually runs f, in virtual time, with a client of a bridge to the handler.
func virtually(t *testing.T, h http.Handler, f func(c *client)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n := make(network)
		srv := &http.Server{Handler: h}
		go func() { _ = srv.Serve(n) }()
		transport := &http.Transport{DialContext: n.dial}
		in, out := io.Pipe()
		outR, outW := io.Pipe()
		b := &proxy.Bridge{URL: "http://server/mcp", Transport: transport, Log: slog.New(slog.DiscardHandler)}
		ended := make(chan error)
		go func() {
			err := b.Run(context.Background(), in, outW)
			_ = outW.Close()
			ended <- err
		}()
		c := newClient(t, out, outR)
		c.patience = time.Hour
		f(c)
		_ = out.Close()
		go func() { _, _ = io.Copy(io.Discard, outR) }()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		transport.CloseIdleConnections()
		_ = srv.Close()
	})
}

// Whatever a server says when it is asked for its own stream, but 405, it is asked again, with growing pauses.
func TestListenAgain(t *testing.T) {
	t.Parallel()
	for _, status := range []int{202, 204, 301, 400, 401, 403, 404, 408, 409, 410, 425, 429, 500, 502, 503, 504} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			t.Parallel()
			var asked times
			virtually(t, scripted{
				call: func(w http.ResponseWriter, _ *http.Request, id json.RawMessage, _ string) {
					w.Header().Set("Content-Type", "application/json")
					fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":{}}`, id)
				},
				get: func(w http.ResponseWriter, r *http.Request) {
					if n := asked.add(); n < 8 {
						if n == 2 {
							w.Header().Set("Retry-After", "100")
						}
						w.WriteHeader(status)
						return
					}
					events(w, "data: "+notice+"\n\n")
					<-r.Context().Done()
				},
			}, func(c *client) {
				open(c)
				if got := c.receive(); got["method"] != "notifications/message" {
					t.Errorf("received %v", got)
				}
			})
			grows(t, asked.at, 1, 100, 4, 8, 16, 32, 60)
		})
	}
	t.Run("405", func(t *testing.T) {
		t.Parallel()
		asked := 0
		virtually(t, scripted{get: func(w http.ResponseWriter, _ *http.Request) {
			asked++
			w.WriteHeader(http.StatusMethodNotAllowed)
		}}, func(c *client) {
			open(c)
			time.Sleep(time.Hour)
		})
		if asked != 1 {
			t.Errorf("asked %d times", asked)
		}
	})
}

// Where servers live as long as their answers, streams end at once: the pauses grow, until one brings something.
func TestListenInVain(t *testing.T) {
	t.Parallel()
	for _, nothing := range []string{"", ": hello\n\n", "id: 1\n\n", "id: 1\ndata:\n\n", "data: {}\n\n", "event: ping\ndata: {}\n\n", "retry: 1000\n\n"} {
		var asked times
		virtually(t, scripted{get: func(w http.ResponseWriter, r *http.Request) {
			switch n := asked.add(); {
			case n == 5:
				events(w, "data: "+notice+"\n\n")
			case n == 8:
				events(w, nothing)
				time.Sleep(10 * time.Second)
			default:
				events(w, nothing)
			}
		}}, func(c *client) {
			open(c)
			c.receive()
			time.Sleep(70 * time.Second)
		})
		grows(t, asked.at[:11], 1, 2, 4, 8, 1, 1, 2, 11, 1, 2)
	}
}

// A connection that says nothing at all, not even that it lives, is replaced.
func TestListenSilence(t *testing.T) {
	t.Parallel()
	var asked times
	virtually(t, scripted{get: func(w http.ResponseWriter, r *http.Request) {
		n := asked.add()
		events(w, ": hello\n\n")
		if n == 3 {
			for range 10 {
				time.Sleep(30 * time.Second)
				events(w, ": hello\n\n")
			}
		}
		<-r.Context().Done()
	}}, func(c *client) {
		open(c)
		time.Sleep(9 * time.Minute)
	})
	grows(t, asked.at[:4], 60, 60, 360)
}

// A call is resumed until the server does, unless it says that it cannot; then its end is a definite one.
func TestResumeAgain(t *testing.T) {
	t.Parallel()
	for _, status := range []int{400, 401, 403, 404, 408, 409, 425, 429, 500, 502, 503} {
		for _, always := range []bool{false, true} {
			t.Run(fmt.Sprint(status, always), func(t *testing.T) {
				t.Parallel()
				asked := 0
				virtually(t, scripted{
					call: func(w http.ResponseWriter, _ *http.Request, id json.RawMessage, _ string) {
						if string(id) != "1" { // whether the session is gone
							w.Header().Set("Content-Type", "application/json")
							fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":{}}`, id)
							return
						}
						events(w, "id: 5\ndata:\n\n")
					},
					get: func(w http.ResponseWriter, r *http.Request) {
						if r.Header.Get("Last-Event-Id") != "5" {
							w.WriteHeader(http.StatusMethodNotAllowed)
							return
						}
						if asked++; asked <= 3 || always {
							w.WriteHeader(status)
							return
						}
						events(w, "data: "+answer+"\n\n")
					},
				}, func(c *client) {
					open(c)
					begun := now()
					c.send(ping)
					if always {
						c.fails("unknown whether")
					} else {
						c.right()
					}
					if took := now() - begun; took > 35*time.Second {
						t.Errorf("it took %v", took)
					}
				})
			})
		}
	}
}

// A resumed stream that brings nothing, time after time, is given up; one of a server that wants to be asked again is not.
func TestResumeInVain(t *testing.T) {
	t.Parallel()
	for rest, ends := range map[string]bool{"": true, ": hello\n\n": true, "id: 5\n\n": true, "retry: 2000\n\n": false} {
		var begun time.Duration
		virtually(t, scripted{
			call: func(w http.ResponseWriter, _ *http.Request, _ json.RawMessage, _ string) {
				events(w, "id: 5\ndata:\n\n")
			},
			get: func(w http.ResponseWriter, r *http.Request) {
				switch {
				case r.Header.Get("Last-Event-Id") != "5":
					w.WriteHeader(http.StatusMethodNotAllowed)
				case now()-begun < 10*time.Minute:
					events(w, rest)
				default:
					events(w, "data: "+answer+"\n\n")
				}
			},
		}, func(c *client) {
			open(c)
			begun = now()
			c.send(ping)
			if !ends {
				c.right()
				return
			}
			c.fails("unknown whether")
			if took := now() - begun; took > time.Minute {
				t.Errorf("%q: it took %v", rest, took)
			}
		})
	}
}

// What can never be resumed ends the call at once.
func TestResumeNever(t *testing.T) {
	t.Parallel()
	for _, status := range []int{404, 405} {
		var sessions atomic.Int32
		s := scripted{
			call: func(w http.ResponseWriter, _ *http.Request, id json.RawMessage, _ string) {
				if string(id) == "1" {
					events(w, "id: 5\ndata:\n\n")
					return
				}
				w.WriteHeader(http.StatusNotFound)
			},
			get: func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(status) },
		}
		virtually(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost && r.Header.Get("Mcp-Session-Id") == "" {
				sessions.Add(1)
			}
			s.ServeHTTP(w, r)
		}), func(c *client) {
			open(c)
			begun := now()
			c.send(ping)
			c.fails("unknown whether")
			if took := now() - begun; took > 3*time.Second {
				t.Errorf("%d: it took %v", status, took)
			}
		})
	}
}

// times are when a server was asked.
type times struct {
	mu sync.Mutex
	at []time.Duration
}

// add notes that it is now, and returns how often it has been.
func (a *times) add() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.at = append(a.at, now())
	return len(a.at)
}

// now is the time of the bubble.
func now() time.Duration { return time.Duration(time.Now().UnixNano()) }

// grows fails the test unless the pauses between the times are as many seconds, or a little longer.
func grows(t *testing.T, at []time.Duration, seconds ...float64) {
	t.Helper()
	for i, want := range seconds {
		if i+1 >= len(at) {
			t.Errorf("asked %d times only", len(at))
			return
		}
		if got := (at[i+1] - at[i]).Seconds(); got < want || got > want*1.2+0.1 {
			t.Errorf("pause %d: %.1f s, want %v s", i, got, want)
		}
	}
}
