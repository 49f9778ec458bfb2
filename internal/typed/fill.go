package typed

import (
	"cmp"
	"reflect"
	"strings"

	"github.com/google/jsonschema-go/jsonschema"
)

// fill returns a copy of v with empty maps and slices for those that are nil, except where the schema plainly admits null.
// It reports whether there were any.
//
// Types with a JSON form of their own are as they are. The value must have been marshaled: one that holds itself has no end here.
func fill(v reflect.Value, s *jsonschema.Schema) (_ reflect.Value, changed bool) {
	if output.formOf(v.Type()) != structural {
		return v, false
	}
	if s == nil {
		s = &jsonschema.Schema{}
	}
	typed := s.Type != "" || s.Types != nil
	switch v.Kind() {
	case reflect.Map, reflect.Slice:
		switch {
		case v.IsNil() && typed && admits(s, "null"):
			return v, false
		case v.IsNil() && v.Kind() == reflect.Map:
			return reflect.MakeMap(v.Type()), true
		case v.IsNil():
			return reflect.MakeSlice(v.Type(), 0, 0), true
		}
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() {
			return v, false
		}
	default:
	}
	into := reflect.New(v.Type()).Elem()
	into.Set(v)
	set := func(e reflect.Value, s *jsonschema.Schema, put func(reflect.Value)) {
		if full, filled := fill(e, s); filled {
			put(full)
			changed = true
		}
	}
	switch v.Kind() {
	case reflect.Pointer:
		set(v.Elem(), s, func(full reflect.Value) {
			into.Set(reflect.New(v.Type().Elem()))
			into.Elem().Set(full)
		})
	case reflect.Interface:
		set(v.Elem(), s, into.Set)
	case reflect.Slice:
		into.Set(reflect.MakeSlice(v.Type(), v.Len(), v.Len()))
		reflect.Copy(into, v)
		fallthrough
	case reflect.Array:
		for i := range v.Len() {
			set(v.Index(i), s.Items, into.Index(i).Set)
		}
	case reflect.Map:
		into.Set(reflect.MakeMapWithSize(v.Type(), v.Len()))
		for k, e := range v.Seq2() {
			into.SetMapIndex(k, e)
			set(e, s.AdditionalProperties, func(full reflect.Value) { into.SetMapIndex(k, full) })
		}
	case reflect.Struct:
		changed = fillFields(into, v, s)
	default:
	}
	return into, changed
}

// fillFields puts the filled fields of the struct v into its copy.
func fillFields(into, v reflect.Value, s *jsonschema.Schema) (changed bool) {
	for i := range v.NumField() {
		sf := v.Type().Field(i)
		tag := sf.Tag.Get("json")
		name, options, _ := strings.Cut(tag, ",")
		sub := s.Properties[cmp.Or(name, sf.Name)]
		if sf.Anonymous && name == "" {
			sub = s
		}
		switch {
		case tag == "-" || strings.Contains(options, "omitzero") && v.Field(i).IsZero(): // is not written
		case into.Field(i).CanSet():
			if full, filled := fill(v.Field(i), sub); filled {
				into.Field(i).Set(full)
				changed = true
			}
		case sf.Anonymous && sf.Type.Kind() == reflect.Struct: // what it promotes can be set, if it cannot itself
			changed = fillFields(into.Field(i), v.Field(i), sub) || changed
		}
	}
	return changed
}
