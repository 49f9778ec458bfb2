package wire

import "slices"

// The revisions of the protocol. They compare as strings.
const (
	Rev2024 = "2024-11-05" // HTTP+SSE
	Rev0326 = "2025-03-26" // Streamable HTTP, batches
	Rev0618 = "2025-06-18" // MCP-Protocol-Version header
	Rev1125 = "2025-11-25" // priming events, polling
	Rev2026 = "2026-07-28" // stateless
)

// revisions lists what the endpoint serves, newest first.
var revisions = []string{Rev2026, Rev1125, Rev0618, Rev0326, Rev2024}

// Revisions returns every revision the endpoint serves, newest first.
func Revisions() []string { return slices.Clone(revisions) }

// Served reports whether the endpoint serves revision v.
func Served(v string) bool { return slices.Contains(revisions, v) }

// Same returns v without holding on to the bytes that it was read from, or "" if the endpoint does not serve it.
func Same(v string) string {
	if i := slices.Index(revisions, v); i >= 0 {
		return revisions[i]
	}
	return ""
}

// Modern reports whether revision v is stateless: version, identity and
// capabilities travel with each request (2026-07-28 and later).
func Modern(v string) bool { return v >= Rev2026 }

// Negotiate answers the version that a client asks for in initialize: the
// same if it can be had by a handshake, else the newest that can.
func Negotiate(asked string) string {
	if Served(asked) && !Modern(asked) {
		return asked
	}
	return Rev1125
}
