package typed

import (
	"encoding"
	"encoding/base64"
	"encoding/json"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/sluice-mcp/sluice/internal/jsontext"
)

// Append appends the structured content made of the value that src, a pointer to the plan's type, points to.
//
// When it reports false, it knows nothing about the value.
func (p *Plan) Append(dst []byte, src any) ([]byte, bool) {
	return p.root.append(dst, reflect.ValueOf(src).Elem())
}

func (n *node) append(dst []byte, v reflect.Value) ([]byte, bool) {
	switch n.kind {
	case boolean:
		return strconv.AppendBool(dst, v.Bool()), true
	case signed:
		i := v.Int()
		return strconv.AppendInt(dst, i, 10), n.limits.number(float64(i))
	case unsigned:
		i := v.Uint()
		return strconv.AppendUint(dst, i, 10), n.limits.number(float64(i))
	case float:
		f := v.Float()
		if math.IsNaN(f) || math.IsInf(f, 0) {
			return dst, false
		}
		if v.Kind() == reflect.Float32 {
			f = widen(f)
		}
		if _, part := math.Modf(f); n.whole && part != 0 {
			return dst, false
		}
		return jsontext.AppendFloat(dst, f), n.limits.number(f)
	case text:
		s := v.String()
		return jsontext.AppendString(dst, s), utf8.ValidString(s) && n.limits.text(s)
	case instant:
		t := timeOf(v)
		dst = append(dst, '"')
		at := len(dst)
		dst, err := t.AppendText(dst)
		if err != nil || n.limits != nil && !n.limits.text(string(dst[at:])) {
			return dst, false
		}
		return append(dst, '"'), true
	case list:
		if v.IsNil() && n.null {
			return append(dst, "null"...), true
		}
		return n.appendList(dst, v)
	case array:
		return n.appendList(dst, v)
	case dict:
		return n.appendDict(dst, v)
	case object:
		return n.appendObject(dst, v)
	case pointer:
		if v.IsNil() {
			return append(dst, "null"...), n.null
		}
		return n.elem.append(dst, v.Elem())
	case anything:
		return appendAny(dst, v.Interface(), 0)
	case literal:
		return appendNumber(dst, json.Number(v.String()))
	case custom, customText:
		return n.appendCustom(dst, v)
	case blob:
		if v.IsNil() && n.null {
			return append(dst, "null"...), true
		}
		dst = append(dst, '"')
		at := len(dst)
		dst = base64.StdEncoding.AppendEncode(dst, v.Bytes())
		if n.limits != nil && !n.limits.text(string(dst[at:])) {
			return dst, false
		}
		return append(dst, '"'), true
	}
	return dst, false
}

func appendNumber(dst []byte, n json.Number) ([]byte, bool) {
	if n == "" {
		n = "0" // as encoding/json has it
	}
	return append(dst, n...), jsontext.NumberEnd([]byte(n), 0) == len(n)
}

// appendCustom appends what the value says of itself.
func (n *node) appendCustom(dst []byte, v reflect.Value) ([]byte, bool) {
	var said any
	if v.CanAddr() { // methods of the pointer count, as in encoding/json
		said = v.Addr().Interface()
	} else {
		said = v.Interface()
	}
	if n.kind == custom {
		if raw, ok := said.(*json.RawMessage); ok {
			if *raw == nil {
				return append(dst, "null"...), true
			}
			return jsontext.AppendCompact(dst, *raw)
		}
		if m, ok := said.(json.Marshaler); ok {
			data, err := m.MarshalJSON()
			if err != nil {
				return dst, false
			}
			return jsontext.AppendCompact(dst, data)
		}
		return dst, false
	}
	m, ok := said.(encoding.TextMarshaler)
	if !ok {
		return dst, false
	}
	data, err := m.MarshalText()
	if err != nil || !utf8.Valid(data) || n.limits != nil && !n.limits.text(string(data)) {
		return dst, false
	}
	return jsontext.AppendString(dst, data), true
}

func (n *node) appendObject(dst []byte, v reflect.Value) ([]byte, bool) {
	dst = append(dst, '{')
	comma := false
	for _, i := range n.sorted {
		f := &n.fields[i]
		fv := v.FieldByIndex(f.index)
		if f.omitEmpty && isEmpty(fv) || f.omitZero && isZero(fv) {
			if (n.required|n.implied)>>i&1 != 0 {
				return dst, false
			}
			continue
		}
		if f.node == nil {
			return dst, false
		}
		if comma {
			dst = append(dst, ',')
		}
		comma = true
		dst = append(dst, f.key...)
		var ok bool
		if dst, ok = f.node.append(dst, fv); !ok {
			return dst, false
		}
	}
	return append(dst, '}'), true
}

