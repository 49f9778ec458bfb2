package main

import (
	"context"
	"encoding/json"
	"strings"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// addResources adds the resources. An unknown URI is the SDK's own affair.
func addResources(s *mcp.Server) {
	add := func(name, description string, contents mcp.ResourceContents) {
		s.AddResource(&mcp.Resource{
			Name: name, Description: description, URI: contents.URI, MIMEType: contents.MIMEType,
		}, func(context.Context, *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
			return &mcp.ReadResourceResult{Contents: []*mcp.ResourceContents{&contents}}, nil
		})
	}
	add("static-text", "A text that never changes.", mcp.ResourceContents{
		URI: "test://static-text", MIMEType: "text/plain", Text: "This is the content of the static text resource.",
	})
	add("static-binary", "An image that never changes.", mcp.ResourceContents{
		URI: "test://static-binary", MIMEType: "image/png", Blob: pngPixel(),
	})
	add("watched-resource", "A text that clients may subscribe to.", mcp.ResourceContents{
		URI: "test://watched-resource", MIMEType: "text/plain", Text: "Watch me.",
	})
	s.AddResourceTemplate(&mcp.ResourceTemplate{
		Name: "template", Description: "Data by ID.", URITemplate: "test://template/{id}/data", MIMEType: "application/json",
	}, readTemplate)
}

func readTemplate(_ context.Context, req *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
	uri := req.Params.URI
	id := strings.TrimSuffix(strings.TrimPrefix(uri, "test://template/"), "/data")
	data, err := json.Marshal(map[string]any{"id": id, "templateTest": true, "data": "Data for ID: " + id})
	if err != nil {
		return nil, err
	}
	return &mcp.ReadResourceResult{Contents: []*mcp.ResourceContents{
		{URI: uri, MIMEType: "application/json", Text: string(data)},
	}}, nil
}
