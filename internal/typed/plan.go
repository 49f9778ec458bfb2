// Package typed reads and writes the arguments and results of typed tools: decoding, the checks of a JSON schema and its
// defaults, made once from a Go type and its schema.
//
// A [Plan] does all of it in one pass, or gives up. It never explains: what it does not accept, valid or not, goes the long way
// of an [Input] or [Output], which has the last word and the words of every error. So whatever is not provably the same is left
// out here, when a plan is compiled or when it is used.
//
// The package does not know tools, requests or results.
package typed

import (
	"reflect"
	"slices"
	"strings"

	"github.com/google/jsonschema-go/jsonschema"
)

// A Plan is a Go type compiled together with its schema. It is safe for concurrent use.
type Plan struct{ root *node }

type kind uint8

const (
	boolean kind = iota
	signed
	unsigned
	float
	text
	instant // time.Time
	list    // slice
	array
	dict     // map
	object   // struct
	pointer  //
	anything // the empty interface
	literal  // json.Number
	custom   // JSON that the type reads or writes itself
	customText
	blob   // bytes, as base64
	opaque // of values only: for the general decoder
)

// A node is one type and the schema that its values must meet.
type node struct {
	kind   kind
	typ    reflect.Type
	null   bool    // null is a value: the nil of a pointer, slice or map
	whole  bool    // numbers must be integers
	limits *limits // nil when there are none
	elem   *node   // of a list, array, dict or pointer

	textKeys bool // of a dict: its keys have a text of their own

	// Of an object only. Sets of fields are bits, in the order of fields.
	fields   []field
	sorted   []int // fields by name, the order of what the SDK writes
	required uint64
	implied  uint64          // fields that have a value when they are absent
	closed   bool            // unknown properties are errors
	foreign  map[string]bool // properties that the schema knows and the type does not
}

type field struct {
	name    string
	key     string // `"name":`
	index   []int
	node    *node  // nil: when the field is present, give up
	implied []byte // JSON
	// When the field is left out of the output.
	omitEmpty, omitZero bool
}

// maxFields is how many fields fit into the bit sets of a node.
const maxFields = 64

// compile returns the plan for the values of t under its schema, or nil when one of them is beyond it.
//
// Of output, only objects are in its reach: the SDK writes their members sorted by name, while it sends other values as
// [json.Marshal] wrote them.
func compile(schema *jsonschema.Schema, t reflect.Type, d direction) *Plan {
	if schema == nil || schema.Type != "object" {
		return nil
	}
	root := *schema
	// The validator reads an older draft by other rules.
	if root.Schema == "" || root.Schema == "https://json-schema.org/draft/2020-12/schema" {
		root.Schema = ""
	}
	if t == anyType || d.formOf(t) == ownJSON { // whose values are not only objects
		if d == output {
			return nil
		}
		root.Type = ""
	}
	c := compiler{direction: d, open: map[reflect.Type]*node{}}
	n := c.node(&root, t, true)
	if n == nil {
		return nil
	}
	return &Plan{root: n}
}

// valuesOf returns the plan to decode a t that was validated before.
func valuesOf(t reflect.Type) *Plan {
	c := compiler{direction: input, open: map[reflect.Type]*node{}, values: true}
	return &Plan{root: c.node(&jsonschema.Schema{}, t, false)}
}

type compiler struct {
	direction direction
	values    bool                   // nothing is asked of them
	open      map[reflect.Type]*node // structs being compiled; nil when a type inside itself would have other checks
}

// node compiles t under schema s. defaults tells whether the SDK would apply
// the defaults below s: it walks through optional properties, never into
// required ones, arrays or maps.
func (c *compiler) node(s *jsonschema.Schema, t reflect.Type, defaults bool) *node {
	n := c.planned(s, t, defaults)
	if n == nil && c.values {
		return &node{kind: opaque, typ: t}
	}
	return n
}

func (c *compiler) planned(s *jsonschema.Schema, t reflect.Type, defaults bool) *node {
	if t.Kind() == reflect.Pointer {
		if k := t.Elem().Kind(); k == reflect.Pointer || k == reflect.Interface {
			return nil
		}
		elem := c.node(s, t.Elem(), defaults)
		if elem == nil {
			return nil
		}
		return &node{kind: pointer, typ: t, null: admits(s, "null") && s.Enum == nil, elem: elem}
	}
	if n, special := c.special(s, t); special {
		return n
	}
	n := &node{typ: t}
	var jsonType string
	switch t.Kind() {
	case reflect.Bool:
		n.kind, jsonType = boolean, "boolean"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		n.kind, jsonType = signed, "integer"
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		n.kind, jsonType = unsigned, "integer"
	case reflect.Float32, reflect.Float64:
		n.kind, jsonType = float, "integer"
		n.whole = !admits(s, "number")
	case reflect.String:
		n.kind, jsonType = text, "string"
	case reflect.Slice:
		n.kind, jsonType = list, "array"
	case reflect.Array:
		n.kind, jsonType = array, "array"
	case reflect.Map:
		n.kind, jsonType = dict, "object"
	case reflect.Struct:
		n.kind, jsonType = object, "object"
		if t == timeType {
			n.kind, jsonType = instant, "string"
		}
	case reflect.Interface:
		if t != anyType || !unrestricted(s) {
			return nil
		}
		n.kind = anything
		return n
	default:
		return nil
	}
	if !admits(s, jsonType) {
		return nil
	}
	var rest jsonschema.Schema
	var ok bool
	if n.limits, rest, ok = limitsOf(s, n.kind); !ok {
		return nil
	}
	switch n.kind {
	case list, array:
		n.null = n.kind == list && admits(s, "null")
		rest.Items = nil
		n.elem = c.node(orAny(s.Items), t.Elem(), false)
		if n.elem == nil {
			return nil
		}
	case dict:
		n.null = admits(s, "null")
		rest.AdditionalProperties = nil
		if n.textKeys = t.Key().Kind() != reflect.String && c.direction.formOf(t.Key()) == ownText; !n.textKeys {
			if t.Key().Kind() != reflect.String || customized(t.Key()) {
				return nil
			}
		}
		n.elem = c.node(orAny(s.AdditionalProperties), t.Elem(), false)
		if n.elem == nil {
			return nil
		}
		if c.direction == input && t.Key() == stringType && t.Elem() == stringsType {
			n.elem.null = false // the SDK's decoder reads null as an empty slice here, and only here
		}
	case object:
		rest.Properties, rest.Required, rest.AdditionalProperties = nil, nil, nil
		if outer, inside := c.open[t]; inside {
			if outer == nil || !unrestricted(s) {
				return nil
			}
			return outer
		}
		c.open[t] = nil
		if c.direction == input && unrestricted(s) { // arguments end; a value to write may be a circle
			c.open[t] = n
		}
		defer delete(c.open, t)
		if !c.object(n, s, defaults) {
			return nil
		}
	}
	if !reflect.ValueOf(rest).IsZero() {
		return nil
	}
	return n
}

