package typed

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/jsonschema-go/jsonschema"
)

// That plans agree with the SDK is for the tests of sluice.AddTool to show.
// These show that plans are made, and used, where they should be.

type point struct {
	X int     `json:"x"`
	Y float64 `json:"y,omitempty"`
}

type page struct {
	Limit int `json:"limit,omitempty"`
}

type everything struct {
	page
	Name  string            `json:"name"`
	On    *bool             `json:"on,omitempty"`
	When  time.Time         `json:"when,omitzero"`
	Wait  time.Duration     `json:"wait,omitempty"`
	Point point             `json:"point,omitzero"`
	Far   *point            `json:"far,omitempty"`
	All   []point           `json:"all,omitempty"`
	Dict  map[string]*point `json:"dict,omitempty"`
	Any   any               `json:"any,omitempty"`
	Half  float32           `json:"half,omitempty"`
	Byte  uint8             `json:"byte,omitempty"`
}

type raw struct {
	Raw  json.RawMessage `json:"raw,omitempty"`
	Name string          `json:"name"`
}

func inferred[T any](change ...func(*jsonschema.Schema)) *jsonschema.Schema {
	s, err := jsonschema.For[T](nil)
	if err != nil {
		panic(err) // a mistake in this file
	}
	for _, c := range change {
		c(s)
	}
	return s
}

func TestPlans(t *testing.T) {
	t.Parallel()
	type recursive struct {
		Next *recursive `json:"next,omitempty"`
	}
	type renamed struct {
		A int `json:"<a>"`
	}
	type quoted struct {
		A int `json:"a,string"`
	}
	type tagged struct {
		page `json:"page"`
	}
	type clash struct {
		page
		Limit string `json:"limit"`
	}
	with := func(change func(*jsonschema.Schema)) *jsonschema.Schema { return inferred[point](change) }
	for name, tt := range map[string]struct {
		schema        *jsonschema.Schema
		typ           reflect.Type
		input, output bool
	}{
		"point":      {inferred[point](), reflect.TypeFor[point](), true, true},
		"pointer":    {inferred[point](), reflect.TypeFor[*point](), true, true},
		"everything": {inferred[everything](), reflect.TypeFor[everything](), true, true},
		"map":        {inferred[map[string]any](), reflect.TypeFor[map[string]any](), true, true},
		"any":        {&jsonschema.Schema{Type: "object"}, reflect.TypeFor[any](), true, false},
		"raw field":  {inferred[raw](), reflect.TypeFor[raw](), true, true},
		"raw":        {&jsonschema.Schema{Type: "object"}, reflect.TypeFor[json.RawMessage](), true, false},
		"slice":      {inferred[[]point](), reflect.TypeFor[[]point](), false, false},
		"recursive":  {&jsonschema.Schema{Type: "object"}, reflect.TypeFor[recursive](), true, true}, // up to next
		"renamed":    {inferred[renamed](), reflect.TypeFor[renamed](), false, false},
		"quoted":     {inferred[quoted](), reflect.TypeFor[quoted](), false, false},
		"tagged":     {inferred[tagged](), reflect.TypeFor[tagged](), false, false},
		"clash":      {inferred[clash](), reflect.TypeFor[clash](), false, false},
		"open":       {with(func(s *jsonschema.Schema) { s.AdditionalProperties = nil }), reflect.TypeFor[point](), true, true},
		"described": {with(func(s *jsonschema.Schema) {
			s.Title, s.Examples, s.Extra = "T", []any{1}, map[string]any{"x-mcp-header": "X"}
			s.Schema = "https://json-schema.org/draft/2020-12/schema"
		}), reflect.TypeFor[point](), true, true},
		"older draft": {with(func(s *jsonschema.Schema) { s.Schema = "http://json-schema.org/draft-07/schema#" }), reflect.TypeFor[point](), false, false},
		"limits":      {with(func(s *jsonschema.Schema) { s.Properties["x"].Enum = []any{1, 2.0} }), reflect.TypeFor[point](), true, true},
		"default":     {with(func(s *jsonschema.Schema) { s.Properties["y"].Default = json.RawMessage("1") }), reflect.TypeFor[point](), true, true},
		"const":       {with(func(s *jsonschema.Schema) { s.Properties["x"].Const = new(any(1)) }), reflect.TypeFor[point](), false, false},
		"oneOf":       {with(func(s *jsonschema.Schema) { s.OneOf = []*jsonschema.Schema{{}} }), reflect.TypeFor[point](), false, false},
		"reference":   {with(func(s *jsonschema.Schema) { s.Properties["x"] = &jsonschema.Schema{Ref: "#"} }), reflect.TypeFor[point](), false, false},
		"count":       {with(func(s *jsonschema.Schema) { s.MinProperties = new(1) }), reflect.TypeFor[point](), false, false},
		"foreign":     {with(func(s *jsonschema.Schema) { s.Required = append(s.Required, "z") }), reflect.TypeFor[point](), false, false},
		"wrong type":  {with(func(s *jsonschema.Schema) { s.Properties["x"].Type = "string" }), reflect.TypeFor[point](), false, false},
	} {
		if got := compile(tt.schema, tt.typ, input) != nil; got != tt.input {
			t.Errorf("%s: input plan %v, want %v", name, got, tt.input)
		}
		if got := compile(tt.schema, tt.typ, output) != nil; got != tt.output {
			t.Errorf("%s: output plan %v, want %v", name, got, tt.output)
		}
	}
}

