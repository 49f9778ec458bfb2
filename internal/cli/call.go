package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/spf13/cobra"
)

func callCommand() *cobra.Command {
	var r remote
	var revision string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "call URL TOOL [ARGUMENTS]",
		Short: "Call a tool and print its result",
		Long: `Call a tool of the server at URL, with ARGUMENTS as a JSON object, and print the text of its result. Progress goes to
standard error. If the tool asks the person something, it is asked on the terminal; without one, the question is declined.

Exit code 1 means that the call or the tool failed, 3 that the server could not be reached.`,
		Example: `  sluice call http://127.0.0.1:8000/mcp add '{"a":10,"b":5}'
  sluice call http://127.0.0.1:8000/mcp add '{"a":10,"b":5}' --json | jq .structuredContent.result
  sluice call https://example.com/mcp forecast '{"city":"Bern"}' --token-file /run/token --revision 2025-11-25`,
		Args:              cobra.RangeArgs(2, 3),
		ValidArgsFunction: r.completeTool,
		RunE: func(cmd *cobra.Command, args []string) error {
			arguments := json.RawMessage("{}")
			if len(args) == 3 {
				arguments = json.RawMessage(args[2])
			}
			var object map[string]json.RawMessage
			if err := json.Unmarshal(arguments, &object); err != nil || object == nil {
				return usagef("ARGUMENTS: %s is not a JSON object such as {\"a\":10}", oneLine(string(arguments)))
			}
			stderr := &lines{w: cmd.ErrOrStderr()}
			ask := &asker{in: cmd.InOrStdin(), out: stderr, stop: cmd.Context().Done()}
			conn, err := r.connect(cmd.Context(), args[0], revision, &mcp.ClientOptions{
				Capabilities: &mcp.ClientCapabilities{Elicitation: &mcp.ElicitationCapabilities{
					Form: &mcp.FormElicitationCapabilities{}, URL: &mcp.URLElicitationCapabilities{},
				}},
				ElicitationHandler: ask.answer,
				ProgressNotificationHandler: func(_ context.Context, req *mcp.ProgressNotificationClientRequest) {
					fmt.Fprintln(stderr, progressLine(req.Params))
				},
			})
			if err != nil {
				return err
			}
			defer conn.Close()
			result, err := conn.call(cmd.Context(), args[1], arguments)
			if err != nil {
				return fmt.Errorf("calling %s: %w", args[1], conn.watch.explain(cmd.Context(), err))
			}
			return printResult(cmd.OutOrStdout(), args[1], result, asJSON)
		},
	}
	r.register(cmd)
	cmd.Flags().StringVar(&revision, "revision", "", "speak this revision of the protocol (default: the newest of both)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the whole result as JSON")
	_ = cmd.RegisterFlagCompletionFunc("revision", completeRevision) // fails for a flag that does not exist
	return cmd
}

// call calls a tool. Some arguments have to stand in headers, too; which, the client knows from the tool's definition,
// and it is fetched for a server that asks for them.
func (c *connection) call(ctx context.Context, tool string, arguments json.RawMessage) (*mcp.CallToolResult, error) {
	params := &mcp.CallToolParams{Name: tool, Arguments: arguments}
	params.SetProgressToken("sluice")
	result, err := c.CallTool(ctx, params)
	var said *jsonrpc.Error
	if !errors.As(err, &said) || said.Code != mcp.CodeHeaderMismatch {
		return result, err
	}
	for _, err := range c.Tools(ctx, nil) {
		if err != nil {
			return nil, err
		}
	}
	return c.CallTool(ctx, params)
}

func printResult(w io.Writer, tool string, result *mcp.CallToolResult, asJSON bool) error {
	if asJSON {
		if err := printJSON(w, result); err != nil {
			return err
		}
		if result.IsError {
			return fmt.Errorf("%s failed", tool)
		}
		return nil
	}
	text := resultText(result)
	if result.IsError {
		return fmt.Errorf("%s failed: %s", tool, text)
	}
	_, err := fmt.Fprintln(w, text)
	return err
}

// resultText is what a person reads of a result: its texts, or if there is none its structured content. What is neither is
// named.
func resultText(result *mcp.CallToolResult) string {
	var parts []string
	for _, content := range result.Content {
		switch c := content.(type) {
		case *mcp.TextContent:
			parts = append(parts, c.Text)
		case *mcp.ImageContent:
			parts = append(parts, fmt.Sprintf("[image, %s, %d bytes: see --json]", c.MIMEType, len(c.Data)))
		case *mcp.AudioContent:
			parts = append(parts, fmt.Sprintf("[audio, %s, %d bytes: see --json]", c.MIMEType, len(c.Data)))
		case *mcp.ResourceLink:
			parts = append(parts, fmt.Sprintf("[resource %s]", c.URI))
		case *mcp.EmbeddedResource:
			if c.Resource != nil && c.Resource.Text != "" {
				parts = append(parts, c.Resource.Text)
			} else if c.Resource != nil {
				parts = append(parts, fmt.Sprintf("[resource %s, %s: see --json]", c.Resource.URI, c.Resource.MIMEType))
			}
		}
	}
	if len(parts) == 0 && result.StructuredContent != nil {
		if text, err := json.Marshal(result.StructuredContent); err == nil {
			parts = append(parts, string(text))
		}
	}
	return strings.Join(parts, "\n")
}

func progressLine(p *mcp.ProgressNotificationParams) string {
	line := fmt.Sprintf("progress: %v", p.Progress)
	if p.Total > 0 {
		line += fmt.Sprintf(" of %v", p.Total)
	}
	if p.Message != "" {
		line += ": " + oneLine(p.Message)
	}
	return line
}

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// lines lets goroutines share a writer.
type lines struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}
