package typed

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/google/jsonschema-go/jsonschema"
	segment "github.com/segmentio/encoding/json"
)

// A codec is a Go type together with the schema of its JSON.
//
// It has two ways. The plan takes what it can in one pass, and never explains. Everything else goes the long way, which is the
// SDK's: parse, apply defaults, validate, decode. Its errors are in the SDK's words.
type codec struct {
	typ      reflect.Type
	schema   *jsonschema.Schema
	defaults bool  // the schema has some
	plan     *Plan // nil when the type or the schema is beyond it
	resolved func() (*jsonschema.Resolved, error)
}

// newCodec makes the codec of t. Given is its schema, in any form that marshals to one; when it is nil, the schema is inferred.
func newCodec(given any, t reflect.Type, d direction) (codec, error) {
	c := codec{typ: t}
	resolve := func() (*jsonschema.Resolved, error) {
		return c.schema.Resolve(&jsonschema.ResolveOptions{ValidateDefaults: true})
	}
	var err error
	if given == nil {
		c.schema, err = infer(t, d)
		c.resolved = sync.OnceValues(resolve) // what is inferred resolves; most tools never need it
	} else if c.schema, err = parseSchema(given); err == nil {
		var resolved *jsonschema.Resolved
		resolved, err = resolve()
		c.resolved = func() (*jsonschema.Resolved, error) { return resolved, nil }
	}
	if err != nil {
		return c, err
	}
	c.defaults = hasDefaultsWithin(c.schema)
	c.plan = compile(c.schema, t, d)
	return c, nil
}

func parseSchema(given any) (*jsonschema.Schema, error) {
	schema, ok := given.(*jsonschema.Schema)
	if !ok {
		data, err := json.Marshal(given)
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(data, &schema); err != nil {
			return nil, err
		}
		var tree any
		if err := parse(data, &tree); err != nil {
			return nil, err
		}
		keepDigits(reflect.ValueOf(schema), tree)
	}
	if schema == nil {
		return nil, errors.New("no schema")
	}
	return schema, nil
}

// keepDigits puts the numbers of enum and const into the schemas in v as they are in tree, the JSON of v: the library has
// read them as float64.
func keepDigits(v reflect.Value, tree any) {
	switch v.Kind() {
	case reflect.Pointer:
		object, ok := tree.(map[string]any)
		s, is := reflect.TypeAssert[*jsonschema.Schema](v)
		if !ok || !is || s == nil {
			return
		}
		if list, ok := exactOrNil(object["enum"]).([]any); ok {
			s.Enum = list
		}
		if value := exactOrNil(object["const"]); value != nil {
			s.Const = &value
		}
		for i := range v.Elem().NumField() {
			name, _, _ := strings.Cut(v.Type().Elem().Field(i).Tag.Get("json"), ",")
			if sub, ok := object[name]; ok {
				keepDigits(v.Elem().Field(i), sub)
			}
		}
		keepDigits(reflect.ValueOf(s.Items), object["items"]) // which is a list, too, in older drafts
		keepDigits(reflect.ValueOf(s.ItemsArray), object["items"])
	case reflect.Slice:
		if list, ok := tree.([]any); ok && len(list) == v.Len() {
			for i, e := range list {
				keepDigits(v.Index(i), e)
			}
		}
	case reflect.Map:
		if object, ok := tree.(map[string]any); ok && v.Type().Elem() == reflect.TypeFor[*jsonschema.Schema]() {
			for key, e := range v.Seq2() {
				keepDigits(e, object[key.String()])
			}
		}
	default:
	}
}

// check applies the defaults to an object, and validates. The value is one that parse has made.
func (c *codec) check(value any) error {
	if object, ok := value.(map[string]any); ok && c.defaults {
		if err := applyDefaults(c.schema, object); err != nil {
			return fmt.Errorf("applying schema defaults:\n%w", err)
		}
	}
	resolved, err := c.resolved()
	if err != nil {
		return err
	}
	exact, err := mapNumbers(value, exactly)
	if err != nil {
		return err
	}
	if err := resolved.Validate(&exact); err != nil {
		return err
	}
	return walk(c.schema, value, "", multiple)
}

