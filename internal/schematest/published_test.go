package schematest

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestPublished compares our notation with the schema that the specification publishes, revision by revision. The
// directory is one of schema/REVISION/schema.json, as in a clone of the specification's repository, or of REVISION.json,
// as in the source package of the Python SDK, which is how CI gets the two newest ones at a pinned version: no package
// registry has the others, so compare all five by hand when mcp.schema changes:
//
//	SLUICE_TEST_SCHEMAS=/path/to/modelcontextprotocol go test -run Published ./internal/schematest
func TestPublished(t *testing.T) {
	t.Parallel()
	dir := os.Getenv("SLUICE_TEST_SCHEMAS")
	if dir == "" {
		t.Skip("SLUICE_TEST_SCHEMAS does not say where the published schemas are")
	}
	g, err := read()
	if err != nil {
		t.Fatal(err)
	}
	compared := 0
	for _, revision := range Revisions {
		text, err := os.ReadFile(filepath.Join(dir, "schema", revision, "schema.json"))
		if err != nil {
			text, err = os.ReadFile(filepath.Join(dir, revision+".json"))
		}
		if err != nil {
			t.Logf("no schema of %s there", revision)
			continue
		}
		compared++
		t.Run(revision, func(t *testing.T) {
			t.Parallel()
			p := published(t, text)
			for _, m := range unspoken {
				delete(p.methods, m)
			}
			ours := map[string]any{}
			for _, m := range g.messages {
				if !m.exists(revision) {
					continue
				}
				says := map[string]any{"params": canonical(m.params(revision), nil), "optional": m.optional, "client": m.client, "server": m.server}
				if m.result != nil {
					says["result"] = canonical(m.result(revision), nil)
				}
				ours[m.method] = says
			}
			for code, data := range g.errors {
				if data(revision) == nil {
					continue
				}
				ours["error "+code] = canonical(data(revision), nil)
			}
			if diff := cmp.Diff(facts("", p.methods), facts("", ours)); diff != "" {
				t.Errorf("mcp.schema differs from what is published (-published +ours):\n%s", diff)
			}
		})
	}
	if compared == 0 {
		t.Errorf("%s has no schemas", dir)
	}
}

// unspoken are methods that no part of this project speaks: the experimental tasks of 2025-11-25.
var unspoken = []string{"tasks/get", "tasks/result", "tasks/cancel", "tasks/list", "notifications/tasks/status"}

// A document is a published schema.
type document struct {
	defs    map[string]any
	methods map[string]any
}

func published(t *testing.T, text []byte) *document {
	t.Helper()
	var top map[string]any
	if err := json.Unmarshal(text, &top); err != nil {
		t.Fatal(err)
	}
	d := &document{methods: map[string]any{}}
	for _, key := range []string{"definitions", "$defs"} {
		if defs, ok := top[key].(map[string]any); ok {
			d.defs = defs
		}
	}
	d.correct()
	for _, name := range slices.Sorted(maps.Keys(d.defs)) {
		members, _ := d.defs[name].(map[string]any)["properties"].(map[string]any)
		method, _ := members["method"].(map[string]any)
		if method["const"] == nil || strings.HasPrefix(name, "Client") || strings.HasPrefix(name, "Server") { // a union of one
			continue
		}
		d.add(name, method["const"].(string), members)
	}
	d.addErrors()
	return d
}

// addErrors notes the form of errors, and of the data of those that must have some.
func (d *document) addErrors() {
	for _, name := range slices.Sorted(maps.Keys(d.defs)) {
		members, _ := d.defs[name].(map[string]any)["properties"].(map[string]any)
		if members["error"] == nil {
			continue
		}
		parts, special := members["error"].(map[string]any)["allOf"].([]any)
		if !special {
			d.methods["error "] = canonical(members["error"], d.defs)
			continue
		}
		own := parts[1].(map[string]any)["properties"].(map[string]any)
		if own["data"] != nil {
			code := own["code"].(map[string]any)["const"].(float64)
			d.methods[fmt.Sprintf("error %.0f", code)] = canonical(own["data"], d.defs)
		}
	}
}

// sends reports whether a side is said to send a message of that type.
func (d *document) sends(side, name string) bool {
	for _, kind := range []string{"Request", "Notification"} {
		union, ok := d.defs[side+kind].(map[string]any)
		if !ok {
			continue
		}
		parts, ok := union["anyOf"].([]any)
		if !ok {
			parts = []any{union} // a union of one is written out
		}
		for _, part := range parts {
			if part, _ := part.(map[string]any); part["$ref"] != nil {
				if strings.HasSuffix(part["$ref"].(string), "/"+name) {
					return true
				}
			} else if cmp.Equal(part["properties"], d.defs[name].(map[string]any)["properties"]) {
				return true
			}
		}
	}
	return false
}

