package sluice

import (
	"context"
	"log/slog"
	"maps"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice/internal/engine"
	"github.com/sluice-mcp/sluice/internal/task"
)

// TaskMode says when a call of a tool becomes a task (the Tasks extension, SEP-2663): the client gets a handle at once and asks
// for the result later, at any replica. Only clients of 2026-07-28 that declare the extension get tasks. For clients of
// sessions nothing changes: their streams are what tasks are here.
type TaskMode string

// The zero TaskMode leaves it to [Options.TaskAfter].
const (
	// TaskNever: the call is answered as ever.
	TaskNever TaskMode = "never"
	// TaskPrefer: a task for clients that can have one, an ordinary call for others.
	TaskPrefer TaskMode = "prefer"
	// TaskRequire: a client of 2026-07-28 that cannot have a task is refused with -32021.
	TaskRequire TaskMode = "require"
)

// TaskOptions say how the calls of a tool are tasks. Zero times are the handler's, see [Options].
type TaskOptions struct {
	Mode TaskMode
	// AskFirst has a call begin as an ordinary one: what its tool asks the client then is asked in the call, and the call that
	// brings the answers becomes the task. A tool that asks nothing has answered by then.
	AskFirst bool
	// TTL is how long a task may take, from its creation.
	TTL time.Duration
	// Keep is how long the end of a task can be seen, at least.
	Keep time.Duration
	// PollInterval is how often a client is asked to look.
	PollInterval time.Duration
}

// MarkTask has the calls of a tool become tasks. It writes into the tool's Meta, so it works with [AddTool], [mcp.AddTool] and
// [mcp.Server.AddTool] alike; call it before.
//
// The tool's handler stays what it is. Its progress becomes the task's status message. What it asks for with input requests
// is asked for by the task, and the handler is called again with the answers. Its context ends when the client cancels the task, or
// when the time is up. When its replica is lost, another one calls a handler again whose tool is annotated
// read-only or idempotent; other tasks end as failed.
func MarkTask(t *mcp.Tool, o TaskOptions) {
	meta := make(mcp.Meta, len(t.Meta)+1)
	maps.Copy(meta, t.Meta)
	meta[engine.MetaTask] = &engine.TaskHint{
		Mode:         string(o.Mode),
		AskFirst:     o.AskFirst,
		TTL:          o.TTL.Milliseconds(),
		Keep:         o.Keep.Milliseconds(),
		PollInterval: o.PollInterval.Milliseconds(),
	}
	t.Meta = meta
}

// ToolsRequiringTasks returns the names of a server's tools that are marked with [TaskRequire], for a program that has reason to set
// [Options.NoTasks]: their calls would be ordinary ones. It knows those that the server lists to whoever asks, now.
func ToolsRequiringTasks(ctx context.Context, server *mcp.Server) []string {
	return engine.New(server, slog.New(slog.DiscardHandler)).RequireTasks(ctx)
}

// TaskID returns the ID of the task that a handler works on, by the context that it was called with.
func TaskID(ctx context.Context) (id string, ok bool) { return task.ID(ctx) }
