package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestParseBaseline(t *testing.T) {
	t.Parallel()
	got, err := parseBaseline("# why\n\n2025-11-25:\n2026-07-28:\n  tasks: not there yet: see the issue\n  caching:ttl-ms: too short\n")
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || len(got["2025-11-25"]) != 0 || got["2026-07-28"]["tasks"] != "not there yet: see the issue" ||
		got["2026-07-28"]["caching:ttl-ms"] != "too short" {
		t.Errorf("got %v", got)
	}
	for name, text := range map[string]string{
		"no revision":      "  tasks: why\n",
		"no reason":        "2026-07-28:\n  tasks:\n",
		"blank reason":     "2026-07-28:\n  tasks:  \n",
		"a list":           "2026-07-28:\n  - tasks\n",
		"deeper":           "2026-07-28:\n    tasks: why\n",
		"twice":            "2026-07-28:\n  tasks: why\n  tasks: why\n",
		"revision twice":   "2026-07-28:\n2026-07-28:\n",
		"whole and a part": "2026-07-28:\n  tasks: why\n  tasks:poll: why\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got, err := parseBaseline(text); err == nil {
				t.Errorf("got %v, want an error", got)
			}
		})
	}
}

func TestJudge(t *testing.T) {
	t.Parallel()
	pass := check{ID: "a", Status: "SUCCESS"}
	fail := check{ID: "b", Status: "FAILURE", ErrorMessage: "no b"}
	warn := check{ID: "c", Status: "WARNING", ErrorMessage: "c is late"}
	skip := check{ID: "d", Status: "SKIPPED"}
	for _, tt := range []struct {
		name     string
		checks   []check
		baseline map[string]string
		faults   []string
	}{
		{"pass", []check{pass, skip}, nil, nil},
		{"failure", []check{pass, fail}, nil, []string{"unexpected failure: s:b: no b"}},
		{"warning", []check{pass, warn}, nil, []string{"unexpected failure: s:c: c is late"}},
		{"broken off", nil, nil, []string{"unexpected failure: s:nothing-checked: the suite broke off or skipped every check"}},
		{"all skipped", []check{skip}, nil, []string{"unexpected failure: s:nothing-checked: the suite broke off or skipped every check"}},
		{"only the schema", []check{{ID: "wire-schema-valid", Status: "SUCCESS"}, skip}, nil, []string{"unexpected failure: s:nothing-checked: the suite broke off or skipped every check"}},
		{"expected", []check{pass, fail, warn}, map[string]string{"s": "why"}, nil},
		{"expected skip", []check{skip}, map[string]string{"s": "why"}, nil},
		{"expected check", []check{pass, fail}, map[string]string{"s:b": "why"}, nil},
		{"another check", []check{fail, warn}, map[string]string{"s:b": "why"}, []string{"unexpected failure: s:c: c is late"}},
		{"unexpected pass", []check{pass}, map[string]string{"s": "why"}, []string{"unexpected pass, take it out of the baseline: s"}},
		{"unexpected pass of a check", []check{pass, fail}, map[string]string{"s:b": "why", "s:a": "why"}, []string{"unexpected pass, take it out of the baseline: s:a"}},
		{"not run", []check{pass}, map[string]string{"t": "why"}, []string{"in the baseline, but not run: t"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			v := judge(map[string][]check{"s": tt.checks}, tt.baseline)
			if !slices.Equal(v.faults, tt.faults) || v.ok() != (len(tt.faults) == 0) {
				t.Errorf("got faults %q, want %q", v.faults, tt.faults)
			}
		})
	}
}

func TestReadResults(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	done := filepath.Join(dir, "server-tools-list-2026-11-22T13-29-41-074Z")
	for _, d := range []string{done, filepath.Join(dir, "server-ping-2026-11-22T13-29-41-080Z")} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(done, "checks.json"), []byte(`[{"id":"a","status":"SUCCESS"}]`), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := readResults(dir)
	if err != nil {
		t.Fatal(err)
	}
	if ping, ran := got["ping"]; len(got) != 2 || !ran || len(ping) != 0 || len(got["tools-list"]) != 1 {
		t.Errorf("got %v", got)
	}
}

func TestScored(t *testing.T) {
	t.Parallel()
	s := &suite{requirements: t.TempDir()}
	text := strings.Join([]string{"# server:", "server:", "  - ping", "  - tools-list", "", "client:", "  - initialize", ""}, "\n")
	if err := os.WriteFile(filepath.Join(s.requirements, "2025-11-25.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := s.scored(revision{name: "2025-11-25"}); !slices.Equal(got, []string{"ping", "tools-list"}) {
		t.Errorf("got %q", got)
	}
	if got := s.scored(revision{name: "2025-06-18"}); got != nil {
		t.Errorf("got %q, want none", got)
	}
}
