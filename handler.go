package sluice

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice/internal/answer"
	"github.com/sluice-mcp/sluice/internal/caller"
	"github.com/sluice-mcp/sluice/internal/changes"
	"github.com/sluice-mcp/sluice/internal/engine"
	"github.com/sluice-mcp/sluice/internal/era"
	"github.com/sluice-mcp/sluice/internal/gate"
	"github.com/sluice-mcp/sluice/internal/inflight"
	"github.com/sluice-mcp/sluice/internal/measured"
	"github.com/sluice-mcp/sluice/internal/observed"
	"github.com/sluice-mcp/sluice/internal/once"
	"github.com/sluice-mcp/sluice/internal/replica"
	"github.com/sluice-mcp/sluice/internal/run"
	"github.com/sluice-mcp/sluice/internal/servers"
	"github.com/sluice-mcp/sluice/internal/session"
	"github.com/sluice-mcp/sluice/internal/stateful"
	"github.com/sluice-mcp/sluice/internal/stateless"
	"github.com/sluice-mcp/sluice/internal/task"
	"github.com/sluice-mcp/sluice/internal/view"
	"github.com/sluice-mcp/sluice/internal/wire"
	"github.com/sluice-mcp/sluice/observe"
	"github.com/sluice-mcp/sluice/store"
	"github.com/sluice-mcp/sluice/store/memory"
)

// Handler is the MCP endpoint: an [http.Handler] that serves clients of every revision at one
// URL. Make it with [NewHandler]; it is safe for concurrent use.
type Handler struct {
	getServer func(*http.Request) *mcp.Server

	// The way of a request, from left to right in ARCHITECTURE.md's picture.
	gate      gate.Gate
	reader    era.Reader
	stateful  *stateful.Endpoint
	stateless *stateless.Endpoint

	// What the eras share.
	calls    *inflight.Calls
	workers  *run.Workers
	sessions *session.Manager
	servers  *servers.Servers
	changes  *changes.Changes
	tasks    *task.Keeper // nil when there are none
	once     *once.Calls
	replica  *replica.Replica // nil when nobody shares the store
	store    store.Store
	observer observe.Observer // nil when nobody observes
}

// NewHandler returns the endpoint. getServer chooses the server for a request, as it does for the SDK's handler, and a session keeps the
// one that it was opened with for as long as it lives at this replica, however long it idles; another replica that it comes to asks
// once for its own. It may always return the same one, or make one for each session: that one is let go when the session ends. If it
// returns nil, the request is answered with 400.
//
// A client whose session comes to a server with other tools, prompts or resources, as in a rollout, is told so by list_changed.
//
// A tool may keep its [mcp.ServerSession] and speak on it for as long as its client's session lasts. [mcp.Server.Sessions] has the
// clients that are busy at this replica, and those that listen and can be asked something; what is said to all of them reaches those that
// only listen, too. The session's Wait returns when nothing needs it here, long before it ends: see [Options.SessionEnded]. Session IDs are the handler's own: the
// server's GetSessionID is not used.
//
// A handler without options keeps its state in this process. Call [Handler.Close] when done with it.
func NewHandler(getServer func(*http.Request) *mcp.Server, opts *Options) *Handler {
	if getServer == nil {
		panic("sluice: NewHandler needs a function that chooses the server") //nolint:forbidigo // a program that is wrong
	}
	var o Options
	if opts != nil {
		o = *opts
	}
	o.setDefaults()
	observer := observed.Guard(o.Observer, o.Logger)
	name := rand.Text()[:12]
	h := &Handler{
		getServer: getServer,
		gate:      gate.Gate{Origins: o.AllowedOrigins, Hosts: o.AllowedHosts, Observer: observer},
		calls:     inflight.New(o.MaxCalls, o.MaxCallsPerPrincipal),
		workers:   run.NewWorkers(),
		observer:  observer,
	}
	if o.Store == nil {
		h.store = measured.Store(memory.New(), observer)
	} else {
		h.store = measured.Store(o.Store, observer)
		h.replica = replica.New(h.store, o.Logger, name, observer)
	}
	shared := h.replica != nil
	renderer := &view.Renderer{KeepAlive: o.KeepAlive, Observer: observer}
	h.reader = era.Reader{MaxBody: o.MaxBody, Revisions: h.revisions, Observer: observer}
	h.changes = changes.New(h.replica, o.Logger, func(f func(*engine.Engine)) { h.servers.Each(f) }, observer)
	h.sessions = session.NewManager(session.Config{
		Store:           h.store,
		Log:             o.Logger,
		Name:            name,
		Replica:         h.replica,
		Timeout:         o.SessionTimeout,
		ReplyTimeout:    o.ReplyTimeout,
		Moved:           func(s *session.Session) { h.stateful.TellRecent(s) },
		Holds:           func(e *engine.Engine, n int) { h.servers.Holds(e, n) },
		Ended:           o.SessionEnded,
		MaxSessions:     o.MaxSessions,
		MaxPerPrincipal: o.MaxSessionsPerPrincipal,
		Observer:        observer,
	})
	h.once = once.New(once.Config{Store: h.store, Log: o.Logger, Name: name, Replica: h.replica, TTL: o.OnceTTL})
	h.stateful = stateful.New(stateful.Config{
		Once:      h.once,
		Server:    h.server,
		Principal: o.Principal,
		Sessions:  h.sessions,
		Calls:     h.calls,
		Workers:   h.workers,
		Changes:   h.changes,
		Reader:    &h.reader,
		Listen:    func(e *engine.Engine) func() { return h.servers.Listen(e) },
		Shared:    shared,
		View:      renderer,
		Log:       o.Logger,
		Observer:  observer,
	})
	if !o.NoTasks {
		h.tasks = task.New(task.Config{
			Store:           h.store,
			Log:             o.Logger,
			Name:            name,
			Replica:         h.replica,
			Resume:          func(r *task.Record) task.Round { return h.stateless.Resume(r) },
			Max:             o.MaxTasks,
			MaxPerPrincipal: o.MaxTasksPerPrincipal,
			Observer:        observer,
		})
	}
	h.stateless = stateless.New(stateless.Config{
		Tasks:     tasksOf(h.tasks, &o),
		Once:      h.once,
		Server:    h.server,
		Principal: o.Principal,
		Calls:     h.calls,
		Workers:   h.workers,
		Changes:   h.changes,
		View:      renderer,
		StateKeys: o.StateKeys,
		StateTTL:  o.StateTTL,
		Log:       o.Logger,
		Observer:  observer,
	})
	h.servers = servers.New(o.Logger, servers.Hooks{
		Changed: h.changes.Changed,
		Told:    h.stateful.TellListeners,
		Closed:  h.stateful.CloseListeners,
		Watched: h.changes.Watched,
		Voice:   h.sessions.Voice,
		Eager:   shared,
	})
	h.changes.Join(h.stateful, h.stateless)
	if shared {
		h.replica.Start(h.takeNote, h.doubt)
		h.changes.Start()
		if h.tasks != nil {
			h.tasks.Start()
		}
	}
	return h
}

