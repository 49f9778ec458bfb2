package session

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice/internal/engine"
	"github.com/sluice-mcp/sluice/internal/observed"
	"github.com/sluice-mcp/sluice/internal/run"
	"github.com/sluice-mcp/sluice/internal/wire"
	"github.com/sluice-mcp/sluice/observe"
)

// Session is a session that is alive on this replica. It is safe for concurrent use.
type Session struct {
	ID     string
	Engine *engine.Engine
	m      *Manager

	syncing chan struct{} // has an element while the record is read from the store or changed there; nil until it is

	mu      sync.Mutex
	rec     Record
	server  *engine.Session // nil while nobody needs it
	warm    bool            // server was asked for since the last sweep
	moved   time.Time       // when server was last another one; that which answered initialize counts
	calls   int             // begun in this life, up to two
	voices  int             // handlers that speak on it after their calls
	asks    askable
	stale   bool      // server is not as the record says
	using   int       // requests and open streams
	last    time.Time // when a client's request was last over
	touched time.Time // when the record's time was last renewed
	closed  bool
	ending  bool // the server has closed it: what runs may end, nothing new begins
	// unstored sessions have no record in the store.
	unstored bool
	runs     map[string]*run.Run    // by the key of the request's ID
	streams  []*run.Stream          // that clients can come back to; few, and a map for one is 300 bytes
	mirrors  map[string]*run.Stream // streams of other replicas, shown here
	claimed  map[string]bool        // streams that are being taken over
	alone    []*standalone
	waiting  map[wire.ID]*question
	seq      int
	tellings []telling // of the last moments, oldest first
}

func newSession(m *Manager, id string, e *engine.Engine, rec Record) *Session {
	return &Session{ID: id, Engine: e, m: m, rec: rec, moved: time.Now()}
}

// Version returns the negotiated revision.
func (s *Session) Version() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rec.Version
}

// Subscribed returns the resources that the client has subscribed to.
func (s *Session) Subscribed() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.rec.Subscriptions)
}

// Release lets go of a session that was held.
func (s *Session) Release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.using--
	s.idle()
}

// idle notes the time when nobody uses the session any more. Many clients call once and never again: their SDK session goes at once, or
// the goroutines of a second's worth of them would be there at the same time. Who has called twice finds it
// warm the next time. s.mu is held.
func (s *Session) idle() {
	if s.using > 0 || len(s.runs) > 0 {
		return
	}
	s.last = time.Now()
	if s.calls == 1 && len(s.alone) == 0 && s.unneeded() {
		s.disconnect()
	}
}

// rest forgets the session here when it has been idle for a while, and renews its record while it is not.
func (s *Session) rest(now time.Time) {
	s.mu.Lock()
	s.dropStale(now)
	s.forgetTellings(now)
	busy := s.busy()
	if busy && now.Sub(s.touched) > s.m.touchEvery() && !s.unstored {
		s.touch(now)
		defer s.m.extend(s.ID, now)
	}
	switch {
	case s.server == nil || !s.onlyListens():
	case s.warm:
		s.warm = false
	default:
		s.disconnect()
	}
	idle := !busy && len(s.rec.Subscriptions) == 0 && now.Sub(s.last) >= rest || !busy && now.Sub(s.last) > s.m.Timeout
	if !idle || s.closed {
		s.mu.Unlock()
		return
	}
	s.closed = true
	s.mu.Unlock()

	m := s.m
	m.mu.Lock()
	if m.live[s.ID] == s {
		delete(m.live, s.ID)
	}
	m.mu.Unlock()
	m.extend(s.ID, s.last)
	s.shut()
}

// busy reports whether there is something that the session must stay alive here for. s.mu is held.
func (s *Session) busy() bool {
	return s.using > 0 || len(s.runs) > 0 || len(s.alone) > 0 || len(s.streams) > 0 || len(s.waiting) > 0
}

// shut ends the session's life on this replica: what runs is cancelled, what waits is told, streams end.
func (s *Session) shut() { s.leave((*run.Stream).End) }

