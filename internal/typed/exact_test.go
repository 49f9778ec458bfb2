package typed_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"math"
	"math/big"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/jsonschema-go/jsonschema"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice"
	"github.com/sluice-mcp/sluice/internal/sitetest"
	"github.com/sluice-mcp/sluice/internal/wire"
)

// What a typed tool says and is told where the SDK would change or refuse it, over HTTP, in both eras.

type digits struct {
	Int   int64             `json:"int,omitempty"`
	Uint  uint64            `json:"uint,omitempty"`
	Ptr   *int64            `json:"ptr,omitempty"`
	List  []int64           `json:"list,omitempty"`
	Map   map[string]uint64 `json:"map,omitempty"`
	Deep  []map[color]*deep `json:"deep,omitempty"`
	Any   any               `json:"any,omitempty"`
	Num   json.Number       `json:"num,omitempty"`
	Array [2]int64          `json:"array,omitzero"`
	Wait  time.Duration     `json:"wait,omitempty"`
	Big   *big.Int          `json:"big,omitempty"`
	Half  float64           `json:"half,omitempty"`
	promoted
}

type deep struct {
	ID int64 `json:"id"`
}

type promoted struct {
	Promoted int64 `json:"promoted,omitempty"`
}

// tree has values of itself, so that its schema must be given.
type tree struct {
	ID       int64   `json:"id"`
	Any      any     `json:"any,omitempty"`
	Children []*tree `json:"children,omitempty"`
}

type blob []byte

type carriers struct {
	Raw    json.RawMessage            `json:"raw,omitempty"`
	RawPtr *json.RawMessage           `json:"rawPtr,omitempty"`
	Raws   []json.RawMessage          `json:"raws,omitempty"`
	RawMap map[string]json.RawMessage `json:"rawMap,omitempty"`
	Bytes  []byte                     `json:"bytes,omitempty"`
	Blob   blob                       `json:"blob,omitempty"`
	Blobs  [][]byte                   `json:"blobs,omitempty"`
	Ptr    *[]byte                    `json:"ptr,omitempty"`
	Map    map[string]blob            `json:"map,omitempty"`
	Four   [4]byte                    `json:"four,omitzero"`
	Inner  struct {
		Bytes []byte `json:"bytes,omitempty"`
	} `json:"inner,omitzero"`
	embeddedBytes
}

// quoted has numbers in quotes, which is how programs keep the digits of IDs for JavaScript.
type quoted struct {
	ID    int64    `json:"id,string"`
	Small *uint8   `json:"small,string,omitempty"`
	Ratio float64  `json:"ratio,string,omitempty"`
	On    bool     `json:"on,string,omitempty"`
	Below []quoter `json:"below,omitempty"`
}

type quoter struct {
	ID uint64 `json:"id,string"`
}

type embeddedBytes struct {
	Embedded []byte `json:"embedded,omitempty"`
}

// standard has types of the standard library with a JSON form or a text of their own.
type standard struct {
	Time   time.Time           `json:"time,omitzero"`
	Level  slog.Level          `json:"level,omitempty"`
	Int    *big.Int            `json:"int,omitempty"`
	Rat    *big.Rat            `json:"rat,omitempty"`
	Float  *big.Float          `json:"float,omitempty"`
	Addr   netip.Addr          `json:"addr,omitzero"`
	Prefix *netip.Prefix       `json:"prefix,omitempty"`
	Number json.Number         `json:"number,omitempty"`
	UUIDs  []uuid              `json:"uuids,omitempty"`
	ByUUID map[uuid]netip.Addr `json:"byUUID,omitempty"`
	Any    custom              `json:"any,omitzero"`
}

// uuid is an array of bytes with a text of its own, as those of the common libraries are.
type uuid [2]byte

func (u uuid) MarshalText() ([]byte, error) { return []byte("u-" + string(u[:])), nil }

func (u *uuid) UnmarshalText(text []byte) error {
	if len(text) != 4 {
		return io.ErrUnexpectedEOF
	}
	copy(u[:], text[2:])
	return nil
}

// same is a tool that answers with its arguments.
func same[T any](_ context.Context, _ *mcp.CallToolRequest, in T) (*mcp.CallToolResult, T, error) {
	return nil, in, nil
}

