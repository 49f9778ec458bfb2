package main

import (
	"bytes"
	"context"
	"debug/buildinfo"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// describe notes the machine and the versions of what is compared. No names of hosts or people.
func (b *bench) describe(ctx context.Context, r *report) {
	r.Machine = fmt.Sprintf("%s, %d cores, %s", processor(), runtime.NumCPU(), system())
	r.Versions = []string{"Go " + strings.TrimPrefix(runtime.Version(), "go")}
	for program, path := range map[string]string{"gosdk": "github.com/modelcontextprotocol/go-sdk", "mcpgo": "github.com/mark3labs/mcp-go"} {
		info, err := buildinfo.ReadFile(filepath.Join(b.dir, program))
		if err != nil {
			continue
		}
		for _, m := range info.Deps {
			if m.Path == path {
				r.Versions = append(r.Versions, m.Path+" "+m.Version)
			}
		}
	}
	slices.Sort(r.Versions)
	if out, err := exec.CommandContext(ctx, node, "--version").Output(); err == nil {
		r.Versions = append(r.Versions, "Node.js "+strings.TrimPrefix(strings.TrimSpace(string(out)), "v"))
	}
	for _, name := range []string{"@modelcontextprotocol/server", "fastmcp"} {
		data, err := os.ReadFile(filepath.Join("peers", "node", "node_modules", filepath.FromSlash(name), "package.json"))
		var p struct{ Version string }
		if err == nil && json.Unmarshal(data, &p) == nil {
			r.Versions = append(r.Versions, name+" "+p.Version)
		}
	}
}

func processor() string {
	data, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	for line := range strings.Lines(string(data)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

func system() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return runtime.GOOS
	}
	release, _, _ := strings.Cut(string(bytes.TrimRight(u.Release[:], "\x00")), "-")
	return "Linux " + release
}

// A when says when a section was measured and how much the machine was disturbed.
type when struct {
	Date   string
	Others float64 // percent of the machine's CPU that went to programs which are not the bench's
}

// A watch looks at the machine's CPU while the bench measures.
type watch struct {
	began time.Time
	busy  float64
	ours  float64
}

func newWatch() *watch {
	return &watch{began: time.Now(), busy: busyTime(), ours: ownTime()}
}

func (w *watch) stop() when {
	wall := time.Since(w.began).Seconds() * float64(runtime.NumCPU())
	others := max(0, busyTime()-w.busy-(ownTime()-w.ours))
	return when{Date: w.began.Format(time.DateOnly), Others: 100 * others / wall}
}

// ownTime is the CPU that this process and those it has waited for have used, in seconds.
func ownTime() float64 {
	total := 0.0
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var u unix.Rusage
		if unix.Getrusage(who, &u) == nil {
			total += float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
		}
	}
	return total
}

// busyTime is the CPU that all programs have used since the machine started, in seconds.
func busyTime() float64 {
	data, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	line, _, _ := strings.Cut(string(data), "\n")
	const idle, iowait, guest, ticks = 4, 5, 9, 100
	total := 0.0
	for i, field := range strings.Fields(line) {
		if i == 0 || i == idle || i == iowait || i >= guest { // guests are counted as users, too
			continue
		}
		n, err := strconv.ParseFloat(field, 64)
		if err == nil {
			total += n / ticks
		}
	}
	return total
}
