package main

import (
	"fmt"
	"html"
	"strings"

	"github.com/sluice-mcp/sluice/bench/internal/client"
)

const (
	chartWidth  = 760
	chartLeft   = 200 // of the bars
	chartRight  = 90  // for the figures behind the longest bar
	chartTop    = 56
	barHeight   = 13
	groupHeight = 36
)

// chart draws the CPU of a call of each server, one bar for each era, with the floor as a line.
func chart(rows []callRow) string {
	table := byServer(rows)
	longest := 1.0
	for _, r := range rows {
		if r.Objects > 0 { // Go; the others would make these too short to compare
			longest = max(longest, r.CPU)
		}
	}
	longest *= 1.1
	scale := (chartWidth - chartLeft - chartRight) / longest
	height := chartTop + groupHeight*len(table) + 12
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" font-family="system-ui, sans-serif" font-size="12" role="img">
<title>CPU time of a tools/call, in microseconds</title>
<style>
text { fill: #24292f } .s { fill: #8c959f } .m { fill: #57606a } .ours.s { fill: #54aeff } .ours.m { fill: #0969da } .gap { fill: #fff } line { stroke: #cf222e; stroke-dasharray: 3 3 }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .s { fill: #6e7681 } .m { fill: #b1bac4 } .ours.s { fill: #1f6feb } .ours.m { fill: #79c0ff } .gap { fill: #0d1117 } }
</style>
<text x="8" y="20" font-size="15" font-weight="600">CPU time of a tools/call, in µs: less is better</text>
<rect class="s" x="8" y="32" width="11" height="11"/><text x="24" y="42">sessions (2025-11-25)</text>
<rect class="m" x="170" y="32" width="11" height="11"/><text x="186" y="42">2026-07-28</text>
`, chartWidth, height, chartWidth, height)
	for i, row := range table {
		y := chartTop + groupHeight*i
		fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="end">%s</text>`+"\n", chartLeft-8, y+19, html.EscapeString(row.Server))
		ours := ""
		if row.Ours {
			ours = "ours "
		}
		for k, c := range []*callRow{row.Sessions, row.Modern} {
			if c == nil {
				continue
			}
			class := [...]string{"s", "m"}[k]
			top, width := y+2+k*(barHeight+1), min(c.CPU, longest)*scale
			fmt.Fprintf(&b, `<rect class="%s%s" x="%d" y="%d" width="%.1f" height="%d"/><text x="%.1f" y="%d" font-size="11">%.0f µs, %.3g×</text>`+"\n",
				ours, class, chartLeft, top, width, barHeight, chartLeft+width+6, top+11, c.CPU, c.Ratio)
			if c.CPU > longest { // the bar is broken off
				fmt.Fprintf(&b, `<path class="gap" d="M%.1f %d l4 -%d h4 l-4 %d z"/>`+"\n", chartLeft+width-24, top+barHeight, barHeight, barHeight)
			}
		}
	}
	if floor := floorOf(rows); floor > 0 {
		x := chartLeft + floor*scale
		fmt.Fprintf(&b, `<line x1="%.1f" x2="%.1f" y1="%d" y2="%d"/>`+"\n", x, x, chartTop-4, height-10)
	}
	b.WriteString("</svg>\n")
	return b.String()
}

func floorOf(rows []callRow) float64 {
	for _, r := range rows {
		if r.Server == servers[0].name && r.Era == client.Modern {
			return r.CPU
		}
	}
	return 0
}
