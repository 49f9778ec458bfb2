package typed_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/jsonschema-go/jsonschema"
	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice"
	"github.com/sluice-mcp/sluice/internal/sitetest"
	"github.com/sluice-mcp/sluice/internal/typed"
)

// A pair is one tool twice, added by the SDK and by us, whose answers must be the same.
type pair interface {
	in() reflect.Type
	// compare calls both with args, lets both tools answer with output number seed, and reports the difference.
	compare(args []byte, seed uint64) error
	// tools compares the definitions.
	tools() error
}

type twins[In, Out any] struct{ theirs, ours *twin[In, Out] }

type twin[In, Out any] struct {
	method  mcp.MethodHandler
	session *mcp.ServerSession
	tool    *mcp.Tool
	got     []In
	answer  said[Out]
}

type said[Out any] struct {
	res *mcp.CallToolResult
	out Out
	err error
}

// newPair makes a pair of the tool, which make describes afresh for each.
func newPair[In, Out any](tb testing.TB, describe func() *mcp.Tool) pair {
	tb.Helper()
	return &twins[In, Out]{
		theirs: newTwin(tb, describe(), mcp.AddTool[In, Out]),
		ours:   newTwin(tb, describe(), sluice.AddTool[In, Out]),
	}
}

func newTwin[In, Out any](tb testing.TB, t *mcp.Tool, add func(*mcp.Server, *mcp.Tool, mcp.ToolHandlerFor[In, Out])) *twin[In, Out] {
	tb.Helper()
	s := mcp.NewServer(&mcp.Implementation{Name: "twin"}, nil)
	w := &twin[In, Out]{}
	add(s, t, func(_ context.Context, _ *mcp.CallToolRequest, in In) (*mcp.CallToolResult, Out, error) {
		w.got = append(w.got, in)
		a := w.answer
		if a.res != nil { // which the SDK may write to
			res := *a.res
			a.res = &res
		}
		return a.res, a.out, a.err
	})
	w.method, w.session = sitetest.Direct(tb, s, "2026-07-28")
	w.tool = w.list(tb)
	return w
}

// list returns the tool as clients see it.
func (w *twin[In, Out]) list(tb testing.TB) *mcp.Tool {
	tb.Helper()
	res, err := w.method(context.Background(), "tools/list", &mcp.ListToolsRequest{Session: w.session, Params: &mcp.ListToolsParams{}})
	if err != nil {
		tb.Fatal(err)
	}
	return res.(*mcp.ListToolsResult).Tools[0]
}

func (p *twins[In, Out]) in() reflect.Type { return reflect.TypeFor[In]() }

func (p *twins[In, Out]) compare(args []byte, seed uint64) error {
	answer := newAnswer[Out](seed)
	ours, theirs := p.ours.call(args, answer), p.theirs.call(args, answer)
	switch {
	case theirs.said == nilMap:
		if strings.HasPrefix(ours.said, "panic") {
			return fmt.Errorf("arguments %q, output %d: %s", args, seed, ours.said)
		}
		return nil
	case answer.res != nil && answer.res.IsError && len(ours.in) == 1:
		// A tool's own error: what the SDK would add to it, or fail it for.
		failed := answer.res.Content
		out := reflect.ValueOf(&answer.out).Elem()
		if strings.HasPrefix(theirs.said, "error") && p.filled(&answer) {
			theirs = p.theirs.call(args, answer)
		}
		own := p.ours.call(args, said[Out]{res: &mcp.CallToolResult{Content: failed, IsError: true}})
		if strings.Contains(own.said, "structured") {
			return fmt.Errorf("arguments %q, output %d: made up: %s", args, seed, own.said)
		}
		if out.IsZero() || strings.HasPrefix(theirs.said, "error") {
			if ours.said != own.said {
				return fmt.Errorf("arguments %q, output %d: %s, want %s", args, seed, ours.said, own.said)
			}
			return nil
		}
		if ours.said == own.said && inexact(toJSON(answer.out)) {
			return nil // refused by a limit that the SDK's rounded number meets
		}
	case refusal(theirs.said) == outputRefused && p.filled(&answer):
		// What is nil and must not be null is empty, which the SDK would refuse.
		theirs = p.theirs.call(args, answer)
	}
	// Which of several mistakes the validator names, and in which order, is up to Go's maps. One of the two may nearly always
	// name the same, for as long as its maps live.
	for i, first := 0, [2]string{theirs.said, ours.said}; theirs.said != ours.said && refusal(ours.said) != "" && refusal(theirs.said) == refusal(ours.said) && i < 200; i++ {
		theirs, ours = p.theirs.call(args, answer), p.ours.call(args, answer)
		if (first != [2]string{theirs.said, ours.said}) || sorted(theirs.said) == sorted(ours.said) {
			theirs.said = ours.said
		}
	}
	ours.said = notBase64.ReplaceAllString(ours.said, "")
	if beyond := `unmarshaling arguments: json: cannot unmarshal \"1e400\"`; strings.Contains(theirs.said, beyond) && len(ours.in) == 1 &&
		strings.Contains(string(toJSON(ours.in)), "1e400") {
		return nil // a number that the tool takes as it is written need not be one of float64
	}
	if theirs.said != ours.said && theirs.said != ours.rounded && !(inexact(args) || inexact(toJSON(answer.out)) || inexact(toJSON(p.ours.tool))) {
		return fmt.Errorf("arguments %q, output %d:\n sdk    %s\n sluice %s", args, seed, theirs.said, ours.said)
	}
	if theirs.said != ours.said && theirs.said != ours.rounded && !aboutNumbers(theirs.said) && !aboutNumbers(ours.said) {
		return fmt.Errorf("arguments %q, output %d, whose numbers float64 changes:\n sdk    %s\n sluice %s", args, seed, theirs.said, ours.said)
	}
	if len(theirs.in) == len(ours.in) && !reflect.DeepEqual(theirs.in, ours.in) && round(toJSON(theirs.in)) != round(toJSON(ours.in)) {
		return fmt.Errorf("arguments %q decoded:\n sdk    %#v\n sluice %#v", args, theirs.in, ours.in)
	}
	return nil
}

