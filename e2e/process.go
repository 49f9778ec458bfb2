package e2e

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync/atomic"
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
		// On Linux the child gets SIGKILL when the thread that made it ends: nobody else may have it meanwhile. A goroutine that ends
		// on a locked thread ends the thread, and with it what others have started there before: a Redis, for one.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
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

// Ports are taken from below the range that systems give to outgoing connections, so that a restarted
// server does not find its port taken by one of its clients.
const (
	firstPort = 20000
	ports     = 12000
)

// lastPort is the one handed out last. Test binaries that run at the same time begin at different ports.
var lastPort atomic.Int64

func init() { lastPort.Store(int64(os.Getpid()) * 61 % ports) }

// freePort returns a loopback port that nobody listens on, and never the same twice in a
// row: its server may not have bound it yet when the next one is asked for.
func freePort() (int, error) {
	for range ports {
		port := firstPort + int(lastPort.Add(1)%ports)
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err == nil {
			return port, l.Close()
		}
	}
	return 0, errors.New("e2e: no free port on 127.0.0.1")
}
