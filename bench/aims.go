package main

import (
	"fmt"
	"strings"

	"github.com/sluice-mcp/sluice/bench/internal/client"
)

// An aim is what this project wants to reach, and what was measured.
type aim struct {
	What, Want, Got string
	Reached         bool
}

// Aims holds the figures against what the project has set itself.
func (r *report) Aims() []aim {
	var list []aim
	add := func(reached bool, what, want, got string, args ...any) {
		list = append(list, aim{What: what, Want: want, Got: fmt.Sprintf(got, args...), Reached: reached})
	}
	for _, era := range both {
		ours, sdk := r.call("sluice, sluice.AddTool", era), r.call("sluice, mcp.AddTool", era)
		gosdk := r.call("go-sdk, stateless, JSON", era)
		if ours == nil || sdk == nil || gosdk == nil {
			continue
		}
		add(ours.Ratio <= 1.5, fmt.Sprintf("CPU of a call to the floor's, %s", era), "≤ 1.5×, better 1.0×", "%.2f×", ours.Ratio)
		add(ours.Lean <= 1, fmt.Sprintf("CPU of a call to the lean floor's, %s", era), "≤ 1.00×", "%.2f×", ours.Lean)
		add(sdk.Ratio <= 3.5, fmt.Sprintf("the same, tool of mcp.AddTool, %s", era), "≤ 3.5×", "%.2f×", sdk.Ratio)
		add(gosdk.CPU/ours.CPU >= 6, fmt.Sprintf("calls on the CPU of one of go-sdk's, %s", era), "≥ 6", "%.1f (the floor: %.1f)", gosdk.CPU/ours.CPU, gosdk.Ratio)
		add(ours.Bytes <= 5000, fmt.Sprintf("bytes allocated a call, %s", era), "≤ 5 KB", "%.1f KB", ours.Bytes/1000)
		add(ours.Objects <= 110, fmt.Sprintf("allocations a call, %s", era), "≤ 110", "%.0f", ours.Objects)
	}
	for i, peer := range []string{"go-sdk, sessions, SSE", "go-sdk, stateless, SSE"} {
		era := both[i]
		if ours, sdk := r.stream("sluice, sluice.AddTool", era), r.stream(peer, era); ours != nil && sdk != nil {
			add(ours.Events/sdk.Events >= 5, fmt.Sprintf("events per CPU second to go-sdk's, %s", era), "≥ 5×", "%.1f×", ours.Events/sdk.Events)
			add(ours.First <= 2, fmt.Sprintf("first byte of an upgraded call, %s", era), "≤ 2 ms", "%.2f ms, 95 %%: %.2f ms", ours.First, ours.Worst)
		}
	}
	for i := range r.Scale {
		s := &r.Scale[i]
		if !s.Ours {
			continue
		}
		add(s.Idle <= 2000, "memory of an idle session", "≤ 2 KB", "%.1f KB", s.Idle/1000)
		add(s.IdleGoroutines < 0.01, "goroutines of an idle session", "0", "%.2f", s.IdleGoroutines)
		add(s.Open <= 1.1*r.Scale[0].Open, "memory of a session with an open stream to that of a bare stream", "≤ 1.1×", "%.2f× (%.2f× where the client can be asked)", s.Open/r.Scale[0].Open, s.Asked/r.Scale[0].Open)
		add(s.Left <= 20, "memory that a forgotten session leaves", "none", "%.0f bytes", s.Left)
		add(s.Many <= 1.2*s.One, "CPU of a call with 10,000 live sessions to that with few", "1×", "%.2f×", s.Many/s.One)
	}
	for _, s := range r.Starts {
		if strings.Contains(s.Server, "demo") {
			add(s.First <= 15, "start of the demo server to its first answer", "≤ 15 ms", "%.1f ms", s.First)
			add(s.Size <= 20, "its binary, stripped", "≤ 20 MB", "%.1f MB", s.Size)
		}
	}
	return list
}

func (r *report) call(name string, era client.Era) *callRow {
	for i := range r.Calls {
		if c := &r.Calls[i]; c.Server == name && c.Era == era {
			return c
		}
	}
	return nil
}

func (r *report) stream(name string, era client.Era) *streamRow {
	for i := range r.Streams {
		if s := &r.Streams[i]; s.Server == name && s.Era == era {
			return s
		}
	}
	return nil
}
