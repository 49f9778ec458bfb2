// Package stateless serves calls of revision 2026-07-28. Such a call is complete in itself: no session, no store. Its
// response is its whole life, and a client that closes it cancels the call.
//
// endpoint.go is the way of a call from top to bottom. inputs.go has what a handler asks of its client and what comes back,
// seal.go how that is kept from being changed on the way, listen.go the one call that lasts: subscriptions/listen.
package stateless

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice/internal/answer"
	"github.com/sluice-mcp/sluice/internal/caller"
	"github.com/sluice-mcp/sluice/internal/changes"
	"github.com/sluice-mcp/sluice/internal/engine"
	"github.com/sluice-mcp/sluice/internal/inflight"
	"github.com/sluice-mcp/sluice/internal/observed"
	"github.com/sluice-mcp/sluice/internal/once"
	"github.com/sluice-mcp/sluice/internal/run"
	"github.com/sluice-mcp/sluice/internal/view"
	"github.com/sluice-mcp/sluice/internal/wire"
	"github.com/sluice-mcp/sluice/observe"
)

// Config is what the endpoint needs. Every field must be set that does not say what nil means.
type Config struct {
	Server    func(*http.Request) *engine.Engine // nil: there is none for this request
	Principal func(*http.Request) string
	Calls     *inflight.Calls
	Workers   *run.Workers
	Changes   *changes.Changes
	Tasks     *Tasks // nil: there are none
	Once      *once.Calls
	View      *view.Renderer
	StateKeys [][]byte // nil: one is made
	StateTTL  time.Duration
	Log       *slog.Logger
	Observer  observe.Observer // nil: nobody observes
}

// Endpoint serves the messages of the revision. It is safe for concurrent use.
type Endpoint struct {
	Config
	sealer  *sealer
	listens listens
}

// New returns an endpoint. It panics on a state key that has not 32 bytes.
func New(c Config) *Endpoint {
	return &Endpoint{Config: c, sealer: newSealer(c.StateKeys, c.Log)}
}

// call is a checked request on its way to the server.
type call struct {
	method    string
	raw       json.RawMessage // params, as they came
	params    wire.Params
	meta      wire.Meta
	engine    *engine.Engine
	principal string
	extra     *mcp.RequestExtra
	request   *http.Request
	key       string       // an idempotency key, or ""
	client    *once.Client // nil without a key

	told  observed.Kept     // to an observer, if there is one
	end   func(observe.End) // nil when nobody observes
	ended observe.End       // with a result
}

// calls are empty ones, for the next requests: no handler gets to see one (350 bytes of each request).
var calls = sync.Pool{New: func() any { return new(call) }}

// Serve takes one message. Unless it is a request, nothing follows it.
func (p *Endpoint) Serve(w http.ResponseWriter, r *http.Request, m wire.Message) {
	switch m.Kind {
	case wire.Notification: // the revision has none over HTTP, and we have one; an unknown one is no error
		if e := m.CheckNotification(); e != nil {
			answer.Error(w, http.StatusBadRequest, "", e)
			return
		}
		p.notified(r, m)
		answer.Accepted(w)
		return
	case wire.Response:
		answer.Error(w, http.StatusBadRequest, "", wire.InvalidRequest("Invalid request: clients send no responses in this revision"))
		return
	}
	if p.Calls.Leaving() {
		ctx, end := p.observe(r, m, nil)
		p.refuse(ctx, w, m, end, answer.Leaving())
		return
	}
	c, e := p.check(r, m)
	if e != nil {
		ctx, end := p.observe(r, m, nil)
		p.refuse(ctx, w, m, end, answer.Refuse(wire.ModernStatus(e.Code), e))
		return
	}
	ctx, end := p.observe(r, m, c)
	c.end = end
	st := run.NewStream("", 1)
	rn := run.Start(ctx, "", m.ID, m.Method, st)
	if refused := p.Calls.Admit(c.principal, rn); refused != nil {
		rn.Cancel()
		p.refuse(ctx, w, m, end, refused)
		return
	}
	rd := st.Attach(-1)
	shown := view.View{
		Gone:     rn.Cancel,
		TimeUp:   func() { view.TimeUp(rn) },
		Patience: view.Patience,
		Kind:     observe.StreamCall,
	}
	if c.key != "" {
		p.outlive(c, rn, &shown)
	}
	if !engine.Direct(m.Method) && taskMethods[m.Method] == nil {
		shown.Patience = view.LongPatience
	}
	if m.Method == "subscriptions/listen" {
		shown.Kind = observe.StreamListen
		go p.listen(rn, c)
	} else {
		p.Workers.Run(func() { p.run(rn, c) })
	}
	p.View.Respond(w, r, st, rd, shown)
}

