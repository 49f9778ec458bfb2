// Package redis keeps the endpoint's state in Redis 6.2 or newer, or Valkey, where all replicas
// share it. One server or one primary with replicas: not Redis Cluster, because there a
// node knows only its own subscribers, which the contract's receivers must count.
//
// Every call is one round trip, on one pipelined connection, and ends within a second. None is
// ever repeated: when the connection is lost the outcome of a write is unknown.
//
// The server should not evict what has not expired (maxmemory-policy noeviction or volatile-*
// with room to spare): a log that vanishes early ends its stream.
package redis

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	"github.com/sluice-mcp/sluice/store"
)

const (
	// defaultTimeout bounds each call, and each attempt to connect.
	defaultTimeout = time.Second
	// keepAlive is how often an idle connection is checked; one that then keeps silent for the timeout is dropped.
	keepAlive = 500 * time.Millisecond
	// bufferSize is that of each of a connection's two buffers.
	bufferSize = 32 << 10
)

var _ store.Store = (*Redis)(nil)

// Redis is a store.Store. Its subscriptions share one connection, so the receivers that
// Publish and Receivers count are replicas.
type Redis struct {
	client  rueidis.Client
	dialer  *dialer
	prefix  string
	timeout time.Duration
	scripts scripts
	sub     *pubsub
	closed  atomic.Bool
}

// Open returns the store at a URL such as redis://user:password@host:6379/0, or rediss:// for TLS.
// The query parameter prefix replaces "sluice:" before all names, for servers that are shared.
//
// It is an error when the server refuses the credentials, is a cluster, or the URL is wrong.
// That the server cannot be reached now is none, for it may be back the next moment: Ping tells.
func Open(ctx context.Context, rawURL string) (*Redis, error) {
	return open(ctx, rawURL, defaultTimeout)
}

func open(ctx context.Context, rawURL string, timeout time.Duration) (*Redis, error) {
	opt, prefix, err := parse(rawURL)
	if err != nil {
		return nil, fmt.Errorf("redis: %w", err)
	}
	d := newDialer()
	opt.DialCtxFn = d.dial
	opt.Dialer.Timeout, opt.ConnWriteTimeout = timeout, timeout
	client, err := rueidis.NewClient(opt)
	if client == nil {
		return nil, fmt.Errorf("redis: %w", err)
	}
	r := &Redis{
		client:  client,
		dialer:  d,
		prefix:  prefix,
		timeout: timeout,
		scripts: newScripts(),
		sub:     newPubsub(client, prefix+"t:", timeout),
	}
	if err := r.check(ctx); err != nil {
		_ = r.Close()
		return nil, fmt.Errorf("redis: open: %w", err)
	}
	return r, nil
}

func parse(rawURL string) (opt rueidis.ClientOption, prefix string, err error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		if withURL, ok := errors.AsType[*url.Error](err); ok {
			err = withURL.Err // the URL may hold a password
		}
		return opt, "", fmt.Errorf("store URL: %w", err)
	}
	if u.Scheme != "redis" && u.Scheme != "rediss" {
		return opt, "", fmt.Errorf("store URL: scheme %q is not redis or rediss", u.Scheme)
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return opt, "", fmt.Errorf("store URL: %s is no port", port) // dialing it would fail for ever
		}
	}
	opt, err = rueidis.ParseURL(rawURL)
	if err != nil {
		return opt, "", err
	}
	opt.ForceSingleClient = true
	opt.DisableCache = true
	opt.DisableRetry = true
	// Without it a lone call waits for its answer in a way that does not see ctx being canceled, and that drops
	// the connection when the answer is late.
	opt.AlwaysPipelining = true
	opt.PipelineMultiplex = -1
	opt.ReadBufferEachConn, opt.WriteBufferEachConn = bufferSize, bufferSize
	opt.Dialer.KeepAlive = keepAlive
	prefix = "sluice:"
	if q := u.Query(); q.Has("prefix") {
		prefix = q.Get("prefix")
	}
	return opt, prefix, nil
}

// check returns an error for what waiting will not mend.
func (r *Redis) check(ctx context.Context) error {
	var refused *rueidis.RedisError
	info, err := r.do(ctx, r.client.B().Info().Section("cluster").Build()).ToString()
	switch {
	case strings.Contains(info, "cluster_enabled:1"):
		return errors.New("the server is part of a Redis Cluster, which is not supported")
	case errors.As(err, &refused) && (strings.HasPrefix(refused.Error(), "NOAUTH") || strings.HasPrefix(refused.Error(), "WRONGPASS")):
		return refused
	}
	return nil
}

// Ping implements store.Store.
func (r *Redis) Ping(ctx context.Context) error {
	if err := r.do(ctx, r.client.B().Ping().Build()).Error(); err != nil {
		return r.failed(ctx, "ping", err)
	}
	return nil
}

// Close implements store.Store. It takes up to two seconds when the server does not answer.
func (r *Redis) Close() error {
	if r.closed.CompareAndSwap(false, true) {
		r.sub.close()
		r.client.Close()
	}
	return nil
}

func (r *Redis) do(ctx context.Context, cmd rueidis.Completed) rueidis.RedisResult {
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	return r.client.Do(ctx, cmd)
}

// failed makes the error of a call that the server did not answer, or answered with an error of its own. What
// the client library says is text only: its context errors may be of our timeout or of another call's context.
func (r *Redis) failed(ctx context.Context, op string, err error) error {
	// After a failover the old primary may live on as a replica and keep its clients. Subscriptions
	// must move too: only the primary's own are counted.
	if answer, ok := rueidis.IsRedisErr(err); ok && strings.Contains(answer.Error(), "READONLY") {
		r.dialer.drop()
	}
	switch {
	case r.closed.Load():
		return wrap(op, store.ErrClosed)
	case ctx.Err() != nil:
		return fmt.Errorf("redis: %s: %w: %w", op, store.ErrUnavailable, ctx.Err())
	}
	return fmt.Errorf("redis: %s: %w: %v", op, store.ErrUnavailable, err) //nolint:errorlint // the client library stays inside
}

// wrap leaves keys out: session IDs are in them, and errors get logged.
func wrap(op string, err error) error {
	return fmt.Errorf("redis: %s: %w", op, err)
}

// millis rounds up, for Redis takes no time to live of 0.
func millis(ttl time.Duration) int64 {
	return int64((ttl + time.Millisecond - 1) / time.Millisecond)
}
