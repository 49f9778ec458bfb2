package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// listTimeout bounds how long one page of a list is waited for.
const listTimeout = 15 * time.Second

// A list is one that a server may offer.
type list struct {
	title  string // in messages
	member string // of the result
	page   func(ctx context.Context, session *mcp.ClientSession, cursor string) error
	check  func(item json.RawMessage) (name string, err error)
	into   *[]json.RawMessage
}

// A reader reads lists, as much of each as there is.
type reader struct {
	conn     *connection
	open     func() (*connection, error)
	problems []string
}

func (r *reader) problem(format string, args ...any) {
	r.problems = append(r.problems, oneLine(fmt.Sprintf(format, args...)))
}

// read takes the items out of all pages one by one: what is malformed costs only itself.
func (r *reader) read(ctx context.Context, l list) {
	var cursors []string
	cursor, count := "", 0
	for {
		result, err := r.page(ctx, l, cursor)
		if err != nil {
			r.problem("listing %s%s: %v", l.title, pageOf(len(cursors)), err)
			return
		}
		var page map[string]json.RawMessage
		var items []json.RawMessage
		if json.Unmarshal(result, &page) != nil || json.Unmarshal(page[l.member], &items) != nil {
			r.problem("listing %s%s: the result has no array %q", l.title, pageOf(len(cursors)), l.member)
		}
		for _, item := range items {
			count++
			if name, err := l.check(item); err != nil {
				r.problem("listing %s: number %d%s is malformed: %v", l.title, count, parenthesized(name), err)
				continue
			}
			*l.into = append(*l.into, item)
		}
		next := page["nextCursor"]
		if next == nil || string(next) == "null" {
			return
		}
		if err := json.Unmarshal(next, &cursor); err != nil || cursor == "" {
			if err != nil {
				r.problem("listing %s%s: nextCursor is not a string", l.title, pageOf(len(cursors)))
			}
			return
		}
		if slices.Contains(cursors, cursor) {
			r.problem("listing %s%s: nextCursor leads in a circle", l.title, pageOf(len(cursors)))
			return
		}
		cursors = append(cursors, cursor)
	}
}

func pageOf(read int) string {
	if read == 0 {
		return ""
	}
	return fmt.Sprintf(", page %d", read+1)
}

// page asks for one page. The SDK gives a connection up after some failures; the next list gets another one.
func (r *reader) page(ctx context.Context, l list, cursor string) (json.RawMessage, error) {
	if r.conn == nil {
		conn, err := r.open()
		if err != nil {
			return nil, err
		}
		r.conn = conn
	}
	ctx, cancel := context.WithTimeoutCause(ctx, listTimeout, fmt.Errorf("no answer within %v", listTimeout))
	defer cancel()
	result, err := r.conn.watch.tap.ask(ctx, func(ctx context.Context) error { return l.page(ctx, r.conn.ClientSession, cursor) })
	if err == nil {
		return result, nil
	}
	_, said := errors.AsType[*jsonrpc.Error](err)
	err = r.conn.watch.explain(ctx, err)
	if !said {
		r.close()
	}
	return nil, err
}

func (r *reader) close() {
	if r.conn != nil {
		_ = r.conn.Close() // what is read is read
		r.conn = nil
	}
}

func (o *offer) lists(declared *mcp.ServerCapabilities) []list {
	var lists []list
	if declared == nil {
		return nil
	}
	if declared.Tools != nil {
		lists = append(lists, list{"tools", "tools", func(ctx context.Context, s *mcp.ClientSession, cursor string) error {
			_, err := s.ListTools(ctx, &mcp.ListToolsParams{Cursor: cursor})
			return err
		}, check[tool], &o.Tools})
	}
	if declared.Resources != nil {
		lists = append(lists, list{"resources", "resources", func(ctx context.Context, s *mcp.ClientSession, cursor string) error {
			_, err := s.ListResources(ctx, &mcp.ListResourcesParams{Cursor: cursor})
			return err
		}, check[resource], &o.Resources}, list{"resource templates", "resourceTemplates", func(ctx context.Context, s *mcp.ClientSession, cursor string) error {
			_, err := s.ListResourceTemplates(ctx, &mcp.ListResourceTemplatesParams{Cursor: cursor})
			return err
		}, check[template], &o.ResourceTemplates})
	}
	if declared.Prompts != nil {
		lists = append(lists, list{"prompts", "prompts", func(ctx context.Context, s *mcp.ClientSession, cursor string) error {
			_, err := s.ListPrompts(ctx, &mcp.ListPromptsParams{Cursor: cursor})
			return err
		}, check[prompt], &o.Prompts})
	}
	return lists
}

// What is shown of the items, and has to be there in them.
type (
	tool struct {
		Name, Description string
		InputSchema       json.RawMessage
		Annotations       *struct {
			ReadOnlyHint, DestructiveHint, IdempotentHint bool
		}
	}
	resource struct {
		URI, Name, MIMEType, Description string
	}
	template struct {
		URITemplate, Name, MIMEType, Description string
	}
	prompt struct {
		Name, Description string
		Arguments         []struct {
			Name     string
			Required bool
		}
	}
)

type item interface {
	tool | resource | template | prompt
	check() (name string, err error)
}

// check tells whether an item can be shown, and its name as far as it is known.
func check[T item](raw json.RawMessage) (string, error) {
	var members map[string]json.RawMessage
	if json.Unmarshal(raw, &members) != nil || members == nil {
		return "", errors.New("it is not an object")
	}
	var t T
	err := json.Unmarshal(raw, &t)
	name, missing := t.check()
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return name, fmt.Errorf("%s is a %s", wrong.Field, wrong.Value)
	}
	if err != nil {
		return name, err
	}
	return name, missing
}

func (t tool) check() (string, error) {
	var schema map[string]json.RawMessage
	switch {
	case t.Name == "":
		return "", errors.New("it has no name")
	case t.InputSchema == nil:
		return t.Name, errors.New("it has no inputSchema")
	case json.Unmarshal(t.InputSchema, &schema) != nil || schema == nil:
		return t.Name, errors.New("inputSchema is not an object")
	}
	return t.Name, nil
}

func (r resource) check() (string, error) {
	if r.URI == "" {
		return r.Name, errors.New("it has no uri")
	}
	return r.URI, nil
}

func (t template) check() (string, error) {
	if t.URITemplate == "" {
		return t.Name, errors.New("it has no uriTemplate")
	}
	return t.URITemplate, nil
}

func (p prompt) check() (string, error) {
	if p.Name == "" {
		return "", errors.New("it has no name")
	}
	return p.Name, nil
}

// shown decodes items that have passed [check].
func shown[T item](items []json.RawMessage) []T {
	all := make([]T, len(items))
	for i, raw := range items {
		_ = json.Unmarshal(raw, &all[i]) // checked
	}
	return all
}
