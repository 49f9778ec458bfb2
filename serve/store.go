package serve

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/sluice-mcp/sluice/store"
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
func openStore(_ context.Context, rawURL string) (store.Store, error) {
	if strings.HasPrefix(rawURL, "memory:") {
		return nil, nil
	}
	return nil, errors.New("--store-url (MCP_STORE_URL): this build has no store but memory:")
}
