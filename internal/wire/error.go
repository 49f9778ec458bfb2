package wire

import (
	"encoding/json"
	"strconv"
)

// Error codes of JSON-RPC 2.0 and of the revision 2026-07-28.
const (
	CodeParse              = -32700
	CodeInvalidRequest     = -32600
	CodeMethodNotFound     = -32601
	CodeInvalidParams      = -32602
	CodeInternal           = -32603
	CodeHeaderMismatch     = -32020
	CodeMissingCapability  = -32021
	CodeUnsupportedVersion = -32022

	// Codes of our own lie in the range that JSON-RPC leaves to implementations
	// (-32000..-32099), outside what the specification has reserved (-32020..-32099)
	// and the SDK's own use.

	// CodeSessionNotFound tells a client of the session era to initialize anew.
	CodeSessionNotFound = -32001
	// CodeBusy tells that a limit was reached; the HTTP response says when to come back.
	CodeBusy = -32010
	// CodeReplicaLost ends a call whose replica died and which must not run twice.
	CodeReplicaLost = -32011
)

// Error is a JSON-RPC error object: what the client is told.
type Error struct {
	Code    int64           `json:"code"`
	Message string          `json:"message"`
	Data    json.RawMessage `json:"data,omitempty"`
}

func (e *Error) Error() string { return e.Message + " (" + strconv.FormatInt(e.Code, 10) + ")" }

func newError(code int64, message string) *Error { return &Error{Code: code, Message: message} }

// InvalidRequest returns an error with code -32600.
func InvalidRequest(message string) *Error { return newError(CodeInvalidRequest, message) }

// InvalidParams returns an error with code -32602.
func InvalidParams(message string) *Error { return newError(CodeInvalidParams, message) }

// HeaderMismatch returns an error with code -32020.
func HeaderMismatch(message string) *Error { return newError(CodeHeaderMismatch, message) }

// Internal returns an error with code -32603.
func Internal(message string) *Error { return newError(CodeInternal, message) }

// UnsupportedVersion returns the error with code -32022 that lists what is served.
func UnsupportedVersion(requested string) *Error { return UnsupportedBy(revisions, requested) }

// UnsupportedBy is [UnsupportedVersion] for a server that has narrowed what it speaks to served.
func UnsupportedBy(served []string, requested string) *Error {
	data, _ := json.Marshal(struct { // strings cannot fail to marshal
		Supported []string `json:"supported"`
		Requested string   `json:"requested"`
	}{served, requested})
	return &Error{Code: CodeUnsupportedVersion, Message: "Unsupported protocol version", Data: data}
}

// ModernStatus maps a JSON-RPC error code to the HTTP status that revision
// 2026-07-28 asks for, when the response has not begun as a stream.
func ModernStatus(code int64) int {
	switch code {
	case CodeMethodNotFound:
		return 404
	case CodeParse, CodeInvalidRequest, CodeInvalidParams, CodeHeaderMismatch, CodeMissingCapability, CodeUnsupportedVersion:
		return 400
	}
	return 200
}
