package main

import (
	"bufio"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/sluice-mcp/sluice/e2e"
)

// An interrupt cancels the task of a call, and leaves one that is only waited for.
func TestInterruptedTask(t *testing.T) {
	t.Parallel()
	url := e2e.Start(t, e2e.Command("./cmd/mcp-server-demo")).URL()
	const steps = "steps=600"
	status := func(id, want string) {
		t.Helper()
		var out []byte
		for range 50 { // the server ends a task when its tool has ended
			var err error
			if out, err = exec.CommandContext(t.Context(), "sluice", "task", "get", url, id).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			if words := strings.Fields(string(out)); words[1] == want {
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
		t.Errorf("want %s:\n%s", want, out)
	}

	id := interrupted(t, "call", url, "audit", steps, "delay_ms=1000")
	status(strings.TrimPrefix(id, "task: "), "cancelled")

	out, err := exec.CommandContext(t.Context(), "sluice", "call", url, "audit", steps, "delay_ms=1000", "--detach").Output()
	if err != nil {
		t.Fatal(err)
	}
	id = strings.TrimSpace(string(out))
	if line := interrupted(t, "task", "wait", url, id); !strings.HasPrefix(line, "working") {
		t.Errorf("who waits is told %q", line)
	}
	status(id, "working")
}

// interrupted runs a command until it has said something, interrupts it, and returns its first line.
func interrupted(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sluice", args...)
	said, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(said)
	line, err := lines.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	late := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() })
	for err == nil {
		_, err = lines.ReadString('\n')
	}
	_ = cmd.Wait() // the code says it
	late.Stop()
	if code := cmd.ProcessState.ExitCode(); code != 130 {
		t.Errorf("sluice %v: exit code %d, want 130", args, code)
	}
	return strings.TrimSpace(line)
}
