package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice/internal/engine"
	"github.com/sluice-mcp/sluice/internal/run"
	"github.com/sluice-mcp/sluice/internal/wire"
	"github.com/sluice-mcp/sluice/observe"
	"github.com/sluice-mcp/sluice/store"
	"github.com/sluice-mcp/sluice/store/memory"
)

const timeout = 8 * time.Minute

// house is a manager with the server that its sessions are of.
type house struct {
	*Manager
	t      *testing.T
	server *mcp.Server
	engine *engine.Engine

	mu         sync.Mutex
	subscribed []string
}

func newHouse(t *testing.T, s store.Store, change func(*Config)) *house {
	t.Helper()
	h := &house{t: t}
	h.server = mcp.NewServer(&mcp.Implementation{Name: "test", Version: "1"}, &mcp.ServerOptions{
		SubscribeHandler: func(_ context.Context, req *mcp.SubscribeRequest) error {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.subscribed = append(h.subscribed, req.Params.URI)
			return nil
		},
		UnsubscribeHandler: func(context.Context, *mcp.UnsubscribeRequest) error { return nil },
	})
	h.server.AddTool(&mcp.Tool{Name: "log", InputSchema: json.RawMessage(`{"type":"object"}`)}, func(ctx context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		return &mcp.CallToolResult{}, req.Session.Log(ctx, &mcp.LoggingMessageParams{Level: "info", Data: "x"})
	})
	h.server.AddTool(&mcp.Tool{Name: "ask", InputSchema: json.RawMessage(`{"type":"object"}`)}, func(ctx context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		res, err := req.Session.Elicit(ctx, &mcp.ElicitParams{Message: "?", RequestedSchema: map[string]any{"type": "object", "properties": map[string]any{}}})
		if err != nil {
			return nil, err
		}
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: res.Action}}}, nil
	})
	h.engine = engine.New(h.server, slog.New(slog.DiscardHandler))
	c := Config{
		Store: s, Log: slog.New(slog.DiscardHandler), Name: "here",
		Timeout: timeout, ReplyTimeout: time.Minute, MaxSessions: 1000, MaxPerPrincipal: 1000,
	}
	if change != nil {
		change(&c)
	}
	h.Manager = NewManager(c)
	return h
}

const hello = `{"protocolVersion":"2025-11-25","capabilities":{"elicitation":{}},"clientInfo":{"name":"c","version":"1"}}`

// open opens a session, whose client has initialized it, and lets go of it.
func (h *house) open(principal string) *Session {
	h.t.Helper()
	s, err := h.New(h.engine, principal)
	if err != nil {
		h.t.Fatal(err)
	}
	if err := s.Establish(context.Background(), wire.Rev1125, json.RawMessage(hello)); err != nil {
		h.t.Fatal(err)
	}
	if err := s.Initialized(context.Background(), nil, nil); err != nil {
		h.t.Fatal(err)
	}
	s.Release()
	return s
}

// find returns a session, held.
func (h *house) find(id, principal string) (*Session, error) {
	return h.Find(context.Background(), id, principal, func() (*engine.Engine, error) { return h.engine, nil })
}

func (h *house) mustFind(id, principal string) *Session {
	h.t.Helper()
	s, err := h.find(id, principal)
	if err != nil {
		h.t.Fatal(err)
	}
	return s
}

// alive counts the sessions that cost more than their record.
func (h *house) alive() (n int) {
	h.Each(func(*Session) { n++ })
	return n
}

// close ends a test that runs in virtual time: nothing may be left.
func (h *house) close() {
	h.Close()
	h.engine.Close()
	time.Sleep(time.Minute)
	synctest.Wait()
}

func TestFind(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, memory.New(), nil)
		s := h.open("alice")
		for _, rested := range []bool{false, true} {
			if rested {
				time.Sleep(time.Minute)
				synctest.Wait()
			}
			for _, c := range []struct{ id, principal string }{
				{s.ID, "bob"}, {s.ID, ""}, {s.ID, "Alice"}, {"", "alice"}, {"nobody", "alice"}, {s.ID + "x", "alice"}, {s.ID[:len(s.ID)-1], "alice"},
			} {
				if got, err := h.find(c.id, c.principal); !errors.Is(err, ErrNotFound) || got != nil {
					t.Errorf("rested %v: %+v: %v, %v", rested, c, got, err)
				}
			}
			got := h.mustFind(s.ID, "alice")
			if got.ID != s.ID || got.Version() != wire.Rev1125 || (got == s) == rested {
				t.Errorf("rested %v: %+v", rested, got)
			}
			got.Release()
		}
		h.close()
	})
}