func TestAddToolKeepsWhatItIsTold(t *testing.T) {
	t.Parallel()
	s := mcp.NewServer(&mcp.Implementation{Name: "s"}, nil)
	sluice.AddTool(s, &mcp.Tool{Name: "digits"}, same[digits])
	sluice.AddTool(s, &mcp.Tool{Name: "map"}, same[map[string]any])
	sluice.AddTool(s, &mcp.Tool{Name: "ids"}, same[map[string]int64])
	sluice.AddTool(s, &mcp.Tool{Name: "any"}, same[any])
	sluice.AddTool(s, &mcp.Tool{Name: "carriers"}, same[carriers])
	sluice.AddTool(s, &mcp.Tool{Name: "raw"}, same[json.RawMessage])
	sluice.AddTool(s, &mcp.Tool{Name: "standard"}, same[standard])
	sluice.AddTool(s, &mcp.Tool{Name: "quoted"}, same[quoted])
	s.AddTool(&mcp.Tool{Name: "untyped", InputSchema: json.RawMessage(`{"type":"object"}`)}, func(_ context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		return &mcp.CallToolResult{
			Content: []mcp.Content{&mcp.TextContent{Text: string(req.Params.Arguments)}}, StructuredContent: req.Params.Arguments,
		}, nil
	})
	// Beyond the compiler: the long way.
	beyond := json.RawMessage(`{"type":"object","allOf":[{}],"patternProperties":{"^x":{}}}`)
	sluice.AddTool(s, &mcp.Tool{Name: "long digits", InputSchema: beyond, OutputSchema: beyond}, same[digits])
	sluice.AddTool(s, &mcp.Tool{Name: "long map", InputSchema: beyond, OutputSchema: beyond}, same[map[string]any])
	sluice.AddTool(s, &mcp.Tool{Name: "long carriers", InputSchema: beyond, OutputSchema: beyond}, same[carriers])
	sluice.AddTool(s, &mcp.Tool{Name: "tree", InputSchema: beyond, OutputSchema: beyond}, same[tree])
	// Nothing but a default is in the way.
	sluice.AddTool(s, &mcp.Tool{Name: "default", InputSchema: json.RawMessage(
		`{"type":"object","properties":{"int":{"type":"integer","default":9007199254740993},"any":{"default":{"id":9007199254740993}}}}`)}, same[digits])
	sluice.AddTool(s, &mcp.Tool{Name: "long default", InputSchema: json.RawMessage(
		`{"type":"object","allOf":[{}],"properties":{"int":{"type":"integer","default":9007199254740993},"any":{"default":{"id":9007199254740993}}}}`)}, same[digits])
	call := sitetest.InBothEras(t, s)
	for _, tt := range []struct{ tool, arguments, want string }{
		{"digits", `{"int":9007199254740993}`, ``},
		{"digits", `{"int":-9223372036854775808,"uint":18446744073709551615,"wait":9223372036854775807}`, ``},
		{"digits", `{"list":[9007199254740993,-9007199254740993],"map":{"a":18446744073709551615},"ptr":9007199254740993}`, ``},
		{"digits", `{"deep":[{"a":{"id":9007199254740993},"b":null}],"promoted":9007199254740993}`, ``},
		{"digits", `{"array":[9007199254740993,1]}`, ``},
		{"digits", `{"big":123456789012345678901234567890}`, ``},
		{"digits", `{"num":1.10}`, ``},
		{"digits", `{"num":9007199254740993.10}`, ``},
		{"digits", `{"num":1e2}`, ``},
		{"digits", `{"int":5.0,"uint":1e2,"list":[50e-1]}`, `{"int":5,"list":[5],"uint":100}`},
		{"digits", `{"int":9007199254740993.0,"uint":1.8446744073709551615e19}`, `{"int":9007199254740993,"uint":18446744073709551615}`},
		{"digits", `{"int":5.0,"any":1.50,"num":1.10}`, `{"any":1.5,"int":5,"num":1.10}`},
		{"digits", `{"any":9007199254740993}`, ``},
		{"digits", `{"any":{"a":[9007199254740993,{"b":-9007199254740993}],"c":123456789012345678901234567890,"d":1.5}}`, ``},
		{"digits", `{"half":9007199254740993}`, `{"half":9007199254740992}`}, // a float64 is one
		{"map", `{"a":9007199254740993,"b":[18446744073709551615],"c":0.1}`, ``},
		{"ids", `{"a":9007199254740993}`, ``},
		{"any", `{"a":9007199254740993,"b":[18446744073709551615]}`, ``},
		{"long digits", `{"int":9007199254740993,"any":[9007199254740993],"list":[9007199254740993],"num":1.10}`, `{"any":[9007199254740993],"int":9007199254740993,"list":[9007199254740993],"num":1.10}`},
		{"long digits", `{"int":5.0,"array":[9007199254740993,2],"any":9007199254740993}`, `{"any":9007199254740993,"array":[9007199254740993,2],"int":5}`},
		{"long map", `{"a":9007199254740993,"b":[18446744073709551615],"c":0.1}`, ``},
		{"quoted", `{"id":"9007199254740993"}`, ``},
		{"quoted", `{"below":[{"id":"18446744073709551615"}],"id":"-1","on":"true","ratio":"1.5","small":"255"}`, ``},
		{"quoted", `{"id":5}`, `validating "arguments": validating root: validating /properties/id: type: 5 has type "integer", want "string"`},
		{"untyped", `{"a":9007199254740993,"b":[1.10]}`, ``},
		{"tree", `{"any":9007199254740993,"children":[{"any":{"a":9007199254740993},"id":9007199254740993}],"id":1}`, ``},
		{"default", `{}`, `{"any":{"id":9007199254740993},"int":9007199254740993}`},
		{"long default", `{}`, `{"any":{"id":9007199254740993},"int":9007199254740993}`},

		{"carriers", `{"raw":{"b":1.10,"a":[9007199254740993,1e2,null,"<"]}}`, `{"raw":{"b":1.10,"a":[9007199254740993,1e2,null,"\u003c"]}}`},
		{"carriers", `{"raw":"text"}`, ``},
		{"carriers", `{"raw":5.0}`, ``},
		{"carriers", `{"raw":true}`, ``},
		{"carriers", `{"raw":[]}`, ``},
		{"carriers", `{"rawMap":{"a":1.0,"b":{}},"rawPtr":{"a":1.10},"raws":[1.10,"a",[null]]}`, ``},
		{"carriers", `{"blob":"AAE=","bytes":"AAECAw==","map":{"a":"_"}}`, `validating "arguments": validating root: validating /properties/map: ` +
			`validating /properties/map/additionalProperties: contentEncoding: illegal base64 data at input byte 0`},
		{"carriers", `{"blob":"AAE=","blobs":["AA==",""],"bytes":"AAECAw==","embedded":"/w==","four":[1,2,3,4],"inner":{"bytes":"AAE="},"map":{"a":"AA=="},"ptr":"AA=="}`, ``},
		{"carriers", `{"bytes":"A"}`, `validating "arguments": validating root: validating /properties/bytes: contentEncoding: illegal base64 data at input byte 0`},
		{"carriers", `{"bytes":[1]}`, `validating "arguments": validating root: validating /properties/bytes: type: [1] has type "array", want one of "null, string"`},
		{"carriers", `{"four":[1,2,3]}`, `validating "arguments": validating root: validating /properties/four: minItems: array length 3 is less than 4`},
		{"long carriers", `{"bytes":"AAE=","raw":{"a":1.10,"b":9007199254740993}}`, ``},
		{"raw", `{"b":9007199254740993,"a":1.10}`, ``},

		{
			"standard", `{"addr":"::1","any":{"a":1},"byUUID":{"u-ab":"127.0.0.1"},"float":"1.5","int":9007199254740993,"level":"WARN",` +
				`"number":1.10,"prefix":"10.0.0.0/8","rat":"1/3","time":"2026-07-28T01:02:03Z","uuids":["u-cd"]}`,
			`{"addr":"::1","any":{"z":7, "a":1},"byUUID":{"u-ab":"127.0.0.1"},"float":"1.5","int":9007199254740993,"level":"WARN",` +
				`"number":1.10,"prefix":"10.0.0.0/8","rat":"1/3","time":"2026-07-28T01:02:03Z","uuids":["u-cd"]}`,
		},
		{"standard", `{"addr":"nowhere"}`, `ParseAddr("nowhere"): unable to parse IP`},
		{"standard", `{"int":"5"}`, `validating "arguments": validating root: validating /properties/int: type: 5 has type "string", want one of "null, integer"`},
	} {
		if tt.want == "" {
			tt.want = tt.arguments
		}
		result := call(tt.tool, tt.arguments)
		text := sitetest.TextOf(t, result)
		if structured := wire.Member(result, "structuredContent"); structured != nil {
			if string(structured) != text {
				t.Errorf("%s %s: structured content %s, text %s", tt.tool, tt.arguments, structured, text)
			}
			text, tt.want = sortedMembers(t, text), sortedMembers(t, tt.want)
		}
		if text != tt.want {
			t.Errorf("%s %s:\ngot  %s\nwant %s", tt.tool, tt.arguments, text, tt.want)
		}
	}
}

