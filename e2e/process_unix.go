//go:build unix

package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

// Signals go to the whole process group, for programs that are started by a
// launcher such as npx or a shell.

func (p *process) signal(sig syscall.Signal) error { return syscall.Kill(-p.cmd.Process.Pid, sig) }

func (p *process) terminate() error { return p.signal(syscall.SIGTERM) }
func (p *process) kill() error      { return p.signal(syscall.SIGKILL) }
func (p *process) resume() error    { return p.signal(syscall.SIGCONT) }

// pause returns when the process has stopped, which its threads do a moment after the signal.
// Elsewhere than on Linux that moment is not waited for.
func (p *process) pause() error {
	if err := p.signal(syscall.SIGSTOP); err != nil {
		return err
	}
	if runtime.GOOS != "linux" {
		return nil
	}
	for range 1000 {
		if stopped(p.cmd.Process.Pid) {
			return nil
		}
		time.Sleep(time.Millisecond)
	}
	return errors.New("it does not stop")
}

// stopped reports whether all threads have stopped.
func stopped(pid int) bool {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	for _, thread := range threads {
		stat, err := os.ReadFile(thread)
		// The state follows the command, which is in parentheses and may hold any character.
		if i := bytes.LastIndexByte(stat, ')'); err == nil && i+2 < len(stat) && stat[i+2] != 'T' {
			return false
		}
	}
	return true
}