// A session keeps its server for as long as it lives here, also while it rests; elsewhere it needs one anew.
func TestFindNeedsItsServer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		shared := memory.New()
		h, other := newHouse(t, shared, nil), newHouse(t, shared, nil)
		s := h.open("")
		time.Sleep(time.Minute)
		gone := errors.New("no server")
		none := func() (*engine.Engine, error) { return nil, gone }
		if _, err := other.Find(t.Context(), s.ID, "", none); !errors.Is(err, gone) {
			t.Errorf("%v", err)
		}
		other.mustFind(s.ID, "").Release()
		for _, at := range []*house{h, other} {
			time.Sleep(time.Minute)
			got, err := at.Find(t.Context(), s.ID, "", none)
			if err != nil {
				t.Fatal(err)
			}
			if got.Engine != at.engine {
				t.Error("it has another server")
			}
			got.Release()
		}
		time.Sleep(3 * timeout)
		if h.alive()+len(h.residents)+other.alive()+len(other.residents) > 0 {
			t.Error("something is left")
		}
		h.close()
		other.close()
	})
}

func TestExpiry(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, memory.New(), nil)
		used, idle, held := h.open(""), h.open(""), h.open("")
		hold := h.mustFind(held.ID, "")
		for range 40 { // a session that is used lives
			time.Sleep(timeout / 2)
			h.mustFind(used.ID, "").Release()
		}
		hold.Release()
		if _, err := h.find(idle.ID, ""); !errors.Is(err, ErrNotFound) {
			t.Errorf("idle: %v", err)
		}
		h.mustFind(held.ID, "").Release()
		time.Sleep(timeout - time.Second) // not one second early
		h.mustFind(used.ID, "").Release()
		h.mustFind(held.ID, "").Release()
		time.Sleep(2 * timeout) // and not very late
		for _, s := range []*Session{used, held} {
			if _, err := h.find(s.ID, ""); !errors.Is(err, ErrNotFound) {
				t.Errorf("expired: %v", err)
			}
		}
		if n := h.alive(); n > 0 {
			t.Errorf("%d sessions are alive", n)
		}
		h.close()
	})
}

func TestEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, memory.New(), nil)
		id := h.open("alice").ID
		other := h.mustFind(h.open("alice").ID, "alice")
		s := h.mustFind(id, "alice")
		alone, err := s.OpenStandalone(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		stream := run.NewStream("", 1)
		r := run.Start(context.Background(), s.ID, "1", "tools/call", stream)
		if _, err := s.Begin(r); err != nil {
			t.Fatal(err)
		}
		if err := s.KeepStream(t.Context(), stream, nil); err != nil {
			t.Fatal(err)
		}
		theirs := run.Start(context.Background(), other.ID, "1", "tools/call", run.NewStream("", 1))
		if _, err := other.Begin(theirs); err != nil {
			t.Fatal(err)
		}
		told := make(chan error, 1)
		if err := s.Say(r.Context(), engine.Outgoing{Method: "ping", Ref: 1, Reply: func(_ json.RawMessage, e *wire.Error) { told <- e }}); err != nil {
			t.Fatal(err)
		}
		if err := h.End(t.Context(), s, observe.EndDeleted); err != nil {
			t.Fatal(err)
		}
		if e := <-told; e == nil {
			t.Error("who waits for an answer is not told")
		}
		if r.Open() || r.Context().Err() == nil || !stream.Ended() || !alone.Ended() || !s.isClosed() {
			t.Error("something goes on")
		}
		if _, err := h.find(id, "alice"); !errors.Is(err, ErrNotFound) {
			t.Errorf("found: %v", err)
		}
		if _, err := s.Begin(r); !errors.Is(err, ErrEnded) {
			t.Errorf("begun: %v", err)
		}
		if _, err := s.OpenStandalone(t.Context()); !errors.Is(err, ErrEnded) {
			t.Errorf("opened: %v", err)
		}
		if err := s.KeepStream(t.Context(), run.NewStream("", 1), nil); !errors.Is(err, ErrEnded) {
			t.Errorf("kept: %v", err)
		}
		if _, err := s.Server(context.Background()); !errors.Is(err, ErrEnded) {
			t.Errorf("connected: %v", err)
		}
		if err := s.Say(t.Context(), engine.Outgoing{Method: "ping", Reply: func(json.RawMessage, *wire.Error) {}}); err == nil {
			t.Error("asked")
		}
		if err := h.End(t.Context(), s, observe.EndDeleted); err != nil {
			t.Errorf("a second time: %v", err)
		}
		s.Release()
		if !theirs.Open() {
			t.Error("another session's call was cancelled")
		}
		theirs.Cancel()
		other.Finish(theirs)
		other.Release()
		h.close()
	})
}