// filled fills what is nil in the output of the answer and may not be null, and reports whether there was any.
func (p *twins[In, Out]) filled(a *said[Out]) bool {
	var schema *jsonschema.Schema
	if err := json.Unmarshal(toJSON(p.ours.tool.OutputSchema), &schema); err != nil {
		return false
	}
	out := reflect.ValueOf(&a.out).Elem()
	if out.Kind() == reflect.Pointer && out.IsNil() {
		out = reflect.New(out.Type().Elem()) // which both take for a nil one that is the whole of the output
	}
	full, changed := fill(out, schema)
	a.out, _ = reflect.TypeAssert[Out](full)
	return changed
}

// fill returns a copy of v in which maps and slices that are nil are empty, if their schema has no null.
func fill(v reflect.Value, s *jsonschema.Schema) (_ reflect.Value, changed bool) {
	if s == nil {
		s = &jsonschema.Schema{}
	}
	null := s.Type == "null" || slices.Contains(s.Types, "null")
	into := reflect.New(v.Type()).Elem()
	into.Set(v)
	sub := func(to, from reflect.Value, s *jsonschema.Schema) {
		if full, filled := fill(from, s); filled && to.CanSet() {
			to.Set(full)
			changed = true
		}
	}
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			into.Set(reflect.New(v.Type().Elem()))
			into.Elem().Set(v.Elem())
			sub(into.Elem(), v.Elem(), s)
		}
	case reflect.Interface:
		if !v.IsNil() {
			sub(into, v.Elem(), s)
		}
	case reflect.Map:
		if v.IsNil() && !null {
			return reflect.MakeMap(v.Type()), true
		}
		if !v.IsNil() {
			into.Set(reflect.MakeMap(v.Type()))
		}
		for k, e := range v.Seq2() {
			full, filled := fill(e, s.AdditionalProperties)
			into.SetMapIndex(k, full)
			changed = changed || filled
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			break
		}
		if v.IsNil() && !null {
			return reflect.MakeSlice(v.Type(), 0, 0), true
		}
		into.Set(reflect.MakeSlice(v.Type(), v.Len(), v.Len()))
		reflect.Copy(into, v)
		for i := range v.Len() {
			sub(into.Index(i), v.Index(i), s.Items)
		}
	case reflect.Struct:
		for _, sf := range reflect.VisibleFields(v.Type()) {
			name, options, _ := strings.Cut(sf.Tag.Get("json"), ",")
			if !sf.Anonymous && sf.IsExported() && !(options == "omitzero" && v.FieldByIndex(sf.Index).IsZero()) {
				sub(into.FieldByIndex(sf.Index), v.FieldByIndex(sf.Index), s.Properties[cmp.Or(name, sf.Name)])
			}
		}
	default:
	}
	return into, changed
}

func toJSON(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		return nil
	}
	return data
}

// round returns JSON as the SDK passes it on: through float64, members sorted.
func round(data []byte) string {
	var v any
	if json.Unmarshal(data, &v) != nil {
		return string(data)
	}
	return string(toJSON(v))
}

// notBase64 is what we say where the decoder found no base64, and the SDK only says what the decoder said.
var notBase64 = regexp.MustCompile(`validating \\?"arguments\\?": validating [^"]*: contentEncoding: `)

var numeral = regexp.MustCompile(`-?[0-9][0-9.eE+-]*`)

// inexact reports whether float64 changes a whole number in the text.
func inexact(data []byte) bool {
	return slices.ContainsFunc(numeral.FindAll(data, -1), func(n []byte) bool {
		f, err := strconv.ParseFloat(string(n), 64)
		if err != nil || math.Abs(f) < 1<<53 {
			return false
		}
		x, ok := new(big.Rat).SetString(string(n))
		y, _ := new(big.Rat).SetString(strconv.FormatFloat(f, 'g', -1, 64))
		return ok && x.Cmp(y) != 0
	})
}

// aboutNumbers reports whether an answer is a refusal that a number's last digits may be the reason of.
func aboutNumbers(answer string) bool {
	return slices.ContainsFunc([]string{"cannot unmarshal ", "inimum:", "aximum:", "multipleOf:", "enum:", "const:", "uniqueItems:", "anyOf:", "type: "},
		func(word string) bool { return strings.Contains(answer, word) })
}

// refusal returns what the validator refused, if it did.
func refusal(answer string) string {
	for _, what := range []string{`validating \"arguments\": `, outputRefused} {
		if strings.Contains(answer, what) {
			return what
		}
	}
	return ""
}

const outputRefused = "validating tool output: "

func sorted(answer string) string {
	b := []byte(answer)
	slices.Sort(b)
	return string(b)
}

// nilMap is the SDK's answer to null for a tool with defaults.
const nilMap = "panic: assignment to entry in nil map"

// An answered call is what its client and its tool were told.
type answered[In any] struct {
	said    string
	rounded string // what would have been said with the structured content passed through float64
	in      []In
}

