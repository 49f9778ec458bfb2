package engine

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// A Lists is a fingerprint of a server's lists, short enough to be kept for each session: of tools, prompts, and resources with their
// templates, each as a stranger sees it. It is the same for the same lists at every replica. "" means that nothing is known.
type Lists string

// listKinds are the kinds of lists, in the order of their fingerprints.
var listKinds = []struct {
	changed string // the notification
	methods []string
}{
	{"notifications/tools/list_changed", []string{"tools/list"}},
	{"notifications/prompts/list_changed", []string{"prompts/list"}},
	{"notifications/resources/list_changed", []string{"resources/list", "resources/templates/list"}},
}

// Changed returns the notifications that tell of how these lists differ from others, as far as both are known.
func (l Lists) Changed(from Lists) (methods []string) {
	if l == from || l == "" || from == "" {
		return nil
	}
	now, then := strings.Split(string(l), "."), strings.Split(string(from), ".")
	for i, kind := range listKinds {
		if i < len(now) && i < len(then) && now[i] != then[i] && now[i] != "" && then[i] != "" {
			methods = append(methods, kind.changed)
		}
	}
	return methods
}

// KnownLists returns what [Engine.Lists] keeps, or "".
func (e *Engine) KnownLists() Lists {
	if l := e.lists.Load(); l != nil {
		return *l
	}
	return ""
}

// Lists returns the fingerprint of the server's lists. It is kept while the server is watched.
func (e *Engine) Lists(ctx context.Context) Lists {
	if l := e.KnownLists(); l != "" {
		return l
	}
	seen := e.listed.Load()
	l := e.readLists(context.WithoutCancel(ctx))
	if e.Watched() && l != "" {
		e.lists.Store(&l)
		if e.listed.Load() != seen {
			e.lists.Store(nil) // they changed while they were read
		}
	}
	return l
}

func (e *Engine) readLists(ctx context.Context) Lists {
	s, err := e.Connect(ctx, "", watcherState(), Mute{})
	if err != nil {
		return ""
	}
	defer s.Close()
	all := make([]string, len(listKinds))
	for i, kind := range listKinds {
		sum := sha256.New()
		known := true
		for _, method := range kind.methods {
			items, err := s.list(ctx, method)
			if err != nil { // a middleware may refuse a stranger
				known = false
				break
			}
			slices.Sort(items) // the order says nothing
			for _, item := range items {
				fmt.Fprintf(sum, "%d\n%s\n", len(item), item)
			}
			fmt.Fprintln(sum, method)
		}
		if known {
			all[i] = base64.RawURLEncoding.EncodeToString(sum.Sum(nil)[:6])
		}
	}
	return Lists(strings.Join(all, "."))
}

// list returns all items of a list as JSON.
func (s *Session) list(ctx context.Context, method string) (items []string, err error) {
	defer func() { // what calls for a middleware that counts on a client is no bug to be logged
		if p := recover(); p != nil {
			err = fmt.Errorf("%s of a stranger: %v", method, p)
		}
	}()
	cursor := ""
	for {
		raw, err := json.Marshal(mcp.ListToolsParams{Cursor: cursor})
		if err != nil {
			return nil, err
		}
		req, err := direct[method](raw, s.ss, &mcp.RequestExtra{})
		if err != nil {
			return nil, err
		}
		res, err := s.engine.composed()(ctx, method, req)
		if err != nil {
			return nil, err
		}
		next := ""
		switch res := res.(type) {
		case *mcp.ListToolsResult:
			items, next = appendItems(items, res.Tools), res.NextCursor
		case *mcp.ListPromptsResult:
			items, next = appendItems(items, res.Prompts), res.NextCursor
		case *mcp.ListResourcesResult:
			items, next = appendItems(items, res.Resources), res.NextCursor
		case *mcp.ListResourceTemplatesResult:
			items, next = appendItems(items, res.ResourceTemplates), res.NextCursor
		}
		if next == "" || next == cursor {
			return items, nil
		}
		cursor = next
	}
}

func appendItems[T any](dst []string, items []*T) []string {
	for _, item := range items {
		if raw, err := json.Marshal(item); err == nil {
			dst = append(dst, string(raw))
		}
	}
	return dst
}
