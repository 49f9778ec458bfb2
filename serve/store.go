package serve

import (
	"context"
	"fmt"
	"net/url"

	"github.com/sluice-mcp/sluice/store"
)

// openStore opens the store that a URL names; nil means that the endpoint keeps everything in this process.
func openStore(_ context.Context, rawURL string) (store.Store, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		// The parser's error repeats the URL, and a URL may hold a password.
		return nil, fmt.Errorf("--store-url (MCP_STORE_URL): not a URL")
	}
	switch u.Scheme {
	case "memory":
		return nil, nil
	default:
		return nil, fmt.Errorf("--store-url (MCP_STORE_URL): %q is not supported, want memory:", u.Redacted())
	}
}
