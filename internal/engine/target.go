package engine

import (
	"context"
	"sync"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice/internal/wire"
	"github.com/sluice-mcp/sluice/observe"
)

// Target returns the name of the tool or prompt that a call of a method is about, if the server lists it, else [observe.Other]; and ""
// for a method that is about neither. name is as it stands in the params. lists is asked what is not known without asking the server.
func (e *Engine) Target(method string, name []byte, lists func(name string) bool) string {
	var kept func(string) bool
	var seen *names
	switch method {
	case "tools/call":
		kept, seen = e.tools.has, &e.toolNames
	case "prompts/get":
		kept, seen = e.prompts.has, &e.promptNames
	default:
		return ""
	}
	if len(name) == 0 || name[0] != '"' {
		return observe.Other
	}
	target := wire.Unquote(name)
	switch {
	case kept(target), !e.Watched() && seen.has(target):
		return target
	case lists(target):
		seen.add(target)
		return target
	}
	return observe.Other
}

// NoTarget is [Engine.Target] where nobody can be asked.
func NoTarget(method string) string {
	if method == "tools/call" || method == "prompts/get" {
		return observe.Other
	}
	return ""
}

// names are those that a server has listed once. Of one that nobody watches no list is kept, and to read it for each call would cost
// more than the call. Here a list that has changed does no harm: there are no more names than the server itself has thought of.
type names struct {
	mu  sync.RWMutex
	set map[string]struct{}
}

// maxNames bounds them for a server that never stops thinking of new ones.
const maxNames = 1024

func (n *names) has(name string) bool {
	n.mu.RLock()
	defer n.mu.RUnlock()
	_, ok := n.set[name]
	return ok
}

func (n *names) add(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.set == nil || len(n.set) >= maxNames {
		n.set = make(map[string]struct{})
	}
	n.set[name] = struct{}{}
}

// Lists reports whether the server lists the tool or prompt that a call of the method names to this session.
func (s *Session) Lists(ctx context.Context, method, name string, extra *mcp.RequestExtra) (listed bool) {
	switch method {
	case "tools/call":
		_, listed = s.tool(ctx, name, extra)
	case "prompts/get":
		_, listed = s.engine.prompts.find(name,
			func() map[string][]string { return s.readPrompts(ctx, extra) },
			func() bool { return s.engine.Watched() && s.engine.Describe(ctx, extra).TellsPrompts })
	}
	return listed
}

func (s *Session) readPrompts(ctx context.Context, extra *mcp.RequestExtra) map[string][]string {
	return requiredArguments(ctx, s.safely, &mcp.GetPromptRequest{Session: s.ss, Params: &mcp.GetPromptParams{}, Extra: extra})
}
