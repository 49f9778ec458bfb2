package stateful

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	"github.com/sluice-mcp/sluice/internal/answer"
	"github.com/sluice-mcp/sluice/internal/caller"
	"github.com/sluice-mcp/sluice/internal/engine"
	"github.com/sluice-mcp/sluice/internal/session"
	"github.com/sluice-mcp/sluice/internal/wire"
)

// initialize opens a session. A client that names one, of its own or one that is long gone, asks for a new one all the same: it
// could not do so otherwise, and some clients send the header always, even empty.
func (p *Endpoint) initialize(w http.ResponseWriter, r *http.Request, m wire.Message) {
	if p.Calls.Leaving() {
		answer.Leaving().Write(w, m.ID)
		return
	}
	params, e := engine.PrepareInitialize(m.Params)
	if e != nil {
		answer.Error(w, http.StatusBadRequest, m.ID, e)
		return
	}
	server := p.Server(r)
	if server == nil {
		p.refusal(errNoServer).Write(w, m.ID)
		return
	}
	if spoken := server.Describe(r.Context(), caller.Extra(r)).Revisions; !slices.ContainsFunc(spoken, func(v string) bool { return !wire.Modern(v) }) {
		// The only word that a client of the session era may get to show its user.
		e := wire.UnsupportedBy(spoken, wire.Unquote(wire.Member(m.Params, "protocolVersion")))
		e.Message += ": this server speaks " + strings.Join(spoken, ", ")
		answer.Error(w, http.StatusBadRequest, m.ID, e)
		return
	}
	s, err := p.Sessions.New(server, p.Principal(r))
	if err != nil {
		p.refusal(err).Write(w, m.ID)
		return
	}
	defer s.Release()
	result, version, err := greet(r, s, params)
	result = wire.Declare(result, "experimental", wire.ExtensionOnce, p.Once.Declaration())
	if err != nil {
		p.Sessions.Discard(s)
		answer.Error(w, http.StatusOK, m.ID, engine.ToError(err))
		return
	}
	if err := s.Establish(r.Context(), version, engine.NegotiatedParams(params, version)); err != nil {
		p.Sessions.Discard(s)
		p.refusal(err).Write(w, m.ID)
		return
	}
	w.Header().Set(wire.HeaderSession, s.ID)
	answer.JSON(w, http.StatusOK, wire.AppendResult(nil, m.ID, result))
}

// greet asks the server for the result of initialize and tells the version that was agreed on.
func greet(r *http.Request, s *session.Session, params json.RawMessage) (result json.RawMessage, version string, err error) {
	res, err := s.Engine.Initialize(context.WithoutCancel(r.Context()), s.ID, params, caller.Extra(r), s)
	if err != nil {
		return nil, "", err
	}
	err = s.Engine.Safely("initialize", func() error { // writing a result calls code of the handler's types, too
		result, err = engine.AppendResult(nil, res)
		return err
	})
	return result, wire.Unquote(wire.Member(result, "protocolVersion")), err
}