// sortedMembers returns JSON with its members sorted and its numbers as they are written.
func sortedMembers(t *testing.T, text string) string {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		t.Errorf("%s: %v", text, err)
	}
	return string(toJSON(v))
}

// The dynamic types of any are Go's convention, wherever that loses nothing.
func TestAddToolTypesOfAny(t *testing.T) {
	t.Parallel()
	s := mcp.NewServer(&mcp.Implementation{Name: "s"}, nil)
	var got map[string]any
	keep := func(_ context.Context, _ *mcp.CallToolRequest, in map[string]any) (*mcp.CallToolResult, any, error) {
		got = in
		return nil, nil, nil
	}
	sluice.AddTool(s, &mcp.Tool{Name: "short"}, keep)
	sluice.AddTool(s, &mcp.Tool{Name: "long", InputSchema: json.RawMessage(`{"type":"object","allOf":[{}]}`)}, keep)
	call := sitetest.InBothEras(t, s)
	for literal, want := range map[string]any{
		`1`: 1.0, `-0`: math.Copysign(0, -1), `1.10`: 1.1, `1e2`: 100.0, `1e23`: 1e23, `100000000000000000000000`: 1e23,
		`9007199254740992`: float64(1 << 53), `9007199254740994`: float64(1<<53 + 2), `0.12345678901234567890`: 0.12345678901234567890,
		`9007199254740993`: json.Number("9007199254740993"), `-9007199254740993`: json.Number("-9007199254740993"),
		`9007199254740993.0`: json.Number("9007199254740993"), `9.007199254740993e15`: json.Number("9007199254740993"),
		`123456789012345678901234567890`: json.Number("123456789012345678901234567890"),
	} {
		for _, tool := range []string{"short", "long"} {
			call(tool, `{"a":`+literal+`}`)
			if got["a"] != want {
				t.Errorf("%s: %s is %T %[3]v, want %T %[4]v", tool, literal, got["a"], want)
			}
		}
	}
}

