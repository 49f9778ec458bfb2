package spec_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

var security = []statement{
	{ID: "S-01", Revisions: "24 03 06 11", Level: "MUST NOT", Text: "A session stands for authentication", Test: testS01},
	{ID: "S-02", Revisions: "24 03 06 11", Level: "SHOULD", Text: "A session is bound to its user on every method, and when resuming", Test: testS02},
	{ID: "S-03", Revisions: "24 03 06 11", Level: "MUST", Text: "Session and event IDs are not predictable", Test: testS03},
	{ID: "S-04", Revisions: "all", Level: "MUST", Text: "An answer counts only from the session that was asked", Test: testS04},
	{ID: "S-05", Revisions: "all", Level: "(robust)", Text: "Size, depth, repeated keys and slow bodies are bounded", Test: testS05},
	{ID: "S-06", Revisions: "all", Level: "(robust)", Text: "A reader that stalls costs nobody else", Test: testS06},
	{ID: "S-07", Revisions: "all", Level: "(robust)", Text: "What clients abandon is reclaimed", Test: testS07},
	{ID: "S-08", Revisions: "all", Level: "MUST", Text: "Calls are limited per principal", Test: testS08},
}

func testS01(t *testing.T) {
	e := serve(t, authenticated)
	for _, v := range legacy {
		s := e.open(t, v, as("alice"))
		s.send(t, call(1, "echo", obj{"text": "x"}), without("Authorization")).has(t, 401)
		s.get(t, "", without("Authorization")).has(t, 401)
		s.delete(t, without("Authorization")).has(t, 401)
	}
}

func testS02(t *testing.T) {
	eachVersion(t, legacy, func(t *testing.T, v string) {
		e := serve(t, authenticated)
		// refused demands that the session is closed to the stranger and open to its owner.
		refused := func(t *testing.T, s *session, stranger edit) {
			t.Helper()
			last := s.broken(t, int(s.next()), fmt.Sprint("cut-", s.next(), s.id), 1)
			s.send(t, request(1, "ping", nil), stranger).has(t, 403, 404)
			s.send(t, notification("notifications/initialized", nil), stranger).has(t, 403, 404)
			s.get(t, "", stranger).has(t, 403, 404)
			s.get(t, last, stranger).has(t, 403, 404)
			s.delete(t, stranger).has(t, 403, 404)
			if rest := s.listen(t, last).rest(t); len(rest) != 2 {
				t.Errorf("the owner resumes %v, want progress and the response", rest)
			}
			s.send(t, request(2, "ping", nil)).result(t)
		}
		alice := e.open(t, v, as("alice"))
		t.Run("other user", func(t *testing.T) { refused(t, alice, as("bob")) })
		t.Run("nobody", func(t *testing.T) { refused(t, alice, as("anonymous-1")) })
		t.Run("tokens without a user", func(t *testing.T) { refused(t, e.open(t, v, as("anonymous-1")), as("anonymous-2")) })
		t.Run("user of an anonymous session", func(t *testing.T) { refused(t, e.open(t, v, as("anonymous-1")), as("alice")) })
		t.Run("event ID in another session", func(t *testing.T) {
			last := alice.broken(t, 77, "other-session", 1)
			for _, other := range []*session{e.open(t, v, as("bob")), e.open(t, v, as("alice"))} {
				other.get(t, last).has(t, 400, 404)
			}
		})
		t.Run("cancelling", func(t *testing.T) {
			x := alice.start(t, call(78, "slow", obj{"key": "mine"}))
			e.await(t, "mine", "running")
			alice.send(t, cancelled(78), as("bob")).has(t, 403, 404)
			e.stays(t, "mine", "running", "a stranger must not cancel")
			e.release("mine")
			x.reply(t).result(t)
		})
	})
}

func testS03(t *testing.T) {
	testTL20(t)
	// Event IDs: the part that names the stream must not be counted up.
	s := serve(t).open(t, v11)
	var streams []string
	for i := range 20 {
		r := s.send(t, tokened(call(i, "steps", obj{"n": 1}), i))
		r.messages(t)
		if r.stream == nil || len(r.stream.ids()) == 0 {
			t.Fatal("no event IDs")
		}
		id := r.stream.ids()[0]
		i := strings.LastIndexByte(id, '-')
		if i < 0 {
			t.Fatalf("event ID %q does not name its stream", id)
		}
		streams = append(streams, id[:i])
	}
	for i := 1; i < len(streams); i++ {
		same := 0
		for same < min(len(streams[i]), len(streams[i-1])) && streams[i][same] == streams[i-1][same] {
			same++
		}
		if len(streams[i])-same < 10 {
			t.Errorf("stream %q follows %q: they differ in %d characters only", streams[i], streams[i-1], len(streams[i])-same)
		}
	}
}

