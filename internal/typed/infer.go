package typed

import (
	"cmp"
	"encoding"
	"encoding/json"
	"log/slog"
	"math/big"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/google/jsonschema-go/jsonschema"
)

// A direction is the way that values go: types may be read in one JSON form, and written in another.
type direction int

const (
	input direction = iota
	output
)

var (
	timeType   = reflect.TypeFor[time.Time]()
	numberType = reflect.TypeFor[json.Number]()
	bigIntType = reflect.TypeFor[big.Int]()

	// Each direction's own JSON form, and its own text.
	jsonForm = [...]reflect.Type{input: reflect.TypeFor[json.Unmarshaler](), output: reflect.TypeFor[json.Marshaler]()}
	textForm = [...]reflect.Type{input: reflect.TypeFor[encoding.TextUnmarshaler](), output: reflect.TypeFor[encoding.TextMarshaler]()}
)

// A form is how encoding/json treats the values of a type.
type form int

const (
	structural form = iota // by its kind
	number                 // json.Number
	ownJSON                // JSON of its own making, which may be any
	ownText                // a string of its own making
	base64Text             // bytes
)

func (d direction) formOf(t reflect.Type) form {
	has := func(i reflect.Type) bool { return t.Implements(i) || reflect.PointerTo(t).Implements(i) }
	switch {
	case t == numberType:
		return number
	case t.Kind() == reflect.Pointer || t.Kind() == reflect.Interface || t == timeType:
		return structural
	case has(jsonForm[d]):
		return ownJSON
	case has(textForm[d]):
		return ownText
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8 && d.formOf(t.Elem()) == structural:
		return base64Text
	}
	return structural
}

// infer returns the schema of what encoding/json makes of a t, or makes a t of.
//
// The library infers by kind: it takes json.RawMessage and []byte for arrays of integers, and types with JSON or text of
// their own for structs, so that no value would ever pass. It knows a few types better.
func infer(t reflect.Type, d direction) (*jsonschema.Schema, error) {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	known := map[reflect.Type]*jsonschema.Schema{}
	if d == input && t.Kind() == reflect.Struct {
		// Arguments are an object. A struct that reads them by itself does so, as a rule, to fill in what is absent: its
		// fields still tell the client what it takes.
		d.describeFields(t, known, map[reflect.Type]bool{t: true})
	} else {
		d.describe(t, known, map[reflect.Type]bool{})
	}
	s, err := jsonschema.ForType(t, &jsonschema.ForOptions{TypeSchemas: known})
	if err != nil {
		return nil, err
	}
	admitAny(s)
	quote(s, t, known)
	if d == input && reflect.ValueOf(*s).IsZero() {
		s.Type = "object"
	}
	return s, nil
}

// anyJSON stands for the empty schema while the library infers: to that it would add null where a pointer points to the type,
// and so make it admit nothing else.
var anyJSON = []string{"null", "boolean", "number", "string", "array", "object"}

// admitAny puts the empty schema where anyJSON is.
func admitAny(s *jsonschema.Schema) {
	if s == nil {
		return
	}
	if slices.Equal(s.Types, anyJSON) {
		s.Types = nil
	}
	admitAny(s.Items)
	admitAny(s.AdditionalProperties)
	for _, p := range s.Properties {
		admitAny(p)
	}
}

// quote makes strings of the fields with the option "string", by which encoding/json puts numbers and booleans into quotes.
func quote(s *jsonschema.Schema, t reflect.Type, known map[reflect.Type]*jsonschema.Schema) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if s == nil || known[t] != nil || t == timeType {
		return
	}
	switch t.Kind() {
	case reflect.Slice, reflect.Array:
		quote(s.Items, t.Elem(), known)
	case reflect.Map:
		quote(s.AdditionalProperties, t.Elem(), known)
	case reflect.Struct:
		for _, f := range reflect.VisibleFields(t) {
			name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
			property := s.Properties[cmp.Or(name, f.Name)]
			if f.Anonymous || property == nil {
				continue
			}
			quote(property, f.Type, known)
			if slices.Contains(strings.Split(options, ","), "string") && quotable(f.Type) {
				if property.Type != "" {
					property.Type = "string"
				} else {
					property.Types = []string{"null", "string"}
				}
				property.Minimum, property.Maximum = nil, nil
			}
		}
	default:
	}
}

// quotable reports whether encoding/json heeds the option "string" for the type.
func quotable(t reflect.Type) bool {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t.Kind() >= reflect.Bool && t.Kind() <= reflect.Float64 || t.Kind() == reflect.String
}

// describe adds to known the types in t that the library would take for something else.
func (d direction) describe(t reflect.Type, known map[reflect.Type]*jsonschema.Schema, seen map[reflect.Type]bool) {
	if seen[t] {
		return
	}
	seen[t] = true
	switch t {
	case reflect.TypeFor[slog.Level](): // the library knows its text
		return
	case bigIntType:
		known[t] = &jsonschema.Schema{Type: "integer"}
		return
	}
	switch d.formOf(t) {
	case number:
		known[t] = &jsonschema.Schema{Type: "number"}
		return
	case ownJSON:
		known[t] = &jsonschema.Schema{Types: anyJSON}
		return
	case ownText:
		known[t] = &jsonschema.Schema{Type: "string"}
		return
	case base64Text:
		known[t] = &jsonschema.Schema{Types: []string{"null", "string"}, ContentEncoding: "base64"}
		return
	case structural:
	}
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
		d.describe(t.Elem(), known, seen)
	case reflect.Struct:
		d.describeFields(t, known, seen)
	default:
	}
}

func (d direction) describeFields(t reflect.Type, known map[reflect.Type]*jsonschema.Schema, seen map[reflect.Type]bool) {
	if t == timeType {
		return
	}
	for f := range t.Fields() {
		if f.IsExported() && f.Tag.Get("json") != "-" || f.Anonymous {
			d.describe(f.Type, known, seen)
		}
	}
}
