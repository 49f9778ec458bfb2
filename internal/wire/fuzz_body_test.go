package wire

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

// largeBodies are bodies that are too large to keep as files.
func largeBodies() [][]byte {
	const deep = 100_000
	return [][]byte{
		bytes.Repeat([]byte("["), deep),
		[]byte(strings.Repeat("[", deep) + strings.Repeat("]", deep)),
		[]byte(strings.Repeat(`{"a":`, deep) + "1" + strings.Repeat("}", deep)),
		[]byte(`{"jsonrpc":"2.0","id":1,"method":"m","params":{"a":` + strings.Repeat("[", MaxDepth-2) + strings.Repeat("]", MaxDepth-2) + `}}`),
		[]byte(`{"jsonrpc":"2.0","id":1,"method":"m","params":{"a":` + strings.Repeat("[", MaxDepth-1) + strings.Repeat("]", MaxDepth-1) + `}}`),
		[]byte(`{"jsonrpc":"2.0","method":"m","id":"` + strings.Repeat("x", maxID-2) + `"}`),
		[]byte(`{"jsonrpc":"2.0","method":"m","id":"` + strings.Repeat("x", maxID-1) + `"}`),
		[]byte(`{"jsonrpc":"2.0","method":"m","id":` + strings.Repeat("9", maxID) + `}`),
		[]byte(`{"jsonrpc":"2.0","method":"m","id":` + strings.Repeat("9", maxID+1) + `}`),
		[]byte(`[1` + strings.Repeat(",1", MaxBatch-1) + `]`),
		[]byte(`[1` + strings.Repeat(",1", MaxBatch) + `]`),
	}
}

func FuzzParseBody(f *testing.F) {
	for _, body := range largeBodies() {
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		before := bytes.Clone(body)
		one, batch, err := ParseBody(body)
		if !bytes.Equal(body, before) {
			t.Fatal("the body was changed")
		}
		if err != nil {
			checkError(t, err)
		}
		if ok := err == nil || err.Code != CodeParse; ok != wellFormed(body) {
			t.Fatalf("well formed: %v, want %v (%v)", ok, !ok, err)
		}
		if !wellFormed(body) {
			if batch != nil || one.Kind != 0 || one.ID != "" {
				t.Fatalf("what is no JSON gave %+v, %+v", one, batch)
			}
			return
		}
		if bytes.TrimLeft(body, " \t\r\n")[0] != '[' {
			if batch != nil {
				t.Fatal("a batch from no array")
			}
			checkMessage(t, body, one, err)
			return
		}
		var elements []json.RawMessage
		if e := json.Unmarshal(body, &elements); e != nil {
			t.Fatal(e)
		}
		if len(elements) > MaxBatch {
			elements = nil
		}
		if (err != nil) != (len(elements) == 0) || len(batch) != len(elements) {
			t.Fatalf("%d elements became %d, %v", len(elements), len(batch), err)
		}
		for i, e := range batch {
			checkMessage(t, elements[i], e.Message, e.Err)
		}
	})
}

// checkMessage holds a message against the bytes that it was read from.
func checkMessage(t *testing.T, raw []byte, m Message, err *Error) {
	t.Helper()
	if want := kindOf(raw); err == nil && m.Kind != want || err != nil && want != 0 {
		t.Fatalf("%.200q has kind %d (%v), want %d", raw, m.Kind, err, want)
	}
	all, ok := pairs(raw)
	if !ok {
		return
	}
	member, twice := fields(all, "jsonrpc", "id", "method", "params", "result", "error")
	if err != nil {
		checkError(t, err)
		if id := member["id"]; !twice && goodID(id) && string(m.ID) != string(id) {
			t.Fatalf("the error for %.200q forgot the id %q", raw, id)
		}
		return
	}
	for _, name := range []string{"params", "result", "error"} {
		if isNull(member[name]) && (name != "params" || m.Kind != Response) {
			member[name] = nil
		}
	}
	for name, got := range map[string][]byte{"id": []byte(m.ID), "params": m.Params, "result": m.Result, "error": m.Error} {
		if string(got) != string(member[name]) {
			t.Fatalf("%s of %.200q is %q, want %q", name, raw, got, member[name])
		}
	}
	if m.Method != text(member["method"]) {
		t.Fatalf("method of %.200q is %q", raw, m.Method)
	}
	if m.Kind == Request {
		checkAnswers(t, m.ID)
	}
}

