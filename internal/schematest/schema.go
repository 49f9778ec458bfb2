// Package schematest judges messages of the Model Context Protocol by the
// schema of their revision, and watches over tests: whatever our servers,
// proxies and clients write while a test runs must be valid.
//
// The specification publishes its schema at github.com/modelcontextprotocol/modelcontextprotocol, as
// schema/REVISION/schema.json. mcp.schema is not a copy of that: it says the same in a notation of ours, one text for
// all revisions, in which one sees what changed between them. TestPublished proves that both mean the same.
package schematest

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"

	"github.com/google/jsonschema-go/jsonschema"
)

// Revisions are those that have a schema, oldest first. Their names are dates, and so are ordered as strings.
var Revisions = []string{"2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28"}

// A Side is one of the two that write messages.
type Side string

// The two sides.
const (
	Client Side = "client"
	Server Side = "server"
)

//go:embed mcp.schema
var notation string

var read = sync.OnceValues(func() (*grammar, error) { return parse(notation) })

// An envelope is what JSON-RPC says of a message.
type envelope struct {
	Version string          `json:"jsonrpc"`
	ID      json.RawMessage `json:"id"`
	Method  *string         `json:"method"`
	Params  json.RawMessage `json:"params"`
	Result  json.RawMessage `json:"result"`
	Error   json.RawMessage `json:"error"`
}

// Check says how a message breaks the revision's schema. from is the side that wrote it. For a response, method is that
// of the request which it answers, or "" if that is not known: then the envelope is judged, and no more.
//
// The same goes for all messages when revision is "", which means that none has been agreed on.
func Check(revision string, from Side, text []byte, method string) error {
	var m envelope
	if err := json.Unmarshal(text, &m); err != nil {
		return err
	}
	return m.check(revision, from, method)
}

func (m *envelope) check(revision string, from Side, method string) error {
	g, err := read()
	if err != nil {
		return err
	}
	if m.Version != "2.0" {
		return fmt.Errorf("jsonrpc is %q", m.Version)
	}
	if m.Method != nil {
		return g.sent(revision, from, m)
	}
	return g.answered(revision, from, m, method)
}

// sent judges a request or a notification.
func (g *grammar) sent(revision string, from Side, m *envelope) error {
	if m.Result != nil || m.Error != nil {
		return errors.New("request and response at once")
	}
	if m.ID != nil && !isID(m.ID) {
		return fmt.Errorf("id is %s", m.ID)
	}
	if revision == "" {
		return nil
	}
	says := g.find(revision, from, *m.Method)
	if says == nil && extended(*m.Method) {
		return nil
	}
	switch {
	case says == nil:
		return fmt.Errorf("no %s sends %s", from, *m.Method)
	case (m.ID != nil) != (says.result != nil):
		return fmt.Errorf("a request has an id and a notification has none: %s", *m.Method)
	case m.Params == nil && says.optional:
		return nil
	case m.Params == nil:
		return errors.New("params are missing")
	}
	return g.fits(*m.Method+" params", revision, says.params, m.Params)
}

// answered judges a response.
func (g *grammar) answered(revision string, from Side, m *envelope, method string) error {
	if (m.Result == nil) == (m.Error == nil) {
		return errors.New("neither a result nor an error, or both")
	}
	if m.Error != nil {
		return g.failed(revision, m)
	}
	if !isID(m.ID) {
		return fmt.Errorf("id is %s", m.ID)
	}
	other := Client
	if from == Client {
		other = Server
	}
	says := g.find(revision, other, method)
	if says == nil || says.result == nil {
		return nil
	}
	// Where alternatives exist, a result says which one it is. One that asks for input has hardly a member that it must
	// have, so that anything would pass for it.
	var is struct {
		ResultType string `json:"resultType"`
	}
	_ = json.Unmarshal(m.Result, &is) // what else is wrong with it is found by its schema
	switch is.ResultType {
	case "task": // of an extension
		return g.fits("result", revision, g.types["Result"], m.Result)
	case "input_required":
		return g.fits(method+" result that asks for input", revision, func(revision string) map[string]any {
			return alternative(says.result(revision), 1)
		}, m.Result)
	default:
		return g.fits(method+" result", revision, func(revision string) map[string]any {
			return alternative(says.result(revision), 0)
		}, m.Result)
	}
}

