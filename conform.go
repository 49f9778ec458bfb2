package sluice

import (
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice/internal/engine"
)

// Conform has a server say what clients of each revision can read when it is served by something else than a [Handler], over stdio
// say: the SDK's own words are not always valid by the schema of the client's revision. It adds middleware; call it once, after the
// server's own has been added and before the server is connected. A Handler needs no call of it.
func Conform(server *mcp.Server) { engine.Conform(server) }
