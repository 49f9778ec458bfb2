package cli

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/spf13/cobra"

	"github.com/sluice-mcp/sluice/internal/terminal"
	"github.com/sluice-mcp/sluice/tasks"
)

func callCommand() *cobra.Command {
	var r remote
	var revision string
	var asJSON, detach bool
	cmd := &cobra.Command{
		Use:   "call URL TOOL [ARGUMENTS...]",
		Short: "Call a tool and print its result",
		Long: `Call a tool of the server at URL and print the text of its result, without control characters; --json prints all of it, with
every number as the server wrote it. Progress goes to standard error. If the tool asks the person something, it is asked on the
terminal; without one, the question is declined.

` + argumentsHelp + `

If the server makes a task of the call, its ID goes to standard error and the command waits for its end. An interrupt cancels the task.
With --detach, the ID is printed instead and the task left alone: see "sluice task".

Exit code 1 means that the call, the task or the tool failed, 3 that the server could not be reached.`,
		Example: `  sluice call http://127.0.0.1:8000/mcp add '{"a":10,"b":5}'
  sluice call http://127.0.0.1:8000/mcp add a=10 b=5 --json | jq .structuredContent.result
  sluice call http://127.0.0.1:8000/mcp count_words text=@letter.txt
  jq -n '{a:10,b:5}' | sluice call http://127.0.0.1:8000/mcp add -
  sluice call http://127.0.0.1:8000/mcp audit steps=600 delay_ms=1000 --detach
  sluice call https://example.com/mcp forecast '{"city":"Bern"}' --token-file /run/token --revision 2025-11-25`,
		Args:              cobra.MinimumNArgs(2),
		ValidArgsFunction: r.completeTool,
		RunE: func(cmd *cobra.Command, args []string) error {
			arguments, err := readArguments(args[2:], cmd.InOrStdin())
			if err != nil {
				return err
			}
			stderr := &lines{w: cmd.ErrOrStderr()}
			conn, err := r.connect(cmd.Context(), args[0], revision, answering(cmd, stderr))
			if err != nil {
				return err
			}
			defer conn.Close()
			params := &mcp.CallToolParams{Name: args[1], Arguments: arguments}
			params.SetProgressToken("sluice")
			if detach {
				return conn.detach(cmd, params, asJSON)
			}
			result, err := conn.call(cmd.Context(), params, stderr)
			if err != nil {
				return fmt.Errorf("calling %s: %w", args[1], conn.watch.explain(cmd.Context(), err))
			}
			return printResult(cmd.OutOrStdout(), args[1], result, asJSON)
		},
	}
	r.register(cmd)
	cmd.Flags().StringVar(&revision, "revision", "", "speak this revision of the protocol (default: the newest of both)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the whole result as JSON")
	cmd.Flags().BoolVar(&detach, "detach", false, "print the ID of the task that the call becomes, and do not wait for it")
	_ = cmd.RegisterFlagCompletionFunc("revision", completeRevision) // fails for a flag that does not exist
	return cmd
}

// answering has a client show progress on standard error, and ask the person at the terminal what servers want to know.
func answering(cmd *cobra.Command, stderr *lines) *mcp.ClientOptions {
	ask := &asker{in: cmd.InOrStdin(), out: stderr, stop: cmd.Context().Done()}
	return &mcp.ClientOptions{
		Capabilities: &mcp.ClientCapabilities{Elicitation: &mcp.ElicitationCapabilities{
			Form: &mcp.FormElicitationCapabilities{}, URL: &mcp.URLElicitationCapabilities{},
		}},
		ElicitationHandler: ask.answer,
		ProgressNotificationHandler: func(_ context.Context, req *mcp.ProgressNotificationClientRequest) {
			fmt.Fprintln(stderr, progressLine(req.Params))
		},
	}
}

