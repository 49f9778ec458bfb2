package wire

import "testing"

func TestNormalURI(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"":                        "",
		"items://cafe/1?q=a&b#c":  "items://cafe/1?q=a&b#c",
		"items://café/1":          "items://caf%C3%A9/1",
		"items://caf%c3%a9/1":     "items://caf%C3%A9/1",
		"items://c%61f%C3%A9/%7E": "items://caf%C3%A9/~",
		"a/b%2fc":                 "a/b%2Fc", // an encoded slash is no slash
		"a b|c":                   "a%20b%7Cc",
		"100%":                    "100%25", // no encoding: the sign itself
		"%zz%4":                   "%25zz%254",
		"\xff":                    "%FF",
	} {
		got := NormalURI(in)
		if got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
		if again := NormalURI(got); again != got {
			t.Errorf("%q is not the normal form of itself, but %q", got, again)
		}
	}
}