func TestDecode(t *testing.T) {
	t.Parallel()
	p := compile(inferred[everything](func(s *jsonschema.Schema) {
		s.Properties["limit"].Default = json.RawMessage("20")
		s.Properties["limit"].Maximum = new(100.0)
	}), reflect.TypeFor[everything](), input)
	yes := true
	for in, want := range map[string]*everything{
		`{"name":"n"}`: {page: page{20}, Name: "n"},
		"\t{ \"limit\" : 1 ,\n\"name\" : \"a\\né\" }\r":    {page: page{1}, Name: "a\né"},
		`{"name":"\ud83d\ude00","limit":-5}`:               {page: page{-5}, Name: "😀"},
		`{"name":"","on":true,"wait":5}`:                   {page: page{20}, On: &yes, Wait: 5},
		`{"name":"","on":null,"all":null}`:                 {page: page{20}},
		`{"name":"","far":{"x":1,"y":-1e-2}}`:              {page: page{20}, Far: &point{1, -0.01}},
		`{"name":"","all":[{"x":1},{"x":2}]}`:              {page: page{20}, All: []point{{X: 1}, {X: 2}}},
		`{"name":"","dict":{"a":null}}`:                    {page: page{20}, Dict: map[string]*point{"a": nil}},
		`{"name":"","any":{"a":[1,"b",null]}}`:             {page: page{20}, Any: map[string]any{"a": []any{1.0, "b", nil}}},
		`{"name":"n","limit":1.0,"wait":9007199254740993}`: {page: page{1}, Name: "n", Wait: 1<<53 + 1},
		`{"name":"","half":0.5,"byte":255}`:                {page: page{20}, Half: 0.5, Byte: 255},
		`{"name":"","when":"2026-07-28T01:02:03.5Z"}`: {
			page: page{20}, When: time.Date(2026, 7, 28, 1, 2, 3, 5e8, time.UTC),
		},

		``: nil, `null`: nil, `[]`: nil, `{"name":"n"`: nil, `{"name":"n"}x`: nil, `{"Name":"n"}`: nil,
		`{"name":1}`: nil, `{"name":null}`: nil, `{"name":"n","name":"n"}`: nil, `{"name":"n","more":1}`: nil,
		`{"name":"n","limit":101}`: nil, `{"name":"n","limit":01}`: nil,
		`{"name":"n","byte":256}`: nil, `{"name":"n","byte":-1}`: nil, `{"name":"n","half":1e39}`: nil,
		`{"name":"\ud83d"}`: nil, "{\"name\":\"\xff\"}": nil,
		`{"name":"n","when":"2026-02-30T01:02:03Z"}`: nil, `{"name":"n","point":{}}`: nil,
		`{"name":"n","any":` + strings.Repeat("[", 300) + strings.Repeat("]", 300) + `}`: nil,
	} {
		var got everything
		ok := p.Decode([]byte(in), &got)
		if ok != (want != nil) {
			t.Errorf("%s: %v", in, ok)
		} else if ok && !reflect.DeepEqual(&got, want) {
			t.Errorf("%s:\ngot  %+v\nwant %+v", in, got, *want)
		}
	}
}

func TestAppend(t *testing.T) {
	t.Parallel()
	p := compile(inferred[everything](func(s *jsonschema.Schema) {
		s.Properties["name"].MaxLength = new(5)
	}), reflect.TypeFor[everything](), output)
	for _, tt := range []struct {
		in   everything
		want string // "" if the plan gives up
	}{
		{everything{Name: "<é>"}, `{"name":"\u003cé\u003e"}`},
		{
			everything{page: page{3}, All: []point{{Y: 1e21}}, When: time.Date(2026, 7, 28, 1, 2, 3, 0, time.UTC)},
			`{"all":[{"x":0,"y":1e+21}],"limit":3,"name":"","when":"2026-07-28T01:02:03Z"}`,
		},
		{
			everything{Wait: 1<<53 + 1, Dict: map[string]*point{"b": nil, "a": {X: 1}}, Any: map[string]any{"z": []any{1, nil}}},
			`{"any":{"z":[1,null]},"dict":{"a":{"x":1},"b":null},"name":"","wait":9007199254740993}`,
		},
		{everything{Name: "too long"}, ""},
		{everything{Name: "\xff"}, ""},
		{everything{Any: []int{1}}, ""},
		{everything{When: time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)}, ""},
	} {
		got, ok := p.Append(nil, &tt.in)
		if ok != (tt.want != "") || ok && string(got) != tt.want {
			t.Errorf("%+v:\ngot  %s, %v\nwant %s", tt.in, got, ok, tt.want)
		}
	}
}
