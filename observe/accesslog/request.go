package accesslog

import (
	"crypto/rand"
	"net/http"

	"github.com/sluice-mcp/sluice/observe"
)

// Header is the one that names a request, for those who pass it on and for those who ask about it.
const Header = "X-Request-Id"

// maxID bounds the IDs that are taken from a client, in bytes.
const maxID = 64

// RequestIDs returns a handler that gives each request an ID: that of its header X-Request-Id, if there is one of at most 64 letters,
// digits, dots, underscores and hyphens, else a new one. The response has it in the same header.
func RequestIDs(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := idOf(r)
		w.Header()[Header] = []string{id}
		next.ServeHTTP(w, r.WithContext(observe.WithRequestID(r.Context(), id)))
	})
}

// idOf returns the ID that a request has brought, or a new one.
func idOf(r *http.Request) string {
	if given := r.Header[Header]; len(given) == 1 && sane(given[0]) {
		return given[0]
	}
	return rand.Text()[:20] // 100 bits
}

func sane(id string) bool {
	for _, c := range []byte(id) {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !letter && c != '.' && c != '_' && c != '-' {
			return false
		}
	}
	return id != "" && len(id) <= maxID
}
