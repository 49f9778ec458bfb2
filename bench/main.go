// Command bench compares sluice with other MCP servers and with a bare handler: what a call costs, how fast
// it streams, how much a session holds, how soon it answers. It runs on Linux, on two cores: the server has one, the
// load the other. Its report goes to docs/benchmarks.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sluice-mcp/sluice/bench/internal/client"
)

type bench struct {
	dir        string // built programs
	servers    []*server
	serverCore int
	progress   *progress

	rounds     int
	warmUp     time.Duration // of each round
	slot       time.Duration // of a server in a round
	nodeWarmUp time.Duration // before the first round
	sessions   int           // opened and left idle
	streams    int           // of sessions, held open
	forget     int           // sessions opened, used once and forgotten
	starts     int           // of each program

	held []*client.Conn
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		slog.Error("bench failed", "error", err)
		os.Exit(1) //nolint:forbidigo // the main
	}
}

func run(ctx context.Context) error {
	const all = "calls,streams,sessions,starts"
	quick := flag.Bool("quick", false, "a first impression in less than two minutes, of calls, streams and starts; writes no report")
	sections := flag.String("sections", all, "what to measure; the report keeps the others as they are")
	peers := flag.String("peers", "", "measure only the floors and the servers that match; writes no report")
	profiles := flag.String("profile", "", "write profiles of the servers to this directory, and measure nothing")
	out := flag.String("out", "../docs", "directory of the report")
	flag.Parse()

	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b := &bench{
		dir: dir, serverCore: runtime.NumCPU() - 1,
		progress: &progress{w: os.Stderr, terminal: isTerminal(os.Stderr)},
		rounds:   15, warmUp: 150 * time.Millisecond, slot: 500 * time.Millisecond, nodeWarmUp: 3 * time.Second,
		sessions: 10_000, streams: 10_000, forget: 100_000, starts: 25,
	}
	if *quick {
		b.rounds, b.warmUp, b.slot, b.nodeWarmUp, b.starts = 3, 50*time.Millisecond, 200*time.Millisecond, time.Second, 3
		if *sections == all {
			*sections = "calls,streams,starts"
		}
	}
	if err := b.choose(*peers); err != nil {
		return err
	}
	if err := b.build(ctx); err != nil {
		return err
	}
	if err := pin(0); err != nil {
		return err
	}
	if *profiles != "" {
		return b.profile(ctx, *profiles)
	}
	r := &report{}
	save := !*quick && *peers == ""
	if save {
		if r, err = loadReport(*out); err != nil {
			return err
		}
	}
	if err := b.measure(ctx, r, strings.Split(*sections, ",")); err != nil {
		return err
	}
	if err := r.print(os.Stdout); err != nil || !save {
		return err
	}
	return r.save(*out)
}

// measure fills in the sections of the report.
func (b *bench) measure(ctx context.Context, r *report, sections []string) error {
	b.describe(ctx, r)
	for _, name := range sections {
		var err error
		watch := newWatch()
		switch name {
		case "calls":
			r.Calls, err = b.compareCalls(ctx)
			r.CallsWhen = watch.stop()
		case "streams":
			r.Streams, err = b.compareStreams(ctx)
			r.StreamsWhen = watch.stop()
		case "sessions":
			r.Scale, err = b.compareScale(ctx)
			r.ScaleWhen = watch.stop()
		case "starts":
			r.Starts, err = b.compareStarts(ctx)
			r.StartsWhen = watch.stop()
		default:
			err = errors.New("no such section")
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// choose takes the servers whose names match, and the floor.
func (b *bench) choose(pattern string) error {
	re, err := regexp.Compile(pattern)
	if err != nil {
		return err
	}
	for _, s := range servers {
		if s.program == servers[0].program || re.MatchString(s.name) {
			b.servers = append(b.servers, s)
		}
	}
	return nil
}

// build makes the programs before anything is pinned to a core.
func (b *bench) build(ctx context.Context) error {
	if err := b.goBuild(ctx, "..", "./cmd/mcp-server-demo"); err != nil { // with its own module's dependencies
		return err
	}
	for _, s := range b.servers {
		if !s.node() {
			if err := b.goBuild(ctx, ".", "./peers/"+s.program); err != nil {
				return err
			}
			continue
		}
		if _, err := os.Stat(filepath.Join("peers", "node", "node_modules", ".package-lock.json")); err == nil { // npm writes it last
			continue
		}
		if err := execute(ctx, "npm", "ci", "--prefix", filepath.Join("peers", "node"), "--no-audit", "--no-fund", "--loglevel=error"); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) goBuild(ctx context.Context, module, pkg string) error {
	return execute(ctx, "go", "build", "-C", module, "-trimpath", "-ldflags=-s -w", "-o", b.dir, pkg)
}

func execute(ctx context.Context, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...) //nolint:gosec // go and npm, with arguments of our own
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%v: %w", cmd.Args, err)
	}
	return nil
}
