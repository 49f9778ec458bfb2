package e2e

import (
	"context"
	"strings"
	"testing"
	"time"
)

func TestConformanceSaysWhatFailed(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("the suite takes seconds")
	}
	if err := suiteAvailable(); err != nil {
		t.Skipf("no suite: %v", err) // TestConformance fails then, where the suite is required
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	// Nobody listens on port 1.
	out, err := npx(ctx, "server", "--url", "http://127.0.0.1:1/mcp", "--scenario", "ping")
	if err == nil || !strings.Contains(err.Error(), "exit status 1") {
		t.Errorf("err = %v", err)
	}
	said := summary(out)
	for _, want := range []string{"FAILURE", "Error: Failed: fetch failed", "Passed: "} {
		if !strings.Contains(said, want) {
			t.Errorf("the summary does not say %q:\n%s", want, said)
		}
	}
	if strings.Contains(said, "\x1b") || len(said) > len(out)/2 {
		t.Errorf("not a summary of %d bytes:\n%s", len(out), said)
	}
}
