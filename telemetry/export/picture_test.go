package export_test

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
)

// What the picture of docs/observability.md shows: two replicas at work, of which one is killed, and a new one comes.
const (
	killedAt = 10 * time.Second
	comesAt  = 16 * time.Second
	overAt   = 26 * time.Second
	every    = 250 * time.Millisecond
	rateOver = time.Second
)

// A reading is what a replica's metrics said at a time.
type reading struct {
	at      time.Duration
	replica int
	values  map[string]float64
}

// TestPicture draws docs/observability.svg from the metrics of a real run: "make observability-picture".
func TestPicture(t *testing.T) {
	to := os.Getenv("OBSERVABILITY_PICTURE")
	if to == "" {
		t.Skip("OBSERVABILITY_PICTURE names no file")
	}
	redis := miniredis.RunT(t)
	env := []string{"MCP_STORE_URL=redis://" + redis.Addr(), "MCP_METRICS_ADDR=:0"}
	var mu sync.Mutex
	replicas := []*process{start(t, env...), start(t, env...)}
	var home atomic.Int32 // where the clients of the first replica are
	begun := time.Now()
	ctx, stop := context.WithCancel(t.Context())
	var clients sync.WaitGroup

	at := func(i int32) *process {
		mu.Lock()
		defer mu.Unlock()
		return replicas[i]
	}
	for range 3 { // clients with sessions, whose calls take a second and say something all the time
		for first := range 2 {
			session := at(int32(first)).open(t)
			clients.Go(func() {
				last, moved := "", false
				for ctx.Err() == nil {
					here := int32(1)
					if first == 0 {
						here = home.Load()
					}
					if here != 0 && first == 0 && !moved && last != "" {
						at(here).follow(t, session, last)
						moved = true
						continue
					}
					if id, broken := at(here).slowly(ctx, session); id != "" || !broken {
						last = id
					}
				}
			})
		}
	}
	for first := range 2 { // and one at each that calls without a session, all the time
		clients.Go(func() {
			for ctx.Err() == nil {
				here := int32(1)
				if first == 0 {
					here = home.Load()
				}
				at(here).quickly(ctx)
			}
		})
	}

	var all []reading
	for now := time.Duration(0); now < overAt; now = time.Since(begun) {
		if now >= killedAt && home.Load() == 0 {
			at(0).kill()
			home.Store(1)
		}
		if now >= comesAt && len(replicas) == 2 {
			p := start(t, env...)
			mu.Lock()
			replicas = append(replicas, p)
			mu.Unlock()
			home.Store(2)
		}
		for i, p := range replicas {
			if i > 0 || home.Load() == 0 {
				all = append(all, reading{now, i, figures(scrape(t, p, ""))})
			}
		}
		time.Sleep(every)
	}
	stop()
	clients.Wait()
	if err := os.WriteFile(to, []byte(draw(all)), 0o644); err != nil {
		t.Fatal(err)
	}
}

// figures adds up what is scraped, by metric.
func figures(text string) map[string]float64 {
	sums := make(map[string]float64)
	for _, m := range regexp.MustCompile(`(?m)^(\w+)(\{[^}]*\})? (\S+)$`).FindAllStringSubmatch(text, -1) {
		value, err := strconv.ParseFloat(m[3], 64)
		if err != nil || m[1] == "sluice_takeovers_total" && !strings.Contains(m[2], `"won"`) || strings.HasPrefix(m[1], "sluice_streams_resumed") && strings.Contains(m[2], `"unknown"`) {
			continue
		}
		sums[m[1]] += value
	}
	return sums
}

const (
	wide, left, top   = 760, 48, 74
	panelHeight, room = 120, 40
)

