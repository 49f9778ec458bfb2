package stateful

import (
	"encoding/json"
	"net/http"

	"github.com/sluice-mcp/sluice/internal/engine"
	"github.com/sluice-mcp/sluice/internal/run"
	"github.com/sluice-mcp/sluice/internal/session"
	"github.com/sluice-mcp/sluice/internal/wire"
	"github.com/sluice-mcp/sluice/observe"
)

// maxPending bounds the params that the store keeps for the calls of one stream, in bytes: a record is to stay small.
const maxPending = 512 << 10

// pending describes calls for another replica to take over.
func (p *Endpoint) pending(calls []*call) []session.Pending {
	if !p.Shared {
		return nil
	}
	out, room := make([]session.Pending, len(calls)), maxPending
	for i, c := range calls {
		out[i] = session.Pending{ID: json.RawMessage(c.run.ID), Method: c.run.Method, Key: c.key}
		if c.told != nil {
			out[i].Told = c.told.kept
		}
		// What is not repeated needs no params. A call with a key can be: it is looked up then, whether it has run.
		if room -= len(c.params); room >= 0 && (c.key != "" || c.repeatable()) {
			out[i].Params, out[i].Repeatable = c.params, true
		}
	}
	return out
}

// repeatable reports whether the call may run twice: it only reads, or its tool says that it is safe.
func (c *call) repeatable() bool {
	if c.run.Method != "tools/call" {
		return engine.Direct(c.run.Method)
	}
	server, err := c.session.Server(c.run.Context())
	if err != nil {
		return false
	}
	return server.Tool(c.run.Context(), wire.Unquote(wire.Member(c.params, "name")), c.extra).Repeatable
}

// rerun executes a call again that a lost replica had begun. It comes with the credentials of the client that
// has come back for it, who is the same principal.
func (p *Endpoint) rerun(r *http.Request, s *session.Session) session.Rerun {
	principal := p.Principal(r)
	return func(pending session.Pending, claim int, st *run.Stream) {
		var token []byte
		if meta, e := wire.ParseMeta(wire.Member(pending.Params, "_meta")); e == nil {
			token = meta.ProgressToken
		}
		ctx, told := p.observeRerun(r, s, pending, claim)
		c := newCall(ctx, r, s, principal, wire.ID(pending.ID), pending.Method, pending.Params, token, st)
		c.key, c.told = pending.Key, told
		inFlight, err := s.Begin(c.run)
		switch {
		case err != nil:
			told.ends(observe.End{Outcome: observe.TakenOver})
			st.Fail(run.ErrLeft)
			return
		case inFlight != nil:
			told.ends(failed(session.ErrInFlight))
			_ = st.Respond(wire.AppendError(nil, c.run.ID, session.ErrInFlight), 0)
			return
		}
		p.Calls.Force(principal, c.run)
		go p.run(c)
	}
}
