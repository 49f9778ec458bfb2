package export_test

import (
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/alicebob/miniredis/v2"
)

const observability = "../../deploy/observability/"

var (
	exprLine  = regexp.MustCompile(`(?m)^\s+expr: (?:\|\n((?:\s{10,}.*\n)+)|(.*))`)
	alertLine = regexp.MustCompile(`(?m)^\s+- alert: (\w+)$`)
	// nameInExpr finds names of metrics and of labels: both begin so.
	nameInExpr = regexp.MustCompile(`\b(?:mcp|gen_ai|sluice|process|go)_[a-z0-9_]+`)
	quoted     = regexp.MustCompile(`"[^"]*"`)
)

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(observability + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// expressions returns what the dashboard and the rules ask of Prometheus.
func expressions(t *testing.T) (all []string) {
	t.Helper()
	var board struct {
		Templating struct{ List []struct{ Query string } }
		Panels     []struct{ Targets []struct{ Expr string } }
	}
	if err := json.Unmarshal([]byte(read(t, "grafana/dashboard.json")), &board); err != nil {
		t.Fatal(err)
	}
	for _, panel := range board.Panels {
		for _, target := range panel.Targets {
			all = append(all, target.Expr)
		}
	}
	for _, variable := range board.Templating.List {
		all = append(all, variable.Query)
	}
	drawn := len(all)
	for _, m := range exprLine.FindAllStringSubmatch(read(t, "alerts.yaml"), -1) {
		all = append(all, m[1]+m[2])
	}
	if rules := len(alertLine.FindAllString(read(t, "alerts.yaml"), -1)); drawn < 30 || len(all)-drawn != rules || rules == 0 {
		t.Fatalf("%d expressions of the dashboard, %d of %d rules", drawn, len(all)-drawn, rules)
	}
	return all
}

// What the dashboard and the alerts name, a server exports: two replicas at work, of which one dies.
func TestDashboard(t *testing.T) {
	t.Parallel()
	redis := miniredis.RunT(t)
	env := []string{"MCP_STORE_URL=redis://" + redis.Addr(), "MCP_METRICS_ADDR=:0"}
	a, b := start(t, env...), start(t, env...)
	session := a.open(t)
	a.call(t, session, "fast", "")
	b.call(t, "", "fast", "")
	b.call(t, "", "fails", "")
	b.call(t, "", "task", "")
	last := events(t, a.post(t, callOf(session, "slow", "")).Body, 2) //nolint:bodyclose // post does
	text := scrape(t, a, "")
	a.kill()
	b.follow(t, session, last)
	b.call(t, session, "fast", "")
	b.end(t, session)
	text += scrape(t, b, "")

	exported := make(map[string]bool)
	for line := range strings.SplitSeq(text, "\n") {
		if strings.HasPrefix(line, "#") {
			continue
		}
		for _, name := range nameInExpr.FindAllString(quoted.ReplaceAllString(line, ""), -1) {
			exported[name] = true
		}
	}
	for _, expr := range expressions(t) {
		for _, name := range nameInExpr.FindAllString(quoted.ReplaceAllString(expr, ""), -1) {
			if !exported[name] {
				t.Errorf("%s is not exported, but asked for: %s", name, expr)
			}
		}
	}
}

// end ends a session.
func (p *process) end(t *testing.T, session string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, p.url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Mcp-Session-Id", session)
	req.Header.Set("Mcp-Protocol-Version", "2025-11-25")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
}

// Each alert has a line that says what to do, and a series that raises it.
func TestAlerts(t *testing.T) {
	t.Parallel()
	operations, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	series := read(t, "alerts_test.yaml")
	for _, m := range alertLine.FindAllStringSubmatch(read(t, "alerts.yaml"), -1) {
		if !strings.Contains(string(operations), "| `"+m[1]+"` |") {
			t.Errorf("docs/operations.md does not say what to do about %s", m[1])
		}
		if !regexp.MustCompile(`alertname: ` + m[1] + `\n\s+exp_alerts:`).MatchString(series) {
			t.Errorf("nothing raises %s in alerts_test.yaml", m[1])
		}
	}
}

// promtool reads the rules, runs their tests, and looks at what is scraped.
func TestPromtool(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("promtool"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip("promtool is not installed")
	}
	p := start(t, "MCP_METRICS_ADDR=:0")
	p.call(t, "", "fast", "")
	for _, tt := range []struct {
		args  []string
		input string
	}{
		{[]string{"check", "config", "prometheus.yaml"}, ""},
		{[]string{"test", "rules", "alerts_test.yaml"}, ""},
		{[]string{"check", "metrics"}, scrape(t, p, "")},
	} {
		cmd := exec.CommandContext(t.Context(), "promtool", tt.args...)
		cmd.Dir, cmd.Stdin = observability, strings.NewReader(tt.input)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %q: %v\n%s", tt.args, err, out)
		}
	}
}
