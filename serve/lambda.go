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
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-mcp/sluice"
)

// This file and lambdahttp.go serve the URL of an AWS Lambda function in the invoke mode RESPONSE_STREAM. They speak Lambda's
// runtime API themselves: the official client links net/rpc and with it a template engine that looks methods up by
// name, which doubles the binary (10.7 to 22.5 MB) unless everybody builds with a tag; its lambdaurl
// loses cookies and ends the process when a handler panics.
//
// https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
// https://docs.aws.amazon.com/lambda/latest/dg/runtimes-custom.html#runtimes-custom-response-streaming

// runtimeAPI is the variable that tells a process that it is a Lambda function's, and where it gets its work.
const runtimeAPI = "AWS_LAMBDA_RUNTIME_API"

const (
	headerRequestID    = "Lambda-Runtime-Aws-Request-Id"
	headerDeadline     = "Lambda-Runtime-Deadline-Ms"
	headerResponseMode = "Lambda-Runtime-Function-Response-Mode"
	headerErrorType    = "Lambda-Runtime-Function-Error-Type" // also a trailer
	trailerErrorBody   = "Lambda-Runtime-Function-Error-Body"

	streamedResponse = "application/vnd.awslambda.http-integration-response"
)

// parting is how long before the function's timeout a response is ended, or a tenth of what time there is. At the timeout
// Lambda ends the process, and with it what other requests left here.
const parting = time.Second

var errTimeUp = errors.New("the function's time is up")

