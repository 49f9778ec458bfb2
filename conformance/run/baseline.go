package main

import (
	"fmt"
	"strings"
)

// parseBaseline reads the expected failures of each revision, with the reason
// of each. It takes the little of YAML that such a list needs:
//
//	2026-07-28:
//	  scenario: why the whole scenario fails
//	  scenario:check: why this check of it fails
//
// and refuses anything else, so that no excuse is lost to a slip of the pen.
func parseBaseline(text string) (map[string]map[string]string, error) {
	revisions := make(map[string]map[string]string)
	var current map[string]string
	number := 0
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimRight(line, " \n")
		if line == "" || strings.HasPrefix(strings.TrimSpace(line), "#") {
			continue
		}
		entry, indented := strings.CutPrefix(line, "  ")
		key, reason, found := strings.Cut(entry, ": ")
		switch {
		case !indented && strings.HasSuffix(line, ":"):
			name := strings.TrimSuffix(line, ":")
			if revisions[name] != nil {
				return nil, fmt.Errorf("line %d: %s is there twice", number, name)
			}
			current = make(map[string]string)
			revisions[name] = current
		case indented && current != nil && found && key == strings.TrimSpace(key) && strings.TrimSpace(reason) != "":
			if _, ok := current[key]; ok {
				return nil, fmt.Errorf("line %d: %s is there twice", number, key)
			}
			current[key] = strings.TrimSpace(reason)
		default:
			return nil, fmt.Errorf("line %d: want «revision:» or «  scenario: reason», got %q", number, line)
		}
	}
	for name, entries := range revisions {
		for key := range entries {
			scenario, _, isCheck := strings.Cut(key, ":")
			if _, whole := entries[scenario]; isCheck && whole {
				return nil, fmt.Errorf("%s: %s is expected to fail as a whole, so %s says nothing", name, scenario, key)
			}
		}
	}
	return revisions, nil
}