// applyDefaults gives the properties that s does not require, and objects to hold them, their defaults. It is the library's rule,
// which would read them as float64.
func applyDefaults(s *jsonschema.Schema, object map[string]any) error {
	for name, sub := range s.Properties {
		if slices.Contains(s.Required, name) {
			continue
		}
		value, present := object[name]
		if !present {
			implied := impliedBy(sub)
			if implied == nil {
				continue
			}
			if err := parse(implied, &value); err != nil {
				return err
			}
			object[name] = value
		}
		if below, ok := value.(map[string]any); ok && below != nil {
			if err := applyDefaults(sub, below); err != nil {
				return err
			}
		}
	}
	return nil
}

// walk checks a value and those in it, at the places that a schema describes plainly, in the words of the validator.
func walk(s *jsonschema.Schema, value any, path string, check func(*jsonschema.Schema, any) error) error {
	if s == nil {
		return nil
	}
	err := check(s, value)
	below := func(sub *jsonschema.Schema, value any, keyword string) {
		if err == nil {
			err = walk(sub, value, path+keyword, check)
		}
	}
	switch v := value.(type) {
	case []any:
		for _, e := range v {
			below(s.Items, e, "/items")
		}
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(v)) {
			if sub, ok := s.Properties[name]; ok {
				below(sub, v[name], "/properties/"+name)
			} else {
				below(s.AdditionalProperties, v[name], "/additionalProperties")
			}
		}
	}
	if err != nil {
		return fmt.Errorf("validating %s: %w", cmp.Or(path, "root"), err)
	}
	return nil
}

// multiple checks multipleOf where numbers are too large for the validator.
func multiple(s *jsonschema.Schema, value any) error {
	if n, ok := value.(json.Number); ok && s.MultipleOf != nil && !divides(*s.MultipleOf, string(n)) {
		return fmt.Errorf("multipleOf: %s is not a multiple of %f", n, *s.MultipleOf)
	}
	return nil
}

// encoded checks contentEncoding, which a validator must not: it is for whoever needs the bytes.
func encoded(s *jsonschema.Schema, value any) error {
	if text, ok := value.(string); ok && s.ContentEncoding == "base64" {
		if _, err := base64.StdEncoding.DecodeString(text); err != nil {
			return fmt.Errorf("contentEncoding: %w", err)
		}
	}
	return nil
}

// An Input decodes arguments. It is safe for concurrent use.
type Input struct {
	codec

	values func() *Plan // of the type alone: it decodes what was validated the long way, if it can
}

// NewInput makes the input of type t. Given is its schema, in any form that marshals to one, or nil.
func NewInput(given any, t reflect.Type) (*Input, error) {
	if given == nil && t == anyType {
		given = &jsonschema.Schema{Type: "object"}
	}
	c, err := newCodec(given, t, input)
	return &Input{c, sync.OnceValue(func() *Plan { return valuesOf(t) })}, err
}

// Schema returns the schema of what is decoded.
func (in *Input) Schema() *jsonschema.Schema { return in.schema }

// Decode decodes arguments into the zero value that dst, a pointer to the input's type, points to. An error is for the client to see.
func (in *Input) Decode(data []byte, dst any) error {
	if in.plan != nil && in.plan.Decode(data, dst) {
		return nil
	}
	reflect.ValueOf(dst).Elem().SetZero()
	object := map[string]any{}
	if len(data) > 0 {
		var rounded map[string]any // only to refuse a number beyond float64, be it in a member that another one replaces
		if err := unmarshal(data, &rounded); err != nil {
			return invalid(parsing(err))
		}
		if err := parse(data, &object); err != nil {
			return invalid(parsing(err))
		}
	}
	if object == nil && in.defaults { // null is what it is to a tool without defaults: no arguments
		object = map[string]any{}
	}
	if err := in.check(object); err != nil {
		return invalid(err)
	}
	data, err := json.Marshal(object)
	if err != nil {
		return invalid(err)
	}
	if in.values().Decode(data, dst) {
		return nil
	}
	reflect.ValueOf(dst).Elem().SetZero()
	if err := decodePlain(data, dst); err != nil {
		if err := walk(in.schema, object, "", encoded); err != nil {
			return invalid(err)
		}
		return err
	}
	return nil
}

