package proxy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"regexp"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sluice-mcp/sluice/internal/sse"
	"github.com/sluice-mcp/sluice/internal/wire"
)

// maxBody bounds an answer that is not a stream, in bytes.
const maxBody = sse.MaxEvent

// post sends a message, on behalf of c if that is not nil. It is tried again for a while as long as it is certain that
// the server has not begun with it: if there is no connection to a server that was there before, or if the server says so.
func (b *Bridge) post(ctx context.Context, to string, m *message, header http.Header, c *call) (*http.Response, error) {
	give := time.Now().Add(patience)
	var at position
	for n := 0; ; n++ {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(m.raw))
		if err != nil {
			return nil, err
		}
		req.Header = header.Clone()
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Accept", "application/json, text/event-stream")
		resp, err := b.client.Do(req)
		wait := at.wait(min(n, steady))
		switch {
		case err == nil:
			b.reached.Store(true)
			if !notBegun(resp) {
				return resp, nil
			}
			wait = max(wait, retryAfter(resp.Header))
		case !b.reached.Load() || !notSent(err) || ctx.Err() != nil:
			return nil, plain(err)
		}
		if time.Now().Add(wait).After(give) {
			return resp, plain(err)
		}
		if resp != nil {
			_ = resp.Body.Close()
			err = errors.New(resp.Status)
		}
		b.Log.Warn("the server does not take a message now; trying again", "error", plain(err), "in", wait)
		if !c.rest(ctx, wait) {
			return nil, context.Cause(ctx)
		}
	}
}

// notSent reports whether a request failed before any of it can have reached the server.
func notSent(err error) bool {
	failed, ok := errors.AsType[*net.OpError](err)
	return ok && failed.Op == "dial"
}

// notBegun reports whether the server says that it has not begun with a request: there are too many (429), or it is a server
// of ours that is too busy or about to end. Another 503 may come from somebody between, who does not know.
func notBegun(resp *http.Response) bool {
	switch resp.StatusCode {
	case http.StatusTooManyRequests:
		return true
	case http.StatusServiceUnavailable:
		e := refusal(Peek(resp))
		return e != nil && e.Code == wire.CodeBusy
	}
	return false
}

// Peek returns the first 64 KiB of a response's body at most, and leaves the body whole.
func Peek(resp *http.Response) []byte {
	start, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10)) // what cannot be read is reported by whoever reads it all
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(start), resp.Body), resp.Body}
	return start
}

// forgotten is how servers say, with 400 where the specification has 404, that they do not know a session.
var forgotten = regexp.MustCompile(`(?i)\bsession\b.{0,60}\b(not found|unknown|invalid|expired|terminated|closed|not exist|no longer|not initialized)` +
	`|\b(no|unknown|invalid|expired|missing|no such|not found)\b.{0,20}\bsession\b|\bserver not initialized|\bnot (yet )?initialized\b|\binitialize first\b|\bsession not\b`)

// forgot reports whether the server has refused a request because it does not know the session: so it has not touched it.
func forgot(resp *http.Response) bool {
	switch resp.StatusCode {
	case http.StatusNotFound:
		return true
	case http.StatusBadRequest:
		body := Peek(resp)
		if e := refusal(body); e != nil {
			return e.Code != wire.CodeInvalidParams && forgotten.MatchString(e.Message)
		}
		return len(body) < 1<<10 && forgotten.Match(bytes.ReplaceAll(body, []byte("-"), []byte(" ")))
	}
	return false
}

// plain takes the method and the URL off an error of the HTTP client: the URL is known, and may hold a secret.
func plain(err error) error {
	if failed, ok := errors.AsType[*url.Error](err); ok {
		return failed.Err
	}
	return err
}

// notify sends what has no answer: a notification, or the client's answer to a question of the server.
func (b *Bridge) notify(ctx context.Context, m *message) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	to, header := b.URL, http.Header{}
	if version := m.modernVersion(); version != "" {
		mirror(header, m, version, nil)
	} else if old := b.old.Load(); old != nil {
		to = old.endpoint
	} else {
		b.session.stamp(header)
	}
	resp, err := b.post(ctx, to, m, header, nil)
	if err != nil {
		b.Log.Error("a message did not reach the server", "method", m.Method, "error", err)
		return
	}
	defer resp.Body.Close()
	if resp.StatusCode >= http.StatusMultipleChoices {
		b.Log.Error("the server refused a message", "method", m.Method, "status", resp.Status)
	}
}

