package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// callTimeout bounds one call.
const callTimeout = time.Minute

// Call calls a tool and returns its output: the structured content decoded into Out, or,
// where there is none, the text (as it is if Out is a string, else decoded as
// JSON). With Out = *mcp.CallToolResult it returns the whole result. An error of the tool or of the
// protocol ends the test.
func Call[Out any](t testing.TB, session *mcp.ClientSession, tool string, in any) Out {
	t.Helper()
	res, err := callTool(t, session, tool, in)
	if err == nil && res.IsError {
		err = fmt.Errorf("tool error: %s", resultText(res))
	}
	if err != nil {
		t.Fatalf("e2e: %s %s: %v", tool, toJSON(in), err)
	}
	out, err := decode[Out](res)
	if err != nil {
		t.Fatalf("e2e: %s %s: %v\nresult: %s", tool, toJSON(in), err, toJSON(res))
	}
	return out
}

// CallError calls a tool that must answer with an error of its own (isError) and returns its text.
func CallError(t testing.TB, session *mcp.ClientSession, tool string, in any) string {
	t.Helper()
	res, err := callTool(t, session, tool, in)
	if err != nil {
		t.Fatalf("e2e: %s %s: want a tool error, got a protocol error: %v", tool, toJSON(in), err)
	}
	if !res.IsError {
		t.Fatalf("e2e: %s %s: want a tool error, got the result %s", tool, toJSON(in), toJSON(res))
	}
	return resultText(res)
}

func callTool(t testing.TB, session *mcp.ClientSession, tool string, in any) (*mcp.CallToolResult, error) {
	ctx, cancel := context.WithTimeout(t.Context(), callTimeout)
	defer cancel()
	return session.CallTool(ctx, &mcp.CallToolParams{Name: tool, Arguments: in})
}

func decode[Out any](res *mcp.CallToolResult) (out Out, err error) {
	switch p := any(&out).(type) {
	case **mcp.CallToolResult:
		*p = res
		return out, nil
	case *string:
		if res.StructuredContent == nil {
			*p = resultText(res)
			return out, nil
		}
	}
	data := []byte(resultText(res))
	if res.StructuredContent != nil {
		// The SDK has decoded it into maps already.
		if data, err = json.Marshal(res.StructuredContent); err != nil {
			return out, err
		}
	}
	if err := json.Unmarshal(data, &out); err != nil {
		return out, fmt.Errorf("the output is not a %T: %w", out, err)
	}
	return out, nil
}

// resultText joins the text parts of a result.
func resultText(res *mcp.CallToolResult) string {
	var parts []string
	for _, c := range res.Content {
		if text, ok := c.(*mcp.TextContent); ok {
			parts = append(parts, text.Text)
		}
	}
	return strings.Join(parts, "\n")
}
