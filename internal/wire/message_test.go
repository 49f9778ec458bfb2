package wire

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

const typicalCall = `{"jsonrpc":"2.0","id":17,"method":"tools/call","params":{"name":"add","arguments":{"a":1,"b":2,"note":"three \"and\" four"},"_meta":{"progressToken":"t-17"}}}`

// What every call pays is bounded by numbers that a change must mean to raise.
func TestAllocations(t *testing.T) {
	body, data := []byte(typicalCall), []byte(`{"jsonrpc":"2.0","id":17,"result":{"content":[{"type":"text","text":"3"}]}}`)
	buf := make([]byte, 0, 4096)
	message, _, err := ParseBody(body)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		most float64
		f    func()
	}{
		"ParseBody":   {2, func() { _, _, _ = ParseBody(body) }}, // the ID and the method outlive the body
		"ParseParams": {0, func() { _, _ = ParseParams(message.Params) }},
		"AppendEvent": {0, func() { buf = AppendEvent(buf[:0], "message", "ABC-1", data) }},
		"AppendResult": {0, func() {
			buf = AppendResult(buf[:0], "17", data)
		}},
		"refused": {3, func() { _, _, _ = ParseBody(body[:len(body)-1]) }},
	} {
		if got := testing.AllocsPerRun(100, c.f); got > c.most {
			t.Errorf("%s allocates %v times, bound is %v", name, got, c.most)
		}
	}
}

// Time must grow with the size of a body, not with its square: these are as large as a body may be by default.
func TestLargeBodiesInTime(t *testing.T) {
	t.Parallel()
	const size = 4 << 20
	fill := func(unit string) string { return strings.Repeat(unit, size/len(unit)) }
	wide := func(open, unit, end string) string { return open + strings.TrimSuffix(fill(unit), ",") + end }
	for name, body := range map[string]string{
		"open arrays":     fill("["),
		"open objects":    fill(`{"a":`),
		"spaces":          fill(" "),
		"quotes":          fill(`"`),
		"batch of spaces": "[" + fill(" ") + "]",
		"batch":           wide("[", "1,", "]"),
		"batch of calls":  wide("[", typicalCall+",", "]"),
		"batch at depth":  wide("[", strings.Repeat("[", MaxDepth-1)+strings.Repeat("]", MaxDepth-1)+",", "]"),
		"members":         wide("{", `"a":1,`, "}"),
		"same member":     wide(`{"jsonrpc":"2.0",`, `"id":1,`, "}"),
		"escaped keys":    wide("{", `"\u0061\ud83d\ude00":1,`, "}"),
		"long method":     `{"jsonrpc":"2.0","id":1,"method":"` + fill(`\u0000`) + `"}`,
		"long id":         `{"jsonrpc":"2.0","method":"m","id":` + fill("9") + `}`,
		"long number":     `{"jsonrpc":"2.0","id":1,"method":"m","params":{"n":` + fill("9") + `}}`,
		"deep params":     `{"jsonrpc":"2.0","id":1,"method":"m","params":{"_meta":` + strings.Repeat(`{"_meta":`, 900) + `"` + fill("x") + `"` + strings.Repeat("}", 900) + "}}",
		"error object":    `{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"` + fill("x") + `"}}`,
	} {
		start := time.Now()
		one, batch, err := ParseBody([]byte(body))
		if err == nil && batch == nil {
			if p, err := ParseParams(one.Params); err == nil {
				_, _ = ParseMeta(p.Meta)
			}
		}
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("%s: %v", name, took)
		}
		if err != nil && len(AppendError(nil, one.ID, err)) > 10_000 {
			t.Errorf("%s: the refusal is as long as what it refuses", name)
		}
	}
}

// An ID is one ID however it is written, and a number is no string.
func TestIDKey(t *testing.T) {
	t.Parallel()
	same := [][]ID{{`"a"`, `"\u0061"`}, {`"/"`, `"\/"`}, {`""`}, {`1`}, {`"1"`}, {`-1`}, {`9007199254740993`}, {`9007199254740992`}, {`"null"`}}
	seen := make(map[string]ID)
	for _, ids := range same {
		key := ids[0].Key()
		if other, taken := seen[key]; taken {
			t.Errorf("%s and %s share the key %q", ids[0], other, key)
		}
		seen[key] = ids[0]
		for _, id := range ids {
			if id.Key() != key {
				t.Errorf("%s has the key %q, %s has %q", ids[0], key, id, id.Key())
			}
		}
	}
}

func TestErrorWithUnreadableData(t *testing.T) {
	t.Parallel()
	raw := AppendError(nil, "1", &Error{Code: 1, Message: "m", Data: []byte("{")})
	if !bytes.Equal(raw, []byte(`{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"m"}}`)) {
		t.Fatalf("%s", raw)
	}
}

func TestNegotiate(t *testing.T) {
	t.Parallel()
	for asked, want := range map[string]string{
		Rev2024: Rev2024, Rev0326: Rev0326, Rev0618: Rev0618, Rev1125: Rev1125,
		Rev2026: Rev1125, "2099-01-01": Rev1125, "1999-01-01": Rev1125, "": Rev1125, "x\x00": Rev1125,
	} {
		if got := Negotiate(asked); got != want {
			t.Errorf("%q negotiates %s, want %s", asked, got, want)
		}
	}
}
