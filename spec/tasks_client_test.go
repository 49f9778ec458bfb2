package spec_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice/internal/cli"
	"github.com/sluice-mcp/sluice/internal/proxy"
	"github.com/sluice-mcp/sluice/tasks"
)

// This file has the statements on clients. Those of this project are the package tasks, "sluice call" and "sluice task", which stand on
// it, and "sluice proxy", which passes on what another client does.

// A wiretap stands before an endpoint, remembers what comes, and answers some of it itself, as a server would that is not ours.
type wiretap struct {
	// script has the results for methods, as JSON: those of the n-th request, counted from 1. What returns "" is left to the endpoint.
	script map[string]func(n int) string

	mu   sync.Mutex
	seen []sent
}

// What a client has sent.
type sent struct {
	method string
	header http.Header
	params obj
	at     time.Time
}

func (w *wiretap) install(c *config) {
	c.wrap = func(_ *env, inner http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			r.Body = io.NopCloser(bytes.NewReader(body))
			var m struct {
				ID     json.RawMessage
				Method string
				Params obj
			}
			_ = json.Unmarshal(body, &m)
			w.mu.Lock()
			w.seen = append(w.seen, sent{m.Method, r.Header.Clone(), m.Params, time.Now()})
			w.mu.Unlock()
			if answer := w.script[m.Method]; answer != nil {
				if result := answer(len(w.of(m.Method))); result != "" {
					rw.Header().Set("Content-Type", "application/json")
					_, _ = fmt.Fprintf(rw, `{"jsonrpc":"2.0","id":%s,"result":%s}`, m.ID, result)
					return
				}
			}
			inner.ServeHTTP(rw, r)
		})
	}
}

// of returns what has come of some methods, of all of them by default.
func (w *wiretap) of(methods ...string) []sent {
	w.mu.Lock()
	defer w.mu.Unlock()
	var some []sent
	for _, s := range w.seen {
		if len(methods) == 0 || slices.Contains(methods, s.method) {
			some = append(some, s)
		}
	}
	return some
}

// release lets a tool go when the task that works on it has been polled three times from now on.
func (w *wiretap) release(e *env, key string) {
	for n := len(w.of("tasks/get")); len(w.of("tasks/get")) < n+3; {
		time.Sleep(brief)
	}
	e.probe.release(key)
}

// tapped starts an endpoint with tasks behind a wiretap.
func tapped(t *testing.T, script map[string]func(n int) string) (*env, *wiretap) {
	t.Helper()
	w := &wiretap{script: script}
	return serveTasks(t, w.install), w
}

// Of a scripted server.
const (
	handle = `{"resultType":"task","taskId":"T","status":"working","createdAt":"2026-01-01T00:00:00.000Z","lastUpdatedAt":"2026-01-01T00:00:00.000Z","ttlMs":1000,"pollIntervalMs":20}`
	done   = `{"resultType":"complete","taskId":"T","status":"completed","createdAt":"2026-01-01T00:00:00.000Z","lastUpdatedAt":"2026-01-01T00:00:00.000Z","ttlMs":1000,"pollIntervalMs":20,"result":{"resultType":"complete","content":[{"type":"text","text":"done"}]}}`
	ack    = `{"resultType":"complete"}`
)

// asking is a task that asks by these keys.
func asking(keys ...string) string {
	requests := obj{}
	for _, key := range keys {
		requests[key] = obj{"method": "elicitation/create", "params": obj{"mode": "form", "message": key, "requestedSchema": obj{"type": "object", "properties": obj{}}}}
	}
	raw, err := json.Marshal(requests)
	if err != nil {
		panic(err)
	}
	return strings.Replace(handle, `"task","taskId":"T","status":"working"`, `"complete","taskId":"T","status":"input_required","inputRequests":`+string(raw), 1)
}

func always(result string) func(int) string { return func(int) string { return result } }

// person answers what a client is asked, and counts.
type person struct {
	mu    sync.Mutex
	asked []string
	think func(ctx context.Context, message string)
}

