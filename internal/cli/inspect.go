package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/spf13/cobra"

	"github.com/sluice-mcp/sluice/internal/terminal"
)

func inspectCommand() *cobra.Command {
	var r remote
	var revision string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "inspect URL",
		Short: "Show what a server is and what it offers",
		Long: `Show the server at URL: its name, the revision it speaks, its capabilities, tools, resources, resource templates and
prompts. In the list of tools, an argument with a question mark may be left out.

What cannot be read is left out, and a line on standard error says so; the exit code is then 1.`,
		Example: `  sluice inspect http://127.0.0.1:8000/mcp
  sluice inspect http://127.0.0.1:8000/mcp --json | jq -r '.tools[].name'`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			open := func() (*connection, error) { return r.connect(cmd.Context(), args[0], revision, nil) }
			conn, err := open()
			if err != nil {
				return err
			}
			lists := &reader{conn: conn, open: open}
			defer lists.close()
			offer := newOffer(conn)
			for _, l := range offer.lists(conn.InitializeResult().Capabilities) {
				lists.read(cmd.Context(), l)
			}
			if cmd.Context().Err() != nil {
				return cmd.Context().Err()
			}
			offer.Problems = lists.problems
			if asJSON {
				err = printJSON(cmd.OutOrStdout(), offer)
			} else {
				err = offer.print(cmd.OutOrStdout())
			}
			for _, problem := range offer.Problems {
				fmt.Fprintf(cmd.ErrOrStderr(), "sluice: %s\n", problem)
			}
			if err == nil && len(offer.Problems) > 0 {
				err = errors.New("this is not all that the server declares")
			}
			return err
		},
	}
	r.register(cmd)
	cmd.Flags().StringVar(&revision, "revision", "", "speak this revision of the protocol (default: the newest of both)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print all of it, schemas too, as JSON")
	_ = cmd.RegisterFlagCompletionFunc("revision", completeRevision) // fails for a flag that does not exist
	return cmd
}

// An offer is what a server says about itself, as it is on the wire. Lists that it does not have are empty, so that scripts can
// count on them.
type offer struct {
	Server            *mcp.Implementation `json:"server"`
	Revision          string              `json:"revision"`
	Capabilities      json.RawMessage     `json:"capabilities"`
	Instructions      string              `json:"instructions,omitempty"`
	Tools             []json.RawMessage   `json:"tools"`
	Resources         []json.RawMessage   `json:"resources"`
	ResourceTemplates []json.RawMessage   `json:"resourceTemplates"`
	Prompts           []json.RawMessage   `json:"prompts"`
	Problems          []string            `json:"problems,omitempty"` // what could not be read
}

// newOffer returns what the server has said to open the connection.
func newOffer(conn *connection) *offer {
	about := conn.InitializeResult()
	o := &offer{
		Server: about.ServerInfo, Revision: about.ProtocolVersion, Capabilities: conn.capabilities, Instructions: about.Instructions,
		Tools: []json.RawMessage{}, Resources: []json.RawMessage{}, ResourceTemplates: []json.RawMessage{}, Prompts: []json.RawMessage{},
	}
	if o.Server == nil {
		o.Server = &mcp.Implementation{}
	}
	return o
}

func (o *offer) print(w io.Writer) error {
	t := &table{tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)}
	t.row("server", strings.TrimSpace(o.Server.Name+" "+o.Server.Version+parenthesized(o.Server.Title)))
	t.row("revision", o.Revision)
	t.row("capabilities", strings.Join(keys(o.Capabilities), ", "))
	if o.Instructions != "" {
		t.row("instructions", o.Instructions)
	}
	t.head(len(o.Tools), "TOOL", "ARGUMENTS", "HINTS", "DESCRIPTION")
	for _, tool := range shown[tool](o.Tools) {
		t.row(tool.Name, tool.arguments(), tool.hints(), tool.Description)
	}
	t.head(len(o.Resources), "RESOURCE", "NAME", "TYPE", "DESCRIPTION")
	for _, r := range shown[resource](o.Resources) {
		t.row(r.URI, r.Name, r.MIMEType, r.Description)
	}
	t.head(len(o.ResourceTemplates), "TEMPLATE", "NAME", "TYPE", "DESCRIPTION")
	for _, r := range shown[template](o.ResourceTemplates) {
		t.row(r.URITemplate, r.Name, r.MIMEType, r.Description)
	}
	t.head(len(o.Prompts), "PROMPT", "ARGUMENTS", "DESCRIPTION")
	for _, p := range shown[prompt](o.Prompts) {
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
		if cells[i] = terminal.Text(oneLine(cell)); cells[i] == "" && i < len(cells)-1 {
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
func (t tool) arguments() string {
	var schema struct {
		Properties map[string]json.RawMessage
		Required   []string
	}
	_ = json.Unmarshal(t.InputSchema, &schema) // what cannot be read of a schema is not shown
	var must, may []string
	for name := range schema.Properties {
		if slices.Contains(schema.Required, name) {
			must = append(must, name)
		} else {
			may = append(may, optional(name, true))
		}
	}
	slices.Sort(must)
	slices.Sort(may)
	return strings.Join(append(must, may...), " ")
}

func (t tool) hints() string {
	if t.Annotations == nil {
		return ""
	}
	var said []string
	if t.Annotations.ReadOnlyHint {
		said = append(said, "read-only")
	} else if t.Annotations.DestructiveHint {
		said = append(said, "destructive")
	}
	if t.Annotations.IdempotentHint {
		said = append(said, "idempotent")
	}
	return strings.Join(said, ",")
}

// keys lists the names of capabilities and of extensions.
func keys(capabilities json.RawMessage) []string {
	var all, extensions map[string]json.RawMessage
	_ = json.Unmarshal(capabilities, &all)
	_ = json.Unmarshal(all["extensions"], &extensions)
	delete(all, "extensions")
	names := slices.AppendSeq(slices.Collect(maps.Keys(all)), maps.Keys(extensions))
	slices.Sort(names)
	return names
}
