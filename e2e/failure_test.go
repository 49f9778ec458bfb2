package e2e_test

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice/e2e"
)

// A spy is a test that may fail without failing the one around it.
type spy struct {
	testing.TB
	failed   bool
	said     strings.Builder
	cleanups []func()
}

func (s *spy) Helper()                           {}
func (s *spy) Failed() bool                      { return s.failed }
func (s *spy) Cleanup(f func())                  { s.cleanups = append(s.cleanups, f) }
func (s *spy) Log(args ...any)                   { fmt.Fprintln(&s.said, args...) }
func (s *spy) Logf(format string, args ...any)   { s.Log(fmt.Sprintf(format, args...)) }
func (s *spy) Errorf(format string, args ...any) { s.failed = true; s.Logf(format, args...) }
func (s *spy) Fatal(args ...any)                 { s.failed = true; s.Log(args...); runtime.Goexit() }
func (s *spy) Fatalf(format string, args ...any) { s.Fatal(fmt.Sprintf(format, args...)) }

// failing runs f as a test and returns what it said, which must be that it failed.
func failing(t *testing.T, f func(testing.TB)) string {
	t.Helper()
	s := &spy{TB: t}
	run := func(f func()) {
		done := make(chan struct{})
		go func() {
			defer close(done)
			f()
		}()
		<-done
	}
	run(func() { f(s) })
	for len(s.cleanups) > 0 {
		last := len(s.cleanups) - 1
		cleanup := s.cleanups[last]
		s.cleanups = s.cleanups[:last]
		run(cleanup)
	}
	if !s.failed {
		t.Errorf("did not fail; said:\n%s", s.said.String())
	}
	return s.said.String()
}

// neverUpdate leaves out a test of golden files that are not right, while the others are written.
func neverUpdate(t *testing.T) {
	t.Helper()
	if flag.Lookup("update").Value.String() == "true" {
		t.Skip("nothing to update")
	}
}

func TestFailuresReadWell(t *testing.T) {
	t.Parallel()
	neverUpdate(t)
	srv := startEcho(t)
	for name, test := range map[string]struct {
		f    func(testing.TB)
		says []string
	}{
		"tool error": {
			func(t testing.TB) {
				e2e.Call[string](t, srv.Connect(t, e2e.Latest), "fail", map[string]string{"text": "no"})
			},
			[]string{`fail {"text":"no"}: tool error: failed: no`, "→ tools/call", "← tools/call", srv.URL()},
		},
		"no tool error": {
			func(t testing.TB) { e2e.CallError(t, srv.Connect(t, "2025-11-25"), "add", addIn{1, 2}) },
			[]string{`add {"a":1,"b":2}: want a tool error, got the result`, `"sum":3`, "→ initialize", "2025-11-25"},
		},
		"unknown tool": {
			func(t testing.TB) { e2e.Call[string](t, srv.Connect(t, "2025-06-18"), "nope", nil) },
			[]string{`nope null: `, "unknown tool"},
		},
		"wrong output": {
			func(t testing.TB) { e2e.Call[[]int](t, srv.Connect(t, e2e.Latest), "add", addIn{1, 2}) },
			[]string{"the output is not a []int", `"sum":3`},
		},
		"missing snapshot": {
			func(t testing.TB) { e2e.Snapshot(t, srv) },
			[]string{"TestFailuresReadWell_missing_snapshot.golden.json", "-update"},
		},
		"over budget": {
			func(t testing.TB) { e2e.TokenBudget(t, srv, 10) },
			[]string{"the budget is 10", "  countdown", "  echo"},
		},
		"no such revision": {
			func(t testing.TB) { srv.Connect(t, "1999-01-01") },
			[]string{"no such revision"},
		},
		"main package that does not compile": {
			func(t testing.TB) { e2e.Start(t, e2e.Command("./e2e/testdata/nope")) },
			[]string{"building ./e2e/testdata/nope"},
		},
		"program that exits": {
			func(t testing.TB) { e2e.Start(t, e2e.Argv("sh", "-c", "echo no luck; exit 3")) },
			[]string{"sh -c echo no luck; exit 3: exited before it was ready", "no luck"},
		},
		"program that does not listen": {
			func(t testing.TB) {
				e2e.Start(t, e2e.Argv("sleep", "60"), e2e.ReadyWithin(50e6))
			},
			[]string{"not ready after 50ms", "connection refused"},
		},
		"crash": {
			func(t testing.TB) {
				e2e.Call[string](t, e2e.Start(t, echo()).Connect(t, e2e.Latest), "crash", nil)
			},
			[]string{"crash null:", "exited by itself: exit status 3", "msg=listening"},
		},
		"server that ignores SIGTERM": {
			func(t testing.TB) {
				srv := e2e.Start(t, echo(), e2e.Env("ECHO_IGNORE_TERM=1"), e2e.StopWithin(50e6))
				srv.Stop()
			},
			[]string{"still there 50ms after SIGTERM"},
		},
		"revision that the server does not speak": {
			func(t testing.TB) {
				e2e.Start(t, echo(), e2e.Env("ECHO_ONLY=2025-06-18")).Connect(t, "2025-11-25")
			},
			[]string{"the server chose revision 2025-06-18", "← initialize"},
		},
		"signal for a URL": {
			func(t testing.TB) { e2e.Start(t, e2e.URL(srv.URL())).Kill() },
			[]string{"cannot kill http://", "it was not started here"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			said := failing(t, test.f)
			for _, want := range test.says {
				if !strings.Contains(said, want) {
					t.Errorf("did not say %q, but:\n%s", want, said)
				}
			}
		})
	}
}

func TestSnapshotShowsTheDifference(t *testing.T) {
	neverUpdate(t)
	srv := startEcho(t)
	t.Chdir(t.TempDir())
	if err := os.Mkdir("testdata", 0o755); err != nil {
		t.Fatal(err)
	}
	old := "{\n  \"tools\": [\n    {\n      \"description\": \"Add two figures.\",\n"
	if err := os.WriteFile("testdata/"+t.Name()+".golden.json", []byte(old), 0o644); err != nil {
		t.Fatal(err)
	}
	said := failing(t, func(t testing.TB) { e2e.Snapshot(t, srv) })
	for _, want := range []string{
		"-       \"description\": \"Add two figures.\",\n", "+       \"description\": \"Add two numbers.\",\n", "    \"tools\": [\n", "-update",
	} {
		if !strings.Contains(said, want) {
			t.Errorf("did not say %q, but:\n%s", want, said)
		}
	}
}

func TestURLOfARunningServer(t *testing.T) {
	t.Parallel()
	srv := e2e.Start(t, e2e.URL(startEcho(t).URL()))
	e2e.EachRevision(t, srv, func(t *testing.T, session *mcp.ClientSession) {
		if out := e2e.Call[addOut](t, session, "add", addIn{10, 5}); out.Sum != 15 {
			t.Errorf("add(10, 5) = %d", out.Sum)
		}
	})
}

func TestStopReportsHowTheServerEnded(t *testing.T) {
	t.Parallel()
	srv := startEcho(t)
	if state := srv.Stop(); state == nil || state.Success() { // the echo server has no handler for SIGTERM
		t.Errorf("ended with %v", state)
	}
	srv.Restart()
	if log := srv.Log(); strings.Count(log, "msg=listening") != 2 {
		t.Errorf("log of two runs:\n%s", log)
	}
}
