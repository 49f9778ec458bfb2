//go:build unix

package e2e

import "syscall"

// Signals go to the whole process group, for programs that are started by a
// launcher such as npx or a shell.

func (p *process) signal(sig syscall.Signal) error { return syscall.Kill(-p.cmd.Process.Pid, sig) }

func (p *process) terminate() error { return p.signal(syscall.SIGTERM) }
func (p *process) kill() error      { return p.signal(syscall.SIGKILL) }
func (p *process) pause() error     { return p.signal(syscall.SIGSTOP) }
func (p *process) resume() error    { return p.signal(syscall.SIGCONT) }
