package engine_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/jsonschema-go/jsonschema"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice"
)

// The tests of this file look at what clients of each revision are sent, member by member. What is right is what the schema of the
// revision says, and what the official clients accept.

var everyRevision = []string{"2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28"}

type object = map[string]any

// misfits is a server that says what the SDK lets it say.
func misfits() *mcp.Server {
	s := mcp.NewServer(&mcp.Implementation{Name: "misfits", Version: "1"}, &mcp.ServerOptions{
		CompletionHandler: func(_ context.Context, r *mcp.CompleteRequest) (*mcp.CompleteResult, error) {
			var values []string
			for i := range len(r.Params.Argument.Value) {
				values = append(values, fmt.Sprint(i))
			}
			return &mcp.CompleteResult{Completion: mcp.CompletionResultDetails{Values: values}}, nil
		},
		SubscribeHandler:   func(context.Context, *mcp.SubscribeRequest) error { return nil },
		UnsubscribeHandler: func(context.Context, *mcp.UnsubscribeRequest) error { return nil },
	})
	outputs(s, "sdk", func(t *mcp.Tool, h mcp.ToolHandlerFor[any, []string]) { mcp.AddTool(s, t, h) })
	outputs(s, "ours", func(t *mcp.Tool, h mcp.ToolHandlerFor[any, []string]) { sluice.AddTool(s, t, h) })
	mcp.AddTool(s, &mcp.Tool{Name: "typed number"}, func(context.Context, *mcp.CallToolRequest, any) (*mcp.CallToolResult, int, error) {
		return nil, 7, nil
	})
	type anything struct {
		X any `json:"x"`
	}
	mcp.AddTool(s, &mcp.Tool{Name: "any sdk"}, func(_ context.Context, _ *mcp.CallToolRequest, in anything) (*mcp.CallToolResult, anything, error) {
		return nil, in, nil
	})
	sluice.AddTool(s, &mcp.Tool{Name: "any ours"}, func(_ context.Context, _ *mcp.CallToolRequest, in anything) (*mcp.CallToolResult, anything, error) {
		return nil, in, nil
	})
	for name, schema := range rawOutputs {
		raw(s, &mcp.Tool{Name: "output " + name, OutputSchema: json.RawMessage(schema)}, func() *mcp.CallToolResult {
			return &mcp.CallToolResult{StructuredContent: object{"a": 1}}
		})
	}
	for name, schema := range rawInputs {
		raw(s, &mcp.Tool{Name: "input " + name, InputSchema: json.RawMessage(schema[0])}, func() *mcp.CallToolResult { return nil })
	}
	for name, result := range rawResults {
		raw(s, &mcp.Tool{Name: "result " + name}, result)
	}
	for name, content := range contents {
		raw(s, &mcp.Tool{Name: "content " + name}, func() *mcp.CallToolResult {
			return &mcp.CallToolResult{Content: []mcp.Content{content()}}
		})
		s.AddPrompt(&mcp.Prompt{Name: "content " + name}, func(context.Context, *mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
			return &mcp.GetPromptResult{Messages: []*mcp.PromptMessage{{Content: content()}}}, nil
		})
	}
	s.AddPrompt(&mcp.Prompt{Name: "nothing"}, func(context.Context, *mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
		return &mcp.GetPromptResult{}, nil
	})
	s.AddPrompt(&mcp.Prompt{Name: "asks", Arguments: []*mcp.PromptArgument{{Name: "what", Required: true}, {Name: "more"}}}, askingPrompt)
	for name, list := range reads {
		s.AddResource(&mcp.Resource{URI: "test://" + name, Name: name}, func(context.Context, *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
			return &mcp.ReadResourceResult{Contents: list()}, nil
		})
	}
	for _, t := range []string{"items://café/{id}", "pct://caf%C3%A9/{id}", "two://café/{a}/über/{b}", "path://straße{/a,b}{?q}"} {
		s.AddResourceTemplate(&mcp.ResourceTemplate{URITemplate: t, Name: t}, tellURI)
	}
	for _, uri := range []string{"exact://café/naïve", "exact://x/a b", "exact://y/caf%c3%a9"} {
		s.AddResource(&mcp.Resource{URI: uri, Name: uri}, tellURI)
	}
	return s
}

// tellURI tells what the handler has seen, and leaves the URI of the result to the SDK.
func tellURI(_ context.Context, r *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
	return &mcp.ReadResourceResult{Contents: []*mcp.ResourceContents{{Text: r.Params.URI}}}, nil
}

func askingPrompt(_ context.Context, r *mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
	if _, ok := r.Params.Arguments["what"]; !ok {
		return nil, errors.New("the handler was called without what it requires")
	}
	return &mcp.GetPromptResult{Messages: []*mcp.PromptMessage{{Role: "user", Content: &mcp.TextContent{Text: r.Params.Arguments["what"]}}}}, nil
}

