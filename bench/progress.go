package main

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// progress draws a bar on a terminal, and a line a section elsewhere.
type progress struct {
	w        io.Writer
	terminal bool
	name     string
	total    int
	done     int
	began    time.Time
}

func (p *progress) begin(name string, total int) {
	p.name, p.total, p.done, p.began = name, total, 0, time.Now()
	if !p.terminal {
		fmt.Fprintf(p.w, "%s …\n", name)
		return
	}
	p.draw()
}

func (p *progress) step() {
	p.done++
	if p.terminal {
		p.draw()
	}
}

const barWidth = 40

func (p *progress) draw() {
	full := barWidth * p.done / max(p.total, 1)
	left := ""
	if p.done > 0 {
		left = (time.Since(p.began) / time.Duration(p.done) * time.Duration(p.total-p.done)).Round(time.Second).String()
	}
	end := ""
	if p.done == p.total {
		left, end = time.Since(p.began).Round(time.Second).String(), "\n"
	}
	fmt.Fprintf(p.w, "\r%-10s %s%s %3d%% %-8s%s", p.name, strings.Repeat("█", full), strings.Repeat("░", barWidth-full),
		100*p.done/max(p.total, 1), left, end)
}
