package redis

import (
	"context"
	"errors"
	"strconv"

	"github.com/redis/rueidis"

	"github.com/sluice-mcp/sluice/store"
)

func (r *Redis) log(name string) string { return r.prefix + "l:" + name }

// Append implements store.Log.
func (r *Redis) Append(ctx context.Context, log string, at int64, entries [][]byte, b store.Bounds) error {
	maxEntries, maxBytes := b.Limits()
	ms := "0"
	if b.TTL > 0 {
		ms = strconv.FormatInt(millis(b.TTL), 10)
	}
	args := make([]string, 5, 5+len(entries))
	args[0] = strconv.FormatInt(at, 10)
	args[1] = strconv.Itoa(maxEntries)
	args[2] = strconv.Itoa(maxBytes)
	args[3] = ms
	args[4] = r.sub.channel(log)
	for _, e := range entries {
		args = append(args, string(e))
	}
	n, err := r.run(ctx, r.scripts.append, r.log(log), args...).AsInt64()
	switch {
	case err != nil:
		return r.failed(ctx, "append", err)
	case n == 0:
		return wrap("append", store.ErrFenced)
	}
	return nil
}

// Read implements store.Log.
func (r *Redis) Read(ctx context.Context, log string, from int64, limit int) ([]store.Entry, int64, error) {
	first, next, raw, err := reply(r.run(ctx, r.scripts.read, r.log(log), strconv.FormatInt(from, 10), strconv.Itoa(limit)))
	switch {
	case rueidis.IsRedisNil(err):
		return nil, 0, wrap("read", store.ErrNotFound)
	case err != nil:
		return nil, 0, r.failed(ctx, "read", err)
	case from < first:
		return nil, next, wrap("read", store.ErrTrimmed)
	case len(raw) == 0:
		return nil, next, nil
	}
	entries := make([]store.Entry, len(raw))
	for i := range raw {
		data, err := raw[i].AsBytes()
		if err != nil {
			return nil, 0, r.failed(ctx, "read", err)
		}
		entries[i] = store.Entry{Index: from + int64(i), Data: data}
	}
	return entries, next, nil
}

// reply takes apart what read.lua returns.
func reply(res rueidis.RedisResult) (first, next int64, entries []rueidis.RedisMessage, err error) {
	parts, err := res.ToArray()
	if err != nil {
		return 0, 0, nil, err
	}
	if len(parts) != 3 {
		return 0, 0, nil, errors.New("unexpected reply")
	}
	if first, err = parts[0].AsInt64(); err != nil {
		return 0, 0, nil, err
	}
	if next, err = parts[1].AsInt64(); err != nil {
		return 0, 0, nil, err
	}
	entries, err = parts[2].ToArray()
	return first, next, entries, err
}

// Drop implements store.Log.
func (r *Redis) Drop(ctx context.Context, log string) error {
	if err := r.do(ctx, r.client.B().Del().Key(r.log(log)).Build()).Error(); err != nil {
		return r.failed(ctx, "drop", err)
	}
	return nil
}
