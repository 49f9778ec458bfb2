package proxy

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"

	"github.com/sluice-mcp/sluice/internal/wire"
)

// params knows which arguments of tools are repeated in headers. It learns that when a server misses one: most have none.
type params struct {
	mu    sync.Mutex
	tools map[string][]binding
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

// own returns a request of the bridge's own.
func (b *Bridge) own(method string, params []byte) *message {
	b.mu.Lock()
	b.asked++
	id := wire.ID(fmt.Sprintf(`"sluice-proxy-%d"`, b.asked))
	b.mu.Unlock()
	return &message{wire.Message{Kind: wire.Request, ID: id, Method: method, Params: params}, wire.AppendCall(nil, id, method, params)}
}

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
	ask := map[string]any{"_meta": c.meta()}
	if cursor != "" {
		ask["cursor"] = cursor
	}
	params, err := json.Marshal(ask)
	if err != nil {
		return nil, err
	}
	m := b.own("tools/list", params)
	header := http.Header{}
	mirror(header, m, c.version, nil)
	resp, err := b.post(ctx, b.URL, m, header, nil)
	if err != nil {
		return nil, err
	}
	answer, err := readAnswer(resp, m.ID)
	if err != nil {
		return nil, err
	}
	if e := refusal(answer.raw); e != nil {
		return nil, fmt.Errorf("tools/list: %s", e.Message)
	}
	list := new(toolList)
	return list, json.Unmarshal(answer.Result, list)
}
