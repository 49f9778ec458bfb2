package stateful

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice/internal/answer"
	"github.com/sluice-mcp/sluice/internal/caller"
	"github.com/sluice-mcp/sluice/internal/engine"
	"github.com/sluice-mcp/sluice/internal/once"
	"github.com/sluice-mcp/sluice/internal/run"
	"github.com/sluice-mcp/sluice/internal/session"
	"github.com/sluice-mcp/sluice/internal/view"
	"github.com/sluice-mcp/sluice/internal/wire"
	"github.com/sluice-mcp/sluice/observe"
	"github.com/sluice-mcp/sluice/store"
)

// call takes a request of a session and shows its answer.
func (p *Endpoint) call(w http.ResponseWriter, r *http.Request, s *session.Session, m wire.Message) {
	if earlier := s.Earlier(m.ID, m.Method, m.Params); earlier != nil {
		_, told := p.observe(r, s, m)
		told.ends(repeated)
		p.again(w, r, s, earlier)
		return
	}
	st := run.NewStream("", 1)
	c, inFlight, refused := p.begin(r, s, m, st)
	switch {
	case refused != nil:
		refused.Write(w, m.ID)
		return
	case inFlight != nil:
		p.join(w, r, c, inFlight)
		return
	}
	rd := st.Attach(-1)
	p.Workers.Run(func() { p.run(c) })
	p.View.Respond(w, r, st, rd, p.view(r, s, st, c))
}

// A call is a request of a session on its way to the server.
type call struct {
	run       *run.Run
	session   *session.Session
	params    json.RawMessage
	parsed    *wire.Params // nil for a call that runs again
	extra     *mcp.RequestExtra
	token     []byte
	principal string
	key       string        // an idempotency key, or ""
	keep      chan struct{} // has an element while its stream is made durable, see keeps; nil until it is
	batch     bool          // other calls share its stream

	told      *told // nil when nobody observes
	toolError bool
}

// newCall returns a call that runs with the values of ctx.
func newCall(ctx context.Context, r *http.Request, s *session.Session, principal string, id wire.ID, method string, params json.RawMessage, token []byte, st *run.Stream) *call {
	c := &call{
		run:       run.Start(ctx, s.ID, id, method, st),
		session:   s,
		params:    params,
		token:     token,
		extra:     caller.Extra(r),
		principal: principal,
	}
	c.run.Of = c
	c.extra.CloseSSEStream = func(args mcp.CloseSSEStreamArgs) { st.Release(args.RetryAfter) }
	return c
}

// begin checks a request and begins its run, which owes its response to st. If another request with its ID is in
// flight, it returns that one, too.
func (p *Endpoint) begin(r *http.Request, s *session.Session, m wire.Message, st *run.Stream) (c *call, inFlight *run.Run, no *answer.Refusal) {
	ctx, told := p.observe(r, s, m)
	c, inFlight, no = p.admit(ctx, r, s, m, st)
	if no == nil {
		c.told = told
		return c, inFlight, nil
	}
	no.Tell(ctx, p.Observer)
	told.ends(notBegun(no))
	return nil, nil, no
}

func (p *Endpoint) admit(ctx context.Context, r *http.Request, s *session.Session, m wire.Message, st *run.Stream) (c *call, inFlight *run.Run, refused *answer.Refusal) {
	if p.Calls.Leaving() {
		return nil, nil, answer.Leaving()
	}
	params, e := wire.ParseParams(m.Params)
	if e != nil {
		return nil, nil, answer.Refuse(http.StatusOK, e)
	}
	if e = params.CheckArguments(m.Method); e != nil {
		return nil, nil, answer.Refuse(http.StatusOK, e)
	}
	meta, e := wire.ParseMeta(params.Meta)
	if e != nil {
		return nil, nil, answer.Refuse(http.StatusOK, e)
	}
	if engine.Direct(m.Method) && (params.RequestState != nil || params.InputResponses != nil) {
		// These revisions have neither. The SDK gives them to a handler whose requests it has sent to the client itself; from the
		// client they would be what nobody has sealed and nobody has checked.
		m.Params = wire.RemoveMembers(m.Params, "requestState", "inputResponses")
		params.RequestState, params.InputResponses = nil, nil
	}
	c = newCall(ctx, r, s, p.Principal(r), m.ID, m.Method, m.Params, meta.ProgressToken, st)
	c.parsed = &params
	if m.Method == "tools/call" {
		if c.key, e = once.KeyOf(r.Header, meta); e != nil {
			return nil, nil, answer.Refuse(http.StatusOK, e)
		}
	}
	if refused = p.Calls.Admit(c.principal, c.run); refused != nil {
		return nil, nil, refused
	}
	inFlight, err := s.Begin(c.run)
	if err != nil || inFlight != nil {
		p.Calls.Leave(c.principal, c.run)
		c.run.Cancel()
	}
	if err != nil {
		return nil, nil, p.refusal(err)
	}
	return c, inFlight, nil
}

