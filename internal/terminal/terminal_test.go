package terminal_test

import (
	"bytes"
	"encoding/json"
	"io"
	"testing"

	"github.com/sluice-mcp/sluice/internal/terminal"
)

func TestWhatActsIsNotShown(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"plain, with\ttabs\nand lines":        "plain, with\ttabs\nand lines",
		"Zürich 東京 🚰 שלום \u200f\u200d":       "Zürich 東京 🚰 שלום \u200f\u200d",
		"\x1b[31mred\x1b[0m":                  "[31mred[0m",
		"\x1b]0;title\x07text":                "]0;titletext",
		"\x1b]52;c;eA==\x1b\\text":            "]52;c;eA==\\text",
		"\u009b31mred":                        "31mred",
		"\x9b31mred":                          "\uFFFD31mred",
		"over\rwritten\r\n":                   "overwritten\n",
		"a\bb\x00c\x7fd\x0be\x0cf\u0085g":     "abcdefg",
		"user\u202Enimda\u202C \u2066x\u2069": "usernimda x",
	} {
		if got := terminal.Text(in); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
		var out bytes.Buffer
		if n, err := terminal.Writer(&out).Write([]byte(in)); out.String() != want || n != len(in) || err != nil {
			t.Errorf("written: %q, %d, %v", out.String(), n, err)
		}
	}
}

func TestJSONMeansTheSame(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"{\n\t\"a\": 1.10, \"\u202Eb\": \"\u009b\x7f\u2028ü\\u001b\"\n}": "{\n\t\"a\": 1.10, \"\\u202eb\": \"\\u009b\\u007f\u2028ü\\u001b\"\n}",
		"\"\x9b\"":   `"\ufffd"`,
		"\"\uFFFD\"": "\"\uFFFD\"",
	} {
		got := terminal.JSON([]byte(in))
		if string(got) != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
		var before, after any
		if json.Unmarshal([]byte(in), &before) != nil || json.Unmarshal(got, &after) != nil {
			t.Fatalf("%q or %q is no JSON", in, got)
		}
		if a, b := mustJSON(t, before), mustJSON(t, after); a != b {
			t.Errorf("%s now means %s", a, b)
		}
	}
}

func mustJSON(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestAWriterThatFails(t *testing.T) {
	t.Parallel()
	r, w := io.Pipe()
	r.Close()
	if n, err := terminal.Writer(w).Write([]byte("x")); n != 0 || err == nil {
		t.Errorf("%d, %v", n, err)
	}
}
