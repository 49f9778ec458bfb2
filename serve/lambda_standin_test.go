//go:build unix

package serve

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/sluice-mcp/sluice/internal/schematest"
)

// A standIn is a Lambda function with a URL: it starts instances as it needs them, sends each one request at a time, freezes
// them in between, and ends those that exceed the timeout. It holds the program to the runtime API's streaming protocol.
type standIn struct {
	t       *testing.T
	url     string
	timeout time.Duration
	limit   int // of instances; 0 means none
	start   program
	base64  bool   // write all bodies in base64
	caller  string // the ARN of the IAM user who calls

	mu        sync.Mutex
	instances []*instance
	requests  int
	streams   int // GET requests to the endpoint
	started   int
	closing   bool // the test is over
}

// A program starts what asks the runtime API at an address for work. The process is nil if it runs in this one.
type program func(api string) (process *os.Process, stop func(), ended <-chan struct{})

// An instance is one execution environment.
type instance struct {
	f       *standIn
	process *os.Process
	ended   <-chan struct{}
	work    chan *call

	// Guarded by f.mu.
	idle    bool // waits for work
	served  int
	current *call
}

// A call is one invocation.
type call struct {
	id       string
	event    []byte
	deadline time.Time
	w        http.ResponseWriter
	answered bool          // a response has begun
	over     bool          // it is too late for one to begin
	broken   string        // why it is not whole
	done     chan struct{} // closed when the answer has been taken
}

const lambdaPatience = 2 * time.Minute

// newStandIn returns a function without instances. start runs the program that is to be one.
func newStandIn(t *testing.T, start program) *standIn {
	f := &standIn{t: t, timeout: time.Minute, start: start}
	front := httptest.NewServer(schematest.Watch(t, http.HandlerFunc(f.serveURL)))
	t.Cleanup(front.Close)
	f.url = front.URL
	return f
}

// serveURL is the function's URL.
func (f *standIn) serveURL(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		f.t.Error(err)
		return
	}
	if r.Method == http.MethodGet && r.URL.Path == "/mcp" {
		f.mu.Lock()
		f.streams++
		f.mu.Unlock()
	}
	c := &call{w: w, done: make(chan struct{}), event: f.event(r, body)}
	f.invoke(c)
	switch {
	case c.broken != "" && c.answered:
		panic(http.ErrAbortHandler)
	case c.broken != "":
		http.Error(w, c.broken, http.StatusBadGateway)
	}
}

// event writes a request as Lambda does.
func (f *standIn) event(r *http.Request, body []byte) []byte {
	headers := map[string]string{"host": "abc123.lambda-url.eu-central-1.on.aws", "x-forwarded-proto": "https"}
	for name, values := range r.Header {
		if name != "Cookie" {
			headers[strings.ToLower(name)] = strings.Join(values, ",")
		}
	}
	var cookies []string
	for _, c := range r.Cookies() {
		cookies = append(cookies, c.Name+"="+c.Value)
	}
	encoded := f.base64 || !utf8.Valid(body)
	text := string(body)
	if encoded {
		text = base64.StdEncoding.EncodeToString(body)
	}
	caller := map[string]any{}
	if f.caller != "" {
		caller["iam"] = map[string]any{"userArn": f.caller, "cognitoIdentity": nil}
	}
	event, err := json.Marshal(map[string]any{
		"version": "2.0", "routeKey": "$default", "rawPath": r.URL.EscapedPath(), "rawQueryString": r.URL.RawQuery,
		"cookies": cookies, "headers": headers, "body": text, "isBase64Encoded": encoded,
		"requestContext": map[string]any{
			"domainName": "abc123.lambda-url.eu-central-1.on.aws", "authorizer": caller,
			"http": map[string]any{"method": r.Method, "path": r.URL.Path, "protocol": "HTTP/1.1", "sourceIp": "192.0.2.7"},
		},
	})
	if err != nil {
		f.t.Error(err)
	}
	return event
}

// invoke has an instance answer the call, and returns when that is over.
func (f *standIn) invoke(c *call) {
	i := f.acquire(c)
	for i == nil {
		time.Sleep(time.Millisecond)
		i = f.acquire(c)
	}
	i.signal(syscall.SIGCONT)
	timeout := time.NewTimer(time.Until(c.deadline))
	defer timeout.Stop()
	select {
	case i.work <- c:
	case <-i.ended:
	}
	select {
	case <-c.done:
		return
	case <-i.ended:
	case <-timeout.C:
		i.signal(syscall.SIGKILL)
	}
	f.remove(i)
	if i.process != nil {
		<-i.ended
	}
	f.mu.Lock()
	c.over = true
	begun := c.answered
	f.mu.Unlock()
	if begun && i.process != nil { // what it wrote before it ended is still on its way to the client
		<-c.done
		return
	}
	c.broken = "the instance ended before its answer"
}

