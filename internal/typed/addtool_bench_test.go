package typed_test

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice"
	"github.com/sluice-mcp/sluice/internal/sitetest"
)

func sum(_ context.Context, _ *mcp.CallToolRequest, in addIn) (*mcp.CallToolResult, addOut, error) {
	return nil, addOut{in.A + in.B}, nil
}

func echo(_ context.Context, _ *mcp.CallToolRequest, in nested) (*mcp.CallToolResult, nested, error) {
	return nil, in, nil
}

const (
	addArguments  = `{"a":2,"b":3}`
	echoArguments = `{"name":"report","nested":{"color":"red","size":3},"ptr":null,"tags":["a","b"],` +
		`"list":[{"color":"green"},{"size":5}],"grid":[[1,2.5],[3,4]],"dict":{"x":4,"y":2},"when":"2026-07-28T10:00:00Z"}`
)

func untyped(_ context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	var in addIn
	if err := json.Unmarshal(req.Params.Arguments, &in); err != nil {
		return nil, err
	}
	data, err := json.Marshal(addOut{in.A + in.B})
	if err != nil {
		return nil, err
	}
	return &mcp.CallToolResult{
		Content:           []mcp.Content{&mcp.TextContent{Text: string(data)}},
		StructuredContent: json.RawMessage(data),
	}, nil
}

var benchmarks = []struct {
	name, args string
	add        func(*mcp.Server)
}{
	{"add/untyped", addArguments, func(s *mcp.Server) {
		s.AddTool(&mcp.Tool{Name: "tool", InputSchema: json.RawMessage(`{"type":"object"}`)}, untyped)
	}},
	{"add/sdk", addArguments, func(s *mcp.Server) { mcp.AddTool(s, plain(), sum) }},
	{"add/sluice", addArguments, func(s *mcp.Server) { sluice.AddTool(s, plain(), sum) }},
	{"nested/sdk", echoArguments, func(s *mcp.Server) { mcp.AddTool(s, plain(), echo) }},
	{"nested/sluice", echoArguments, func(s *mcp.Server) { sluice.AddTool(s, plain(), echo) }},
	{"limits/sdk", echoArguments, func(s *mcp.Server) { mcp.AddTool(s, given(limited, nil)(), echo) }},
	{"limits/sluice", echoArguments, func(s *mcp.Server) { sluice.AddTool(s, given(limited, nil)(), echo) }},
	{"wrong/sdk", `{"a":2}`, func(s *mcp.Server) { mcp.AddTool(s, plain(), sum) }},
	{"wrong/sluice", `{"a":2}`, func(s *mcp.Server) { sluice.AddTool(s, plain(), sum) }},
}

// Allocations are stable where times are not. A call of add allocates for the server's and the tests' own needs, too.
func TestAddToolAllocations(t *testing.T) {
	for _, tt := range []struct {
		name, args string
		most       float64
		add        func(*mcp.Server)
	}{
		{"add", addArguments, 9, func(s *mcp.Server) { sluice.AddTool(s, plain(), sum) }},
		{"nested", echoArguments, 50, func(s *mcp.Server) { sluice.AddTool(s, plain(), echo) }},
		{"limits", echoArguments, 55, func(s *mcp.Server) { sluice.AddTool(s, given(limited, nil)(), echo) }},
	} {
		if n := testing.AllocsPerRun(200, valid(t, tt.args, tt.add)); n > tt.most {
			t.Errorf("%s: %v allocations a call, want at most %v", tt.name, n, tt.most)
		}
	}
}

// BenchmarkCallTool calls the server's handler directly, without HTTP and JSON-RPC.
func BenchmarkCallTool(b *testing.B) {
	for _, bm := range benchmarks {
		b.Run(bm.name, func(b *testing.B) {
			call := valid(b, bm.args, bm.add)
			b.ReportAllocs()
			for b.Loop() {
				call()
			}
		})
	}
}

func BenchmarkAddTool(b *testing.B) {
	for name, add := range map[string]func(*mcp.Server, *mcp.Tool, mcp.ToolHandlerFor[addIn, addOut]){
		"sdk": mcp.AddTool[addIn, addOut], "sluice": sluice.AddTool[addIn, addOut],
	} {
		b.Run(name, func(b *testing.B) {
			s := mcp.NewServer(&mcp.Implementation{Name: "s"}, nil)
			b.ReportAllocs()
			for b.Loop() {
				add(s, plain(), sum)
			}
		})
	}
}

// valid returns a function that makes one valid call.
func valid(tb testing.TB, args string, add func(*mcp.Server)) func() {
	tb.Helper()
	s := mcp.NewServer(&mcp.Implementation{Name: "s"}, nil)
	add(s)
	method, ss := sitetest.Direct(tb, s, "2026-07-28")
	req := &mcp.CallToolRequest{Session: ss, Params: &mcp.CallToolParamsRaw{Name: "tool", Arguments: json.RawMessage(args)}}
	return func() {
		if _, err := method(tb.Context(), "tools/call", req); err != nil {
			tb.Fatal(err)
		}
	}
}
