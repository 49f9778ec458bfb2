// Package wire owns the bytes of the protocol: JSON-RPC envelopes, the header
// rules of each revision, the framing of server-sent events and event IDs.
// It is pure: it knows neither connections nor servers, and every function of
// it that reads a client's bytes is fuzzed.
package wire
