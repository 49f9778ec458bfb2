// Package large keeps JSON that may be too large for a record of the store: it then stands in a log of its own, and the record
// says in which.
package large

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/sluice-mcp/sluice/store"
)

// Value is JSON as a part of a record: here, or in a log. The zero Value is nothing.
type Value struct {
	Here json.RawMessage `json:"here,omitempty"`
	Log  string          `json:"log,omitempty"`
}

const (
	inRecord = 32 << 10  // what may stand in a record, in bytes
	part     = 512 << 10 // of an entry of a log
	// Max bounds a value, in bytes: a log keeps no more.
	Max = 8 << 20
)

// Write puts data where it belongs: into the value itself, or into the log with the given name, for as long as ttl. Errors: those
// of [store.Log].
func Write(ctx context.Context, s store.Log, log string, data json.RawMessage, ttl time.Duration) (Value, error) {
	if len(data) <= inRecord {
		return Value{Here: data}, nil
	}
	var entries [][]byte
	for p := range slices.Chunk(data, part) {
		entries = append(entries, p)
	}
	bounds := store.Bounds{Bytes: Max + part, TTL: ttl}
	for at, e := range entries { // one by one: a backend may bound what one append takes
		if err := s.Append(ctx, log, int64(at), [][]byte{e}, bounds); err != nil {
			return Value{}, fmt.Errorf("keeping %d bytes: %w", len(data), err)
		}
	}
	return Value{Log: log}, nil
}

// Read returns the data of a value. Errors: store.ErrUnavailable, store.ErrNotFound.
func (v Value) Read(ctx context.Context, s store.Log) (json.RawMessage, error) {
	if v.Log == "" {
		return v.Here, nil
	}
	var data []byte
	for at := int64(0); ; {
		entries, next, err := s.Read(ctx, v.Log, at, 4)
		if err != nil {
			return nil, fmt.Errorf("reading what a record is too small for: %w", err)
		}
		for _, e := range entries {
			data = append(data, e.Data...)
		}
		if at += int64(len(entries)); at >= next || len(entries) == 0 {
			return data, nil
		}
	}
}

// Drop deletes what is not in the record. A log that cannot be reached expires by itself.
func (v Value) Drop(ctx context.Context, s store.Log) {
	if v.Log != "" {
		_ = s.Drop(ctx, v.Log)
	}
}