func (p *person) options() *mcp.ClientOptions {
	return &mcp.ClientOptions{
		ElicitationHandler: func(ctx context.Context, req *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
			p.mu.Lock()
			p.asked = append(p.asked, req.Params.Message)
			p.mu.Unlock()
			if p.think != nil {
				p.think(ctx, req.Params.Message)
			}
			return &mcp.ElicitResult{Action: "accept", Content: map[string]any{"name": "Ann"}}, nil
		},
		CreateMessageHandler: func(context.Context, *mcp.CreateMessageRequest) (*mcp.CreateMessageResult, error) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.asked = append(p.asked, "sampling")
			return &mcp.CreateMessageResult{Role: "assistant", Model: "m", Content: &mcp.TextContent{Text: "moon"}}, nil
		},
	}
}

func (p *person) questions() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Sorted(slices.Values(p.asked))
}

// client connects the official SDK's client, which package tasks has prepared.
func (e *env) client(t *testing.T, opts *mcp.ClientOptions, edits ...func(*mcp.Client)) *mcp.ClientSession {
	t.Helper()
	c := mcp.NewClient(&mcp.Implementation{Name: "spec-client", Version: "v1"}, opts)
	c.AddRoots(&mcp.Root{URI: "file:///here"})
	transport := &mcp.StreamableClientTransport{Endpoint: e.url()}
	if err := tasks.Enable(c, transport); err != nil {
		t.Fatal(err)
	}
	for _, edit := range edits {
		edit(c)
	}
	session, err := c.Connect(t.Context(), transport, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = session.Close() })
	return session
}

func (e *env) url() string { return "http://" + e.addr + "/mcp" }

func params(tool string, arguments obj) *mcp.CallToolParams {
	return &mcp.CallToolParams{Name: tool, Arguments: arguments}
}

// said is the text of a result.
func said(t *testing.T, result *mcp.CallToolResult, err error) string {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if len(result.Content) == 0 {
		t.Fatalf("the result is empty: %+v", result)
	}
	first, ok := result.Content[0].(*mcp.TextContent)
	if !ok {
		t.Fatalf("the result is %+v", result)
	}
	return first.Text
}

// sluice runs the command, with a standard input that is no terminal.
func sluiceCommand(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	in, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	w.Close()
	var out, errs bytes.Buffer
	code = cli.Run(args, in, &out, &errs)
	return out.String(), errs.String(), code
}

// A desktop is a client behind "sluice proxy".
type desktop struct {
	in  io.Writer
	out *bufio.Scanner
	n   int
}

func (e *env) proxied(t *testing.T) *desktop {
	t.Helper()
	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	transport := proxy.NewTransport()
	bridge := &proxy.Bridge{URL: e.url(), Transport: transport, Log: slog.New(slog.DiscardHandler)}
	over := make(chan error, 1)
	go func() {
		err := bridge.Run(t.Context(), inR, outW)
		_ = outW.Close()
		transport.CloseIdleConnections()
		over <- err
	}()
	t.Cleanup(func() {
		_ = inW.Close()
		_, _ = io.Copy(io.Discard, outR)
		if err := <-over; err != nil {
			t.Errorf("the proxy ended with %v", err)
		}
	})
	d := &desktop{in: inW, out: bufio.NewScanner(outR)}
	d.out.Buffer(nil, 1<<20)
	return d
}

func (d *desktop) write(t *testing.T, m obj) {
	t.Helper()
	if _, err := fmt.Fprintf(d.in, "%s\n", mustJSON(t, m)); err != nil {
		t.Fatal(err)
	}
}

// do sends a request and returns its result.
func (d *desktop) do(t *testing.T, method string, params obj) obj {
	t.Helper()
	d.n++
	d.write(t, declared(request(d.n, method, params)))
	if !d.out.Scan() {
		t.Fatalf("%s: no answer: %v", method, d.out.Err())
	}
	return decode(t, d.out.Bytes()).object(t)
}

func testK04(t *testing.T) {
	e, _ := tapped(t, nil)
	session := e.client(t, nil)
	for _, tool := range []string{"rich", "never"} {
		want := e.send26(t, undeclared(call(1, tool, obj{}))).result(t)
		result, err := tasks.Call(t.Context(), session, params(tool, obj{}), nil)
		if got := said(t, result, err); got != content(t, want) {
			t.Errorf("%s: the client has %q", tool, got)
		}
		out, stderr, code := sluiceCommand(t, "call", e.url(), tool, "--json")
		if code != 0 {
			t.Errorf("%s: the command ends with %d: %s", tool, code, stderr)
		} else if diff := cmp.Diff(want, object(t, []byte(out))); diff != "" {
			t.Errorf("%s: the command prints: %s", tool, diff)
		}
		if got := e.proxied(t).do(t, "tools/call", obj{"name": tool, "arguments": obj{}}); (got["resultType"] == "task") != (tool == "rich") {
			t.Errorf("%s: the proxy passes on %v", tool, got)
		}
	}
}