// abandon ends the session's life on this replica without a word: another one may go on with it.
func (s *Session) abandon() { s.leave(func(st *run.Stream) { st.Fail(run.ErrLeft) }) }

func (s *Session) leave(end func(*run.Stream)) {
	s.mu.Lock()
	s.closed = true
	server := s.server
	s.server = nil
	runs, streams, waiting, alone := s.runs, s.streams, s.waiting, s.alone
	s.runs, s.streams, s.waiting, s.alone = nil, nil, nil, nil
	s.mu.Unlock()
	for _, st := range streams {
		if !st.Ended() {
			end(st)
		}
	}
	for _, a := range alone {
		if !a.stream.Ended() { // that of HTTP+SSE is not among the others
			end(a.stream)
		}
	}
	for _, r := range runs {
		r.Cancel()
	}
	for _, q := range waiting {
		q.fail(ErrEnded.Error())
	}
	if server != nil {
		go func() { // it waits for handlers that may take their time
			server.KeepSubscriptions(nil)
			server.Close()
		}()
	}
}

// Closed implements [engine.Closer]: the server has closed the session, which ends it everywhere, as DELETE does. Unlike
// there, calls in flight are awaited, as the SDK awaits them.
func (s *Session) Closed() {
	runs, first := s.end()
	if !first {
		return
	}
	for _, r := range runs {
		<-r.Context().Done()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := s.m.End(ctx, s, observe.EndClosed); err != nil {
		s.m.Log.Warn("a session that the server has closed may be found again", "session", observed.Name(s.ID), "error", err)
		s.m.forget(s, observe.EndClosed)
	}
}

// end lets nothing new begin, and returns what runs. first is false when the session has ended, or is about to, already.
func (s *Session) end() (runs []*run.Run, first bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.ending {
		return nil, false
	}
	s.ending = true
	return slices.Collect(maps.Values(s.runs)), true
}

// Server returns the SDK's session, connected as the record says. What goes through its connection finds in its context what HTTP
// middleware has put into ctx, as with the SDK: that of the request that connects it. Direct calls have the values of their own.
func (s *Session) Server(ctx context.Context) (*engine.Session, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.ending {
		return nil, ErrEnded
	}
	s.warm = true
	if s.server != nil {
		return s.server, nil
	}
	var state *mcp.ServerSessionState
	if s.rec.Initialize != nil {
		var err error
		if state, err = s.rec.state(); err != nil {
			return nil, err
		}
	}
	server, err := s.Engine.Connect(run.Outside(ctx), s.ID, state, s)
	if err != nil {
		return nil, err
	}
	s.server, s.moved = server, time.Now()
	for _, uri := range s.rec.Subscriptions {
		// The SDK's state does not hold subscriptions.
		params, err := json.Marshal(mcp.SubscribeParams{URI: uri})
		if err != nil {
			return nil, err
		}
		go func() {
			if _, err := server.Relay(context.WithoutCancel(ctx), &engine.Call{Method: "resources/subscribe", Params: params, Extra: &mcp.RequestExtra{}}); err != nil {
				s.m.Log.Warn("subscription not renewed", "session", observed.Name(s.ID), "uri", uri, "error", err)
			}
		}()
	}
	return server, nil
}

// Ephemeral returns an SDK session of its own for one call that goes through the connection: its
// context must carry the call.
func (s *Session) Ephemeral(ctx context.Context) (*engine.Session, error) {
	s.mu.Lock()
	rec := s.rec
	s.moved = time.Now()
	s.mu.Unlock()
	state, err := rec.state()
	if err != nil {
		return nil, err
	}
	return s.Engine.Connect(ctx, s.ID, state, s)
}

// ErrInFlight refuses a request whose ID another one has that has not ended.
var ErrInFlight = wire.InvalidRequest("Invalid request: a request with this id is in flight")

// Begin notes a run. If another one with its ID is in flight, it notes nothing and returns that one. Errors: ErrEnded.
func (s *Session) Begin(r *run.Run) (inFlight *run.Run, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.ending {
		return nil, ErrEnded
	}
	key := r.ID.Key()
	if before := s.runs[key]; before != nil {
		return before, nil
	}
	if s.runs == nil {
		s.runs = make(map[string]*run.Run)
	}
	s.runs[key] = r
	s.calls = min(s.calls+1, 2)
	return nil, nil
}

// Finish forgets a run.
func (s *Session) Finish(r *run.Run) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if key := r.ID.Key(); s.runs[key] == r {
		delete(s.runs, key)
	}
	if s.server == nil { // it ran on one of its own
		s.moved = time.Now()
	}
	s.idle()
	s.refresh()
}

// Cancel cancels the run of the request with this ID, if there is one here.
// The IDs of initialize and of what is unknown or done are ignored (cancellation is a race).
func (s *Session) Cancel(id wire.ID) bool {
	s.mu.Lock()
	r := s.runs[id.Key()]
	s.mu.Unlock()
	if r == nil || r.Method == "initialize" {
		return false
	}
	r.Cancel()
	return true
}

// Say implements [engine.Outlet].
func (s *Session) Say(ctx context.Context, m engine.Outgoing) error {
	if m.Method == "notifications/cancelled" {
		return s.retract(ctx, m)
	}
	var id wire.ID
	if m.Reply != nil {
		if r := run.From(ctx); r != nil && r.Owner == s.ID && r.Stream.Abandoned() {
			r.AskedInVain()
			return errLeft // no answer will come: the handler would wait for one as long as it may
		}
		var err error
		if id, err = s.ask(ctx, m); err != nil {
			return err
		}
		m.Params = s.observeQuestion(ctx, id, m)
	}
	if m.Reply == nil && s.heard(ctx, m) {
		return nil
	}
	err := s.deliver(ctx, m.Method, wire.AppendCall(nil, id, m.Method, m.Params))
	if err != nil && id != "" {
		if q := s.answered(id); q != nil {
			q.ended(observe.End{Outcome: observe.Failed})
		}
	}
	return err
}

// deliver puts a message on the stream of the run that it was said in, else on the standalone stream.
func (s *Session) deliver(ctx context.Context, method string, data []byte) error {
	if r := run.From(ctx); r != nil && r.Owner == s.ID {
		return r.Send(ctx, data)
	}
	// The engine's watcher tells of changes, also to sessions that are not connected. What concerns subscribers only the SDK tells
	// its own sessions, if the client's stream cannot be at another replica.
	if wire.IsChange(method) && (method != wire.ResourceUpdated || s.m.Replica != nil) {
		return nil
	}
	return s.SayAlone(data)
}

// question is a request of the server that waits for its client's answer.
type question struct {
	ref   any // the SDK's name for it
	reply func(json.RawMessage, *wire.Error)
	end   func(observe.End) // nil when nobody observes
	timer *time.Timer
	run   *run.Run // that it was asked in, if any
}

func (q *question) fail(why string) {
	q.timer.Stop()
	q.ended(observe.End{Outcome: observe.Cancelled})
	go q.reply(nil, wire.Internal(why))
}

// Unanswer ends what a run waits for of its client, which has lost its connection, and perhaps the questions.
func (s *Session) Unanswer(r *run.Run) {
	s.mu.Lock()
	var ids []wire.ID
	for id, q := range s.waiting {
		if q.run == r {
			ids = append(ids, id)
		}
	}
	s.mu.Unlock()
	for _, id := range ids {
		if q := s.answered(id); q != nil {
			r.AskedInVain()
			q.fail(errLeft.Error())
		}
	}
}

// ended tells how the question has ended. Nobody else has it any more.
func (q *question) ended(e observe.End) {
	if q.end != nil {
		q.end(e)
	}
}