// correct removes what is wrong with schema.json: it is made from schema.ts, and where that says number, or any JSON
// value, some editions say integer, or any but null and fractions.
func (d *document) correct() {
	if d.defs["JSONValue"] != nil {
		d.defs["JSONValue"] = map[string]any{}
	}
	if s, ok := d.defs["ElicitResult"].(map[string]any); ok {
		values := s["properties"].(map[string]any)["content"].(map[string]any)["additionalProperties"].(map[string]any)
		kinds := values
		if union, ok := values["anyOf"].([]any); ok {
			kinds = union[1].(map[string]any)
		}
		kinds["type"] = []any{"string", "number", "boolean"}
	}
	if s, ok := d.defs["NumberSchema"].(map[string]any); ok {
		for _, name := range []string{"default", "minimum", "maximum"} {
			if m, ok := s["properties"].(map[string]any)[name].(map[string]any); ok {
				m["type"] = "number"
			}
		}
	}
}

// add notes what is said of a method.
func (d *document) add(name, method string, members map[string]any) {
	base, notification := strings.CutSuffix(name, "Notification")
	base = strings.TrimSuffix(base, "Request")
	def := d.defs[name].(map[string]any)
	required, _ := def["required"].([]any)
	says := map[string]any{
		"optional": !slices.Contains(required, any("params")),
		"client":   d.sends("Client", name), "server": d.sends("Server", name),
	}

	params := canonical(members["params"], d.defs)
	// The older revisions say once, of all requests and of all notifications, what _meta is.
	kind := "JSONRPCRequest"
	if notification {
		kind = "JSONRPCNotification"
	}
	general := d.defs[kind].(map[string]any)["properties"].(map[string]any)["params"].(map[string]any)
	if meta, ok := general["properties"].(map[string]any); ok {
		if params["properties"] == nil {
			params["properties"] = map[string]any{}
		}
		params["properties"].(map[string]any)["_meta"] = canonical(meta["_meta"], d.defs)
	}
	says["params"] = params

	if !notification {
		var result any
		if response, ok := d.defs[base+"ResultResponse"].(map[string]any); ok {
			result = response["properties"].(map[string]any)["result"]
		} else if d.defs[base+"Result"] != nil {
			result = d.defs[base+"Result"]
		} else {
			result = d.defs["Result"] // ping, subscribe, and others whose result is empty
		}
		if members["jsonrpc"] != nil || d.defs["InputRequest"] == nil {
			says["result"] = canonical(result, d.defs)
		} else {
			return // from 2026-07-28 on these are no messages, but stand in the result of another
		}
	}
	d.methods[method] = says
}

// canonical brings a schema into the one form of all that mean the same: nothing is referred to, alternatives have one
// order, and what is said by saying nothing is not said.
func canonical(schema any, defs map[string]any) map[string]any {
	s, _ := schema.(map[string]any)
	if ref, ok := s["$ref"].(string); ok {
		return canonical(defs[ref[strings.LastIndex(ref, "/")+1:]], defs)
	}
	if kinds, ok := s["type"].([]any); ok {
		union := []any{}
		for _, kind := range kinds {
			union = append(union, map[string]any{"type": kind})
		}
		return canonical(map[string]any{"anyOf": union}, defs)
	}
	c := map[string]any{}
	for key, value := range s {
		switch key {
		case "description":
		case "const":
			c["enum"] = []any{value}
		case "anyOf":
			return alternatives(value.([]any), defs)
		case "items":
			c[key] = canonical(value, defs)
		case "additionalProperties":
			if v := canonical(value, defs); len(v) > 0 {
				c[key] = v
			}
		case "properties":
			members := map[string]any{}
			for name, member := range value.(map[string]any) {
				members[name] = canonical(member, defs)
			}
			if len(members) > 0 {
				c[key] = members
			}
		case "required", "enum":
			c[key] = slices.SortedFunc(slices.Values(value.([]any)), byText)
		default:
			c[key] = value
		}
	}
	if c["enum"] != nil {
		delete(c, "type")
	}
	return c
}

func byText(a, b any) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) }

func alternatives(union []any, defs map[string]any) map[string]any {
	var all []any
	for _, s := range union {
		c := canonical(s, defs)
		if inner, ok := c["anyOf"].([]any); ok {
			all = append(all, inner...)
		} else {
			all = append(all, c)
		}
	}
	slices.SortFunc(all, byText)
	all = slices.CompactFunc(all, func(a, b any) bool { return byText(a, b) == 0 })
	return map[string]any{"anyOf": all}
}

// facts lists what a canonical schema says, one by one, so that a difference can be read.
func facts(path string, v any) []string {
	var all []string
	switch v := v.(type) {
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(v)) {
			all = append(all, facts(path+"/"+name, v[name])...)
		}
	case []any:
		for i, e := range v {
			all = append(all, facts(fmt.Sprintf("%s/%d", path, i), e)...)
		}
	}
	if all == nil {
		all = append(all, fmt.Sprintf("%s = %v", path, v))
	}
	return all
}
