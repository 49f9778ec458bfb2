package typed

import (
	"bytes"
	"encoding"
	"encoding/base64"
	"encoding/json"
	"reflect"
	"strconv"
	"time"

	"github.com/sluice-mcp/sluice/internal/jsontext"
)

// maxDepth bounds the nesting of what a plan takes. The SDK takes 1000 levels, its own included.
const maxDepth = 200

// Decode decodes arguments into the value that dst, a pointer to the plan's
// type, points to. Empty arguments are those of an empty object.
//
// When it reports false, it knows nothing about data and has left anything in dst.
func (p *Plan) Decode(data []byte, dst any) bool {
	if len(data) == 0 {
		data = []byte("{}")
	}
	d := decoder{data: data}
	if d.space(); d.peek() != '{' {
		return false
	}
	if !d.value(p.root, reflect.ValueOf(dst).Elem(), 0) {
		return false
	}
	d.space()
	return d.pos == len(d.data)
}

// A decoder reads JSON more strictly than the SDK's: what it accepts, the SDK accepts and understands alike.
type decoder struct {
	data []byte
	pos  int
}

// value decodes the value at the position, white space before it skipped.
func (d *decoder) value(n *node, v reflect.Value, depth int) bool {
	if n == nil || depth > maxDepth {
		return false
	}
	if n.null && d.peek() == 'n' {
		return d.literal("null") // v is zero
	}
	switch n.kind {
	case boolean:
		switch d.peek() {
		case 't':
			v.SetBool(true)
			return d.literal("true")
		case 'f':
			return d.literal("false")
		}
		return false
	case signed:
		i, ok := d.signed()
		if !ok || v.OverflowInt(i) || !n.limits.number(float64(i)) {
			return false
		}
		v.SetInt(i)
		return true
	case unsigned:
		u, ok := d.unsigned()
		if !ok || v.OverflowUint(u) || !n.limits.number(float64(u)) {
			return false
		}
		v.SetUint(u)
		return true
	case float:
		f, ok := d.float()
		if !ok || n.whole && f != float64(int64(f)) || !n.limits.number(f) {
			return false
		}
		return setFloat(v, f)
	case text:
		s, ok := d.text()
		if !ok || !n.limits.text(s) {
			return false
		}
		v.SetString(s)
		return true
	case instant:
		s, ok := d.text()
		if !ok || !n.limits.text(s) {
			return false
		}
		t, ok := parseTime(s)
		if at, is := reflect.TypeAssert[*time.Time](v.Addr()); ok && is { // no copy on the heap, as Set would make
			*at = t
		}
		return ok
	case list:
		v.Set(reflect.MakeSlice(n.typ, 0, 0)) // an empty array is not nil
		return d.list(n, v, depth)
	case array:
		return d.list(n, v, depth)
	case dict:
		return d.dict(n, v, depth)
	case object:
		return d.object(n, v, depth)
	case pointer:
		elem := reflect.New(n.elem.typ)
		v.Set(elem)
		return d.value(n.elem, elem.Elem(), depth)
	case anything:
		x, ok := d.any(depth)
		if ok && x != nil {
			v.Set(reflect.ValueOf(x))
		}
		return ok
	case literal:
		end := jsontext.NumberEnd(d.data, d.pos)
		if end < 0 {
			return false
		}
		v.SetString(string(d.data[d.pos:end]))
		d.pos = end
		return true
	case custom:
		raw, ok := d.raw(depth)
		if !ok {
			return false
		}
		if at, is := reflect.TypeAssert[*json.RawMessage](v.Addr()); is {
			*at = bytes.Clone(raw)
			return true
		}
		m, ok := reflect.TypeAssert[json.Unmarshaler](v.Addr())
		return ok && m.UnmarshalJSON(bytes.Clone(raw)) == nil
	case customText:
		s, ok := d.text()
		if !ok || !n.limits.text(s) {
			return false
		}
		m, ok := reflect.TypeAssert[encoding.TextUnmarshaler](v.Addr())
		return ok && m.UnmarshalText([]byte(s)) == nil
	case opaque:
		raw, ok := d.raw(depth)
		return ok && decodePlain(raw, v.Addr().Interface()) == nil
	case blob:
		s, ok := d.text()
		if !ok || !n.limits.text(s) {
			return false
		}
		data, err := base64.StdEncoding.DecodeString(s)
		v.SetBytes(data)
		return err == nil
	}
	return false
}

