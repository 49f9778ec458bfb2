// Command server serves this project's tools over MCP: Streamable HTTP by default, stdio with --transport stdio.
package main

import (
	"github.com/sluice-mcp/sluice/serve"

	"github.com/sluice-mcp/sluice/internal/scaffold/project/internal/tools"
)

func main() { serve.Main(tools.NewServer()) }
