package memory

import (
	"bytes"
	"context"
	"fmt"

	"github.com/sluice-mcp/sluice/store"
	"github.com/sluice-mcp/sluice/store/internal/fanout"
)

// Publish implements store.Bus.
func (m *Memory) Publish(ctx context.Context, topic string, data []byte) (int, error) {
	if err := alive(ctx); err != nil {
		return 0, wrap("publish", err)
	}
	n, err := m.hub.Publish(store.Message{Topic: topic, Data: bytes.Clone(data)})
	if err != nil {
		return 0, wrap("publish", err)
	}
	return n, nil
}

// Receivers implements store.Bus.
func (m *Memory) Receivers(ctx context.Context, topic string) (int, error) {
	if err := alive(ctx); err != nil {
		return 0, wrap("receivers", err)
	}
	n, err := m.hub.Receivers(topic)
	if err != nil {
		return 0, wrap("receivers", err)
	}
	return n, nil
}

// Subscribe implements store.Bus.
func (m *Memory) Subscribe(ctx context.Context, topics ...string) (store.Subscription, error) {
	if err := alive(ctx); err != nil {
		return nil, wrap("subscribe", err)
	}
	sub, err := m.hub.Open()
	if err != nil {
		return nil, wrap("subscribe", err)
	}
	s := &subscription{Sub: sub, hub: m.hub}
	if err := s.Add(ctx, topics...); err != nil {
		_ = s.Close()
		return nil, err
	}
	return s, nil
}

type subscription struct {
	*fanout.Sub
	hub *fanout.Hub
}

func (s *subscription) Add(ctx context.Context, topics ...string) error {
	if err := alive(ctx); err != nil {
		return wrap("subscribe", err)
	}
	if _, err := s.hub.Add(s.Sub, topics...); err != nil {
		return wrap("subscribe", err)
	}
	return nil
}

func (s *subscription) Remove(ctx context.Context, topics ...string) error {
	if err := alive(ctx); err != nil {
		return wrap("unsubscribe", err)
	}
	if err := s.hub.Remove(s.Sub, topics...); err != nil {
		return wrap("unsubscribe", err)
	}
	return nil
}

func (s *subscription) Close() error {
	s.hub.CloseSub(s.Sub)
	return nil
}

// alive fails when the caller has given up, as a distant backend would.
func alive(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%w: %w", store.ErrUnavailable, err)
	}
	return nil
}
