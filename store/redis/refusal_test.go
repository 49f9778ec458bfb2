//go:build unix

package redis_test

import (
	"crypto/rand"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sluice-mcp/sluice/internal/redistest"
	"github.com/sluice-mcp/sluice/store"
	"github.com/sluice-mcp/sluice/store/redis"
)

// TestRefusals has a server refuse what calls need while it answers PING: the store says that it is not well, and why. When
// the server is well again, so is the store.
func TestRefusals(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		args      []string
		ill, well string
		says      string
	}{
		"no replicas": {ill: "CONFIG SET min-replicas-to-write 1", well: "CONFIG SET min-replicas-to-write 0", says: "NOREPLICAS: too few replicas"},
		"full":        {ill: "CONFIG SET maxmemory 1", well: "CONFIG SET maxmemory 0", says: "OOM: the server's memory is full"},
		"a replica":   {ill: "REPLICAOF 127.0.0.1 1", well: "REPLICAOF NO ONE", says: "READONLY: the server is a replica"},
		"a replica that has lost its primary": {
			args: []string{"--replica-serve-stale-data", "no"}, ill: "REPLICAOF 127.0.0.1 1", well: "REPLICAOF NO ONE", says: "MASTERDOWN: ",
		},
		"no rights": {
			ill: "ACL SETUSER default -eval -evalsha", well: "ACL SETUSER default +@all", says: "NOPERM: the user lacks the right",
		},
		"no rights in a script": {
			ill: "ACL SETUSER default -publish", well: "ACL SETUSER default +@all", says: "NOPERM: the user lacks the right",
		},
		"no channels": {
			ill: "ACL SETUSER default resetchannels", well: "ACL SETUSER default allchannels", says: "NOPERM: the user lacks the right",
		},
		"no keys": {
			ill: "ACL SETUSER default resetkeys", well: "ACL SETUSER default allkeys", says: "NOPERM: the user lacks the right",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := redistest.New(t, tt.args...)
			r := open(t, srv.URL())
			if err := r.Ping(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := command(t, srv.Addr(), tt.ill); got != "+OK" {
				t.Fatal(got)
			}
			var err error
			for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
				if err = r.Ping(t.Context()); err != nil && strings.Contains(err.Error(), tt.says) {
					break
				}
				if time.Now().After(end) {
					t.Fatalf("Ping says %v, want %q", err, tt.says)
				}
			}
			if !errors.Is(err, store.ErrUnavailable) {
				t.Errorf("%v is not ErrUnavailable", err)
			}
			if got := command(t, srv.Addr(), tt.well); got != "+OK" {
				t.Fatal(got)
			}
			for end := time.Now().Add(10 * time.Second); r.Ping(t.Context()) != nil; time.Sleep(10 * time.Millisecond) {
				if time.Now().After(end) {
					t.Fatal("Ping goes on to fail")
				}
			}
		})
	}
}

// TestOpenRefused starts where waiting will not help, and says so, and where it may, and does not.
func TestOpenRefused(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		args   []string
		before []string
		path   string
		says   string // empty: the store opens
	}{
		"no scripts":         {before: []string{"ACL SETUSER default -eval"}, says: "NOPERM"},
		"no EVALSHA":         {before: []string{"ACL SETUSER default -evalsha"}, says: "NOPERM"},
		"no writes":          {before: []string{"ACL SETUSER default -@write"}, says: "NOPERM"},
		"no LPOP in scripts": {before: []string{"ACL SETUSER default -lpop"}, says: "NOPERM"},
		"no PUBLISH":         {before: []string{"ACL SETUSER default -publish"}, says: "NOPERM"},
		"no SUBSCRIBE":       {before: []string{"ACL SETUSER default -subscribe"}, says: "subscribe: store: unavailable: NOPERM"},
		"no PUBSUB":          {before: []string{"ACL SETUSER default -pubsub"}, says: "receivers: store: unavailable: NOPERM"},
		"other channels":     {before: []string{"ACL SETUSER default resetchannels &other:*"}, says: "NOPERM"},
		"other keys":         {before: []string{"ACL SETUSER default resetkeys ~other:*"}, says: "NOPERM"},
		"only its keys":      {before: []string{"ACL SETUSER default resetkeys ~own:* resetchannels &own:*"}, path: "/?prefix=own:"},
		"only what it needs": {before: []string{"ACL SETUSER default -@all +@read +@write +@pubsub +@scripting +@connection +ping resetkeys ~sluice:* resetchannels &sluice:*"}},
		"scripts renamed":    {args: []string{"--rename-command", "EVALSHA", "\"\""}, says: "ERR: the server does not know a command"},
		"no INFO":            {args: []string{"--rename-command", "INFO", "\"\""}},
		"no such database":   {path: "/4711", says: "ERR: the server has no database of this number"},
		"full":               {before: []string{"CONFIG SET maxmemory 1"}},
		"a replica":          {args: []string{"--replicaof", "127.0.0.1 1"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := redistest.New(t, tt.args...)
			for _, line := range tt.before {
				if got := command(t, srv.Addr(), line); got != "+OK" {
					t.Fatal(got)
				}
			}
			r, err := redis.OpenWithin(t.Context(), srv.URL()+tt.path, 20*time.Second)
			if err == nil {
				defer func() { _ = r.Close() }()
			}
			switch {
			case tt.says == "" && err != nil:
				t.Errorf("got %v, want a store", err)
			case tt.says != "" && (err == nil || !strings.Contains(err.Error(), tt.says)):
				t.Errorf("got %v, want %q", err, tt.says)
			}
		})
	}
}