func outputs(s *mcp.Server, by string, add func(*mcp.Tool, mcp.ToolHandlerFor[any, []string])) {
	for name, out := range map[string][]string{"list": {"a"}, "nil list": nil} {
		add(&mcp.Tool{Name: name + " " + by}, func(context.Context, *mcp.CallToolRequest, any) (*mcp.CallToolResult, []string, error) {
			return nil, out, nil
		})
	}
}

func raw(s *mcp.Server, t *mcp.Tool, result func() *mcp.CallToolResult) {
	if t.InputSchema == nil {
		t.InputSchema = json.RawMessage(`{"type":"object"}`)
	}
	s.AddTool(t, func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) { return result(), nil })
}

// rawOutputs are output schemas. Only those whose type is "object" can be said to clients of sessions.
var rawOutputs = map[string]string{
	"object": `{"type":"object","properties":{"a":true,"b":false}}`,
	"true":   `true`, "false": `false`, "empty": `{}`, "null": `null`,
	"untyped": `{"properties":{"a":{}}}`,
	"types":   `{"type":["object","null"]}`,
	"ref":     `{"$ref":"#/$defs/x","$defs":{"x":{"type":"object"}}}`,
	"anyOf":   `{"anyOf":[{"type":"object"},true]}`,
	"array":   `{"type":"array","items":true}`,
}

// rawInputs are input schemas, and how they are listed.
var rawInputs = map[string][2]string{
	"properties": {
		`{"type":"object","properties":{"a":true,"b":false,"c":{"type":"string","default":true,"const":null,"enum":[true,null]},"properties":true}}`,
		`{"type":"object","properties":{"a":{},"b":{"not":{}},"c":{"type":"string","default":true,"const":null,"enum":[true,null]},"properties":{}}}`,
	},
	"nested": {
		`{"type":"object","properties":{"a":{"type":"array","items":true},"b":{"anyOf":[true,false],"not":true},"c":{"prefixItems":[true],"items":false}},"$defs":{"d":true}}`,
		`{"type":"object","properties":{"a":{"type":"array","items":{}},"b":{"anyOf":[{},{"not":{}}],"not":{}},"c":{"prefixItems":[{}],"items":false}},"$defs":{"d":{}}}`,
	},
	"closed": {
		`{"type":"object","additionalProperties":false,"properties":{"a":{"type":"object","additionalProperties":true,"unevaluatedProperties":false}}}`,
		`{"type":"object","additionalProperties":false,"properties":{"a":{"type":"object","additionalProperties":{},"unevaluatedProperties":false}}}`,
	},
	"nulls": {
		`{"type":"object","properties":null,"required":null,"default":null,"items":null,"$defs":{"required":null}}`,
		`{"type":"object","default":null,"$defs":{"required":{}}}`,
	},
	"exact": {
		`{"type":"object","properties":{"z<":{"minimum":9007199254740993,"maximum":1.10,"description":"<é>"},"a":{"items":[true]}},"required":["z<"],"x-more":true}`,
		`{"type":"object","properties":{"z<":{"minimum":9007199254740993,"maximum":1.10,"description":"<é>"},"a":{"items":[{}]}},"required":["z<"],"x-more":true}`,
	},
}

// rawResults are results of tools that are added by themselves.
var rawResults = map[string]func() *mcp.CallToolResult{
	"slice":   func() *mcp.CallToolResult { return &mcp.CallToolResult{StructuredContent: []int{1, 2}} },
	"string":  func() *mcp.CallToolResult { return &mcp.CallToolResult{StructuredContent: "s"} },
	"number":  func() *mcp.CallToolResult { return &mcp.CallToolResult{StructuredContent: 7} },
	"null":    func() *mcp.CallToolResult { return &mcp.CallToolResult{StructuredContent: json.RawMessage(" null ")} },
	"nil map": func() *mcp.CallToolResult { return &mcp.CallToolResult{StructuredContent: map[string]any(nil)} },
	"struct":  func() *mcp.CallToolResult { return &mcp.CallToolResult{StructuredContent: struct{ A int }{1}} },
	"raw": func() *mcp.CallToolResult {
		return &mcp.CallToolResult{StructuredContent: json.RawMessage(` {"A": 1}`)}
	},
	"nothing":  func() *mcp.CallToolResult { return &mcp.CallToolResult{} },
	"own text": func() *mcp.CallToolResult { return own(false, "two of them") },
	"same":     func() *mcp.CallToolResult { return own(false, "[\n  1,\n  2\n]") },
	"error":    func() *mcp.CallToolResult { return own(true, "no") },
	"absent": func() *mcp.CallToolResult {
		return &mcp.CallToolResult{Content: []mcp.Content{nil, (*mcp.TextContent)(nil)}}
	},
}

func own(isError bool, text string) *mcp.CallToolResult {
	return &mcp.CallToolResult{IsError: isError, Content: []mcp.Content{&mcp.TextContent{Text: text}}, StructuredContent: []int{1, 2}}
}