// decodePlain decodes JSON into any type, with whole numbers written as such, which is what integers are read from: 5 for 5.0.
func decodePlain(data []byte, dst any) error {
	var value any
	if err := parse(data, &value); err != nil {
		return err
	}
	plain, err := mapNumbers(value, loose)
	if err != nil {
		return err
	}
	if data, err = json.Marshal(plain); err != nil {
		return err
	}
	return unmarshal(data, dst)
}

func parsing(err error) error { return fmt.Errorf("unmarshaling arguments: %w", err) }
func invalid(err error) error { return fmt.Errorf("validating %q: %w", "arguments", err) }

// An Output encodes structured content. It is safe for concurrent use.
type Output struct {
	codec
}

// NewOutput makes the output of type t. Given is its schema, in any form that marshals to one, or nil.
func NewOutput(given any, t reflect.Type) (*Output, error) {
	if given == nil && t == anyType {
		return &Output{codec{typ: t}}, nil
	}
	c, err := newCodec(given, t, output)
	return &Output{c}, err
}

// Schema returns the schema of what is encoded, nil if there is none.
func (o *Output) Schema() *jsonschema.Schema { return o.schema }

// Encode returns the structured content made of the value that src, a pointer to the output's type, points to.
func (o *Output) Encode(src any) (json.RawMessage, error) {
	if o.plan != nil {
		if data, ok := o.plan.Append(make([]byte, 0, 64), src); ok {
			return data, nil
		}
	}
	v := reflect.ValueOf(src).Elem()
	if v.Kind() == reflect.Pointer && v.IsNil() { // an output that is not there is an empty one, by the SDK's rule
		v = reflect.New(v.Type().Elem()).Elem()
	}
	data, err := marshal(v)
	if err != nil || o.schema == nil {
		return data, err
	}
	content, err := o.complete(data)
	if err == nil {
		return content, nil
	}
	// What is nil and cannot be null is empty. Who made the value did the work: it must not be lost for that.
	full, changed := fill(v, o.schema)
	if !changed {
		return nil, err
	}
	if data, err = marshal(full); err != nil {
		return nil, err
	}
	return o.complete(data)
}

func marshal(v reflect.Value) (json.RawMessage, error) {
	if v.CanAddr() && !v.Type().Implements(jsonForm[output]) && !v.Type().Implements(textForm[output]) {
		v = v.Addr() // so that methods of pointers count
	}
	data, err := json.Marshal(v.Interface())
	if err != nil {
		return nil, fmt.Errorf("marshaling output: %w", err)
	}
	return data, nil
}

// complete checks the JSON of an output, and adds the defaults.
func (o *Output) complete(data json.RawMessage) (json.RawMessage, error) {
	var value any
	if err := parse(data, &value); err != nil {
		return nil, fmt.Errorf("validating tool output: unmarshaling output: %w", err)
	}
	if value == nil && o.schema.Type == "object" {
		value = map[string]any{}
	}
	if err := o.check(value); err != nil {
		return nil, fmt.Errorf("validating tool output: %w", err)
	}
	if _, ok := value.(map[string]any); !ok {
		return data, nil
	}
	return json.Marshal(value) // members in order, as ever
}

// maxNesting is how deep the SDK lets JSON nest.
const maxNesting = 1000

// parse decodes JSON by the SDK's parser, which ends where the first value does, with numbers as they are written.
func parse(data []byte, dst any) error { return decodeJSON(data, dst, segment.UseNumber) }

func unmarshal(data []byte, dst any) error { return decodeJSON(data, dst, 0) }

func decodeJSON(data []byte, dst any, flags segment.ParseFlags) error {
	if nesting(data) > maxNesting {
		return fmt.Errorf("json: exceeded maximum nesting depth of %d", maxNesting)
	}
	// A name in another case is another property to the schema.
	if _, err := segment.Parse(data, dst, flags|segment.DontMatchCaseInsensitiveStructFields); err == nil {
		return nil
	}
	dec := segment.NewDecoder(bytes.NewReader(data)) // which has a large buffer, and the words of errors
	dec.DontMatchCaseInsensitiveStructFields()
	if flags == segment.UseNumber {
		dec.UseNumber()
	}
	return dec.Decode(dst)
}

// nesting returns how deep the arrays and objects of a JSON text nest.
func nesting(data []byte) (deepest int) {
	depth, inString := 0, false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			depth++
			deepest = max(deepest, depth)
		case (c == '}' || c == ']') && depth > 0:
			depth--
		}
	}
	return deepest
}
