package tasks_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice/tasks"
)

// A script is a server that sluice is not: it says what a test wants, at times that pass virtually. What it returns for a
// method is a result, or with status an HTTP status without a body, or an error.
type script struct {
	stream bool // answer by events
	answer func(method string, n int) (result string, status int, err error)

	mu    sync.Mutex
	calls map[string]int
	at    map[string][]time.Duration // since begun
	begun time.Time
}

func (s *script) RoundTrip(req *http.Request) (*http.Response, error) {
	defer req.Body.Close()
	var m struct {
		ID     json.RawMessage
		Method string
		Params struct {
			TaskID string
			Meta   struct {
				Capabilities struct{ Extensions map[string]json.RawMessage } `json:"io.modelcontextprotocol/clientCapabilities"`
			} `json:"_meta"`
		}
	}
	if err := json.NewDecoder(req.Body).Decode(&m); err != nil {
		return nil, err
	}
	reply := func(status int, kind, body string) (*http.Response, error) {
		return &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {kind}}, Body: io.NopCloser(strings.NewReader(body)), Request: req}, nil
	}
	const kind = "application/json"
	if m.Method == "server/discover" {
		return reply(200, kind, fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"serverInfo":{"name":"s","version":"1"}}}`, m.ID))
	}
	if m.ID == nil {
		return reply(202, kind, "")
	}
	s.mu.Lock()
	s.calls[m.Method]++
	n := s.calls[m.Method]
	s.at[m.Method] = append(s.at[m.Method], time.Since(s.begun))
	s.mu.Unlock()
	if string(m.Params.Meta.Capabilities.Extensions[tasks.Extension]) != "{}" {
		return reply(200, kind, fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"error":{"code":-32021,"message":"undeclared"}}`, m.ID))
	}
	if strings.HasPrefix(m.Method, "tasks/") && req.Header.Get("Mcp-Name") != m.Params.TaskID || req.Header.Get("Mcp-Method") != m.Method {
		return reply(400, kind, fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"error":{"code":-32020,"message":"headers %v"}}`, m.ID, req.Header))
	}
	result, status, err := s.answer(m.Method, n)
	if err != nil {
		return nil, err
	} else if status != 0 {
		return reply(status, "text/plain", "")
	}
	message := fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":%s}`, m.ID, result)
	if s.stream {
		return reply(200, "text/event-stream", ": hello\r\n\r\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{\"level\":\"info\",\"data\":\""+
			strings.Repeat("x", 900<<10)+"\"}}\n\nid: 1\nevent: message\ndata: "+strings.Replace(message, `"result"`, "\ndata: \"result\"", 1)+"\n\n")
	}
	return reply(200, kind, message)
}

func (s *script) connect(t *testing.T, opts *mcp.ClientOptions) *mcp.ClientSession {
	t.Helper()
	s.calls, s.at, s.begun = map[string]int{}, map[string][]time.Duration{}, time.Now()
	client := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "v1"}, opts)
	transport := &mcp.StreamableClientTransport{Endpoint: "http://127.0.0.1/mcp", HTTPClient: &http.Client{Transport: s}, DisableStandaloneSSE: true}
	if err := tasks.Enable(client, transport); err != nil {
		t.Fatal(err)
	}
	session, err := client.Connect(t.Context(), transport, nil)
	if err != nil {
		t.Fatal(err)
	}
	return session
}

const (
	handle = `{"resultType":"task","taskId":"t1","status":"working","createdAt":"2026-11-28T09:00:00Z","lastUpdatedAt":"2026-11-28T10:00:00+01:00","ttlMs":null,"pollIntervalMs":3000}`
	done   = `{"resultType":"complete","taskId":"t1","status":"completed","createdAt":"?","lastUpdatedAt":7,"ttlMs":"?","result":{"resultType":"complete","content":[{"type":"text","text":"done"}]}}`
)

func working(more string) string {
	return `{"resultType":"complete","taskId":"t1","status":"working","createdAt":"2026-11-28T09:00:00.000Z","lastUpdatedAt":"` +
		time.Now().UTC().Format(time.RFC3339Nano) + `","ttlMs":60000` + more + `}`
}

