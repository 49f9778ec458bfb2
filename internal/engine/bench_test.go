package engine

import (
	"encoding/json"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice/internal/wire"
)

// BenchmarkLend borrows a session for a call of the stateless era and gives it back: once it is warm, and anew.
func BenchmarkLend(b *testing.B) {
	meta := wire.Meta{ProtocolVersion: []byte(`"2026-07-28"`), ClientInfo: []byte(`{"name":"bench","version":"1"}`), ClientCapabilities: []byte(`{}`)}
	for _, tt := range []struct {
		name string
		warm bool
	}{{"warm", true}, {"cold", false}} {
		b.Run(tt.name, func(b *testing.B) {
			e := New(mcp.NewServer(&mcp.Implementation{Name: "bench"}, nil), quiet())
			defer e.Close()
			if tt.warm { // only a server that is watched is worth keeping sessions of
				if _, err := e.Watch(func(string, json.RawMessage) {}, nil, nil); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportAllocs()
			for b.Loop() {
				s, err := e.Lend("", meta, &outbox{})
				if err != nil {
					b.Fatal(err)
				}
				s.Return()
			}
		})
	}
}
