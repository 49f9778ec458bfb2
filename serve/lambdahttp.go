package serve

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
)

// An urlEvent is a request to a function's URL as Lambda writes it (payload format 2.0).
// https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html
type urlEvent struct {
	RawPath         string            `json:"rawPath"`
	RawQueryString  string            `json:"rawQueryString"`
	Cookies         []string          `json:"cookies"` // not among the headers
	Headers         map[string]string `json:"headers"` // with one that came twice joined by commas
	Body            string            `json:"body"`
	IsBase64Encoded bool              `json:"isBase64Encoded"`
	RequestContext  struct {
		DomainName string `json:"domainName"`
		HTTP       struct {
			Method   string `json:"method"`
			SourceIP string `json:"sourceIp"`
		} `json:"http"`
		Authorizer struct {
			IAM struct {
				UserARN string `json:"userArn"`
			} `json:"iam"`
		} `json:"authorizer"`
	} `json:"requestContext"`
}

var errNoRequest = errors.New("the event has no HTTP method or path")

// newRequest returns the request that an event describes, as net/http's server would.
func newRequest(ctx context.Context, event []byte) (*http.Request, error) {
	var e urlEvent
	if err := json.Unmarshal(event, &e); err != nil {
		return nil, err
	}
	method := e.RequestContext.HTTP.Method
	if method == "" || e.RawPath == "" {
		return nil, errNoRequest
	}
	target := e.RawPath
	if e.RawQueryString != "" {
		target += "?" + e.RawQueryString
	}
	u, err := url.ParseRequestURI(target)
	if err != nil {
		return nil, err
	}
	body := e.Body
	if e.IsBase64Encoded {
		decoded, err := base64.StdEncoding.DecodeString(body)
		if err != nil {
			return nil, fmt.Errorf("body: %w", err)
		}
		body = string(decoded)
	}
	header := make(http.Header, len(e.Headers)+1)
	for name, value := range e.Headers {
		header.Set(name, value)
	}
	if len(e.Cookies) > 0 {
		header.Set("Cookie", strings.Join(e.Cookies, "; "))
	}
	host := header.Get("Host")
	if host == "" {
		host = e.RequestContext.DomainName
	}
	header.Del("Host")
	if arn := e.RequestContext.Authorizer.IAM.UserARN; arn != "" {
		ctx = context.WithValue(ctx, iamCaller{}, arn)
	}
	return (&http.Request{
		Method: method, URL: u, RequestURI: target,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: header, Host: host,
		Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)),
		RemoteAddr: net.JoinHostPort(e.RequestContext.HTTP.SourceIP, "0"),
	}).WithContext(ctx), nil
}

type iamCaller struct{}

// iamPrincipal is the caller of a function whose URL has the auth type AWS_IAM.
func iamPrincipal(r *http.Request) string {
	if arn, ok := r.Context().Value(iamCaller{}).(string); ok {
		return "iam:" + arn
	}
	return ""
}

// A responseWriter writes a streamed response: a prelude of status and headers in JSON, eight NUL bytes, the body. Each Write
// is on its way when it returns, and so Flush has nothing to do but to begin.
type responseWriter struct {
	pipe    *io.PipeWriter
	header  http.Header
	status  int // 0 before WriteHeader
	noBody  bool
	wrote   bool          // begin has been called
	begun   chan struct{} // closed then
	trailer http.Header
}

func newResponseWriter(pipe *io.PipeWriter, r *http.Request) *responseWriter {
	return &responseWriter{
		pipe:    pipe,
		header:  make(http.Header),
		noBody:  r.Method == http.MethodHead,
		begun:   make(chan struct{}),
		trailer: http.Header{headerErrorType: nil, trailerErrorBody: nil}, // names must be known in advance
	}
}

func (w *responseWriter) Header() http.Header { return w.header }

// WriteHeader implements [http.ResponseWriter]. Informational responses have no way through Lambda.
func (w *responseWriter) WriteHeader(status int) {
	if w.status == 0 && status >= http.StatusOK {
		w.status = status
		w.noBody = w.noBody || status == http.StatusNoContent || status == http.StatusNotModified
	}
}

func (w *responseWriter) Write(p []byte) (int, error) {
	if err := w.begin(); err != nil {
		return 0, err
	}
	if w.noBody {
		return len(p), nil
	}
	return w.pipe.Write(p)
}

// FlushError is for [http.ResponseController].
func (w *responseWriter) FlushError() error { return w.begin() }

// Flush implements [http.Flusher].
func (w *responseWriter) Flush() { _ = w.begin() }

// begin sends what comes before the body. What the handler does to the headers after that has no effect.
func (w *responseWriter) begin() error {
	if w.wrote {
		return nil
	}
	w.wrote = true
	close(w.begun)
	w.WriteHeader(http.StatusOK)
	prelude := struct {
		Status  int               `json:"statusCode"`
		Headers map[string]string `json:"headers"`
		Cookies []string          `json:"cookies,omitempty"`
	}{w.status, make(map[string]string, len(w.header)), w.header["Set-Cookie"]}
	for name, values := range w.header {
		if name != "Set-Cookie" && len(values) > 0 {
			prelude.Headers[name] = strings.Join(values, ", ")
		}
	}
	text, err := json.Marshal(prelude)
	if err != nil {
		return err
	}
	_, err = w.pipe.Write(append(text, make([]byte, 8)...))
	return err
}

// answer replaces a response that has not begun.
func (w *responseWriter) answer(status int, text string) {
	clear(w.header)
	w.status = 0
	plain(w, status, text)
}

// finish ends the response. One without a body says so: there are clients of function URLs that wait for one.
func (w *responseWriter) finish() {
	if !w.wrote && !w.noBody {
		w.header.Set("Content-Length", "0")
	}
	_ = w.begin()
	_ = w.pipe.Close()
}
