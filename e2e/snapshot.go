package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// Golden files are a widespread habit, and so is the name of this flag: whoever
// registers it first, all use it. A test package with a flag of its own for this reads
// this one instead, with flag.Lookup("update").
func init() {
	if flag.Lookup("update") == nil {
		flag.Bool("update", false, "write golden files anew instead of comparing with them")
	}
}

func updating() bool {
	f := flag.Lookup("update")
	return f != nil && f.Value.String() == "true"
}

// contract is what a server offers, as clients and models see it.
type contract struct {
	Instructions      string                  `json:"instructions,omitempty"`
	Tools             []*mcp.Tool             `json:"tools,omitempty"`
	Resources         []*mcp.Resource         `json:"resources,omitempty"`
	ResourceTemplates []*mcp.ResourceTemplate `json:"resourceTemplates,omitempty"`
	Prompts           []*mcp.Prompt           `json:"prompts,omitempty"`
}

// Snapshot compares what the server offers (its instructions, tools, resources, resource templates and
// prompts, in the newest revision that it speaks) with testdata/<test>.golden.json, so that a
// change of the contract shows in review. "go test -update" writes the file.
func Snapshot(t testing.TB, e Endpoint, opts ...ClientOption) {
	t.Helper()
	c, err := readContract(t.Context(), e.Connect(t, newest(t, e), opts...))
	if err != nil {
		t.Fatalf("e2e: %s: %v", e.URL(), err)
	}
	var got bytes.Buffer
	enc := json.NewEncoder(&got)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(c); err != nil {
		t.Fatalf("e2e: %v", err)
	}
	golden := filepath.Join("testdata", fileName(t.Name())+".golden.json")
	if updating() {
		if err := writeFile(golden, got.Bytes()); err != nil {
			t.Fatalf("e2e: %v", err)
		}
		return
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatalf("e2e: %v\nIf this snapshot is new, run: go test -run '^%s$' -update", err, t.Name())
	}
	want = bytes.ReplaceAll(want, []byte("\r\n"), []byte("\n")) // as some systems check it out
	if d := diff(string(want), got.String()); d != "" {
		t.Errorf("e2e: what the server offers differs from %s (-want +got):\n%s"+
			"If that is intended, run: go test -run '^%s$' -update", golden, d, t.Name())
	}
}

func newest(t testing.TB, e Endpoint) Revision {
	t.Helper()
	revisions := overHTTP(e.Revisions())
	if len(revisions) == 0 {
		t.Fatalf("e2e: %s speaks no revision", e.URL())
	}
	return slices.Max(revisions)
}

func readContract(ctx context.Context, s *mcp.ClientSession) (*contract, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	offer := s.InitializeResult()
	c := &contract{Instructions: offer.Instructions}
	if offer.Capabilities == nil {
		return c, nil
	}
	// Asked in any order by the server, listed in the order of their names.
	if offer.Capabilities.Tools != nil {
		for tool, err := range s.Tools(ctx, nil) {
			if err != nil {
				return nil, fmt.Errorf("listing tools: %w", err)
			}
			c.Tools = append(c.Tools, tool)
		}
		slices.SortFunc(c.Tools, func(a, b *mcp.Tool) int { return strings.Compare(a.Name, b.Name) })
	}
	if offer.Capabilities.Resources != nil {
		for r, err := range s.Resources(ctx, nil) {
			if err != nil {
				return nil, fmt.Errorf("listing resources: %w", err)
			}
			c.Resources = append(c.Resources, r)
		}
		slices.SortFunc(c.Resources, func(a, b *mcp.Resource) int { return strings.Compare(a.URI, b.URI) })
		for r, err := range s.ResourceTemplates(ctx, nil) {
			if err != nil {
				return nil, fmt.Errorf("listing resource templates: %w", err)
			}
			c.ResourceTemplates = append(c.ResourceTemplates, r)
		}
		slices.SortFunc(c.ResourceTemplates, func(a, b *mcp.ResourceTemplate) int {
			return strings.Compare(a.URITemplate, b.URITemplate)
		})
	}
	if offer.Capabilities.Prompts != nil {
		for p, err := range s.Prompts(ctx, nil) {
			if err != nil {
				return nil, fmt.Errorf("listing prompts: %w", err)
			}
			c.Prompts = append(c.Prompts, p)
		}
		slices.SortFunc(c.Prompts, func(a, b *mcp.Prompt) int { return strings.Compare(a.Name, b.Name) })
	}
	return c, nil
}

// fileName makes a test's name fit for a file.
func fileName(test string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '_', r == '.':
			return r
		}
		return '_'
	}, test)
}

func writeFile(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o644) //nolint:gosec // it is source code
}
