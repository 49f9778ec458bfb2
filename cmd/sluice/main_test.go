package main

import (
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/sluice-mcp/sluice/e2e"
	"github.com/sluice-mcp/sluice/internal/schematest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"sluice": main})
}

// TestScripts runs the command line as a shell would, against the demo server where there is a URL.
func TestScripts(t *testing.T) {
	t.Parallel()
	demo := e2e.Start(t, e2e.Command("./cmd/mcp-server-demo"), e2e.SSE("/sse"))
	base := schematest.Front(t, demo.URL())
	checkout, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	sluice, err := exec.LookPath("sluice") // testscript has put it into the path
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Vars = append(env.Vars, "URL="+base+"/mcp", "BASE="+base, "CHECKOUT="+checkout, "BIN="+filepath.Dir(sluice))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits,
		},
	})
}

// exits is "exits CODE COMMAND...": it runs a command that must end with this code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND [ARGUMENT...]")
	}
	err := ts.Exec(args[1], args[2:]...)
	got := "0"
	if err != nil {
		got = err.Error()[len("exit status "):]
	}
	if got != args[0] {
		ts.Fatalf("%v: exit code %s, want %s", args[1:], got, args[0])
	}
}
