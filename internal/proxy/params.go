package proxy

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
)

// params knows which arguments of tools are repeated in headers. It learns that when a server misses one: most have none.
type params struct {
	mu    sync.Mutex
	tools map[string][]binding
	asked int
}

// of returns the headers that a call of a tool needs, as far as known.
func (p *params) of(m *message) []binding {
	if m.Method != "tools/call" {
		return nil
	}
	var call struct {
		Name string `json:"name"`
	}
	if json.Unmarshal(m.Params, &call) != nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.tools[call.Name]
}

// maxPages bounds a list that does not end.
const maxPages = 100

// learn asks the server for its tools, on behalf of whoever made this call.
func (p *params) learn(ctx context.Context, b *Bridge, c *call) error {
	tools := map[string][]binding{}
	cursor := ""
	for range maxPages {
		list, err := p.list(ctx, b, c, cursor)
		if err != nil {
			return err
		}
		for _, tool := range list.Tools {
			tools[tool.Name] = tool.InputSchema.bindings()
		}
		if cursor = list.NextCursor; cursor == "" {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.tools = tools
			return nil
		}
	}
	return fmt.Errorf("the list of tools has more than %d pages", maxPages)
}

type toolList struct {
	Tools []struct {
		Name        string `json:"name"`
		InputSchema schema `json:"inputSchema"`
	} `json:"tools"`
	NextCursor string `json:"nextCursor"`
}

func (p *params) list(ctx context.Context, b *Bridge, c *call, cursor string) (*toolList, error) {
	p.mu.Lock()
	p.asked++
	id := fmt.Sprintf("sluice-proxy-%d", p.asked)
	p.mu.Unlock()
	ask := map[string]any{"_meta": c.meta()}
	if cursor != "" {
		ask["cursor"] = cursor
	}
	raw, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": id, "method": "tools/list", "params": ask})
	if err != nil {
		return nil, err
	}
	m, err := parse(raw)
	if err != nil {
		return nil, err
	}
	header := http.Header{}
	mirror(header, m, c.version, nil)
	resp, err := b.post(ctx, m, header)
	if err != nil {
		return nil, err
	}
	answer, err := readAnswer(resp)
	if err != nil {
		return nil, err
	}
	if answer.Error != nil {
		return nil, fmt.Errorf("tools/list: %s", answer.Error.Message)
	}
	list := new(toolList)
	return list, json.Unmarshal(answer.Result, list)
}
