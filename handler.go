package sluice

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice/store"
)

// Options configures a [Handler]. The zero value is ready for use.
type Options struct {
	// Logger receives one line per notable event. Nil discards.
	Logger *slog.Logger
	// Store holds sessions, streams and leases. Nil keeps them in this process.
	Store store.Store
	// AllowedOrigins lists the browser origins, such as "https://app.example.com", that may call the endpoint.
	AllowedOrigins []string
	// SessionTimeout ends a session that has been idle this long. Zero means 30 minutes.
	SessionTimeout time.Duration
	// StateKeys seal requestState; the first seals, all open. Each is 32 bytes.
	StateKeys [][]byte
}

// Handler is the MCP endpoint.
type Handler struct{ sdk http.Handler }

// NewHandler returns the endpoint.
func NewHandler(getServer func(*http.Request) *mcp.Server, opts *Options) *Handler {
	return &Handler{sdk: mcp.NewStreamableHTTPHandler(getServer, nil)}
}

// ServeHTTP implements [http.Handler].
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) { h.sdk.ServeHTTP(w, r) }

// HTTPSSE returns the handler of the 2024-11-05 transport: GET opens the event stream, POST takes messages.
// messagePath is the path, as clients see it, that is told to them for their POSTs.
func (h *Handler) HTTPSSE(messagePath string) http.Handler { return http.NotFoundHandler() }

// Ready reports nil when the endpoint takes new work, else an error that says why not.
func (h *Handler) Ready(ctx context.Context) error { return nil }

// Drain refuses new work, ends or hands over open streams and waits for the calls in flight.
// It returns when none is left, or with ctx's error.
func (h *Handler) Drain(ctx context.Context) error { return nil }

// Close lets go of what is left and frees everything. Close is idempotent.
func (h *Handler) Close() error { return nil }
