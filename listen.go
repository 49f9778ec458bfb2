package sluice

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"

	"github.com/sluice-mcp/sluice/internal/engine"
	"github.com/sluice-mcp/sluice/internal/run"
	"github.com/sluice-mcp/sluice/internal/wire"
)

// listen is a subscriptions/listen of revision 2026-07-28: a call whose result comes when the server
// leaves, and whose stream carries the changes that its client asked for until then.
type listen struct {
	run  *run.Run
	stop context.CancelFunc
	id   any    // the SDK's name of the subscription
	shim []byte // what the SDK writes for it, when that is not what the client wrote
}

func (h *Handler) runListen(rn *run.Run, c *modernCall) {
	defer h.limits.leave(c.principal)
	ctx, stop := context.WithCancel(rn.Context())
	defer stop()
	l := &listen{run: rn, stop: stop}
	l.id, l.shim = subscriptionID(rn.ID)

	h.mu.Lock()
	h.listens[l] = struct{}{}
	h.mu.Unlock()
	defer func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.listens, l)
	}()
	if h.draining.Load() {
		stop()
	}

	result, err := l.serve(ctx, c)
	if err != nil {
		e := engine.ToError(err)
		rn.Answer(wire.AppendError(nil, rn.ID, e), wire.ModernStatus(e.Code))
		return
	}
	rn.Answer(wire.AppendResult(nil, rn.ID, l.restore(result)), http.StatusOK)
}

// serve parks until the subscription ends. The SDK tells listens apart by their session, so each has its own.
func (l *listen) serve(ctx context.Context, c *modernCall) ([]byte, error) {
	call := &engine.Call{Method: c.message.Method, Params: c.message.Params, Extra: c.extra, ID: l.id}
	server, err := c.engine.Connect(engine.Detached(l.run.Context(), call), "", c.state, l)
	if err != nil {
		return nil, err
	}
	defer server.Close()
	return server.Relay(ctx, call)
}

// Say implements [engine.Outlet]. The SDK tells all listeners of a change one after the other, so
// nobody may be waited for: a client that does not read loses its subscription and can ask again.
func (l *listen) Say(_ context.Context, m engine.Outgoing) error {
	if m.Reply != nil {
		return errNoRequests
	}
	err := l.run.Stream.Offer(wire.AppendCall(nil, "", m.Method, l.restore(m.Params)))
	if errors.Is(err, run.ErrFull) {
		l.run.Stream.Fail(err)
		l.run.Cancel()
	}
	return err
}

// subscriptionID returns the client's ID as the SDK takes it, and, where the SDK would
// write another one, what it writes: it reads numbers as float64.
func subscriptionID(id wire.ID) (sdk any, shim []byte) {
	if id[0] == '"' {
		return wire.Unquote([]byte(id)), nil
	}
	f, err := strconv.ParseFloat(string(id), 64)
	if err == nil && strconv.FormatInt(int64(f), 10) == string(id) && len(id) < 16 {
		return f, nil
	}
	name := "listen " + string(id)
	return name, wire.AppendString(nil, name)
}

// restore puts the client's ID back into the _meta of params or of a result.
func (l *listen) restore(object json.RawMessage) json.RawMessage {
	meta := wire.Member(object, "_meta")
	if l.shim == nil || string(wire.Member(meta, wire.MetaSubscriptionID)) != string(l.shim) {
		return object
	}
	return wire.ReplaceMember(object, "_meta", wire.ReplaceMember(meta, wire.MetaSubscriptionID, []byte(l.run.ID)))
}
