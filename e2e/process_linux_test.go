package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// The end of a process does no harm to what the test has started from the same thread: it dies with its thread, if it wants to die with
// the test.
func TestEndOfProcessSparesOthers(t *testing.T) {
	t.Parallel()
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	for range 50 {
		other := exec.Command("sleep", "60")
		other.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := other.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- other.Wait() }()
		p, err := startProcess([]string{"true"}, nil, log)
		if err != nil {
			t.Fatal(err)
		}
		<-p.done
		if p, err := startProcess([]string{"true"}, nil, log); err == nil { // by now the thread of the first has ended
			<-p.done
		}
		select {
		case err := <-ended:
			t.Fatalf("the other process ended with the first: %v", err)
		default:
		}
		_ = other.Process.Kill()
		<-ended //nolint:errcheck // how it ended is not what this is about
	}
}
