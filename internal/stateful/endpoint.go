// Package stateful serves the session era over HTTP: revisions 2025-03-26 to 2025-11-25, and 2024-11-05 with its own
// transport. The sessions themselves are kept by package session.
//
// endpoint.go says who takes a request, initialize.go opens a session, call.go is the way of a call from top to bottom, streams.go has what
// a client gets with GET, takeover.go what another replica needs to go on with a call.
package stateful

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/sluice-mcp/sluice/internal/answer"
	"github.com/sluice-mcp/sluice/internal/caller"
	"github.com/sluice-mcp/sluice/internal/changes"
	"github.com/sluice-mcp/sluice/internal/engine"
	"github.com/sluice-mcp/sluice/internal/era"
	"github.com/sluice-mcp/sluice/internal/inflight"
	"github.com/sluice-mcp/sluice/internal/once"
	"github.com/sluice-mcp/sluice/internal/run"
	"github.com/sluice-mcp/sluice/internal/session"
	"github.com/sluice-mcp/sluice/internal/view"
	"github.com/sluice-mcp/sluice/internal/wire"
	"github.com/sluice-mcp/sluice/observe"
)

// Config is what the endpoint needs. Every field must be set that does not say what nil means.
type Config struct {
	Server    func(*http.Request) *engine.Engine // nil: there is none for this request
	Principal func(*http.Request) string
	Sessions  *session.Manager
	Calls     *inflight.Calls
	Once      *once.Calls
	Workers   *run.Workers
	Changes   *changes.Changes
	Reader    *era.Reader
	// Listen has a server watched for changes, because a client listens, until done is called.
	Listen func(*engine.Engine) (done func())
	// Shared tells that other replicas share the store, so that a client which is sent away finds its streams there.
	Shared bool
	View   *view.Renderer
	Log    *slog.Logger
	// Observer may be nil: nobody observes.
	Observer observe.Observer
}

// Endpoint serves the messages of the era. It is safe for concurrent use.
type Endpoint struct {
	Config
	connections connections
	drained     atomic.Bool // nothing is in flight any more
	keeping     sync.Mutex  // guards call.keep of all calls

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
}

// New returns an endpoint. Call Close when done with it.
func New(c Config) *Endpoint {
	p := &Endpoint{Config: c}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p
}

// Close lets go of the calls that wait for their end to be safe in the store. The sessions are their manager's to close.
func (p *Endpoint) Close() {
	p.EndConnections()
	p.cancel()
}

// Post takes what a POST brings.
func (p *Endpoint) Post(w http.ResponseWriter, r *http.Request, post era.Post) {
	m := post.Message
	if post.Batch == nil && m.Kind == wire.Request && m.Method == "initialize" {
		p.initialize(w, r, m)
		return
	}
	s := p.find(w, r, m.ID)
	if s == nil {
		return
	}
	defer s.Release()
	switch {
	case post.Batch != nil:
		p.batch(w, r, s, post.Batch)
	case m.Kind == wire.Notification:
		if err := p.notified(r, s, m); err != nil {
			p.refuse(w, r, "", p.refusal(err))
			return
		}
		answer.Accepted(w)
	case m.Kind == wire.Response:
		if err := answered(r, s, m, post.Malformed); err != nil {
			p.refuse(w, r, "", p.refusal(err))
			return
		}
		answer.Accepted(w)
	default:
		p.call(w, r, s, m)
	}
}

// Delete ends a session.
func (p *Endpoint) Delete(w http.ResponseWriter, r *http.Request) {
	s := p.find(w, r, "")
	if s == nil {
		return
	}
	defer s.Release()
	if err := p.Sessions.End(r.Context(), s, observe.EndDeleted); err != nil {
		p.refuse(w, r, "", p.refusal(err))
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// find returns the session that a request names, held, or answers why there is none.
func (p *Endpoint) find(w http.ResponseWriter, r *http.Request, id wire.ID) *session.Session {
	names := r.Header[wire.HeaderSession]
	if len(names) != 1 || names[0] == "" || len(names[0]) > 256 {
		answer.Error(w, http.StatusBadRequest, id, wire.InvalidRequest("Mcp-Session-Id is missing: initialize first"))
		return nil
	}
	s, err := p.Sessions.Find(r.Context(), names[0], p.Principal(r), func() (*engine.Engine, error) {
		if e := p.Server(r); e != nil {
			return e, nil
		}
		return nil, errNoServer
	})
	if err != nil {
		p.refuse(w, r, id, p.refusal(err))
		return nil
	}
	// Nearly everybody sends the negotiated version. Another one may be one that this server does not speak
	// (Streamable HTTP, "Protocol Version Header").
	if v := r.Header.Get(wire.HeaderVersion); v != "" && v != s.Version() {
		if spoken := s.Engine.Describe(r.Context(), caller.Extra(r)).Revisions; !slices.Contains(spoken, v) {
			s.Release()
			answer.Error(w, http.StatusBadRequest, id, wire.UnsupportedBy(spoken, v))
			return nil
		}
	}
	return s
}

var (
	errNoServer = errors.New("no server for this request")
	errGone     = &wire.Error{Code: wire.CodeSessionNotFound, Message: "Session not found: initialize again"}
)

const outOfReach = "Session state is out of reach"

// refusal tells a client why its session cannot take its request.
func (p *Endpoint) refusal(err error) *answer.Refusal {
	var e *wire.Error
	switch {
	case errors.As(err, &e):
		return answer.Refuse(http.StatusBadRequest, e)
	case errors.Is(err, session.ErrEnded) && p.leaving():
		return answer.Leaving()
	case errors.Is(err, session.ErrNotFound), errors.Is(err, session.ErrEnded):
		return &answer.Refusal{Status: http.StatusNotFound, Err: errGone, Reason: observe.RefusedNoSession}
	case errors.Is(err, session.ErrTooManyOfYours):
		return answer.Busy(observe.RefusedSessions, http.StatusTooManyRequests, "Too many sessions of this client", 30*answer.RetryAfter)
	case errors.Is(err, session.ErrTooMany):
		return answer.Busy(observe.RefusedSessions, http.StatusServiceUnavailable, "Too many sessions at this server", 30*answer.RetryAfter)
	case errors.Is(err, errNoServer):
		return answer.Refuse(http.StatusBadRequest, wire.InvalidRequest(err.Error()))
	}
	p.Log.Error("session state is out of reach", "error", err)
	return answer.Busy(observe.RefusedStore, http.StatusServiceUnavailable, outOfReach, 4*answer.RetryAfter)
}

// leaving reports that this replica drains while others can take its clients.
func (p *Endpoint) leaving() bool { return p.Shared && p.Calls.Leaving() }
