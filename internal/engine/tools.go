package engine

import (
	"context"
	"encoding/json"
	"net/textproto"
	"slices"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice/internal/wire"
)

// Tool is what the endpoint needs to know of a tool's definition.
type Tool struct {
	// Repeatable reports that the tool is annotated read-only or idempotent: it may run again
	// when its replica is lost.
	Repeatable bool
	// Headers are the Mcp-Param-* headers that mirror its arguments.
	Headers []wire.ParamHeader
	// Task is what its owner has said of its calls as tasks, or nil.
	Task *TaskHint
}

// MetaTask is the key in a tool's _meta under which its [TaskHint] stands, as JSON.
const MetaTask = "io.github.sluice-mcp/task"

// TaskHint says when calls of a tool become tasks. Times are in milliseconds; zero is the endpoint's.
type TaskHint struct {
	Mode         string `json:"mode"` // never, prefer, require; "" is left to the endpoint
	AskFirst     bool   `json:"askFirst,omitempty"`
	TTL          int64  `json:"ttlMs,omitempty"`
	Keep         int64  `json:"keepMs,omitempty"`
	PollInterval int64  `json:"pollIntervalMs,omitempty"`
}

// HasTasks reports whether the server lists to this session a tool whose calls may become tasks by its owner's word.
func (s *Session) HasTasks(ctx context.Context, extra *mcp.RequestExtra) bool {
	for _, tool := range s.readTools(ctx, extra) {
		if tool.Task != nil && tool.Task.Mode != "never" {
			return true
		}
	}
	return false
}

// RequireTasks returns the names of the tools whose calls must be tasks, as the server lists them to a stranger.
func (e *Engine) RequireTasks(ctx context.Context) (names []string) {
	s, err := e.Connect(ctx, "", watcherState(), Mute{})
	if err != nil {
		return nil
	}
	defer s.Close()
	for name, tool := range s.readTools(ctx, &mcp.RequestExtra{}) {
		if tool.Task != nil && tool.Task.Mode == "require" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// Tool returns the definition of a tool as the server lists it to this session, or none if the list cannot be had: the call
// itself will say why.
func (s *Session) Tool(ctx context.Context, name string, extra *mcp.RequestExtra) Tool {
	tool, _ := s.tool(ctx, name, extra)
	return tool
}

func (s *Session) tool(ctx context.Context, name string, extra *mcp.RequestExtra) (Tool, bool) {
	e := s.engine
	return e.tools.find(name,
		func() map[string]Tool { return s.readTools(ctx, extra) },
		func() bool { return e.Watched() && e.Describe(ctx, extra).TellsTools })
}

func (s *Session) readTools(ctx context.Context, extra *mcp.RequestExtra) map[string]Tool {
	all := make(map[string]Tool)
	ok := eachPage(func(cursor string) (string, bool) {
		params := &mcp.ListToolsParams{Cursor: cursor}
		res, err := s.safely(ctx, "tools/list", &mcp.ListToolsRequest{Session: s.ss, Params: params, Extra: extra})
		list, ok := res.(*mcp.ListToolsResult)
		if err != nil || !ok || list == nil {
			return "", false
		}
		for _, tool := range present(list.Tools) {
			all[tool.Name] = describe(tool)
		}
		return list.NextCursor, true
	})
	if !ok {
		return nil
	}
	return all
}

func (s *Session) safely(ctx context.Context, method string, req mcp.Request) (res mcp.Result, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = s.engine.panicked(method, p)
		}
	}()
	return s.engine.composed()(ctx, method, req)
}

func describe(t *mcp.Tool) Tool {
	out := Tool{Task: taskHint(t.Meta)}
	if a := t.Annotations; a != nil {
		out.Repeatable = a.ReadOnlyHint || a.IdempotentHint
	}
	schema, err := json.Marshal(t.InputSchema)
	if err != nil {
		return out
	}
	out.Headers = paramHeaders(nil, nil, schema)
	return out
}

// taskHint reads what [MetaTask] says, whether it was written in Go or came as JSON.
func taskHint(meta mcp.Meta) *TaskHint {
	said, ok := meta[MetaTask]
	if !ok {
		return nil
	}
	raw, err := json.Marshal(said)
	hint := new(TaskHint)
	if err != nil || json.Unmarshal(raw, hint) != nil {
		return nil
	}
	for _, v := range []*int64{&hint.TTL, &hint.Keep, &hint.PollInterval} {
		*v = max(0, *v) // a time of less than nothing is none
	}
	return hint
}

// paramHeaders collects the x-mcp-header annotations that are reachable from the
// schema's root through properties alone ("Schema Extension").
func paramHeaders(out []wire.ParamHeader, path []string, schema []byte) []wire.ParamHeader {
	var s struct {
		Properties map[string]json.RawMessage `json:"properties"`
	}
	if json.Unmarshal(schema, &s) != nil {
		return out
	}
	for name, property := range s.Properties {
		at := append(slices.Clip(path), name)
		var p struct {
			Header string `json:"x-mcp-header"`
		}
		if json.Unmarshal(property, &p) == nil && p.Header != "" {
			out = append(out, wire.ParamHeader{Path: at, Header: textproto.CanonicalMIMEHeaderKey(wire.HeaderParamPrefix + p.Header)})
		}
		out = paramHeaders(out, at, property)
	}
	return out
}
