package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/spf13/cobra"
)

func inspectCommand() *cobra.Command {
	var r remote
	var revision string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "inspect URL",
		Short: "Show what a server is and what it offers",
		Long: `Show the server at URL: its name, the revision it speaks, its capabilities, tools, resources, resource templates and
prompts. In the list of tools, an argument with a question mark may be left out.`,
		Example: `  sluice inspect http://127.0.0.1:8000/mcp
  sluice inspect http://127.0.0.1:8000/mcp --json | jq -r '.tools[].name'`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			conn, err := r.connect(cmd.Context(), args[0], revision, nil)
			if err != nil {
				return err
			}
			defer conn.Close()
			offer, err := read(cmd.Context(), conn.ClientSession)
			if err != nil {
				return conn.watch.explain(cmd.Context(), err)
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), offer)
			}
			return offer.print(cmd.OutOrStdout())
		},
	}
	r.register(cmd)
	cmd.Flags().StringVar(&revision, "revision", "", "speak this revision of the protocol (default: the newest of both)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print all of it, schemas too, as JSON")
	_ = cmd.RegisterFlagCompletionFunc("revision", completeRevision) // fails for a flag that does not exist
	return cmd
}

// An offer is what a server says about itself. Lists that it does not have are empty, so that scripts can count on them.
type offer struct {
	Server            *mcp.Implementation     `json:"server"`
	Revision          string                  `json:"revision"`
	Capabilities      *mcp.ServerCapabilities `json:"capabilities"`
	Instructions      string                  `json:"instructions,omitempty"`
	Tools             []*mcp.Tool             `json:"tools"`
	Resources         []*mcp.Resource         `json:"resources"`
	ResourceTemplates []*mcp.ResourceTemplate `json:"resourceTemplates"`
	Prompts           []*mcp.Prompt           `json:"prompts"`
}

func read(ctx context.Context, session *mcp.ClientSession) (*offer, error) {
	about := session.InitializeResult()
	o := &offer{
		Server: about.ServerInfo, Revision: about.ProtocolVersion, Capabilities: about.Capabilities, Instructions: about.Instructions,
		Tools: []*mcp.Tool{}, Resources: []*mcp.Resource{}, ResourceTemplates: []*mcp.ResourceTemplate{}, Prompts: []*mcp.Prompt{},
	}
	if o.Server == nil {
		o.Server = &mcp.Implementation{}
	}
	if o.Capabilities == nil {
		o.Capabilities = &mcp.ServerCapabilities{}
	}
	if o.Capabilities.Tools != nil {
		for tool, err := range session.Tools(ctx, nil) {
			if err != nil {
				return nil, fmt.Errorf("listing tools: %w", err)
			}
			o.Tools = append(o.Tools, tool)
		}
	}
	if o.Capabilities.Resources != nil {
		for resource, err := range session.Resources(ctx, nil) {
			if err != nil {
				return nil, fmt.Errorf("listing resources: %w", err)
			}
			o.Resources = append(o.Resources, resource)
		}
		for template, err := range session.ResourceTemplates(ctx, nil) {
			if err != nil {
				return nil, fmt.Errorf("listing resource templates: %w", err)
			}
			o.ResourceTemplates = append(o.ResourceTemplates, template)
		}
	}
	if o.Capabilities.Prompts != nil {
		for prompt, err := range session.Prompts(ctx, nil) {
			if err != nil {
				return nil, fmt.Errorf("listing prompts: %w", err)
			}
			o.Prompts = append(o.Prompts, prompt)
		}
	}
	return o, nil
}

func (o *offer) print(w io.Writer) error {
	t := &table{tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)}
	t.row("server", strings.TrimSpace(o.Server.Name+" "+o.Server.Version+parenthesized(o.Server.Title)))
	t.row("revision", o.Revision)
	t.row("capabilities", strings.Join(capabilities(o.Capabilities), ", "))
	if o.Instructions != "" {
		t.row("instructions", o.Instructions)
	}
	t.head(len(o.Tools), "TOOL", "ARGUMENTS", "HINTS", "DESCRIPTION")
	for _, tool := range o.Tools {
		t.row(tool.Name, arguments(tool.InputSchema), hints(tool.Annotations), tool.Description)
	}
	t.head(len(o.Resources), "RESOURCE", "NAME", "TYPE", "DESCRIPTION")
	for _, r := range o.Resources {
		t.row(r.URI, r.Name, r.MIMEType, r.Description)
	}
	t.head(len(o.ResourceTemplates), "TEMPLATE", "NAME", "TYPE", "DESCRIPTION")
	for _, r := range o.ResourceTemplates {
		t.row(r.URITemplate, r.Name, r.MIMEType, r.Description)
	}
	t.head(len(o.Prompts), "PROMPT", "ARGUMENTS", "DESCRIPTION")
	for _, p := range o.Prompts {
		var names []string
		for _, a := range p.Arguments {
			names = append(names, optional(a.Name, !a.Required))
		}
		t.row(p.Name, strings.Join(names, " "), p.Description)
	}
	return t.w.Flush()
}

// A table has columns of the width that its widest cell needs. A server's text stays in its cell.
type table struct{ w *tabwriter.Writer }

func (t *table) row(cells ...string) {
	for i, cell := range cells {
		if cells[i] = printable(oneLine(cell)); cells[i] == "" && i < len(cells)-1 {
			cells[i] = "-"
		}
	}
	fmt.Fprintln(t.w, strings.Join(cells, "\t"))
}

// head begins a part of the table, unless that has no rows.
func (t *table) head(rows int, cells ...string) {
	if rows == 0 {
		return
	}
	// An empty line ends the columns; each part has its own widths.
	fmt.Fprintln(t.w)
	fmt.Fprintln(t.w, strings.Join(cells, "\t"))
}

// printable takes out what could move the cursor or change the terminal's state.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return -1
		}
		return r
	}, s)
}

func parenthesized(s string) string {
	if s == "" {
		return ""
	}
	return " (" + s + ")"
}

func optional(name string, isOptional bool) string {
	if isOptional {
		return name + "?"
	}
	return name
}

// arguments lists the properties of a tool's input, those that are required first.
func arguments(schema any) string {
	object, _ := schema.(map[string]any)
	properties, _ := object["properties"].(map[string]any)
	required, _ := object["required"].([]any)
	var must, may []string
	for name := range properties {
		if slices.Contains(required, any(name)) {
			must = append(must, name)
		} else {
			may = append(may, optional(name, true))
		}
	}
	slices.Sort(must)
	slices.Sort(may)
	return strings.Join(append(must, may...), " ")
}

func hints(a *mcp.ToolAnnotations) string {
	if a == nil {
		return ""
	}
	var said []string
	if a.ReadOnlyHint {
		said = append(said, "read-only")
	} else if a.DestructiveHint != nil && *a.DestructiveHint {
		said = append(said, "destructive")
	}
	if a.IdempotentHint {
		said = append(said, "idempotent")
	}
	return strings.Join(said, ",")
}

func capabilities(c *mcp.ServerCapabilities) []string {
	var names []string
	for name, has := range map[string]bool{
		"tools": c.Tools != nil, "resources": c.Resources != nil, "prompts": c.Prompts != nil,
		"completions": c.Completions != nil, "logging": c.Logging != nil,
	} {
		if has {
			names = append(names, name)
		}
	}
	for name := range c.Extensions {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
