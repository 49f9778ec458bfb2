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
	"strings"
	"sync/atomic"
	"time"
)

// maxBody bounds an answer that is not a stream, in bytes.
const maxBody = maxEvent

// post sends a message. If the server cannot even be connected to, although it was there before, it is tried again for a
// while: nothing has reached it.
func (b *Bridge) post(ctx context.Context, m *message, header http.Header) (*http.Response, error) {
	give := time.Now().Add(patience)
	var at position
	for n := 0; ; n++ {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, b.URL, bytes.NewReader(m.raw))
		if err != nil {
			return nil, err
		}
		req.Header = header.Clone()
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Accept", "application/json, text/event-stream")
		resp, err := b.client.Do(req)
		if err == nil {
			b.reached.Store(true)
			return resp, nil
		}
		wait := at.wait(n)
		if !b.reached.Load() || !notSent(err) || ctx.Err() != nil || time.Now().Add(wait).After(give) {
			return nil, plain(err)
		}
		b.Log.Warn("no connection; trying again", "error", plain(err), "in", wait)
		if !pause(ctx, wait) {
			return nil, context.Cause(ctx)
		}
	}
}

// notSent reports whether a request failed before any of it can have reached the server.
func notSent(err error) bool {
	failed, ok := errors.AsType[*net.OpError](err)
	return ok && failed.Op == "dial"
}

// plain takes the method and the URL off an error of the HTTP client: the URL is known, and may hold a secret.
func plain(err error) error {
	if failed, ok := errors.AsType[*url.Error](err); ok {
		return failed.Err
	}
	return err
}

func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// notify sends what has no answer: a notification, or the client's answer to a question of the server.
func (b *Bridge) notify(ctx context.Context, m *message) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	header := http.Header{}
	if version := m.modernVersion(); version != "" {
		mirror(header, m, version, nil)
	} else {
		b.session.stamp(header)
	}
	resp, err := b.post(ctx, m, header)
	if err != nil {
		b.Log.Error("a message did not reach the server", "method", m.Method, "error", err)
		return
	}
	defer resp.Body.Close()
	if resp.StatusCode >= http.StatusBadRequest {
		b.Log.Error("the server refused a message", "method", m.Method, "status", resp.Status)
	}
}

// request carries one request to its end. It returns the answer that is still owed to the client, nil if there is none. onSent is
// called when the request is on its way.
func (b *Bridge) request(ctx context.Context, c *call, onSent func()) []byte {
	var began atomic.Bool // to be sent
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		WroteHeaders: func() { began.Store(true) },
		WroteRequest: func(httptrace.WroteRequestInfo) { onSent() },
	})
	sessionAgain, headersAgain := true, true
	for {
		header := http.Header{}
		id := ""
		switch {
		case c.version != "":
			mirror(header, c.message, c.version, b.params.of(c.message))
		case c.Method != "initialize":
			id = b.session.stamp(header)
		}
		began.Store(false)
		resp, err := b.post(ctx, c.message, header)
		if err != nil && !began.Load() {
			return failure(c.ID, codeConnection, "the request could not be sent: "+err.Error())
		} else if err != nil {
			return lost(c, err)
		}
		kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
		switch {
		case resp.StatusCode == http.StatusNotFound && id != "" && sessionAgain:
			// The server forgot the session, and so has not touched the request.
			_ = resp.Body.Close()
			sessionAgain = false
			if err := b.session.renew(ctx, b, id); err != nil {
				return failure(c.ID, codeConnection, "the server forgot the session, and another could not be opened: "+err.Error())
			}
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
		answer, err := parse(body)
		if err != nil || !answer.isResponse() {
			return failure(c.ID, codeConnection, describe(resp, kind, body))
		}
		if e := answer.Error; e != nil && e.Code == codeHeaderMismatch && c.version != "" && c.Method == "tools/call" && headersAgain {
			headersAgain = false
			if err := b.params.learn(ctx, b, c); err == nil {
				continue
			}
			b.Log.Warn("cannot list tools to see which headers they need", "error", err)
		}
		if c.Method == "initialize" && answer.Error == nil {
			b.session.begin(c.message, resp.Header.Get(headerSession))
		}
		if answer.Error != nil && !answer.hasID() { // the server did not get as far as reading the ID
			return respond(c.ID, answer.Error)
		}
		b.deliver(c, answer)
		return nil
	}
}

// deliver passes on what the server says. It reports whether that ended the call.
func (b *Bridge) deliver(c *call, m *message) (ended bool) {
	ended = c != nil && m.isResponse()
	if ended && c.Method == "initialize" {
		b.session.negotiated(m)
	}
	if c != nil && c.version != "" && c.isCancelled() {
		return ended // nothing more may be said about it (2026-07-28, stdio, "Cancellation")
	}
	b.write(m.raw)
	return ended
}

// stream reads a call's events, over as many connections as that takes where the server can resume. It returns as request does.
func (b *Bridge) stream(ctx context.Context, c *call, resp *http.Response, id string) []byte {
	var at position
	for {
		ended := false
		err := at.events(resp.Body, func(data []byte) bool {
			m, err := parse(data)
			if err != nil {
				b.Log.Error("the server sent what is no message", "error", err)
				return true
			}
			ended = b.deliver(c, m)
			return !ended
		})
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
		if resp, err = b.resume(ctx, &at, id); err != nil {
			return lost(c, err)
		}
	}
}

// resume asks for the rest of a stream until the server gives it, or definitely will not.
func (b *Bridge) resume(ctx context.Context, at *position, id string) (*http.Response, error) {
	give := time.Now().Add(patience)
	for n := 0; ; n++ {
		if !pause(ctx, at.wait(n)) {
			return nil, context.Cause(ctx)
		}
		resp, err := b.get(ctx, at.lastID, id)
		switch {
		case err == nil && resp.StatusCode == http.StatusOK:
			return resp, nil
		case err == nil:
			_ = resp.Body.Close()
			err = fmt.Errorf("HTTP %s", resp.Status)
			if resp.StatusCode < 500 && resp.StatusCode != http.StatusTooManyRequests {
				return nil, err
			}
		}
		if time.Now().After(give) || ctx.Err() != nil {
			return nil, err
		}
		b.Log.Warn("cannot resume a stream; trying again", "error", err)
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
	return failure(c.ID, codeConnection, "connection to the server lost, so it is unknown whether the request was carried out: "+err.Error())
}

// describe says what came instead of a JSON-RPC answer.
func describe(resp *http.Response, kind string, body []byte) string {
	text := ""
	if kind == "text/plain" || kind == "application/json" && json.Valid(body) {
		text = ": " + strings.Join(strings.Fields(string(body[:min(len(body), 300)])), " ")
	}
	if resp.StatusCode == http.StatusOK {
		return fmt.Sprintf("the server answers with %q, which is not MCP%s", kind, text)
	}
	return fmt.Sprintf("the server answers with HTTP %s%s", resp.Status, text)
}
