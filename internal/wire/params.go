package wire

import (
	"errors"
	"strconv"
)

// Keys of _meta in revision 2026-07-28.
const (
	MetaProtocolVersion    = "io.modelcontextprotocol/protocolVersion"
	MetaClientInfo         = "io.modelcontextprotocol/clientInfo"
	MetaClientCapabilities = "io.modelcontextprotocol/clientCapabilities"
	MetaLogLevel           = "io.modelcontextprotocol/logLevel"
	MetaServerInfo         = "io.modelcontextprotocol/serverInfo"
	MetaSubscriptionID     = "io.modelcontextprotocol/subscriptionId"

	// MetaIdempotencyKey is ours, in every revision: see package once. ExtensionOnce names what it belongs to among the capabilities of a
	// server, and MetaTool the tool of a call that is cancelled by its key.
	MetaIdempotencyKey = "io.github.sluice-mcp/idempotencyKey"
	MetaTool           = "io.github.sluice-mcp/tool"
	ExtensionOnce      = "io.github.sluice-mcp/once"

	// ExtensionTasks names the Tasks extension among the capabilities of either side.
	ExtensionTasks = "io.modelcontextprotocol/tasks"
)

// Params are the members of a request's params that the endpoint itself acts
// on, raw. Absent ones are nil.
type Params struct {
	Name, URI, Arguments, InputResponses, RequestState, TaskID, Meta []byte
}

// ParseParams reads params, which must be an object or absent. A member that occurs
// twice is refused: a proxy in front and the server behind could act on different ones.
func ParseParams(raw []byte) (Params, *Error) {
	var p Params
	if len(raw) == 0 {
		return p, nil
	}
	err := members(raw, func(key, value []byte) error {
		var field *[]byte
		switch string(key) {
		case "name":
			field = &p.Name
		case "uri":
			field = &p.URI
		case "arguments":
			field = &p.Arguments
		case "inputResponses":
			field = &p.InputResponses
		case "requestState":
			field = &p.RequestState
		case "taskId":
			field = &p.TaskID
		case "_meta":
			field = &p.Meta
		default:
			return nil
		}
		return setOnce(field, key, value)
	})
	if err != nil {
		return p, InvalidParams("Invalid params: " + err.Error())
	}
	if string(p.Meta) == "null" {
		p.Meta = nil
	}
	if p.Meta != nil && p.Meta[0] != '{' {
		return p, InvalidParams("Invalid params: _meta must be an object")
	}
	return p, nil
}

// CheckArguments checks the type of the arguments of a method that the specification gives some. In a method
// that a server has added the word can mean anything.
func (p Params) CheckArguments(method string) *Error {
	if method != "tools/call" && method != "prompts/get" {
		return nil
	}
	if p.Arguments != nil && p.Arguments[0] != '{' && string(p.Arguments) != "null" {
		return InvalidParams("Invalid params: arguments must be an object")
	}
	if method != "prompts/get" || p.Arguments == nil || p.Arguments[0] != '{' {
		return nil
	}
	err := members(p.Arguments, func(key, value []byte) error {
		if value[0] != '"' { // null would be taken for ""
			return errors.New("argument " + strconv.Quote(string(key)) + " must be a string")
		}
		return nil
	})
	if err != nil {
		return InvalidParams("Invalid params: " + err.Error())
	}
	return nil
}

// ValidLogLevel reports whether the specification knows the level, given as raw JSON.
func ValidLogLevel(raw []byte) bool {
	return len(raw) > 0 && raw[0] == '"' && logLevels[Unquote(raw)] > 0
}

// LevelReaches reports whether a log message of a level, given as raw JSON, is for a client that has asked for those
// from least on. One that has not asked gets none.
func LevelReaches(raw []byte, least string) bool {
	return least != "" && logLevels[Unquote(raw)] >= logLevels[least]
}

func setOnce(field *[]byte, key, value []byte) error {
	if *field != nil {
		return errors.New("duplicate member " + strconv.Quote(string(key)))
	}
	*field = value
	return nil
}

// Meta are the members of _meta that the endpoint itself acts on, raw.
type Meta struct {
	ProgressToken, ProtocolVersion, ClientInfo, ClientCapabilities, LogLevel, IdempotencyKey []byte
}

// ParseMeta reads _meta, which must be an object or absent.
func ParseMeta(raw []byte) (Meta, *Error) {
	var m Meta
	if len(raw) == 0 {
		return m, nil
	}
	err := members(raw, func(key, value []byte) error {
		var field *[]byte
		switch string(key) {
		case "progressToken":
			field = &m.ProgressToken
		case MetaProtocolVersion:
			field = &m.ProtocolVersion
		case MetaClientInfo:
			field = &m.ClientInfo
		case MetaClientCapabilities:
			field = &m.ClientCapabilities
		case MetaLogLevel:
			field = &m.LogLevel
		case MetaIdempotencyKey:
			field = &m.IdempotencyKey
		default:
			return nil
		}
		return setOnce(field, key, value)
	})
	if err != nil {
		return m, InvalidParams("Invalid params: _meta: " + err.Error())
	}
	if m.ProgressToken != nil && !isID(m.ProgressToken) {
		return m, InvalidParams("Invalid params: progressToken must be a string or an integer")
	}
	return m, nil
}

// Trace are the members of _meta that carry a trace context (SEP-414), raw. Absent ones are nil.
type Trace struct{ Parent, State, Baggage []byte }

// ParseTrace reads the trace context in _meta. It is nobody's business to refuse one that is wrong: of a member that occurs twice
// the first counts.
func ParseTrace(meta []byte) (t Trace) {
	if len(meta) == 0 || meta[0] != '{' {
		return t
	}
	_ = members(meta, func(key, value []byte) error {
		switch string(key) {
		case "traceparent":
			_ = setOnce(&t.Parent, key, value)
		case "tracestate":
			_ = setOnce(&t.State, key, value)
		case "baggage":
			_ = setOnce(&t.Baggage, key, value)
		}
		return nil
	})
	return t
}

// logLevels are the levels of RFC 5424 that the specification knows, from the least on.
var logLevels = map[string]int{
	"debug": 1, "info": 2, "notice": 3, "warning": 4,
	"error": 5, "critical": 6, "alert": 7, "emergency": 8,
}

// CheckModern checks the _meta that every request of 2026-07-28 carries
// (basic/index, "_meta"), beyond the version itself.
func (m Meta) CheckModern() *Error {
	if m.ClientCapabilities == nil {
		return InvalidParams("Invalid params: missing _meta field " + strconv.Quote(MetaClientCapabilities))
	}
	if m.ClientCapabilities[0] != '{' {
		return InvalidParams("Invalid params: _meta field " + strconv.Quote(MetaClientCapabilities) + " must be an object")
	}
	if m.ClientInfo != nil && m.ClientInfo[0] != '{' {
		return InvalidParams("Invalid params: _meta field " + strconv.Quote(MetaClientInfo) + " must be an object")
	}
	if m.LogLevel != nil && !ValidLogLevel(m.LogLevel) {
		return InvalidParams("Invalid params: unknown log level in _meta field " + strconv.Quote(MetaLogLevel))
	}
	return nil
}
