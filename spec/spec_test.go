package spec_test

import (
	"flag"
	"fmt"
	"slices"
	"testing"

	"go.uber.org/goleak"
)

// A statement is one testable sentence of the specification.
type statement struct {
	ID        string
	Revisions string // as "03 06 11": the last two digits of the month and year that name a revision, or "all"
	Level     string // the specification's word; "(robust)", "(sec)" and "(text)" where it has none
	Text      string // in our words
	Test      func(*testing.T)
	Pending   string // why there is no test; empty exactly when Test is set
}

// statements is the whole table, in the order of the sections.
var statements = slices.Concat(transport24, transportCommon, batching, polling, transport26, base, cancellation, authorization, security, taskStatements)

// sections name the parts of the table and say how many statements each prefix has.
var sections = []struct {
	prefix, title string
	count         int
}{
	{"T24", "HTTP+SSE transport (2024-11-05)", 7},
	{"TL", "Streamable HTTP, 2025-03-26 to 2025-11-25", 25},
	{"T03", "Batches (2025-03-26)", 7},
	{"T11", "Polling an SSE stream (2025-11-25)", 6},
	{"T26", "Streamable HTTP (2026-07-28)", 25},
	{"L", "Base protocol, lifecycle, versions", 30},
	{"C", "Cancellation and progress", 8},
	{"A", "Authorization of the resource server", 16},
	{"S", "Security practices", 8},
	{"K", "Tasks extension (SEP-2663)", 79},
}

// TestSpec holds one subtest per statement, named by its ID. It does not run beside the other tests: what they
// measure would be disturbed.
func TestSpec(t *testing.T) { //nolint:tparallel // see above
	for _, s := range statements {
		if s.Test != nil {
			t.Run(s.ID, func(t *testing.T) { t.Parallel(); s.Test(t) })
		}
	}
}

// TestComplete fails when a statement is missing, doubled, or neither tested nor explained.
func TestComplete(t *testing.T) {
	var want, got []string
	for _, sec := range sections {
		for i := range sec.count {
			want = append(want, fmt.Sprintf("%s-%02d", sec.prefix, i+1))
		}
	}
	for _, s := range statements {
		got = append(got, s.ID)
		if (s.Test == nil) == (s.Pending == "") {
			t.Errorf("%s needs either a test or the reason why it has none", s.ID)
		}
		if s.Revisions == "" || s.Level == "" || s.Text == "" {
			t.Errorf("%s is not described", s.ID)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("statements are\n%v\nwant\n%v", got, want)
	}
	if len(want) != 211 {
		t.Errorf("%d statements, want 211", len(want))
	}
}

func TestMain(m *testing.M) {
	flag.Parse()
	// Most tests wait for the network; more of them at once than there are cores.
	if f := flag.Lookup("test.parallel"); f.Value.String() == f.DefValue {
		_ = f.Value.Set("16")
	}
	goleak.VerifyTestMain(m)
}
