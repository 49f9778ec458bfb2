// Package engine drives an [mcp.Server]: it calls the server's composed handler,
// feeds the SDK's connections what must go through them, keeps the tool
// definitions that the endpoint needs, and watches for changes.
//
// It knows neither HTTP nor where state lives. What the server says to its
// client leaves through an [Outlet].
package engine

import (
	"context"
	"encoding/json"
	"log/slog"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice/internal/wire"
)

// Engine drives one server. Its methods are safe for concurrent use.
type Engine struct {
	// Voice may be set before the first use. Without it a session that has been closed is silent.
	Voice Voice

	server *mcp.Server
	log    *slog.Logger

	tools       catalog[Tool]
	prompts     catalog[[]string] // the arguments that they require
	toolNames   names             // for an observer
	promptNames names
	lists       atomic.Pointer[Lists] // nil: to be read afresh
	listed      atomic.Int64          // how often a list has changed
	description atomic.Pointer[Description]

	pool pool

	mu       sync.Mutex
	watcher  *Session
	onChange func(method string, params json.RawMessage)
	onTell   func(ctx context.Context, method string, params json.RawMessage)
	onClosed func()
}

// New returns an engine for server.
func New(server *mcp.Server, log *slog.Logger) *Engine {
	return &Engine{server: server, log: log}
}

// Server returns the server that the engine drives.
func (e *Engine) Server() *mcp.Server { return e.server }

// composed returns the server's handler with all middleware added so far. Adding
// a middleware that adds nothing is the SDK's only door to it. It is read afresh for each
// call: middleware that is added later, say for authorization, must never be bypassed.
func (e *Engine) composed() (h mcp.MethodHandler) {
	e.server.AddReceivingMiddleware(func(next mcp.MethodHandler) mcp.MethodHandler {
		h = next
		return next
	})
	return h
}

// guard sees to it that the outermost middleware of the server turns a panic into an error. Direct calls are
// guarded by [Session.Do]; what goes through the SDK's connection, notifications too, runs
// on goroutines of the SDK, where only a middleware can stand between a handler and the end of the process.
func (e *Engine) guard() {
	if reflect.ValueOf(e.composed()).Pointer() == guardCode {
		return // ours is still the outermost
	}
	e.server.AddReceivingMiddleware(func(next mcp.MethodHandler) mcp.MethodHandler { return guarded(e, next) })
}

// guardCode tells our middleware from others: functions cannot be compared, their code can.
var guardCode = reflect.ValueOf(guarded(nil, nil)).Pointer()

// guarded must not be inlined: the closure would then have other code at each place, and a server one more guard with each
// session (TestGuardIsAddedOnce).
//
//go:noinline
func guarded(e *Engine, next mcp.MethodHandler) mcp.MethodHandler {
	return func(ctx context.Context, method string, req mcp.Request) (res mcp.Result, err error) {
		defer func() {
			if p := recover(); p != nil {
				res, err = nil, e.panicked(method, p)
			}
		}()
		res, err = next(ctx, method, req)
		// The SDK's connection looks into the result of a request, on a goroutine of its own.
		if err == nil && res != nil && isNil(res) && !strings.HasPrefix(method, "notifications/") {
			return nil, noResult(method)
		}
		return res, err
	}
}

// Watch begins to watch the server, once, and reports whether it did. changed is then called with each change notification,
// and must not block; told with each other one that a handler sends to all of [mcp.Server.Sessions], and closed when it closes them
// all, which ends the watch.
//
// The SDK tells of changes only to sessions that are connected. One quiet session of our own
// stands for all of ours that are not, so that an idle client costs its record and nothing here.
func (e *Engine) Watch(
	changed func(method string, params json.RawMessage),
	told func(ctx context.Context, method string, params json.RawMessage),
	closed func(),
) (began bool, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.watcher != nil {
		return false, nil
	}
	e.onChange, e.onTell, e.onClosed = changed, told, closed
	e.watcher, err = e.Connect(context.Background(), "", watcherState(), watchOutlet{e})
	e.forget() // what was read before may have changed unheard
	return err == nil, err
}

// WatchResource has the watcher subscribe to a resource, or unsubscribe from it.
func (e *Engine) WatchResource(ctx context.Context, uri string, on bool) error {
	e.mu.Lock()
	w := e.watcher
	e.mu.Unlock()
	if w == nil {
		return nil
	}
	params, err := json.Marshal(mcp.SubscribeParams{URI: uri})
	if err != nil {
		return err
	}
	method := "resources/subscribe"
	if !on {
		method = "resources/unsubscribe"
	}
	_, err = w.Relay(ctx, &Call{Method: method, Params: params, Extra: &mcp.RequestExtra{}})
	return err
}

// watcherState is that of a client that can do nothing.
func watcherState() *mcp.ServerSessionState {
	return &mcp.ServerSessionState{
		InitializeParams:  &mcp.InitializeParams{ProtocolVersion: watcherRevision, Capabilities: &mcp.ClientCapabilities{}},
		InitializedParams: &mcp.InitializedParams{},
		LogLevel:          "debug", // those that it stands for each have their own
	}
}

// watcherRevision is one whose sessions get change notifications without asking.
const watcherRevision = "2025-11-25"

// Watched reports whether the server is watched.
func (e *Engine) Watched() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.watcher != nil
}

// Unwatch ends the watch, until the next [Engine.Watch]. It does not wait.
func (e *Engine) Unwatch() {
	if w := e.unwatch(); w != nil {
		go w.end()
	}
}

func (e *Engine) unwatch() *Session {
	e.mu.Lock()
	w := e.watcher
	e.watcher, e.onChange, e.onTell, e.onClosed = nil, nil, nil, nil
	e.mu.Unlock()
	e.forget()
	return w
}

// Close ends the watch, and the sessions that wait for calls.
func (e *Engine) Close() {
	if w := e.unwatch(); w != nil {
		w.end()
	}
	e.pool.close()
}

type watchOutlet struct{ e *Engine }

// Closed implements [Closer]: a program has closed all sessions of its server. Until the server is watched again, nothing
// that can change is kept.
func (o watchOutlet) Closed() {
	o.e.mu.Lock()
	f := o.e.onClosed
	o.e.watcher = nil
	o.e.mu.Unlock()
	o.e.forget()
	if f != nil {
		f()
	}
}

func (e *Engine) forget() {
	e.tools.forget()
	e.prompts.forget()
	e.forgetLists()
}

func (e *Engine) forgetLists() {
	e.listed.Add(1)
	e.lists.Store(nil)
}

func (o watchOutlet) Say(ctx context.Context, m Outgoing) error {
	if m.Reply != nil {
		return errNoClient
	}
	o.e.mu.Lock()
	changed, told := o.e.onChange, o.e.onTell
	switch m.Method {
	case "notifications/tools/list_changed":
		o.e.tools.forget()
	case "notifications/prompts/list_changed":
		o.e.prompts.forget()
	}
	if wire.IsChange(m.Method) && m.Method != wire.ResourceUpdated {
		o.e.forgetLists()
	}
	o.e.mu.Unlock()
	switch {
	case wire.IsChange(m.Method):
		if changed != nil {
			changed(m.Method, m.Params)
		}
	case told != nil:
		told(ctx, m.Method, m.Params)
	}
	return nil
}