// contents are blocks with members that the SDK leaves out, or that not every revision knows.
var contents = map[string]func() mcp.Content{
	"empty resource": func() mcp.Content { return &mcp.EmbeddedResource{Resource: &mcp.ResourceContents{URI: "test://e"}} },
	"empty blob": func() mcp.Content {
		return &mcp.EmbeddedResource{Resource: &mcp.ResourceContents{URI: "test://e", Blob: []byte{}}}
	},
	"no resource":   func() mcp.Content { return &mcp.EmbeddedResource{} },
	"empty text":    func() mcp.Content { return &mcp.TextContent{} },
	"empty image":   func() mcp.Content { return &mcp.ImageContent{} },
	"audio":         func() mcp.Content { return &mcp.AudioContent{MIMEType: "audio/wav", Data: []byte("RIFF")} },
	"link":          func() mcp.Content { return &mcp.ResourceLink{URI: "test://e", Name: "e", Title: "E"} },
	"nameless link": func() mcp.Content { return &mcp.ResourceLink{URI: "test://e"} },
}

// reads are made afresh: the SDK writes URIs into what it gets.
var reads = map[string]func() []*mcp.ResourceContents{
	"none": func() []*mcp.ResourceContents { return nil },
	"zero": func() []*mcp.ResourceContents { return []*mcp.ResourceContents{} },
	"text": func() []*mcp.ResourceContents { return []*mcp.ResourceContents{{}} },
	"blob": func() []*mcp.ResourceContents { return []*mcp.ResourceContents{{Blob: []byte{}}} },
	"mixed": func() []*mcp.ResourceContents {
		return []*mcp.ResourceContents{{Text: "t", MIMEType: "text/plain"}, {MIMEType: "text/plain", Meta: mcp.Meta{"k": "v"}}, {Blob: []byte("b")}}
	},
}

// A fitting is one client of a revision.
type fitting struct {
	url, revision, session string
}

// askable are the capabilities of a client that can be asked anything.
var askable = object{"elicitation": object{"form": object{}, "url": object{}}, "sampling": object{"tools": object{}}}

func fit(t *testing.T, server *mcp.Server, revision string) *fitting {
	t.Helper()
	h := sluice.NewHandler(func(*http.Request) *mcp.Server { return server }, nil)
	web := httptest.NewServer(h)
	t.Cleanup(func() {
		web.Close()
		_ = h.Close()
	})
	f := &fitting{url: web.URL, revision: revision}
	if !f.stateless() {
		f.ask(t, "initialize", object{"protocolVersion": revision, "capabilities": askable, "clientInfo": object{"name": "c", "version": "1"}})
		f.post(t, object{"jsonrpc": "2.0", "method": "notifications/initialized"}, nil)
	}
	return f
}

func (f *fitting) stateless() bool { return f.revision >= "2026" }

func (f *fitting) post(t *testing.T, body object, header http.Header) []byte {
	t.Helper()
	res := f.send(t, body, header)
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if strings.HasPrefix(res.Header.Get("Content-Type"), "text/event-stream") { // a busy machine
		for line := range strings.Lines(string(answer)) {
			if data, ok := strings.CutPrefix(line, "data: {"); ok {
				answer = []byte("{" + data)
			}
		}
	}
	return answer
}

func (f *fitting) send(t *testing.T, body object, header http.Header) *http.Response {
	t.Helper()
	data, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, f.url, bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	maps.Copy(req.Header, header)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	if f.session != "" {
		req.Header.Set("Mcp-Session-Id", f.session)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if id := res.Header.Get("Mcp-Session-Id"); id != "" {
		f.session = id
	}
	return res
}

// An outcome is the answer to a request, as JSON.
type outcome struct {
	Result json.RawMessage
	Error  *struct {
		Code    int
		Message string
	}
}

func (f *fitting) try(t *testing.T, method string, params object) outcome {
	t.Helper()
	params = f.meta(params)
	answer := f.post(t, object{"jsonrpc": "2.0", "id": 1, "method": method, "params": params}, f.header(method, params))
	var out outcome
	if err := json.Unmarshal(answer, &out); err != nil || out.Result == nil && out.Error == nil {
		t.Fatalf("%s %v answered %s (%v)", method, params, answer, err)
	}
	return out
}

// meta returns params with what each request of 2026-07-28 carries.
func (f *fitting) meta(params object) object {
	if f.stateless() {
		params["_meta"] = object{
			"io.modelcontextprotocol/protocolVersion":    f.revision,
			"io.modelcontextprotocol/clientCapabilities": askable,
		}
	}
	return params
}

// header returns the headers that mirror a request of 2026-07-28.
func (f *fitting) header(method string, params object) http.Header {
	header := http.Header{}
	if !f.stateless() {
		return header
	}
	header.Set("Mcp-Protocol-Version", f.revision)
	header.Set("Mcp-Method", method)
	for _, key := range []string{"name", "uri"} {
		if name, ok := params[key].(string); ok {
			header.Set("Mcp-Name", headerValue(name))
		}
	}
	return header
}

// ask returns the result, without what every result of its era has.
func (f *fitting) ask(t *testing.T, method string, params object) object {
	t.Helper()
	out := f.try(t, method, params)
	if out.Error != nil {
		t.Fatalf("%s %v is refused: %+v", method, params, *out.Error)
	}
	var result object
	if err := json.Unmarshal(out.Result, &result); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"_meta", "resultType", "ttlMs", "cacheScope"} {
		delete(result, key)
	}
	return result
}

