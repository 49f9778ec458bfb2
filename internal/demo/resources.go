package demo

import (
	"context"
	"net/url"
	"strings"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

const greetingScheme = "greeting://"

func about(_ context.Context, req *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
	return plain(req.Params.URI, "A small MCP server to try a client with: "+
		"tools add, countdown, audit and book_table, resource "+greetingScheme+"{name}, prompt welcome."), nil
}

func greeting(_ context.Context, req *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
	uri := req.Params.URI
	name, err := url.PathUnescape(strings.TrimPrefix(uri, greetingScheme))
	if err != nil || name == "" {
		return nil, mcp.ResourceNotFoundError(uri)
	}
	return plain(uri, "Hello, "+name+"!"), nil
}

func plain(uri, s string) *mcp.ReadResourceResult {
	return &mcp.ReadResourceResult{
		Contents: []*mcp.ResourceContents{{URI: uri, MIMEType: "text/plain", Text: s}},
	}
}
