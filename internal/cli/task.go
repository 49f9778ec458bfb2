package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/spf13/cobra"

	"github.com/sluice-mcp/sluice/tasks"
)

func taskCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "task",
		Short: "Come back to a task",
		Long: `Come back to a task that a call has become, from wherever: see "sluice call --detach". The same flags say who you are, and a server
shows a task only to whom it belongs.`,
		Example: `  id=$(sluice call http://127.0.0.1:8000/mcp audit steps=600 delay_ms=1000 --detach)
  sluice task get http://127.0.0.1:8000/mcp $id
  sluice task wait http://127.0.0.1:8000/mcp $id
  sluice task cancel http://127.0.0.1:8000/mcp $id`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(taskGetCommand(), taskWaitCommand(), taskCancelCommand())
	return cmd
}

func taskGetCommand() *cobra.Command {
	var r remote
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "get URL ID",
		Short: "Show how a task is doing",
		Args:  cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			conn, err := r.connect(cmd.Context(), args[0], "", nil)
			if err != nil {
				return err
			}
			defer conn.Close()
			var t *tasks.Task
			raw, err := conn.watch.tap.ask(cmd.Context(), func(ctx context.Context) (err error) {
				t, err = tasks.Get(ctx, conn.ClientSession, args[1])
				return err
			})
			switch {
			case err != nil:
				return conn.watch.explain(cmd.Context(), err)
			case asJSON:
				return printJSON(cmd.OutOrStdout(), raw)
			case t == nil:
				return errors.New("what the server says of the task is malformed, see --json")
			}
			return printTask(cmd.OutOrStdout(), t)
		},
	}
	r.register(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print all that the server says of it, its result too, as JSON")
	return cmd
}

func taskWaitCommand() *cobra.Command {
	var r remote
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "wait URL ID",
		Short: "Wait for the end of a task, and print its result",
		Long: `Wait for the end of a task and print its result, as "sluice call" does. What the task asks until then is asked on the terminal. An
interrupt leaves the task as it is.`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			stderr := &lines{w: cmd.ErrOrStderr()}
			conn, err := r.connect(cmd.Context(), args[0], "", answering(cmd, stderr))
			if err != nil {
				return err
			}
			defer conn.Close()
			show := &taskDisplay{out: stderr}
			_, err = tasks.Wait(cmd.Context(), conn.ClientSession, args[1], &tasks.Options{Changed: show.changed})
			result, err := show.result(err)
			if err != nil {
				return conn.watch.explain(cmd.Context(), err)
			}
			return printResult(cmd.OutOrStdout(), "task "+args[1], result, asJSON)
		},
	}
	r.register(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the whole result as JSON")
	return cmd
}

func taskCancelCommand() *cobra.Command {
	var r remote
	cmd := &cobra.Command{
		Use:   "cancel URL ID",
		Short: "Ask the server to end a task",
		Args:  cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			conn, err := r.connect(cmd.Context(), args[0], "", nil)
			if err != nil {
				return err
			}
			defer conn.Close()
			if err := tasks.Cancel(cmd.Context(), conn.ClientSession, args[1]); err != nil {
				return conn.watch.explain(cmd.Context(), err)
			}
			return nil
		},
	}
	r.register(cmd)
	return cmd
}

// detach calls a tool and prints the ID of the task that the call becomes. The result of a call that becomes none is printed as ever.
func (c *connection) detach(cmd *cobra.Command, params *mcp.CallToolParams, asJSON bool) error {
	var t *tasks.Task
	raw, err := c.ask(cmd.Context(), func(ctx context.Context) (err error) {
		t, _, err = tasks.Start(ctx, c.ClientSession, params)
		return err
	})
	switch {
	case err != nil:
		return fmt.Errorf("calling %s: %w", params.Name, c.watch.explain(cmd.Context(), err))
	case t == nil:
		fmt.Fprintln(cmd.ErrOrStderr(), "this is no task: the server has answered at once")
		return printResult(cmd.OutOrStdout(), params.Name, raw, asJSON)
	case asJSON:
		return printJSON(cmd.OutOrStdout(), raw)
	}
	_, err = fmt.Fprintln(cmd.OutOrStdout(), t.ID)
	return err
}

// A taskDisplay shows a task on its way, and keeps what the server has said of it last.
type taskDisplay struct {
	out  io.Writer
	last *tasks.Task
}

func (d *taskDisplay) created(t *tasks.Task) {
	fmt.Fprintf(d.out, "task: %s\n", t.ID)
	d.changed(t)
}

func (d *taskDisplay) changed(t *tasks.Task) {
	d.last = t
	line := string(t.Status)
	switch t.Status {
	case tasks.Completed, tasks.Failed, tasks.Cancelled:
		return // the command's end says it
	case tasks.InputRequired: // and what is required
	case tasks.Working:
		if t.StatusMessage != "" {
			line += ": " + oneLine(t.StatusMessage)
		}
	}
	fmt.Fprintln(d.out, line)
}

// result returns the result of a task as the server wrote it. That the SDK cannot read it is no error.
func (d *taskDisplay) result(err error) (json.RawMessage, error) {
	if d.last != nil && d.last.Status == tasks.Completed {
		return d.last.Result, nil
	}
	return nil, err
}

func printTask(w io.Writer, t *tasks.Task) error {
	rows := &table{tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)}
	rows.row("status", string(t.Status))
	if t.StatusMessage != "" {
		rows.row("message", t.StatusMessage)
	}
	for _, key := range slices.Sorted(maps.Keys(t.InputRequests)) {
		question := "something of your client"
		if p, ok := t.InputRequests[key].(*mcp.ElicitParams); ok {
			question = p.Message
		}
		rows.row("asks", question)
	}
	if t.Error != nil {
		rows.row("error", fmt.Sprintf("%s (%d)", t.Error.Message, t.Error.Code))
	}
	rows.time("created", t.CreatedAt)
	rows.time("updated", t.LastUpdatedAt)
	if t.TTL > 0 && !t.CreatedAt.IsZero() {
		rows.time("kept until", t.CreatedAt.Add(t.TTL))
	}
	return rows.w.Flush()
}

// time is a row for a time that may be unknown.
func (t *table) time(name string, at time.Time) {
	if !at.IsZero() {
		t.row(name, at.Local().Format(time.RFC3339))
	}
}
