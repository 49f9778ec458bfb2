//go:build !unix

package e2e

import (
	"errors"
	"os/exec"
)

func setProcAttr(*exec.Cmd) {}

// There is no gentle signal here: a stop is a kill.
func (p *process) terminate() error { return p.cmd.Process.Kill() }
func (p *process) kill() error      { return p.cmd.Process.Kill() }
func (p *process) pause() error     { return errors.ErrUnsupported }
func (p *process) resume() error    { return errors.ErrUnsupported }
