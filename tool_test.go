package sluice_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/big"
	"strings"
	"sync"
	"testing"

	"github.com/google/jsonschema-go/jsonschema"
	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice"
	"github.com/sluice-mcp/sluice/internal/sitetest"
	"github.com/sluice-mcp/sluice/internal/wire"
)

func TestAddToolOutputs(t *testing.T) {
	t.Parallel()
	type shade string
	type large struct {
		ID int64 `json:"id"`
	}
	type nilly struct {
		Map    map[string]int                 `json:"map"`
		Keyed  map[shade]map[string][]int     `json:"keyed"`
		Ptr    *map[string]int                `json:"ptr"`
		Nested []map[string]map[string]string `json:"nested"`
		Zero   map[string]int                 `json:"zero,omitzero"`
		Empty  map[string]int                 `json:"empty,omitempty"`
	}
	type base struct {
		Map  map[string]any `json:"map"`
		List []int          `json:"list"`
	}
	type derived struct{ base }
	type Ref struct {
		Map map[string]any `json:"map"`
	}
	type pointed struct{ *Ref }
	ptr := new(map[string]int)
	own := []mcp.Content{&mcp.TextContent{Text: "the disk is full"}}
	number := int64(1<<53 + 1)
	s := mcp.NewServer(&mcp.Implementation{Name: "s"}, nil)
	says(s, "nil maps", nil, nilly{})
	says(s, "deep nil maps", nil, &nilly{Ptr: ptr, Keyed: map[shade]map[string][]int{"a": nil, "b": {"c": nil}}, Nested: []map[string]map[string]string{nil, {"a": nil}}})
	says(s, "root", nil, map[string]int(nil))
	says(s, "map of maps", nil, map[string]map[string]int{"a": nil})
	says(s, "embedded", nil, derived{})
	says(s, "pointed", nil, pointed{&Ref{}})
	says(s, "list", nil, []map[string]int{nil})
	for name, schema := range map[string]string{
		"null": `{"type":"object","properties":{"map":{"type":["object","null"]},"list":{"type":["array","null"]}}}`,
		"none": `{"type":"object","properties":{"map":{"type":"object"},"list":{"type":"array"}}}`,
		"long": `{"type":"object","allOf":[{}],"properties":{"map":{"type":"object"},"list":{"type":["array","null"]}}}`,
		"min":  `{"type":"object","properties":{"map":{"type":"object"},"list":{"type":"array","minItems":1}}}`,
	} {
		sluice.AddTool(s, &mcp.Tool{Name: name, OutputSchema: json.RawMessage(schema)}, func(context.Context, *mcp.CallToolRequest, any) (*mcp.CallToolResult, base, error) {
			return nil, base{}, nil
		})
	}
	says(s, "any", nil, map[string]any{"a": number, "b": []int64{number}, "c": uint64(math.MaxUint64), "d": large{number}, "e": json.RawMessage(`1.10`)})
	says[any](s, "untyped", nil, large{number})
	says(s, "big", nil, struct {
		Int big.Int `json:"int"`
	}{*big.NewInt(number)})
	says(s, "bytes", nil, []byte{0, 1})
	says(s, "raw", nil, json.RawMessage(`{"a":1.10, "b":9007199254740993}`))
	says(s, "number", nil, number)
	says(s, "handmade", &mcp.CallToolResult{StructuredContent: map[string]any{"a": number, "b": json.RawMessage(`1.10`)}, Content: own}, any(nil))

	says(s, "error", &mcp.CallToolResult{IsError: true, Content: own}, total{})
	says(s, "error with a strict schema", &mcp.CallToolResult{IsError: true, Content: own}, struct {
		Raw json.Marshaler `json:"raw"`
		Map map[string]int `json:"map"`
	}{})
	says(s, "error of a pointer", &mcp.CallToolResult{IsError: true, Content: own}, (*total)(nil))
	says(s, "error of a list", &mcp.CallToolResult{IsError: true, Content: own}, []int(nil))
	says(s, "error without content", &mcp.CallToolResult{IsError: true, Content: []mcp.Content{}}, total{})
	says(s, "error of its own structure", &mcp.CallToolResult{IsError: true, Content: own, StructuredContent: json.RawMessage(`{"why":1}`)}, total{})
	says(s, "error with an output", &mcp.CallToolResult{IsError: true, Content: own}, total{1})
	sluice.AddTool(s, &mcp.Tool{Name: "error with a wrong output", OutputSchema: json.RawMessage(`{"type":"object","required":["why"]}`)},
		func(context.Context, *mcp.CallToolRequest, any) (*mcp.CallToolResult, total, error) {
			return &mcp.CallToolResult{IsError: true, Content: own}, total{1}, nil
		})
	sluice.AddTool(s, &mcp.Tool{Name: "error beside an output"}, func(context.Context, *mcp.CallToolRequest, any) (*mcp.CallToolResult, total, error) {
		return &mcp.CallToolResult{StructuredContent: 1}, total{1}, io.ErrUnexpectedEOF
	})
	sluice.AddTool(s, &mcp.Tool{Name: "protocol error"}, func(context.Context, *mcp.CallToolRequest, any) (*mcp.CallToolResult, total, error) {
		return nil, total{}, &jsonrpc.Error{Code: -32602, Message: "no"}
	})
	call := sitetest.InBothEras(t, s)
	const full = `[{"type":"text","text":"the disk is full"}]`
	for _, tt := range []struct{ tool, structured, content string }{
		{"nil maps", `{"keyed":{},"map":{},"nested":null,"ptr":null}`, ""},
		{"deep nil maps", `{"keyed":{"a":{},"b":{"c":null}},"map":{},"nested":[{},{"a":{}}],"ptr":null}`, ""},
		{"root", `{}`, ""},
		{"map of maps", `{"a":{}}`, ""},
		{"embedded", `{"list":null,"map":{}}`, ""},
		{"pointed", `{"map":{}}`, ""},
		{"list", `[{}]`, ""},
		{"null", `{"list":null,"map":null}`, ""},
		{"none", `{"list":[],"map":{}}`, ""},
		{"long", `{"list":null,"map":{}}`, ""},
		{"any", `{"a":9007199254740993,"b":[9007199254740993],"c":18446744073709551615,"d":{"id":9007199254740993},"e":1.10}`, ""},
		{"untyped", `{"id":9007199254740993}`, ""},
		{"big", `{"int":9007199254740993}`, ""},
		{"bytes", `"AAE="`, ""},
		{"raw", `{"a":1.10,"b":9007199254740993}`, ""},
		{"number", `9007199254740993`, ""},
		{"handmade", `{"a":9007199254740993,"b":1.10}`, full},
		{"error", "", full},
		{"error with a strict schema", "", full},
		{"error of a pointer", "", full},
		{"error of a list", "", full},
		{"error without content", "", `[]`},
		{"error of its own structure", `{"why":1}`, full},
		{"error with an output", `{"sum":1}`, full},
		{"error with a wrong output", "", full},
		{"error beside an output", "", `[{"type":"text","text":"unexpected EOF"}]`},
	} {
		result := call(tt.tool, `{}`)
		if got := string(wire.Member(result, "structuredContent")); got != tt.structured {
			t.Errorf("%s: %s, want structured content %s", tt.tool, result, tt.structured)
		}
		if got := string(wire.Member(result, "isError")); (got == "true") != strings.HasPrefix(tt.tool, "error") {
			t.Errorf("%s: isError %s", tt.tool, got)
		}
		if tt.content == "" {
			if got := sitetest.TextOf(t, result); got != tt.structured {
				t.Errorf("%s: text %s, want %s", tt.tool, got, tt.structured)
			}
		} else if got := string(wire.Member(result, "content")); got != tt.content {
			t.Errorf("%s: content %s, want %s", tt.tool, got, tt.content)
		}
	}
	for tool, want := range map[string]string{"min": "-32603", "protocol error": "-32602"} {
		if got := string(wire.Member(call(tool, `{}`), "code")); got != want {
			t.Errorf("%s: code %s, want %s", tool, got, want)
		}
	}
}