// acquire takes the instance that has been idle longest, or a new one. When there may be no more, it returns nil.
func (f *standIn) acquire(c *call) *instance {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c.id == "" {
		f.requests++
		c.id = fmt.Sprintf("00000000-0000-4000-8000-%012d", f.requests)
	}
	c.deadline = time.Now().Add(f.timeout)
	for n, i := range f.instances {
		if i.idle {
			i.idle = false
			i.served++
			f.instances = append(slices.Delete(f.instances, n, n+1), i)
			return i
		}
	}
	if f.limit > 0 && len(f.instances) == f.limit {
		return nil
	}
	f.started++
	i := &instance{f: f, work: make(chan *call), served: 1}
	f.instances = append(f.instances, i)
	api := httptest.NewServer(i.routes())
	process, stop, ended := f.start(api.Listener.Addr().String())
	i.process, i.ended = process, ended
	f.t.Cleanup(func() {
		f.mu.Lock()
		f.closing = true
		f.mu.Unlock()
		stop()
		<-ended
		api.Close()
	})
	return i
}

func (f *standIn) remove(i *instance) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.instances = slices.DeleteFunc(f.instances, func(other *instance) bool { return other == i })
}

// warm starts instances until there are n.
func (f *standIn) warm(n int) {
	var all []*call
	var wg sync.WaitGroup
	for range n {
		c := &call{w: httptest.NewRecorder(), done: make(chan struct{})}
		c.event = f.event(httptest.NewRequest(http.MethodGet, "/healthz", nil), nil)
		all = append(all, c)
		wg.Go(func() { f.invoke(c) })
	}
	wg.Wait()
	for _, c := range all {
		if c.broken != "" {
			f.t.Fatal(c.broken)
		}
	}
	f.until(fmt.Sprintf("%d idle instances", n), func() bool { return f.idle() >= n })
}

func (f *standIn) idle() (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, i := range f.instances {
		if i.idle {
			n++
		}
	}
	return n
}

// count returns how many instances were started, and how many have answered more than what they were started for.
func (f *standIn) count() (started, used int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, i := range f.instances {
		if i.served > 1 {
			used++
		}
	}
	return f.started, used
}

func (f *standIn) over() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.closing
}

func (f *standIn) until(what string, done func() bool) {
	f.t.Helper()
	deadline := time.Now().Add(lambdaPatience)
	for !done() {
		if time.Now().After(deadline) {
			f.t.Fatalf("no %s after %v", what, lambdaPatience)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func (i *instance) signal(s syscall.Signal) {
	if i.process != nil {
		_ = i.process.Signal(s) // it may have ended
	}
}

// routes is the runtime API of one instance.
func (i *instance) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /2018-06-01/runtime/invocation/next", i.next)
	mux.HandleFunc("POST /2018-06-01/runtime/invocation/{id}/response", i.response)
	mux.HandleFunc("POST /2018-06-01/runtime/invocation/{id}/error", i.error)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		i.f.t.Errorf("the runtime API has no %s %s", r.Method, r.URL)
		w.WriteHeader(http.StatusForbidden)
	})
	return mux
}

// next hands out work. Until there is some, the instance is frozen.
func (i *instance) next(w http.ResponseWriter, r *http.Request) {
	i.f.mu.Lock()
	first := i.current == nil
	i.f.mu.Unlock()
	if !first {
		i.signal(syscall.SIGSTOP)
		i.f.mu.Lock()
		i.idle = true
		i.f.mu.Unlock()
	}
	select {
	case c := <-i.work:
		i.f.mu.Lock()
		i.current = c
		i.f.mu.Unlock()
		h := w.Header()
		h.Set("Lambda-Runtime-Aws-Request-Id", c.id)
		h.Set("Lambda-Runtime-Deadline-Ms", strconv.FormatInt(c.deadline.UnixMilli(), 10))
		h.Set("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:eu-central-1:123456789012:function:demo")
		h.Set("Lambda-Runtime-Trace-Id", "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Sampled=0")
		h.Set("Content-Type", "application/json")
		_, _ = w.Write(c.event)
	case <-r.Context().Done():
	}
}

// take returns the invocation that a POST is about.
func (i *instance) take(w http.ResponseWriter, r *http.Request) *call {
	i.f.mu.Lock()
	defer i.f.mu.Unlock()
	if c := i.current; c != nil && c.id == r.PathValue("id") {
		return c
	}
	i.f.t.Errorf("an answer to %s, which is not running here", r.PathValue("id"))
	w.WriteHeader(http.StatusForbidden)
	return nil
}

