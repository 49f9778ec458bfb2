// Package measured is a store that tells an observer of each round trip to another one.
package measured

import (
	"context"
	"errors"
	"time"

	"github.com/sluice-mcp/sluice/observe"
	"github.com/sluice-mcp/sluice/store"
)

// Store returns a store that tells of each round trip to another one. It returns that one itself when nobody observes.
func Store(s store.Store, o observe.Observer) store.Store {
	if o == nil {
		return s
	}
	return &measured{s, o}
}

type measured struct {
	store.Store // for what is not measured: topics that a subscription adds or removes, and Close
	observer    observe.Observer
}

// tell is called with what a round trip has returned.
func (m *measured) tell(ctx context.Context, op string, begun time.Time, err error) {
	m.observer.Event(ctx, observe.StoreOp{Op: op, Duration: time.Since(begun), Result: resultOf(err)})
}

func resultOf(err error) observe.StoreResult {
	switch {
	case err == nil:
		return observe.StoreOK
	case errors.Is(err, store.ErrFenced):
		return observe.StoreFenced
	case errors.Is(err, store.ErrNotFound), errors.Is(err, store.ErrExists), errors.Is(err, store.ErrConflict), errors.Is(err, store.ErrTrimmed):
		return observe.StoreMiss
	}
	return observe.StoreUnavailable
}

func (m *measured) Get(ctx context.Context, key string) ([]byte, error) {
	begun := time.Now()
	value, err := m.Store.Get(ctx, key)
	m.tell(ctx, "get", begun, err)
	return value, err
}

func (m *measured) Put(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	begun := time.Now()
	err := m.Store.Put(ctx, key, value, ttl)
	m.tell(ctx, "put", begun, err)
	return err
}

func (m *measured) Create(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	begun := time.Now()
	err := m.Store.Create(ctx, key, value, ttl)
	m.tell(ctx, "create", begun, err)
	return err
}

func (m *measured) Swap(ctx context.Context, key string, old, value []byte, ttl time.Duration) error {
	begun := time.Now()
	err := m.Store.Swap(ctx, key, old, value, ttl)
	m.tell(ctx, "swap", begun, err)
	return err
}

func (m *measured) Touch(ctx context.Context, key string, ttl time.Duration) error {
	begun := time.Now()
	err := m.Store.Touch(ctx, key, ttl)
	m.tell(ctx, "touch", begun, err)
	return err
}

func (m *measured) Delete(ctx context.Context, key string) error {
	begun := time.Now()
	err := m.Store.Delete(ctx, key)
	m.tell(ctx, "delete", begun, err)
	return err
}

func (m *measured) Append(ctx context.Context, log string, at int64, entries [][]byte, b store.Bounds) error {
	begun := time.Now()
	err := m.Store.Append(ctx, log, at, entries, b)
	m.tell(ctx, "append", begun, err)
	return err
}

func (m *measured) Read(ctx context.Context, log string, from int64, limit int) ([]store.Entry, int64, error) {
	begun := time.Now()
	entries, next, err := m.Store.Read(ctx, log, from, limit)
	m.tell(ctx, "read", begun, err)
	return entries, next, err
}

func (m *measured) Drop(ctx context.Context, log string) error {
	begun := time.Now()
	err := m.Store.Drop(ctx, log)
	m.tell(ctx, "drop", begun, err)
	return err
}

func (m *measured) Publish(ctx context.Context, topic string, data []byte) (int, error) {
	begun := time.Now()
	n, err := m.Store.Publish(ctx, topic, data)
	m.tell(ctx, "publish", begun, err)
	return n, err
}

func (m *measured) Receivers(ctx context.Context, topic string) (int, error) {
	begun := time.Now()
	n, err := m.Store.Receivers(ctx, topic)
	m.tell(ctx, "receivers", begun, err)
	return n, err
}

func (m *measured) Subscribe(ctx context.Context, topics ...string) (store.Subscription, error) {
	begun := time.Now()
	sub, err := m.Store.Subscribe(ctx, topics...)
	m.tell(ctx, "subscribe", begun, err)
	return sub, err
}

func (m *measured) Ping(ctx context.Context) error {
	begun := time.Now()
	err := m.Store.Ping(ctx)
	m.tell(ctx, "ping", begun, err)
	return err
}