// special compiles a t that is not read or written by its kind. It reports whether t is one.
func (c *compiler) special(s *jsonschema.Schema, t reflect.Type) (_ *node, special bool) {
	n := &node{typ: t}
	switch c.direction.formOf(t) {
	case structural:
		return nil, false
	case number:
		if n.kind = literal; !admits(s, "number") || !justType(s) {
			return nil, true
		}
	case ownJSON:
		if n.kind = custom; !unrestricted(s) {
			return nil, true
		}
	case ownText, base64Text:
		if n.kind = customText; c.direction.formOf(t) == base64Text {
			n.kind, n.null = blob, admits(s, "null")
		}
		limits, rest, ok := limitsOf(s, text)
		if !ok || !admits(s, "string") || !reflect.ValueOf(rest).IsZero() {
			return nil, true
		}
		n.limits = limits
	}
	return n, true
}

// object compiles the fields of n.typ.
func (c *compiler) object(n *node, s *jsonschema.Schema, defaults bool) bool {
	switch extra := s.AdditionalProperties; {
	case extra == nil || unrestricted(extra):
	case extra.Not != nil && reflect.ValueOf(*extra.Not).IsZero():
		n.closed = true
		not := *extra
		not.Not = nil
		if !unrestricted(&not) {
			return false
		}
	default:
		return false
	}
	types, ok := collect(n, n.typ, nil)
	if !ok || len(n.fields) > maxFields {
		return false
	}
	known := map[string]bool{}
	for i := range n.fields {
		f := &n.fields[i]
		known[f.name] = true
		bit := uint64(1) << i
		must := slices.Contains(s.Required, f.name)
		if must {
			n.required |= bit
		}
		sub, declared := s.Properties[f.name]
		switch {
		case declared:
			f.node = c.node(sub, types[i], defaults && !must)
		case !n.closed:
			f.node = c.node(&jsonschema.Schema{}, types[i], false)
		}
		if f.node == nil && (must || !f.omitEmpty && !f.omitZero) {
			return false
		}
		if declared && defaults && !must {
			if f.implied = impliedBy(sub); f.implied != nil {
				n.implied |= bit
			}
		}
	}
	for _, name := range s.Required {
		if !known[name] {
			return false
		}
	}
	for name, sub := range s.Properties {
		if known[name] {
			continue
		}
		if hasDefaults(sub) {
			return false
		}
		if n.foreign == nil {
			n.foreign = map[string]bool{}
		}
		n.foreign[name] = true
	}
	n.sorted = make([]int, len(n.fields))
	for i := range n.sorted {
		n.sorted[i] = i
	}
	slices.SortFunc(n.sorted, func(a, b int) int { return strings.Compare(n.fields[a].name, n.fields[b].name) })
	return true
}

// impliedBy returns the value that the SDK gives to an absent optional property with schema s: its default,
// or an object to hold the defaults below it. Nil if there is none.
func impliedBy(s *jsonschema.Schema) []byte {
	if s.Default != nil {
		return s.Default
	}
	if hasDefaults(s) {
		return []byte("{}")
	}
	return nil
}

func hasDefaults(s *jsonschema.Schema) bool {
	if s == nil {
		return false
	}
	if s.Default != nil {
		return true
	}
	for _, sub := range s.Properties {
		if hasDefaults(sub) {
			return true
		}
	}
	return false
}

// hasDefaultsWithin reports whether s has a default at a place where the SDK would apply it.
func hasDefaultsWithin(s *jsonschema.Schema) bool {
	for _, sub := range s.Properties {
		if hasDefaults(sub) {
			return true
		}
	}
	return false
}

func orAny(s *jsonschema.Schema) *jsonschema.Schema {
	if s == nil {
		return &jsonschema.Schema{}
	}
	return s
}

// unrestricted reports whether s admits every value.
func unrestricted(s *jsonschema.Schema) bool {
	rest := checks(s)
	return reflect.ValueOf(rest).IsZero()
}

// justType reports whether s asks for a type, or for nothing.
func justType(s *jsonschema.Schema) bool {
	rest := checks(s)
	rest.Type, rest.Types = "", nil
	return reflect.ValueOf(rest).IsZero()
}

// admits reports whether the type keyword of s lets values of the JSON type pass.
func admits(s *jsonschema.Schema, jsonType string) bool {
	if s.Type == "" && s.Types == nil {
		return true
	}
	is := func(t string) bool { return s.Type == t || slices.Contains(s.Types, t) }
	return is(jsonType) || jsonType == "integer" && is("number")
}
