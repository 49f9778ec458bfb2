package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// verdict is the outcome of one revision, held against its baseline.
type verdict struct {
	passed   []string // scenarios
	expected []string // failures that the baseline lists, with its reason
	faults   []string // everything that is not as the baseline expects
	checks   int      // checks that succeeded
}

func (v *verdict) ok() bool { return len(v.faults) == 0 }

// judge holds the results against the baseline of their revision.
func judge(results map[string][]check, baseline map[string]string) *verdict {
	v := &verdict{}
	used := make(map[string]bool)
	for _, scenario := range slices.Sorted(maps.Keys(results)) {
		failed := failures(results[scenario])
		for _, c := range results[scenario] {
			if c.Status == "SUCCESS" {
				v.checks++
			}
		}
		if len(failed) == 0 {
			v.passed = append(v.passed, scenario)
		}
		for _, c := range failed {
			key := scenario
			if _, ok := baseline[key]; !ok {
				key = scenario + ":" + c.ID
			}
			line := fmt.Sprintf("%s:%s: %s", scenario, c.ID, cmp.Or(c.ErrorMessage, c.Description))
			if reason, ok := baseline[key]; ok {
				used[key] = true
				v.expected = append(v.expected, line+" ("+reason+")")
			} else {
				v.faults = append(v.faults, "unexpected failure: "+line)
			}
		}
	}
	for _, key := range slices.Sorted(maps.Keys(baseline)) {
		scenario, _, _ := strings.Cut(key, ":")
		if _, ran := results[scenario]; !ran {
			v.faults = append(v.faults, "in the baseline, but not run: "+key)
		} else if !used[key] {
			v.faults = append(v.faults, "unexpected pass, take it out of the baseline: "+key)
		}
	}
	return v
}

// failures returns the checks that speak against the server: a warning is a
// SHOULD that was not held. A scenario in which nothing was checked counts as
// a failure too, else a suite that skips everything would look like success;
// that the messages fit the schema is said of every scenario, and is not enough.
func failures(checks []check) []check {
	var failed []check
	succeeded := false
	for _, c := range checks {
		switch c.Status {
		case "FAILURE", "WARNING":
			failed = append(failed, c)
		case "SUCCESS":
			succeeded = succeeded || c.ID != "wire-schema-valid"
		}
	}
	if len(failed) == 0 && !succeeded {
		failed = append(failed, check{ID: "nothing-checked", Description: "the suite broke off or skipped every check"})
	}
	return failed
}

// print reports the verdict. scored names the scenarios that count for
// conformance, where the suite says which do.
func (v *verdict) print(out io.Writer, revision string, scored []string, verbose bool) {
	fmt.Fprintf(out, "%s: %d scenarios passed", revision, len(v.passed))
	if len(scored) > 0 {
		passed := 0
		for _, name := range scored {
			if slices.Contains(v.passed, name) {
				passed++
			}
		}
		fmt.Fprintf(out, " (%d of the %d scored)", passed, len(scored))
	}
	fmt.Fprintf(out, ", %d checks; %d checks failed as expected, %d faults\n", v.checks, len(v.expected), len(v.faults))
	if verbose {
		for _, line := range v.expected {
			fmt.Fprintln(out, "  expected:", line)
		}
	}
	for _, line := range v.faults {
		fmt.Fprintln(out, " ", line)
	}
}
