package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/sluice-mcp/sluice/bench/internal/client"
)

// A startRow is how soon a program answers after it was started.
type startRow struct {
	Server string
	Ours   bool
	First  float64 // ms from the start of the process to its first answer, the median
	Worst  float64 // and the 95th percentile
	Size   float64 // MB of the binary, stripped; 0 for scripts
}

// A program is what is started and how.
type program struct {
	name string
	ours bool
	file string // "" for scripts
	argv func(port string) []string
	env  func(port string) []string
}

func (b *bench) programs() []program {
	demo := filepath.Join(b.dir, "mcp-server-demo")
	list := []program{{
		name: "sluice, demo server", ours: true, file: demo,
		argv: func(string) []string { return []string{demo} },
		env:  func(port string) []string { return []string{"MCP_SERVER_PORT=" + port} },
	}}
	seen := make(map[string]bool)
	for _, s := range b.servers {
		if seen[s.program] {
			continue
		}
		seen[s.program] = true
		p := program{name: s.name, ours: s.ours, argv: func(port string) []string { return s.command(b.dir, "127.0.0.1:"+port) }}
		if !s.node() {
			p.file = filepath.Join(b.dir, s.program)
		}
		list = append(list, p)
	}
	return list
}

func (b *bench) compareStarts(ctx context.Context) ([]startRow, error) {
	programs := b.programs()
	b.progress.begin("starts", b.starts*len(programs))
	times := make([][]float64, len(programs))
	for range b.starts {
		for i, p := range programs {
			ms, err := b.firstAnswer(ctx, p)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", p.name, err)
			}
			times[i] = append(times[i], ms)
			b.progress.step()
		}
	}
	var rows []startRow
	for i, p := range programs {
		row := startRow{Server: p.name, Ours: p.ours, First: quantile(times[i], 0.5), Worst: quantile(times[i], 0.95)}
		if p.file != "" {
			info, err := os.Stat(p.file)
			if err != nil {
				return nil, err
			}
			row.Size = float64(info.Size()) / 1e6
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// firstAnswer starts a program and asks it until it answers.
func (b *bench) firstAnswer(ctx context.Context, p program) (float64, error) {
	addr, err := freeAddr(ctx)
	if err != nil {
		return 0, err
	}
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return 0, err
	}
	argv := p.argv(port)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...) //nolint:gosec // a program of the bench
	cmd.Env = append(os.Environ(), "NODE_ENV=production")
	if p.env != nil {
		cmd.Env = append(cmd.Env, p.env(port)...)
	}
	began := time.Now()
	if err := startOn(b.serverCore, cmd); err != nil {
		return 0, err
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	for time.Since(began) < 20*time.Second {
		c, err := client.Dial(addr)
		if err != nil {
			time.Sleep(200 * time.Microsecond)
			continue
		}
		defer c.Close()
		if _, err := client.Open(c, client.Sessions, addr, client.Plain); err != nil {
			return 0, err
		}
		return time.Since(began).Seconds() * 1e3, nil
	}
	return 0, fmt.Errorf("no answer at %s", addr)
}
