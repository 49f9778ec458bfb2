package schematest

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// A shape gives the JSON Schema of a type in a revision, or nil if the type does not exist there.
type shape func(revision string) map[string]any

// A message is one that may be sent: a request with its result, or a notification.
type message struct {
	client, server bool // who may send it
	method         string
	params         shape
	optional       bool  // the params may be missing
	result         shape // nil for a notification
}

// exists says whether the revision has the message.
func (m *message) exists(revision string) bool {
	return m.params(revision) != nil && (m.result == nil || m.result(revision) != nil)
}

// A grammar is what mcp.schema says.
type grammar struct {
	types    map[string]shape
	messages []message
	errors   map[string]shape // by code; "" is the error itself, the others are its data
}

// A parser reads the notation, which mcp.schema explains at its top. White space and commas only separate.
type parser struct {
	*grammar
	tokens []string
	used   map[string]bool // names of types, to find those that nobody defines
	err    error           // the first; there are no tokens after it
}

var token = regexp.MustCompile(`#[^\n]*|"[^"]*"|->|\.\.|[\w$/-]+|[^\s,]`)

func parse(text string) (*grammar, error) {
	p := &parser{grammar: &grammar{types: map[string]shape{}, errors: map[string]shape{}}, used: map[string]bool{}}
	for _, t := range token.FindAllString(text, -1) {
		if !strings.HasPrefix(t, "#") {
			p.tokens = append(p.tokens, t)
		}
	}
	for len(p.tokens) > 0 {
		p.statement()
	}
	if p.err != nil {
		return nil, p.err
	}
	for name := range p.used {
		if p.types[name] == nil {
			return nil, fmt.Errorf("mcp.schema: no type is called %s", name)
		}
	}
	return p.grammar, nil
}

func (p *parser) peek() string {
	if len(p.tokens) == 0 {
		return ""
	}
	return p.tokens[0]
}

func (p *parser) next() string {
	t := p.peek()
	p.tokens = p.tokens[min(1, len(p.tokens)):]
	return t
}

// fail ends the text where it is wrong.
func (p *parser) fail(format string, args ...any) {
	if p.err == nil {
		rest := strings.Join(p.tokens[:min(len(p.tokens), 8)], " ")
		p.err = fmt.Errorf("mcp.schema: %s, before: %s", fmt.Sprintf(format, args...), rest)
	}
	p.tokens = nil
}

// accept takes the next token if it is the one.
func (p *parser) accept(t string) bool {
	if p.peek() != t {
		return false
	}
	p.next()
	return true
}

func (p *parser) expect(t string) {
	if !p.accept(t) {
		p.fail("want %s", t)
	}
}

func (p *parser) statement() {
	switch first := p.next(); first {
	case "type":
		name := p.next()
		p.expect("=")
		if p.types[name] != nil {
			p.fail("a second type %s", name)
		}
		p.types[name] = p.union()
	case "error":
		code := ""
		if strings.HasPrefix(p.peek(), "-") {
			code = p.next()
		}
		p.errors[code] = p.union()
	case "client", "server", "either":
		request := p.next() == "request"
		m := message{client: first != "server", server: first != "client", method: p.next()}
		if len(p.tokens) > 1 && p.tokens[1] == "?" {
			m.optional = true
			p.tokens = slices.Delete(p.tokens, 1, 2)
		}
		m.params = p.union()
		if request {
			p.expect("->")
			m.result = p.union()
		}
		p.messages = append(p.messages, m)
	default:
		p.fail("no statement begins with %s", first)
	}
}

// union reads alternatives, each with the revisions that have it.
func (p *parser) union() shape {
	var alternatives []shape
	for {
		alternatives = append(alternatives, p.alternative())
		if !p.accept("|") {
			break
		}
	}
	if len(alternatives) == 1 {
		return alternatives[0]
	}
	return func(revision string) map[string]any {
		var words, others []any
		for _, s := range alternatives {
			switch schema := s(revision); {
			case schema == nil:
			case schema["enum"] != nil:
				words = append(words, schema["enum"].([]any)...)
			default:
				others = append(others, schema)
			}
		}
		if words != nil {
			others = append(others, map[string]any{"enum": words})
		}
		switch len(others) {
		case 0:
			return nil
		case 1:
			return others[0].(map[string]any)
		}
		return map[string]any{"anyOf": others}
	}
}

