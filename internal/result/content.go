package result

import (
	"encoding/json"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice/internal/wire"
)

// The SDK leaves empty members out of some content that every revision requires, and knows no content that a revision does
// not have. The types here are written as the schemas have it; to the SDK they are what they embed.

// contents returns content that clients of the revision can read, and never nil. It is in itself if that can stay as it is.
func (r rules) contents(in []mcp.Content) []mcp.Content {
	for i, c := range in {
		if _, fits := r.content(c); !fits {
			out := append(make([]mcp.Content, 0, len(in)), in[:i]...)
			for _, c := range in[i:] {
				if c, _ = r.content(c); c != nil {
					out = append(out, c)
				}
			}
			return out
		}
	}
	if in == nil {
		return []mcp.Content{}
	}
	return in
}

// block returns one block where there must be one.
func (r rules) block(c mcp.Content) mcp.Content {
	if c, _ = r.content(c); c == nil {
		return &mcp.TextContent{}
	}
	return c
}

// content returns c, and true, if clients of the revision can read it; else what to write in its place, or nil for nothing.
func (r rules) content(c mcp.Content) (mcp.Content, bool) {
	switch c := c.(type) {
	case nil:
		return nil, false
	case *mcp.TextContent:
		if c != nil {
			return c, true
		}
	case *mcp.ImageContent:
		if c != nil {
			return c, true
		}
	case *mcp.AudioContent:
		switch {
		case c == nil:
		case r.revision < wire.Rev0326: // there is no audio in it, but a resource may be anything
			blob := &mcp.ResourceContents{URI: "data:" + c.MIMEType + ",", MIMEType: c.MIMEType, Blob: c.Data}
			if blob.Blob == nil {
				blob.Blob = []byte{}
			}
			return &mcp.EmbeddedResource{Resource: blob, Meta: c.Meta, Annotations: c.Annotations}, false
		default:
			return c, true
		}
	case *mcp.ResourceLink:
		switch {
		case c == nil:
		case r.revision < wire.Rev0618: // there are no links in it; a model can read the URI
			return &mcp.TextContent{Text: linkText(c), Meta: c.Meta, Annotations: c.Annotations}, false
		case c.Name == "" || c.URI == "":
			return link{c}, false
		default:
			return c, true
		}
	case *mcp.EmbeddedResource:
		switch {
		case c == nil:
		case c.Resource == nil || isBare(c.Resource):
			return embedded{c}, false
		default:
			return c, true
		}
	case *mcp.ToolResultContent:
		if c != nil {
			return r.toolResult(c), false
		}
	default:
		return c, true
	}
	return nil, false
}

func linkText(c *mcp.ResourceLink) string {
	for _, title := range []string{c.Title, c.Name} {
		if title != "" && title != c.URI {
			return title + ": " + c.URI
		}
	}
	return c.URI
}

// isBare reports whether the SDK would write neither the text nor the blob of a resource. One of them is required.
func isBare(c *mcp.ResourceContents) bool { return c != nil && c.Text == "" && c.Blob == nil }

// bareText writes the contents of a resource that is empty.
func bareText(c *mcp.ResourceContents) any {
	if c == nil {
		c = &mcp.ResourceContents{}
	}
	return struct {
		URI      string   `json:"uri"`
		MIMEType string   `json:"mimeType,omitempty"`
		Text     string   `json:"text"`
		Meta     mcp.Meta `json:"_meta,omitempty"`
	}{c.URI, c.MIMEType, "", c.Meta}
}

// embedded is an embedded resource without contents.
type embedded struct{ *mcp.EmbeddedResource }

func (c embedded) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Type        string           `json:"type"`
		Resource    any              `json:"resource"`
		Meta        mcp.Meta         `json:"_meta,omitempty"`
		Annotations *mcp.Annotations `json:"annotations,omitempty"`
	}{"resource", bareText(c.Resource), c.Meta, c.Annotations})
}

// link is a link to a resource without a name or a URI.
type link struct{ *mcp.ResourceLink }

func (c link) MarshalJSON() ([]byte, error) {
	raw, err := c.ResourceLink.MarshalJSON()
	if err != nil {
		return nil, err
	}
	empty := []byte(`""`)
	return wire.SetMembers(raw, wire.Pair{Key: "uri", Value: empty}, wire.Pair{Key: "name", Value: empty}), nil
}

// toolResult is the result of a tool in a message of sampling. The SDK writes the content in it by way of a type that loses what
// is empty.
type toolResult struct {
	*mcp.ToolResultContent
	content    []mcp.Content
	structured any
}

func (r rules) toolResult(c *mcp.ToolResultContent) toolResult {
	content, structured := r.output(c.Content, c.StructuredContent, c.IsError)
	return toolResult{c, content, structured}
}

func (c toolResult) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Type       string        `json:"type"`
		ToolUseID  string        `json:"toolUseId"`
		Content    []mcp.Content `json:"content"`
		Structured any           `json:"structuredContent,omitempty"`
		IsError    bool          `json:"isError,omitempty"`
		Meta       mcp.Meta      `json:"_meta,omitempty"`
	}{"tool_result", c.ToolUseID, c.content, c.structured, c.IsError, c.Meta})
}
