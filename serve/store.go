package serve

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/sluice-mcp/sluice/store"
	"github.com/sluice-mcp/sluice/store/redis"
)

// checkStore says whether openStore knows what a URL names.
func checkStore(rawURL string) error {
	u, err := url.Parse(rawURL)
	if err != nil {
		// The parser's error repeats the URL, and a URL may hold a password.
		return errors.New("not a URL")
	}
	switch u.Scheme {
	case "memory", "redis", "rediss":
		return nil
	default:
		return fmt.Errorf("%q is none of memory:, redis://, rediss://", u.Redacted())
	}
}

// openStore opens the store that a checked URL names; nil means that the endpoint keeps everything in this process.
func openStore(ctx context.Context, rawURL string) (store.Store, error) {
	if strings.HasPrefix(rawURL, "memory:") {
		return nil, nil
	}
	s, err := redis.Open(ctx, rawURL)
	if err != nil {
		return nil, fmt.Errorf("--store-url (MCP_STORE_URL): %w", err)
	}
	return s, nil
}