func (w *twin[In, Out]) call(args []byte, answer said[Out]) (a answered[In]) {
	w.got = nil
	w.answer = answer
	defer func() {
		if v := recover(); v != nil {
			a.said = fmt.Sprintf("panic: %v", v)
		}
		a.in = w.got
	}()
	res, err := w.method(context.Background(), "tools/call", &mcp.CallToolRequest{
		Session: w.session, Params: &mcp.CallToolParamsRaw{Name: "tool", Arguments: bytes.Clone(args)},
	})
	if err != nil {
		a.said = fmt.Sprintf("error %T %v", err, err)
		return a
	}
	result, _ := res.(*mcp.CallToolResult)
	a.said = tell(result)
	if raw, ok := result.StructuredContent.(json.RawMessage); ok {
		rounded := round(raw)
		result.StructuredContent = json.RawMessage(rounded)
		for i, c := range result.Content {
			if text, ok := c.(*mcp.TextContent); ok && text.Text == string(raw) {
				result.Content[i] = &mcp.TextContent{Text: rounded}
			}
		}
		a.rounded = tell(result)
	}
	return a
}

func tell(res *mcp.CallToolResult) string {
	data, err := json.Marshal(res)
	if err != nil {
		return fmt.Sprintf("unmarshalable: %v", err)
	}
	if raw, ok := res.StructuredContent.(json.RawMessage); ok {
		data = append(data, raw...) // before it was compacted
	}
	return fmt.Sprintf("%s %v", data, res.GetError())
}

func (p *twins[In, Out]) tools() error {
	var lists []string
	for _, w := range []*twin[In, Out]{p.theirs, p.ours} {
		res, err := w.method(context.Background(), "tools/list", &mcp.ListToolsRequest{Session: w.session, Params: &mcp.ListToolsParams{}})
		if err != nil {
			return err
		}
		data, err := json.Marshal(res)
		if err != nil {
			return err
		}
		lists = append(lists, string(data))
	}
	if lists[0] != lists[1] {
		return fmt.Errorf("tools:\n sdk    %s\n sluice %s", lists[0], lists[1])
	}
	return nil
}

func newAnswer[Out any](seed uint64) said[Out] {
	g := generator{rand.New(rand.NewPCG(seed, 1))}
	var a said[Out]
	switch g.IntN(12) {
	case 0:
		a.err = errors.New("no <luck>")
	case 1:
		a.err = &jsonrpc.Error{Code: 42, Message: "protocol"}
	case 2:
		a.err = fmt.Errorf("wrapped: %w", &jsonrpc.Error{Code: 42, Message: "protocol"})
	case 3:
		a.res = &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: "own"}}, Meta: mcp.Meta{"a": 1}}
	case 4:
		a.res = &mcp.CallToolResult{Content: []mcp.Content{}, IsError: true}
	case 5:
		a.res = &mcp.CallToolResult{InputRequests: mcp.InputRequestMap{"q": &mcp.ElicitParams{Message: "?"}}, RequestState: "state"}
	case 6:
		return a // the zero output
	}
	if v := g.value(reflect.TypeFor[Out](), 0); v.IsValid() {
		a.out, _ = reflect.TypeAssert[Out](v)
	}
	return a
}

// Shapes of tools.

type addIn struct {
	A int `json:"a" jsonschema:"the first number"`
	B int `json:"b"`
}

type addOut struct {
	Sum int `json:"sum"`
}

type scalars struct {
	Bool  bool    `json:"bool"`
	Int   int64   `json:"int"`
	Small int8    `json:"small,omitempty"`
	Uint  uint64  `json:"uint,omitempty"`
	Byte  uint8   `json:"byte,omitempty"`
	Float float64 `json:"float,omitempty"`
	Half  float32 `json:"half,omitempty"`
	Text  string  `json:"text,omitempty"`
	Any   any     `json:"any,omitempty"`
	skip  int     //nolint:unused // clients may try
	Never string  `json:"-"`
}

type color string

type inner struct {
	Color color   `json:"color,omitempty"`
	Size  *int    `json:"size,omitempty"`
	Ratio float64 `json:"ratio,omitzero"`
}

type nested struct {
	Name   string            `json:"name"`
	Nested inner             `json:"nested,omitempty"` //nolint:modernize // which omits nothing, but makes it optional
	Ptr    *inner            `json:"ptr"`
	List   []inner           `json:"list,omitempty"`
	Tags   []string          `json:"tags"`
	Ptrs   []*inner          `json:"ptrs,omitempty"`
	Grid   [][]float64       `json:"grid,omitempty"`
	Dict   map[string]int    `json:"dict,omitempty"`
	Deep   map[color][]inner `json:"deep,omitempty"`
	When   time.Time         `json:"when,omitzero"`
	Due    *time.Time        `json:"due,omitempty"`
	Wait   time.Duration     `json:"wait,omitempty"`
	On     *bool             `json:"on,omitempty"`
	Map    map[string]any    `json:"map,omitempty"`
	Lists  *[]int            `json:"lists,omitempty"`
}

type page struct {
	Limit  int    `json:"limit,omitempty"`
	Cursor string `json:"cursor,omitempty"`
}

type embedding struct {
	page
	Query string `json:"query"`
	Zed   int
	Alpha bool
}

type custom struct{ n int }

func (c *custom) UnmarshalJSON(data []byte) error { c.n = len(round(data)); return nil }
func (c custom) MarshalJSON() ([]byte, error) {
	return fmt.Appendf(nil, "{\"z\":%d, \"a\":1}", c.n), nil
}

type exotic struct {
	Raw    json.RawMessage `json:"raw,omitempty"`
	Bytes  []byte          `json:"bytes,omitempty"`
	Array  [2]int          `json:"array,omitempty"`
	Number json.Number     `json:"number,omitempty"`
	Quoted int             `json:"quoted,string,omitempty"`
	Custom *custom         `json:"custom,omitempty"`
	Plain  int             `json:"plain,omitempty"`
	Level  **int           `json:"level,omitempty"`
}

