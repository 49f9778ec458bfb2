package proxy

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestEncodeValue(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]string{ // the specification's own examples, and the rims
		"us-west1":           "us-west1",
		"Hello, 世界":          "=?base64?SGVsbG8sIOS4lueVjA==?=",
		" padded ":           "=?base64?IHBhZGRlZCA=?=",
		"line1\nline2":       "=?base64?bGluZTEKbGluZTI=?=",
		"=?base64?literal?=": "=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?=",
		"=?base64?literal":   "=?base64?literal",
		"":                   "",
		"a b\tc":             "a b\tc",
		"a\r\nX-Evil: 1":     "=?base64?YQ0KWC1FdmlsOiAx?=",
	} {
		if got := encodeValue(value); got != want {
			t.Errorf("%q: %q, want %q", value, got, want)
		}
	}
}

func TestBindings(t *testing.T) {
	t.Parallel()
	var s schema
	err := json.Unmarshal([]byte(`{"x-mcp-header":"Root","properties":{
		"a":{"x-mcp-header":"A"},
		"b":{"properties":{"c":{"x-mcp-header":"C"}},"items":{"properties":{"no":{"x-mcp-header":"No"}}}},
		"d":{"x-mcp-header":"bad name"},"e":{"x-mcp-header":""},"f":{"x-mcp-header":7}}}`), &s)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, b := range s.bindings() {
		got = append(got, b.header+"="+strings.Join(b.path, "."))
	}
	slices.Sort(got)
	if want := "[A=a C=b.c]"; fmt.Sprint(got) != want {
		t.Errorf("%v, want %s", got, want)
	}
}

func TestEvents(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ stream, data, lastID string }{
		{"id: 1\ndata: {}\n\n", "{}", "1"},
		{"id: 1\ndata:\n\nid: 2\ndata: a\ndata: b\n\n", "a\nb", "2"},
		{": comment\n\nevent: message\r\ndata:x\r\n\r\n", "x", ""},
		{"id: 1\ndata: a\n\nid: 2\ndata: cut", "a", "1"}, // what is not complete was not received
		{"id: 1\ndata: a\n\nid\ndata: b\n\n", "a|b", ""}, // an empty ID resets
		{"id: 1\n\n", "", "1"},
		{"retry: 20\nretry: x\n\n", "", ""},
	} {
		var at position
		var got []string
		err := at.events(strings.NewReader(tt.stream), func(data []byte) bool {
			got = append(got, string(data))
			return true
		})
		if !errors.Is(err, io.EOF) || strings.Join(got, "|") != tt.data || at.lastID != tt.lastID {
			t.Errorf("%q: %q, last %q, %v; want %q, %q", tt.stream, got, at.lastID, err, tt.data, tt.lastID)
		}
		if strings.Contains(tt.stream, "retry") && at.wait(0) != 20*time.Millisecond {
			t.Errorf("waits %v, want 20 ms", at.wait(0))
		}
	}
}

func TestWait(t *testing.T) {
	t.Parallel()
	var at position
	if at.wait(0) != time.Second || at.wait(2) != 4*time.Second || at.wait(1000) != maxWait {
		t.Errorf("%v %v %v", at.wait(0), at.wait(2), at.wait(1000))
	}
}

// A line end inside a message would cut it in two.
func TestSingleLine(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{
		"{\n \"a\": \"x\\n\"\r\n}\n": `{"a":"x\n"}`,
		`{"a": 9007199254740993}`:    `{"a": 9007199254740993}`,
		"no\njson":                   "no json",
	} {
		if got := string(singleLine([]byte(raw))); got != want {
			t.Errorf("%q: %q, want %q", raw, got, want)
		}
	}
}