// alternative picks one of a union, if that is what the schema is.
func alternative(schema map[string]any, i int) map[string]any {
	if union, ok := schema["anyOf"].([]any); ok {
		return union[i].(map[string]any)
	}
	return schema
}

// extended reports whether a method is that of an extension, whose schema is not in the specification's.
func extended(method string) bool {
	return strings.HasPrefix(method, "tasks/") || method == "notifications/tasks"
}

// failed judges an error. Who cannot tell which request it answers says null, by JSON-RPC 2.0 section 5; by the schema
// an ID is a string or a number, and may be left out from 2025-11-25 on.
func (g *grammar) failed(revision string, m *envelope) error {
	if m.ID != nil && string(m.ID) != "null" && !isID(m.ID) {
		return fmt.Errorf("id is %s", m.ID)
	}
	of := revision
	if of == "" {
		of = Revisions[0] // they say the same of an error
	}
	if err := g.fits("error", of, g.errors[""], m.Error); err != nil {
		return err
	}
	var e struct {
		Code int             `json:"code"`
		Data json.RawMessage `json:"data"`
	}
	if err := json.Unmarshal(m.Error, &e); err != nil {
		return err
	}
	code := fmt.Sprint(e.Code)
	if data := g.errors[code]; data != nil && revision != "" && data(revision) != nil {
		if e.Data == nil {
			return fmt.Errorf("error %s without data", code)
		}
		return g.fits("error "+code, revision, data, e.Data)
	}
	return nil
}

// id is a string, or an integer of any size: by way of float64 a large one would look like another.
var id = regexp.MustCompile(`^("(.|\s)*"|-?[0-9]+(\.0+)?)$`)

func isID(text json.RawMessage) bool { return id.Match(text) }

func (g *grammar) find(revision string, from Side, method string) *message {
	for i := range g.messages {
		m := &g.messages[i]
		if m.method == method && (m.client && from == Client || m.server && from == Server) && m.exists(revision) {
			return m
		}
	}
	return nil
}

// patterns are what the formats of the schema mean, as far as they can be wrong here: a validator need not look at a
// format, and ours does not.
var patterns = map[string]string{
	"uri":  `^[A-Za-z][A-Za-z0-9+.-]*:\S*$`, // characters beyond ASCII are for the program that made the URI
	"byte": `^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$`,
}

// compiled holds schemas that have been used, by revision and name. Tests of one process share them.
var compiled sync.Map

// fits judges a value by a shape, which has that name.
func (g *grammar) fits(name, revision string, s shape, text json.RawMessage) error {
	key := revision + " " + name
	schema, ok := compiled.Load(key)
	if !ok {
		r, err := compile(s(revision))
		if err != nil {
			return fmt.Errorf("mcp.schema: %s: %w", key, err)
		}
		schema, _ = compiled.LoadOrStore(key, r)
	}
	var value any
	if err := json.Unmarshal(text, &value); err != nil {
		return err
	}
	if err := schema.(*jsonschema.Resolved).Validate(value); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

func compile(schema map[string]any) (*jsonschema.Resolved, error) {
	text, err := json.Marshal(formatted(schema))
	if err != nil {
		return nil, err
	}
	var s jsonschema.Schema
	if err := json.Unmarshal(text, &s); err != nil {
		return nil, err
	}
	return s.Resolve(nil)
}

// formatted copies a schema and has its formats looked at.
func formatted(v any) any {
	switch v := v.(type) {
	case map[string]any:
		c := map[string]any{}
		for name, e := range v {
			c[name] = formatted(e)
		}
		if f, ok := v["format"].(string); ok && patterns[f] != "" {
			c["pattern"] = patterns[f]
		}
		return c
	case []any:
		c := make([]any, len(v))
		for i, e := range v {
			c[i] = formatted(e)
		}
		return c
	}
	return v
}