func (d *decoder) object(n *node, v reflect.Value, depth int) bool {
	if !d.token('{') {
		return false
	}
	var seen uint64
	next := 0 // clients tend to send the fields in the order of the schema
	for first := true; ; first = false {
		if d.space(); d.peek() == '}' {
			d.pos++
			break
		}
		if !first {
			if !d.token(',') {
				return false
			}
			d.space()
		}
		key, ok := d.key()
		if !ok || !d.token(':') {
			return false
		}
		d.space()
		i := n.find(key, next)
		if i < 0 {
			if n.closed || n.foreign[string(key)] {
				return false
			}
			if _, ok := d.any(depth + 1); !ok {
				return false
			}
			continue
		}
		bit := uint64(1) << i
		if seen&bit != 0 { // twice: the last one wins, for the SDK to sort out
			return false
		}
		seen |= bit
		next = i + 1
		f := &n.fields[i]
		if !d.value(f.node, v.FieldByIndex(f.index), depth+1) {
			return false
		}
	}
	if n.required&^seen != 0 {
		return false
	}
	if missing := n.implied &^ seen; missing != 0 {
		for i := range n.fields {
			if missing>>i&1 == 0 {
				continue
			}
			f := &n.fields[i]
			implied := decoder{data: f.implied}
			if implied.space(); !implied.value(f.node, v.FieldByIndex(f.index), depth+1) {
				return false
			}
			if implied.space(); implied.pos != len(implied.data) {
				return false
			}
		}
	}
	return true
}

// find returns the index of the field named key, or -1. It looks at fields[guess] first.
func (n *node) find(key []byte, guess int) int {
	if guess < len(n.fields) && n.fields[guess].name == string(key) {
		return guess
	}
	for i := range n.fields {
		if n.fields[i].name == string(key) {
			return i
		}
	}
	return -1
}

func (d *decoder) list(n *node, v reflect.Value, depth int) bool {
	if !d.token('[') {
		return false
	}
	count := 0
	for {
		if d.space(); d.peek() == ']' {
			d.pos++
			return n.limits.items(count) && (n.kind == list || count == v.Len())
		}
		if count > 0 {
			if !d.token(',') {
				return false
			}
			d.space()
		}
		switch {
		case n.kind == array && count == v.Len():
			return false
		case n.kind == list && count == v.Cap():
			v.Grow(1)
			fallthrough
		case n.kind == list:
			v.SetLen(count + 1)
		}
		if !d.value(n.elem, v.Index(count), depth+1) {
			return false
		}
		count++
	}
}

func (d *decoder) dict(n *node, v reflect.Value, depth int) bool {
	if !d.token('{') {
		return false
	}
	m := reflect.MakeMap(n.typ)
	elem := reflect.New(n.elem.typ).Elem()
	for first := true; ; first = false {
		if d.space(); d.peek() == '}' {
			d.pos++
			v.Set(m)
			return true
		}
		if !first {
			if !d.token(',') {
				return false
			}
			d.space()
		}
		key, ok := d.text()
		if !ok || !d.token(':') {
			return false
		}
		d.space()
		elem.SetZero()
		if !d.value(n.elem, elem, depth+1) {
			return false
		}
		k := reflect.ValueOf(key)
		if n.textKeys {
			k = reflect.New(n.typ.Key())
			if m, ok := reflect.TypeAssert[encoding.TextUnmarshaler](k); !ok || m.UnmarshalText([]byte(key)) != nil {
				return false
			}
			k = k.Elem()
		} else if t := n.typ.Key(); k.Type() != t {
			k = k.Convert(t)
		}
		m.SetMapIndex(k, elem)
	}
}

// any decodes a value that nothing is asked of.
func (d *decoder) any(depth int) (any, bool) {
	if depth > maxDepth {
		return nil, false
	}
	switch d.peek() {
	case 'n':
		return nil, d.literal("null")
	case 't':
		return true, d.literal("true")
	case 'f':
		return false, d.literal("false")
	case '"':
		return d.text()
	case '[':
		d.pos++
		a := []any{}
		for {
			if d.space(); d.peek() == ']' {
				d.pos++
				return a, true
			}
			if len(a) > 0 {
				if !d.token(',') {
					return nil, false
				}
				d.space()
			}
			x, ok := d.any(depth + 1)
			if !ok {
				return nil, false
			}
			a = append(a, x)
		}
	case '{':
		d.pos++
		m := map[string]any{}
		for first := true; ; first = false {
			if d.space(); d.peek() == '}' {
				d.pos++
				return m, true
			}
			if !first {
				if !d.token(',') {
					return nil, false
				}
				d.space()
			}
			key, ok := d.text()
			if !ok || !d.token(':') {
				return nil, false
			}
			d.space()
			x, ok := d.any(depth + 1)
			if !ok {
				return nil, false
			}
			m[key] = x
		}
	}
	return d.number()
}

// setFloat sets v to f. The SDK parses a float32 from the shortest text of the
// float64, which may round otherwise than f does.
func setFloat(v reflect.Value, f float64) bool {
	if v.Kind() == reflect.Float32 {
		var buf [32]byte
		narrow, err := strconv.ParseFloat(string(strconv.AppendFloat(buf[:0], f, 'g', -1, 64)), 32)
		if err != nil {
			return false
		}
		f = narrow
	}
	v.SetFloat(f)
	return true
}