// Limits are those of the number itself, on the short way and on the long one.
func TestAddToolLimitsAreExact(t *testing.T) {
	t.Parallel()
	for schema, args := range map[string][2]string{ // what passes, and what does not
		`"maximum":9007199254740992`:                       {`9007199254740992`, `9007199254740993`},
		`"minimum":-9007199254740992`:                      {`-9007199254740992`, `-9007199254740993`},
		`"exclusiveMinimum":9007199254740992`:              {`9007199254740993`, `9007199254740992`},
		`"exclusiveMaximum":-9007199254740992`:             {`-9007199254740993`, `-9007199254740992`},
		`"multipleOf":2`:                                   {`9007199254740994`, `9007199254740993`},
		`"multipleOf":3`:                                   {`9223372036854775806`, `9223372036854775807`},
		`"enum":[9007199254740993]`:                        {`9007199254740993`, `9007199254740992`},
		`"const":9007199254740993`:                         {`9007199254740993`, `9007199254740992`},
		`"anyOf":[{"enum":[1,9007199254740993]}]`:          {`9007199254740993`, `9007199254740992`},
		`"type":"integer"`:                                 {`5.0`, `5.5`},
		`"type":"integer","maximum":9223372036854774784`:   {`9223372036854774784`, `9223372036854774785`},
		`"type":"integer","minimum":1,"multipleOf":1e3`:    {`9007199254741000`, `9007199254740993`},
		`"type":"integer","exclusiveMaximum":1.0000001e16`: {`10000000999999999`, `10000001000000000`},
	} {
		s := mcp.NewServer(&mcp.Implementation{Name: "s"}, nil)
		object := `{"type":"object","properties":{"int":{` + schema + `},"list":{"items":{` + schema + `}}}`
		sluice.AddTool(s, &mcp.Tool{Name: "short", InputSchema: json.RawMessage(object + `}`)}, same[digits])
		sluice.AddTool(s, &mcp.Tool{Name: "long", InputSchema: json.RawMessage(object + `,"allOf":[{}]}`)}, same[digits])
		sluice.AddTool(s, &mcp.Tool{Name: "out", OutputSchema: json.RawMessage(object + `}`)}, same[digits])
		call := sitetest.InBothEras(t, s)
		for _, tool := range []string{"short", "long", "out"} {
			for i, literal := range args {
				for _, arguments := range []string{`{"int":` + literal + `}`, `{"list":[` + literal + `]}`} {
					result := call(tool, arguments)
					if passed := wire.Member(result, "structuredContent") != nil; passed != (i == 0) {
						t.Errorf("%s {%s}, %s: %s", tool, schema, arguments, result)
					}
				}
			}
		}
	}
}