func TestAddToolPanicsLikeTheSDK(t *testing.T) {
	t.Parallel()
	type cycle struct {
		Next *cycle `json:"next"`
	}
	said := func(add func(*mcp.Server)) any {
		return panicked(func() { add(mcp.NewServer(&mcp.Implementation{Name: "s"}, nil)) })
	}
	plain := func() *mcp.Tool { return &mcp.Tool{Name: "tool"} }
	bad := func() *mcp.Tool {
		return &mcp.Tool{Name: "tool", InputSchema: &jsonschema.Schema{
			Type: "object", Properties: map[string]*jsonschema.Schema{"a": {Type: "string", Default: json.RawMessage("1")}},
		}}
	}
	for name, twins := range map[string][2]func(*mcp.Server){
		"cycle": {
			func(s *mcp.Server) { mcp.AddTool[cycle, any](s, plain(), nil) },
			func(s *mcp.Server) { sluice.AddTool[cycle, any](s, plain(), nil) },
		},
		"no object": {
			func(s *mcp.Server) { mcp.AddTool[int, any](s, plain(), nil) },
			func(s *mcp.Server) { sluice.AddTool[int, any](s, plain(), nil) },
		},
		"bad default": {
			func(s *mcp.Server) { mcp.AddTool[numbers, any](s, bad(), nil) },
			func(s *mcp.Server) { sluice.AddTool[numbers, any](s, bad(), nil) },
		},
	} {
		theirs, ours := said(twins[0]), said(twins[1])
		if theirs == nil || fmt.Sprint(theirs) != fmt.Sprint(ours) {
			t.Errorf("%s:\n sdk    %v\n sluice %v", name, theirs, ours)
		}
	}
}

