package sluice

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice/internal/engine"
	"github.com/sluice-mcp/sluice/internal/replica"
	"github.com/sluice-mcp/sluice/internal/session"
	"github.com/sluice-mcp/sluice/internal/wire"
	"github.com/sluice-mcp/sluice/store"
	"github.com/sluice-mcp/sluice/store/memory"
)

// Handler is the MCP endpoint: an [http.Handler] that serves clients of every revision at one
// URL. Make it with [NewHandler]; it is safe for concurrent use.
type Handler struct {
	getServer func(*http.Request) *mcp.Server
	opts      Options
	log       *slog.Logger
	store     store.Store
	ownStore  bool
	replica   *replica.Replica // nil when nobody shares the store
	changes   changes
	sessions  *session.Manager
	engines   engines
	limits    limits
	old       oldSessions
	workers   *workers
	timers    sync.Pool
	sealer    *sealer

	ctx    context.Context // ends with Close
	cancel context.CancelFunc

	draining atomic.Bool // new work is refused
	drained  atomic.Bool // nothing is in flight any more
	mu       sync.Mutex
	listens  map[*listen]struct{}
}

// NewHandler returns the endpoint. getServer chooses the server for a request, as it does
// for the SDK's handler; it may always return the same one. If it returns nil, the
// request is answered with 400. A session keeps the server that it was opened with while it is alive here.
//
// A tool may keep its [mcp.ServerSession] and speak on it for as long as its client's session lasts. [mcp.Server.Sessions] has the
// clients that are busy at this replica, and those that listen and can be asked something; what is said to all of them reaches those that
// only listen, too. The session's Wait returns when nothing needs it here, long before it ends. Session IDs are the handler's own: the
// server's GetSessionID is not used.
//
// A handler without options keeps its state in this process. Call [Handler.Close] when done with it.
func NewHandler(getServer func(*http.Request) *mcp.Server, opts *Options) *Handler {
	if getServer == nil {
		panic("sluice: NewHandler needs a function that chooses the server") //nolint:forbidigo // a program that is wrong
	}
	h := &Handler{getServer: getServer, listens: make(map[*listen]struct{})}
	if opts != nil {
		h.opts = *opts
	}
	h.opts.setDefaults()
	h.log = h.opts.Logger
	h.ctx, h.cancel = context.WithCancel(context.Background())
	h.workers = newWorkers()
	if h.store = h.opts.Store; h.store == nil {
		h.store, h.ownStore = memory.New(), true
	}
	name := rand.Text()[:12]
	h.limits = limits{all: h.opts.MaxCalls, each: h.opts.MaxCallsPerPrincipal}
	if !h.ownStore {
		h.replica = replica.New(h.store, h.log, name)
	}
	h.sealer = newSealer(h.opts.StateKeys, h.log)
	h.sessions = session.NewManager(session.Config{
		Store:           h.store,
		Log:             h.log,
		Name:            name,
		Replica:         h.replica,
		Timeout:         h.opts.SessionTimeout,
		ReplyTimeout:    h.opts.ReplyTimeout,
		Moved:           h.repeatChanges,
		MaxSessions:     h.opts.MaxSessions,
		MaxPerPrincipal: h.opts.MaxSessionsPerPrincipal,
	})
	h.engines.log = h.log
	h.engines.onChange, h.engines.onTell, h.engines.onClosed = h.changed, h.tellListeners, h.closeListeners
	h.engines.voice = h.sessions.Voice
	if h.replica != nil {
		h.changes.h = h
		h.engines.watched = h.changes.subscribeAll
		h.replica.Start(h.takeNote, h.doubt)
		h.changes.start()
	}
	return h
}

// ServeHTTP implements [http.Handler].
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !h.admit(w, r) {
		return
	}
	switch r.Method {
	case http.MethodPost:
		h.servePost(w, r)
	case http.MethodGet, http.MethodDelete:
		h.serveSession(w, r)
	default:
		w.Header().Set("Allow", "GET, POST, DELETE")
		writeError(w, http.StatusMethodNotAllowed, "", wire.InvalidRequest("Method not allowed"))
	}
}

// serveSession takes the methods that only sessions have.
func (h *Handler) serveSession(w http.ResponseWriter, r *http.Request) {
	if v := r.Header.Get(wire.HeaderVersion); v != "" {
		if !wire.Served(v) {
			writeError(w, http.StatusBadRequest, "", h.unsupported(r, v))
			return
		}
		if wire.Modern(v) { // streamable-http, "Earlier Streamable HTTP Revisions"
			w.Header().Set("Allow", "POST")
			writeError(w, http.StatusMethodNotAllowed, "", wire.InvalidRequest("Method not allowed: revision "+v+" has only POST"))
			return
		}
	}
	if r.Method == http.MethodGet {
		h.serveGet(w, r)
		return
	}
	h.serveDelete(w, r)
}

