package tasks_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice"
	"github.com/sluice-mcp/sluice/tasks"
)

// gates hold tools back until a test lets them go.
type gates struct {
	mu sync.Mutex
	m  map[string]chan struct{}
}

func (g *gates) of(name string) chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.m == nil {
		g.m = map[string]chan struct{}{}
	}
	if g.m[name] == nil {
		g.m[name] = make(chan struct{})
	}
	return g.m[name]
}

// A fixture is a server of sluice's with a tool for each thing that a task can do.
type fixture struct {
	*httptest.Server
	gates   gates
	stopped chan string // names of gates whose tool was cancelled
}

func newFixture(t *testing.T, opts *sluice.Options) *fixture {
	t.Helper()
	f := &fixture{stopped: make(chan string, 100)}
	server := mcp.NewServer(&mcp.Implementation{Name: "fixture", Version: "v1"}, nil)
	type input struct {
		Gate string `json:"gate,omitempty"`
	}
	add := func(name string, mode sluice.TaskMode, h func(context.Context, *mcp.CallToolRequest, input) (*mcp.CallToolResult, any, error)) {
		tool := &mcp.Tool{Name: name}
		sluice.MarkTask(tool, sluice.TaskOptions{Mode: mode, PollInterval: 5 * time.Millisecond})
		sluice.AddTool(server, tool, h)
	}
	// gated says that it has begun, and ends when its gate is opened.
	add("gated", sluice.TaskPrefer, func(ctx context.Context, req *mcp.CallToolRequest, in input) (*mcp.CallToolResult, any, error) {
		_ = req.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{ProgressToken: req.Params.GetProgressToken(), Progress: 1, Message: "begun"})
		select {
		case <-f.gates.of(in.Gate):
			return text("through"), map[string]any{"n": json.Number("12345678901234567890")}, nil
		case <-ctx.Done():
			f.stopped <- in.Gate
			return nil, nil, ctx.Err()
		}
	})
	add("plain", sluice.TaskNever, func(context.Context, *mcp.CallToolRequest, input) (*mcp.CallToolResult, any, error) {
		return text("at once"), nil, nil
	})
	add("broken", sluice.TaskPrefer, func(context.Context, *mcp.CallToolRequest, input) (*mcp.CallToolResult, any, error) {
		return nil, nil, errors.New("it is broken")
	})
	add("refused", sluice.TaskRequire, func(context.Context, *mcp.CallToolRequest, input) (*mcp.CallToolResult, any, error) {
		return nil, nil, &jsonrpc.Error{Code: 7, Message: "not today", Data: json.RawMessage(`{"until":"tomorrow"}`)}
	})
	// asks wants everything that a tool can want, at once.
	add("asks", sluice.TaskPrefer, func(_ context.Context, req *mcp.CallToolRequest, _ input) (*mcp.CallToolResult, any, error) {
		name, ok := req.Params.InputResponses["name"].(*mcp.ElicitResult)
		if !ok {
			return &mcp.CallToolResult{InputRequests: mcp.InputRequestMap{
				"name": &mcp.ElicitParams{Mode: "form", Message: "Who?", RequestedSchema: map[string]any{
					"type": "object", "properties": map[string]any{"name": map[string]any{"type": "string"}, "loud": map[string]any{"type": "boolean", "default": true}},
				}},
				"poem":  &mcp.CreateMessageParams{MaxTokens: 5, Messages: []*mcp.SamplingMessage{{Role: "user", Content: &mcp.TextContent{Text: "a word"}}}},
				"roots": &mcp.ListRootsParams{},
			}}, nil, nil
		}
		poem, _ := req.Params.InputResponses["poem"].(*mcp.CreateMessageWithToolsResult)
		roots, _ := req.Params.InputResponses["roots"].(*mcp.ListRootsResult)
		if poem == nil || roots == nil {
			return nil, nil, fmt.Errorf("answers of %T and %T", req.Params.InputResponses["poem"], req.Params.InputResponses["roots"])
		}
		return text(fmt.Sprintf("%v %v %s %d", name.Content["name"], name.Content["loud"], poem.Content[0].(*mcp.TextContent).Text, len(roots.Roots))), nil, nil
	})
	handler := sluice.NewHandler(func(*http.Request) *mcp.Server { return server }, opts)
	f.Server = httptest.NewServer(handler)
	t.Cleanup(func() {
		f.CloseClientConnections()
		f.Close()
		_ = handler.Close()
	})
	return f
}

func text(s string) *mcp.CallToolResult {
	return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: s}}}
}

