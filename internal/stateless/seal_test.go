package stateless

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func sealKey(b byte) []byte { return bytes.Repeat([]byte{b}, 32) }

func newTestSealer(keys ...[]byte) *sealer { return newSealer(keys, slog.New(slog.DiscardHandler)) }

func mustSeal(t *testing.T, z *sealer, purpose string, s sealed) string {
	t.Helper()
	text, err := z.seal(purpose, s, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestSealIsForOnePurpose(t *testing.T) {
	t.Parallel()
	const args = `{"a":1,"b":{"x":[1,2],"y":"é"}}`
	z := newTestSealer(sealKey(1))
	text := mustSeal(t, z, purposeOf("alice", "tools/call", "pay", []byte(args)), sealed{State: "step 2"})
	for _, c := range []struct {
		name, principal, method, tool, arguments string
		want                                     bool
	}{
		{"the same request", "alice", "tools/call", "pay", args, true},
		{"members in another order", "alice", "tools/call", "pay", `{"b":{"y":"é","x":[1,2]},"a":1}`, true},
		{"other white space and escapes", "alice", "tools/call", "pay", "{ \"a\" : 1,\n\"b\":{\"\\u0078\":[ 1,2 ],\"y\":\"\\u00e9\"}}", true},
		{"another principal", "bob", "tools/call", "pay", args, false},
		{"no principal", "", "tools/call", "pay", args, false},
		{"another method", "alice", "prompts/get", "pay", args, false},
		{"another tool", "alice", "tools/call", "pay2", args, false},
		{"another case", "alice", "tools/call", "Pay", args, false},
		{"another argument", "alice", "tools/call", "pay", `{"a":2,"b":{"x":[1,2],"y":"é"}}`, false},
		{"a text for a number", "alice", "tools/call", "pay", `{"a":"1","b":{"x":[1,2],"y":"é"}}`, false},
		{"elements in another order", "alice", "tools/call", "pay", `{"a":1,"b":{"x":[2,1],"y":"é"}}`, false},
		{"one argument more", "alice", "tools/call", "pay", `{"a":1,"b":{"x":[1,2],"y":"é"},"c":null}`, false},
		{"one argument less", "alice", "tools/call", "pay", `{"a":1}`, false},
		{"no arguments", "alice", "tools/call", "pay", "", false},
		{"null", "alice", "tools/call", "pay", "null", false},
	} {
		got, err := z.open(purposeOf(c.principal, c.method, c.tool, []byte(c.arguments)), text)
		if ok := err == nil; ok != c.want || ok && got.State != "step 2" {
			t.Errorf("%s: %+v, %v", c.name, got, err)
		}
		if err != nil && (!errors.Is(err, errSeal) || got.State != "") {
			t.Errorf("%s tells %+v, %v", c.name, got, err)
		}
	}
}

// Large numbers that are one float64 are two arguments.
func TestSealTellsLargeNumbersApart(t *testing.T) {
	t.Parallel()
	z := newTestSealer(sealKey(1))
	text := mustSeal(t, z, purposeOf("", "tools/call", "pay", []byte(`{"amount":9007199254740992}`)), sealed{})
	if _, err := z.open(purposeOf("", "tools/call", "pay", []byte(`{"amount":9007199254740993}`)), text); err == nil {
		t.Error("2^53 and 2^53+1 are taken for the same argument")
	}
}

func TestSealSurvivesNoChange(t *testing.T) {
	t.Parallel()
	z := newTestSealer(sealKey(1))
	text := mustSeal(t, z, "p", sealed{State: "secret", Schemas: map[string]json.RawMessage{"k": []byte(`{"type":"object"}`)}})
	if strings.Contains(text, "secret") {
		t.Fatal("the state can be read")
	}
	if s, err := z.open("p", text); err != nil || s.State != "secret" || string(s.Schemas["k"]) != `{"type":"object"}` {
		t.Fatalf("%+v, %v", s, err)
	}
	for i := range text {
		for _, flip := range []byte{1, 2, 4, 8, 16, 32, 64, 128} {
			changed := []byte(text)
			changed[i] ^= flip
			if s, err := z.open("p", string(changed)); !errors.Is(err, errSeal) || s.State != "" {
				t.Errorf("bit %08b of byte %d of %d flipped: %+v, %v", flip, i, len(text), s, err)
			}
		}
		for _, cut := range []string{text[:i], text[i+1:]} {
			if _, err := z.open("p", cut); !errors.Is(err, errSeal) {
				t.Errorf("cut at %d: %v", i, err)
			}
		}
	}
	for _, more := range []string{text + "A", text + "=", text + "\n", "\n" + text, text + text, " " + text, "", "=", "null", "\x00"} {
		if _, err := z.open("p", more); !errors.Is(err, errSeal) {
			t.Errorf("%q: %v", more, err)
		}
	}
}

func TestSealKeysRotate(t *testing.T) {
	t.Parallel()
	older, newer, other := newTestSealer(sealKey(1)), newTestSealer(sealKey(2), sealKey(1)), newTestSealer(sealKey(3))
	a, b := mustSeal(t, older, "p", sealed{State: "a"}), mustSeal(t, newer, "p", sealed{State: "b"})
	for _, c := range []struct {
		name string
		z    *sealer
		text string
		want bool
	}{
		{"sealed before the rotation, opened after", newer, a, true},
		{"sealed after, opened after", newer, b, true},
		{"sealed after, opened where the new key is not known", older, b, false},
		{"another key", other, a, false},
		{"when the old key is gone", newTestSealer(sealKey(2)), a, false},
		{"a key of its own", newTestSealer(), a, false},
	} {
		if _, err := c.z.open("p", c.text); (err == nil) != c.want {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if again := mustSeal(t, older, "p", sealed{State: "a"}); again == a {
		t.Error("the same state is sealed the same twice")
	}
}

func TestSealExpires(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		z := newTestSealer(sealKey(1))
		text := mustSeal(t, z, "p", sealed{State: "a"})
		time.Sleep(time.Minute)
		if _, err := z.open("p", text); err != nil {
			t.Errorf("expired early: %v", err)
		}
		time.Sleep(time.Millisecond)
		if s, err := z.open("p", text); !errors.Is(err, errSeal) || s.State != "" {
			t.Errorf("has not expired: %+v, %v", s, err)
		}
	})
}

func TestSealRefusesWeakKeys(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 1, 16, 24, 31, 33, 64} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("a key of %d bytes is accepted", size)
				}
			}()
			newTestSealer(sealKey(1), make([]byte, size))
		}()
	}
}

// A key made at start is worth one warning, and only to those who use it.
func TestSealWarnsOnce(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, nil))
	given, made := newSealer([][]byte{sealKey(1)}, logger), newSealer(nil, logger)
	mustSeal(t, given, "p", sealed{})
	if log.Len() > 0 {
		t.Fatalf("warned without reason: %s", &log)
	}
	mustSeal(t, made, "p", sealed{})
	mustSeal(t, made, "p", sealed{})
	if n := strings.Count(log.String(), "level=WARN"); n != 1 {
		t.Errorf("%d warnings: %s", n, &log)
	}
}
