package e2e

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// A Revision is a revision of the protocol, such as "2025-11-25", over HTTP: Streamable HTTP, or for
// "2024-11-05" the HTTP+SSE transport that it had. With the
// suffix "-stdio", as in "2025-11-25-stdio", it is spoken over standard input and output.
type Revision string

// Latest is the newest revision that this package speaks.
const Latest Revision = "2026-07-28"

func (r Revision) stdio() bool { return strings.HasSuffix(string(r), "-stdio") }

// version is the revision's name on the wire.
func (r Revision) version() string { return strings.TrimSuffix(string(r), "-stdio") }

// An Endpoint is what clients connect to: a [Server], a [Balancer] or a [Cluster].
type Endpoint interface {
	// URL is where it speaks Streamable HTTP.
	URL() string
	// Revisions lists what it is expected to speak.
	Revisions() []Revision
	// Connect gives a session that is closed at the end of the test.
	Connect(t testing.TB, r Revision, opts ...ClientOption) *mcp.ClientSession

	shared() *endpoint
}

// endpoint is the part that all of them share.
type endpoint struct {
	base      string // scheme and authority
	path      string
	ssePath   string // "" if the old transport is not spoken
	revisions []Revision
	stdio     func() (*exec.Cmd, error) // nil if not spoken
}

// URL is where the endpoint speaks Streamable HTTP.
func (e *endpoint) URL() string { return e.base + e.path }

// Revisions lists what the endpoint is expected to speak.
func (e *endpoint) Revisions() []Revision { return e.revisions }

func (e *endpoint) shared() *endpoint { return e }
