package serve

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/sluice-mcp/sluice/store"
	"github.com/sluice-mcp/sluice/store/redis"
)

// checkStore says whether openStore knows what a URL names. Its errors repeat no part of the URL that may hold a password.
func checkStore(rawURL string) error {
	u, err := url.Parse(rawURL)
	if err != nil {
		return redis.CheckURL(rawURL)
	}
	switch u.Scheme {
	case "memory":
		if rawURL != "memory:" && rawURL != "memory://" {
			return errors.New("memory: takes nothing behind it")
		}
		return nil
	case "redis", "rediss", "valkey", "valkeys":
		return redis.CheckURL(rawURL)
	default:
		return fmt.Errorf("%q is none of memory:, redis://, rediss://, valkey://, valkeys://", u.Scheme+"://"+u.Hostname())
	}
}

func inMemory(rawURL string) bool { return strings.HasPrefix(rawURL, "memory:") }

// openStore opens the store that a checked URL names; nil means that the endpoint keeps everything in this process.
func (a *App) openStore(ctx context.Context) (store.Store, error) {
	if inMemory(a.cfg.StoreURL) {
		return nil, nil
	}
	s, err := redis.Open(ctx, a.cfg.StoreURL)
	if err != nil {
		return nil, settingError{fmt.Errorf("--store-url (MCP_STORE_URL): %w", err)}
	}
	a.onStop("store", func(context.Context) error { return s.Close() })
	looking, stop := context.WithCancel(context.WithoutCancel(ctx))
	a.onStop("look at the store", func(context.Context) error { stop(); return nil })
	go a.warnOfEviction(looking, s)
	return s, nil
}

// warnOfEviction says once, as soon as the store can be asked, that it may drop what is needed.
func (a *App) warnOfEviction(ctx context.Context, s *redis.Redis) {
	const again = 5 * time.Second
	for {
		policy, maxmemory, err := s.Evicts(ctx)
		if policy != "" {
			a.log.Warn("the store may drop sessions and open streams when its memory is full: set its maxmemory-policy to noeviction",
				"policy", policy, "maxmemory", maxmemory)
		}
		if err == nil {
			return
		}
		select {
		case <-time.After(again):
		case <-ctx.Done():
			return
		}
	}
}