// value reads JSON as a test writes it.
func value(t *testing.T, text string) any {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return v
}

// inEachRevision runs f with a client of each.
func inEachRevision(t *testing.T, f func(t *testing.T, c *fitting)) {
	t.Helper()
	for _, revision := range everyRevision {
		t.Run(revision, func(t *testing.T) {
			t.Parallel()
			f(t, fit(t, misfits(), revision))
		})
	}
}

// Clients of sessions refuse a list of tools for one output schema that is not of an object; and whoever reads properties takes
// them for objects.
func TestListedSchemas(t *testing.T) {
	t.Parallel()
	inEachRevision(t, func(t *testing.T, c *fitting) {
		out := c.try(t, "tools/list", object{})
		var list struct {
			Tools []struct {
				Name                      string
				InputSchema, OutputSchema json.RawMessage
			}
		}
		if err := json.Unmarshal(out.Result, &list); err != nil || len(list.Tools) < 30 {
			t.Fatalf("%s (%v)", out.Result, err)
		}
		outputs := map[string]string{ // in sessions none
			"typed number":   `{"type":"integer"}`,
			"output true":    `{}`,
			"output false":   `{"not":{}}`,
			"output empty":   `{}`,
			"output untyped": rawOutputs["untyped"],
			"output types":   rawOutputs["types"],
			"output ref":     rawOutputs["ref"],
			"output anyOf":   `{"anyOf":[{"type":"object"},{}]}`,
			"output array":   `{"type":"array","items":{}}`,
		}
		for _, by := range []string{"sdk", "ours"} {
			outputs["list "+by] = `{"type":["null","array"],"items":{"type":"string"}}`
			outputs["nil list "+by] = outputs["list "+by]
		}
		if !c.stateless() {
			clear(outputs)
		}
		const anything = `{"type":"object","required":["x"],"properties":{"x":{}},"additionalProperties":false}`
		outputs["output object"] = `{"type":"object","properties":{"a":{},"b":{"not":{}}}}`
		outputs["any sdk"], outputs["any ours"] = anything, anything
		inputs := map[string]string{"any sdk": anything, "any ours": anything}
		for name, schema := range rawInputs {
			inputs["input "+name] = schema[1]
		}
		for _, tool := range list.Tools {
			if want := outputs[tool.Name]; want == "" && tool.OutputSchema != nil {
				t.Errorf("%s: output schema %s, want none", tool.Name, tool.OutputSchema)
			} else if want != "" && (tool.OutputSchema == nil || !cmp.Equal(value(t, string(tool.OutputSchema)), value(t, want))) {
				t.Errorf("%s: output schema %s, want %s", tool.Name, tool.OutputSchema, want)
			}
			want := inputs[tool.Name]
			switch {
			case want == "":
			case strings.HasPrefix(tool.Name, "input ") && string(tool.InputSchema) != want,
				!cmp.Equal(value(t, string(tool.InputSchema)), value(t, want)):
				t.Errorf("%s: input schema\n%s, want\n%s", tool.Name, tool.InputSchema, want)
			}
		}
	})
}

