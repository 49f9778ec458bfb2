package result

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

var identity = &mcp.Implementation{Name: "srv <1>", Version: "v1"}

// results are the shapes that results take.
var results = map[string]func() *mcp.CallToolResult{
	"zero":    func() *mcp.CallToolResult { return &mcp.CallToolResult{} },
	"empty":   func() *mcp.CallToolResult { return &mcp.CallToolResult{Content: []mcp.Content{}, Meta: mcp.Meta{}} },
	"text":    func() *mcp.CallToolResult { return texts("hello") },
	"odd":     func() *mcp.CallToolResult { return texts("", "<a href=\"x\">&\u2028\n", "\xff", "é🎉\x00") },
	"typed":   func() *mcp.CallToolResult { return typed(`{"sum":5}`) },
	"untidy":  func() *mcp.CallToolResult { return typed("{ \"b\" : [1, 2.0 , {}],\n \"a<\": \"\u2029\\u00e9\" }") },
	"array":   func() *mcp.CallToolResult { return typed(`[1,"2"]`) },
	"deep":    func() *mcp.CallToolResult { return typed(strings.Repeat("[", 900) + strings.Repeat("]", 900)) },
	"nothing": func() *mcp.CallToolResult { return typed("") },
	"invalid": func() *mcp.CallToolResult { return typed(`{"sum":5`) },
	"void":    func() *mcp.CallToolResult { return &mcp.CallToolResult{StructuredContent: json.RawMessage(nil)} },
	"value": func() *mcp.CallToolResult {
		return &mcp.CallToolResult{Content: []mcp.Content{}, StructuredContent: map[string]any{"b": 1, "a": "<"}}
	},
	"nan": func() *mcp.CallToolResult { return &mcp.CallToolResult{StructuredContent: math.NaN()} },
	"failed": func() *mcp.CallToolResult {
		r := &mcp.CallToolResult{}
		r.SetError(fmt.Errorf("no \"luck\""))
		return r
	},
	"meta": func() *mcp.CallToolResult {
		return &mcp.CallToolResult{Meta: mcp.Meta{"z": 1, "a": []string{"<"}}, Content: texts("x").Content}
	},
	"named": func() *mcp.CallToolResult {
		return &mcp.CallToolResult{Meta: mcp.Meta{mcp.MetaKeyServerInfo: map[string]any{"name": "other"}}, Content: texts("x").Content}
	},
	"rich": func() *mcp.CallToolResult {
		return &mcp.CallToolResult{Content: []mcp.Content{
			&mcp.TextContent{Text: "t", Meta: mcp.Meta{"k": "v"}},
			&mcp.TextContent{Text: "t", Annotations: &mcp.Annotations{Priority: 1}},
			&mcp.TextContent{Text: "t", Meta: mcp.Meta{}},
			&mcp.ImageContent{Data: []byte("png"), MIMEType: "image/png"},
			&mcp.AudioContent{MIMEType: "audio/wav"},
			&mcp.ResourceLink{URI: "file:///a", Name: "a"},
			&mcp.EmbeddedResource{Resource: &mcp.ResourceContents{URI: "file:///a", Text: "<x>"}},
			nil,
		}}
	},
	"state": func() *mcp.CallToolResult {
		return &mcp.CallToolResult{Content: []mcp.Content{}, RequestState: "<s>", IsError: true}
	},
	"asks": func() *mcp.CallToolResult {
		return &mcp.CallToolResult{
			Content:       []mcp.Content{},
			InputRequests: mcp.InputRequestMap{"b": &mcp.ElicitParams{Message: "<?>"}, "a": &mcp.ListRootsParams{}}, RequestState: "s",
		}
	},
	"sheds": func() *mcp.CallToolResult {
		return &mcp.CallToolResult{Content: []mcp.Content{}, InputRequests: mcp.InputRequestMap{}}
	},
}

func texts(all ...string) *mcp.CallToolResult {
	r := &mcp.CallToolResult{}
	for _, s := range all {
		r.Content = append(r.Content, &mcp.TextContent{Text: s})
	}
	return r
}

func typed(s string) *mcp.CallToolResult {
	r := texts(s)
	r.StructuredContent = json.RawMessage(s)
	return r
}

