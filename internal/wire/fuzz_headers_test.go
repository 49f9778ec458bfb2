package wire

import (
	"encoding/base64"
	"encoding/json"
	"math"
	"strings"
	"testing"
	"unicode/utf8"
)

func encodeValue(s string) string {
	return base64Prefix + base64.StdEncoding.EncodeToString([]byte(s)) + base64Suffix
}

// plainValue reports whether a value may stand in a header as it is ("Value Encoding").
func plainValue(s string) bool {
	for _, c := range []byte(s) {
		if c != '\t' && c < ' ' || c > '~' {
			return false
		}
	}
	return true
}

// FuzzHeaders sends a header value and a JSON value that it may mirror through all that compares them.
func FuzzHeaders(f *testing.F) {
	f.Fuzz(func(t *testing.T, header string, twice bool, value []byte) {
		if back, ok := decodeValue(encodeValue(header)); !ok || back != header {
			t.Fatalf("%q comes back as %q, %v", header, back, ok)
		}
		decoded, readable := decodeValue(header)
		if !wellFormed(value) || depthOf(value) > MaxDepth-4 {
			return
		}
		value = []byte(strings.Trim(string(value), " \t\r\n"))
		values := []string{header}
		if twice {
			values = append(values, header)
		}
		allowed := !twice && plainValue(header)

		// The version: no encoding, exact.
		meta, err := ParseMeta(append(append([]byte(`{"`+MetaProtocolVersion+`":`), value...), '}'))
		if err != nil {
			t.Fatal(err)
		}
		want := allowed && isText(value) && text(value) == header
		check(t, "version", CheckVersion(Header{HeaderVersion: values}, meta), want)

		// The method: no encoding, exact.
		method := text(value)
		err = CheckStandard(Header{HeaderMethod: values}, method, Params{})
		needsName := method == "tools/call" || method == "prompts/get" || method == "resources/read"
		check(t, "method", err, allowed && method == header && !needsName)

		// The name.
		for method, p := range map[string]Params{
			"tools/call":     {Name: value, URI: []byte(`"other"`)},
			"prompts/get":    {Name: value},
			"resources/read": {URI: value, Name: []byte(`"other"`)},
		} {
			err := CheckStandard(Header{HeaderMethod: {method}, HeaderName: values}, method, p)
			check(t, "name", err, allowed && readable && isText(value) && text(value) == decoded)
			check(t, "missing name", CheckStandard(Header{HeaderMethod: {method}}, method, p), false)
		}

		// An argument.
		bound := []ParamHeader{{Path: []string{"a", "b"}, Header: "Mcp-Param-X"}}
		arguments := append(append([]byte(`{"a":{"b":`), value...), "}}"...)
		err = CheckParams(Header{"Mcp-Param-X": values}, bound, arguments)
		check(t, "argument", err, allowed && readable && mirrors(decoded, value))
		check(t, "missing argument header", CheckParams(Header{}, bound, arguments), isNull(value))
		for _, absent := range []string{"", "null", "[]", `{"a":1}`, `{"a":{}}`, `{"a":{"b":null}}`} {
			check(t, "header of no argument", CheckParams(Header{"Mcp-Param-X": values}, bound, []byte(absent)), false)
			check(t, "neither", CheckParams(Header{}, bound, []byte(absent)), true)
		}
	})
}

func check(t *testing.T, what string, err *Error, want bool) {
	t.Helper()
	if (err == nil) != want {
		t.Fatalf("%s: %v, want accepted: %v", what, err, want)
	}
	if err != nil {
		checkError(t, err)
		if ModernStatus(err.Code) != 400 {
			t.Fatalf("%s: %v has status %d", what, err, ModernStatus(err.Code))
		}
	}
}

// mirrors says whether a header mirrors a JSON value: text for strings and booleans, and
// the decimal form of the same safe integer.
func mirrors(header string, value []byte) bool {
	switch value[0] {
	case '"':
		return utf8.ValidString(header) && header == text(value)
	case 't', 'f':
		return header == string(value)
	case '{', '[', 'n':
		return false
	}
	if !json.Valid([]byte(header)) || strings.Trim(header, "0123456789+-.eE") != "" || len(header) > len("-9007199254740991.0") {
		return false // what another reader would not take for a number, or not for this one
	}
	var a, b float64
	if json.Unmarshal([]byte(header), &a) != nil || json.Unmarshal(value, &b) != nil {
		return false
	}
	return a == b && a == math.Trunc(a) && math.Abs(a) <= maxSafe
}
