package jsontext

import (
	"bytes"
	"encoding/json"
	"math"
	"strings"
	"testing"
)

func TestAppendString(t *testing.T) {
	t.Parallel()
	for _, s := range []string{
		"", "plain", `"quoted\"`, "a\b\f\n\r\tz", "\x00\x1f\x7f", "<b>&amp;</b>", "héllo, 世界 🎉",
		"\u2028 and \u2029", "\u2027\u202a", "bad \xff\xfe utf-8 \xc3", "\xed\xa0\x80", "\xe2\x80", "�",
	} {
		checkString(t, s)
	}
}

func FuzzAppendString(f *testing.F) {
	f.Add("a\u2028\xff<\x01")
	f.Fuzz(func(t *testing.T, s string) { checkString(t, s) })
}

func checkString(t *testing.T, s string) {
	t.Helper()
	want, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	if got := AppendString([]byte("x"), s); string(got[1:]) != string(want) {
		t.Errorf("%q: got %s, want %s", s, got[1:], want)
	}
	if got := AppendString(nil, []byte(s)); string(got) != string(want) {
		t.Errorf("[]byte(%q): got %s, want %s", s, got, want)
	}
}

func TestAppendFloat(t *testing.T) {
	t.Parallel()
	for _, f := range []float64{
		0, math.Copysign(0, -1), 1, -1, 0.1, 1e-6, 9.9e-7, 1e-7, 1e-10, 1e-300, 1e20, 1e21, 1e22, -1e21, 1e100,
		1 << 53, 1<<53 + 2, 1 << 62, math.MaxFloat64, math.SmallestNonzeroFloat64, math.Pi,
	} {
		checkFloat(t, f)
	}
}

func FuzzAppendFloat(f *testing.F) {
	f.Add(1e-9)
	f.Fuzz(func(t *testing.T, v float64) {
		if !math.IsNaN(v) && !math.IsInf(v, 0) {
			checkFloat(t, v)
		}
	})
}

func checkFloat(t *testing.T, f float64) {
	t.Helper()
	want, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	if got := AppendFloat(nil, f); string(got) != string(want) {
		t.Errorf("%g: got %s, want %s", f, got, want)
	}
}

var values = []string{
	`null`, ` true `, "\tfalse\n", `0`, `-0`, `01`, `-`, `1.`, `1.5e+10`, `1e`, `.5`, `1E-2`, `+1`, `0x1`, `1 2`,
	`""`, `"a\"b"`, `"\u12aF"`, `"\u12"`, `"\x"`, `"<&>"`, "\"\u2028\u2029\u2027\"", "\"\xff\"", "\"\n\"", `"open`, `"\`,
	`[]`, `[ ]`, `[1, 2 ,3]`, `[1,]`, `[,1]`, `[1 2]`, `[`, `]`, `{}`, `{ "a" : [ { } ] , "b" : "c d" }`,
	`{"a"}`, `{"a":}`, `{a:1}`, `{"a":1,}`, `{"a":1 "b":2}`, `{`, `tru`, `nulll`, ``, ` `, `{"<":">"}`,
	strings.Repeat("[", maxDepth) + strings.Repeat("]", maxDepth),
}

func TestAppendCompact(t *testing.T) {
	t.Parallel()
	for _, v := range values {
		checkCompact(t, []byte(v))
	}
	deep := strings.Repeat("[", maxDepth+1) + strings.Repeat("]", maxDepth+1)
	if dst, ok := AppendCompact([]byte("x"), []byte(deep)); ok || string(dst) != "x" {
		t.Errorf("nesting deeper than %d: %.10s, %v", maxDepth, dst, ok)
	}
}

func FuzzAppendCompact(f *testing.F) {
	for _, v := range values {
		f.Add([]byte(v))
	}
	f.Fuzz(func(t *testing.T, v []byte) {
		if bytes.Count(v, []byte("["))+bytes.Count(v, []byte("{")) <= maxDepth {
			checkCompact(t, v)
		}
	})
}

func checkCompact(t *testing.T, v []byte) {
	t.Helper()
	want, err := json.Marshal(json.RawMessage(append(v, "   "...)))
	got, ok := AppendCompact([]byte("x"), v)
	if ok != (err == nil) {
		t.Fatalf("%q: got %v, Marshal says %v", v, ok, err)
	}
	if ok && string(got[1:]) != string(want) {
		t.Errorf("%q: got %s, want %s", v, got[1:], want)
	}
}