func TestAppendCallTool(t *testing.T) {
	t.Parallel()
	info, err := json.Marshal(identity)
	if err != nil {
		t.Fatal(err)
	}
	for name, fresh := range results {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want, wantErr := json.Marshal(fresh())
			got, err := AppendCallTool([]byte("x"), fresh(), "", nil)
			if (err == nil) != (wantErr == nil) {
				t.Fatalf("got error %v, the SDK has %v", err, wantErr)
			}
			if err != nil {
				if string(got) != "x" {
					t.Errorf("error left %s", got)
				}
				return
			}
			if string(got[1:]) != string(want) {
				t.Errorf("\ngot  %s\nwant %s", got[1:], want)
			}

			// As the SDK's connection does for 2026-07-28.
			res := fresh()
			if _, named := res.Meta[mcp.MetaKeyServerInfo]; !named {
				meta := mcp.Meta{mcp.MetaKeyServerInfo: identity}
				maps.Copy(meta, res.Meta)
				res.Meta = meta
			}
			want = marshalWithType(t, res, "complete")
			res = fresh()
			got, err = AppendCallTool(nil, res, "complete", info)
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != string(want) {
				t.Errorf("\ngot  %s\nwant %s", got, want)
			}
			if after, _ := json.Marshal(res); !bytes.Equal(after, mustMarshal(t, fresh())) {
				t.Errorf("the result was changed: %s", after)
			}
		})
	}
}

// marshalWithType marshals res as the SDK does once it has set the result
// type: between request state and input requests.
func marshalWithType(t *testing.T, res *mcp.CallToolResult, resultType string) []byte {
	t.Helper()
	data := mustMarshal(t, res)
	member := `"resultType":"` + resultType + `"`
	if at := bytes.LastIndex(data, []byte(`,"inputRequests":`)); at >= 0 {
		return append(append(bytes.Clone(data[:at]), ","+member...), data[at:]...)
	}
	return append(append(bytes.Clone(data[:len(data)-1]), ","+member...), '}')
}

func mustMarshal(t *testing.T, v any) []byte {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// Results that the SDK itself has marked, as a client can read them back.
func TestAppendCallToolMarked(t *testing.T) {
	t.Parallel()
	for _, in := range []string{
		`{"content":[{"type":"text","text":"x"}],"structuredContent":{"a":1},"resultType":"complete"}`,
		`{"content":[],"requestState":"s","resultType":"input_required"}`,
		`{"_meta":{"a":1},"content":[],"isError":true,"requestState":"s","resultType":"input_required"}`,
	} {
		var res mcp.CallToolResult
		if err := json.Unmarshal([]byte(in), &res); err != nil {
			t.Fatal(err)
		}
		want := mustMarshal(t, &res)
		got, err := AppendCallTool(nil, &res, "complete", nil)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != string(want) {
			t.Errorf("\ngot  %s\nwant %s", got, want)
		}
		if res.NeedsInput() {
			res.Content = nil
			if got, _ := AppendCallTool(nil, &res, "complete", nil); strings.Contains(string(got), "content") || !json.Valid(got) {
				t.Errorf("interim result: %s", got)
			}
		}
	}
}

func FuzzAppendCallTool(f *testing.F) {
	f.Add("text", `{"a": "<"}`, "state", true)
	f.Fuzz(func(t *testing.T, text, structured, state string, failed bool) {
		res := &mcp.CallToolResult{
			Content: texts(text).Content, StructuredContent: json.RawMessage(structured), RequestState: state, IsError: failed,
		}
		want, wantErr := json.Marshal(res)
		got, err := AppendCallTool(nil, res, "", nil)
		if (err == nil) != (wantErr == nil) || err == nil && string(got) != string(want) {
			t.Errorf("\ngot  %s, %v\nwant %s, %v", got, err, want, wantErr)
		}
	})
}

func TestAppendCallToolAllocations(t *testing.T) {
	res := typed(`{"sum":5}`)
	info := json.RawMessage(`{"name":"s"}`)
	buf := make([]byte, 0, 1024)
	if n := testing.AllocsPerRun(100, func() {
		if _, err := AppendCallTool(buf, res, "complete", info); err != nil {
			t.Error(err)
		}
	}); n > 0 {
		t.Errorf("%v allocations for a typed result, want none", n)
	}
}

func BenchmarkCallTool(b *testing.B) {
	info := json.RawMessage(`{"name":"s","version":"v1"}`)
	large := typed(`{"text":"` + strings.Repeat(`a plain line of text\n`, 500) + `"}`)
	for name, res := range map[string]*mcp.CallToolResult{"add": typed(`{"sum":5}`), "20KB": large} {
		b.Run(name+"/sdk", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := json.Marshal(res); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(name+"/append", func(b *testing.B) {
			b.ReportAllocs()
			buf := make([]byte, 0, 64<<10)
			for b.Loop() {
				if _, err := AppendCallTool(buf, res, "complete", info); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