// call calls a tool and returns its result as the server wrote it, also when the call becomes a task.
func (c *connection) call(ctx context.Context, params *mcp.CallToolParams, stderr *lines) (json.RawMessage, error) {
	show := &taskDisplay{out: stderr}
	ended := func() bool { return true }
	defer func() { ended() }()
	created := func(t *tasks.Task) {
		show.created(t)
		ended = context.AfterFunc(ctx, func() {
			fmt.Fprintln(stderr, "cancelling the task; a second interrupt leaves it running")
		})
	}
	var taskErr error
	result, err := c.ask(ctx, func(ctx context.Context) error {
		_, err := tasks.Call(ctx, c.ClientSession, params, &tasks.Options{Created: created, Changed: show.changed})
		if show.last != nil {
			taskErr, err = err, nil // the last answer is not that of the call
		}
		return err
	})
	if show.last != nil {
		return show.result(taskErr)
	}
	return result, err
}

// ask makes a call and returns its result as the server wrote it. Some arguments have to stand in headers, too; which, the client
// knows from the tool's definition, and it is fetched for a server that asks for them.
func (c *connection) ask(ctx context.Context, call func(context.Context) error) (json.RawMessage, error) {
	result, err := c.watch.tap.ask(ctx, call)
	var said *jsonrpc.Error
	if !errors.As(err, &said) || said.Code != mcp.CodeHeaderMismatch {
		return result, err
	}
	for _, err := range c.Tools(ctx, nil) {
		if err != nil {
			return nil, err
		}
	}
	return c.watch.tap.ask(ctx, call)
}

func printResult(w io.Writer, tool string, raw json.RawMessage, asJSON bool) error {
	var result toolResult
	err := json.Unmarshal(raw, &result)
	if asJSON {
		if err := printJSON(w, raw); err != nil {
			return err
		}
		if result.IsError {
			return fmt.Errorf("%s failed", tool)
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("the result of %s is malformed, see --json: %w", tool, err)
	}
	text := result.text()
	if result.IsError {
		return fmt.Errorf("%s failed: %s", tool, text)
	}
	_, err = fmt.Fprintln(w, text)
	return err
}

// A toolResult is what a person reads of a result.
type toolResult struct {
	Content []struct {
		Type, Text, Data, MIMEType, URI string
		Resource                        struct {
			URI, MIMEType string
			Text          *string
		}
	}
	StructuredContent json.RawMessage
	IsError           bool
}

// text returns the texts, or if there is none the structured content. What is neither is named.
func (r *toolResult) text() string {
	var parts []string
	for _, c := range r.Content {
		switch c.Type {
		case "text":
			parts = append(parts, c.Text)
		case "image", "audio":
			size := base64.StdEncoding.DecodedLen(len(c.Data)) - strings.Count(c.Data, "=")
			parts = append(parts, fmt.Sprintf("[%s, %s, %d bytes: see --json]", c.Type, c.MIMEType, size))
		case "resource_link":
			parts = append(parts, fmt.Sprintf("[resource %s]", c.URI))
		case "resource":
			if c.Resource.Text != nil {
				parts = append(parts, *c.Resource.Text)
			} else {
				parts = append(parts, fmt.Sprintf("[resource %s, %s: see --json]", c.Resource.URI, c.Resource.MIMEType))
			}
		default:
			parts = append(parts, fmt.Sprintf("[%s: see --json]", c.Type))
		}
	}
	if len(parts) == 0 && r.StructuredContent != nil {
		var text bytes.Buffer
		if json.Compact(&text, r.StructuredContent) == nil {
			parts = append(parts, string(terminal.JSON(text.Bytes())))
		}
	}
	return strings.Join(parts, "\n")
}

func progressLine(p *mcp.ProgressNotificationParams) string {
	number := func(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }
	line := "progress: " + number(p.Progress)
	if p.Total > 0 {
		line += " of " + number(p.Total)
	}
	if p.Message != "" {
		line += ": " + oneLine(p.Message)
	}
	return line
}

// printJSON indents v. Raw JSON in it keeps its tokens and their order.
func printJSON(w io.Writer, v any) error {
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return err
	}
	_, err := w.Write(terminal.JSON(text.Bytes()))
	return err
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