func testS04(t *testing.T) {
	e := serve(t, authenticated)
	eachVersion(t, legacy, func(t *testing.T, v string) {
		alice, twin, bob := e.open(t, v, as("alice")), e.open(t, v, as("alice")), e.open(t, v, as("bob"))
		key := "k-" + v
		stream := alice.send(t, call(1, "elicit", obj{"key": key})).events(t)
		ask, _ := stream.message(t)
		// The same question is open elsewhere, so that IDs have a chance to collide.
		elsewhere := bob.send(t, call(1, "elicit", obj{"key": "bob-" + v})).events(t)
		asked, _ := elsewhere.message(t)
		for _, s := range []*session{twin, bob} {
			s.answer(t, ask, obj{"action": "accept", "content": obj{"name": "Mallory"}}).has(t, 202, 400)
		}
		if string(ask.ID) != string(asked.ID) {
			elsewhere.quiet(t, "the answer is to another question")
		}
		e.stays(t, key, "asking", "answers of other sessions are ignored")
		alice.answer(t, ask, ann["name"].(obj)).accepted(t)
		if m, _ := stream.message(t); content(t, m.object(t)) != "accept Ann" {
			t.Errorf("got %v", m)
		}
		alice.answer(t, ask, obj{"action": "decline"}).has(t, 202, 400) // twice
		if len(elsewhere.events) == 0 {
			bob.answer(t, asked, obj{"action": "decline"}).accepted(t)
			elsewhere.rest(t)
		}
	})
}

func testS05(t *testing.T) {
	e := serve(t)
	s := e.open(t, v11)
	alive := func(t *testing.T) {
		t.Helper()
		if got := s.run(t, "echo", obj{"text": "alive"}); got != "alive" {
			t.Fatalf("got %q", got)
		}
	}
	ping := func(params string) string { return `{"jsonrpc":"2.0","id":1,"method":"ping","params":` + params + `}` }
	t.Run("size", func(t *testing.T) {
		s.send(t, ping(`{"x":"`+strings.Repeat("x", 5<<20)+`"}`)).fails(t, 413, -32600)
		alive(t)
	})
	t.Run("size unannounced", func(t *testing.T) {
		req := s.post(t, nil)
		req.Body = io.NopCloser(strings.NewReader(ping(`{"x":"` + strings.Repeat("x", 5<<20) + `"}`)))
		req.ContentLength = -1
		s.do(t, req).has(t, 413)
		alive(t)
	})
	t.Run("below the bound", func(t *testing.T) {
		if got := s.run(t, "echo", obj{"text": strings.Repeat("x", 3<<20)}); len(got) != 3<<20 {
			t.Errorf("%d bytes came back", len(got))
		}
	})
	t.Run("depth", func(t *testing.T) {
		for _, open := range []string{`[`, `{"a":`} {
			r := s.send(t, ping(`{"x":`+strings.Repeat(open, 200_000))).has(t, 400)
			if r.response(t).Error == nil {
				t.Error("deep nesting was taken")
			}
			r = s.send(t, ping(`{"x":`+strings.Repeat("[", 200_000)+strings.Repeat("]", 200_000)+`}`)).has(t, 400)
			if r.response(t).Error == nil {
				t.Error("deep nesting was taken")
			}
		}
		alive(t)
	})
	t.Run("repeated keys", func(t *testing.T) {
		for _, body := range []string{
			`{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/list"}`,
			`{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}`,
			`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo"},"params":{"name":"panic"}}`,
		} {
			s.send(t, body).has(t, 400).response(t)
		}
		m := stateless(call(1, "echo", obj{"text": "x"}), everything)
		body := string(mustJSON(t, m))
		twice := strings.Replace(body, `"name":"echo"`, `"name":"panic","name":"echo"`, 1)
		e.do(t, e.post(t, twice, mirror(m)...)).has(t, 400).response(t)
		// Letters of another case are another key, not a second spelling.
		e.do(t, e.post(t, strings.Replace(body, `"method"`, `"Method"`, 1), mirror(m)...)).has(t, 400)
		alive(t)
	})
	t.Run("panic", func(t *testing.T) {
		m := s.send(t, call(2, "panic", obj{})).response(t)
		if m.Error == nil && !isError(m.object(t)) {
			t.Errorf("a panic was answered %v", m)
		}
		alive(t)
	})
	t.Run("slow body", func(t *testing.T) { // bounded by net/http, as package serve sets it; streams live on
		synctest.Test(t, func(t *testing.T) {
			e := serve(t, virtual, func(c *config) { c.readTimeout = time.Minute })
			stream := e.send26(t, call(1, "slow", obj{"key": "k"})).events(t)
			l := e.dial(t)
			_, _ = io.WriteString(l.conn, "POST /mcp HTTP/1.1\r\nHost: "+e.addr+"\r\nContent-Type: application/json\r\nAccept: application/json, text/event-stream\r\nContent-Length: 1000\r\n\r\n{")
			_ = l.conn.SetReadDeadline(time.Now().Add(time.Hour))
			if _, err := l.br.Peek(1); isTimeout(err) {
				t.Error("a body that does not come is awaited for an hour")
			}
			e.stays(t, "k", "running", "a call is not a slow body")
			e.release("k")
			if m, _ := stream.message(t); content(t, m.object(t)) != "slow k" {
				t.Errorf("got %v", m)
			}
		})
	})
}

