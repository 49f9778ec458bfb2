package typed

import (
	"reflect"
	"slices"
	"strings"
)

// collect appends the fields of the struct type t, those of embedded structs
// in their place, to n.fields and returns their types. It reports false where
// encoding/json, the SDK's decoder and schema inference may disagree.
func collect(n *node, t reflect.Type, at []int) (types []reflect.Type, ok bool) {
	for i := range t.NumField() {
		sf := t.Field(i)
		index := append(slices.Clone(at), i)
		tag, tagged := sf.Tag.Lookup("json")
		if sf.Anonymous {
			if tagged || sf.Type.Kind() != reflect.Struct || customized(sf.Type) || sf.Type == timeType {
				return nil, false
			}
			promoted, ok := collect(n, sf.Type, index)
			if !ok {
				return nil, false
			}
			types = append(types, promoted...)
			continue
		}
		if !sf.IsExported() || tag == "-" {
			continue
		}
		name, rest, _ := strings.Cut(tag, ",")
		if name == "" {
			name = sf.Name
		}
		if !plainName(name) || slices.ContainsFunc(n.fields, func(f field) bool { return f.name == name }) {
			return nil, false
		}
		f := field{name: name, key: `"` + name + `":`, index: index}
		if rest != "" {
			for option := range strings.SplitSeq(rest, ",") {
				switch option {
				case "omitempty":
					f.omitEmpty = true
				case "omitzero":
					f.omitZero = true
				default:
					return nil, false
				}
			}
		}
		if f.omitZero && sf.Type != timeType && hasIsZero(sf.Type) {
			return nil, false
		}
		n.fields = append(n.fields, f)
		types = append(types, sf.Type)
	}
	return types, true
}

func plainName(s string) bool {
	return s != "" && s != "-" && !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '-' || r == '.' || r == '$')
	})
}

var (
	anyType     = reflect.TypeFor[any]()
	stringType  = reflect.TypeFor[string]()
	stringsType = reflect.TypeFor[[]string]()
	isZeroer    = reflect.TypeFor[interface{ IsZero() bool }]()
)

// customized reports whether t has a JSON form of its own, in either direction.
func customized(t reflect.Type) bool {
	return t != timeType && slices.ContainsFunc(append(jsonForm[:], textForm[:]...), func(i reflect.Type) bool {
		return t.Implements(i) || reflect.PointerTo(t).Implements(i)
	})
}

func hasIsZero(t reflect.Type) bool {
	return t.Implements(isZeroer) || reflect.PointerTo(t).Implements(isZeroer)
}
