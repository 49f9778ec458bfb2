package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"image"
	"image/png"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// addContentTools adds the tools that answer with each kind of content.
func addContentTools(s *mcp.Server) {
	picture := &mcp.ImageContent{Data: pngPixel(), MIMEType: "image/png"}
	for _, t := range []struct {
		name, description string
		content           []mcp.Content
	}{
		{
			"test_simple_text", "Answers with one text.",
			[]mcp.Content{&mcp.TextContent{Text: "This is a simple text response for testing."}},
		},
		{
			"test_image_content", "Answers with an image.",
			[]mcp.Content{picture},
		},
		{
			"test_audio_content", "Answers with a sound.",
			[]mcp.Content{&mcp.AudioContent{Data: wavSilence(), MIMEType: "audio/wav"}},
		},
		{
			"test_embedded_resource", "Answers with a resource.",
			[]mcp.Content{embedded("test://embedded-resource", "text/plain", "This is an embedded resource content.")},
		},
		{
			"test_multiple_content_types", "Answers with a text, an image and a resource.",
			[]mcp.Content{
				&mcp.TextContent{Text: "Multiple content types test:"},
				picture,
				embedded("test://mixed-content-resource", "application/json", `{"test":"data","value":123}`),
			},
		},
	} {
		addTool(s, t.name, t.description, func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			return &mcp.CallToolResult{Content: t.content}, nil
		})
	}
	addTool(s, "test_error_handling", "Always fails.", func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		res := text("This tool intentionally returns an error for testing")
		res.IsError = true
		return res, nil
	})
}

func embedded(uri, mimeType, body string) *mcp.EmbeddedResource {
	return &mcp.EmbeddedResource{Resource: &mcp.ResourceContents{URI: uri, MIMEType: mimeType, Text: body}}
}

// pngPixel returns an image of one transparent pixel.
func pngPixel() []byte {
	var b bytes.Buffer
	// A bytes.Buffer takes every write, and every RGBA image can be encoded.
	_ = png.Encode(&b, image.NewRGBA(image.Rect(0, 0, 1, 1)))
	return b.Bytes()
}

// wavSilence returns one sample of silence: 8 kHz, one channel, 16 bits.
func wavSilence() []byte {
	b := []byte("RIFF")
	b = binary.LittleEndian.AppendUint32(b, 38) // bytes from here to the end
	b = append(b, "WAVEfmt "...)
	b = binary.LittleEndian.AppendUint32(b, 16) // bytes of the format chunk
	b = binary.LittleEndian.AppendUint16(b, 1)  // PCM
	b = binary.LittleEndian.AppendUint16(b, 1)  // channels
	b = binary.LittleEndian.AppendUint32(b, 8000)
	b = binary.LittleEndian.AppendUint32(b, 2*8000)
	b = binary.LittleEndian.AppendUint16(b, 2)  // bytes of a sample
	b = binary.LittleEndian.AppendUint16(b, 16) // bits of a sample
	b = append(b, "data"...)
	b = binary.LittleEndian.AppendUint32(b, 2) // bytes of samples
	return append(b, 0, 0)
}