// ask makes the ID of a request to the client, which names this replica: two replicas of one
// session must not both ask 1, and the answer may land on another than the one that asked.
func (s *Session) ask(ctx context.Context, m engine.Outgoing) (wire.ID, error) {
	s.mu.Lock()
	if !s.rec.Initialized && !s.unstored {
		s.mu.Unlock()
		err := s.reload() // the client may have said so at another replica a moment ago
		s.mu.Lock()
		if err != nil { // it makes calls, so it has; to doubt it would end them
			s.rec.Initialized = true
		}
	}
	defer s.mu.Unlock()
	if s.closed {
		return "", ErrEnded
	}
	if err := s.mayAsk(m.Method); err != nil {
		return "", err
	}
	if len(s.waiting) >= maxQuestions {
		return "", fmt.Errorf("%d requests wait for this client already", maxQuestions)
	}
	s.seq++
	id := wire.ID(`"` + s.m.Name + "." + strconv.Itoa(s.seq) + "." + short(s.ID) + `"`)
	q := &question{ref: m.Ref, reply: m.Reply, run: run.From(ctx)}
	q.timer = time.AfterFunc(s.m.ReplyTimeout, func() {
		if q := s.answered(id); q != nil {
			q.ended(observe.End{Outcome: observe.Unfinished})
			s.cancelQuestion(ctx, id, "the server no longer waits")
			q.reply(nil, wire.Internal("the client did not answer in time"))
		}
	})
	if s.waiting == nil {
		s.waiting = make(map[wire.ID]*question)
	}
	s.waiting[id] = q
	return id, nil
}

const maxQuestions = 100

// mayAsk keeps the server to what was negotiated (lifecycle, "Operation").
func (s *Session) mayAsk(method string) error {
	if method == "ping" {
		return nil
	}
	if !s.rec.Initialized {
		return fmt.Errorf("%s before the client has sent notifications/initialized", method)
	}
	params, err := engine.ParseInitialize(s.rec.Initialize)
	if err != nil {
		return err
	}
	caps := params.Capabilities
	ok := true
	switch method {
	case "sampling/createMessage":
		ok = caps.Sampling != nil
	case "elicitation/create":
		ok = caps.Elicitation != nil
	case "roots/list":
		ok = caps.RootsV2 != nil
	}
	if !ok {
		return fmt.Errorf("client does not support %s", method)
	}
	return nil
}

func (s *Session) answered(id wire.ID) *question {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.waiting[id]
	if q != nil {
		delete(s.waiting, id)
		q.timer.Stop()
	}
	return q
}

// answer hands a client's response to the handler that asked. It reports false
// when nobody here waits for it.
func (s *Session) answer(m wire.Message) bool {
	q := s.answered(m.ID)
	if q == nil {
		return false
	}
	var e *wire.Error
	if m.Error != nil {
		e = &wire.Error{}
		if json.Unmarshal(m.Error, e) != nil {
			e = wire.Internal("the client answered with an error that cannot be read")
		}
	}
	ended := observe.End{Outcome: observe.OK}
	if e != nil {
		ended = observe.End{Outcome: observe.Failed, Code: e.Code}
	}
	q.ended(ended)
	q.reply(slices.Clone(m.Result), e)
	return true
}

// retract tells the client that the server no longer waits for an answer.
func (s *Session) retract(ctx context.Context, m engine.Outgoing) error {
	s.mu.Lock()
	var id wire.ID
	for i, q := range s.waiting {
		if q.ref == m.Ref {
			id = i
		}
	}
	s.mu.Unlock()
	if id == "" {
		return nil
	}
	q := s.answered(id)
	if q == nil {
		return nil
	}
	q.ended(observe.End{Outcome: observe.Cancelled})
	s.cancelQuestion(ctx, id, wire.Unquote(wire.Member(m.Params, "reason")))
	return nil
}

// cancelQuestion tells the client that its answer is no longer waited for (Lifecycle, "Timeouts").
func (s *Session) cancelQuestion(ctx context.Context, id wire.ID, reason string) {
	params := append([]byte(`{"requestId":`), id...)
	params = wire.AppendString(append(params, `,"reason":`...), reason)
	const method = "notifications/cancelled"
	_ = s.deliver(ctx, method, wire.AppendCall(nil, "", method, append(params, '}'))) // nowhere to say it: nobody to tell
}
