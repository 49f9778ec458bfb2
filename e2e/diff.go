package e2e

import (
	"fmt"
	"slices"
	"strings"
)

// diffContext is how many equal lines are shown around a change.
const diffContext = 3

// diff shows how b differs from a, line by line; "" if it does not.
func diff(a, b string) string {
	if a == b {
		return ""
	}
	lines := compare(strings.SplitAfter(a, "\n"), strings.SplitAfter(b, "\n"))
	var out strings.Builder
	skipped := false
	for i, l := range lines {
		near := slices.ContainsFunc(lines[max(0, i-diffContext):min(len(lines), i+diffContext+1)], func(l string) bool {
			return l[0] != ' '
		})
		if !near {
			skipped = true
			continue
		}
		if skipped {
			fmt.Fprintf(&out, "  …\n")
			skipped = false
		}
		out.WriteString(l)
		if !strings.HasSuffix(l, "\n") {
			out.WriteString("\n")
		}
	}
	return out.String()
}

// compare returns the lines of both, each marked by its first byte: ' ' in both, '-' in a, '+' in b.
func compare(a, b []string) []string {
	// common[i][j] is the length of the longest common subsequence of a[i:] and b[j:].
	common := make([][]int, len(a)+1)
	for i := range common {
		common[i] = make([]int, len(b)+1)
	}
	for i := range slices.Backward(a) {
		for j := range slices.Backward(b) {
			if a[i] == b[j] {
				common[i][j] = common[i+1][j+1] + 1
			} else {
				common[i][j] = max(common[i+1][j], common[i][j+1])
			}
		}
	}
	var out []string
	i, j := 0, 0
	for i < len(a) || j < len(b) {
		switch {
		case i < len(a) && j < len(b) && a[i] == b[j]:
			out = append(out, "  "+a[i])
			i, j = i+1, j+1
		case j == len(b) || i < len(a) && common[i+1][j] >= common[i][j+1]:
			out = append(out, "- "+a[i])
			i++
		default:
			out = append(out, "+ "+b[j])
			j++
		}
	}
	return out
}
