package wire

import (
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Kind says what a message is.
type Kind uint8

// The kinds of message.
const (
	Request Kind = iota + 1
	Notification
	Response
)

// IsChange reports whether a notification tells that something of the server has changed: a list, or a resource.
func IsChange(method string) bool {
	switch method {
	case "notifications/tools/list_changed", "notifications/prompts/list_changed", "notifications/resources/list_changed", ResourceUpdated:
		return true
	}
	return false
}

// ResourceUpdated is the notification that goes to those only who have subscribed to the resource.
const ResourceUpdated = "notifications/resources/updated"

// ID is a request ID: the client's own bytes, so that it goes back exactly as
// it came. Empty means none. It is a JSON string or an integer of any size.
type ID string

// Key returns the ID in a form in which equal IDs are equal; the number 603 and
// the string "603" are not.
func (id ID) Key() string {
	if len(id) > 0 && id[0] == '"' {
		return `"` + Unquote([]byte(id))
	}
	return string(id)
}

// Message is one JSON-RPC message. The raw fields point into the bytes it was read from.
type Message struct {
	Kind   Kind
	ID     ID
	Method string
	Params json.RawMessage // absent: nil; otherwise an object
	Result json.RawMessage
	Error  json.RawMessage
}

// ParseBody reads the body of a POST: one message, or the elements of a batch,
// of which each may be wrong by itself and is then returned with an [Error]. What is wrong with an error, but was to be a response, has
// its kind and ID all the same.
// A body that is no JSON, or an empty batch, is an error of the whole.
func ParseBody(body []byte) (one Message, batch []Element, err *Error) {
	if err := valid(body); err != nil {
		return Message{}, nil, newError(CodeParse, "Parse error: "+err.Error())
	}
	if body[skipSpace(body, 0)] != '[' {
		one, err = parse(body)
		return one, nil, err
	}
	tooLarge := elements(body, func(value []byte) error {
		if len(batch) == MaxBatch {
			return errBatch
		}
		m, err := parse(value)
		batch = append(batch, Element{Raw: value, Message: m, Err: err})
		return nil
	})
	if tooLarge != nil {
		return Message{}, nil, InvalidRequest("Invalid request: the batch is too large")
	}
	if len(batch) == 0 {
		return Message{}, nil, InvalidRequest("Invalid request: empty batch")
	}
	return Message{}, batch, nil
}

// MaxBatch bounds the messages of one batch. Each costs many times its bytes, so it is
// held while reading, not after.
const MaxBatch = 256

var errBatch = errors.New("too many elements")

// Element is one member of a batch.
type Element struct {
	Raw     json.RawMessage // as it stands in the batch
	Message Message
	Err     *Error
}

// Owed reports whether the element is owed a response. A response is not, even one that is wrong.
func (e Element) Owed() bool {
	return e.Message.Kind == Request || e.Err != nil && e.Message.Kind != Response
}

// parse reads one message from valid JSON. When it fails, the message still has
// the ID if it could be read, so that the error can carry it, and its kind if it was to be a response: whoever waits for
// that must hear that it is none.
func parse(data []byte) (Message, *Error) {
	if data[skipSpace(data, 0)] != '{' {
		return Message{}, InvalidRequest("Invalid request: a message is a JSON object")
	}
	var m Message
	var version, id, method []byte
	var hasID, hasMethod bool
	seen, twice := 0, ""
	_ = members(data, func(key, value []byte) error {
		var bit int
		switch string(key) {
		case "jsonrpc":
			bit, version = 1, value
		case "id":
			bit, id, hasID = 2, value, true
		case "method":
			bit, method, hasMethod = 4, value, true
		case "params":
			bit, m.Params = 8, value
		case "result":
			bit, m.Result = 16, orAbsent(value)
		case "error":
			bit, m.Error = 32, orAbsent(value)
		}
		if seen&bit != 0 && twice == "" {
			twice = string(key) // two readers of the message could each see another of the two
		}
		seen |= bit
		return nil
	})
	// A bad ID is reported as such only when nothing else is wrong, but a good one is kept for the error.
	badID := ""
	if hasID {
		if isID(id) {
			m.ID = ID(id)
		} else {
			badID = "Invalid request: id must be a string or an integer"
		}
	}
	if m.ID != "" && !hasMethod {
		m.Kind = Response
	}
	switch {
	case twice != "":
		return m, InvalidRequest("Invalid request: duplicate member " + strconv.Quote(twice))
	case string(version) != `"2.0"`:
		return m, InvalidRequest(`Invalid request: jsonrpc must be "2.0"`)
	case badID != "":
		return m, InvalidRequest(badID)
	case hasMethod:
		return m.asRequest(method, hasID)
	default:
		return m.asResponse()
	}
}

func (m Message) asRequest(method []byte, hasID bool) (Message, *Error) {
	if len(method) == 0 || method[0] != '"' {
		return m, InvalidRequest("Invalid request: method must be a string")
	}
	m.Method = Unquote(method)
	if m.Result != nil || m.Error != nil {
		return m, InvalidRequest("Invalid request: both a request and a response")
	}
	if string(m.Params) == "null" {
		m.Params = nil
	}
	if m.Params != nil && m.Params[0] != '{' {
		return m, InvalidRequest("Invalid request: params must be an object")
	}
	m.Kind = Notification
	if hasID {
		m.Kind = Request
	}
	return m, nil
}

func (m Message) asResponse() (Message, *Error) {
	switch {
	case m.ID == "":
		return m, InvalidRequest("Invalid request: neither method nor id")
	case (m.Result == nil) == (m.Error == nil):
		return m, InvalidRequest("Invalid request: a response has either result or error")
	case m.Result != nil && m.Result[0] != '{':
		return m, InvalidRequest("Invalid request: result must be an object")
	case m.Error != nil:
		code, message := Member(m.Error, "code"), Member(m.Error, "message")
		if _, err := strconv.ParseInt(string(code), 10, 64); err != nil || len(message) == 0 || message[0] != '"' {
			return m, InvalidRequest("Invalid request: error needs an integer code and a message")
		}
	}
	return m, nil
}

// orAbsent takes a null for nothing: many libraries write the member that a message does not have.
func orAbsent(value []byte) []byte {
	if string(value) == "null" {
		return nil
	}
	return value
}

// Malformed returns the response that is handed on in place of one that could not be read: an error that says what was wrong with it.
func (m Message) Malformed(why *Error) Message {
	e := Internal("the client's answer is malformed: " + strings.TrimPrefix(why.Message, "Invalid request: "))
	raw, _ := json.Marshal(e) // a code and a text cannot fail to marshal
	return Message{Kind: Response, ID: m.ID, Error: raw}
}

// CheckNotification refuses a request that has lost its ID and looks like a notification: to accept it would have its client
// wait for ever (Streamable HTTP, "Sending Messages": what cannot be accepted is answered with an HTTP error).
func (m Message) CheckNotification() *Error {
	if !strings.HasPrefix(m.Method, "notifications/") {
		return InvalidRequest("Invalid request: a request needs an id")
	}
	return nil
}

// isID reports whether raw is a JSON string or an integer written as one. Fractions and
// exponents are refused: peers disagree on whether 1.0 and 1 are the same ID.
func isID(raw []byte) bool {
	if raw[0] == '"' {
		return len(raw) <= maxID && utf8.Valid(raw)
	}
	digits := raw
	if raw[0] == '-' {
		digits = raw[1:]
	}
	for _, c := range digits {
		if !isDigit(c) {
			return false
		}
	}
	return len(digits) > 0 && len(raw) <= maxID
}

// maxID bounds what is kept and echoed for a request.
const maxID = 1024
