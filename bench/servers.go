package main

import (
	"net"
	"path/filepath"

	"github.com/sluice-mcp/sluice/bench/internal/client"
)

// A server is a program in one of its configurations.
type server struct {
	name    string
	program string // directory under peers, or a script of peers/node
	mode    string
	eras    []client.Era
	// streams and sessions say that the server takes part in those comparisons.
	streams, sessions bool
	// noCalls servers are left out of the comparison of fast calls: another configuration is faster.
	noCalls bool
	ours    bool
	// lenient servers take arguments that the schema forbids.
	lenient bool
	// constant servers do no work.
	constant bool
	// lossy servers do not deliver everything that a tool has sent.
	lossy bool
}

var (
	both     = []client.Era{client.Sessions, client.Modern}
	sessions = []client.Era{client.Sessions}
)

// servers in the order of the tables. The first is the floor, and what is compared most stands next to it.
var servers = []*server{
	{name: "floor (net/http)", program: "floor", eras: both, streams: true, sessions: true},
	{name: "lean floor", program: "floor", mode: "lean", eras: both},
	{name: "null (a constant)", program: "floor", mode: "null", eras: both, constant: true},
	{name: "sluice, sluice.AddTool", program: "sluice", eras: both, streams: true, sessions: true, ours: true},
	{name: "sluice, mcp.AddTool", program: "sluice", mode: "sdk", eras: both, ours: true},
	{name: "mcp-go", program: "mcpgo", eras: both, streams: true, sessions: true, lenient: true, lossy: true},
	{name: "mcp-go, checking types", program: "mcpgo", mode: "checked", eras: both},
	{name: "go-sdk, stateless, JSON", program: "gosdk", mode: "stateless", eras: both},
	{name: "go-sdk, sessions, SSE", program: "gosdk", mode: "sessions", eras: sessions, streams: true, sessions: true},
	{name: "go-sdk, stateless, SSE", program: "gosdk", mode: "stateless-sse", eras: []client.Era{client.Modern}, streams: true, noCalls: true},
	{name: "TypeScript SDK, stateless", program: "sdk.mjs", mode: "stateless", eras: both, streams: true},
	{name: "TypeScript SDK, sessions", program: "sdk.mjs", mode: "sessions", eras: sessions},
	{name: "fastmcp", program: "fastmcp.mjs", eras: sessions},
}

// node is the Node.js that npm brings with the servers: everybody measures with the same.
var node = filepath.Join("peers", "node", "node_modules", ".bin", "node")

func (s *server) node() bool { return filepath.Ext(s.program) == ".mjs" }

// command starts the server at addr.
func (s *server) command(dir, addr string) []string {
	if s.node() {
		_, port, _ := net.SplitHostPort(addr)
		return []string{node, filepath.Join("peers", "node", s.program), port, s.mode}
	}
	return []string{filepath.Join(dir, s.program), "-addr", addr, "-mode", s.mode}
}
