package cli

import (
	"context"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/spf13/cobra"
)

// completeTimeout bounds how long a shell waits for the names of a server's tools.
const completeTimeout = 3 * time.Second

// completeTool asks the server at the URL that was typed for its tools. The flags that were typed apply.
func (r *remote) completeTool(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) != 1 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), completeTimeout)
	defer cancel()
	conn, err := r.connect(ctx, args[0], "", nil)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	defer conn.Close()
	var names []cobra.Completion
	for tool, err := range conn.Tools(ctx, nil) {
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		names = append(names, cobra.CompletionWithDesc(oneLine(tool.Name), oneLine(tool.Description)))
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

func completeRevision(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return mcp.SupportedProtocolVersions(), cobra.ShellCompDirectiveNoFileComp
}
