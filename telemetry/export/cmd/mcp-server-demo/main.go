// Command mcp-server-demo is the demo server of the main module with telemetry.
package main

import (
	"github.com/sluice-mcp/sluice/internal/demo"
	"github.com/sluice-mcp/sluice/serve"
	"github.com/sluice-mcp/sluice/telemetry/export"
)

func main() { serve.Main(demo.Server(), serve.WithTelemetry(export.New(export.Options{}))) }
