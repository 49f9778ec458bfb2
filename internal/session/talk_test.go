package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice/internal/engine"
	"github.com/sluice-mcp/sluice/internal/run"
	"github.com/sluice-mcp/sluice/internal/wire"
	"github.com/sluice-mcp/sluice/store/memory"
)

// asking is a call of the tool ask, whose handler waits for its client.
type asking struct {
	run    *run.Run
	reader *run.Reader
	done   chan error
	result string
}

func startAsking(t *testing.T, s *Session, id wire.ID) *asking {
	t.Helper()
	server, err := s.Server(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	st := run.NewStream("", 1)
	a := &asking{run: run.Start(context.Background(), s.ID, id, "tools/call", st), reader: st.Attach(-1), done: make(chan error, 1)}
	if _, err := s.Begin(a.run); err != nil {
		t.Fatal(err)
	}
	go func() {
		res, err := server.Do(a.run.Context(), &engine.Call{Method: "tools/call", Params: json.RawMessage(`{"name":"ask"}`), Extra: &mcp.RequestExtra{}})
		if err == nil {
			a.result = res.(*mcp.CallToolResult).Content[0].(*mcp.TextContent).Text
		}
		s.Finish(a.run)
		a.done <- err
	}()
	synctest.Wait()
	return a
}

// said returns the messages on the call's stream that have not been looked at.
func (a *asking) said(t *testing.T) (all []wire.Message) {
	t.Helper()
	synctest.Wait()
	events, _, err := a.reader.Next()
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		if e.Kind != run.Message {
			continue
		}
		m, _, e := wire.ParseBody(e.Data)
		if e != nil {
			t.Fatal(e)
		}
		all = append(all, m)
	}
	return all
}

// question returns the ID of the one question that the call has asked.
func (a *asking) question(t *testing.T) wire.ID {
	t.Helper()
	said := a.said(t)
	if len(said) != 1 || said[0].Kind != wire.Request || said[0].Method != "elicitation/create" {
		t.Fatalf("said %+v", said)
	}
	return said[0].ID
}

// waiting counts the questions that have no answer.
func waiting(s *Session) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.waiting)
}

func accept(id wire.ID) wire.Message {
	return wire.Message{Kind: wire.Response, ID: id, Result: json.RawMessage(`{"action":"accept","content":{}}`)}
}

func TestQuestions(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, memory.New(), nil)
		s, other := h.mustFind(h.open("").ID, ""), h.mustFind(h.open("").ID, "")
		a, b := startAsking(t, s, "1"), startAsking(t, other, "1")
		qa, qb := a.question(t), b.question(t)
		if qa == qb || replicaOf(qa, s.ID) != "here" {
			t.Errorf("the questions are named %s and %s", qa, qb)
		}
		// Answers that answer nothing.
		for _, m := range []wire.Message{accept(qb), accept(`"here.99.x"`), accept(`1`), accept(`""`), accept(``), accept(wire.ID(strings.ToLower(string(qa))))} {
			if err := s.Answer(t.Context(), m); err != nil {
				t.Errorf("%s: %v", m.ID, err)
			}
		}
		synctest.Wait()
		if len(a.done)+len(b.done) > 0 {
			t.Fatal("a call has taken another's answer")
		}
		if err := s.Answer(t.Context(), accept(qa)); err != nil {
			t.Error(err)
		}
		if err := <-a.done; err != nil || a.result != "accept" {
			t.Errorf("%q, %v", a.result, err)
		}
		if err := s.Answer(t.Context(), accept(qa)); err != nil { // once more
			t.Error(err)
		}
		refusal := wire.Message{Kind: wire.Response, ID: qb, Error: json.RawMessage(`{"code":-1,"message":"asleep"}`)}
		if err := other.Answer(t.Context(), refusal); err != nil {
			t.Error(err)
		}
		if err := <-b.done; err == nil || !strings.Contains(err.Error(), "asleep") {
			t.Errorf("refused: %v", err)
		}
		if waiting(s)+waiting(other) > 0 {
			t.Error("somebody still waits")
		}
		s.Release()
		other.Release()
		h.close()
	})
}

func TestQuestionsTimeOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, memory.New(), nil)
		s := h.mustFind(h.open("").ID, "")
		a := startAsking(t, s, "1")
		q := a.question(t)
		time.Sleep(h.ReplyTimeout - time.Second)
		if len(a.done) > 0 {
			t.Error("too early")
		}
		time.Sleep(2 * time.Second)
		if err := <-a.done; err == nil {
			t.Error("no error")
		}
		if err := s.Answer(t.Context(), accept(q)); err != nil { // late
			t.Error(err)
		}
		if waiting(s) > 0 {
			t.Error("still waits")
		}
		s.Release()
		h.close()
	})
}

// A handler that is cancelled takes its question back if its client still listens, and leaves nothing.
func TestQuestionsAreTakenBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, memory.New(), nil)
		s := h.mustFind(h.open("").ID, "")
		server, err := s.Server(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		st := run.NewStream("", 1)
		a := &asking{run: run.Start(context.Background(), s.ID, "1", "tools/call", st), reader: st.Attach(-1)}
		ctx, cancel := context.WithTimeout(a.run.Context(), time.Second) // the handler's own patience
		defer cancel()
		if _, err := server.Do(ctx, &engine.Call{Method: "tools/call", Params: json.RawMessage(`{"name":"ask"}`), Extra: &mcp.RequestExtra{}}); err == nil {
			t.Error("no error")
		}
		said := a.said(t)
		if len(said) != 2 || said[1].Method != "notifications/cancelled" || string(wire.Member(said[1].Params, "requestId")) != string(said[0].ID) {
			t.Errorf("said %+v", said)
		}
		if waiting(s) > 0 {
			t.Error("still waits")
		}

		b := startAsking(t, s, "2")
		b.question(t)
		if !s.Cancel("2") {
			t.Error("not cancelled")
		}
		if err := <-b.done; err == nil {
			t.Error("no error")
		}
		synctest.Wait()
		if waiting(s) > 0 {
			t.Error("still waits after its client has cancelled it")
		}
		s.Release()
		h.close()
	})
}

// The server keeps to what was negotiated, and to a bound.
func TestWhatMayBeAsked(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, memory.New(), nil)
		s := h.mustFind(h.open("").ID, "")
		r := run.Start(context.Background(), s.ID, "1", "tools/call", run.NewStream("", 1))
		r.Stream.Attach(-1)
		var failed atomic.Int64
		ask := func(method string) error {
			return s.Say(r.Context(), engine.Outgoing{Method: method, Ref: new(int), Reply: func(_ json.RawMessage, e *wire.Error) {
				if e != nil {
					failed.Add(1)
				}
			}})
		}
		for method, want := range map[string]bool{"ping": true, "elicitation/create": true, "sampling/createMessage": false, "roots/list": false} {
			if err := ask(method); (err == nil) != want {
				t.Errorf("%s: %v", method, err)
			}
		}
		asked := waiting(s)
		for ask("ping") == nil {
			if asked++; asked > 2*maxQuestions {
				t.Fatal("questions are taken without bound")
			}
		}
		if asked != maxQuestions || waiting(s) != asked {
			t.Errorf("%d questions wait of %d", waiting(s), asked)
		}
		time.Sleep(2 * h.ReplyTimeout)
		synctest.Wait()
		if n := failed.Load(); n != int64(asked) || waiting(s) > 0 {
			t.Errorf("%d of %d have failed, %d wait", n, asked, waiting(s))
		}
		s.Release()

		fresh, err := h.New(h.engine, "") // its client has not said notifications/initialized
		if err != nil {
			t.Fatal(err)
		}
		if err := fresh.Establish(t.Context(), wire.Rev1125, json.RawMessage(hello)); err != nil {
			t.Fatal(err)
		}
		r = run.Start(context.Background(), fresh.ID, "1", "tools/call", run.NewStream("", 1))
		for method, want := range map[string]bool{"ping": true, "elicitation/create": false} {
			err := fresh.Say(r.Context(), engine.Outgoing{Method: method, Ref: method, Reply: func(json.RawMessage, *wire.Error) {}})
			if (err == nil) != want {
				t.Errorf("before initialized: %s: %v", method, err)
			}
		}
		fresh.Release()
		h.close()
	})
}

// What is said in a call of one session must not come out in another.
func TestOwner(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, memory.New(), nil)
		s, other := h.mustFind(h.open("").ID, ""), h.mustFind(h.open("").ID, "")
		st := run.NewStream("", 1)
		rd := st.Attach(-1)
		theirs := run.Start(context.Background(), other.ID, "1", "tools/call", st)
		if err := s.Say(theirs.Context(), engine.Outgoing{Method: "notifications/message", Params: json.RawMessage(`{}`)}); !errors.Is(err, ErrNoStream) {
			t.Errorf("%v", err)
		}
		if events, _, _ := rd.Next(); len(events) > 0 {
			t.Errorf("another session hears %s", events[0].Data)
		}
		s.Release()
		other.Release()
		h.close()
	})
}

// lonely is a standalone stream with the connection that shows it.
type lonely struct {
	stream *run.Stream
	reader *run.Reader
}

