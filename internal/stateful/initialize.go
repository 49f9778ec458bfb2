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
	"github.com/sluice-mcp/sluice/observe"
)

// initialize opens a session. A client that names one, of its own or one that is long gone, asks for a new one all the same: it
// could not do so otherwise, and some clients send the header always, even empty.
func (p *Endpoint) initialize(w http.ResponseWriter, r *http.Request, m wire.Message) {
	ctx, end := p.observeInitialize(r, m, observe.StreamableHTTP)
	result, no := p.open(ctx, w, r, m)
	if no != nil {
		no.Tell(ctx, p.Observer)
		end(notBegun(no))
		no.Write(w, m.ID)
		return
	}
	body := wire.AppendResult(nil, m.ID, result)
	end(observe.End{Outcome: observe.OK, Shape: observe.JSON, Bytes: int64(len(body))})
	answer.JSON(w, http.StatusOK, body)
}

// open opens a session, names it in the header of the response, and returns the result.
func (p *Endpoint) open(ctx context.Context, w http.ResponseWriter, r *http.Request, m wire.Message) (json.RawMessage, *answer.Refusal) {
	if p.Calls.Leaving() {
		return nil, answer.Leaving()
	}
	params, e := engine.PrepareInitialize(m.Params)
	if e != nil {
		return nil, answer.Refuse(http.StatusBadRequest, e)
	}
	server := p.Server(r)
	if server == nil {
		return nil, p.refusal(errNoServer)
	}
	if spoken := server.Describe(r.Context(), caller.Extra(r)).Revisions; !slices.ContainsFunc(spoken, func(v string) bool { return !wire.Modern(v) }) {
		// The only word that a client of the session era may get to show its user.
		e := wire.UnsupportedBy(spoken, wire.Unquote(wire.Member(m.Params, "protocolVersion")))
		e.Message += ": this server speaks " + strings.Join(spoken, ", ")
		return nil, answer.Refuse(http.StatusBadRequest, e)
	}
	s, err := p.Sessions.New(server, p.Principal(r))
	if err != nil {
		return nil, p.refusal(err)
	}
	defer s.Release()
	result, version, err := greet(ctx, r, s, params)
	if err != nil {
		p.Sessions.Discard(s)
		return nil, answer.Refuse(http.StatusOK, engine.ToError(err))
	}
	if err := s.Establish(ctx, version, engine.NegotiatedParams(params, version)); err != nil {
		p.Sessions.Discard(s)
		return nil, p.refusal(err)
	}
	w.Header().Set(wire.HeaderSession, s.ID)
	return wire.Declare(result, "experimental", wire.ExtensionOnce, p.Once.Declaration()), nil
}

// greet asks the server for the result of initialize and tells the version that was agreed on.
func greet(ctx context.Context, r *http.Request, s *session.Session, params json.RawMessage) (result json.RawMessage, version string, err error) {
	res, err := s.Engine.Initialize(context.WithoutCancel(ctx), s.ID, params, caller.Extra(r), s)
	if err != nil {
		return nil, "", err
	}
	err = s.Engine.Safely("initialize", func() error { // writing a result calls code of the handler's types, too
		result, err = engine.AppendResult(nil, res)
		return err
	})
	return result, wire.Unquote(wire.Member(result, "protocolVersion")), err
}
