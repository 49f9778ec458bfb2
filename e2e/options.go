package e2e

import (
	"slices"
	"time"
)

// An Option configures [Start] and [Replicas].
type Option func(*config)

type config struct {
	env       []string
	path      string
	ssePath   string
	revisions []Revision
	stdio     []string
	hasStdio  bool
	ready     time.Duration
	grace     time.Duration
}

func newConfig(opts []Option) *config {
	c := &config{path: "/mcp", ready: 30 * time.Second, grace: 15 * time.Second}
	for _, o := range opts {
		o(c)
	}
	if c.revisions == nil {
		c.revisions = []Revision{"2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28"}
	}
	if c.ssePath != "" {
		c.revisions = append([]Revision{"2024-11-05"}, c.revisions...)
	}
	if c.hasStdio {
		// The wire format of stdio is the same in all revisions: the last of each era will do.
		for _, r := range []Revision{"2025-11-25", "2026-07-28"} {
			if slices.Contains(c.revisions, r) {
				c.revisions = append(c.revisions, r+"-stdio")
			}
		}
	}
	return c
}

// Env adds variables, each as "NAME=value", to the server's environment, which is otherwise the test's own.
func Env(vars ...string) Option { return func(c *config) { c.env = append(c.env, vars...) } }

// Path is where the server speaks Streamable HTTP. The default is /mcp.
func Path(path string) Option { return func(c *config) { c.path = path } }

// SSE says that the server, run with MCP_HTTP_SSE=true, also speaks the HTTP+SSE transport of
// 2024-11-05, at this path.
func SSE(path string) Option {
	return func(c *config) {
		c.ssePath = path
		c.env = append(c.env, "MCP_HTTP_SSE=true")
	}
}

// Stdio says that the program also speaks over standard input and output when it is run with
// MCP_TRANSPORT=stdio and these further arguments.
func Stdio(args ...string) Option {
	return func(c *config) { c.stdio, c.hasStdio = args, true }
}

// Speaks lists the revisions that the server speaks over Streamable HTTP.
// The default is all from 2025-03-26 to [Latest].
func Speaks(revisions ...Revision) Option {
	return func(c *config) { c.revisions = slices.Clone(revisions) }
}

// ReadyWithin bounds the time that the server may take to become ready. The default is 30 s.
func ReadyWithin(d time.Duration) Option { return func(c *config) { c.ready = d } }

// StopWithin bounds the time that the server may take to end after SIGTERM. The default is 15 s.
func StopWithin(d time.Duration) Option { return func(c *config) { c.grace = d } }