func TestAddToolInfers(t *testing.T) {
	t.Parallel()
	s := mcp.NewServer(&mcp.Implementation{Name: "s"}, nil)
	sluice.AddTool(s, &mcp.Tool{Name: "carriers"}, same[carriers])
	sluice.AddTool(s, &mcp.Tool{Name: "standard"}, same[standard])
	sluice.AddTool(s, &mcp.Tool{Name: "raw"}, same[json.RawMessage])
	sluice.AddTool(s, &mcp.Tool{Name: "bytes"}, func(context.Context, *mcp.CallToolRequest, any) (*mcp.CallToolResult, []byte, error) {
		return nil, nil, nil
	})
	sluice.AddTool(s, &mcp.Tool{Name: "self"}, func(context.Context, *mcp.CallToolRequest, selfReading) (*mcp.CallToolResult, any, error) {
		return nil, nil, nil
	})
	method, ss := sitetest.Direct(t, s, "2026-07-28")
	res, err := method(t.Context(), "tools/list", &mcp.ListToolsRequest{Session: ss, Params: &mcp.ListToolsParams{}})
	if err != nil {
		t.Fatal(err)
	}
	for _, tool := range res.(*mcp.ListToolsResult).Tools {
		var in, out jsonschema.Schema
		if err := json.Unmarshal(toJSON(tool.InputSchema), &in); err != nil {
			t.Error(err)
		}
		if err := json.Unmarshal(toJSON(tool.OutputSchema), &out); err != nil {
			t.Error(err)
		}
		for path, want := range map[string]map[string]string{
			"carriers": {
				"raw": `true`, "rawPtr": `true`, "raws": `{"type":["null","array"],"items":true}`, "rawMap": `{"type":"object","additionalProperties":true}`,
				"bytes": `{"type":["null","string"],"contentEncoding":"base64"}`, "blob": `{"type":["null","string"],"contentEncoding":"base64"}`,
				"blobs": `{"type":["null","array"],"items":{"type":["null","string"],"contentEncoding":"base64"}}`,
				"ptr":   `{"type":["null","string"],"contentEncoding":"base64"}`, "embedded": `{"type":["null","string"],"contentEncoding":"base64"}`,
				"four": `{"type":"array","items":{"type":"integer","minimum":0,"maximum":255},"minItems":4,"maxItems":4}`,
			},
			"standard": {
				"time": `{"type":"string"}`, "level": `{"type":"string"}`, "int": `{"type":["null","integer"]}`, "rat": `{"type":["null","string"]}`,
				"float": `{"type":["null","string"]}`, "addr": `{"type":"string"}`, "prefix": `{"type":["null","string"]}`, "number": `{"type":"number"}`,
				"uuids": `{"type":["null","array"],"items":{"type":"string"}}`, "byUUID": `{"type":"object","additionalProperties":{"type":"string"}}`, "any": `true`,
			},
		}[tool.Name] {
			for _, schema := range []jsonschema.Schema{in, out} {
				if got := toJSON(schema.Properties[path]); !bytes.Equal(canonical(got), canonical([]byte(want))) {
					t.Errorf("%s.%s: %s, want %s", tool.Name, path, got, want)
				}
			}
		}
		switch tool.Name {
		case "raw":
			if got := string(toJSON(in)); got != `{"type":"object"}` {
				t.Errorf("raw: %s", got)
			}
		case "bytes":
			if got := string(toJSON(out)); got != `{"type":["null","string"],"contentEncoding":"base64"}` {
				t.Errorf("bytes: %s", got)
			}
		case "self":
			if in.Properties["limit"] == nil {
				t.Errorf("arguments that read themselves: %s, want their fields", toJSON(in))
			}
		}
	}
}

// selfReading has defaults of its own, in the way that Go programs often give them.
type selfReading struct {
	Limit int `json:"limit,omitempty"`
}

func (s *selfReading) UnmarshalJSON(data []byte) error {
	type plain selfReading
	s.Limit = 10
	return json.Unmarshal(data, (*plain)(s))
}

func canonical(data []byte) []byte { return []byte(round(data)) }
