package wire

import (
	"bytes"
	"encoding/json"
	"reflect"
	"slices"
	"testing"
	"unicode/utf8"
)

func FuzzUnquote(f *testing.F) {
	f.Fuzz(func(t *testing.T, raw []byte) {
		if !json.Valid(raw) || !utf8.Valid(raw) {
			return
		}
		raw = bytes.Trim(raw, " \t\r\n") // as members hands it out
		if !isText(raw) {
			if got := Unquote(raw); got != "" {
				t.Fatalf("%q, which is no string, says %q", raw, got)
			}
			return
		}
		s := text(raw)
		if got := Unquote(raw); got != s {
			t.Fatalf("%q says %q, want %q", raw, got, s)
		}
		if again := AppendString([]byte("x"), s); again[0] != 'x' || text(again[1:]) != s {
			t.Fatalf("%q is written as %q", s, again)
		}
		if a, b := ID(raw).Key(), ID(quote(s)).Key(); a != b {
			t.Fatalf("one ID, two keys: %q and %q", a, b)
		}
	})
}

func FuzzValue(f *testing.F) {
	f.Fuzz(func(t *testing.T, raw []byte) {
		if !wellFormed(raw) {
			return
		}
		raw = bytes.Trim(raw, " \t\r\n")
		var want any
		holds := json.Unmarshal(raw, &want) == nil // else a number that no float64 holds
		got, ok := Value(raw)
		if ok != holds || ok && !reflect.DeepEqual(got, want) {
			t.Fatalf("%q is %#v, want %#v", raw, got, want)
		}
	})
}

func FuzzMembers(f *testing.F) {
	f.Fuzz(func(t *testing.T, object []byte, key string, value []byte) {
		if !wellFormed(object) || !wellFormed(value) || !utf8.ValidString(key) || depthOf(value) >= MaxDepth-2 {
			return
		}
		before, ok := pairs(object)
		if !ok {
			if got := Member(object, key); got != nil {
				t.Fatalf("%q, which is no object, has %q", object, got)
			}
			return
		}
		var old []byte
		for _, p := range before {
			if p.key == key {
				old = p.value
			}
		}
		if got := Member(object, key); string(got) != string(old) || (got == nil) != (old == nil) {
			t.Fatalf("member %q of %q is %q, want %q", key, object, got, old)
		}
		original := bytes.Clone(object)
		value = bytes.Trim(value, " \t\r\n")

		want := before
		if old == nil {
			want = slices.Concat([]pair{{key, value}}, before)
		}
		checkPairs(t, "SetMembers", SetMembers(object, Pair{key, value}), want)

		want = nil
		for _, p := range before {
			if p.key != key {
				want = append(want, p)
			}
		}
		checkPairs(t, "RemoveMembers", RemoveMembers(object, key), want)

		want = slices.Clone(before)
		for i := len(want) - 1; i >= 0; i-- {
			if want[i].key == key { // of duplicates, the one that readers take
				want[i].value = value
				break
			}
		}
		checkPairs(t, "ReplaceMember", ReplaceMember(object, key, value), want)

		checkComplete(t, object, key)
		if !bytes.Equal(object, original) {
			t.Fatalf("%q was changed in place to %q", original, object)
		}
	})
}

func checkPairs(t *testing.T, what string, got []byte, want []pair) {
	t.Helper()
	all, ok := pairs(got)
	if !ok || !json.Valid(got) {
		t.Fatalf("%s gave %q, which is no object", what, got)
	}
	same := func(a, b pair) bool { return a.key == b.key && bytes.Equal(a.value, b.value) }
	if !slices.EqualFunc(all, want, same) {
		t.Fatalf("%s gave %q, want %q", what, got, want)
	}
}

// checkComplete checks what a completed result has: its type, the server's identity, and all that it had before.
func checkComplete(t *testing.T, result []byte, name string) {
	t.Helper()
	info := append(append([]byte(`{"name":`), quote(name)...), '}')
	before, _ := pairs(result)
	got := Complete(result, `"complete"`, info)
	if !json.Valid(got) {
		t.Fatalf("completing %q gave %q", result, got)
	}
	type members map[string]json.RawMessage
	var was, is members
	if json.Unmarshal(result, &was) != nil || json.Unmarshal(got, &is) != nil {
		t.Fatalf("completing %q gave %q", result, got)
	}
	if _, had := was["resultType"]; !had && string(is["resultType"]) != `"complete"` {
		t.Fatalf("%q has no type", got)
	}
	for _, p := range before {
		if p.key != "_meta" && string(is[p.key]) != string(was[p.key]) {
			t.Fatalf("completing %q changed %q: %q", result, p.key, got)
		}
	}
	if old, had := was["_meta"]; had && !isObject(old) {
		return // the server's own fault, left as it is
	}
	var wasMeta, isMeta members
	if raw := was["_meta"]; raw != nil && json.Unmarshal(raw, &wasMeta) != nil {
		t.Fatal("the old _meta cannot be read")
	}
	if json.Unmarshal(is["_meta"], &isMeta) != nil {
		t.Fatalf("_meta of %q cannot be read", got)
	}
	want := json.RawMessage(info)
	if own, had := wasMeta[MetaServerInfo]; had {
		want = own
	}
	if string(isMeta[MetaServerInfo]) != string(want) {
		t.Fatalf("identity in %q is not %q", got, want)
	}
	for key, value := range wasMeta {
		if string(isMeta[key]) != string(value) {
			t.Fatalf("completing %q lost %q of _meta: %q", result, key, got)
		}
	}
}