// attempt is one try of request. When it ends in doubt about what has become of the call, it says so in the call.
func (b *Bridge) attempt(ctx context.Context, c *call, onSent func()) []byte {
	var began atomic.Bool // to be sent
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		WroteHeaders: func() { began.Store(true) },
		WroteRequest: func(httptrace.WroteRequestInfo) { onSent() },
	})
	sessionAgain, headersAgain := true, true
	for {
		if b.old.Load() != nil && c.version == "" {
			return b.requestOld(ctx, c, &began)
		}
		header := http.Header{}
		id := ""
		switch {
		case c.version != "":
			mirror(header, c.message, c.version, b.params.of(c.message))
		case c.Method != "initialize":
			id = b.session.stamp(header)
		}
		if c.key != "" && header.Get(headerKey) == "" {
			header.Set(headerKey, c.key)
		}
		began.Store(false)
		resp, err := b.post(ctx, b.URL, c.message, header, c)
		if err != nil {
			return unsent(c, &began, err)
		}
		kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
		switch {
		case id != "" && sessionAgain && forgot(resp):
			// The server forgot the session, and so has not touched the request.
			_ = resp.Body.Close()
			sessionAgain = false
			if err := b.session.renew(ctx, b, id); err != nil {
				return failure(c.ID, "the server forgot the session, and another could not be opened: "+err.Error())
			}
			continue
		case c.Method == "initialize" && MayBeOld(resp) && b.openOld(ctx) == nil:
			_ = resp.Body.Close()
			continue
		case resp.StatusCode == http.StatusOK && kind == "text/event-stream":
			if c.Method == "initialize" {
				b.session.begin(c.message, resp.Header.Get(headerSession))
			}
			return b.stream(ctx, c, resp, id)
		}
		body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
		_ = resp.Body.Close()
		if err != nil {
			return lost(c, err)
		}
		if away(resp) {
			c.doubt = errors.New(resp.Status)
		}
		e := refusal(body)
		if e != nil && e.Code == wire.CodeHeaderMismatch && c.version != "" && c.Method == "tools/call" && headersAgain {
			headersAgain = false
			if err := b.params.learn(ctx, b, c); err == nil {
				continue
			}
			b.Log.Warn("cannot list tools to see which headers they need", "error", err)
		}
		if c.Method == "initialize" && e == nil {
			b.session.begin(c.message, resp.Header.Get(headerSession))
		}
		messages, _ := parse(body)
		for _, m := range messages {
			if b.deliver(c, m) {
				return nil
			}
		}
		if e != nil && (resp.StatusCode >= http.StatusBadRequest || unnamed(body)) {
			b.deliver(c, respond(c.ID, e)) // it did not get as far as reading the ID
			return nil
		}
		return failure(c.ID, describe(resp, kind, body))
	}
}

// unsent is the answer to a request that could not be sent, or only perhaps.
func unsent(c *call, began *atomic.Bool, err error) []byte {
	if began.Load() {
		return lost(c, err)
	}
	return failure(c.ID, "the request could not be sent: "+err.Error())
}

// deliver passes on what the server says: to c, or to nobody in particular. It reports whether that ended the call. A
// response that answers nothing here is not passed on.
func (b *Bridge) deliver(c *call, m *message) (ended bool) {
	if m.Kind == wire.Response {
		if c == nil || !m.answers(c.ID) {
			b.Log.Warn("the server answers what it was not asked here", "id", string(m.ID))
			return false
		}
		ended = true
		switch c.Method {
		case "initialize":
			b.session.negotiated(m)
			b.heeds(m)
		case "server/discover":
			b.heeds(m)
		}
	}
	if c != nil && (c.repeated(m) || ended && c.busy(m)) {
		return ended
	}
	if c != nil && c.version != "" && c.isCancelled() {
		return ended // nothing more may be said about it (2026-07-28, stdio, "Cancellation")
	}
	b.write(m.raw)
	return ended
}

// read passes on the messages of a stream until one of them ends the call, if there is one, or the stream is over.
func (b *Bridge) read(at *position, r io.Reader, c *call) (ended bool, err error) {
	err = at.events(r, func(data []byte) bool {
		messages, err := parse(data)
		if err != nil {
			b.Log.Warn("the server sent what is no message", "error", err)
		}
		at.messages += len(messages)
		for _, m := range messages {
			ended = b.deliver(c, m) || ended
		}
		if e := refusal(data); c != nil && e != nil && unnamed(data) { // on a call's own stream it can mean only that
			return !b.deliver(c, respond(c.ID, e))
		}
		return !ended
	})
	return ended, err
}