func testS06(t *testing.T) {
	const updates, size = 40, 200 << 10
	// A reader of each era, and beside each one that never reads.
	filter := obj{"resourceSubscriptions": []string{"test://item/01"}}
	for v, open := range map[string]func(t *testing.T, e *env, reads bool) (*stream, *link){
		v26: func(t *testing.T, e *env, reads bool) (*stream, *link) {
			if reads {
				return e.subscribe(t, 3, filter), nil
			}
			return nil, e.begin(t, e.modern(t, request(1, "subscriptions/listen", obj{"notifications": filter}))).link
		},
		v11: func(t *testing.T, e *env, reads bool) (*stream, *link) {
			s := e.open(t, v11)
			s.send(t, request(2, "resources/subscribe", obj{"uri": "test://item/01"})).result(t)
			if reads {
				st := s.listen(t, "")
				primed(t, st)
				return st, nil
			}
			return nil, s.begin(t, s.request(t, http.MethodGet, "/mcp", nil, s.own(nil)...)).link
		},
	} {
		t.Run(v, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { // where time passes only while everybody waits
				e := serve(t, virtual, counted)
				_, stalled := open(t, e, false)
				if _, err := stalled.br.Peek(1); err != nil { // it is there, and then never reads again
					t.Fatal(err)
				}
				reader, _ := open(t, e, true)
				start := time.Now()
				var wg sync.WaitGroup
				wg.Go(func() {
					for range updates {
						_ = e.srv.ResourceUpdated(t.Context(), &mcp.ResourceUpdatedNotificationParams{
							Meta: mcp.Meta{"pad": strings.Repeat("x", size)}, URI: "test://item/01",
						})
					}
				})
				for range updates {
					reader.message(t)
				}
				e.send26(t, call(4, "echo", obj{"text": "x"})).result(t)
				wg.Wait()
				if d := time.Since(start); d > time.Second {
					t.Errorf("the others waited %v for a reader that stalls", d)
				}
				stalled.cut()
			})
		})
	}
}

// owned makes a function that counts the goroutines that come from this one. Labels are inherited, so
// that tests beside it do not count.
func owned(t *testing.T) func() int {
	key := fmt.Sprint("owner-", t.Name())
	pprof.SetGoroutineLabels(pprof.WithLabels(t.Context(), pprof.Labels(key, "1")))
	header := regexp.MustCompile(`(?m)^(\d+) @.*\n# labels: (.*)$`)
	return func() (n int) {
		var b bytes.Buffer
		_ = pprof.Lookup("goroutine").WriteTo(&b, 1)
		for _, m := range header.FindAllStringSubmatch(b.String(), -1) {
			if strings.Contains(m[2], key) {
				i, _ := strconv.Atoi(m[1])
				n += i
			}
		}
		return n
	}
}

// stacks shows the goroutines, the same ones together.
func stacks(t *testing.T) string {
	t.Helper()
	var b bytes.Buffer
	_ = pprof.Lookup("goroutine").WriteTo(&b, 1)
	return b.String()
}

