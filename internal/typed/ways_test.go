package typed

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/google/jsonschema-go/jsonschema"
)

type carried struct {
	everything

	Raw    json.RawMessage            `json:"raw,omitempty"`
	Raws   map[string]json.RawMessage `json:"raws,omitempty"`
	Bytes  []byte                     `json:"bytes,omitempty"`
	Number json.Number                `json:"number,omitempty"`
	Uint   uint64                     `json:"uint,omitempty"`
	Pair   [2]int64                   `json:"pair,omitzero"`
	Nil    map[string]int             `json:"nil"`
	List   []int                      `json:"list"`
}

// FuzzWays decodes arguments on both ways, encodes what comes of them on both ways, and wants the same.
func FuzzWays(f *testing.F) {
	in, err := NewInput(nil, reflect.TypeFor[carried]())
	if err != nil {
		f.Fatal(err)
	}
	out, err := NewOutput(nil, reflect.TypeFor[carried]())
	if err != nil {
		f.Fatal(err)
	}
	longIn, longOut := *in, *out
	longIn.plan, longOut.plan = nil, nil
	if in.plan == nil || out.plan == nil {
		f.Fatal("no plan")
	}
	const rest = `"name":"","nil":{},"list":null`
	for _, more := range []string{
		``, `,"wait":9007199254740993,"uint":18446744073709551615,"pair":[9007199254740993,-1]`, `,"uint":18446744073709551616`, `,"wait":5.0,"uint":1e2`,
		`,"any":[9007199254740993,1.10,1e23,123456789012345678901234567890]`, `,"any":-0,"wait":-0`, `,"number":1.10`, `,"number":-0.0e0`,
		`,"raw":{"b":1.10,"a":[1e2,"<\u00e9"]},"raws":{"a":1.0,"b":null}`, `,"raw":null`, `,"raw":[ 1 , {} ]`, `,"raw":[1`, `,"raw":"]"`, `,"raw":1 `,
		`,"bytes":"AAE="`, `,"bytes":"A"`, `,"bytes":""`, `,"bytes":null`, `,"bytes":"AA\nE="`, `,"pair":[1]`, `,"pair":[1,2,3]`, `,"pair":null`,
		`,"byte":255,"half":0.1`, `,"byte":256`, `,"name":"again"`, `,"when":"2026-07-28T01:02:03.5Z"`,
	} {
		f.Add([]byte(`{` + rest + more + `}`))
	}
	f.Fuzz(func(t *testing.T, args []byte) {
		var short, long carried
		if err := in.Decode(args, &short); (err == nil) != (longIn.Decode(args, &long) == nil) {
			if strings.Contains(string(args), "e") || strings.Contains(string(args), "E") {
				return // the long way refuses numbers beyond float64, even as they are written
			}
			t.Fatalf("%s: the two ways disagree: %v", args, err)
		} else if err != nil {
			return
		}
		if same(t, short) != same(t, long) {
			t.Errorf("%s:\nshort %s\nlong  %s", args, same(t, short), same(t, long))
		}
		a, err := out.Encode(&short)
		if err != nil {
			t.Fatal(err)
		}
		b, err := longOut.Encode(&short)
		if err != nil {
			t.Fatal(err)
		}
		if same(t, a) != same(t, b) {
			t.Errorf("%s:\nshort %s\nlong  %s", args, a, b)
		}
	})
}

// same returns v as JSON with sorted members, and numbers as they are written.
func same(t *testing.T, v any) string {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	dec := json.NewDecoder(strings.NewReader(string(data)))
	dec.UseNumber()
	var tree any
	if err := dec.Decode(&tree); err != nil {
		t.Fatal(err)
	}
	if data, err = json.Marshal(tree); err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestWhole(t *testing.T) {
	t.Parallel()
	for literal, want := range map[string]string{
		"5": "5", "-5": "-5", "5.0": "5", "50e-1": "5", "5e0": "5", "5E+2": "500", "1.50e1": "15", "-0": "-0", "0.0": "0", "-0.0": "-0", "0e5": "0",
		"9007199254740993.000": "9007199254740993", "1.8446744073709551615e19": "18446744073709551615", "0.005e3": "5", "100e-2": "1",
		"5.5": "", "1e-1": "", "0.1": "", "15e-1": "", "1e401": "", "1e-401": "", "1e99999999999999999999": "",
	} {
		if got, ok := whole(literal); got != want || ok != (want != "") {
			t.Errorf("%s: %q, %v, want %q", literal, got, ok, want)
		}
	}
}

// A value that holds itself is an error, and no endless way.
func TestEncodeCircle(t *testing.T) {
	t.Parallel()
	type circle struct {
		Map  map[string]int `json:"map"`
		Next any            `json:"next"`
	}
	out, err := NewOutput(nil, reflect.TypeFor[*circle]())
	if err != nil {
		t.Fatal(err)
	}
	c := &circle{}
	c.Next = c
	if data, err := out.Encode(&c); err == nil {
		t.Errorf("%s", data)
	}
}

func TestInferLeavesOrdinaryTypes(t *testing.T) {
	t.Parallel()
	for _, typ := range []reflect.Type{reflect.TypeFor[everything](), reflect.TypeFor[[]point](), reflect.TypeFor[map[string]*point](), reflect.TypeFor[any]()} {
		want, err := jsonschema.ForType(typ, nil)
		if err != nil {
			t.Fatal(err)
		}
		got, err := infer(typ, output)
		if err != nil {
			t.Fatal(err)
		}
		if same(t, got) != same(t, want) {
			t.Errorf("%v: %s, want %s", typ, same(t, got), same(t, want))
		}
	}
}
