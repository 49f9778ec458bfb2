// Package redis keeps the endpoint's state in Redis 6.2 or newer, or Valkey, where all replicas
// share it. One server or one primary with replicas: not Redis Cluster, because there a
// node knows only its own subscribers, which the contract's receivers must count.
//
// Every call is one round trip, on one pipelined connection, and ends within a second. None is
// ever repeated: when the connection is lost the outcome of a write is unknown.
//
// The server should not evict what has not expired: all that is kept here expires in the end, so that only the
// maxmemory-policy noeviction keeps it until then. See [Redis.Evicts].
package redis

import (
	"context"
	"errors"
	"fmt"
	"strconv"
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
	// probeEvery is how often Ping writes at most.
	probeEvery = 100 * time.Millisecond
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
	probed  atomic.Pointer[probe]
	closed  atomic.Bool
}

// Open returns the store at a URL: redis://user:password@host:6379/0 as IANA has registered it, or rediss:// for TLS; valkey:// and
// valkeys:// mean the same. Parameters of the query:
//
//   - prefix replaces "sluice:" before all names, for servers that are shared;
//   - db is the database, if the path does not say it;
//   - master_set names the primary that the Sentinel at host, and those at each addr=HOST:PORT, know;
//   - skip_verify=true takes any certificate;
//   - client_name is what the server lists the connections as, protocol=2 speaks RESP2.
//
// It is an error when the URL is wrong, the server is older than 6.2 or a cluster, or it refuses the credentials or something
// that calls need: what waiting does not mend. That the server cannot be reached now, or takes no writes, is none, for it may be
// well the next moment: Ping tells. (Not so for a Sentinel, which must be there.)
func Open(ctx context.Context, rawURL string) (*Redis, error) {
	return open(ctx, rawURL, defaultTimeout)
}

func open(ctx context.Context, rawURL string, timeout time.Duration) (*Redis, error) {
	opt, prefix, err := parse(rawURL)
	if err != nil {
		return nil, fmt.Errorf("redis: store URL: %w", err)
	}
	tune(&opt, timeout)
	d := newDialer()
	opt.DialCtxFn = d.dial
	client, err := rueidis.NewClient(opt)
	if client == nil {
		return nil, fmt.Errorf("redis: %w", reduce(err))
	}
	r := &Redis{
		client:  client,
		dialer:  d,
		prefix:  prefix,
		timeout: timeout,
		scripts: newScripts(),
		sub:     newPubsub(client, channels(prefix, opt.SelectDB), timeout),
	}
	if err := r.check(ctx); err != nil {
		_ = r.Close()
		return nil, fmt.Errorf("redis: open: %w", err)
	}
	return r, nil
}

// tune sets what is not the URL's affair.
func tune(opt *rueidis.ClientOption, timeout time.Duration) {
	opt.Dialer.Timeout, opt.ConnWriteTimeout = timeout, timeout
	opt.ForceSingleClient = true
	opt.DisableCache = true
	opt.DisableRetry = true
	// Without it a lone call waits for its answer in a way that does not see ctx being canceled, and that drops
	// the connection when the answer is late.
	opt.AlwaysPipelining = true
	opt.PipelineMultiplex = -1
	opt.ReadBufferEachConn, opt.WriteBufferEachConn = bufferSize, bufferSize
	opt.Dialer.KeepAlive = keepAlive
}

// channels begin the names of all channels. A server has one space of them for all its databases, so the number of ours is
// part of the name; 0 is left out, as it was before there were others.
func channels(prefix string, db int) string {
	if db == 0 {
		return prefix + "t:"
	}
	return prefix + "t" + strconv.Itoa(db) + ":"
}

// Ping implements store.Store. It does what calls do: a server that answers PING may still take no writes, run no scripts,
// or let this user publish nothing. Who asks more often than that is worth is told again what was found, as long as the server is there.
func (r *Redis) Ping(ctx context.Context) error {
	if p := r.probed.Load(); p != nil && time.Since(p.at) < probeEvery {
		if err := r.do(ctx, r.client.B().Ping().Build()).Error(); err != nil {
			return r.failed(ctx, "ping", err)
		}
		return p.refused
	}
	err := r.run(ctx, r.scripts.probe, r.prefix+"probe", r.sub.prefix).Error()
	if err != nil {
		err = r.failed(ctx, "ping", err)
	}
	if _, refused := errors.AsType[*refusal](err); refused || err == nil {
		r.probed.Store(&probe{at: time.Now(), refused: err})
	}
	return err
}

// A probe is what came of trying what calls do.
type probe struct {
	at      time.Time
	refused error
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
	err = reduce(err)
	// After a failover the old primary may live on as a replica and keep its clients. Subscriptions
	// must move too: only the primary's own are counted.
	if refused, ok := errors.AsType[*refusal](err); ok && refused.code == "READONLY" {
		r.dialer.drop()
	}
	switch {
	case r.closed.Load():
		return wrap(op, store.ErrClosed)
	case ctx.Err() != nil:
		return fmt.Errorf("redis: %s: %w: %w", op, store.ErrUnavailable, ctx.Err())
	}
	if refused, ok := errors.AsType[*refusal](err); ok {
		return fmt.Errorf("redis: %s: %w: %w", op, store.ErrUnavailable, refused)
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