// response passes a streamed response on, as it comes.
func (i *instance) response(w http.ResponseWriter, r *http.Request) {
	c := i.take(w, r)
	if c == nil {
		return
	}
	i.f.mu.Lock()
	c.answered = !c.over
	i.f.mu.Unlock()
	if !c.answered {
		w.WriteHeader(http.StatusGone)
		return
	}
	defer close(c.done)
	if err := stream(c, r); err != nil {
		if !i.f.over() && r.Context().Err() == nil {
			i.f.t.Errorf("not a streamed response: %v", err)
		}
		c.broken = err.Error()
	}
	if kind := r.Trailer.Get("Lambda-Runtime-Function-Error-Type"); kind != "" {
		text, err := base64.StdEncoding.DecodeString(r.Trailer.Get("Lambda-Runtime-Function-Error-Body"))
		if err != nil || !json.Valid(text) {
			i.f.t.Errorf("error trailer %q, %v", text, err)
		}
		c.broken = fmt.Sprintf("%s: %s", kind, text)
	}
	w.WriteHeader(http.StatusAccepted)
}

func stream(c *call, r *http.Request) error {
	if got := r.Header.Get("Lambda-Runtime-Function-Response-Mode"); got != "streaming" {
		return fmt.Errorf("response mode %q", got)
	}
	if got := r.Header.Get("Content-Type"); got != "application/vnd.awslambda.http-integration-response" {
		return fmt.Errorf("content type %q", got)
	}
	if !slices.Equal(r.TransferEncoding, []string{"chunked"}) || !r.Close {
		return fmt.Errorf("transfer encoding %q, close %v", r.TransferEncoding, r.Close)
	}
	var head []byte
	buf := make([]byte, 32<<10)
	for begun := false; ; {
		n, err := r.Body.Read(buf)
		part := buf[:n]
		if !begun {
			head = append(head, part...)
			text, rest, found := bytes.Cut(head, make([]byte, 8))
			if found {
				begun, part = true, rest
				if err := prelude(c.w, text); err != nil {
					return err
				}
			} else if err != nil {
				return fmt.Errorf("no prelude in %q: %w", head, err)
			}
		}
		if begun && n > 0 {
			// A client that has left does not end the invocation.
			_, _ = c.w.Write(part)
			_ = http.NewResponseController(c.w).Flush()
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func prelude(w http.ResponseWriter, text []byte) error {
	var p struct {
		StatusCode int
		Headers    map[string]string
		Cookies    []string
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&p); err != nil {
		return fmt.Errorf("prelude %q: %w", text, err)
	}
	for name, value := range p.Headers {
		w.Header().Set(name, value)
	}
	for _, cookie := range p.Cookies {
		w.Header().Add("Set-Cookie", cookie)
	}
	w.WriteHeader(p.StatusCode)
	return nil
}

// error takes the news that an invocation failed before its response.
func (i *instance) error(w http.ResponseWriter, r *http.Request) {
	c := i.take(w, r)
	if c == nil {
		return
	}
	body, _ := io.ReadAll(r.Body)
	c.broken = r.Header.Get("Lambda-Runtime-Function-Error-Type") + ": " + string(body)
	close(c.done)
	w.WriteHeader(http.StatusAccepted)
}

// inProcess makes a function of a handler in this process.
func inProcess(t *testing.T, handler http.Handler) program {
	return func(api string) (*os.Process, func(), <-chan struct{}) {
		ctx, stop := context.WithCancel(context.Background())
		ended := make(chan struct{})
		f := newFunction(api, handler, slog.New(slog.DiscardHandler))
		go func() {
			defer close(ended)
			if err := f.run(ctx); err != nil {
				t.Errorf("the function ended: %v", err)
			}
		}()
		return nil, stop, ended
	}
}

// executable makes a function of a program, whose log is shown if the test fails.
func executable(t *testing.T, path string, env ...string) program {
	return func(api string) (*os.Process, func(), <-chan struct{}) {
		var log bytes.Buffer // read after the end of the process
		cmd := exec.Command(path)
		cmd.Env = append([]string{"AWS_LAMBDA_RUNTIME_API=" + api, "AWS_LAMBDA_FUNCTION_NAME=demo"}, env...)
		cmd.Stdout, cmd.Stderr = &log, &log
		ended := make(chan struct{})
		if err := cmd.Start(); err != nil {
			t.Error(err)
			close(ended)
			return nil, func() {}, ended
		}
		go func() {
			defer close(ended)
			_ = cmd.Wait() // the state has it
			t.Logf("instance %d, %v:\n%s", cmd.Process.Pid, cmd.ProcessState, log.String())
		}()
		return cmd.Process, func() { _ = cmd.Process.Kill() }, ended
	}
}