// alternative reads one type and the revisions that have it.
func (p *parser) alternative() shape {
	s := p.single()
	first, last := Revisions[0], Revisions[len(Revisions)-1]
	if p.accept("since") {
		first = p.revision()
	}
	if p.accept("until") {
		last = p.revision()
	}
	return func(revision string) map[string]any {
		if revision < first || revision > last {
			return nil
		}
		return s(revision)
	}
}

func (p *parser) revision() string {
	r := p.next()
	if !slices.Contains(Revisions, r) {
		p.fail("no revision %s", r)
	}
	return r
}

// simple are the types that need no words.
var simple = map[string]map[string]any{
	"any":      {},
	"object":   {"type": "object"},
	"string":   {"type": "string"},
	"integer":  {"type": "integer"},
	"number":   {"type": "number"},
	"boolean":  {"type": "boolean"},
	"natural":  {"type": "integer", "minimum": 0.0},
	"fraction": {"type": "number", "minimum": 0.0, "maximum": 1.0},
	"uri":      {"type": "string", "format": "uri"},
	"template": {"type": "string", "format": "uri-template"},
	"bytes":    {"type": "string", "format": "byte"},
}

func (p *parser) single() shape {
	switch t := p.next(); {
	case t == "{":
		return p.object()
	case t == "(":
		s := p.union()
		p.expect(")")
		return s
	case t == "[":
		return p.array()
	case strings.HasPrefix(t, `"`):
		return constant(map[string]any{"enum": []any{strings.Trim(t, `"`)}})
	case simple[t] != nil:
		return constant(simple[t])
	case t != "" && t[0] >= 'A' && t[0] <= 'Z':
		p.used[t] = true
		return func(revision string) map[string]any { return p.types[t](revision) }
	default:
		p.fail("no type %s", t)
		return constant(nil)
	}
}

func constant(schema map[string]any) shape { return func(string) map[string]any { return schema } }

func (p *parser) array() shape {
	items := p.union()
	p.expect("]")
	most := 0
	if p.accept("to") {
		var err error
		if most, err = strconv.Atoi(p.next()); err != nil {
			p.fail("%v", err)
		}
	}
	return func(revision string) map[string]any {
		schema := map[string]any{"type": "array", "items": items(revision)}
		if most > 0 {
			schema["maxItems"] = float64(most)
		}
		return schema
	}
}

// object reads what stands between braces.
func (p *parser) object() shape {
	var parts []func(revision string, schema map[string]any)
	for !p.accept("}") && p.err == nil {
		name := strings.Trim(p.next(), `"`)
		switch {
		case name == "..":
			base := p.alternative()
			parts = append(parts, func(revision string, schema map[string]any) { inherit(schema, base(revision)) })
		case name == "*":
			p.expect(":")
			values := p.union()
			parts = append(parts, func(revision string, schema map[string]any) { schema["additionalProperties"] = values(revision) })
		default:
			optional := p.accept("?")
			p.expect(":")
			value := p.union()
			parts = append(parts, func(revision string, schema map[string]any) {
				if v := value(revision); v != nil {
					member(schema, name, v, optional)
				}
			})
		}
	}
	return func(revision string) map[string]any {
		schema := map[string]any{"type": "object", "properties": map[string]any{}}
		for _, part := range parts {
			part(revision, schema)
		}
		return schema
	}
}

func member(object map[string]any, name string, value any, optional bool) {
	object["properties"].(map[string]any)[name] = value
	if !optional {
		required, _ := object["required"].([]any)
		object["required"] = append(required, name)
	}
}

func inherit(object, base map[string]any) {
	required, _ := base["required"].([]any)
	members, _ := base["properties"].(map[string]any)
	for name, value := range members {
		member(object, name, value, !slices.Contains(required, any(name)))
	}
}