func openAlone(t *testing.T, s *Session) *lonely {
	t.Helper()
	st, err := s.OpenStandalone(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	l := &lonely{stream: st}
	l.come(-1)
	return l
}

func (l *lonely) come(after int64) {
	l.reader = l.stream.Attach(after)
}

func (l *lonely) cut() {
	l.reader.Detach()
}

// heard returns the data that the stream shows and has not shown before.
func (l *lonely) heard(t *testing.T) string {
	t.Helper()
	synctest.Wait()
	events, _, err := l.reader.Next()
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range events {
		if e.Kind == run.Message {
			all = append(all, string(e.Data))
		}
	}
	return strings.Join(all, " ")
}

func TestStandaloneStreams(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, memory.New(), nil)
		s := h.mustFind(h.open("").ID, "")
		say := func(data string) {
			t.Helper()
			if err := s.SayAlone([]byte(data)); err != nil {
				t.Fatalf("%s: %v", data, err)
			}
			time.Sleep(time.Second)
		}
		expect := func(l *lonely, want string) {
			t.Helper()
			if got := l.heard(t); got != want {
				t.Fatalf("heard %q, want %q", got, want)
			}
		}
		if err := s.SayAlone([]byte("x")); !errors.Is(err, ErrNoStream) {
			t.Errorf("nobody is there: %v", err)
		}
		a := openAlone(t, s)
		say("1")
		b := openAlone(t, s)
		say("2") // the newest that is there
		expect(a, "1")
		expect(b, "2")
		b.cut()
		say("3") // the newest that is there still
		expect(a, "3")
		a.cut()
		say("4") // for the one that was lost last
		b.come(1)
		expect(b, "")
		b.cut() // now it is the last
		say("5")
		a.come(2)
		expect(a, "4")
		b.come(1)
		expect(b, "5")
		a.cut()
		b.cut()

		// Both have been left alone for too long.
		time.Sleep(2 * streamRest)
		synctest.Wait()
		if err := s.SayAlone([]byte("6")); !errors.Is(err, ErrNoStream) {
			t.Errorf("nobody came back: %v", err)
		}
		if !a.stream.Ended() || !b.stream.Ended() || s.Stream(a.stream.ID) != nil {
			t.Error("left streams go on")
		}

		// There is a bound; the oldest goes.
		var many []*lonely
		for range maxAlone + 3 {
			many = append(many, openAlone(t, s))
		}
		for i, l := range many {
			if l.stream.Ended() != (i < 3) {
				t.Errorf("stream %d of %d: ended %v", i, len(many), l.stream.Ended())
			}
		}
		say("7")
		for i, l := range many {
			want := ""
			if i == len(many)-1 {
				want = "7"
			}
			expect(l, want)
			l.cut()
		}
		s.Release()
		h.close()
	})
}

// A session whose client listens stays, however quiet it is; one whose client has left goes.
func TestListenerKeepsItsSession(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, memory.New(), nil)
		s := h.mustFind(h.open("").ID, "")
		l := openAlone(t, s)
		time.Sleep(10 * timeout)
		if err := s.SayAlone([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if got := l.heard(t); got != "x" {
			t.Errorf("heard %q", got)
		}
		h.mustFind(s.ID, "").Release()
		l.cut()
		s.Release()
		time.Sleep(3 * timeout)
		if _, err := h.find(s.ID, ""); !errors.Is(err, ErrNotFound) || h.alive() > 0 {
			t.Errorf("%v, %d alive", err, h.alive())
		}
		h.close()
	})
}

// A list that has changed is told to those who listen, once each.
func TestChanged(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, memory.New(), nil)
		s, deaf := h.mustFind(h.open("").ID, ""), h.mustFind(h.open("").ID, "")
		a, b := openAlone(t, s), openAlone(t, s)
		h.Each(func(s *Session) { s.Changed("", "notifications/tools/list_changed") })
		const want = `{"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":{}}`
		if first, second := a.heard(t), b.heard(t); first != "" || second != want {
			t.Errorf("heard %q and %q", first, second)
		}
		s.Release()
		deaf.Release()
		h.close()
	})
}

// A stream of a call can be found as long as it is written, and is in the log afterwards.
func TestKeepStream(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, memory.New(), nil)
		s, other := h.mustFind(h.open("").ID, ""), h.mustFind(h.open("").ID, "")
		st := run.NewStream("", 1)
		if err := s.KeepStream(t.Context(), st, nil); err != nil {
			t.Fatal(err)
		}
		if st.ID == "" || s.Stream(st.ID) != st || other.Stream(st.ID) != nil {
			t.Errorf("stream %q", st.ID)
		}
		for i := range 3 {
			if err := st.Send(t.Context(), fmt.Append(nil, i)); err != nil {
				t.Fatal(err)
			}
		}
		if err := st.Respond([]byte("r"), 200); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * rest)
		if s.Stream(st.ID) != nil {
			t.Error("a stream that has ended is kept in memory")
		}
		for after := int64(-1); after < 4; after++ {
			again, err := s.Follow(t.Context(), st.ID, after, nil, nil)
			if err != nil {
				t.Fatalf("after %d: %v", after, err)
			}
			events, ended, err := again.Attach(after).Next()
			if int64(len(events)) != 4-after || !ended || err != nil {
				t.Errorf("after %d: %d events, %v, %v", after, len(events), ended, err)
			}
		}
		for _, c := range []struct {
			s      *Session
			stream string
			after  int64
		}{{other, st.ID, 0}, {s, "NOBODY", 0}, {s, st.ID, 100}} {
			if again, err := c.s.Follow(t.Context(), c.stream, c.after, nil, nil); err == nil {
				t.Errorf("%s after %d: %+v", c.stream, c.after, again)
			}
		}
		s.Release()
		other.Release()
		h.close()
	})
}
