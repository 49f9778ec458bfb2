package redis

import (
	"context"

	"github.com/sluice-mcp/sluice/store"
	"github.com/sluice-mcp/sluice/store/internal/fanout"
)

// Publish implements store.Bus.
func (r *Redis) Publish(ctx context.Context, topic string, data []byte) (int, error) {
	n, err := r.do(ctx, r.client.B().Publish().Channel(r.sub.channel(topic)).Message(string(data)).Build()).AsInt64()
	if err != nil {
		return 0, r.failed(ctx, "publish", err)
	}
	return int(n), nil
}

// Receivers implements store.Bus.
func (r *Redis) Receivers(ctx context.Context, topic string) (int, error) {
	channel := r.sub.channel(topic)
	counts, err := r.do(ctx, r.client.B().PubsubNumsub().Channel(channel).Build()).AsIntMap()
	if err != nil {
		return 0, r.failed(ctx, "receivers", err)
	}
	return int(counts[channel]), nil
}

// Subscribe implements store.Bus.
func (r *Redis) Subscribe(ctx context.Context, topics ...string) (store.Subscription, error) {
	sub, err := r.sub.hub.Open()
	if err != nil {
		return nil, wrap("subscribe", err)
	}
	s := &subscription{Sub: sub, r: r}
	if err := s.Add(ctx, topics...); err != nil {
		_ = s.Close()
		return nil, err
	}
	return s, nil
}

type subscription struct {
	*fanout.Sub
	r *Redis
}

func (s *subscription) Add(ctx context.Context, topics ...string) error {
	added, err := s.r.sub.hub.Add(s.Sub, topics...)
	if err != nil {
		return wrap("subscribe", err)
	}
	// Also for topics that are not new: another call may still be waiting for them.
	if err := s.r.sub.settle(ctx, topics); err != nil {
		_ = s.Remove(ctx, added...)
		return s.r.failed(ctx, "subscribe", err)
	}
	return nil
}

func (s *subscription) Remove(ctx context.Context, topics ...string) error {
	if err := s.r.sub.hub.Remove(s.Sub, topics...); err != nil {
		return wrap("unsubscribe", err)
	}
	s.r.sub.changed(topics, nil)
	return nil
}

func (s *subscription) Close() error {
	topics := s.r.sub.hub.CloseSub(s.Sub)
	if len(topics) > 0 {
		names := make([]string, 0, len(topics))
		for t := range topics {
			names = append(names, t)
		}
		s.r.sub.changed(names, nil)
	}
	return nil
}