// Until 2026-07-28 structured content is an object. What is none is said as text.
func TestStructuredContent(t *testing.T) {
	t.Parallel()
	text := func(all ...string) string {
		blocks := []object{}
		for _, s := range all {
			blocks = append(blocks, object{"type": "text", "text": s})
		}
		data, _ := json.Marshal(blocks)
		return `"content":` + string(data)
	}
	for name, want := range map[string]struct{ sessions, stateless string }{
		"list sdk":        {text(`["a"]`), text(`["a"]`) + `,"structuredContent":["a"]`},
		"list ours":       {text(`["a"]`), text(`["a"]`) + `,"structuredContent":["a"]`},
		"nil list sdk":    {text(`null`), text(`null`) + `,"structuredContent":null`},
		"typed number":    {text(`7`), text(`7`) + `,"structuredContent":7`},
		"output anyOf":    {text() + `,"structuredContent":{"a":1}`, text() + `,"structuredContent":{"a":1}`},
		"result slice":    {text(`[1,2]`), text() + `,"structuredContent":[1,2]`},
		"result string":   {text(`"s"`), text() + `,"structuredContent":"s"`},
		"result number":   {text(`7`), text() + `,"structuredContent":7`},
		"result null":     {text(`null`), text() + `,"structuredContent":null`},
		"result nil map":  {text(`null`), text() + `,"structuredContent":null`},
		"result struct":   {text() + `,"structuredContent":{"A":1}`, text() + `,"structuredContent":{"A":1}`},
		"result raw":      {text() + `,"structuredContent":{"A":1}`, text() + `,"structuredContent":{"A":1}`},
		"result nothing":  {text(), text()},
		"result own text": {text("two of them", "[1,2]"), text("two of them") + `,"structuredContent":[1,2]`},
		"result same":     {text("[\n  1,\n  2\n]"), text("[\n  1,\n  2\n]") + `,"structuredContent":[1,2]`},
		"result error":    {text("no") + `,"isError":true`, text("no") + `,"isError":true,"structuredContent":[1,2]`},
		"result absent":   {text(), text()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inEachRevision(t, func(t *testing.T, c *fitting) {
				members := want.sessions
				if c.stateless() {
					members = want.stateless
				}
				if diff := cmp.Diff(value(t, "{"+members+"}"), any(c.ask(t, "tools/call", object{"name": name}))); diff != "" {
					t.Error(diff)
				}
			})
		})
	}
}

// What a revision requires is there although it is empty, in tools' results and in prompts, and what it does not know is not.
func TestContent(t *testing.T) {
	t.Parallel()
	inEachRevision(t, func(t *testing.T, c *fitting) {
		want := map[string]string{
			"empty resource": `{"type":"resource","resource":{"uri":"test://e","text":""}}`,
			"empty blob":     `{"type":"resource","resource":{"uri":"test://e","blob":""}}`,
			"no resource":    `{"type":"resource","resource":{"uri":"","text":""}}`,
			"empty text":     `{"type":"text","text":""}`,
			"empty image":    `{"type":"image","data":"","mimeType":""}`,
			"audio":          `{"type":"audio","data":"UklGRg==","mimeType":"audio/wav"}`,
			"link":           `{"type":"resource_link","uri":"test://e","name":"e","title":"E"}`,
			"nameless link":  `{"type":"resource_link","uri":"test://e","name":""}`,
		}
		if c.revision < "2025-03-26" {
			want["audio"] = `{"type":"resource","resource":{"uri":"data:audio/wav,","mimeType":"audio/wav","blob":"UklGRg=="}}`
		}
		if c.revision < "2025-06-18" {
			want["link"] = `{"type":"text","text":"E: test://e"}`
			want["nameless link"] = `{"type":"text","text":"test://e"}`
		}
		for name, block := range want {
			got := c.ask(t, "tools/call", object{"name": "content " + name})
			if diff := cmp.Diff(value(t, `{"content":[`+block+`]}`), any(got)); diff != "" {
				t.Errorf("tool, %s: %s", name, diff)
			}
			got = c.ask(t, "prompts/get", object{"name": "content " + name})
			if diff := cmp.Diff(value(t, `{"messages":[{"role":"user","content":`+block+`}]}`), any(got)); diff != "" {
				t.Errorf("prompt, %s: %s", name, diff)
			}
		}
	})
}

// Lists that a handler leaves nil are empty, never null and no error.
func TestNothingIsNotNull(t *testing.T) {
	t.Parallel()
	inEachRevision(t, func(t *testing.T, c *fitting) {
		for _, tt := range []struct {
			method string
			params object
			want   string
		}{
			{"resources/read", object{"uri": "test://none"}, `{"contents":[]}`},
			{"resources/read", object{"uri": "test://zero"}, `{"contents":[]}`},
			{"resources/read", object{"uri": "test://text"}, `{"contents":[{"uri":"test://text","text":""}]}`},
			{"resources/read", object{"uri": "test://blob"}, `{"contents":[{"uri":"test://blob","blob":""}]}`},
			{"resources/read", object{"uri": "test://mixed"}, `{"contents":[{"uri":"test://mixed","mimeType":"text/plain","text":"t"},` +
				`{"uri":"test://mixed","mimeType":"text/plain","text":"","_meta":{"k":"v"}},{"uri":"test://mixed","blob":"Yg=="}]}`},
			{"prompts/get", object{"name": "nothing"}, `{"messages":[]}`},
			{"completion/complete", complete(""), `{"completion":{"values":[]}}`},
			{"completion/complete", complete("xx"), `{"completion":{"values":["0","1"]}}`},
		} {
			if diff := cmp.Diff(value(t, tt.want), any(c.ask(t, tt.method, tt.params))); diff != "" {
				t.Errorf("%s %v: %s", tt.method, tt.params, diff)
			}
		}
		got, _ := c.ask(t, "completion/complete", complete(strings.Repeat("x", 150)))["completion"].(object)
		if values, _ := got["values"].([]any); len(values) != 100 || got["hasMore"] != true || got["total"] != 150.0 {
			t.Errorf("150 values: %v", got) // "Must not exceed 100 items."
		}
	})
}