// panicked returns what f panicked with.
func panicked(f func()) (v any) {
	defer func() { v = recover() }()
	f()
	return nil
}

// Results for clients of the revisions with sessions carry no result type, on whichever way they came.
func TestAddToolResultType(t *testing.T) {
	t.Parallel()
	s := mcp.NewServer(&mcp.Implementation{Name: "s"}, nil)
	sluice.AddTool(s, &mcp.Tool{Name: "tool"}, func(context.Context, *mcp.CallToolRequest, numbers) (*mcp.CallToolResult, []int, error) {
		return nil, []int{1}, nil
	})
	for revision, want := range map[string]bool{"2025-11-25": false, "2026-07-28": true} {
		method, ss := sitetest.Direct(t, s, revision)
		for _, args := range []string{`{"a":1,"b":2}`, `{"a":1.0,"b":2}`, `{}`} {
			res, err := method(t.Context(), "tools/call", &mcp.CallToolRequest{
				Session: ss, Params: &mcp.CallToolParamsRaw{Name: "tool", Arguments: json.RawMessage(args)},
			})
			if err != nil {
				t.Fatal(err)
			}
			data, err := json.Marshal(res)
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Contains(string(data), `"resultType":"complete"`); got != want {
				t.Errorf("%s %s: %s", revision, args, data)
			}
		}
	}
}

// Calls run at the same time, and several may be the first to need the SDK's word.
func TestAddToolConcurrently(t *testing.T) {
	t.Parallel()
	s := mcp.NewServer(&mcp.Implementation{Name: "s"}, nil)
	sluice.AddTool(s, &mcp.Tool{Name: "tool"}, func(_ context.Context, _ *mcp.CallToolRequest, in numbers) (*mcp.CallToolResult, total, error) {
		return nil, total{in.A + in.B}, nil
	})
	method, ss := sitetest.Direct(t, s, "2026-07-28")
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 50 {
				args := fmt.Appendf(nil, []string{`{"a":%d,"b":%d}`, `{"a":%d.0,"b":%d}`}[(i+j)%2], i, j)
				res, err := method(t.Context(), "tools/call", &mcp.CallToolRequest{
					Session: ss, Params: &mcp.CallToolParamsRaw{Name: "tool", Arguments: args},
				})
				if err != nil {
					t.Error(err)
					return
				}
				got, _ := res.(*mcp.CallToolResult).StructuredContent.(json.RawMessage)
				if want := fmt.Sprintf(`{"sum":%d}`, i+j); string(got) != want {
					t.Errorf("%s: got %s, want %s", args, got, want)
				}
			}
		})
	}
	wg.Wait()
}

// says is a tool that answers with res and out.
func says[Out any](s *mcp.Server, name string, res *mcp.CallToolResult, out Out) {
	sluice.AddTool(s, &mcp.Tool{Name: name}, func(context.Context, *mcp.CallToolRequest, any) (*mcp.CallToolResult, Out, error) {
		return res, out, nil
	})
}
