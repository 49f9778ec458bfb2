package redis

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sluice-mcp/sluice/store"
)

// check returns an error for what waiting will not mend.
func (r *Redis) check(ctx context.Context) error {
	info, err := r.info(ctx)
	if _, refused := errors.AsType[*refusal](err); err != nil && !refused {
		return nil // out of reach; but a server that only keeps this to itself may do all else
	}
	if info["cluster_enabled"] == "1" {
		return errors.New("the server is part of a Redis Cluster, which is not supported")
	}
	if v := info["redis_version"]; tooOld(v) {
		return fmt.Errorf("the server is Redis %s; 6.2 is the oldest that is supported", v)
	}
	return lasting(r.rehearse(ctx))
}

// lasting returns an error that waiting will not mend, else nil.
func lasting(err error) error {
	if refused, ok := errors.AsType[*refusal](err); ok && refused.forGood {
		return err
	}
	return nil
}

// info returns what the server says of itself; a server that is not Redis may leave any of it out.
func (r *Redis) info(ctx context.Context) (map[string]string, error) {
	text, err := r.do(ctx, r.client.B().Info().Build()).ToString()
	if err != nil {
		return nil, r.failed(ctx, "info", err)
	}
	info := make(map[string]string)
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		if name, value, ok := strings.Cut(lines.Text(), ":"); ok {
			info[name] = value
		}
	}
	return info, nil
}

func tooOld(version string) bool {
	var major, minor int
	if _, err := fmt.Sscanf(version, "%d.%d", &major, &minor); err != nil {
		return false
	}
	return major < 6 || major == 6 && minor < 2
}

// rehearse makes each kind of call once, so that a right that is missing is found now and not by the first client who needs it. It returns the
// first error.
func (r *Redis) rehearse(ctx context.Context) error {
	name := "rehearsal:" + rand.Text()
	v := []byte("v")
	brief := store.Bounds{Entries: 1, TTL: time.Second}
	for _, call := range []func() error{
		func() error { return r.Ping(ctx) },
		func() error { return r.Create(ctx, name, v, time.Second) },
		func() error { return r.Put(ctx, name, v, time.Second) },
		func() error { return r.Swap(ctx, name, v, v, time.Second) },
		func() error { _, err := r.Get(ctx, name); return err },
		func() error { return r.Touch(ctx, name, time.Second) },
		func() error { return r.Touch(ctx, name, 0) },
		func() error { return r.Delete(ctx, name) },
		func() error { return r.Append(ctx, name, 0, [][]byte{v}, brief) },
		func() error { return r.Append(ctx, name, 1, [][]byte{v}, brief) }, // drops the first
		func() error { _, _, err := r.Read(ctx, name, 1, 1); return err },
		func() error { return r.Drop(ctx, name) },
		func() error { _, err := r.Publish(ctx, name, nil); return err },
		func() error { _, err := r.Receivers(ctx, name); return err },
		func() error {
			sub, err := r.Subscribe(ctx, name)
			if err == nil {
				_ = sub.Close()
			}
			return err
		},
	} {
		if err := call(); err != nil {
			return err
		}
	}
	return nil
}

// Evicts returns the server's maxmemory-policy if it lets the server drop what has not expired when its memory is full, and how much
// that is; with a maxmemory of "0" it has no bound yet. policy is empty when nothing is dropped, or the server does not say.
// Errors: store.ErrUnavailable.
func (r *Redis) Evicts(ctx context.Context) (policy, maxmemory string, err error) {
	info, err := r.info(ctx)
	if err != nil {
		return "", "", err
	}
	if policy = info["maxmemory_policy"]; policy == "noeviction" {
		policy = ""
	}
	return policy, info["maxmemory"], nil
}
