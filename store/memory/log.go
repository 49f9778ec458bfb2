package memory

import (
	"bytes"
	"context"

	"github.com/sluice-mcp/sluice/store"
)

// A stream is the kept end of one log.
type stream struct {
	first   int64 // index of entries[0]
	entries [][]byte
	bytes   int
}

func (s *stream) next() int64 { return s.first + int64(len(s.entries)) }

// append adds entries and drops the oldest until the rest is within bounds.
func (s *stream) append(entries [][]byte, maxEntries, maxBytes int) {
	for _, data := range entries {
		s.bytes += len(data)
	}
	over := func() bool {
		total := len(s.entries) + len(entries)
		return total > 1 && (total > maxEntries || s.bytes > maxBytes)
	}
	for len(s.entries) > 0 && over() {
		s.bytes -= len(s.entries[0])
		s.entries[0] = nil // the array stays; its entry must not
		s.entries = s.entries[1:]
		s.first++
	}
	for over() {
		s.bytes -= len(entries[0])
		entries = entries[1:]
		s.first++
	}
	for _, data := range entries {
		s.entries = append(s.entries, bytes.Clone(data))
	}
}

// Append implements store.Log.
func (m *Memory) Append(ctx context.Context, log string, at int64, entries [][]byte, b store.Bounds) error {
	if err := m.append(ctx, log, at, entries, b); err != nil {
		return wrap("append", err)
	}
	if _, err := m.hub.Publish(store.Message{Topic: log}); err != nil {
		return wrap("append", err)
	}
	return nil
}

func (m *Memory) append(ctx context.Context, log string, at int64, entries [][]byte, b store.Bounds) error {
	if err := m.logs.lock(ctx); err != nil {
		return err
	}
	defer m.logs.mu.Unlock()
	it := m.logs.get(log)
	if it == nil {
		if at != 0 {
			return store.ErrFenced
		}
		it = m.logs.add(log)
	} else if it.value.next() != at {
		return store.ErrFenced
	}
	maxEntries, maxBytes := b.Limits()
	it.value.append(entries, maxEntries, maxBytes)
	m.logs.expire(it, b.TTL)
	return nil
}

// Read implements store.Log.
func (m *Memory) Read(ctx context.Context, log string, from int64, limit int) ([]store.Entry, int64, error) {
	if err := m.logs.lock(ctx); err != nil {
		return nil, 0, wrap("read", err)
	}
	defer m.logs.mu.Unlock()
	it := m.logs.get(log)
	if it == nil {
		return nil, 0, wrap("read", store.ErrNotFound)
	}
	s := &it.value
	next := s.next()
	if from < s.first {
		return nil, next, wrap("read", store.ErrTrimmed)
	}
	n := min(int64(limit), next-from)
	if n <= 0 {
		return nil, next, nil
	}
	entries := make([]store.Entry, n)
	for i := range entries {
		index := from + int64(i)
		entries[i] = store.Entry{Index: index, Data: s.entries[index-s.first]}
	}
	return entries, next, nil
}

// Drop implements store.Log.
func (m *Memory) Drop(ctx context.Context, log string) error {
	if err := m.logs.lock(ctx); err != nil {
		return wrap("drop", err)
	}
	defer m.logs.mu.Unlock()
	if it := m.logs.get(log); it != nil {
		m.logs.remove(it)
	}
	return nil
}