func testK05(t *testing.T) {
	script := map[string]func(int) string{}
	for _, method := range []string{"prompts/get", "resources/read", "tools/list", "prompts/list", "completion/complete", "tasks/update", "tasks/cancel"} {
		script[method] = always(handle)
	}
	script["tools/call"] = always(handle) // to a call that did not declare the extension
	e, _ := tapped(t, script)
	session := e.client(t, nil)
	for method, send := range map[string]func(context.Context) (any, error){
		"prompts/get": func(ctx context.Context) (any, error) {
			return session.GetPrompt(ctx, &mcp.GetPromptParams{Name: "greet"})
		},
		"resources/read": func(ctx context.Context) (any, error) {
			return session.ReadResource(ctx, &mcp.ReadResourceParams{URI: "x:y"})
		},
		"tools/list":   func(ctx context.Context) (any, error) { return session.ListTools(ctx, nil) },
		"prompts/list": func(ctx context.Context) (any, error) { return session.ListPrompts(ctx, nil) },
		"completion/complete": func(ctx context.Context) (any, error) {
			return session.Complete(ctx, &mcp.CompleteParams{Ref: &mcp.CompleteReference{Type: "ref/prompt", Name: "greet"}})
		},
		"tasks/update":         func(ctx context.Context) (any, error) { return nil, tasks.Update(ctx, session, "T", nil) },
		"tasks/cancel":         func(ctx context.Context) (any, error) { return nil, tasks.Cancel(ctx, session, "T") },
		"tools/call, ordinary": func(ctx context.Context) (any, error) { return session.CallTool(ctx, params("rich", obj{})) },
	} {
		if got, err := send(t.Context()); err == nil || !strings.Contains(err.Error(), "task") {
			t.Errorf("%s is answered with a handle, and the client has %+v, %v", method, got, err)
		}
	}
	if out, stderr, code := sluiceCommand(t, "inspect", e.url()); code == 0 {
		t.Errorf("the command takes a handle for a list of tools: %s%s", out, stderr)
	}
}

func testK11(t *testing.T) {
	e, w := tapped(t, nil)
	var messages []string
	_, err := tasks.Call(t.Context(), e.client(t, nil), params("work", obj{"key": "go", "text": "half of it"}), &tasks.Options{
		Changed: func(k *tasks.Task) {
			if messages = append(messages, k.StatusMessage); k.StatusMessage != "" && k.Status == tasks.Working {
				e.release("go")
			}
		},
	})
	if err != nil || !slices.Contains(messages, "half of it") {
		t.Errorf("the client is told %q, %v", messages, err)
	}
	go w.release(e, "command")
	if _, stderr, code := sluiceCommand(t, "call", e.url(), "work", "key=command", "text=half of it"); code != 0 || !strings.Contains(stderr, "working: half of it") {
		t.Errorf("the command says %q and ends with %d", stderr, code)
	}
}

func testK19(t *testing.T) {
	// The server wants 300 ms, and later 500.
	e, w := tapped(t, map[string]func(int) string{
		"tools/call": always(strings.Replace(handle, `"pollIntervalMs":20`, `"pollIntervalMs":300`, 1)),
		"tasks/get": func(n int) string {
			if n < 3 {
				return strings.NewReplacer(`"resultType":"task"`, ack[1:len(ack)-1], `"pollIntervalMs":20`, `"pollIntervalMs":500`).Replace(handle)
			}
			return done
		},
	})
	result, err := tasks.Call(t.Context(), e.client(t, nil), params("x", obj{}), nil)
	if got := said(t, result, err); got != "done" {
		t.Errorf("it ends with %q", got)
	}
	last, want := w.of("tools/call")[0].at, 300*time.Millisecond
	for i, s := range w.of("tasks/get") {
		if pause := s.at.Sub(last); pause < want {
			t.Errorf("poll %d comes after %v, the server wants %v", i+1, pause, want)
		}
		last, want = s.at, 500*time.Millisecond
	}
}