// draw returns the picture.
func draw(all []reading) string {
	panels := []struct {
		title string
		rate  bool
		of    []string
	}{
		{"Calls a second", true, []string{"mcp_server_operation_duration_seconds_count"}},
		{"Sessions that live here", false, []string{"sluice_sessions"}},
		{"Streams that clients are shown", false, []string{"sluice_streams"}},
		{"Streams taken over here, and calls run again (dashed)", false, []string{"sluice_takeovers_total", "sluice_calls_repeated_total"}},
	}
	height := top + len(panels)*(panelHeight+room)
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" font-family="system-ui, sans-serif" font-size="12" role="img">
<title>Metrics of three replicas, of which one is killed</title>
<style>
text { fill: #24292f } polyline { fill: none; stroke-width: 2 } .r0 { stroke: #cf222e } .r1 { stroke: #0969da } .r2 { stroke: #1a7f37 } .axis { stroke: #8c959f } .mark { stroke: #8c959f; stroke-dasharray: 3 3 } .more { stroke-dasharray: 6 3 }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .r0 { stroke: #ff7b72 } .r1 { stroke: #79c0ff } .r2 { stroke: #56d364 } }
</style>
<text x="8" y="20" font-size="15" font-weight="600">One replica of two is killed, and a new one comes: /metrics of each, every 250 ms</text>
`, wide, height, wide, height)
	for i, name := range []string{"replica 1", "replica 2", "replica 3"} {
		fmt.Fprintf(&b, `<line class="r%d" stroke-width="2" x1="%d" x2="%d" y1="38" y2="38"/><text x="%d" y="42">%s</text>`+"\n", i, 8+110*i, 28+110*i, 34+110*i, name)
	}
	x := func(at time.Duration) float64 { return left + float64(wide-left-16)*at.Seconds()/overAt.Seconds() }
	for i, p := range panels {
		base := top + i*(panelHeight+room) + panelHeight
		highest := 1.0
		lines := make(map[string][][2]float64)
		for k, name := range p.of {
			for replica := range 3 {
				var before []reading
				key := fmt.Sprintf("r%d", replica)
				if k > 0 {
					key += " more"
				}
				for _, r := range all {
					if r.replica != replica {
						continue
					}
					value := r.values[name]
					before = append(before, r)
					if p.rate {
						for len(before) > 1 && r.at-before[0].at > rateOver+every {
							before = before[1:]
						}
						if r.at == before[0].at {
							continue
						}
						value = (value - before[0].values[name]) / (r.at - before[0].at).Seconds()
					}
					highest = max(highest, value)
					lines[key] = append(lines[key], [2]float64{x(r.at), value})
				}
			}
		}
		fmt.Fprintf(&b, `<text x="%d" y="%d" font-weight="600">%s</text><text x="%d" y="%d" text-anchor="end">%.0f</text><text x="%d" y="%d" text-anchor="end">0</text>`+"\n",
			left, base-panelHeight-4, p.title, left-6, base-panelHeight+12, highest, left-6, base)
		fmt.Fprintf(&b, `<line class="axis" x1="%d" x2="%d" y1="%d" y2="%d"/>`+"\n", left, wide-16, base, base)
		for _, mark := range []struct {
			at   time.Duration
			what string
		}{{killedAt, "killed"}, {comesAt, "a new one"}} {
			fmt.Fprintf(&b, `<line class="mark" x1="%.1f" x2="%.1f" y1="%d" y2="%d"/>`, x(mark.at), x(mark.at), base-panelHeight, base)
			if i == 0 {
				fmt.Fprintf(&b, `<text x="%.1f" y="%d">%s</text>`, x(mark.at)+4, base-panelHeight+10, mark.what)
			}
		}
		for replica := range 3 {
			for _, more := range []string{"", " more"} {
				points := lines[fmt.Sprintf("r%d%s", replica, more)]
				if len(points) == 0 {
					continue
				}
				fmt.Fprintf(&b, "\n"+`<polyline class="r%d%s" points="`, replica, more)
				for _, p := range points {
					fmt.Fprintf(&b, "%.1f,%.1f ", p[0], float64(base)-p[1]/highest*(panelHeight-16))
				}
				b.WriteString(`"/>`)
			}
		}
		b.WriteString("\n")
	}
	for second := 0; second <= int(overAt.Seconds()); second += 5 {
		fmt.Fprintf(&b, `<text x="%.1f" y="%d" text-anchor="middle">%d s</text>`+"\n", x(time.Duration(second)*time.Second), height-room+16, second)
	}
	b.WriteString("</svg>\n")
	return b.String()
}
