// Package memory keeps the endpoint's state in this process. It is the default store.
// Nothing outlives the process and no other replica sees it: that is what store/redis is for.
package memory

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/sluice-mcp/sluice/store"
	"github.com/sluice-mcp/sluice/store/internal/fanout"
)

var _ store.Store = (*Memory)(nil)

// Memory is a store.Store. It runs no goroutine; what expires is freed by a timer
// that is set only while something can expire. It can be used inside a testing/synctest bubble if
// it is made there.
//
// What it returns is shared and must not be changed; what it is given is copied.
type Memory struct {
	records *table[[]byte]
	logs    *table[stream]
	hub     *fanout.Hub
}

// New returns an empty store.
func New() *Memory {
	return &Memory{records: newTable[[]byte](), logs: newTable[stream](), hub: fanout.NewHub()}
}

// Ping implements store.Store.
func (m *Memory) Ping(ctx context.Context) error {
	if err := m.records.lock(ctx); err != nil {
		return wrap("ping", err)
	}
	m.records.mu.Unlock()
	return nil
}

// Close implements store.Store.
func (m *Memory) Close() error {
	m.records.close()
	m.logs.close()
	m.hub.Close()
	return nil
}

// Get implements store.KV.
func (m *Memory) Get(ctx context.Context, key string) ([]byte, error) {
	if err := m.records.lock(ctx); err != nil {
		return nil, wrap("get", err)
	}
	defer m.records.mu.Unlock()
	it := m.records.get(key)
	if it == nil {
		return nil, wrap("get", store.ErrNotFound)
	}
	return it.value, nil
}

// Put implements store.KV.
func (m *Memory) Put(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	value = bytes.Clone(value)
	if err := m.records.lock(ctx); err != nil {
		return wrap("put", err)
	}
	defer m.records.mu.Unlock()
	it := m.records.get(key)
	if it == nil {
		it = m.records.add(key)
	}
	it.value = value
	m.records.expire(it, ttl)
	return nil
}

// Create implements store.KV.
func (m *Memory) Create(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	if err := m.records.lock(ctx); err != nil {
		return wrap("create", err)
	}
	defer m.records.mu.Unlock()
	if m.records.get(key) != nil {
		return wrap("create", store.ErrExists)
	}
	it := m.records.add(key)
	it.value = bytes.Clone(value)
	m.records.expire(it, ttl)
	return nil
}

// Swap implements store.KV.
func (m *Memory) Swap(ctx context.Context, key string, old, value []byte, ttl time.Duration) error {
	if err := m.records.lock(ctx); err != nil {
		return wrap("swap", err)
	}
	defer m.records.mu.Unlock()
	it := m.records.get(key)
	switch {
	case it == nil:
		return wrap("swap", store.ErrNotFound)
	case !bytes.Equal(it.value, old):
		return wrap("swap", store.ErrConflict)
	}
	it.value = bytes.Clone(value)
	m.records.expire(it, ttl)
	return nil
}

// Touch implements store.KV.
func (m *Memory) Touch(ctx context.Context, key string, ttl time.Duration) error {
	if err := m.records.lock(ctx); err != nil {
		return wrap("touch", err)
	}
	defer m.records.mu.Unlock()
	it := m.records.get(key)
	if it == nil {
		return wrap("touch", store.ErrNotFound)
	}
	m.records.expire(it, ttl)
	return nil
}

// Delete implements store.KV.
func (m *Memory) Delete(ctx context.Context, key string) error {
	if err := m.records.lock(ctx); err != nil {
		return wrap("delete", err)
	}
	defer m.records.mu.Unlock()
	if it := m.records.get(key); it != nil {
		m.records.remove(it)
	}
	return nil
}

// wrap leaves keys out: session IDs are in them, and errors get logged.
func wrap(op string, err error) error {
	return fmt.Errorf("memory: %s: %w", op, err)
}
