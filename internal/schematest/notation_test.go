package schematest

import (
	"strings"
	"testing"
)

func TestParseErrors(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`type T = {`:                       "want :",
		`type T = { a: string`:             "want :",
		`type T = U`:                       "no type is called U",
		`type T = string type T = string`:  "a second type T",
		`type T = string since 2020-01-01`: "no revision 2020-01-01",
		`type T = [string] to many`:        "many",
		`class T`:                          "no statement begins with class",
		`client request ping string`:       "want ->",
		`type T { a: string }`:             "want =",
		`server notification x lowercase`:  "no type lowercase",
		`type T = { a string }`:            "want :",
		`type T = (string | integer`:       "want )",
	} {
		if _, err := parse(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}