func textOf(r *mcp.CallToolResult) string {
	if r == nil || len(r.Content) != 1 {
		return fmt.Sprintf("%+v", r)
	}
	t, ok := r.Content[0].(*mcp.TextContent)
	if !ok {
		return fmt.Sprintf("%T", r.Content[0])
	}
	return t.Text
}

func connect(t *testing.T, url, revision string, opts *mcp.ClientOptions) *mcp.ClientSession {
	t.Helper()
	client := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "v1"}, opts)
	client.AddRoots(&mcp.Root{URI: "file:///here"})
	transport := &mcp.StreamableClientTransport{Endpoint: url}
	if err := tasks.Enable(client, transport); err != nil {
		t.Fatal(err)
	}
	session, err := client.Connect(t.Context(), transport, &mcp.ClientSessionOptions{ProtocolVersion: revision})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = session.Close() })
	return session
}

func params(tool, gate string) *mcp.CallToolParams {
	return &mcp.CallToolParams{Name: tool, Arguments: map[string]any{"gate": gate}}
}

const modern, legacy = "2026-07-28", "2025-11-25"

func TestCall(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	session := connect(t, f.URL, modern, nil)
	var seen []string
	result, err := tasks.Call(t.Context(), session, params("gated", "a"), &tasks.Options{
		Created: func(task *tasks.Task) {
			if len(seen) > 0 || task.ID == "" || task.Status != tasks.Working || task.PollInterval != 5*time.Millisecond ||
				task.TTL != time.Hour || time.Since(task.CreatedAt).Abs() > time.Minute {
				t.Errorf("after %v, the handle is %+v", seen, task)
			}
			seen = append(seen, "created")
		},
		Changed: func(task *tasks.Task) {
			seen = append(seen, string(task.Status)+" "+task.StatusMessage)
			if task.StatusMessage == "begun" && task.Status == tasks.Working {
				close(f.gates.of("a"))
			}
			if task.Status == tasks.Completed && !strings.Contains(string(task.Result), "12345678901234567890") {
				t.Errorf("the raw result is %s", task.Result)
			}
		},
	})
	if err != nil || textOf(result) != "through" || result.StructuredContent == nil {
		t.Errorf("%v, %v", textOf(result), err)
	}
	if want := []string{"created", "working begun", "completed begun"}; !slices.Equal(seen, want) {
		t.Errorf("seen %q, want %q", seen, want)
	}
}

// What is no task is answered as ever: a tool that is none, a server without tasks, an older revision, a client that does not say so.
func TestCallWithoutTask(t *testing.T) {
	t.Parallel()
	f, without := newFixture(t, nil), newFixture(t, &sluice.Options{NoTasks: true})
	close(f.gates.of("open"))
	close(without.gates.of("open"))
	never := &tasks.Options{
		Created: func(*tasks.Task) { t.Error("a task") },
		Changed: func(*tasks.Task) { t.Error("a task") },
	}
	for name, test := range map[string]struct {
		f        *fixture
		revision string
		tool     string
		want     string
	}{
		"tool":     {f, modern, "plain", "at once"},
		"server":   {without, modern, "gated", "through"},
		"revision": {f, legacy, "gated", "through"},
		"failure":  {without, modern, "broken", "it is broken"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			session := connect(t, test.f.URL, test.revision, nil)
			p := params(test.tool, "open")
			task, result, err := tasks.Start(t.Context(), session, p)
			if task != nil || err != nil || textOf(result) != test.want {
				t.Errorf("Start: %+v, %v, %v", task, textOf(result), err)
			}
			if result, err = tasks.Call(t.Context(), session, p, never); err != nil || textOf(result) != test.want {
				t.Errorf("Call: %v, %v", textOf(result), err)
			}
			if _, err := tasks.Get(t.Context(), session, "x"); err == nil {
				t.Error("there is a task")
			}
		})
	}
	t.Run("CallTool", func(t *testing.T) {
		t.Parallel()
		session := connect(t, f.URL, modern, nil)
		p := params("gated", "open")
		p.SetProgressToken("t") // it has metadata then, which nothing must be left in
		if _, err := tasks.Call(t.Context(), session, p, nil); err != nil {
			t.Error(err)
		}
		if result, err := session.CallTool(t.Context(), p); err != nil || textOf(result) != "through" {
			t.Errorf("%v, %v", textOf(result), err)
		}
	})
}

