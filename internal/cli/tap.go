package cli

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"sync"

	"github.com/sluice-mcp/sluice/internal/proxy"
)

// A tap reads along with the SDK, and keeps the result of the last request as it was written: the SDK's types round
// numbers, lose the order of members and what they do not know, and fail as a whole when one part is malformed.
type tap struct {
	mu     sync.Mutex
	id     any // of the last request
	result json.RawMessage
}

// errNoResult is for a call that the SDK takes for answered, without a result of its own on the wire.
var errNoResult = errors.New("the server's answer holds no result")

// ask makes one request by a call of the SDK's, and returns its result as the server wrote it. That the SDK cannot read it is no error.
func (t *tap) ask(ctx context.Context, call func(context.Context) error) (json.RawMessage, error) {
	t.mu.Lock()
	t.id, t.result = nil, nil
	t.mu.Unlock()
	err := call(ctx)
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case err != nil && (ctx.Err() != nil || t.result == nil || isInterim(t.result)):
		return nil, err
	case t.result == nil:
		return nil, errNoResult
	}
	return t.result, nil
}

// capabilities returns those of the last result, which is the server's answer to the opening of the session.
func (t *tap) capabilities() json.RawMessage {
	t.mu.Lock()
	defer t.mu.Unlock()
	var r struct {
		Capabilities json.RawMessage `json:"capabilities"`
	}
	if json.Unmarshal(t.result, &r) != nil || r.Capabilities == nil || string(r.Capabilities) == "null" {
		return json.RawMessage("{}")
	}
	return r.Capabilities
}

// isInterim tells whether a result is not the last one of its call (2026-07-28, Multi Round-Trip Requests; SEP-2663 for tasks).
func isInterim(result json.RawMessage) bool {
	var r struct {
		ResultType string `json:"resultType"`
	}
	return json.Unmarshal(result, &r) == nil && (r.ResultType == "input_required" || r.ResultType == "task")
}

type envelope struct {
	ID     any             `json:"id"`
	Method string          `json:"method"`
	Result json.RawMessage `json:"result"`
}

// sent notes what is asked for.
func (t *tap) sent(req *http.Request) {
	if req.Method != http.MethodPost || req.GetBody == nil {
		return
	}
	body, err := req.GetBody()
	if err != nil {
		return
	}
	defer body.Close()
	var m envelope
	if json.NewDecoder(body).Decode(&m) == nil && m.Method != "" && m.ID != nil {
		t.mu.Lock()
		t.id, t.result = m.ID, nil
		t.mu.Unlock()
	}
}

// received notes a message if it is the answer.
func (t *tap) received(message []byte) {
	var m envelope
	if json.Unmarshal(message, &m) != nil || m.Method != "" || m.Result == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if m.ID == t.id {
		t.result = m.Result
	}
}

// open lets the tap read a response before anybody else does. A stream is made readable for the SDK on the way.
func (t *tap) open(resp *http.Response) {
	switch kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); kind {
	case "application/json":
		resp.Body = &tappedBody{ReadCloser: resp.Body, tap: t}
	case "text/event-stream":
		resp.Body = proxy.PlainEvents(resp.Body, t.received)
	}
}

// A tappedBody is one message.
type tappedBody struct {
	io.ReadCloser
	tap  *tap
	read []byte
}

// Read implements [io.Reader].
func (b *tappedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.read = append(b.read, p[:n]...)
	if errors.Is(err, io.EOF) {
		b.tap.received(b.read)
	}
	return n, err
}
