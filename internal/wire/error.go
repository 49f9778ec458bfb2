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

	// CodeResourceNotFound is for sessions only; 2026-07-28 has -32602 in its place.
	CodeResourceNotFound = -32002

	// Codes of our own lie outside all that JSON-RPC and MCP reserve (basic/index, "Error Codes").

	// CodeBusy tells that a limit was reached; the HTTP response says when to come back.
	CodeBusy = -31010
	// CodeReplicaLost ends a call whose replica died and which must not run twice.
	CodeReplicaLost = -31011
	// CodeSessionNotFound tells a client of the session era to initialize anew.
	CodeSessionNotFound = -31012
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

// MethodNotFound returns an error with code -32601.
func MethodNotFound(method string) *Error {
	return newError(CodeMethodNotFound, "Method not found: "+method)
}

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

// ModernCode keeps a handler to the codes that revision 2026-07-28 lets a server send: those that
// it reserves have the meaning that it gives them, or are not sent.
func ModernCode(code int64) int64 {
	switch {
	case code == CodeResourceNotFound:
		return CodeInvalidParams
	case code >= CodeUnsupportedVersion && code <= CodeHeaderMismatch:
		return code
	case code >= -32099 && code <= -32020:
		return CodeInternal
	}
	return code
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
