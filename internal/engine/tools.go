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
}

type toolTable struct{ byName map[string]Tool }

// Tool returns the definition of a tool as the server lists it to this session.
// It is kept until the server says that its list has changed; before the engine watches, and from a server that does not say,
// it is read each time.
func (s *Session) Tool(ctx context.Context, name string, extra *mcp.RequestExtra) Tool {
	e := s.engine
	seen, kept := e.listed.Load(), e.tools.Load()
	// A middleware may list less to one client than to another: what is not in the list that is kept may be in this client's.
	if kept != nil {
		if tool, ok := kept.byName[name]; ok {
			return tool
		}
	}
	t := s.readTools(ctx, extra)
	if t == nil {
		return Tool{} // the list cannot be had; the call itself will say why
	}
	tool, ok := t.byName[name]
	if ok && e.Watched() && e.Describe(ctx, extra).TellsTools && e.tools.CompareAndSwap(kept, t) && e.listed.Load() != seen {
		e.tools.Store(nil) // it changed while it was read
	}
	return tool
}

func (s *Session) readTools(ctx context.Context, extra *mcp.RequestExtra) *toolTable {
	t := &toolTable{byName: make(map[string]Tool)}
	params := &mcp.ListToolsParams{}
	for {
		res, err := s.safely(ctx, "tools/list", &mcp.ListToolsRequest{Session: s.ss, Params: params, Extra: extra})
		list, ok := res.(*mcp.ListToolsResult)
		if err != nil || !ok {
			return nil
		}
		for _, tool := range list.Tools {
			t.byName[tool.Name] = describe(tool)
		}
		if list.NextCursor == "" || list.NextCursor == params.Cursor {
			return t
		}
		params = &mcp.ListToolsParams{Cursor: list.NextCursor}
	}
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
	out := Tool{}
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