// checkAnswers checks that the ID goes back byte by byte.
func checkAnswers(t *testing.T, id ID) {
	t.Helper()
	for _, response := range [][]byte{
		AppendResult(nil, id, []byte(`{}`)),
		AppendError(nil, id, InvalidParams("no \" good")),
	} {
		m, _, err := ParseBody(response)
		if err != nil || m.Kind != Response || m.ID != id {
			t.Fatalf("%s comes back as %+v, %v", response, m, err)
		}
	}
	m, _, err := ParseBody(AppendCall(nil, id, "a/\x00\"\u2028", []byte(`{}`)))
	if err != nil || m.Kind != Request || m.ID != id || m.Method != "a/\x00\"\u2028" {
		t.Fatalf("the call comes back as %+v, %v", m, err)
	}
}

// checkError checks that an error can be sent: its text is from us, whatever a client wrote.
func checkError(t *testing.T, e *Error) {
	t.Helper()
	if m, _, err := ParseBody(AppendError(nil, `1`, e)); err != nil || m.Kind != Response {
		t.Fatalf("error %+v cannot be sent: %v", e, err)
	}
	if len(e.Message) > 10_000 {
		t.Fatalf("an error of %d bytes", len(e.Message))
	}
}

func FuzzParams(f *testing.F) {
	f.Fuzz(func(t *testing.T, raw []byte) {
		object := wellFormed(raw) && bytes.TrimLeft(raw, " \t\r\n")[0] == '{'
		if !object && len(raw) > 0 {
			return // ParseBody lets nothing else through
		}
		p, err := ParseParams(raw)
		all, _ := pairs(raw)
		want, twice := fields(all, "name", "uri", "arguments", "inputResponses", "requestState", "_meta")
		if isNull(want["_meta"]) {
			want["_meta"] = nil
		}
		bad := twice || want["_meta"] != nil && !isObject(want["_meta"])
		if bad != (err != nil) {
			t.Fatalf("%.200q: %v, want an error: %v", raw, err, bad)
		}
		if err != nil {
			checkError(t, err)
			return
		}
		arguments := want["arguments"]
		wrong := arguments != nil && !isNull(arguments) && !isObject(arguments)
		if err := p.CheckArguments("tools/call"); wrong != (err != nil) {
			t.Fatalf("arguments of %.200q: %v, want an error: %v", raw, err, wrong)
		}
		if isNull(want["arguments"]) {
			want["arguments"] = p.Arguments // null and absent are the same
		}
		for name, got := range map[string][]byte{
			"name": p.Name, "uri": p.URI, "arguments": p.Arguments,
			"inputResponses": p.InputResponses, "requestState": p.RequestState, "_meta": p.Meta,
		} {
			if !bytes.Equal(got, want[name]) || (got == nil) != (want[name] == nil) {
				t.Fatalf("%s of %.200q is %q, want %q", name, raw, got, want[name])
			}
		}
		// Whatever params are, as _meta they must not do harm either.
		checkMeta(t, raw)
		checkMeta(t, p.Meta)
	})
}

func checkMeta(t *testing.T, raw []byte) {
	t.Helper()
	m, err := ParseMeta(raw)
	all, _ := pairs(raw)
	want, twice := fields(all, "progressToken", MetaProtocolVersion, MetaClientInfo, MetaClientCapabilities, MetaLogLevel)
	token, hasToken := want["progressToken"]
	if bad := twice || hasToken && !goodID(token); bad != (err != nil) {
		t.Fatalf("%.200q: %v, want an error: %v", raw, err, bad)
	}
	if err != nil {
		checkError(t, err)
		return
	}
	for name, got := range map[string][]byte{
		"progressToken": m.ProgressToken, MetaProtocolVersion: m.ProtocolVersion, MetaClientInfo: m.ClientInfo,
		MetaClientCapabilities: m.ClientCapabilities, MetaLogLevel: m.LogLevel,
	} {
		if string(got) != string(want[name]) {
			t.Fatalf("%s of %.200q is %q, want %q", name, raw, got, want[name])
		}
	}
	if err := m.CheckModern(); err != nil {
		checkError(t, err)
	} else if !isObject(m.ClientCapabilities) {
		t.Fatalf("capabilities %q are accepted", m.ClientCapabilities)
	}
}
