package main

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"text/template"

	"github.com/sluice-mcp/sluice/bench/internal/client"
)

// A report is everything that was measured. It is kept as JSON, too, so that one section can be measured
// again, when the machine is quiet, without the others.
type report struct {
	Machine     string
	Versions    []string
	Calls       []callRow
	CallsWhen   when
	Streams     []streamRow
	StreamsWhen when
	Scale       []scaleRow
	ScaleWhen   when
	Starts      []startRow
	StartsWhen  when
}

const (
	dataFile  = "benchmarks.json"
	pageFile  = "benchmarks.md"
	chartFile = "benchmarks.svg"
)

func loadReport(dir string) (*report, error) {
	r := &report{}
	data, err := os.ReadFile(filepath.Join(dir, dataFile)) //nolint:gosec // where the caller wants it
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err != nil {
		return nil, err
	}
	return r, json.Unmarshal(data, r)
}

func (r *report) save(dir string) error {
	data, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	var page strings.Builder
	if err := pageTemplate.Execute(&page, r); err != nil {
		return err
	}
	for name, content := range map[string]string{dataFile: string(data) + "\n", pageFile: page.String(), chartFile: chart(r.Calls)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil { //nolint:gosec // documents are for everybody
			return err
		}
	}
	return nil
}

//go:embed report.md.tmpl
var pageText string

var pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{
	"us":    func(v float64) string { return fmt.Sprintf("%.1f", v) },
	"ratio": func(v float64) string { return fmt.Sprintf("%.2f×", v) },
	"n":     number,
	"join":  strings.Join,
}).Parse(pageText))

// number writes a count or a size with three digits that mean something; none is a dash.
func number(v float64) string {
	switch {
	case v == 0:
		return "–"
	case v > -10 && v < 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.0f", v)
}

// Eras are those that are compared.
func (*report) Eras() []client.Era { return both }

// An eraRow is a server with its calls of both eras side by side.
type eraRow struct {
	Server           string
	Ours             bool
	Sessions, Modern *callRow
}

func byServer(rows []callRow) (table []eraRow) {
	for i := range rows {
		c := &rows[i]
		if len(table) == 0 || table[len(table)-1].Server != c.Server {
			table = append(table, eraRow{Server: c.Server, Ours: c.Ours})
		}
		if row := &table[len(table)-1]; c.Era == client.Modern {
			row.Modern = c
		} else {
			row.Sessions = c
		}
	}
	return table
}

// print writes the figures for a terminal.
func (r *report) print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	if len(r.Calls) > 0 {
		fmt.Fprintf(t, "call of a fast tool\tera\tCPU µs\tto the floor\tquartiles\tto the lean\tbytes\tallocs\tcalls/s\t\n")
		for _, c := range r.Calls {
			fmt.Fprintf(t, "%s\t%s\t%.1f\t%.2f×\t%.2f–%.2f\t%.2f×\t%s\t%s\t%.0f\t\n", c.Server, c.Era, c.CPU, c.Ratio, c.Low, c.High, c.Lean, number(c.Bytes), number(c.Objects), c.PerSec)
		}
	}
	if len(r.Streams) > 0 {
		fmt.Fprintf(t, "\t\nstream of %d events\tera\tevents/CPU s\tfirst byte ms\t95 %%\tlost\t\n", streamEvents)
		for _, s := range r.Streams {
			fmt.Fprintf(t, "%s\t%s\t%.0f k\t%.2f\t%.2f\t%.1f %%\t\n", s.Server, s.Era, s.Events, s.First, s.Worst, s.Lost)
		}
	}
	if len(r.Scale) > 0 {
		fmt.Fprintf(t, "\t\nsessions\tidle bytes\tgoroutines\twith stream\tgoroutines\tcan be asked\tgoroutines\tfew µs\tmany µs\tleft bytes\tgoroutines\t\n")
		for _, s := range r.Scale {
			fmt.Fprintf(t, "%s\t%.0f\t%.2f\t%.0f\t%.2f\t%.0f\t%.2f\t%.1f\t%.1f\t%.1f\t%.2f\t\n", s.Server, s.Idle, s.IdleGoroutines, s.Open, s.OpenGoroutines, s.Asked, s.AskedGoroutines, s.One, s.Many, s.Left, s.LeftGoroutines)
		}
	}
	if len(r.Starts) > 0 {
		fmt.Fprintf(t, "\t\nstart\tfirst answer ms\t95 %%\tMB\t\n")
		for _, s := range r.Starts {
			fmt.Fprintf(t, "%s\t%.1f\t%.1f\t%s\t\n", s.Server, s.First, s.Worst, number(s.Size))
		}
	}
	fmt.Fprintf(t, "\t\nother programs' share of the CPU\tcalls %.0f %%\tstreams %.0f %%\tsessions %.0f %%\tstarts %.0f %%\t\n",
		r.CallsWhen.Others, r.StreamsWhen.Others, r.ScaleWhen.Others, r.StartsWhen.Others)
	return t.Flush()
}