func testK21(t *testing.T) {
	e, w := tapped(t, nil)
	session := e.client(t, nil)
	settled := func(what string) {
		t.Helper()
		n := len(w.of())
		time.Sleep(5 * brief)
		if more := w.of()[n:]; len(more) > 0 {
			t.Errorf("%s, and the client goes on: %v", what, more)
		}
	}
	for _, tool := range []string{"rich", "wrong", "fails"} {
		_, err := tasks.Call(t.Context(), session, params(tool, obj{}), nil)
		if _, failed := errors.AsType[*tasks.FailedError](err); failed != (tool == "fails") || err != nil && !failed {
			t.Errorf("%s: %v", tool, err)
		}
		settled(tool)
	}
	// Another one cancels it.
	_, err := tasks.Call(t.Context(), session, params("work", obj{"key": "a"}), &tasks.Options{Created: func(k *tasks.Task) { (&task{env: e, id: k.ID}).cancel(t) }})
	if !errors.Is(err, tasks.ErrCancelled) {
		t.Errorf("a task that is cancelled by somebody else: %v", err)
	}
	settled("it is cancelled")
}

func testK22(t *testing.T) {
	e, w := tapped(t, nil)
	e.release("k")
	var id string
	_, err := tasks.Call(t.Context(), e.client(t, nil), params("work", obj{"key": "k"}), &tasks.Options{Created: func(k *tasks.Task) {
		if id = k.ID; len(w.of("tasks/get")) > 0 {
			t.Error("the task was polled before its ID was given away")
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	// Whoever has kept it comes back from elsewhere.
	result, err := tasks.Wait(t.Context(), e.client(t, nil), id, nil)
	if got := said(t, result, err); got != "worked k" {
		t.Errorf("who comes back is told %q", got)
	}
	out, _, _ := sluiceCommand(t, "call", e.url(), "work", "key=k", "--detach")
	if out, stderr, code := sluiceCommand(t, "task", "wait", e.url(), strings.TrimSpace(out)); code != 0 || out != "worked k\n" {
		t.Errorf("the command that comes back ends with %d: %s%s", code, out, stderr)
	}
	if _, stderr, _ := sluiceCommand(t, "call", e.url(), "work", "key=k"); !strings.HasPrefix(stderr, "task: ") {
		t.Errorf("the command begins with %q, not with the ID", stderr)
	}
}

func testK27(t *testing.T) {
	e, w := tapped(t, map[string]func(int) string{
		"tools/call": always(handle), // its time was over months ago, by the clock of whoever reads it
		"tasks/get": func(n int) string {
			if n < 4 {
				return strings.Replace(handle, `"task"`, `"complete"`, 1)
			}
			return done
		},
	})
	result, err := tasks.Call(t.Context(), e.client(t, nil), params("x", obj{}), nil)
	if got := said(t, result, err); got != "done" || len(w.of("tasks/get")) != 4 {
		t.Errorf("after %d polls: %q", len(w.of("tasks/get")), got)
	}
}

func testK29(t *testing.T) {
	e, w := tapped(t, nil)
	p := &person{}
	if _, err := tasks.Call(t.Context(), e.client(t, p.options()), params("everything", obj{}), nil); err != nil {
		t.Fatal(err)
	}
	answered := map[string]bool{}
	for _, s := range w.of("tasks/update") {
		for key := range s.params["inputResponses"].(obj) {
			answered[key] = true
		}
	}
	if diff := cmp.Diff(map[string]bool{"name.1": true, "words.1": true, "roots.1": true}, answered); diff != "" {
		t.Errorf("answered: %s", diff)
	}
}

func testK30(t *testing.T) {
	e, w := tapped(t, nil)
	result, err := tasks.Call(t.Context(), e.client(t, (&person{}).options()), params("turns", obj{"n": 2}), nil)
	if got := said(t, result, err); got != "a=Ann b=Ann a=Ann b=Ann" {
		t.Errorf("it ends with %q", got)
	}
	all := w.of("tasks/get", "tasks/update")
	if last := all[len(all)-1]; last.method != "tasks/get" || len(w.of("tasks/update")) != 2 {
		t.Errorf("the client has sent %v", all)
	}
}

func testK31(t *testing.T) {
	e, w := tapped(t, nil)
	var mu sync.Mutex
	var passed []string
	guard := func(c *mcp.Client) {
		c.AddReceivingMiddleware(func(next mcp.MethodHandler) mcp.MethodHandler {
			return func(ctx context.Context, method string, req mcp.Request) (mcp.Result, error) {
				mu.Lock()
				passed = append(passed, method)
				mu.Unlock()
				return next(ctx, method, req)
			}
		})
	}
	p := &person{}
	if _, err := tasks.Call(t.Context(), e.client(t, p.options(), guard), params("everything", obj{}), nil); err != nil {
		t.Error(err)
	}
	slices.Sort(passed)
	if want := []string{"elicitation/create", "roots/list", "sampling/createMessage"}; !slices.Equal(passed, want) {
		t.Errorf("the client's middleware saw %v", passed)
	}
	if want := []string{"Who are you?", "sampling"}; !slices.Equal(p.questions(), want) {
		t.Errorf("the handlers were asked %v", p.questions())
	}
	// Middleware that refuses such a request refuses it here, too.
	before := len(w.of("tasks/update"))
	refuse := func(c *mcp.Client) {
		c.AddReceivingMiddleware(func(mcp.MethodHandler) mcp.MethodHandler {
			return func(context.Context, string, mcp.Request) (mcp.Result, error) {
				return nil, errors.New("not of this server")
			}
		})
	}
	if _, err := tasks.Call(t.Context(), e.client(t, p.options(), refuse), params("asks", obj{}), nil); err == nil || !strings.Contains(err.Error(), "not of this server") {
		t.Errorf("what is refused ends as %v", err)
	}
	// A client that has no handler answers nothing, whatever it is asked.
	rude, rudeTap := tapped(t, map[string]func(int) string{"tools/call": always(handle), "tasks/get": always(asking("q")), "tasks/cancel": always(ack)})
	if result, err := tasks.Call(t.Context(), rude.client(t, nil), params("x", obj{}), nil); err == nil {
		t.Errorf("a client that cannot be asked has %+v", result)
	}
	if n := len(w.of("tasks/update")) - before + len(rudeTap.of("tasks/update")); n > 0 {
		t.Errorf("%d answers were sent", n)
	}
}

func testK32(t *testing.T) {
	e, _ := tapped(t, nil)
	p := &person{}
	result, err := tasks.Call(t.Context(), e.client(t, p.options()), params("turns", obj{"n": 1}), nil)
	if got := said(t, result, err); got != "a=Ann b=Ann" || !slices.Equal(p.questions(), []string{"a?", "b?"}) {
		t.Errorf("asked %v, it ends with %q", p.questions(), got)
	}
}

// persistent is a server that shows its questions longer than it has to.
func persistent(t *testing.T) (*env, *wiretap) {
	return tapped(t, map[string]func(int) string{
		"tools/call":   always(handle),
		"tasks/update": always(ack),
		"tasks/get": func(n int) string {
			switch {
			case n <= 8:
				return asking("one")
			case n <= 16:
				return asking("one", "two")
			}
			return done
		},
	})
}

func testK33(t *testing.T) {
	e, _ := persistent(t)
	p := &person{think: func(context.Context, string) { time.Sleep(3 * brief) }} // polls go on meanwhile
	result, err := tasks.Call(t.Context(), e.client(t, p.options()), params("x", obj{}), nil)
	if got := said(t, result, err); got != "done" || !slices.Equal(p.questions(), []string{"one", "two"}) {
		t.Errorf("asked %v, it ends with %q", p.questions(), got)
	}
}

func testK34(t *testing.T) {
	e, w := persistent(t)
	if _, err := tasks.Call(t.Context(), e.client(t, (&person{}).options()), params("x", obj{}), nil); err != nil {
		t.Fatal(err)
	}
	n := map[string]int{}
	for _, s := range w.of("tasks/update") {
		for key := range s.params["inputResponses"].(obj) {
			n[key]++
		}
	}
	if diff := cmp.Diff(map[string]int{"one": 1, "two": 1}, n); diff != "" {
		t.Errorf("how often each key is answered: %s", diff)
	}
}

func testK38(t *testing.T) {
	// Of two questions, another client answers the second while ours still thinks about the first.
	var w *wiretap
	e, w := tapped(t, map[string]func(int) string{
		"tools/call":   always(handle),
		"tasks/update": always(ack),
		"tasks/get": func(n int) string {
			switch {
			case n <= 3:
				return asking("slow", "quick")
			case len(w.of("tasks/update")) == 0:
				return asking("slow")
			}
			return done
		},
	})
	p := &person{think: func(_ context.Context, message string) {
		if message == "slow" {
			for len(w.of("tasks/get")) < 6 {
				time.Sleep(brief)
			}
		}
	}}
	if _, err := tasks.Call(t.Context(), e.client(t, p.options()), params("x", obj{}), nil); err != nil {
		t.Fatal(err)
	}
	for _, s := range w.of("tasks/update") {
		if answers := s.params["inputResponses"].(obj); len(answers) != 1 || answers["slow"] == nil {
			t.Errorf("answered %v, and only one question was open", answers)
		}
	}
}

func testK44(t *testing.T) {
	e, w := tapped(t, nil)
	session := e.client(t, nil)
	for _, when := range []string{"at once", "while it works"} {
		ctx, cancel := context.WithCancel(t.Context())
		_, err := tasks.Call(ctx, session, params("work", obj{"key": when, "text": "begun"}), &tasks.Options{
			Created: func(*tasks.Task) {
				if when == "at once" {
					cancel()
				}
			},
			Changed: func(*tasks.Task) { cancel() },
		})
		cancel()
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", when, err)
		}
	}
	k := e.begun(t, "work", obj{"key": "command"})
	if _, stderr, code := sluiceCommand(t, "task", "cancel", e.url(), k.id); code != 0 {
		t.Errorf("the command ends with %d: %s", code, stderr)
	}
	k.until(t, "cancelled")
	if n := len(w.of("tasks/cancel")); n != 3 {
		t.Errorf("%d times tasks/cancel, want 3", n)
	}
	// It would be of no use: the request that it names is over.
	d := e.proxied(t)
	k = &task{env: e, id: d.do(t, "tools/call", obj{"name": "work", "arguments": obj{"key": "k"}})["taskId"].(string)}
	d.write(t, notification("notifications/cancelled", obj{"requestId": d.n}))
	for _, id := range []any{1, k.id} {
		m := declared(notification("notifications/cancelled", obj{"requestId": id}))
		n := len(w.of("notifications/cancelled"))
		e.do(t, e.post(t, m, mirror(m)...)).accepted(t)
		if len(w.of("notifications/cancelled")) != n+1 {
			t.Error("a client has sent notifications/cancelled for a task")
		}
	}
	time.Sleep(quietly)
	k.until(t, "working")
	e.release("k")
	k.until(t, "completed")
}

func testK50(t *testing.T) {
	e, w := tapped(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	_, err := tasks.Call(ctx, e.client(t, nil), params("deaf", obj{"key": "k"}), &tasks.Options{Created: func(*tasks.Task) { cancel() }})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("the client has %v", err)
	}
	time.Sleep(5 * brief)
	if all := w.of("tasks/get", "tasks/update", "tasks/cancel"); len(all) != 1 || all[0].method != "tasks/cancel" {
		t.Errorf("the client has sent %v", all)
	}
	e.release("k")
}

func testK55(t *testing.T) {
	e, w := tapped(t, nil)
	go w.release(e, "k")
	if _, err := tasks.Call(t.Context(), e.client(t, nil), params("work", obj{"key": "k"}), nil); err != nil {
		t.Fatal(err)
	}
	if n := len(w.of("tasks/get")); n < 2 || len(w.of("subscriptions/listen")) > 0 {
		t.Errorf("%d polls, and %v", n, w.of("subscriptions/listen"))
	}
	// Who listens may poll besides, here and through the proxy.
	k := e.begun(t, "asks", obj{})
	k.until(t, "input_required")
	l := e.listenTo(t, "L", k.id)
	l.told(t)
	k.get(t)
	l.quiet(t, "a poll is no change")
}

func testK58(t *testing.T) {
	e, w := tapped(t, nil)
	p := &person{}
	session := e.client(t, p.options())
	if _, err := tasks.Call(t.Context(), session, params("asks", obj{}), nil); err != nil {
		t.Error(err)
	}
	odd := "not a task: ü"
	if _, err := tasks.Get(t.Context(), session, odd); err == nil || !strings.Contains(err.Error(), "no task") {
		t.Errorf("of a task that there is not: %v", err)
	}
	_ = tasks.Cancel(t.Context(), session, " padded ")
	_, _, _ = sluiceCommand(t, "call", e.url(), "asks") // which cancels, or declines
	k := e.begun(t, "asks", obj{})
	for _, sub := range []string{"get", "cancel"} {
		if _, stderr, code := sluiceCommand(t, "task", sub, e.url(), k.id); code != 0 {
			t.Errorf("task %s ends with %d: %s", sub, code, stderr)
		}
	}
	d := e.proxied(t)
	id := d.do(t, "tools/call", obj{"name": "asks", "arguments": obj{}})["taskId"]
	d.do(t, "tasks/get", obj{"taskId": id})
	d.do(t, "tasks/update", obj{"taskId": id, "inputResponses": obj{}})
	d.do(t, "tasks/cancel", obj{"taskId": id})

	n := map[string]int{}
	for _, s := range w.of("tasks/get", "tasks/update", "tasks/cancel") {
		n[s.method]++
		name := s.header.Get("Mcp-Name")
		if inner, ok := strings.CutPrefix(name, "=?base64?"); ok {
			raw, _ := base64.StdEncoding.DecodeString(strings.TrimSuffix(inner, "?="))
			name = string(raw)
		}
		if s.header.Get("Mcp-Method") != s.method || name != s.params["taskId"] {
			t.Errorf("%s %v is sent with %v", s.method, s.params["taskId"], s.header)
		}
	}
	for _, s := range w.of("tools/call") {
		if s.header.Get("Mcp-Method") != s.method || s.header.Get("Mcp-Name") != s.params["name"] {
			t.Errorf("%s %v is sent with %v", s.method, s.params["name"], s.header)
		}
	}
	if n["tasks/get"] < 4 || n["tasks/update"] < 2 || n["tasks/cancel"] < 3 {
		t.Errorf("sent: %v", n)
	}
}

func testK72(t *testing.T) {
	e, w := tapped(t, nil)
	e.srv.AddTool(marked("trick"), func(_ context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		if r, ok := req.Params.InputResponses["q"].(*mcp.ElicitResult); ok {
			return text("%s", r.Action), nil
		}
		return &mcp.CallToolResult{InputRequests: mcp.InputRequestMap{"q": question("\x1b[8mhidden\x1b[0m\r\nsluice: your password?")}}, nil
	})
	// The command asks its person. Where there is none it declines, and what it is asked cannot pass for its own words.
	for _, args := range [][]string{{"call", e.url(), "trick"}, {"task", "wait", e.url(), e.begun(t, "trick", obj{}).id}} {
		out, stderr, code := sluiceCommand(t, args...)
		if out != "decline\n" || code != 0 || strings.ContainsAny(stderr, "\x1b\r") || strings.Contains(stderr, "\nsluice:") {
			t.Errorf("%v ends with %d: %q %q", args, code, out, stderr)
		}
	}
	// It does not say that it can be asked to sample, and so is not.
	before := len(w.of("tasks/update"))
	if out, _, code := sluiceCommand(t, "call", e.url(), "asks", "text=sample"); code == 0 || len(w.of("tasks/update")) > before {
		t.Errorf("a command that cannot sample ends with %d: %s", code, out)
	}
}

func testK79(t *testing.T) {
	e, _ := tapped(t, nil)
	var life []string
	result, err := tasks.Call(t.Context(), e.client(t, (&person{}).options()), params("asks", obj{}), &tasks.Options{
		Created: func(k *tasks.Task) { life = append(life, "created "+string(k.Status)) },
		Changed: func(k *tasks.Task) { life = append(life, string(k.Status)) },
	})
	if got := said(t, result, err); got != "Hello, Ann after plain-name" {
		t.Errorf("the call returns %q", got)
	}
	life = slices.Compact(slices.DeleteFunc(life, func(s string) bool { return s == "working" })) // whether that is seen is a matter of time
	if want := []string{"created working", "input_required", "completed"}; !slices.Equal(life, want) {
		t.Errorf("its life was %v, want %v", life, want)
	}
	e.release("k")
	if out, stderr, code := sluiceCommand(t, "call", e.url(), "work", "key=k"); code != 0 || out != "worked k\n" || !strings.Contains(stderr, "working") {
		t.Errorf("the command prints %q and %q, and ends with %d", out, stderr, code)
	}
}