// TestErrorsNameNoKeys provokes errors of Redis that repeat what it was sent.
func TestErrorsNameNoKeys(t *testing.T) {
	t.Parallel()
	secret := rand.Text()
	for name, before := range map[string][]string{
		"unknown command": nil, // quotes the arguments: see below
		"wrong type":      {"SADD sluice:k:" + secret + " x", "SADD sluice:l:" + secret + " x"},
		"no keys":         {"ACL SETUSER default resetkeys"},
		"no channels":     {"ACL SETUSER default resetchannels"},
		"no scripts":      {"ACL SETUSER default -@scripting"},
		"nothing in them": {"ACL SETUSER default -rpush -lpush -set -get -lrange -llen"},
		"full":            {"CONFIG SET maxmemory 1"},
		"a replica":       {"REPLICAOF 127.0.0.1 1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var args []string
			if name == "unknown command" {
				for _, c := range []string{"GET", "SET", "DEL", "PEXPIRE", "PUBLISH", "LLEN", "EVALSHA", "SUBSCRIBE", "PUBSUB"} {
					args = append(args, "--rename-command", c, "ADMIN"+c)
				}
			}
			srv := redistest.New(t, args...)
			r := openAnyway(t, srv)
			for _, line := range before {
				if got := command(t, srv.Addr(), line); strings.HasPrefix(got, "-") {
					t.Fatal(got)
				}
			}
			ctx, b := t.Context(), []byte(secret)
			_, get := r.Get(ctx, secret)
			_, _, read := r.Read(ctx, secret, 0, 1)
			_, publish := r.Publish(ctx, secret, b)
			_, receivers := r.Receivers(ctx, secret)
			_, subscribe := r.Subscribe(ctx, secret)
			n := 0
			for call, err := range map[string]error{
				"get": get, "read": read, "publish": publish, "receivers": receivers, "subscribe": subscribe,
				"put": r.Put(ctx, secret, b, 0), "create": r.Create(ctx, secret, b, 0), "swap": r.Swap(ctx, secret, b, b, 0),
				"touch": r.Touch(ctx, secret, time.Minute), "persist": r.Touch(ctx, secret, 0), "delete": r.Delete(ctx, secret),
				"append": r.Append(ctx, secret, 0, [][]byte{b}, store.Bounds{}), "drop": r.Drop(ctx, secret),
			} {
				if err == nil {
					continue
				}
				t.Logf("%s: %v", call, err)
				if strings.Contains(err.Error(), secret) {
					t.Errorf("%s: %v", call, err)
				}
				if errors.Is(err, store.ErrUnavailable) {
					n++
				}
			}
			if n == 0 {
				t.Error("nothing was refused")
			}
		})
	}
}

// openAnyway opens a store at a server whose commands may be renamed, which a store would refuse to start with: it was away then.
func openAnyway(t *testing.T, srv *redistest.Server) *redis.Redis {
	t.Helper()
	srv.Kill()
	r, err := redis.OpenWithin(t.Context(), srv.URL(), time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	if err := srv.Start(); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestEvicts(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		args              []string
		policy, maxmemory string
	}{
		{nil, "", "0"},
		{[]string{"--maxmemory", "100mb"}, "", "104857600"},
		{[]string{"--maxmemory-policy", "allkeys-lru"}, "allkeys-lru", "0"},
		{[]string{"--maxmemory", "100mb", "--maxmemory-policy", "volatile-ttl", "--rename-command", "CONFIG", "\"\""}, "volatile-ttl", "104857600"},
	} {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			t.Parallel()
			r := open(t, redistest.New(t, tt.args...).URL())
			policy, maxmemory, err := r.Evicts(t.Context())
			if policy != tt.policy || maxmemory != tt.maxmemory || err != nil {
				t.Errorf("got %q, %q, %v, want %q, %q", policy, maxmemory, err, tt.policy, tt.maxmemory)
			}
		})
	}
}