type optional struct {
	Raw   json.RawMessage `json:"raw,omitempty"`
	Plain int             `json:"plain,omitempty"`
}

// unwritable has fields that no JSON can be written for, not even when they are empty.
type unwritable struct {
	Done  chan int   `json:"done,omitempty"`
	Stop  func()     `json:"stop,omitempty"`
	Wave  complex128 `json:"wave,omitempty"`
	Quiet chan int   `json:"quiet,omitzero"`
	Plain int        `json:"plain,omitempty"`
}

// described is the schema that we infer, which is to be both the twins'.
func described[T any]() *jsonschema.Schema {
	in, err := typed.NewInput(nil, reflect.TypeFor[T]())
	if err != nil {
		panic(err) // a mistake in this file
	}
	return in.Schema()
}

func inferred[T any]() *jsonschema.Schema {
	s, err := jsonschema.For[T](nil)
	if err != nil {
		panic(err) // a mistake in this file
	}
	return s
}

// limited is the schema of a nested with limits and defaults at several levels.
func limited() *jsonschema.Schema {
	s := inferred[nested]()
	s.Required = []string{"name"}
	s.Properties["name"].MinLength, s.Properties["name"].MaxLength = new(1), new(20)
	s.Properties["name"].Pattern = `^[^0-9]`
	s.Properties["nested"].Properties["color"].Enum = []any{"red", "green", "", 5, nil}
	s.Properties["nested"].Properties["color"].Default = json.RawMessage(` "red" `)
	s.Properties["nested"].Properties["ratio"].ExclusiveMinimum = new(-3.0)
	s.Properties["nested"].Properties["ratio"].ExclusiveMaximum = new(100.0)
	s.Properties["ptr"].Default = json.RawMessage(`{"ratio": 2}`)
	s.Properties["ptr"].Properties["size"].Default = json.RawMessage(`7`)
	s.Properties["ptr"].Properties["size"].Enum = []any{7, 1.0, 2}
	s.Properties["list"].MaxItems = new(2)
	s.Properties["list"].Items.Properties["size"].Default = json.RawMessage(`3`) // not applied: below an array
	s.Properties["tags"].Default = json.RawMessage(`["a","b"]`)
	s.Properties["tags"].MinItems = new(1)
	s.Properties["dict"].AdditionalProperties.Minimum = new(-10.0)
	s.Properties["dict"].AdditionalProperties.MultipleOf = new(2.0)
	s.Properties["when"].Default = json.RawMessage(`"2024-02-29T12:00:00.5Z"`)
	s.Properties["when"].Format = "date-time"
	s.Properties["on"].Default = json.RawMessage(`null`)
	s.Properties["wait"].Maximum = new(1e6)
	return s
}

type filled struct {
	Name  string  `json:"name"`
	Inner inner   `json:"inner,omitzero"`
	Page  *page   `json:"page,omitempty"`
	List  []inner `json:"list,omitempty"`
}

// defaults is the schema of a filled with defaults inside absent objects.
func defaults() *jsonschema.Schema {
	s := inferred[filled]()
	s.Properties["inner"].Properties["color"].Default = json.RawMessage(`"red"`)
	s.Properties["page"].Properties["limit"].Default = json.RawMessage(`20`)
	s.Properties["list"].Items.Properties["color"].Default = json.RawMessage(`"red"`) // not applied: below an array
	return s
}

// lists are maps that the SDK's decoder treats in different ways.
type lists struct {
	Plain map[string][]string  `json:"plain,omitempty"`
	Named map[string]names     `json:"named,omitempty"`
	Keyed map[color][]string   `json:"keyed,omitempty"`
	Ptrs  map[string]*[]string `json:"ptrs,omitempty"`
}

type names []string

type order struct {
	Item inner  `json:"item"`
	Gift *inner `json:"gift,omitempty"`
}

// required is the schema of an order with the same defaults inside an object that must be there and one that need not.
func required() *jsonschema.Schema {
	s := inferred[order]()
	s.Properties["item"].Properties["size"].Default = json.RawMessage(`3`) // not applied: below what is required
	s.Properties["gift"].Properties["size"].Default = json.RawMessage(`3`)
	return s
}

// open is the schema of a scalars that admits more than the type.
func open() *jsonschema.Schema {
	s := inferred[scalars]()
	s.AdditionalProperties = nil
	s.Required = nil
	delete(s.Properties, "half")
	s.Properties["float"].Type = "integer"
	s.Properties["small"], s.Properties["byte"], s.Properties["uint"] = &jsonschema.Schema{}, &jsonschema.Schema{}, &jsonschema.Schema{}
	s.Properties["text"].Type, s.Properties["text"].Types = "", []string{"null", "string"}
	s.Properties["extra"] = &jsonschema.Schema{Type: "string"}
	return s
}

func strict() *jsonschema.Schema {
	s := inferred[nested]()
	s.AdditionalProperties = nil
	s.AllOf = []*jsonschema.Schema{{Required: []string{"tags"}}}
	s.Properties["list"].UniqueItems = true
	return s
}

func plain() *mcp.Tool { return &mcp.Tool{Name: "tool"} }

func given(in, out func() *jsonschema.Schema) func() *mcp.Tool {
	return func() *mcp.Tool {
		t := plain()
		if in != nil {
			t.InputSchema = in()
		}
		if out != nil {
			t.OutputSchema = out()
		}
		return t
	}
}

