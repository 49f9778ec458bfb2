// Command sluice makes MCP server projects and talks to running servers: see docs/sluice.md.
package main

import (
	"os"

	"github.com/sluice-mcp/sluice/internal/cli"
)

func main() { os.Exit(cli.Run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }
