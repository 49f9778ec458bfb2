package e2e

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"time"
)

// process is one run of a program.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when the process has been reaped
	// asked is set before a signal that ends the process, so that only other ends count as crashes.
	asked bool
}

func startProcess(argv, env []string, log *os.File) (*process, error) {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), env...)
	// A file, not a pipe: its content survives whatever happens to either process.
	cmd.Stdout, cmd.Stderr = log, log
	setProcAttr(cmd)
	p := &process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		// On Linux the child gets SIGKILL when the thread that made it ends. This
		// one ends after the child, or with the test binary, whichever way that goes.
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // ProcessState has it
		}
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("e2e: starting %s: %w", argv[0], err)
	}
	return p, nil
}

func (p *process) running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// end asks the process to terminate, and kills it after grace.
// It reports whether it ended without being killed.
func (p *process) end(grace time.Duration) bool {
	p.asked = true
	if !p.running() {
		return true
	}
	_ = p.resume() // a stopped process would not see the next signal
	_ = p.terminate()
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-p.done:
		return true
	case <-timer.C:
		_ = p.kill()
		<-p.done
		return false
	}
}

// freePort returns a loopback port that nobody listens on. It lies below the range from which
// systems take the ports of outgoing connections, so that a restarted
// server does not find its port taken by one of its clients.
func freePort() (int, error) {
	for range 100 {
		port := 20000 + rand.IntN(12000)
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err == nil {
			return port, l.Close()
		}
	}
	return 0, fmt.Errorf("e2e: no free port found on 127.0.0.1")
}