var shapes = []struct {
	name string
	make func(testing.TB) pair
}{
	{"add", func(tb testing.TB) pair { return newPair[addIn, addOut](tb, plain) }},
	{"scalars", func(tb testing.TB) pair { return newPair[scalars, scalars](tb, plain) }},
	{"nested", func(tb testing.TB) pair { return newPair[nested, nested](tb, plain) }},
	{"embedding", func(tb testing.TB) pair { return newPair[embedding, embedding](tb, plain) }},
	{"pointers", func(tb testing.TB) pair { return newPair[*nested, *nested](tb, plain) }},
	{"limits", func(tb testing.TB) pair { return newPair[nested, nested](tb, given(limited, limited)) }},
	{"defaults", func(tb testing.TB) pair { return newPair[filled, filled](tb, given(defaults, defaults)) }},
	{"required", func(tb testing.TB) pair { return newPair[order, order](tb, given(required, required)) }},
	{"open", func(tb testing.TB) pair { return newPair[scalars, scalars](tb, given(open, open)) }},
	{"beyond", func(tb testing.TB) pair { return newPair[nested, nested](tb, given(strict, strict)) }},
	{"half", func(tb testing.TB) pair { return newPair[nested, inner](tb, given(strict, nil)) }},
	{"exotic", func(tb testing.TB) pair {
		return newPair[exotic, exotic](tb, given(described[exotic], described[exotic]))
	}},
	{"optional", func(tb testing.TB) pair {
		return newPair[optional, optional](tb, given(described[optional], described[optional]))
	}},
	{"unwritable", func(tb testing.TB) pair {
		return newPair[unwritable, unwritable](tb, given(inferred[optional], inferred[optional]))
	}},
	{"maps", func(tb testing.TB) pair { return newPair[map[string]any, map[string]any](tb, plain) }},
	{"counts", func(tb testing.TB) pair { return newPair[map[string]int, map[string]float32](tb, plain) }},
	{"lists", func(tb testing.TB) pair { return newPair[map[string][]string, map[string][]string](tb, plain) }},
	{"list fields", func(tb testing.TB) pair { return newPair[lists, lists](tb, plain) }},
	{"any", func(tb testing.TB) pair { return newPair[any, any](tb, plain) }},
	{"raw", func(tb testing.TB) pair {
		object := func() *jsonschema.Schema { return &jsonschema.Schema{Type: "object"} }
		return newPair[json.RawMessage, json.RawMessage](tb, given(object, object))
	}},
	{"list", func(tb testing.TB) pair { return newPair[inner, []nested](tb, plain) }},
	{"text", func(tb testing.TB) pair { return newPair[struct{}, string](tb, plain) }},
	{"written", func(tb testing.TB) pair {
		return newPair[addIn, any](tb, func() *mcp.Tool {
			return &mcp.Tool{
				Name:        "tool",
				InputSchema: json.RawMessage(`{"type":"object","properties":{"a":{"type":"integer","default":3},"b":{"$ref":"#/properties/a"}}}`),
			}
		})
	}},
	{"mapped", func(tb testing.TB) pair {
		return newPair[addIn, any](tb, func() *mcp.Tool {
			return &mcp.Tool{
				Name: "tool",
				InputSchema: map[string]any{
					"type": "object", "$schema": "https://json-schema.org/draft/2020-12/schema",
					"properties": map[string]any{"a": map[string]any{"type": "integer"}, "b": map[string]any{"type": "number", "default": 1}},
				},
				OutputSchema: map[string]any{"type": "object"},
			}
		})
	}},
}

func TestAddToolAnswersLikeTheSDK(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	for _, s := range shapes {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			p := s.make(t)
			if err := p.tools(); err != nil {
				t.Error(err)
			}
			for _, args := range corner {
				for n := range uint64(3) {
					if err := p.compare([]byte(args), n); err != nil {
						t.Error(err)
					}
				}
			}
			g := generator{rand.New(rand.NewPCG(seed, 0))}
			for range 300 {
				if err := p.compare(g.arguments(p.in()), g.Uint64()); err != nil {
					t.Fatalf("seed %d: %v", seed, err)
				}
			}
		})
	}
}

func FuzzAddTool(f *testing.F) {
	for i := range shapes {
		for n, args := range corner {
			f.Add(uint8(i), []byte(args), uint64(n))
		}
	}
	pairs := make([]pair, len(shapes))
	for i, s := range shapes {
		pairs[i] = s.make(f)
	}
	f.Fuzz(func(t *testing.T, shape uint8, args []byte, seed uint64) {
		if err := pairs[int(shape)%len(pairs)].compare(args, seed); err != nil {
			t.Error(err)
		}
	})
}

func TestAddToolNullArguments(t *testing.T) {
	t.Parallel()
	w := newTwin(t, given(limited, nil)(), sluice.AddTool[nested, any])
	if got := w.call([]byte(`null`), newAnswer[any](6)).said; !strings.Contains(got, `missing properties: [\"name\"]`) {
		t.Errorf("null arguments with defaults: %s", got)
	}
}

