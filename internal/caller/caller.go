// Package caller says on whose behalf a request comes: to us as a principal, which everything that is kept for a client is
// bound to, and to the SDK's handlers as the extra of a request.
package caller

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"

	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// Principal returns the user of the SDK's bearer token middleware, and "" for a request without a token. A verifier that
// names no user leaves the token itself to bind to. That one changes when it is refreshed, and the client then
// initializes anew, which is better than a session that anybody can take.
func Principal(r *http.Request) string {
	info := auth.TokenInfoFromContext(r.Context())
	switch {
	case info == nil:
		return ""
	case info.UserID != "":
		return "user:" + info.UserID
	default:
		return "token:" + digest(r.Header.Get("Authorization"))
	}
}

// digest shortens a value to something that can be compared but not used.
func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:16])
}

// Extra returns what handlers of the SDK see of a request.
func Extra(r *http.Request) *mcp.RequestExtra {
	return &mcp.RequestExtra{TokenInfo: auth.TokenInfoFromContext(r.Context()), Header: r.Header}
}
