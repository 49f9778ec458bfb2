package session

import (
	"context"
	"encoding/json"
	"log/slog"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice/internal/engine"
	"github.com/sluice-mcp/sluice/internal/wire"
	"github.com/sluice-mcp/sluice/store/memory"
)

// BenchmarkRevive is what a call finds when its session has rested: brought to life, used, and put to rest again. A session that is
// used more often than it rests costs the first part of it only.
func BenchmarkRevive(b *testing.B) {
	e := engine.New(mcp.NewServer(&mcp.Implementation{Name: "bench"}, nil), slog.New(slog.DiscardHandler))
	for _, warm := range []bool{true, false} {
		name := "rested"
		if warm {
			name = "warm"
		}
		b.Run(name, func(b *testing.B) {
			m := NewManager(Config{
				Store: memory.New(), Log: slog.New(slog.DiscardHandler), Name: "here",
				Timeout: time.Hour, ReplyTimeout: time.Minute, MaxSessions: 10, MaxPerPrincipal: 10,
			})
			defer m.Close()
			s, err := m.New(e, "")
			if err != nil {
				b.Fatal(err)
			}
			if err := s.Establish(context.Background(), wire.Rev1125, json.RawMessage(hello)); err != nil {
				b.Fatal(err)
			}
			id := s.ID
			s.Release()
			find := func() (*engine.Engine, error) { return e, nil }
			b.ReportAllocs()
			for b.Loop() {
				s, err := m.Find(context.Background(), id, "", find)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := s.Server(context.Background()); err != nil {
					b.Fatal(err)
				}
				s.Release()
				if !warm {
					s.rest(time.Now().Add(rest))
				}
			}
		})
	}
}