func TestLimits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, memory.New(), func(c *Config) { c.MaxSessions, c.MaxPerPrincipal = 5, 2 })
		full := func(principal string) bool {
			t.Helper()
			s, err := h.New(h.engine, principal)
			if err == nil {
				h.Discard(s)
				s.Release()
				return false
			}
			if !errors.Is(err, ErrTooMany) {
				t.Errorf("%v", err)
			}
			return true
		}
		alice := []*Session{h.open("alice"), h.open("alice")}
		if !full("alice") || full("bob") || full("") {
			t.Error("the limit of one principal")
		}
		h.open("")
		h.open("")
		anonymous := h.open("") // nobody is no principal
		if !full("") || !full("bob") {
			t.Error("the limit of all")
		}
		time.Sleep(time.Minute) // resting, they count
		if !full("bob") {
			t.Error("a session that rests does not count")
		}
		if err := h.End(t.Context(), h.mustFind(anonymous.ID, ""), observe.EndDeleted); err != nil {
			t.Fatal(err)
		}
		if full("bob") || !full("alice") {
			t.Error("an ended session counts")
		}
		if err := h.End(t.Context(), h.mustFind(alice[0].ID, "alice"), observe.EndDeleted); err != nil {
			t.Fatal(err)
		}
		if full("alice") {
			t.Error("an ended session counts for its principal")
		}
		h.open("alice")
		time.Sleep(2 * timeout)
		if full("alice") || full("bob") {
			t.Error("expired sessions count")
		}
		h.close()
		if len(h.counts) > 0 || h.opened > 0 {
			t.Errorf("%d are counted for %d principals", h.opened, len(h.counts))
		}
	})
}

// An idle session costs its record; what it had comes back with the next request.
func TestRest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, memory.New(), nil)
		ctx := t.Context()
		var ids []string
		for range 100 {
			s := h.mustFind(h.open("").ID, "")
			if _, err := s.Server(context.Background()); err != nil {
				t.Fatal(err)
			}
			if err := s.SetLogLevel(ctx, "error"); err != nil {
				t.Fatal(err)
			}
			ids = append(ids, s.ID)
			s.Release()
		}
		time.Sleep(3 * rest)
		synctest.Wait()
		if n := h.alive(); n > 0 {
			t.Fatalf("%d idle sessions are alive", n)
		}
		s := h.mustFind(ids[7], "")
		if got := h.logs(s); got != "" {
			t.Errorf("with level error, the session hears %s", got)
		}
		if err := s.SetLogLevel(ctx, "debug"); err != nil {
			t.Fatal(err)
		}
		s.Release()
		time.Sleep(3 * rest)
		s = h.mustFind(ids[7], "")
		if got := h.logs(s); got == "" {
			t.Error("with level debug, the session hears nothing")
		}
		s.Release()
		if s = h.mustFind(ids[8], ""); h.logs(s) != "" {
			t.Error("the level of another session")
		}
		s.Release()
		h.close()
	})
}

// logs calls the tool that logs and returns what its client hears.
func (h *house) logs(s *Session) string {
	h.t.Helper()
	server, err := s.Server(context.Background())
	if err != nil {
		h.t.Fatal(err)
	}
	st := run.NewStream("", 1)
	rd := st.Attach(-1)
	r := run.Start(context.Background(), s.ID, "1", "tools/call", st)
	if _, err := server.Do(r.Context(), &engine.Call{Method: "tools/call", Params: json.RawMessage(`{"name":"log"}`), Extra: &mcp.RequestExtra{}}); err != nil {
		h.t.Fatal(err)
	}
	events, _, _ := rd.Next()
	all := ""
	for _, e := range events {
		all += string(e.Data)
	}
	return all
}

func TestSubscriptionsComeBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := memory.New()
		h := newHouse(t, s, nil)
		id := h.open("").ID
		held := h.mustFind(id, "")
		for uri, on := range map[string]bool{"test://a": true, "test://b": true} {
			if err := held.SetSubscribed(t.Context(), uri, on); err != nil {
				t.Fatal(err)
			}
		}
		if err := held.SetSubscribed(t.Context(), "test://b", false); err != nil {
			t.Fatal(err)
		}
		if err := held.SetSubscribed(t.Context(), "test://a", true); err != nil { // again
			t.Fatal(err)
		}
		held.Release()
		h.close()

		h = newHouse(t, s, nil) // the process has started anew
		held = h.mustFind(id, "")
		if got := held.Subscribed(); !slices.Equal(got, []string{"test://a"}) {
			t.Errorf("subscribed to %q", got)
		}
		if _, err := held.Server(context.Background()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if !slices.Equal(h.subscribed, []string{"test://a"}) {
			t.Errorf("the server has heard of %q", h.subscribed)
		}
		for i := range 2 * maxSubscriptions {
			if err := held.SetSubscribed(t.Context(), fmt.Sprint("test://", i), true); (err != nil) != (i >= maxSubscriptions-1) { // one is there already
				t.Fatal(err)
			}
		}
		if n := len(held.Subscribed()); n > maxSubscriptions {
			t.Errorf("%d subscriptions are kept", n)
		}
		held.Release()
		h.close()
	})
}

// Changes that meet are all kept: the record is swapped, not written over.
func TestUpdatesMeet(t *testing.T) {
	t.Parallel()
	s := memory.New()
	a, b := newHouse(t, s, nil), newHouse(t, s, func(c *Config) { c.Name = "there" })
	id := a.open("").ID
	here, there := a.mustFind(id, ""), b.mustFind(id, "")
	var all sync.WaitGroup
	for i := range 50 {
		all.Go(func() {
			held := here
			if i%2 == 0 {
				held = there
			}
			if err := held.SetSubscribed(t.Context(), fmt.Sprint(i), true); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if err := here.reload(); err != nil {
		t.Fatal(err)
	}
	if n := len(here.Subscribed()); n != 50 {
		t.Errorf("%d of 50 changes are kept", n)
	}
	here.Release()
	there.Release()
	a.Close()
	b.Close()
}

func TestRuns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, memory.New(), nil)
		s := h.mustFind(h.open("").ID, "")
		begin := func(id wire.ID, method string) (*run.Run, error) {
			r := run.Start(context.Background(), s.ID, id, method, run.NewStream("", 1))
			inFlight, err := s.Begin(r)
			if inFlight != nil {
				err = ErrInFlight
			}
			return r, err
		}
		number, err := begin(`1`, "tools/call")
		if err != nil {
			t.Fatal(err)
		}
		text, err := begin(`"1"`, "tools/call") // another ID
		if err != nil {
			t.Fatal(err)
		}
		for _, again := range []wire.ID{`1`, `"1"`, `"\u0031"`} {
			var refused *wire.Error
			if _, err := begin(again, "tools/call"); !errors.As(err, &refused) || refused.Code != wire.CodeInvalidRequest {
				t.Errorf("%s again: %v", again, err)
			}
		}
		for _, unknown := range []wire.ID{`2`, `"2"`, `null`, `{}`, `"`, ``} {
			if s.Cancel(unknown) {
				t.Errorf("cancelled %q", unknown)
			}
		}
		if !s.Cancel(`"\u0031"`) || text.Open() || !number.Open() {
			t.Error("the text 1 was not cancelled, or the number 1 was")
		}
		s.Finish(text)
		if _, err := begin(`"1"`, "tools/call"); err != nil {
			t.Errorf("an ID that is free again: %v", err)
		}
		s.Finish(text) // late: it is another's now
		if _, err := begin(`"1"`, "tools/call"); err == nil {
			t.Error("a late Finish has freed another's ID")
		}
		hello, err := begin(`3`, "initialize")
		if err != nil {
			t.Fatal(err)
		}
		if s.Cancel(`3`) || !hello.Open() {
			t.Error("initialize was cancelled")
		}
		s.Release()
		time.Sleep(2 * timeout) // what runs keeps its session
		if !number.Open() || s.isClosed() {
			t.Error("a call was cut off because its session was idle")
		}
		h.close()
		if number.Open() {
			t.Error("a call outlives its replica")
		}
	})
}

// The store is away: sessions that are warm go on, others get to know.
func TestFindWithoutStore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := memory.New()
		h := newHouse(t, s, nil)
		warm := h.mustFind(h.open("").ID, "")
		cold := h.open("").ID
		time.Sleep(3 * rest)
		_ = s.Close()
		h.mustFind(warm.ID, "").Release()
		if _, err := h.find(cold, ""); err == nil || errors.Is(err, ErrNotFound) {
			t.Errorf("a session that cannot be looked up: %v", err) // not found would make the client start anew
		}
		if err := h.End(t.Context(), warm, observe.EndDeleted); err == nil {
			t.Error("a session was ended that is still in the store")
		}
		if warm.isClosed() {
			t.Error("it is ended here all the same")
		}
		warm.Release()
		h.close()
	})
}
