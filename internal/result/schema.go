package result

import (
	"bytes"
	"encoding/json"
	"runtime"
	"slices"
	"sync"
	"weak"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice/internal/wire"
)

// A fittedTool is one tool as clients of the two eras can read it.
type fittedTool struct{ sessions, stateless *mcp.Tool }

// fittedTools has the tools that were listed, by [weak.Pointer]: a tool must not be modified once it is added to a server, so
// that its schemas are looked through once, and forgotten with it. They are many servers' at once: a program may make a server
// for each session, of the same tools.
var fittedTools sync.Map

// tool returns t with schemas that clients of the revision can read.
func (r rules) tool(t *mcp.Tool) *mcp.Tool {
	key := weak.Make(t)
	f, ok := fittedTools.Load(key)
	if !ok {
		fresh, err := fitTool(t)
		if err != nil {
			return t // what cannot be marshaled is an error to whoever lists it, as ever
		}
		if f, ok = fittedTools.LoadOrStore(key, fresh); !ok {
			runtime.AddCleanup(t, func(key weak.Pointer[mcp.Tool]) { fittedTools.Delete(key) }, key)
		}
	}
	fitted := f.(*fittedTool) //nolint:forcetypeassert // nothing else is in there
	if r.stateless() {
		return fitted.stateless
	}
	return fitted.sessions
}

// fitTool makes copies, even of a tool that could stay as it is: what is kept must not keep the tool itself.
func fitTool(t *mcp.Tool) (*fittedTool, error) {
	input, err := fitSchema(t.InputSchema)
	if err != nil {
		return nil, err
	}
	output, err := fitSchema(t.OutputSchema)
	if err != nil {
		return nil, err
	}
	sessions, stateless := *t, *t
	// Arguments are an object in every revision; a schema that leaves it unsaid, or allows more, means no more.
	sessions.InputSchema = withType(input)
	stateless.InputSchema = sessions.InputSchema
	sessions.OutputSchema, stateless.OutputSchema = nil, nil
	if output != nil {
		stateless.OutputSchema = output
		// Until 2026-07-28 structured content was an object, and outputSchema.type had to say so.
		if string(wire.Member(output, "type")) == `"object"` {
			sessions.OutputSchema = output
		}
	}
	return &fittedTool{&sessions, &stateless}, nil
}

// withType returns a schema whose type is "object".
func withType(schema json.RawMessage) json.RawMessage {
	object := []byte(`"object"`)
	switch typ := wire.Member(schema, "type"); {
	case schema == nil:
		return json.RawMessage(`{"type":"object"}`)
	case typ == nil:
		return wire.SetMembers(schema, wire.Pair{Key: "type", Value: object})
	case string(typ) == string(object):
		return schema
	default:
		return wire.ReplaceMember(schema, "type", object)
	}
}

// fitSchema returns a JSON Schema, of whatever type, as compact JSON that clients can read; nil if there is none.
//
// A schema may be a boolean (JSON Schema, "Boolean JSON Schemas"), and Go's library writes the empty schema as true. Clients take
// properties for objects, and refuse the whole list for one that is none. The object says the same.
func fitSchema(schema any) (json.RawMessage, error) {
	if schema == nil {
		return nil, nil
	}
	raw, err := Marshal(schema)
	if err != nil || string(raw) == "null" {
		return nil, err
	}
	return appendSchema(nil, raw, false)
}

// appendSchema appends one schema. One that closes an object or an array keeps its false: every client knows additionalProperties
// false, which was there before other schemas could be booleans, and some look for just that.
func appendSchema(dst, raw []byte, closes bool) ([]byte, error) {
	switch {
	case string(raw) == "true" || string(raw) == "null":
		return append(dst, "{}"...), nil
	case string(raw) == "false" && !closes:
		return append(dst, `{"not":{}}`...), nil
	case raw[0] != '{':
		return append(dst, raw...), nil
	}
	return appendMembers(dst, raw, func(dst []byte, key string, value []byte) ([]byte, error) {
		kind := keywords[key]
		if kind != other && string(value) == "null" {
			return dst, nil
		}
		dst = append(wire.AppendString(dst, key), ':')
		switch {
		case kind == one || kind == closing || kind == oneOrList && value[0] != '[':
			return appendSchema(dst, value, kind != one)
		case (kind == list || kind == oneOrList) && value[0] == '[':
			return appendSchemas(dst, value)
		case kind == named && value[0] == '{':
			return appendMembers(dst, value, func(dst []byte, name string, value []byte) ([]byte, error) {
				return appendSchema(append(wire.AppendString(dst, name), ':'), value, false)
			})
		default:
			return append(dst, value...), nil
		}
	})
}

// A kind says what the value of a keyword is.
type kind int

const (
	other     kind = iota // no schema
	one                   // a schema
	closing               // a schema of what is not named elsewhere
	list                  // schemas in an array
	oneOrList             // either, by the draft
	named                 // schemas by name
	names                 // names in an array
)

// keywords are those that take schemas, of all drafts, and required. None takes null, which a nil map or slice is written as.
var keywords = map[string]kind{
	"properties": named, "patternProperties": named, "$defs": named, "definitions": named,
	"dependentSchemas": named, "dependencies": named,
	"allOf": list, "anyOf": list, "oneOf": list, "prefixItems": list, "items": oneOrList,
	"additionalProperties": closing, "unevaluatedProperties": closing, "additionalItems": closing, "unevaluatedItems": closing,
	"not": one, "if": one, "then": one, "else": one, "contains": one, "propertyNames": one, "contentSchema": one,
	"required": names,
}

// appendMembers appends the object in raw with those of its members that f appends.
func appendMembers(dst, raw []byte, f func(dst []byte, key string, value []byte) ([]byte, error)) ([]byte, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	if _, err := dec.Token(); err != nil {
		return nil, err
	}
	dst = append(dst, '{')
	empty := len(dst)
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return nil, err
		}
		key, _ := token.(string)
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return nil, err
		}
		before := len(dst)
		if before > empty {
			dst = append(dst, ',')
		}
		begin := len(dst)
		if dst, err = f(dst, key, value); err != nil {
			return nil, err
		}
		if len(dst) == begin {
			dst = dst[:before]
		}
	}
	return append(dst, '}'), nil
}

// appendSchemas appends an array of schemas.
func appendSchemas(dst, raw []byte) ([]byte, error) {
	var schemas []json.RawMessage
	if err := json.Unmarshal(raw, &schemas); err != nil {
		return nil, err
	}
	dst = append(dst, '[')
	for i, schema := range schemas {
		if i > 0 {
			dst = append(dst, ',')
		}
		var err error
		if dst, err = appendSchema(dst, schema, false); err != nil {
			return nil, err
		}
	}
	return append(dst, ']'), nil
}

// formSchema returns the schema of what a form asks for, whose type and properties a client needs to know.
func formSchema(schema any) any {
	fitted, err := fitSchema(schema)
	if err != nil {
		return schema // whoever asks is told
	}
	fitted = withType(fitted)
	if wire.Member(fitted, "properties") == nil {
		end := len(fitted) - 1
		fitted = slices.Concat(fitted[:end], []byte(`,"properties":{}}`))
	}
	return fitted
}