func complete(value string) object {
	return object{"ref": object{"type": "ref/prompt", "name": "asks"}, "argument": object{"name": "what", "value": value}}
}

// A middleware may return what no handler of the SDK would.
func TestMiddlewareReturnsNothing(t *testing.T) {
	t.Parallel()
	empty := map[string]mcp.Result{
		"tools/list":               &mcp.ListToolsResult{Tools: []*mcp.Tool{nil, {Name: "bare"}}},
		"prompts/list":             &mcp.ListPromptsResult{},
		"resources/list":           &mcp.ListResourcesResult{},
		"resources/templates/list": &mcp.ListResourceTemplatesResult{},
		"tools/call":               &mcp.CallToolResult{},
		"resources/read":           &mcp.ReadResourceResult{},
		"prompts/get":              &mcp.GetPromptResult{Messages: []*mcp.PromptMessage{nil, {}}},
	}
	for _, revision := range everyRevision {
		t.Run(revision, func(t *testing.T) {
			t.Parallel()
			server := misfits()
			server.AddReceivingMiddleware(func(next mcp.MethodHandler) mcp.MethodHandler {
				return func(ctx context.Context, method string, r mcp.Request) (mcp.Result, error) {
					if res := empty[method]; res != nil {
						return res, nil
					}
					return next(ctx, method, r)
				}
			})
			c := fit(t, server, revision)
			for _, tt := range []struct {
				method string
				params object
				want   string
			}{
				{"tools/list", object{}, `{"tools":[{"name":"bare","inputSchema":{"type":"object"}}]}`},
				{"prompts/list", object{}, `{"prompts":[]}`},
				{"resources/list", object{}, `{"resources":[]}`},
				{"resources/templates/list", object{}, `{"resourceTemplates":[]}`},
				{"tools/call", object{"name": "bare"}, `{"content":[]}`},
				{"resources/read", object{"uri": "test://x"}, `{"contents":[]}`},
				{"prompts/get", object{"name": "x"}, `{"messages":[{"role":"user","content":{"type":"text","text":""}}]}`},
			} {
				if diff := cmp.Diff(value(t, tt.want), any(c.ask(t, tt.method, tt.params))); diff != "" {
					t.Errorf("%s: %s", tt.method, diff)
				}
			}
		})
	}
}

// A prompt is not called without what it requires (Prompts, "Error Handling").
func TestRequiredArguments(t *testing.T) {
	t.Parallel()
	inEachRevision(t, func(t *testing.T, c *fitting) {
		for _, tt := range []struct {
			arguments any
			want      string // text, or what the error names
			ok        bool
		}{
			{object{"what": "this"}, "this", true},
			{object{"what": "", "unknown": "x"}, "", true},
			{object{}, `"what"`, false},
			{nil, `"what"`, false},
			{object{"more": "x"}, `"what"`, false},
			{object{"what": nil}, `"what"`, false},
		} {
			out := c.try(t, "prompts/get", object{"name": "asks", "arguments": tt.arguments})
			switch {
			case tt.ok && (out.Error != nil || !strings.Contains(string(out.Result), `"text":"`+tt.want+`"`)):
				t.Errorf("%v: %s, %+v", tt.arguments, out.Result, out.Error)
			case !tt.ok && (out.Error == nil || out.Error.Code != -32602 || !strings.Contains(out.Error.Message, tt.want)):
				t.Errorf("%v: %s, %+v, want -32602 for %s", tt.arguments, out.Result, out.Error, tt.want)
			}
		}
		if out := c.try(t, "prompts/get", object{"name": "asks"}); out.Error == nil || out.Error.Code != -32602 {
			t.Errorf("without arguments: %s, %+v", out.Result, out.Error)
		}
	})
}

