package redis

import (
	"context"
	"strconv"
	"time"

	"github.com/redis/rueidis"

	"github.com/sluice-mcp/sluice/store"
)

func (r *Redis) record(key string) string { return r.prefix + "k:" + key }

// Get implements store.KV.
func (r *Redis) Get(ctx context.Context, key string) ([]byte, error) {
	v, err := r.do(ctx, r.client.B().Get().Key(r.record(key)).Build()).AsBytes()
	switch {
	case rueidis.IsRedisNil(err):
		return nil, wrap("get", store.ErrNotFound)
	case err != nil:
		return nil, r.failed(ctx, "get", err)
	}
	return v, nil
}

// Put implements store.KV.
func (r *Redis) Put(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	// A command that is given up may still be sent later, so it must not share the caller's bytes.
	set := r.client.B().Set().Key(r.record(key)).Value(string(value))
	cmd := set.Build
	if ttl > 0 {
		cmd = set.PxMilliseconds(millis(ttl)).Build
	}
	if err := r.do(ctx, cmd()).Error(); err != nil {
		return r.failed(ctx, "put", err)
	}
	return nil
}

// Create implements store.KV.
func (r *Redis) Create(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	set := r.client.B().Set().Key(r.record(key)).Value(string(value)).Nx()
	cmd := set.Build
	if ttl > 0 {
		cmd = set.PxMilliseconds(millis(ttl)).Build
	}
	err := r.do(ctx, cmd()).Error()
	switch {
	case rueidis.IsRedisNil(err):
		return wrap("create", store.ErrExists)
	case err != nil:
		return r.failed(ctx, "create", err)
	}
	return nil
}

// Swap implements store.KV.
func (r *Redis) Swap(ctx context.Context, key string, old, value []byte, ttl time.Duration) error {
	ms := "0"
	if ttl > 0 {
		ms = strconv.FormatInt(millis(ttl), 10)
	}
	n, err := r.run(ctx, r.scripts.swap, r.record(key), string(old), string(value), ms).AsInt64()
	switch {
	case err != nil:
		return r.failed(ctx, "swap", err)
	case n < 0:
		return wrap("swap", store.ErrNotFound)
	case n == 0:
		return wrap("swap", store.ErrConflict)
	}
	return nil
}

// Touch implements store.KV.
func (r *Redis) Touch(ctx context.Context, key string, ttl time.Duration) error {
	key = r.record(key)
	var n int64
	var err error
	if ttl > 0 {
		n, err = r.do(ctx, r.client.B().Pexpire().Key(key).Milliseconds(millis(ttl)).Build()).AsInt64()
	} else {
		// PERSIST says 0 of a record that is absent and of one that does not expire.
		n, err = r.run(ctx, r.scripts.persist, key).AsInt64()
	}
	switch {
	case err != nil:
		return r.failed(ctx, "touch", err)
	case n == 0:
		return wrap("touch", store.ErrNotFound)
	}
	return nil
}

// Delete implements store.KV.
func (r *Redis) Delete(ctx context.Context, key string) error {
	if err := r.do(ctx, r.client.B().Del().Key(r.record(key)).Build()).Error(); err != nil {
		return r.failed(ctx, "delete", err)
	}
	return nil
}