// The schema counts as it was when the tool was added, although the SDK is asked about it later.
func TestAddToolKeepsItsSchema(t *testing.T) {
	t.Parallel()
	for name, describe := range map[string]func() (tool *mcp.Tool, change func()){
		"a map": func() (*mcp.Tool, func()) {
			schema := map[string]any{"type": "object", "properties": map[string]any{"a": map[string]any{"type": "integer"}}}
			return &mcp.Tool{Name: "tool", InputSchema: schema, OutputSchema: schema}, func() { clear(schema) }
		},
		"JSON": func() (*mcp.Tool, func()) {
			schema := json.RawMessage(`{"type":"object","properties":{"a":{"type":"integer"}}}`)
			return &mcp.Tool{Name: "tool", InputSchema: schema, OutputSchema: schema}, func() { copy(schema, `{"type":"string"`) }
		},
		"a tool": func() (*mcp.Tool, func()) {
			tool := given(inferred[addIn], inferred[addOut])()
			return tool, func() { *tool = mcp.Tool{Name: "other"} }
		},
	} {
		theirs, changeTheirs := describe()
		ours, changeOurs := describe()
		p := &twins[addIn, addOut]{newTwin(t, theirs, mcp.AddTool[addIn, addOut]), newTwin(t, ours, sluice.AddTool[addIn, addOut])}
		changeTheirs()
		changeOurs()
		for _, args := range []string{`{"a":1,"b":2}`, `{"a":1.0,"b":2}`, `{"a":"x","b":2}`} {
			if err := p.compare([]byte(args), 8); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// corner are arguments that once were, or easily could be, taken otherwise.
var corner = []string{
	``, ` `, `null`, `{}`, ` {} `, `[]`, `1`, `"x"`, `{`, `{}x`, `{} {}`, `{"a":1,"b":2}`, `{"b":2,"a":1}`, `{"a":1,"b":2,}`,
	`{"a":1.0,"b":1e2}`, `{"a":1.5,"b":2}`, `{"a":-0,"b":-0.0}`, `{"a":01,"b":2}`, `{"a":9007199254740993,"b":-9007199254740993}`,
	`{"a":9223372036854775807,"b":1}`, `{"a":9223372036854775808,"b":1e400}`, `{"a":1e20,"b":1e21}`, `{"a":null,"b":2}`, `{"a":"1","b":true}`,
	`{"A":1,"B":2}`, `{"a":1,"A":2,"b":3}`, `{"a":1,"a":2,"b":3}`, `{"a":"x","a":2,"b":3}`, `{"\u0061":1,"b":2}`, `{"a":1,"b":2,"c":3}`,
	`{"a":1,"b":2,"\u0000":3}`, "{\"a\":1,\"b\":2,\"\xff\":3}", `{"a\u0000":1,"b":2}`, `{null:1}`,
	`{"bool":true,"int":1}`, `{"bool":true,"int":1,"small":128}`, `{"bool":true,"int":1,"small":-128,"byte":255}`, `{"bool":true,"int":1,"uint":-1}`,
	`{"bool":true,"int":1,"uint":18446744073709551615}`, `{"bool":true,"int":1,"half":0.1}`, `{"bool":true,"int":1,"half":1e39}`,
	`{"bool":true,"int":1,"half":16777217}`, `{"bool":true,"int":1,"float":-0}`, `{"bool":true,"int":1,"float":1e-7}`, `{"bool":true,"int":1,"float":5e-324}`,
	`{"bool":true,"int":1,"any":{"b":[1,{"x":null}],"a":"<&>\u2028"}}`, `{"bool":true,"int":1,"any":[]}`, `{"bool":true,"int":1,"any":1e400}`,
	`{"bool":true,"int":1,"text":"é\n\ud83d\ude00\ud800"}`, "{\"bool\":true,\"int\":1,\"text\":\"\xff\xc3\"}", "{\"bool\":true,\"int\":1,\"text\":\"a\nb\"}",
	"{\"bool\":true,\"int\":1,\"text\":\"\\n\xff\"}", `{"int":1,"extra":1}`, `{"int":1,"extra":"1","more":[{}]}`, `{"int":1,"more":1e400}`, `{"int":1,"text":null}`,
	`{"small":128}`, `{"small":-129}`, `{"byte":256}`, `{"byte":-1}`, `{"uint":-1}`, `{"half":"x"}`, `{"float":2.5}`, `{"float":2.0}`, `{"float":1e300}`,
	`{"name":"n"}`, `{"name":"n","inner":{}}`, `{"name":"n","inner":{"color":"blue"},"page":{}}`, `{"name":"n","inner":null,"page":null}`, `{"name":"n","inner":{"size":null},"list":[{}]}`,
	`{"a":null,"b":[]}`, `{"plain":{"a":null},"named":{"a":null},"keyed":{"a":null},"ptrs":{"a":null}}`,
	`{"item":{}}`, `{"item":{"size":1},"gift":{}}`,
	`{"bool":true,"int":1,"skip":1}`, `{"bool":true,"int":1,"Never":"x"}`, `{"bool":true,"int":1,"-":"x"}`,
	`{"name":"n","ptr":null,"tags":null}`, `{"name":"n","ptr":{},"tags":[]}`, `{"name":"n"}`, `{"name":"n","ptr":{"size":null},"tags":["a",null]}`,
	`{"name":"n","ptr":null,"tags":[],"when":"2024-02-30T00:00:00Z"}`, `{"name":"n","ptr":null,"tags":[],"when":"2024-02-29T23:59:59.123456789+01:30"}`,
	`{"name":"n","ptr":null,"tags":[],"when":"2024-02-29t23:59:59z"}`, `{"name":"n","ptr":null,"tags":[],"when":"0000-01-01T00:00:00Z"}`,
	`{"name":"n","ptr":null,"tags":[],"when":"2024-02-29T23:59:59,5Z"}`, `{"name":"n","ptr":null,"tags":[],"when":"2024-02-29T23:59:59.1234567891Z"}`,
	`{"name":"n","ptr":null,"tags":[],"when":"2024-02-29T23:59:60Z","due":"2024-01-01T00:00:00.000Z"}`, `{"name":"n","ptr":null,"tags":[],"due":"2024-01-01T00:00:00.5Z"}`,
	`{"name":"n","ptr":null,"tags":[],"dict":{"a":1,"a":2}}`, `{"name":"n","ptr":null,"tags":[],"dict":{"a":null}}`, `{"name":"n","ptr":null,"tags":[],"dict":null}`,
	`{"name":"n","ptr":null,"tags":[],"nested":null}`, `{"name":"n","ptr":null,"tags":[],"list":[{"color":"red"},{}],"ptrs":[null,{"size":1}]}`,
	`{"name":"","tags":["x"]}`, `{"name":"1","tags":["x"]}`, `{"name":"n","nested":{"color":"blue"}}`, `{"name":"n","nested":{"ratio":-3}}`, `{"name":"n","ptr":{"size":3}}`,
	`{"name":"n","wait":1e6}`, `{"name":"n","wait":"1s"}`, `{"name":"n","dict":{"a":-10,"b":-12}}`, `{"name":"n","dict":{"a":-10,"b":3}}`, `{"name":"12345678901234567890123"}`, `{"name":"n","lists":null,"on":true}`,
	`{"query":"q","limit":3,"Zed":1,"Alpha":true}`, `{"query":"q","page":{"limit":3},"Zed":1,"Alpha":true}`,
	`{"raw":{"b":1, "a":2},"plain":1}`, `{"bytes":"AAE="}`, `{"bytes":[1,2]}`, `{"array":[1,2]}`, `{"array":[1]}`, `{"quoted":"5"}`, `{"quoted":5}`, `{"custom":{"a":1}}`, `{"plain":1}`,
	`{"any":` + strings.Repeat("[", 300) + strings.Repeat("]", 300) + `,"bool":true,"int":1}`,
	`{"any":` + strings.Repeat("[", 1000) + strings.Repeat("]", 1000) + `,"bool":true,"int":1}`,
}

// A generator makes random values and JSON.
type generator struct{ *rand.Rand }

func pick[T any](g generator, from ...T) T { return from[g.IntN(len(from))] }

// arguments returns JSON that is often nearly right for a t.
func (g generator) arguments(t reflect.Type) []byte {
	var b bytes.Buffer
	wrong := pick(g, 0, 0, 0, 1, 3, 10) // in a hundred values
	g.json(&b, t, wrong, 0)
	data := b.Bytes()
	for g.IntN(8) == 0 && len(data) > 0 {
		at := g.IntN(len(data))
		switch g.IntN(3) {
		case 0:
			data[at] = pick(g, []byte("\x00\t \"\\,:{}[]0aAe.-\x7f\xc3\xff")...)
		case 1:
			data = append(data[:at], data[at+1:]...)
		case 2:
			data = data[:at]
		}
	}
	return data
}

var odd = []string{
	`null`, `true`, `false`, `0`, `-0`, `1`, `-1`, `1.0`, `1e2`, `1.5`, `-2.5e-8`, `127`, `128`, `256`, `4294967296`, `9007199254740992`, `9007199254740993`,
	`-9007199254740993`, `18446744073709551616`, `1e21`, `1e400`, `0.1`, `3.4028236e38`, `""`, `"a"`, `"red"`, `"\u00e9"`, `"\ud83d\ude00"`, `"\ud83d"`, `"\ude00\ud83d"`,
	`"<&>"`, "\"\u2028\"", "\"\xff\"", "\"\x01\"", `"\/\b\f\n\r\t\"\\"`, `"\x"`, `"2024-05-06T07:08:09Z"`, `"2024-05-06T07:08:09.25-07:00"`, `"2024-05-06 07:08:09Z"`,
	`[]`, `[1]`, `[null]`, `["a","b"]`, `{}`, `{"a":1}`, `{"size":1}`, `{"color":"red"}`, `{"":{}}`, `01`, `+1`, `nul`, `tru`, `'a'`, ` `,
}

// json writes a value for a t, wrong times in a hundred any other.
func (g generator) json(b *bytes.Buffer, t reflect.Type, wrong, depth int) {
	if g.IntN(20) == 0 {
		b.WriteString(pick(g, " ", "\n", "\t\r "))
	}
	if g.IntN(100) < wrong || depth > 4 {
		b.WriteString(pick(g, odd...))
		return
	}
	if t.Kind() == reflect.Slice && depth > 0 && g.IntN(12) == 0 {
		b.WriteString("null")
		return
	}
	switch t.Kind() {
	case reflect.Pointer:
		if depth > 0 && g.IntN(3) == 0 {
			b.WriteString("null")
			return
		}
		g.json(b, t.Elem(), wrong, depth)
	case reflect.Struct:
		switch t {
		case reflect.TypeFor[time.Time]():
			b.WriteString(pick(g, `"2024-05-06T07:08:09Z"`, `"1999-12-31T23:59:59.999Z"`, `"2024-05-06T07:08:09.25-07:00"`))
			return
		case reflect.TypeFor[custom]():
			b.WriteString(`{"z":1, "a":1}`)
			return
		}
		var members []string
		for _, sf := range reflect.VisibleFields(t) {
			name, rest, _ := strings.Cut(sf.Tag.Get("json"), ",")
			if sf.Anonymous || !sf.IsExported() || name == "-" || rest != "" && g.IntN(3) == 0 {
				continue
			}
			if name == "" {
				name = sf.Name
			}
			var m bytes.Buffer
			mistake := -1
			if g.IntN(100) < wrong {
				mistake = g.IntN(5)
			}
			switch mistake {
			case 0:
				name = strings.ToUpper(name)
			case 1:
				name = pick(g, "extra", "é", `\u0061`, "\xff", "color")
			case 2:
				continue
			case 3:
				fmt.Fprintf(&m, `"%s":`, name)
				g.json(&m, sf.Type, wrong, depth+1)
				m.WriteByte(',')
			}
			fmt.Fprintf(&m, `"%s":`, name)
			g.json(&m, sf.Type, wrong, depth+1)
			members = append(members, m.String())
		}
		if g.IntN(2) == 0 {
			g.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
		}
		b.WriteString("{" + strings.Join(members, ",") + "}")
	case reflect.Map:
		b.WriteByte('{')
		for i := range g.IntN(4) {
			if i > 0 {
				b.WriteByte(',')
			}
			fmt.Fprintf(b, `"%s":`, pick(g, "a", "b", "é", `\"`, ""))
			g.json(b, t.Elem(), wrong, depth+1)
		}
		b.WriteByte('}')
	case reflect.Slice, reflect.Array:
		if t == reflect.TypeFor[json.RawMessage]() {
			b.WriteString(`{"b":[1, 2],"a":1.0}`)
			return
		}
		b.WriteByte('[')
		for i := range g.IntN(4) {
			if i > 0 {
				b.WriteByte(',')
			}
			g.json(b, t.Elem(), wrong, depth+1)
		}
		b.WriteByte(']')
	case reflect.Interface:
		if depth == 0 {
			b.WriteString(`{"a":[1,{"b":null}],"c":1.50}`)
			return
		}
		b.WriteString(pick(g, `null`, `true`, `-1.5e3`, `"x\ny"`, `[1,[],{}]`, `{"b":1,"a":{"c":"<"}}`, `9007199254740993`))
	case reflect.String:
		b.WriteString(pick(g, `"red"`, `"green"`, `""`, `"héllo"`, `"a\nb\u0041\ud83d\ude00"`, `"<&>"`, `"plain text"`))
	case reflect.Bool:
		b.WriteString(pick(g, `true`, `false`))
	case reflect.Float32, reflect.Float64:
		b.WriteString(pick(g, `0`, `1`, `-1`, `0.1`, `1e2`, `-2.5e-8`, `123456.789`, `-0.0`, `16777217`))
	case reflect.Uint, reflect.Uint8, reflect.Uint64:
		b.WriteString(pick(g, `0`, `1`, `255`, `7`))
	default:
		b.WriteString(pick(g, `0`, `1`, `-1`, `7`, `2`, `100`, `-100`, `1.0`, `1e2`))
	}
}

// value returns a random t.
func (g generator) value(t reflect.Type, depth int) reflect.Value {
	v := reflect.New(t).Elem()
	switch t {
	case reflect.TypeFor[time.Time]():
		day := time.Date(2024, 2, 29, 1, 2, 3, pick(g, 0, 5, 120000000), pick(g, time.UTC, time.FixedZone("", 5400)))
		return reflect.ValueOf(pick(g, time.Time{}, day, day, day, day.AddDate(8000, 0, 0)))
	case reflect.TypeFor[json.RawMessage]():
		return reflect.ValueOf(json.RawMessage(pick(g, `{"b":1, "a":[2.0]}`, `"x"`, `null`, `{`)))
	case reflect.TypeFor[custom]():
		return reflect.ValueOf(custom{g.IntN(9)})
	}
	switch t.Kind() {
	case reflect.Pointer:
		if g.IntN(3) > 0 {
			v.Set(reflect.New(t.Elem()))
			v.Elem().Set(g.value(t.Elem(), depth))
		}
	case reflect.Struct:
		for _, sf := range reflect.VisibleFields(t) {
			if sf.IsExported() && !sf.Anonymous && g.IntN(4) > 0 {
				v.FieldByIndex(sf.Index).Set(g.value(sf.Type, depth+1))
			}
		}
	case reflect.Slice:
		if g.IntN(8) > 0 {
			v.Set(reflect.MakeSlice(t, 0, 0))
			for range g.IntN(3) {
				v.Set(reflect.Append(v, g.value(t.Elem(), depth+1)))
			}
		}
	case reflect.Array:
		for i := range t.Len() {
			v.Index(i).Set(g.value(t.Elem(), depth+1))
		}
	case reflect.Map:
		if g.IntN(8) > 0 {
			v.Set(reflect.MakeMap(t))
			for range g.IntN(4) {
				k := pick(g, "b", "a", "é", "<", "z\xff", "\u2028")
				if g.IntN(3) > 0 {
					k = pick(g, "x", "y")
				}
				v.SetMapIndex(reflect.ValueOf(k).Convert(t.Key()), g.value(t.Elem(), depth+1))
			}
		}
	case reflect.Interface:
		if x := pick[any](g, nil, 1, -5, 1<<60, 1.5, math.NaN(), "s", "<\xff>", true, []any{1, "a", nil, []any(nil)},
			map[string]any{"b": 1, "a": map[string]any(nil)}, []int{1}, &addOut{1}, map[string]int{"z": 1}, json.Number("1.0"), uint8(3)); x != nil {
			v.Set(reflect.ValueOf(x))
		}
	case reflect.String:
		v.SetString(pick(g, "", "red", "green", "héllo", "<b>&\u2028\u2029", "a\x00\n\"\\", "\xff", "1st", "a rather long text that is longer than allowed"))
		if t == reflect.TypeFor[json.Number]() {
			v.SetString("12")
		}
	case reflect.Chan, reflect.Func, reflect.Complex128:
	case reflect.Bool:
		v.SetBool(g.IntN(2) == 0)
	case reflect.Float32, reflect.Float64:
		v.SetFloat(pick(g, 0, 1, -1, 0.1, 1e-7, 1e21, 123456.789, math.Copysign(0, -1), 1.0/3, 99.5, float64(math.MaxFloat32)))
		if g.IntN(30) == 0 {
			v.SetFloat(pick(g, math.NaN(), math.Inf(1)))
		}
	case reflect.Uint, reflect.Uint8, reflect.Uint64:
		v.SetUint(pick[uint64](g, 0, 1, 200, 1<<53+1, math.MaxUint64))
	default:
		v.SetInt(pick[int64](g, 0, 1, 7, -1, 3, 100, 1<<53+1, -1<<53-1, math.MaxInt64, math.MinInt64))
	}
	return v
}

// panicked returns what f panicked with.
func panicked(f func()) (v any) {
	defer func() { v = recover() }()
	f()
	return nil
}