// settled waits until no more goroutines run than before, give or take a few.
func settled(t *testing.T, before int, count func() int) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for count() > before+5 {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines, %d before\n%s", count(), before, stacks(t))
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func testS07(t *testing.T) {
	// Virtual time: a bubble ends only when every goroutine in it has ended.
	t.Run("listens", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			count := owned(t)
			e := serve(t, virtual)
			before := count()
			for i := range 100 {
				e.subscribe(t, i, obj{"toolsListChanged": true}).conn.Close()
			}
			synctest.Wait()
			settled(t, before, count)
		})
	})
	t.Run("calls", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			count := owned(t)
			e := serve(t, virtual)
			before := count()
			for i := range 100 {
				key := fmt.Sprint("k", i)
				x := e.begin(t, e.modern(t, call(1, "slow", obj{"key": key})))
				e.await(t, key, "running")
				x.conn.Close()
				e.await(t, key, "cancelled")
			}
			synctest.Wait()
			settled(t, before, count)
		})
	})
	t.Run("elicitations", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			count := owned(t)
			e := serve(t, virtual)
			before := count()
			for i := range 20 {
				s := e.open(t, v11)
				stream := s.send(t, call(1, "elicit", obj{"key": fmt.Sprint("k", i)})).events(t)
				stream.message(t)
				stream.conn.Close()
			}
			time.Sleep(48 * time.Hour)
			for i := range 20 {
				e.await(t, fmt.Sprint("k", i), "failed")
			}
			settled(t, before, count)
		})
	})
}

// refusedFor demands that the limit which was reached is told, with the time to come back.
func (r *reply) refusedFor(t *testing.T, status int) {
	t.Helper()
	r.has(t, status)
	if m := r.response(t); m.Error == nil {
		t.Errorf("refused with %s, want an error", r.body)
	}
	if n, err := strconv.Atoi(r.header.Get("Retry-After")); err != nil || n < 1 {
		t.Errorf("Retry-After is %q", r.header.Get("Retry-After"))
	}
}

func testS08(t *testing.T) {
	t.Run("calls", func(t *testing.T) {
		e := serve(t, authenticated, func(c *config) { c.options.MaxCalls, c.options.MaxCallsPerPrincipal = 5, 3 })
		s := e.open(t, v11, as("alice"))
		slow := func(i int, key string) obj { return call(i, "slow", obj{"key": key}) }
		s.start(t, slow(1, "a1"))
		s.start(t, slow(2, "a2"))
		e.begin(t, e.modern(t, slow(3, "a3"), as("alice")))
		for _, key := range []string{"a1", "a2", "a3"} {
			e.await(t, key, "running")
		}
		s.send(t, call(4, "echo", obj{"text": "x"})).refusedFor(t, 429)
		e.send26(t, call(5, "echo", obj{"text": "x"}), as("alice")).refusedFor(t, 429)
		s.send(t, cancelled(1)).accepted(t) // what frees is never refused
		e.await(t, "a1", "cancelled")
		eventually(t, "there is room again", func() bool { return s.send(t, call(6, "echo", obj{"text": "x"})).status == 200 })

		// Another principal is served, until all together are too many.
		b := e.open(t, v11, as("bob"))
		for i, key := range []string{"b1", "b2", "b3"} {
			b.start(t, slow(i, key))
			e.await(t, key, "running")
		}
		e.send26(t, call(7, "echo", obj{"text": "x"}), as("anonymous-1")).refusedFor(t, 503)
		b.delete(t).has(t, 204)
	})
	t.Run("sessions", func(t *testing.T) {
		e := serve(t, authenticated, func(c *config) { c.options.MaxSessions, c.options.MaxSessionsPerPrincipal = 5, 3 })
		var mine []*session
		for range 3 {
			mine = append(mine, e.open(t, v11, as("alice")))
		}
		e.do(t, e.post(t, initialize(1, v11, obj{}), as("alice"))).has(t, 429, 503)
		e.open(t, v11, as("bob"))
		e.open(t, v11, as("bob"))
		e.do(t, e.post(t, initialize(1, v11, obj{}), as("bob"))).refusedFor(t, 503)
		mine[0].delete(t).has(t, 204)
		e.open(t, v11, as("alice"))
	})
	t.Run("as it comes", func(t *testing.T) { // there is a limit without configuration, too
		e := serve(t, authenticated)
		var xs []*exchange
		const enough = 3000
		for i := range enough {
			x := e.begin(t, e.modern(t, call(i, "slow", obj{"key": "flood"}), as("alice")))
			xs = append(xs, x)
			_ = x.conn.SetReadDeadline(time.Now().Add(500 * time.Microsecond))
			if _, err := x.br.Peek(12); err == nil {
				if r := x.reply(t); r.status != 200 {
					r.refusedFor(t, 429)
					break
				}
			}
			if i == enough-1 {
				t.Errorf("%d calls of one principal are in flight", enough)
			}
		}
		if got := content(t, e.send26(t, call(1, "echo", obj{"text": "x"}), as("bob")).has(t, 200).result(t)); got != "x" {
			t.Errorf("another principal got %q", got)
		}
		for _, x := range xs {
			x.conn.Close()
		}
	})
}
