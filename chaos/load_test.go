//go:build unix

// Package chaos_test runs real server processes over a real Redis and breaks them while clients are at work.
//
// SLUICE_CHAOS is how long each test makes trouble (20s if it is not set; the full length is 1m).
package chaos_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-mcp/sluice/e2e"
	"github.com/sluice-mcp/sluice/internal/redistest"
)

// replicaLost is the code of the error that ends a call which must not run twice (wire.CodeReplicaLost).
const replicaLost = -31011

func troubleTime(t testing.TB) time.Duration {
	t.Helper()
	if v := os.Getenv("SLUICE_CHAOS"); v != "" {
		d, err := time.ParseDuration(v)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	return 20 * time.Second
}

// servers starts replicas that share a store, and note in a ledger what they charge.
func servers(t testing.TB, n int, storeURL, ledgerURL string, env ...string) *e2e.Cluster {
	t.Helper()
	if testing.Short() {
		t.Skip("takes its time")
	}
	return e2e.Replicas(t, n, e2e.Command("./chaos/internal/server"), e2e.Env(append(env, "MCP_STORE_URL="+storeURL, "CHAOS_LEDGER_URL="+ledgerURL)...))
}

// sharedStore is the URL of the Redis that the tests share, with names of the test's own.
func sharedStore(t testing.TB) string {
	t.Helper()
	redistest.Need(t, sharedURL)
	u := withPrefix(t, sharedURL)
	t.Cleanup(func() { sweep(u) })
	return u
}

// load is clients at work, and what has come of it.
type load struct {
	t         *testing.T
	ledgerURL string
	sessions  []*e2e.RawSession
	// gentle: nothing is broken that an honest client would notice.
	gentle bool

	calls, results, lost, resumes, repeats atomic.Int64
	seq                                    atomic.Int64

	mu   sync.Mutex
	fate map[string]string // of charges, by key
}

func newLoad(t *testing.T, at e2e.Endpoint, ledgerURL string, sessions int) *load {
	l := &load{t: t, ledgerURL: ledgerURL, fate: make(map[string]string)}
	for range sessions {
		s := e2e.RawConnect(t, at, map[string]any{"elicitation": map[string]any{}})
		s.Idle = 12 * time.Second // longer than the server's keep-alive
		l.sessions = append(l.sessions, s)
	}
	return l
}

func (l *load) String() string {
	return fmt.Sprintf("%d calls: %d results, %d lost with their replica, none of unknown outcome; %d streams resumed, %d requests repeated",
		l.calls.Load(), l.results.Load(), l.lost.Load(), l.resumes.Load(), l.repeats.Load())
}

// run keeps n calls under way until stop is closed, and returns when all have ended.
func (l *load) run(n int, stop <-chan struct{}) {
	ctx, cancel := context.WithCancel(l.t.Context())
	defer cancel()
	var workers sync.WaitGroup
	for i := range n {
		workers.Go(func() {
			rng := rand.New(rand.NewPCG(1, uint64(i)))
			s := l.sessions[i%len(l.sessions)]
			for !l.t.Failed() {
				select {
				case <-stop:
					return
				default:
				}
				switch {
				case i%5 == 0:
					l.charge(ctx, s, rng)
				case i%5 == 1:
					l.confirm(ctx, s)
				default:
					l.countdown(ctx, s, rng)
				}
			}
		})
	}
	workers.Wait()
	l.check()
}

// judge notes how a call ended. No outcome is unknown: calls have an idempotency key, and are repeated until there is one. Those that ask have
// none: a key does not bring back the questions that were lost with a connection.
func (l *load) judge(call *e2e.RawCall, raw json.RawMessage, err error, want string, again bool) (fate string) {
	l.calls.Add(1)
	l.resumes.Add(int64(call.Stats.Resumes))
	l.repeats.Add(int64(call.Stats.Repeats))
	if call.Stats.Duplicates+call.Stats.OutOfOrder > 0 {
		l.t.Errorf("call %d: events twice or out of order: %+v", call.ID, call.Stats)
	}
	var rpc *e2e.RPCError
	switch {
	case errors.As(err, &rpc) && rpc.Code == replicaLost && !again && !l.gentle:
		l.lost.Add(1)
		return "lost"
	case err != nil:
		l.t.Errorf("call %d for %q: %v (%+v)", call.ID, want, err, call.Stats)
		return "failed"
	}
	if got := textOf(raw); got != want {
		l.t.Errorf("call %d: %q, want %q", call.ID, got, want)
	}
	l.results.Add(1)
	return "done"
}

func textOf(raw json.RawMessage) string {
	var r struct {
		Content []struct{ Text string }
	}
	if json.Unmarshal(raw, &r) != nil || len(r.Content) != 1 {
		return string(raw)
	}
	return r.Content[0].Text
}

func (l *load) countdown(ctx context.Context, s *e2e.RawSession, rng *rand.Rand) {
	from, delay := 5+rng.IntN(10), 50+rng.IntN(100)
	call := s.CallTool(ctx, "countdown", map[string]any{"from": from, "delay_ms": delay})
	raw, err := call.Result()
	l.judge(call, raw, err, fmt.Sprintf("counted down from %d", from), true)
}

func (l *load) charge(ctx context.Context, s *e2e.RawSession, rng *rand.Rand) {
	key := fmt.Sprint("key-", l.seq.Add(1))
	call := s.CallTool(ctx, "charge", map[string]any{"key": key, "from": 1 + rng.IntN(10), "delay_ms": 50 + rng.IntN(100)})
	raw, err := call.Result()
	fate := l.judge(call, raw, err, "charged "+key, false)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fate[key] = fate
}

// confirm answers what it is asked. When the call runs again at another replica it is asked again.
func (l *load) confirm(ctx context.Context, s *e2e.RawSession) {
	for {
		call := s.Send(ctx, "tools/call", map[string]any{"name": "confirm", "arguments": map[string]any{}})
		var raw json.RawMessage
		var err error
		for m, e := range call.Messages() {
			switch {
			case e != nil:
				err = e
			case m.Method == "elicitation/create":
				go l.answer(ctx, s, m.ID)
			case m.IsResponse() && m.Error != nil:
				err = m.Error
			case m.IsResponse():
				raw = m.Result
			}
		}
		if errors.Is(err, e2e.ErrUnknownOutcome) && !l.gentle {
			continue
		}
		l.judge(call, raw, err, "accept", true)
		return
	}
}

// answer answers a question. An answer may be given again, so it is when its connection is lost. One to a replica that is gone
// is refused for ever; the call then asks anew elsewhere.
func (l *load) answer(ctx context.Context, s *e2e.RawSession, id json.RawMessage) {
	for ctx.Err() == nil {
		err := s.Respond(ctx, id, map[string]any{"action": "accept", "content": map[string]any{"sure": true}})
		if !errors.Is(err, e2e.ErrUnknownOutcome) {
			return
		}
	}
}

// check compares what clients know of their charges with the ledger.
func (l *load) check() {
	l.t.Helper()
	counted := executions(l.t, l.ledgerURL)
	l.mu.Lock()
	defer l.mu.Unlock()
	for key, fate := range l.fate {
		switch n := counted[key]; {
		case n > 1:
			l.t.Errorf("%s (%s) was executed %d times", key, fate, n)
		case fate == "done" && n != 1:
			l.t.Errorf("%s is done, and was executed %d times", key, n)
		}
	}
}