// A URI has more than one spelling (RFC 3986, section 6.2.2), and an IRI is one of them (RFC 3987, section 3.1).
func TestSpellings(t *testing.T) {
	t.Parallel()
	inEachRevision(t, func(t *testing.T, c *fitting) {
		for _, tt := range []struct{ uri, seen string }{
			{"items://café/1", "items://café/1"},
			{"items://caf%C3%A9/1", "items://café/1"},
			{"items://caf%c3%a9/1", "items://café/1"},
			{"items://c%61f%C3%A9/1", "items://café/1"},
			{"items://café/%C3%BC", "items://café/%C3%BC"},
			{"items://caf%C3%A9/%C3%BC", "items://café/%C3%BC"},
			{"items://café/ü", "items://café/%C3%BC"},
			{"items://caf%C3%A9/a%2Fb", "items://café/a%2Fb"},
			{"pct://caf%C3%A9/1", "pct://caf%C3%A9/1"},
			{"pct://caf%c3%a9/1", "pct://caf%C3%A9/1"},
			{"pct://café/1", "pct://caf%C3%A9/1"},
			{"two://caf%C3%A9/x/%C3%BCber/y", "two://café/x/über/y"},
			{"path://stra%C3%9Fe/a/b?q=1", "path://straße/a/b?q=1"},
			{"exact://caf%C3%A9/na%C3%AFve", "exact://café/naïve"},
			{"exact://caf%c3%a9/naïve", "exact://café/naïve"},
			{"exact://x/a%20b", "exact://x/a b"},
			{"exact://y/caf%C3%A9", "exact://y/caf%c3%a9"},
			{"exact://y/café", "exact://y/caf%c3%a9"},
			{"items://caf%C3%A8/1", ""},
			{"items://caf%C3%A9/a/b", ""},
			{"items://caf%/1", ""},
			{"items://caf%E9/1", ""}, // Latin-1
			{"exact://x/a+b", ""},
		} {
			out := c.try(t, "resources/read", object{"uri": tt.uri})
			if tt.seen == "" {
				want := -32002
				if c.stateless() {
					want = -32602
				}
				if out.Error == nil || out.Error.Code != want {
					t.Errorf("%s: %s, %+v, want %d", tt.uri, out.Result, out.Error, want)
				}
				continue
			}
			var got struct{ Contents []struct{ URI, Text string } }
			if err := json.Unmarshal(out.Result, &got); err != nil || len(got.Contents) != 1 {
				t.Errorf("%s: %s, %+v (%v)", tt.uri, out.Result, out.Error, err)
				continue
			}
			if got := got.Contents[0]; got.Text != tt.seen || got.URI != tt.uri {
				t.Errorf("%s: the handler saw %s, want %s; the client %s", tt.uri, got.Text, tt.seen, got.URI)
			}
		}
	})
}

