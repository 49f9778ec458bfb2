package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluice-mcp/sluice/e2e"
)

// TestNewProject does what the README promises: a project from nothing, its tests green, its server answering. Then it
// breaks the project's contract and sees that somebody notices. With GOLANGCI_LINT set to the linter's executable, the project is linted
// too; "make new-project" sets it.
func TestNewProject(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it builds and tests a whole project")
	}
	checkout, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "weather")

	begun := time.Now()
	run(t, checkout, "sluice", "new", "example.com/acme/weather", "--dir", dir)
	run(t, dir, "go", "test", "./...")
	t.Logf("from sluice new to green tests: %.1f s", time.Since(begun).Seconds())

	run(t, dir, "go", "vet", "./...")
	if linter := os.Getenv("GOLANGCI_LINT"); linter != "" {
		run(t, dir, "make", "lint", "GOLANGCI_LINT="+linter)
	}
	run(t, dir, "make", "build")
	srv := e2e.Start(t, e2e.Argv(filepath.Join(dir, "bin", "server")))
	if got := run(t, dir, "sluice", "call", srv.URL(), "count_words", `{"text":"two words"}`); !strings.Contains(got, `"words":2`) {
		t.Errorf("count_words says %s", got)
	}
	var offer struct{ Server struct{ Name string } }
	if err := json.Unmarshal([]byte(run(t, dir, "sluice", "inspect", srv.URL(), "--json")), &offer); err != nil || offer.Server.Name != "weather" {
		t.Errorf("the server calls itself %q (%v)", offer.Server.Name, err)
	}

	const file = "internal/tools/server.go"
	text, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		t.Fatal(err)
	}
	renamed := strings.Replace(string(text), `"count_words"`, `"tally_words"`, 1)
	if renamed == string(text) {
		t.Fatalf("%s has no tool count_words", file)
	}
	if err := os.WriteFile(filepath.Join(dir, file), []byte(renamed), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := command(t, dir, "go", "test", "./cmd/server", "-run", "TestContract").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "+") || !strings.Contains(string(out), "tally_words") || !strings.Contains(string(out), "-update") {
		t.Errorf("a renamed tool does not fail the snapshot test (%v):\n%s", err, out)
	}
	run(t, dir, "make", "golden")
	run(t, dir, "go", "test", "./cmd/server", "-run", "TestContract")
}

// run runs a command that must end well and returns its standard output.
func run(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	cmd := command(t, dir, name, args...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s%s", cmd, err, out, stderr.String())
	}
	return string(out)
}

func command(t *testing.T, dir, name string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "PWD="+dir, "GOWORK=off")
	return cmd
}
