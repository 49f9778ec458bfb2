package once

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/sluice-mcp/sluice/internal/wire"
)

func TestKeyOf(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("k", 255)
	for name, c := range map[string]struct {
		header []string
		meta   string
		want   string
		bad    bool
	}{
		"none":                      {},
		"header":                    {header: []string{"k"}, want: "k"},
		"header in quotes":          {header: []string{`"k"`}, want: "k"},
		"one quote":                 {header: []string{`"`}, want: `"`},
		"header and the same":       {header: []string{`"k"`}, meta: `"k"`, want: "k"},
		"escaped":                   {meta: `"\u006b"`, want: "k"},
		"the longest":               {header: []string{long}, want: long},
		"too long":                  {header: []string{long + "k"}, bad: true},
		"header twice":              {header: []string{"k", "k"}, bad: true},
		"empty header":              {header: []string{""}, bad: true},
		"empty quotes":              {header: []string{`""`}, bad: true},
		"empty":                     {meta: `""`, bad: true},
		"two keys":                  {header: []string{"k"}, meta: `"l"`, bad: true},
		"null":                      {meta: `null`, bad: true},
		"number":                    {meta: `7`, bad: true},
		"space":                     {meta: `"a b"`, bad: true},
		"control character":         {meta: `"a\u0000"`, bad: true},
		"delete":                    {header: []string{"a\x7f"}, bad: true},
		"beyond ASCII":              {meta: `"é"`, bad: true},
		"good header, bad in _meta": {header: []string{"k"}, meta: `[]`, bad: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := http.Header{}
			if c.header != nil {
				h[Header] = c.header
			}
			var meta wire.Meta
			if c.meta != "" {
				meta.IdempotencyKey = []byte(c.meta)
			}
			key, e := KeyOf(h, meta)
			if key != c.want || (e != nil) != c.bad {
				t.Errorf("got %q, %v", key, e)
			}
		})
	}
}

// Calls are the same if nothing differs that matters, and no two of them can be made to look the same.
func TestNames(t *testing.T) {
	t.Parallel()
	first := Call{Principal: "p", Tool: "t", Key: "k"}
	for name, other := range map[string]Call{
		"another principal": {Principal: "q", Tool: "t", Key: "k"},
		"another tool":      {Principal: "p", Tool: "u", Key: "k"},
		"another key":       {Principal: "p", Tool: "t", Key: "l"},
		"parts moved":       {Principal: "pt", Key: "k"},
		"with answers":      {Principal: "p", Tool: "t", Key: "k", Answers: [2]json.RawMessage{[]byte(`{}`)}},
	} {
		if first.name() == other.name() {
			t.Errorf("%s: the same name", name)
		}
	}
	a, b := Call{Principal: "p\x00t", Tool: "u", Key: "k"}, Call{Principal: "p", Tool: "t\x00u", Key: "k"}
	if a.name() == b.name() {
		t.Error("a zero byte moves from one part to the next")
	}
	answered := Call{Principal: "p", Tool: "t", Key: "k", Answers: [2]json.RawMessage{[]byte(`{"q":1}`), []byte(`"s"`)}}
	if answered.series() != first.series() || !strings.HasPrefix(answered.name(), first.series()) {
		t.Error("a round is of another series")
	}
	for args, same := range map[string]bool{`{"a":1,"b":2}`: true, "{\n\"b\": 2, \"a\": 1}": true, `{"a":1,"b":3}`: false, `{"a":1}`: false, `{"a":1,"b":"2"}`: false, `{"a":1,"b":20000000000000000001}`: false} {
		x, y := Call{Arguments: []byte(`{"a":1,"b":2}`)}, Call{Arguments: []byte(args)}
		if (x.wants() == y.wants()) != same {
			t.Errorf("%s: the same is %v", args, !same)
		}
	}
	if x, y := (&Call{}), (&Call{Arguments: []byte("{}")}); x.wants() != y.wants() {
		t.Error("no arguments are not empty ones")
	}
}
