package stateless

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/sluice-mcp/sluice/internal/engine"
	"github.com/sluice-mcp/sluice/internal/run"
	"github.com/sluice-mcp/sluice/internal/wire"
	"github.com/sluice-mcp/sluice/observe"
)

// A listen is a subscriptions/listen: a call whose result comes when the server
// leaves, and whose stream carries the changes that its client asked for until then.
type listen struct {
	run  *run.Run
	stop context.CancelFunc
	id   any    // the SDK's name of the subscription
	shim []byte // what the SDK writes for it, when that is not what the client wrote

	// interested is called when the client has subscribed to resources.
	interested func(uris ...string)
	wants      atomic.Pointer[wants]

	mu   sync.Mutex
	held []engine.Outgoing // said before the acknowledgement

	// Of a subscription that has tasks: those that the acknowledgement names, and when it was said.
	tasks        []string
	acknowledged chan struct{}

	// end takes the acknowledgement for the end of the call, or what comes in its place. What comes after may take hours, and is
	// told of as a stream.
	end func(observe.End)
}

// maxHeld bounds what is said before the acknowledgement.
const maxHeld = 64

// wants is what a server has agreed to tell a listener of.
type wants struct {
	ToolsListChanged      bool     `json:"toolsListChanged"`
	PromptsListChanged    bool     `json:"promptsListChanged"`
	ResourcesListChanged  bool     `json:"resourcesListChanged"`
	ResourceSubscriptions []string `json:"resourceSubscriptions"`
}

func (p *Endpoint) listen(rn *run.Run, c *call) {
	defer p.Calls.Leave(c.principal, rn)
	ctx, stop := context.WithCancel(rn.Context())
	defer stop()
	l := &listen{run: rn, stop: stop, interested: p.Changes.Interested, end: c.once()}
	l.id, l.shim = subscriptionID(rn.ID)
	p.listens.add(l)
	defer p.listens.remove(l)
	if p.Calls.Leaving() { // EndListens may have come before it
		stop()
	}
	result, err := p.serveListen(ctx, l, c)
	sent, code := respond(rn, wire.AppendResult(nil, rn.ID, l.restore(result)), err)
	e := observe.End{Outcome: observe.OK}
	if code != 0 {
		e = observe.End{Outcome: observe.Failed, Code: code}
	}
	l.end(rn.End(e, sent))
}

// serveListen parks until the subscription ends, and tells of tasks meanwhile: the SDK does not know them, and ends a subscription to
// nothing else at once.
func (p *Endpoint) serveListen(ctx context.Context, l *listen, c *call) ([]byte, error) {
	tasks, err := p.watchTasks(ctx, l, c)
	if err != nil {
		return nil, err
	}
	if tasks == nil {
		return l.serve(ctx, c)
	}
	l.tasks, l.acknowledged = tasks.ids, make(chan struct{})
	defer tasks.end()
	go tasks.tell(ctx)
	result, err := l.serve(ctx, c)
	if err == nil {
		<-ctx.Done()
	}
	return result, err
}

// serve parks until the subscription ends. The SDK tells listens apart by their session, so each has its own.
func (l *listen) serve(ctx context.Context, c *call) ([]byte, error) {
	asked := &engine.Call{Method: c.method, Params: c.raw, Extra: c.extra, ID: l.id}
	server, err := c.engine.ConnectRequest(engine.Detached(l.run.Context(), asked), c.meta, l)
	if err != nil {
		return nil, err
	}
	defer server.Close()
	return server.Relay(ctx, asked)
}

// Say implements [engine.Outlet]. The SDK tells all listeners of a change one after the other, so
// nobody may be waited for long: a client that does not read loses its subscription and can ask again.
func (l *listen) Say(ctx context.Context, m engine.Outgoing) error {
	if m.Reply != nil {
		return errNoRequests
	}
	// A program that speaks to all sessions of its server says what nobody has subscribed to.
	if !wire.IsChange(m.Method) && m.Method != "notifications/subscriptions/acknowledged" && run.From(ctx) != l.run {
		return errNotThisCall
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.wants.Load() != nil {
		return l.offer(m.Method, m.Params)
	}
	if m.Method != "notifications/subscriptions/acknowledged" {
		// The SDK subscribes first and acknowledges then; the client must hear it the other way round.
		if len(l.held) < maxHeld {
			l.held = append(l.held, m)
		}
		return nil
	}
	var w wants
	if err := json.Unmarshal(wire.Member(m.Params, "notifications"), &w); err != nil {
		return err
	}
	err := l.offer(m.Method, l.withTasks(m.Params))
	l.wants.Store(&w)
	if l.acknowledged != nil {
		close(l.acknowledged)
	}
	l.end(l.run.End(observe.End{Outcome: observe.OK, Shape: observe.Stream}, true))
	for _, m := range l.held {
		err = errors.Join(err, l.offer(m.Method, m.Params))
	}
	l.held = nil
	if len(w.ResourceSubscriptions) > 0 {
		l.interested(w.ResourceSubscriptions...)
	}
	return err
}

// tell passes on a change of which another replica has told, if the client asked for it.
func (l *listen) tell(method string, params json.RawMessage) {
	w := l.wants.Load()
	if w == nil {
		return
	}
	wanted := false
	switch method {
	case "notifications/tools/list_changed":
		wanted = w.ToolsListChanged
	case "notifications/prompts/list_changed":
		wanted = w.PromptsListChanged
	case "notifications/resources/list_changed":
		wanted = w.ResourcesListChanged
	case "notifications/resources/updated":
		wanted = slices.Contains(w.ResourceSubscriptions, wire.Unquote(wire.Member(params, "uri")))
	}
	if !wanted {
		return
	}
	meta := wire.SetMembers([]byte("{}"), wire.Pair{Key: wire.MetaSubscriptionID, Value: []byte(l.run.ID)})
	params = wire.SetMembers(wire.RemoveMembers(params, "_meta"), wire.Pair{Key: "_meta", Value: meta})
	_ = l.offer(method, params) // a listener that does not read has been ended
}

func (l *listen) offer(method string, params json.RawMessage) error {
	err := l.run.Stream.Offer(wire.AppendCall(nil, "", method, l.restore(params)))
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