// No look comes before its time, whatever has happened. A time of update alone is no news.
func TestPace(t *testing.T) {
	t.Parallel()
	for _, stream := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := &script{stream: stream, answer: func(method string, n int) (string, int, error) {
				switch {
				case method == "tools/call":
					return handle, 0, nil
				case n <= 3:
					return working(`,"pollIntervalMs":5000`), 0, nil
				case n <= 5:
					return working(`,"statusMessage":"soon"`), 0, nil
				}
				return done, 0, nil
			}}
			session := s.connect(t, nil)
			var changes []string
			result, err := tasks.Call(t.Context(), session, params("x", ""), &tasks.Options{
				Created: func(task *tasks.Task) {
					if task.TTL != 0 || !task.CreatedAt.Equal(task.LastUpdatedAt) || task.PollInterval != 3*time.Second {
						t.Errorf("%+v", task)
					}
				},
				Changed: func(task *tasks.Task) { changes = append(changes, string(task.Status)+task.StatusMessage) },
			})
			if err != nil || textOf(result) != "done" {
				t.Errorf("%v, %v", textOf(result), err)
			}
			const sec = time.Second
			if diff := cmp.Diff([]time.Duration{3 * sec, 8 * sec, 13 * sec, 18 * sec, 19 * sec, 20 * sec}, s.at["tasks/get"]); diff != "" {
				t.Error(diff)
			}
			if want := []string{"workingsoon", "completed"}; !slices.Equal(changes, want) {
				t.Errorf("changes %q, want %q", changes, want)
			}
			_ = session.Close()
		})
	}
}

// A server that is away may come back: for a minute, and in whatever way it was away.
func TestAway(t *testing.T) {
	t.Parallel()
	for name, away := range map[string]struct {
		status int
		err    error
	}{"busy": {503, nil}, "too many": {429, nil}, "nobody": {502, nil}, "refused": {0, syscall.ECONNREFUSED}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				back := 50 * time.Second
				var s *script
				s = &script{answer: func(method string, _ int) (string, int, error) {
					switch {
					case method == "tools/call":
						return handle, 0, nil
					case time.Since(s.begun) < back:
						return "", away.status, away.err
					}
					return done, 0, nil
				}}
				session := s.connect(t, nil)
				if result, err := tasks.Call(t.Context(), session, params("x", ""), nil); err != nil || textOf(result) != "done" {
					t.Errorf("%v, %v", textOf(result), err)
				}
				back = time.Hour
				begun := time.Now()
				_, err := tasks.Call(t.Context(), session, params("x", ""), nil)
				if took := time.Since(begun); err == nil || !strings.Contains(err.Error(), "task t1") || took < time.Minute || took > 90*time.Second {
					t.Errorf("after %v: %v", took, err)
				}
				if n := len(s.at["tasks/cancel"]); n > 0 {
					t.Errorf("a task that is only out of sight was cancelled")
				}
				_ = session.Close()
			})
		})
	}
}

// A question is passed on once, and its answer is said until it is heard and not again, although the server shows it longer.
func TestAnswersOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const ask = `,"pollIntervalMs":1000,"inputRequests":{"q1":{"method":"elicitation/create","params":{"message":"?"}},"r":{"method":"roots/list"}`
		s := &script{answer: func(method string, n int) (string, int, error) {
			asked := func(more string) string {
				return strings.Replace(working(ask+more+"}"), "working", "input_required", 1)
			}
			switch {
			case method == "tools/call":
				return handle, 0, nil
			case method == "tasks/update" && n == 1:
				return "", 503, nil
			case method == "tasks/update":
				return `{"resultType":"complete"}`, 0, nil
			case n <= 5:
				return asked(""), 0, nil
			case n <= 7:
				return asked(`,"q2":{"method":"elicitation/create","params":{"message":"!"}}`), 0, nil
			}
			return done, 0, nil
		}}
		var asked []string
		session := s.connect(t, &mcp.ClientOptions{ElicitationHandler: func(_ context.Context, req *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
			asked = append(asked, req.Params.Message)
			time.Sleep(1500 * time.Millisecond) // a person thinks, and the task is looked at meanwhile
			return &mcp.ElicitResult{Action: "decline"}, nil
		}})
		if result, err := tasks.Call(t.Context(), session, params("x", ""), nil); err != nil || textOf(result) != "done" {
			t.Errorf("%v, %v", textOf(result), err)
		}
		if want := []string{"?", "!"}; !slices.Equal(asked, want) {
			t.Errorf("asked %q, want %q", asked, want)
		}
		const ms = time.Millisecond
		if diff := cmp.Diff([]time.Duration{4500 * ms, 5000 * ms, 9500 * ms}, s.at["tasks/update"]); diff != "" {
			t.Error(diff)
		}
		_ = session.Close()
	})
}