// servePost reads the messages of a POST and decides which era they belong to.
func (h *Handler) servePost(w http.ResponseWriter, r *http.Request) {
	if !acceptsBoth(r.Header) {
		writeError(w, http.StatusNotAcceptable, "", wire.InvalidRequest("Accept must list both application/json and text/event-stream"))
		return
	}
	body, ok := h.readBody(w, r)
	if !ok {
		return
	}
	one, batch, perr := wire.ParseBody(body)
	if perr != nil {
		writeError(w, http.StatusBadRequest, one.ID, perr)
		return
	}
	header := r.Header[wire.HeaderVersion]
	if len(header) > 1 {
		writeError(w, http.StatusBadRequest, one.ID, wire.HeaderMismatch("Header mismatch: MCP-Protocol-Version is given more than once"))
		return
	}
	if len(header) == 1 && !wire.Served(header[0]) {
		writeError(w, http.StatusBadRequest, one.ID, h.unsupported(r, header[0]))
		return
	}
	modern := len(header) == 1 && wire.Modern(header[0])
	switch {
	case batch != nil && modern:
		writeError(w, http.StatusBadRequest, "", wire.InvalidRequest("Invalid request: batches ended with revision 2025-03-26"))
	case batch != nil:
		h.serveBatch(w, r, batch)
	case modern || one.Kind == wire.Request && claimsModern(one.Params):
		h.serveModern(w, r, one)
	default:
		h.serveLegacy(w, r, one)
	}
}

// unsupported answers a version that the endpoint does not serve with those that the server of this request speaks: its
// options may have narrowed them, and what the error lists must be had here (versioning, "Version Negotiation").
func (h *Handler) unsupported(r *http.Request, version string) *wire.Error {
	if e := h.engineFor(r); e != nil {
		return wire.UnsupportedBy(e.Describe(r.Context(), extraOf(r)).Revisions, version)
	}
	return wire.UnsupportedVersion(version)
}

// claimsModern reports whether a request has per-request metadata of the stateless era
// (versioning: "a request carrying modern per-request _meta is served statelessly").
func claimsModern(params []byte) bool {
	if len(params) == 0 {
		return false
	}
	version := wire.Member(wire.Member(params, "_meta"), wire.MetaProtocolVersion)
	return version != nil && (!wire.Served(wire.Unquote(version)) || wire.Modern(wire.Unquote(version)))
}

// readBody reads a bounded body of the right type. When it fails, it has answered.
func (h *Handler) readBody(w http.ResponseWriter, r *http.Request) ([]byte, bool) {
	if !isJSON(r.Header) {
		writeError(w, http.StatusUnsupportedMediaType, "", wire.InvalidRequest("Content-Type must be application/json"))
		return nil, false
	}
	var body []byte
	var err error
	if n := r.ContentLength; n >= 0 && n <= min(firstRoom, h.opts.MaxBody) {
		body = make([]byte, n) // net/http keeps the body to its length
		_, err = io.ReadFull(r.Body, body)
	} else { // room is made as it arrives: to promise a large body costs its sender nothing
		body, err = io.ReadAll(http.MaxBytesReader(w, r.Body, h.opts.MaxBody))
	}
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		writeError(w, http.StatusRequestEntityTooLarge, "", wire.InvalidRequest("Request body is too large"))
	case err != nil:
		writeError(w, http.StatusBadRequest, "", wire.InvalidRequest("Request body could not be read"))
	default:
		return body, true
	}
	return nil, false
}

// firstRoom is what an ordinary body fits into.
const firstRoom = 16 << 10

// engineFor returns the engine of the server that getServer chooses, or nil.
func (h *Handler) engineFor(r *http.Request) *engine.Engine {
	server := h.getServer(r)
	if server == nil {
		return nil
	}
	return h.engines.get(server)
}

var errNoServer = errors.New("no server for this request")

var errNotJoined = errors.New("not yet known to the other replicas")

// Ready reports nil when the endpoint takes new work, else an error that says why it does not.
func (h *Handler) Ready(ctx context.Context) error {
	if h.draining.Load() {
		return errDraining
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if err := h.store.Ping(ctx); err != nil {
		return err
	}
	if h.replica != nil && !h.replica.Joined() {
		return errNotJoined
	}
	return nil
}
