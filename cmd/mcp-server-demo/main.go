// Command mcp-server-demo serves a small MCP server to try clients with.
package main

import (
	"github.com/sluice-mcp/sluice/internal/demo"
	"github.com/sluice-mcp/sluice/serve"
)

func main() { serve.Main(demo.Server()) }
