package sluice

import "net/http"

// HTTPSSE returns the handler of the 2024-11-05 transport: GET opens the event stream, POST takes messages.
// messagePath is the path, as clients see it, that is told to them for their POSTs.
func (h *Handler) HTTPSSE(messagePath string) http.Handler { return http.NotFoundHandler() }
