package wire

import "testing"

const (
	benchBody = `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"add","arguments":{"a":2,"b":3},"_meta":` + benchMeta + `}}`
	benchMeta = `{"progressToken":"t","io.modelcontextprotocol/protocolVersion":"2026-07-28",` +
		`"io.modelcontextprotocol/clientInfo":{"name":"bench","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}}`
)

// BenchmarkRead is what is read of every call of 2026-07-28, down to the headers.
func BenchmarkRead(b *testing.B) {
	header := Header{HeaderVersion: {Rev2026}, HeaderMethod: {"tools/call"}, HeaderName: {"add"}}
	body := []byte(benchBody)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		m, _, err := ParseBody(body)
		if err != nil {
			b.Fatal(err)
		}
		p, err := ParseParams(m.Params)
		if err != nil {
			b.Fatal(err)
		}
		meta, err := ParseMeta(p.Meta)
		if err != nil {
			b.Fatal(err)
		}
		if err := CheckVersion(header, meta); err != nil {
			b.Fatal(err)
		}
		if err := CheckStandard(header, m.Method, p); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkValue decodes the _meta of a call.
func BenchmarkValue(b *testing.B) {
	raw := []byte(benchMeta)
	b.ReportAllocs()
	for b.Loop() {
		Value(raw)
	}
}

// BenchmarkAppendEvent writes a notification as an event.
func BenchmarkAppendEvent(b *testing.B) {
	data := AppendCall(nil, "", "notifications/progress", []byte(`{"progressToken":"t","progress":1,"total":1000}`))
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = AppendEvent(buf[:0], "message", EventID("stream", 7), data)
	}
}