// startLambda serves the function's URL. Lambda sends an instance one request at a time, and freezes it between them.
func (a *App) startLambda(ctx context.Context) error {
	if tools := sluice.ToolsRequiringTasks(ctx, a.server); len(tools) > 0 {
		return settingError{fmt.Errorf("nothing runs after the response on AWS Lambda, so no call can become a task there, which is required by: %s",
			strings.Join(tools, ", "))}
	}
	if err := a.startTelemetry(ctx, false); err != nil {
		return err
	}
	var principal func(*http.Request) string
	if a.guard == nil {
		principal = iamPrincipal
	}
	if err := a.open(ctx, principal); err != nil {
		return err
	}
	a.warnUnshared()
	f := newFunction(os.Getenv(runtimeAPI), a.routes(), a.log)
	serving, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	a.onStop("invocations", func(ctx context.Context) error {
		stop()
		select {
		case <-ended:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	a.onStop("drain", a.drain)
	go func() {
		defer close(ended)
		if err := f.run(serving); err != nil {
			a.done <- err
		}
	}()
	a.log.Info("serving MCP on AWS Lambda", "path", a.cfg.Path)
	return nil
}

// warnUnshared says once what does not work across the instances of a function.
func (a *App) warnUnshared() {
	var lost, set []string
	if strings.HasPrefix(a.cfg.StoreURL, "memory:") {
		lost, set = append(lost, "sessions"), append(set, "MCP_STORE_URL")
	}
	if len(a.cfg.StateKeys) == 0 {
		lost, set = append(lost, "rounds of a call"), append(set, "MCP_STATE_KEYS")
	}
	if len(set) > 0 {
		a.log.Warn("Lambda starts instances as it likes, and what is kept in one is unknown to the others",
			"kept", strings.Join(lost, ", "), "set", strings.Join(set, ", "))
	}
}

// A function takes invocations from the runtime API, one after the other, and has an [http.Handler] answer them.
type function struct {
	handler http.Handler
	log     *slog.Logger
	base    string
	client  *http.Client
}

func newFunction(api string, handler http.Handler, log *slog.Logger) *function {
	return &function{
		handler: handler,
		log:     log,
		base:    "http://" + api + "/2018-06-01/runtime/invocation/",
		// Not the default transport: a proxy in the environment is for the function's own traffic.
		client: &http.Client{Transport: &http.Transport{DisableCompression: true}},
	}
}

// run returns when ctx ends, with nil, or when there is no getting work any more.
func (f *function) run(ctx context.Context) error {
	for {
		inv, err := f.next(ctx)
		switch {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // the end that was asked for
		case err != nil:
			return fmt.Errorf("lambda runtime API: %w", err)
		}
		if err := f.serve(ctx, inv); err != nil {
			f.log.Error("the answer to an invocation was not taken", "invocation", inv.id, "error", err)
		}
	}
}

// An invocation is one request to the function.
type invocation struct {
	id       string
	deadline time.Time
	event    []byte
}

// next waits for the next invocation; the instance may be frozen meanwhile. To ask for it says that the last one is over.
func (f *function) next(ctx context.Context) (inv invocation, err error) {
	req, err := f.request(ctx, http.MethodGet, "next", nil)
	if err != nil {
		return inv, err
	}
	resp, err := f.client.Do(req) //nolint:gosec // who sets our environment may choose where this goes
	if err != nil {
		return inv, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return inv, errors.New("next: " + resp.Status)
	}
	ms, err := strconv.ParseInt(resp.Header.Get(headerDeadline), 10, 64)
	if err != nil {
		return inv, fmt.Errorf("%s: %w", headerDeadline, err)
	}
	inv.id, inv.deadline = resp.Header.Get(headerRequestID), time.UnixMilli(ms)
	inv.event, err = io.ReadAll(resp.Body)
	return inv, err
}

// serve answers one invocation. It returns when the handler has, for the next invocation must not meet it.
func (f *function) serve(ctx context.Context, inv invocation) error {
	left := time.Until(inv.deadline)
	ctx, cancel := context.WithTimeoutCause(ctx, left-min(left/10, parting), errTimeUp)
	defer cancel()
	r, err := newRequest(ctx, inv.event)
	if err != nil {
		f.log.Error("an invocation that is no request to the function's URL", "invocation", inv.id, "error", err)
		return f.refuse(inv, err)
	}
	body, pipe := io.Pipe()
	w := newResponseWriter(pipe, r)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		f.handle(w, r)
	}()
	<-w.begun
	err = f.respond(inv, body, w.trailer)
	cancel() // if the rest is not wanted
	_ = body.Close()
	<-ended
	return err
}

// handle keeps net/http's promises to a handler: it may panic, and it may return without a word.
func (f *function) handle(w *responseWriter, r *http.Request) {
	defer func() {
		switch p := recover(); {
		case p == nil:
			if !w.wrote && errors.Is(context.Cause(r.Context()), errTimeUp) {
				w.answer(http.StatusGatewayTimeout, errTimeUp.Error())
			}
		default:
			if err, ok := p.(error); !ok || !errors.Is(err, http.ErrAbortHandler) {
				f.log.Error("handler panicked", "path", r.URL.Path, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			}
			if w.wrote {
				w.fail("HandlerPanic", "internal error")
			} else {
				w.answer(http.StatusInternalServerError, "internal error")
			}
		}
		w.finish()
	}()
	f.handler.ServeHTTP(w, r)
}

// respond sends the response as it is written, each write a chunk.
func (f *function) respond(inv invocation, body io.Reader, trailer http.Header) error {
	req, err := f.request(context.Background(), http.MethodPost, inv.id+"/response", body)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", streamedResponse)
	req.Header.Set(headerResponseMode, "streaming")
	req.Trailer = trailer
	req.Close = true // as Lambda asks of streaming runtimes
	return f.post(req)
}

// refuse reports that an invocation failed before there was a response.
func (f *function) refuse(inv invocation, why error) error {
	const kind = "BadEvent"
	req, err := f.request(context.Background(), http.MethodPost, inv.id+"/error", bytes.NewReader(errorBody(kind, why.Error())))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set(headerErrorType, kind)
	return f.post(req)
}

func (f *function) request(ctx context.Context, method, path string, body io.Reader) (*http.Request, error) {
	return http.NewRequestWithContext(ctx, method, f.base+path, body) //nolint:gosec // who sets our environment may choose where this goes
}

func (f *function) post(req *http.Request) error {
	resp, err := f.client.Do(req) //nolint:gosec // who sets our environment may choose where this goes
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
	if resp.StatusCode != http.StatusAccepted {
		return fmt.Errorf("%s: %s", resp.Status, bytes.TrimSpace(text))
	}
	return nil
}

func errorBody(kind, message string) []byte {
	body, _ := json.Marshal(map[string]any{"errorType": kind, "errorMessage": message, "stackTrace": []string{}}) // strings always can be
	return body
}

// fail tells Lambda, after the response has begun, that it is not whole.
func (w *responseWriter) fail(kind, message string) {
	w.trailer.Set(headerErrorType, kind)
	w.trailer.Set(trailerErrorBody, base64.StdEncoding.EncodeToString(errorBody(kind, message)))
}
