package tools

import (
	"context"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

const limitsURI = "limits://common"

const limitsText = `| text | words |
|---|---|
| headline | 10 |
| abstract | 250 |
| cover letter | 400 |
| blog post | 1500 |
`

// limits is a resource: text that a client reads by its URI.
func limits(context.Context, *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
	return &mcp.ReadResourceResult{
		Contents: []*mcp.ResourceContents{{URI: limitsURI, MIMEType: "text/markdown", Text: limitsText}},
	}, nil
}