// keeps waits until nobody makes the stream of a call durable: the request may come again while the first response is about to. The next
// may when done is called.
func (p *Endpoint) keeps(c *call) (done func()) {
	p.keeping.Lock()
	if c.keep == nil {
		c.keep = make(chan struct{}, 1)
	}
	p.keeping.Unlock()
	c.keep <- struct{}{}
	return func() { <-c.keep }
}

var errShown = errors.New("some of the stream has been shown without IDs")

// view shows the stream of calls. When it becomes visible, its events go through the log, for the client to come back to.
func (p *Endpoint) view(r *http.Request, s *session.Session, st *run.Stream, calls ...*call) view.View {
	return view.View{
		Begin: func() error {
			if len(calls) > 0 {
				defer p.keeps(calls[0])()
				if st.Durable() {
					return nil
				}
			}
			err := s.KeepStream(within(r.Context(), calls), st, p.pending(calls))
			if err == nil && p.leaving() {
				st.Release(answer.RetryAfter) // it became visible too late for Drain to see it
			}
			if err == nil && !st.Durable() {
				err = errShown
			}
			return err
		},
		IDs: true,
		Gone: func() {
			if st.Durable() {
				return // it goes on: its client has an event ID to come back with
			}
			st.Abandon()
			for _, c := range calls {
				if c.key != "" {
					time.AfterFunc(answerPatience, func() { s.Unanswer(c.run) })
				}
			}
		},
		TimeUp: func() {
			for _, c := range calls {
				view.TimeUp(c.run)
			}
		},
		Patience: view.Patience,
		Kind:     observe.StreamCall,
	}
}

// answerPatience is how long a call with an idempotency key waits for answers when its client has lost the connection without an event ID.
// It comes back by the key, which does not bring back the questions; a call that may run again asks them anew then.
const answerPatience = 5 * time.Second

// run executes a call and answers its run.
func (p *Endpoint) run(c *call) {
	var response []byte
	err := c.session.Engine.Safely(c.run.Method, func() (err error) { // writing a result calls code of the handler's types, too
		response = wire.AppendResultHead(view.Room(), c.run.ID)
		if c.key != "" {
			response, err = p.appendOnce(response, c)
		} else {
			response, err = p.appendResult(response, c)
		}
		return err
	})
	if !c.batch && !once.IsNotBegun(err) { // its stream is its own, and says what has become of the call
		c.session.Remember(c.run, c.params)
	}
	c.session.Finish(c.run) // first: a client may use the ID again as soon as it has the answer
	status := http.StatusOK
	switch {
	case errors.Is(err, store.ErrUnavailable):
		p.Log.Error("session state is out of reach", "error", err)
		err, status = &wire.Error{Code: wire.CodeBusy, Message: outOfReach}, http.StatusServiceUnavailable
	case errors.Is(err, session.ErrEnded):
		err, status = errGone, http.StatusNotFound
	case c.key != "" && err != nil && engine.ToError(err).Code == wire.CodeBusy:
		status = http.StatusServiceUnavailable // nothing has begun
	}
	if err == nil {
		response = append(response, '}')
	} else {
		response = wire.AppendError(nil, c.run.ID, engine.ToError(err))
	}
	sent := c.run.Answer(response, status)
	if c.told != nil {
		c.told.end(c.run.End(c.ended(err), sent))
	}
	select { // the call is over when its end is safe: a process that drains must not leave before
	case <-c.run.Stream.Safe():
	case <-p.ctx.Done():
	}
	p.Calls.Leave(c.principal, c.run)
}

// appendOnce is appendResult for a call with an idempotency key, which is executed once: its outcome is that of the first with the key.
func (p *Endpoint) appendOnce(dst []byte, c *call) ([]byte, error) {
	var params wire.Params
	if c.parsed != nil {
		params = *c.parsed
	} else { // it was checked when it came first
		params, _ = wire.ParseParams(c.params)
	}
	result, err := p.Once.Do(c.run, &once.Call{
		Principal:  c.principal,
		Tool:       wire.Unquote(params.Name),
		Key:        c.key,
		Revision:   c.session.Version(),
		Arguments:  params.Arguments,
		Token:      c.token,
		Reaches:    c.session.Hears,
		Repeatable: c.repeatable,
	}, nil, func() (result json.RawMessage, err error) {
		err = c.session.Engine.Safely(c.run.Method, func() error { // others wait for the end, also if it is a panic
			result, err = p.appendResult(nil, c)
			return err
		})
		return result, err
	})
	if wire.IsError(result) {
		c.toolError = true
	}
	return append(dst, result...), err
}

// ended is the end of the call for an observer, if its response was sent.
func (c *call) ended(err error) observe.End {
	switch {
	case err != nil:
		return failed(err)
	case c.toolError:
		return observe.End{Outcome: observe.ToolError}
	}
	return observe.End{Outcome: observe.OK}
}

// appendResult calls the server and appends the result to dst.
func (p *Endpoint) appendResult(dst []byte, c *call) ([]byte, error) {
	ctx, s := c.run.Context(), c.session
	asked := &engine.Call{Method: c.run.Method, Params: c.params, Parsed: c.parsed, Token: c.token, Extra: c.extra}
	switch c.run.Method {
	case "server/discover", "subscriptions/listen": // of the stateless era
		return nil, wire.MethodNotFound(c.run.Method)
	case "logging/setLevel":
		result, err := setLevel(ctx, s, asked)
		return append(dst, result...), err
	case "resources/subscribe", "resources/unsubscribe":
		result, err := p.subscribe(ctx, s, asked)
		return append(dst, result...), err
	}
	if !engine.Direct(c.run.Method) {
		server, err := s.Ephemeral(engine.Detached(ctx, asked))
		if err != nil {
			return nil, err
		}
		defer server.Close()
		result, err := server.Relay(ctx, asked)
		return append(dst, result...), err
	}
	server, err := s.Server(ctx)
	if err != nil {
		return nil, once.NotBegun(err)
	}
	res, err := server.Do(ctx, asked)
	if err != nil {
		return nil, withOldCode(c.run.Method, err)
	}
	if call, ok := res.(*mcp.CallToolResult); ok {
		c.toolError = call.IsError
	}
	return engine.AppendResult(dst, res)
}

// withOldCode gives a resource that is not there the code that it had until 2026-07-28 (Resources, "Error Handling").
func withOldCode(method string, err error) error {
	e := engine.ToError(err)
	if method != "resources/read" || e.Code != wire.CodeInvalidParams || wire.Member(e.Data, "uri") == nil {
		return err
	}
	return &wire.Error{Code: wire.CodeResourceNotFound, Message: e.Message, Data: e.Data}
}

// Calls that change the SDK's session change the record first: a change that other replicas would not see must not be made.

func setLevel(ctx context.Context, s *session.Session, asked *engine.Call) ([]byte, error) {
	level := wire.Member(asked.Params, "level")
	if !wire.ValidLogLevel(level) {
		return nil, wire.InvalidParams("Invalid params: unknown log level")
	}
	server, err := s.Server(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.SetLogLevel(ctx, wire.Unquote(level)); err != nil {
		return nil, err
	}
	return server.Relay(ctx, asked)
}

// subscribe takes its change of the record back when the server refuses it.
func (p *Endpoint) subscribe(ctx context.Context, s *session.Session, asked *engine.Call) ([]byte, error) {
	server, err := s.Server(ctx)
	if err != nil {
		return nil, err
	}
	uri, on := wire.Unquote(wire.Member(asked.Params, "uri")), asked.Method == "resources/subscribe"
	before := slices.Contains(s.Subscribed(), uri)
	if err := s.SetSubscribed(ctx, uri, on); err != nil {
		return nil, err
	}
	result, err := server.Relay(ctx, asked)
	switch {
	case err != nil && on && !before:
		if undone := s.SetSubscribed(ctx, uri, false); undone != nil { // joined to nothing, err would lose its data
			err = errors.Join(err, undone)
		}
	case err == nil && on:
		p.Changes.Interested(uri)
	}
	return result, err
}