func TestFailures(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	session := connect(t, f.URL, modern, nil)

	result, err := tasks.Call(t.Context(), session, params("broken", ""), nil)
	if err != nil || !result.IsError || textOf(result) != "it is broken" {
		t.Errorf("a tool's error: %+v, %v", result, err)
	}

	_, err = tasks.Call(t.Context(), session, params("refused", ""), nil)
	failed, ok := errors.AsType[*tasks.FailedError](err)
	said, isSaid := errors.AsType[*jsonrpc.Error](err)
	if !ok || failed.Task.Status != tasks.Failed || !isSaid || said.Code != 7 || said.Message != "not today" || string(said.Data) != `{"until":"tomorrow"}` {
		t.Errorf("a JSON-RPC error: %v, %+v", err, said)
	}

	// An unknown task is the server's answer, and not tried again.
	for name, call := range map[string]func() error{
		"Wait":   func() error { _, err := tasks.Wait(t.Context(), session, "nix", nil); return err },
		"Get":    func() error { _, err := tasks.Get(t.Context(), session, "nix ü"); return err },
		"Update": func() error { return tasks.Update(t.Context(), session, "nix", nil) },
		"Cancel": func() error { return tasks.Cancel(t.Context(), session, " nix") },
	} {
		if said, ok := errors.AsType[*jsonrpc.Error](call()); !ok || said.Code != jsonrpc.CodeInvalidParams {
			t.Errorf("%s of an unknown task: %v", name, call())
		}
	}
}

// A handle is enough to come back, from another client.
func TestWaitElsewhere(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	first := connect(t, f.URL, modern, nil)
	task, result, err := tasks.Start(t.Context(), first, params("gated", "b"))
	if err != nil || result != nil {
		t.Fatal(result, err)
	}
	_ = first.Close()

	second := connect(t, f.URL, modern, nil)
	if got, err := tasks.Get(t.Context(), second, task.ID); err != nil || got.Status != tasks.Working || !got.CreatedAt.Equal(task.CreatedAt) {
		t.Errorf("%+v, %v", got, err)
	}
	// Who waits may leave.
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	_, err = tasks.Wait(ctx, second, task.ID, &tasks.Options{Changed: func(*tasks.Task) { cancel(enough) }})
	if !errors.Is(err, enough) || !strings.Contains(err.Error(), task.ID) {
		t.Errorf("a wait that is left: %v", err)
	}
	close(f.gates.of("b"))
	if result, err := tasks.Wait(t.Context(), second, task.ID, nil); err != nil || textOf(result) != "through" {
		t.Errorf("%v, %v", textOf(result), err)
	}
	// And again, as long as the server keeps it.
	if result, err := tasks.Wait(t.Context(), connect(t, f.URL, modern, nil), task.ID, nil); err != nil || textOf(result) != "through" {
		t.Errorf("%v, %v", textOf(result), err)
	}
}

func TestCancel(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	session := connect(t, f.URL, modern, nil)

	// Whose context ends does not leave its task behind.
	ctx, cancel := context.WithCancel(t.Context())
	var id string
	_, err := tasks.Call(ctx, session, params("gated", "c"), &tasks.Options{
		Created: func(task *tasks.Task) { id = task.ID },
		Changed: func(task *tasks.Task) { cancel() },
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Call: %v", err)
	}
	if gate := <-f.stopped; gate != "c" {
		t.Errorf("%s was stopped", gate)
	}
	if _, err := tasks.Wait(t.Context(), session, id, nil); !errors.Is(err, tasks.ErrCancelled) || !strings.Contains(err.Error(), id) {
		t.Errorf("Wait for what Call has cancelled: %v", err)
	}

	// Somebody else may cancel it, too.
	_, err = tasks.Call(t.Context(), session, params("gated", "d"), &tasks.Options{
		Created: func(task *tasks.Task) {
			if err := tasks.Cancel(t.Context(), connect(t, f.URL, modern, nil), task.ID); err != nil {
				t.Error(err)
			}
		},
	})
	if !errors.Is(err, tasks.ErrCancelled) {
		t.Errorf("Call of what another one cancels: %v", err)
	}
}

// asking are the options of a client that can be asked everything; it counts.
func asking(asked *atomic.Int32) *mcp.ClientOptions {
	return &mcp.ClientOptions{
		ElicitationHandler: func(_ context.Context, req *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
			asked.Add(1)
			if req.Session == nil || req.Params.Message != "Who?" {
				return nil, errors.New("not the question")
			}
			return &mcp.ElicitResult{Action: "accept", Content: map[string]any{"name": "Ada"}}, nil
		},
		CreateMessageHandler: func(context.Context, *mcp.CreateMessageRequest) (*mcp.CreateMessageResult, error) {
			asked.Add(1)
			return &mcp.CreateMessageResult{Role: "assistant", Model: "m", Content: &mcp.TextContent{Text: "moon"}}, nil
		},
	}
}

// The client's own handlers answer, behind its middleware, and the defaults of the form are filled in as ever.
func TestQuestions(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	const want = "Ada true moon 1"
	var asked atomic.Int32
	var behind sync.Map
	middleware := func(next mcp.MethodHandler) mcp.MethodHandler {
		return func(ctx context.Context, method string, req mcp.Request) (mcp.Result, error) {
			behind.Store(method, true)
			return next(ctx, method, req)
		}
	}
	client := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "v1"}, asking(&asked))
	client.AddRoots(&mcp.Root{URI: "file:///here"})
	transport := &mcp.StreamableClientTransport{Endpoint: f.URL}
	if err := tasks.Enable(client, transport); err != nil {
		t.Fatal(err)
	}
	client.AddReceivingMiddleware(middleware) // after it
	session, err := client.Connect(t.Context(), transport, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	if result, err := tasks.Call(t.Context(), session, params("asks", ""), nil); err != nil || textOf(result) != want {
		t.Errorf("Call: %s, %v", textOf(result), err)
	}
	if n := asked.Load(); n != 2 {
		t.Errorf("the handlers were called %d times, want once each", n)
	}
	for _, method := range []string{"elicitation/create", "sampling/createMessage", "roots/list"} {
		if _, ok := behind.Load(method); !ok {
			t.Errorf("the middleware did not see %s", method)
		}
	}
	// One who comes later can answer as well, or by hand.
	task, _, err := tasks.Start(t.Context(), session, params("asks", ""))
	if err != nil {
		t.Fatal(err)
	}
	if result, err := tasks.Wait(t.Context(), connect(t, f.URL, modern, asking(&asked)), task.ID, nil); err != nil || textOf(result) != want {
		t.Errorf("Wait: %s, %v", textOf(result), err)
	}
}