// removed are methods of the session era that this one does not have.
var removed = map[string]bool{
	"initialize": true, "ping": true, "logging/setLevel": true,
	"resources/subscribe": true, "resources/unsubscribe": true,
}

var errNoServer = errors.New("no server for this request")

// check applies the rules of the revision.
func (p *Endpoint) check(r *http.Request, m wire.Message) (*call, *wire.Error) {
	c := calls.Get().(*call) //nolint:forcetypeassert // nothing else is in there
	c.method, c.raw, c.principal = m.Method, m.Params, p.Principal(r)
	c.ended.Outcome = observe.OK
	var e *wire.Error
	if c.params, e = wire.ParseParams(m.Params); e != nil {
		return nil, e
	}
	if e = c.params.CheckArguments(m.Method); e != nil {
		return nil, e
	}
	if c.meta, e = wire.ParseMeta(c.params.Meta); e != nil {
		return nil, e
	}
	header := wire.Header(r.Header)
	if e = wire.CheckVersion(header, c.meta); e != nil {
		return nil, e
	}
	if e = wire.CheckStandard(header, m.Method, c.params); e != nil {
		return nil, e
	}
	if e = c.meta.CheckModern(); e != nil {
		return nil, e
	}
	if removed[m.Method] {
		return nil, wire.MethodNotFound(m.Method)
	}
	if c.engine = p.Server(r); c.engine == nil {
		return nil, wire.InvalidRequest(errNoServer.Error())
	}
	if m.Method == "tools/call" {
		if c.key, e = once.KeyOf(r.Header, c.meta); e != nil {
			return nil, e
		}
	}
	c.extra, c.request = caller.Extra(r), r
	if versions := c.engine.Describe(r.Context(), c.extra).Revisions; !slices.Contains(versions, wire.Rev2026) {
		return nil, wire.UnsupportedBy(versions, wire.Rev2026)
	}
	if c.ofTask() {
		if e = p.checkTask(c); e != nil {
			return nil, e
		}
	}
	return c, nil
}

// run executes a call and answers its run.
func (p *Endpoint) run(rn *run.Run, c *call) {
	defer p.Calls.Leave(c.principal, rn)
	var response []byte
	err := c.engine.Safely(rn.Method, func() (err error) { // writing a result calls code of the handler's types, too
		response = wire.AppendResultHead(view.Room(), rn.ID)
		if c.key != "" {
			response, err = p.appendOnce(response, rn, c)
		} else {
			response, err = p.appendResult(response, rn, c)
		}
		return err
	})
	sent, code := respond(rn, append(response, '}'), err)
	if c.end != nil {
		if code != 0 {
			c.ended = observe.End{Outcome: observe.Failed, Code: code}
		}
		c.end(rn.End(c.ended, sent))
	}
	*c = call{}
	calls.Put(c)
}

// respond answers a run with a response, or with what err says. It returns whether that is on its way, and the code of the error.
func respond(rn *run.Run, response []byte, err error) (sent bool, code int64) {
	if err == nil {
		return rn.Answer(response, http.StatusOK), 0
	}
	e := *engine.ToError(err)
	e.Code = wire.ModernCode(e.Code)
	return rn.Answer(wire.AppendError(nil, rn.ID, &e), busyStatus(&e)), e.Code
}