// What servers ask of their clients is fitted, too: it is sent by itself in sessions, and as an input request after them.
func TestAsked(t *testing.T) {
	t.Parallel()
	tools := []*mcp.Tool{{Name: "t", OutputSchema: json.RawMessage(`true`)}}
	results := []mcp.Content{&mcp.ToolResultContent{
		ToolUseID: "u", StructuredContent: []int{1},
		Content: []mcp.Content{&mcp.TextContent{}, &mcp.EmbeddedResource{Resource: &mcp.ResourceContents{URI: "test://e"}}},
	}}
	const empty = `{"role":"user","content":{"type":"text","text":""}}`
	const block = `{"type":"text","text":""},{"type":"resource","resource":{"uri":"test://e","text":""}}`
	for name, tt := range map[string]struct {
		params              mcp.InputRequest
		sessions, stateless string
	}{
		"form": {
			&mcp.ElicitParams{Message: "?"},
			`{"message":"?","mode":"form","requestedSchema":{"type":"object","properties":{}}}`, "",
		},
		"form without properties": {
			&mcp.ElicitParams{Message: "?", RequestedSchema: &jsonschema.Schema{Type: "object"}},
			`{"message":"?","mode":"form","requestedSchema":{"type":"object","properties":{}}}`, "",
		},
		"form with some": {
			&mcp.ElicitParams{Message: "?", RequestedSchema: json.RawMessage(`{"properties":{"a":{"type":"string"}},"required":null}`)},
			`{"message":"?","mode":"form","requestedSchema":{"type":"object","properties":{"a":{"type":"string"}}}}`, "",
		},
		"url": {
			&mcp.ElicitParams{Message: "?", Mode: "url", URL: "https://x.example/"},
			`{"message":"?","mode":"url","url":"https://x.example/","elicitationId":"*"}`,
			`{"message":"?","mode":"url","url":"https://x.example/"}`,
		},
		"no messages": {
			&mcp.CreateMessageWithToolsParams{MaxTokens: 1},
			`{"maxTokens":1,"messages":[]}`, "",
		},
		"empty messages": {
			&mcp.CreateMessageWithToolsParams{MaxTokens: 1, Messages: []*mcp.SamplingMessageV2{nil, {}, {Role: "user", Content: []mcp.Content{nil}}}},
			`{"maxTokens":1,"messages":[` + empty + `,` + empty + `]}`, "",
		},
		"tools": {
			&mcp.CreateMessageWithToolsParams{MaxTokens: 1, Messages: []*mcp.SamplingMessageV2{{Content: results}}, Tools: tools},
			`{"maxTokens":1,"messages":[{"role":"user","content":{"type":"tool_result","toolUseId":"u","content":[` + block + `,{"type":"text","text":"[1]"}]}}],` +
				`"tools":[{"name":"t","inputSchema":{"type":"object"}}]}`,
			`{"maxTokens":1,"messages":[{"role":"user","content":{"type":"tool_result","toolUseId":"u","content":[` + block + `],"structuredContent":[1]}}],` +
				`"tools":[{"name":"t","inputSchema":{"type":"object"},"outputSchema":{}}]}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, revision := range everyRevision[2:] {
				server := mcp.NewServer(&mcp.Implementation{Name: "asks", Version: "1"}, nil)
				raw(server, &mcp.Tool{Name: "ask"}, func() *mcp.CallToolResult {
					return &mcp.CallToolResult{InputRequests: mcp.InputRequestMap{"q": tt.params}}
				})
				c := fit(t, server, revision)
				want := tt.sessions
				if c.stateless() && tt.stateless != "" {
					want = tt.stateless
				}
				got := c.asked(t)
				if id, _ := got["elicitationId"].(string); id != "" {
					got["elicitationId"] = "*"
				}
				if diff := cmp.Diff(value(t, want), any(got)); diff != "" {
					t.Errorf("%s: %s", revision, diff)
				}
			}
		})
	}
}

// asked calls the tool "ask", and returns the params of what that asks.
func (f *fitting) asked(t *testing.T) object {
	t.Helper()
	if f.stateless() {
		requests, _ := f.ask(t, "tools/call", object{"name": "ask"})["inputRequests"].(object)
		request, _ := requests["q"].(object)
		params, _ := request["params"].(object)
		return params
	}
	res := f.send(t, object{"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": object{"name": "ask"}}, nil)
	defer res.Body.Close()
	m := hear(t, events(t, res))
	if m.Method == "" {
		t.Fatalf("the call was answered with %+v, want a request", m)
	}
	return m.Params
}

// A client that has subscribed to one spelling hears of the resource when the server tells of another, and under its own.
func TestSubscribedSpelling(t *testing.T) {
	t.Parallel()
	const uri, plain = "items://caf%C3%A9/1", "pct://caf%C3%A9/1"
	for _, revision := range everyRevision[1:] {
		t.Run(revision, func(t *testing.T) {
			t.Parallel()
			server := misfits()
			c := fit(t, server, revision)
			var res *http.Response
			if c.stateless() {
				params := c.meta(object{"notifications": object{"resourceSubscriptions": []string{uri, plain}}})
				res = c.send(t, object{"jsonrpc": "2.0", "id": 1, "method": "subscriptions/listen", "params": params}, c.header("subscriptions/listen", params))
			} else {
				for _, uri := range []string{uri, plain, "items://caf%C3%A9/2"} {
					c.ask(t, "resources/subscribe", object{"uri": uri})
				}
				c.ask(t, "resources/unsubscribe", object{"uri": "items://caf%C3%A9/2"})
				res = c.listen(t)
			}
			defer res.Body.Close()
			messages := events(t, res)
			if c.stateless() {
				ack := hear(t, messages)
				granted, _ := ack.Params["notifications"].(object)
				if diff := cmp.Diff(any([]any{uri, plain}), granted["resourceSubscriptions"]); diff != "" {
					t.Errorf("acknowledged: %s", diff)
				}
			}
			for _, updated := range []string{"items://café/2", "items://café/1", plain} {
				if err := server.ResourceUpdated(t.Context(), &mcp.ResourceUpdatedNotificationParams{URI: updated}); err != nil {
					t.Fatal(err)
				}
			}
			for _, want := range []string{uri, plain} {
				if m := hear(t, messages); m.Method != "notifications/resources/updated" || m.Params["uri"] != want {
					t.Errorf("heard %+v, want %s", m, want)
				}
			}
		})
	}
}

// listen opens the stream of a session.
func (f *fitting) listen(t *testing.T) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, f.url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "text/event-stream")
	req.Header.Set("Mcp-Session-Id", f.session)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// A said is a message of the server's.
type said struct {
	Method string
	Params object
}

// events reads a stream, until it ends.
func events(t *testing.T, res *http.Response) <-chan said {
	t.Helper()
	out := make(chan said, 16)
	go func() {
		defer close(out)
		for lines := bufio.NewScanner(res.Body); lines.Scan(); {
			data, ok := strings.CutPrefix(lines.Text(), "data: ")
			if !ok || data == "" {
				continue
			}
			var m said
			if err := json.Unmarshal([]byte(data), &m); err != nil {
				t.Errorf("%s: %v", data, err)
			}
			out <- m
		}
	}()
	return out
}

// hear returns the next message.
func hear(t *testing.T, messages <-chan said) said {
	t.Helper()
	select {
	case m, ok := <-messages:
		if ok {
			return m
		}
		t.Fatal("the stream has ended")
	case <-time.After(10 * time.Second):
		t.Fatal("nothing is said")
	}
	return said{}
}

// headerValue writes a name that a header cannot carry as it is (Streamable HTTP, "Standard Request Headers").
func headerValue(name string) string {
	if strings.ContainsFunc(name, func(r rune) bool { return r > '~' || r < ' ' }) {
		return "=?base64?" + base64.StdEncoding.EncodeToString([]byte(name)) + "?="
	}
	return name
}