// A question that is open no longer is withdrawn, while the task goes on.
func TestWithdrawn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &script{answer: func(method string, n int) (string, int, error) {
			switch {
			case method == "tools/call":
				return handle, 0, nil
			case n == 1:
				return strings.Replace(working(`,"inputRequests":{"q":{"method":"elicitation/create","params":{"message":"?"}}}`), "working", "input_required", 1), 0, nil
			case n < 10:
				return working(""), 0, nil
			}
			return done, 0, nil
		}}
		var withdrawn time.Duration
		session := s.connect(t, &mcp.ClientOptions{ElicitationHandler: func(ctx context.Context, _ *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
			<-ctx.Done()
			withdrawn = time.Since(s.begun)
			return nil, ctx.Err()
		}})
		if result, err := tasks.Call(t.Context(), session, params("x", ""), nil); err != nil || textOf(result) != "done" {
			t.Errorf("%v, %v", textOf(result), err)
		}
		if withdrawn != 4*time.Second || len(s.at["tasks/update"]) > 0 {
			t.Errorf("withdrawn after %v; updates at %v", withdrawn, s.at["tasks/update"])
		}
		_ = session.Close()
	})
}

// What is no handle or no task is an error, and not a result that is empty.
func TestMalformed(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ handle, task, want string }{
		"handle without an ID":  {`{"resultType":"task","status":"working"}`, done, "handle cannot be read"},
		"handle too large":      {`{"resultType":"task","taskId":"t1","status":"working","statusMessage":"` + strings.Repeat("x", 1<<20) + `"}`, done, "handle cannot be read"},
		"strange status":        {handle, strings.Replace(done, "completed", "resting", 1), `status is "resting"`},
		"no result":             {handle, strings.Replace(done, `"result":`, `"outcome":`, 1), "no result"},
		"a question of no kind": {handle, `{"taskId":"t1","status":"input_required","inputRequests":{"q":{"method":"ping"}}}`, `its question "q"`},
		"no object":             {handle, `[]`, "malformed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := &script{answer: func(method string, _ int) (string, int, error) {
					if method == "tools/call" {
						return test.handle, 0, nil
					}
					return test.task, 0, nil
				}}
				session := s.connect(t, nil)
				result, err := tasks.Call(t.Context(), session, params("x", ""), nil)
				if result != nil || err == nil || !strings.Contains(err.Error(), test.want) {
					t.Errorf("%v, %v; want %s", result, err, test.want)
				}
				if took := time.Since(s.begun); took > 5*time.Second {
					t.Errorf("it was tried for %v", took)
				}
				_ = session.Close()
			})
		})
	}
}

// Half of Enable is none: a transport that it has not seen, a client that it has not seen.
func TestNotEnabled(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	close(f.gates.of("open"))
	client := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "v1"}, nil)
	other := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "v1"}, nil)
	transport := &mcp.StreamableClientTransport{Endpoint: f.URL}
	if err := tasks.Enable(client, transport); err != nil {
		t.Fatal(err)
	}
	unseen, err := client.Connect(t.Context(), &mcp.StreamableClientTransport{Endpoint: f.URL}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer unseen.Close()
	if result, err := tasks.Call(t.Context(), unseen, params("gated", "open"), nil); err == nil || !strings.Contains(err.Error(), "tasks.Enable") {
		t.Errorf("another transport: %v, %v", result, err)
	}
	ordinary, err := other.Connect(t.Context(), transport, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer ordinary.Close()
	if result, err := tasks.Call(t.Context(), ordinary, params("gated", "open"), nil); err != nil || textOf(result) != "through" {
		t.Errorf("another client: %v, %v", textOf(result), err)
	}
	begun := time.Now()
	if _, err := tasks.Wait(t.Context(), ordinary, "x", nil); err == nil || errors.Is(err, context.DeadlineExceeded) || time.Since(begun) > 10*time.Second {
		t.Errorf("another client waits: %v", err)
	}
}