// Another client answers while ours is still thinking: its handler is told to stop, and the task ends.
func TestAnsweredElsewhere(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	opts := asking(new(atomic.Int32))
	opts.ElicitationHandler = func(ctx context.Context, _ *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	slow := connect(t, f.URL, modern, opts)
	result, err := tasks.Call(t.Context(), slow, params("asks", ""), &tasks.Options{
		Changed: func(task *tasks.Task) {
			if task.Status != tasks.InputRequired {
				return
			}
			answers := mcp.InputResponseMap{}
			for key, q := range task.InputRequests {
				switch q.(type) {
				case *mcp.ElicitParams:
					answers[key] = &mcp.ElicitResult{Action: "accept", Content: map[string]any{"name": "Bea"}}
				case *mcp.CreateMessageWithToolsParams:
					answers[key] = &mcp.CreateMessageResult{Role: "assistant", Model: "m", Content: &mcp.TextContent{Text: "sun"}}
				case *mcp.ListRootsParams:
					answers[key] = &mcp.ListRootsResult{Roots: []*mcp.Root{}}
				}
			}
			for range 2 { // repeating it does no harm
				if err := tasks.Update(t.Context(), connect(t, f.URL, modern, nil), task.ID, answers); err != nil {
					t.Error(err)
				}
			}
		},
	})
	if err != nil || textOf(result) != "Bea <nil> sun 0" {
		t.Errorf("%s, %v", textOf(result), err)
	}
}

// A question without an answer ends the task of Call. Wait leaves it to others.
func TestUnanswered(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	opts := asking(new(atomic.Int32))
	broken := errors.New("nobody is there")
	opts.ElicitationHandler = func(context.Context, *mcp.ElicitRequest) (*mcp.ElicitResult, error) { return nil, broken }
	session := connect(t, f.URL, modern, opts)
	var id string
	_, err := tasks.Call(t.Context(), session, params("asks", ""), &tasks.Options{Created: func(task *tasks.Task) { id = task.ID }})
	if !errors.Is(err, broken) {
		t.Errorf("Call: %v", err)
	}
	if _, err := tasks.Wait(t.Context(), session, id, nil); !errors.Is(err, tasks.ErrCancelled) {
		t.Errorf("Wait for the task of Call: %v", err)
	}
	task, _, err := tasks.Start(t.Context(), session, params("asks", ""))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tasks.Wait(t.Context(), session, task.ID, nil); !errors.Is(err, broken) {
		t.Errorf("Wait: %v", err)
	}
	if got, err := tasks.Get(t.Context(), session, task.ID); err != nil || got.Status != tasks.InputRequired || len(got.InputRequests) == 0 {
		t.Errorf("after Wait: %+v, %v", got, err)
	}
}