// tasksOf returns what the stateless era needs for tasks, or nil if there are none.
func tasksOf(k *task.Keeper, o *Options) *stateless.Tasks {
	if k == nil {
		return nil
	}
	return &stateless.Tasks{Keeper: k, TTL: o.TaskTTL.Milliseconds(), Keep: o.TaskKeep.Milliseconds(), Poll: time.Second.Milliseconds(), After: o.TaskAfter}
}

// ServeHTTP implements [http.Handler].
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !h.gate.Admit(w, r) {
		return
	}
	switch r.Method {
	case http.MethodPost:
		post, ok := h.reader.Post(w, r)
		switch {
		case !ok:
		case post.Stateless:
			h.stateless.Serve(w, r, post.Message)
		default:
			h.stateful.Post(w, r, post)
		}
	case http.MethodGet:
		if h.reader.Sessions(w, r) {
			h.stateful.Get(w, r)
		}
	case http.MethodDelete:
		if h.reader.Sessions(w, r) {
			h.stateful.Delete(w, r)
		}
	default:
		w.Header().Set("Allow", "GET, POST, DELETE")
		answer.Error(w, http.StatusMethodNotAllowed, "", wire.InvalidRequest("Method not allowed"))
	}
}

// HTTPSSE returns the handler of the transport of revision 2024-11-05 (HTTP+SSE), for old clients: GET
// opens the stream, POST takes messages. Mount it at both paths; messagePath is the one for POST. Clients are given it relative to
// the URL of their stream if it lies beside that or above, as /messages does for /sse, so that it is found below any prefix that a proxy
// strips. One without a leading slash is taken for such a reference itself, and any other is sent as it is.
//
// Its sessions live in one process: several replicas need a balancer that keeps a client at one of them.
func (h *Handler) HTTPSSE(messagePath string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if h.gate.Admit(w, r) {
			h.stateful.HTTPSSE(w, r, messagePath)
		}
	})
}

// server returns the engine of the server that getServer chooses for a request, or nil.
func (h *Handler) server(r *http.Request) *engine.Engine {
	if s := h.getServer(r); s != nil {
		return h.servers.Get(s)
	}
	return nil
}

// revisions returns those that the server of a request speaks, or nil if it has none.
func (h *Handler) revisions(r *http.Request) []string {
	if e := h.server(r); e != nil {
		return e.Describe(r.Context(), caller.Extra(r)).Revisions
	}
	return nil
}

// takeNote takes a note of another replica.
func (h *Handler) takeNote(n replica.Note) {
	if h.sessions.Take(n) || h.once.Take(n) || h.tasks != nil && h.tasks.Take(n) {
		return
	}
	h.changes.Take(n)
}

// doubt mends what lost notes may have left wrong.
func (h *Handler) doubt() {
	h.sessions.Doubt()
	h.changes.Doubt()
	if h.tasks != nil {
		h.tasks.Doubt()
	}
}

var errDraining = errors.New("the server is shutting down")

// Ready reports nil when the endpoint takes new work, else an error that says why it does not.
func (h *Handler) Ready(ctx context.Context) error {
	if h.calls.Leaving() {
		return errDraining
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if err := h.store.Ping(ctx); err != nil {
		return err
	}
	if h.replica != nil {
		return h.replica.Joined()
	}
	return nil
}