func (n *node) appendList(dst []byte, v reflect.Value) ([]byte, bool) {
	if !n.limits.items(v.Len()) {
		return dst, false
	}
	dst = append(dst, '[')
	for i := range v.Len() {
		if i > 0 {
			dst = append(dst, ',')
		}
		var ok bool
		if dst, ok = n.elem.append(dst, v.Index(i)); !ok {
			return dst, false
		}
	}
	return append(dst, ']'), true
}

func (n *node) appendDict(dst []byte, v reflect.Value) ([]byte, bool) {
	if v.IsNil() && n.null {
		return append(dst, "null"...), true
	}
	type member struct {
		key   string
		value reflect.Value
	}
	members := make([]member, 0, v.Len())
	for k, e := range v.Seq2() {
		key := k.String()
		if n.textKeys {
			m, ok := reflect.TypeAssert[encoding.TextMarshaler](k)
			if !ok || k.Kind() == reflect.Pointer {
				return dst, false
			}
			text, err := m.MarshalText()
			if err != nil {
				return dst, false
			}
			key = string(text)
		}
		members = append(members, member{key, e})
	}
	slices.SortFunc(members, func(a, b member) int { return strings.Compare(a.key, b.key) })
	dst = append(dst, '{')
	for i, m := range members {
		if i > 0 {
			dst = append(dst, ',')
		}
		if !utf8.ValidString(m.key) {
			return dst, false
		}
		dst = jsontext.AppendString(dst, m.key)
		dst = append(dst, ':')
		var ok bool
		if dst, ok = n.elem.append(dst, m.value); !ok {
			return dst, false
		}
	}
	return append(dst, '}'), true
}

// appendAny appends a value whose type only the tool knows, if it is one of the plain ones.
func appendAny(dst []byte, x any, depth int) ([]byte, bool) {
	if depth > maxDepth {
		return dst, false
	}
	switch x := x.(type) {
	case nil:
		return append(dst, "null"...), true
	case bool:
		return strconv.AppendBool(dst, x), true
	case int:
		return strconv.AppendInt(dst, int64(x), 10), true
	case int64:
		return strconv.AppendInt(dst, x, 10), true
	case uint64:
		return strconv.AppendUint(dst, x, 10), true
	case json.Number:
		return appendNumber(dst, x)
	case float64:
		if math.IsNaN(x) || math.IsInf(x, 0) {
			return dst, false
		}
		return jsontext.AppendFloat(dst, x), true
	case string:
		return jsontext.AppendString(dst, x), utf8.ValidString(x)
	case []any:
		if x == nil {
			return append(dst, "null"...), true
		}
		dst = append(dst, '[')
		for i, e := range x {
			if i > 0 {
				dst = append(dst, ',')
			}
			var ok bool
			if dst, ok = appendAny(dst, e, depth+1); !ok {
				return dst, false
			}
		}
		return append(dst, ']'), true
	case map[string]any:
		if x == nil {
			return append(dst, "null"...), true
		}
		keys := make([]string, 0, len(x))
		for k := range x {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		dst = append(dst, '{')
		for i, k := range keys {
			if i > 0 {
				dst = append(dst, ',')
			}
			if !utf8.ValidString(k) {
				return dst, false
			}
			dst = jsontext.AppendString(dst, k)
			dst = append(dst, ':')
			var ok bool
			if dst, ok = appendAny(dst, x[k], depth+1); !ok {
				return dst, false
			}
		}
		return append(dst, '}'), true
	}
	return dst, false
}

// widen returns the float64 that the shortest text of a float32 stands for.
func widen(f float64) float64 {
	var buf [32]byte
	wide, _ := strconv.ParseFloat(string(strconv.AppendFloat(buf[:0], f, 'g', -1, 32)), 64)
	return wide
}

// isEmpty is encoding/json's idea of empty.
func isEmpty(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Array, reflect.Map, reflect.Slice, reflect.String:
		return v.Len() == 0
	case reflect.Struct, reflect.Chan, reflect.Func, reflect.Complex64, reflect.Complex128, reflect.UnsafePointer:
		return false
	}
	return v.IsZero()
}

func isZero(v reflect.Value) bool {
	if v.Type() == timeType {
		return timeOf(v).IsZero()
	}
	return v.IsZero()
}

func timeOf(v reflect.Value) time.Time {
	if v.CanAddr() { // no copy on the heap
		if t, ok := reflect.TypeAssert[*time.Time](v.Addr()); ok {
			return *t
		}
	}
	t, _ := reflect.TypeAssert[time.Time](v)
	return t
}
