package typed_test

import (
	"bytes"
	"encoding/json"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/jsonschema-go/jsonschema"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice"
)

// Schemas that were inferred and then bent: what a plan takes for granted in one place may not hold in another.
func TestAddToolUnderRandomSchemas(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	for name, add := range map[string]func(testing.TB, uint64) (pair, bool){
		"scalars":   bentPair[scalars, scalars],
		"nested":    bentPair[nested, *nested],
		"pointers":  bentPair[*filled, filled],
		"embedding": bentPair[embedding, embedding],
		"required":  bentPair[order, order],
		"lists":     bentPair[lists, lists],
		"exotic":    bentPair[exotic, exotic],
		"maps":      bentPair[map[string]*inner, map[string][]inner],
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for n := range uint64(40) {
				p, ok := add(t, seed+n)
				if !ok {
					continue
				}
				if err := p.tools(); err != nil {
					t.Errorf("seed %d: %v", seed+n, err)
				}
				g := generator{rand.New(rand.NewPCG(seed+n, 2))}
				for range 20 {
					if err := p.compare(g.arguments(p.in()), g.Uint64()); err != nil {
						t.Fatalf("seed %d: %v", seed+n, err)
					}
				}
			}
		})
	}
}

// bentPair returns a pair whose schemas are random, unless both refuse them.
func bentPair[In, Out any](tb testing.TB, seed uint64) (pair, bool) {
	tb.Helper()
	describe := func() *mcp.Tool {
		g := generator{rand.New(rand.NewPCG(seed, 1))}
		return &mcp.Tool{Name: "tool", InputSchema: g.schema(reflect.TypeFor[In]()), OutputSchema: g.schema(reflect.TypeFor[Out]())}
	}
	p := &twins[In, Out]{}
	theirs := panicked(func() { p.theirs = newTwin(tb, describe(), mcp.AddTool[In, Out]) })
	ours := panicked(func() { p.ours = newTwin(tb, describe(), sluice.AddTool[In, Out]) })
	if (theirs == nil) != (ours == nil) {
		tb.Fatalf("seed %d:\n sdk    %v\n sluice %v", seed, theirs, ours)
	}
	return p, theirs == nil
}

// schema returns the schema of a t with random changes, in one of the forms that a tool may give it in.
func (g generator) schema(t reflect.Type) any {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	s, err := jsonschema.ForType(t, nil)
	if err != nil {
		panic(err) // a mistake in this file
	}
	g.bend(s, t, 0)
	data, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	switch g.IntN(4) {
	case 0:
		return json.RawMessage(data)
	case 1:
		var m map[string]any
		if err := json.Unmarshal(data, &m); err != nil {
			panic(err)
		}
		return m
	}
	return s
}

// bend changes s, the schema of a t, and the schemas below it at random.
func (g generator) bend(s *jsonschema.Schema, t reflect.Type, depth int) {
	if s == nil {
		return
	}
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	often := func() bool { return g.IntN(12) == 0 }
	rarely := func() bool { return g.IntN(60) == 0 }
	value := func() json.RawMessage {
		var b bytes.Buffer
		g.json(&b, t, 2, 1)
		return b.Bytes()
	}
	if v := value(); depth > 0 && often() && json.Valid(v) {
		s.Default = v
	}
	if depth > 0 && often() {
		s.Enum = []any{}
		for range 4 {
			var x any
			if json.Unmarshal(value(), &x) == nil {
				s.Enum = append(s.Enum, x)
			}
		}
	}
	switch t.Kind() {
	case reflect.String:
		g.sometimes(&s.MinLength, 3)
		g.sometimes(&s.MaxLength, 8)
		if often() {
			s.Pattern = pick(g, `^[a-z]*$`, `e`)
		}
	case reflect.Slice:
		g.sometimes(&s.MinItems, 2)
		g.sometimes(&s.MaxItems, 4)
		s.UniqueItems = rarely()
		g.bend(s.Items, t.Elem(), depth+1)
	case reflect.Map:
		g.bend(s.AdditionalProperties, t.Elem(), depth+1)
	case reflect.Struct:
		g.bendObject(s, t, depth)
	default:
		for _, limit := range []**float64{&s.Minimum, &s.Maximum, &s.ExclusiveMinimum, &s.ExclusiveMaximum, &s.MultipleOf} {
			if rarely() {
				*limit = new(pick(g, 0, 1, -1, 2, 100, 0.5))
			}
		}
	}
	if depth == 0 || !rarely() {
		return
	}
	switch g.IntN(4) {
	case 0:
		s.Type, s.Types = "", nil
	case 1:
		s.Type, s.Types = pick(g, "integer", "number", "string"), nil
	case 2:
		s.AnyOf = []*jsonschema.Schema{{Type: "null"}, {}}
	case 3:
		s.MinProperties = new(1)
	}
}

func (g generator) sometimes(limit **int, below int) {
	if g.IntN(15) == 0 {
		*limit = new(g.IntN(below))
	}
}

func (g generator) bendObject(s *jsonschema.Schema, t reflect.Type, depth int) {
	if len(s.Properties) == 0 {
		return
	}
	types := map[string]reflect.Type{}
	for _, sf := range reflect.VisibleFields(t) {
		name, _, _ := strings.Cut(sf.Tag.Get("json"), ",")
		if name == "" {
			name = sf.Name
		}
		types[name] = sf.Type
	}
	switch g.IntN(8) {
	case 0:
		s.AdditionalProperties = nil
	case 1:
		s.AdditionalProperties = &jsonschema.Schema{}
	case 2:
		s.AdditionalProperties = &jsonschema.Schema{Type: "string"}
	}
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		switch g.IntN(24) {
		case 0, 1, 2, 3:
			s.Required = slices.DeleteFunc(s.Required, func(r string) bool { return r == name })
		case 4:
			if !slices.Contains(s.Required, name) {
				s.Required = append(s.Required, name)
			}
		case 5:
			delete(s.Properties, name)
			continue
		case 6:
			s.Properties["more"] = &jsonschema.Schema{Type: "string", Default: pick(g, nil, json.RawMessage(`"m"`))}
		}
		g.bend(s.Properties[name], types[name], depth+1)
	}
}