// stream reads a call's events, over as many connections as that takes where the server can resume. It returns as request does.
func (b *Bridge) stream(ctx context.Context, c *call, resp *http.Response, id string) []byte {
	var at position
	var tries tries
	for {
		ended, err := b.read(&at, resp.Body, c)
		_ = resp.Body.Close()
		switch {
		case ended, c.isCancelled():
			return nil
		case c.version != "" || at.lastID == "":
			return lost(c, err)
		}
		if c.Method == "initialize" {
			id = b.session.current()
		}
		if at.moved || tries.give.IsZero() {
			at.moved = false
			tries.begin(&at)
		}
		if resp, err = b.resume(ctx, &at, id, &tries); err != nil {
			return lost(c, err)
		}
	}
}

// tries bounds what is tried in vain, one time after another.
type tries struct {
	n    int
	give time.Time // up
}

func (t *tries) begin(at *position) { t.n, t.give = 0, time.Now().Add(patience+2*at.retry) }

// resume asks for the rest of a stream until the server gives it, or has no streams to give, or has not done so for too long.
func (b *Bridge) resume(ctx context.Context, at *position, id string, tries *tries) (*http.Response, error) {
	wait := at.wait(min(tries.n, steady))
	err := errors.New("nothing new comes of the stream")
	for ; ; tries.n++ {
		if time.Now().Add(wait).After(tries.give) {
			return nil, fmt.Errorf("gave up: %w", err)
		}
		if !pause(ctx, wait) {
			return nil, context.Cause(ctx)
		}
		var resp *http.Response
		resp, err = b.get(ctx, at.lastID, id)
		wait = at.wait(min(tries.n+1, steady))
		if err == nil {
			if resp.StatusCode == http.StatusOK {
				tries.n++
				return resp, nil
			}
			isForgotten := id != "" && forgot(resp)
			_ = resp.Body.Close()
			err = fmt.Errorf("HTTP %s", resp.Status)
			if resp.StatusCode == http.StatusMethodNotAllowed || isForgotten && b.isGone(ctx, id) {
				return nil, err
			}
			wait = max(wait, retryAfter(resp.Header))
		}
		b.Log.Warn("cannot resume a stream", "error", err)
	}
}

// get opens a stream of the session: the rest of one after an event, or the server's own.
func (b *Bridge) get(ctx context.Context, lastID, id string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, b.URL, nil)
	if err != nil {
		return nil, err
	}
	b.session.stamp(req.Header)
	if id != "" {
		req.Header.Set(headerSession, id) // a stream belongs to the session that it began in
	}
	req.Header.Set("Accept", "text/event-stream")
	if lastID != "" {
		req.Header[headerLast] = []string{lastID}
	}
	resp, err := b.client.Do(req)
	if err != nil {
		return nil, plain(err)
	}
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if resp.StatusCode == http.StatusOK && kind != "text/event-stream" {
		_ = resp.Body.Close()
		return nil, fmt.Errorf("it answers with %q instead of a stream", kind)
	}
	return resp, nil
}

// lost is the answer to a call whose end nobody will know.
func lost(c *call, err error) []byte {
	if err == nil || errors.Is(err, io.EOF) {
		err = errors.New("the stream ended without an answer")
	}
	c.doubt = err
	return failure(c.ID, "connection to the server lost, so it is unknown whether the request was carried out: "+err.Error())
}

// describe says what came instead of a JSON-RPC answer.
func describe(resp *http.Response, kind string, body []byte) string {
	text := ""
	switch m, err := parse(body); {
	case resp.StatusCode/100 == 3 && resp.Header.Get("Location") != "":
		text = ": it is to be found at " + resp.Header.Get("Location")
	case err == nil && len(m) > 0 && m[0].Kind == wire.Response:
		return fmt.Sprintf("the server answers another request, %s", m[0].ID)
	case kind == "text/plain" || kind == "application/json" && json.Valid(body):
		text = ": " + strings.Join(strings.Fields(string(body[:min(len(body), 300)])), " ")
	}
	if resp.StatusCode == http.StatusOK {
		return fmt.Sprintf("the server answers with %q, which is not MCP%s", kind, text)
	}
	return fmt.Sprintf("the server answers with HTTP %s%s", resp.Status, text)
}
