package proxy

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/sluice-mcp/sluice/internal/wire"
)

// With a server that heeds idempotency keys (docs/once.md) a tool's call that has lost its connection is sent again, and is executed
// once all the same. The key goes into a header: messages pass as they are.

const headerKey = "Idempotency-Key"

// heeds notes whether a server heeds keys, from its answer to initialize or server/discover.
func (b *Bridge) heeds(answer *message) {
	var result struct {
		Capabilities struct {
			Experimental map[string]json.RawMessage `json:"experimental"`
			Extensions   map[string]json.RawMessage `json:"extensions"`
		} `json:"capabilities"`
	}
	if json.Unmarshal(answer.Result, &result) == nil {
		caps := result.Capabilities
		b.once.Store(caps.Extensions[wire.ExtensionOnce] != nil || caps.Experimental[wire.ExtensionOnce] != nil)
	}
}

// keyed gives a call a key, where there is a point in it.
func (b *Bridge) keyed(c *call) {
	if c.Method != "tools/call" || !b.once.Load() {
		return
	}
	var params struct {
		Meta map[string]json.RawMessage `json:"_meta"`
	}
	if json.Unmarshal(c.Params, &params) == nil && params.Meta[wire.MetaIdempotencyKey] != nil { // its own
		c.key = wire.Unquote(params.Meta[wire.MetaIdempotencyKey])
		return
	}
	c.key = rand.Text()
}

// request carries one request to its end. It returns the answer that is still owed to the client, nil if there is none. onSent is
// called when the request is on its way.
func (b *Bridge) request(ctx context.Context, c *call, onSent func()) []byte {
	b.keyed(c)
	var at position
	var give time.Time // up
	for n := 0; ; n++ {
		c.doubt = nil
		begun := time.Now()
		answer := b.attempt(ctx, c, onSent)
		if c.key == "" {
			return answer
		}
		if c.isCancelled() || ctx.Err() != nil {
			if c.version != "" {
				b.giveUp(ctx, c)
			}
			return answer
		}
		if c.doubt == nil {
			return answer
		}
		if c.unsaid != nil {
			answer, c.unsaid = c.unsaid, nil
		}
		if give.IsZero() || time.Since(begun) > patience { // it was there in between
			n, give = 0, time.Now().Add(patience)
		}
		wait := at.wait(min(n, steady))
		if time.Now().Add(wait).After(give) {
			return answer
		}
		b.Log.Warn("a call has lost its connection; asking again with its idempotency key", "error", plain(c.doubt), "in", wait)
		if !c.rest(ctx, wait) {
			return answer
		}
	}
}

// giveUp tells a server that nobody wants the result of a call any more. Without a session the end of the connection does not say so of a
// call with a key: its client may come back.
func (b *Bridge) giveUp(ctx context.Context, c *call) {
	var params struct {
		Name string `json:"name"`
	}
	_ = json.Unmarshal(c.Params, &params) // the server has read it
	raw, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "method": "notifications/cancelled", "params": map[string]any{
		"requestId": json.RawMessage(c.ID),
		"_meta":     map[string]any{wire.MetaProtocolVersion: c.version, wire.MetaIdempotencyKey: c.key, wire.MetaTool: params.Name},
	}})
	if err != nil {
		return
	}
	m, _, refused := wire.ParseBody(raw)
	if refused != nil {
		return
	}
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), farewell)
	defer stop()
	b.notify(ctx, &message{m, raw})
}

// busy reports whether a response says that nothing has begun with a call, which is then sent again: that comes on a stream when the server
// has taken its time to find out.
func (c *call) busy(m *message) bool {
	if e := refusal(m.raw); c.key == "" || e == nil || e.Code != wire.CodeBusy {
		return false
	}
	c.doubt, c.unsaid = errBusy, m.raw
	return true
}

var errBusy = errors.New("the server is too busy")

// away reports whether somebody between says that the server is not there, after the request was sent.
func away(resp *http.Response) bool {
	switch resp.StatusCode {
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// repeated reports whether a message of a call says no more than what its client has heard before the call was sent again: progress must
// increase (Progress, "Progress Flow").
func (c *call) repeated(m *message) bool {
	if c.key == "" || m.Method != "notifications/progress" {
		return false
	}
	var params struct {
		Progress float64 `json:"progress"`
	}
	if json.Unmarshal(m.Params, &params) != nil {
		return false
	}
	if c.heard && params.Progress <= c.progress {
		return true
	}
	c.heard, c.progress = true, params.Progress
	return false
}
