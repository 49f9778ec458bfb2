package task

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/sluice-mcp/sluice/store"
)

// Large is JSON that stands in the record, or, when it is too large for one, in a log of its own.
type Large struct {
	Here json.RawMessage `json:"here,omitempty"`
	Log  string          `json:"log,omitempty"`
}

const (
	inRecord = 32 << 10  // what may stand in a record, in bytes
	part     = 512 << 10 // of an entry of a log
	// MaxResult bounds a result, in bytes: a log keeps no more.
	MaxResult = 8 << 20
)

// write puts data where it belongs.
func (k *Keeper) write(ctx context.Context, log string, data json.RawMessage, ttl time.Duration) (Large, error) {
	if len(data) <= inRecord {
		return Large{Here: data}, nil
	}
	var entries [][]byte
	for p := range slices.Chunk(data, part) {
		entries = append(entries, p)
	}
	bounds := store.Bounds{Bytes: MaxResult + part, TTL: ttl}
	for at, e := range entries { // one by one: a backend may bound what one append takes
		if err := k.Store.Append(ctx, log, int64(at), [][]byte{e}, bounds); err != nil {
			return Large{}, fmt.Errorf("keeping what a task has to say: %w", err)
		}
	}
	return Large{Log: log}, nil
}

// Read returns the data of a part of a record. Errors: store.ErrUnavailable, store.ErrNotFound.
func (k *Keeper) Read(ctx context.Context, l Large) (json.RawMessage, error) {
	if l.Log == "" {
		return l.Here, nil
	}
	var data []byte
	for at := int64(0); ; {
		entries, next, err := k.Store.Read(ctx, l.Log, at, 4)
		if err != nil {
			return nil, fmt.Errorf("reading what a task has said: %w", err)
		}
		for _, e := range entries {
			data = append(data, e.Data...)
		}
		if at += int64(len(entries)); at >= next || len(entries) == 0 {
			return data, nil
		}
	}
}

func (k *Keeper) drop(ctx context.Context, l Large) {
	if l.Log != "" {
		_ = k.Store.Drop(ctx, l.Log) // it expires by itself otherwise
	}
}
