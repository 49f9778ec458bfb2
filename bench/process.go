package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sluice-mcp/sluice/bench/internal/client"
	"github.com/sluice-mcp/sluice/bench/internal/peer"
)

// A process is a running server, alone on its core.
type process struct {
	server *server
	addr   string
	cmd    *exec.Cmd
	clock  int32
	exited chan struct{}
}

// start runs a server and returns when it takes connections.
func (b *bench) start(ctx context.Context, s *server, args ...string) (*process, error) {
	addr, err := freeAddr(ctx)
	if err != nil {
		return nil, err
	}
	argv := append(s.command(b.dir, addr), args...)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...) //nolint:gosec // a program of the bench
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1", "NODE_ENV=production")
	cmd.Stderr = os.Stderr
	if err := startOn(b.serverCore, cmd); err != nil {
		return nil, err
	}
	p := &process{server: s, addr: addr, cmd: cmd, exited: make(chan struct{})}
	// The kernel's name for the CPU clock of a process: its ID, inverted, and the kind (2: what the scheduler counts, in ns).
	p.clock = int32(^cmd.Process.Pid<<3 | 2)
	go func() {
		_ = cmd.Wait()
		close(p.exited)
	}()
	for deadline := time.Now().Add(20 * time.Second); ; {
		c, err := client.Dial(addr)
		if err == nil {
			return p, c.Close()
		}
		select {
		case <-p.exited:
			return nil, fmt.Errorf("%s ended before it served", s.name)
		case <-time.After(2 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			p.stop()
			return nil, fmt.Errorf("%s does not listen: %w", s.name, err)
		}
	}
}

func freeAddr(ctx context.Context) (string, error) {
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return ln.Addr().String(), ln.Close()
}

func (p *process) stop() {
	_ = p.cmd.Process.Signal(unix.SIGTERM)
	select {
	case <-p.exited:
	case <-time.After(2 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.exited
	}
}

// cpu is the time that all threads of the process have spent, in user space and in the kernel.
func (p *process) cpu() (time.Duration, error) {
	var t unix.Timespec
	if err := unix.ClockGettime(p.clock, &t); err != nil {
		return 0, fmt.Errorf("CPU clock of %s: %w", p.server.name, err)
	}
	return time.Duration(t.Nano()), nil
}

// stats asks a Go program what its runtime says; collect has it free its garbage first.
func (p *process) stats(ctx context.Context, collect bool) (peer.Stats, error) {
	var s peer.Stats
	url := "http://" + p.addr + "/bench/stats"
	if collect {
		url += "?gc=1"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return s, err
	}
	req.Close = true
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return s, err
	}
	defer res.Body.Close()
	return s, json.NewDecoder(res.Body).Decode(&s)
}
