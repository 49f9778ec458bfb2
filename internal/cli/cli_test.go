package cli_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/sluice-mcp/sluice/internal/cli"
)

// A server answers with texts, so that a test decides about every byte. Clients of the newest revision and of older ones are served.
type server struct {
	url     string
	answers map[string]func(w http.ResponseWriter, id, params string) // by method

	mu       sync.Mutex
	received map[string]string // params, by method
}

// result answers with a result.
func result(text string) func(http.ResponseWriter, string, string) {
	return func(w http.ResponseWriter, id, _ string) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":%s}`, id, text)
	}
}

// streamed answers with messages and then a result, as events.
func streamed(text string, before ...string) func(http.ResponseWriter, string, string) {
	return func(w http.ResponseWriter, id, _ string) {
		w.Header().Set("Content-Type", "text/event-stream")
		for _, m := range before {
			fmt.Fprintf(w, "event: message\ndata: %s\n\n", m)
		}
		data := strings.ReplaceAll(fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":%s}`, id, text), "\n", "\ndata: ")
		fmt.Fprintf(w, ": hello\r\nevent: message\r\ndata: %s\r\n\r\n", data)
	}
}

// refusal answers with an error.
func refusal(code int, message string) func(http.ResponseWriter, string, string) {
	return func(w http.ResponseWriter, id, _ string) {
		w.Header().Set("Content-Type", "application/json")
		text, _ := json.Marshal(message)
		fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"error":{"code":%d,"message":%s}}`, id, code, text)
	}
}

// status answers with an HTTP error that is no JSON-RPC.
func status(code int) func(http.ResponseWriter, string, string) {
	return func(w http.ResponseWriter, _, _ string) { http.Error(w, "sorry", code) }
}

const capabilities = `{"tools":{"x":1.10},"resources":{},"prompts":{}}`

func startServer(t *testing.T, modern bool, answers map[string]func(w http.ResponseWriter, id, params string)) *server {
	t.Helper()
	s := &server{answers: answers, received: make(map[string]string)}
	web := httptest.NewServer(s)
	t.Cleanup(web.Close)
	s.url = web.URL
	defaults := map[string]func(http.ResponseWriter, string, string){
		"server/discover": refusal(-32601, "Method not found"),
		"initialize":      result(`{"protocolVersion":"2025-11-25","capabilities":` + capabilities + `,"serverInfo":{"name":"stub","version":"1"}}`),
		"tools/list":      result(`{"tools":[]}`), "resources/list": result(`{"resources":[]}`), "resources/templates/list": result(`{"resourceTemplates":[]}`),
		"prompts/list": result(`{"prompts":[]}`),
	}
	if modern {
		defaults["server/discover"] = result(`{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":` + capabilities + `,"ttlMs":0,"cacheScope":"private",
			"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"stub","version":"1"}}}`)
	}
	for method, answer := range defaults {
		if s.answers[method] == nil {
			s.answers[method] = answer
		}
	}
	return s
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var m struct {
		ID     json.RawMessage
		Method string
		Params json.RawMessage
	}
	if r.Method != http.MethodPost || json.NewDecoder(r.Body).Decode(&m) != nil {
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	s.mu.Lock()
	s.received[m.Method] = string(m.Params)
	s.mu.Unlock()
	if m.ID == nil || m.Method == "" {
		w.WriteHeader(http.StatusAccepted)
		return
	}
	if answer := s.answers[m.Method]; answer != nil {
		answer(w, string(m.ID), string(m.Params))
		return
	}
	refusal(-32601, "Method not found")(w, string(m.ID), "")
}

// arguments are those of the last call.
func (s *server) arguments(t *testing.T) string {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	var params struct{ Arguments json.RawMessage }
	if err := json.Unmarshal([]byte(s.received["tools/call"]), &params); err != nil {
		t.Fatal(err)
	}
	return string(params.Arguments)
}

func run(t *testing.T, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = cli.Run(args, strings.NewReader(stdin), &out, &errs)
	return code, out.String(), errs.String()
}

func compact(t *testing.T, text string) string {
	t.Helper()
	var b bytes.Buffer
	if err := json.Compact(&b, []byte(text)); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return b.String()
}

func TestAResultKeepsItsDigits(t *testing.T) {
	t.Parallel()
	const structured = `{"z":9007199254740993,"a":[1.10,1e400,-0,1E+2,{"n":123456789012345678901234567890}],"<&>":"ü\u00e9\/","z":1}`
	raw := `{"content":[],"unknown":{"b":1.0,"a":2},
"structuredContent":` + structured + `,"_meta":{"x":9007199254740993}}`
	for name, answer := range map[string]func(http.ResponseWriter, string, string){"JSON": result(raw), "events": streamed(raw)} {
		for _, modern := range []bool{false, true} {
			s := startServer(t, modern, map[string]func(http.ResponseWriter, string, string){"tools/call": answer})
			code, out, errs := run(t, "", "call", s.url, "big", "--json")
			if code != 0 || errs != "" || compact(t, out) != compact(t, raw) || !strings.Contains(out, "\n  \"unknown\"") {
				t.Errorf("%s, modern %v: exit code %d, %s%s", name, modern, code, out, errs)
			}
			code, out, errs = run(t, "", "call", s.url, "big")
			if code != 0 || out != structured+"\n" {
				t.Errorf("%s, modern %v, as text: exit code %d, %s%s", name, modern, code, out, errs)
			}
		}
	}
}

func TestResultsAsText(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{
		`{"content":[{"type":"text","text":"a"},{"type":"text","text":"b"}],"structuredContent":{"x":1}}`: "a\nb\n",
		`{"content":[{"type":"text","text":""}]}`:                                                         "\n",
		`{"content":[{"type":"image","mimeType":"image/png","data":"AAECAw=="}]}`:                         "[image, image/png, 4 bytes: see --json]\n",
		`{"content":[{"type":"audio","mimeType":"audio/wav","data":"AAEC"}]}`:                             "[audio, audio/wav, 3 bytes: see --json]\n",
		`{"content":[{"type":"resource_link","uri":"file:///a","name":"a"}]}`:                             "[resource file:///a]\n",
		`{"content":[{"type":"resource","resource":{"uri":"file:///a","text":"x"}}]}`:                     "x\n",
		`{"content":[{"type":"resource","resource":{"uri":"file:///a","mimeType":"a/b","blob":"AA=="}}]}`: "[resource file:///a, a/b: see --json]\n",
		`{"content":[{"type":"hologram"}]}`:                                                               "[hologram: see --json]\n",
		`{"content":[{"type":"text","text":"\u001b]0;title\u0007a\u009bb\r\n\tc"}]}`:                      "]0;titleab\n\tc\n",
		"{\"content\":[{\"type\":\"text\",\"text\":\"a\u202eb\u2066\"}]}":                                 "ab\n",
		"{\"content\":[],\"structuredContent\":{\"a\":\"\u009b\"}}":                                       "{\"a\":\"\\u009b\"}\n",
	} {
		s := startServer(t, true, map[string]func(http.ResponseWriter, string, string){"tools/call": result(raw)})
		if code, out, errs := run(t, "", "call", s.url, "x"); code != 0 || out != want || errs != "" {
			t.Errorf("%s: exit code %d, %q, %q", raw, code, out, errs)
		}
	}
}

// What a server says is shown, and does nothing else.
func TestNoControlCharactersReachTheTerminal(t *testing.T) {
	t.Parallel()
	const evil = "\x1b[2J\x1b]0;t\x07\u009b\u202e\b\x7f"
	quoted, _ := json.Marshal("x" + evil + "y")
	q := string(quoted)
	progress := `{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"sluice","progress":1,"message":` + q + `}}`
	answers := func(call func(http.ResponseWriter, string, string)) map[string]func(http.ResponseWriter, string, string) {
		return map[string]func(http.ResponseWriter, string, string){
			"tools/call":               call,
			"tools/list":               result(`{"tools":[{"name":` + q + `,"description":` + q + `,"inputSchema":{"type":"object","properties":{` + q + `:{}}}},{"name":` + q + `}]}`),
			"resources/list":           result(`{"resources":[{"name":` + q + `,"uri":` + q + `,"mimeType":` + q + `}]}`),
			"resources/templates/list": refusal(-32603, "x"+evil),
			"prompts/list":             result(`{"prompts":[{"name":` + q + `,"arguments":[{"name":` + q + `}]}]}`),
		}
	}
	elicit := `{"resultType":"input_required","inputRequests":{"a":{"method":"elicitation/create","params":{"mode":"form","message":` + q + `,"requestedSchema":{"type":"object","properties":{"a":{"type":"string","title":` + q + `,"enum":[` + q + `]}}}}}},"requestState":"s"}`
	for name, c := range map[string]struct {
		call  func(http.ResponseWriter, string, string)
		args  []string
		shown string // somewhere
	}{
		"result":         {result(`{"content":[{"type":"text","text":` + q + `}]}`), []string{"call", "URL", "x"}, "x[2J"},
		"failure":        {result(`{"isError":true,"content":[{"type":"text","text":` + q + `}]}`), []string{"call", "URL", "x"}, "x[2J"},
		"progress":       {streamed(`{"content":[]}`, progress), []string{"call", "URL", "x"}, "progress: 1: x[2J"},
		"refusal":        {refusal(-32603, "x"+evil), []string{"call", "URL", "x"}, "x[2J"},
		"HTTP":           {func(w http.ResponseWriter, _, _ string) { http.Error(w, "x"+evil, http.StatusInternalServerError) }, []string{"call", "URL", "x"}, "x[2J"},
		"question":       {result(elicit), []string{"call", "URL", "x"}, "asks: x[2J"},
		"inspect":        {nil, []string{"inspect", "URL"}, "x[2J"},
		"JSON":           {result(`{"content":[{"type":"text","text":` + q + `}]}`), []string{"call", "URL", "x", "--json"}, `x\u001b[2J`},
		"inspect --json": {nil, []string{"inspect", "URL", "--json"}, `x\u001b[2J`},
		"completion":     {nil, []string{"__complete", "call", "URL", ""}, "x[2J"},
		"a tool's name":  {refusal(-32602, "no"), []string{"call", "URL", "x" + evil}, "x[2J"},
	} {
		for _, modern := range []bool{true, false} {
			if !modern && name == "question" {
				continue // needs a session's stream; the way to the terminal is the same
			}
			s := startServer(t, modern, answers(c.call))
			args := append([]string(nil), c.args...)
			for i, a := range args {
				if a == "URL" {
					args[i] = s.url
				}
			}
			_, out, errs := run(t, "", args...)
			if !strings.Contains(out+errs, c.shown) {
				t.Errorf("%s: %q is missing in %q %q", name, c.shown, out, errs)
			}
			if bad := regexp.MustCompile("[\x00-\x08\x0b-\x1f\x7f-\u009f\u202a-\u202e\u2066-\u2069]").FindString(out + errs); bad != "" {
				t.Errorf("%s: %q is in %q %q", name, bad, out, errs)
			}
		}
	}
}

func TestInspectShowsWhatThereIs(t *testing.T) {
	t.Parallel()
	good := func(list, items string) func(http.ResponseWriter, string, string) {
		return result(`{"` + list + `":[` + items + `]}`)
	}
	pages := func(list string, more ...string) func(http.ResponseWriter, string, string) {
		return func(w http.ResponseWriter, id, params string) {
			if strings.Contains(params, `"cursor":"2"`) {
				refusal(-32603, "page lost")(w, id, params)
				return
			}
			result(`{"`+list+`":[`+strings.Join(more, ",")+`],"nextCursor":"2"}`)(w, id, params)
		}
	}
	const tool, odd = `{"name":"good","inputSchema":{"type":"object","properties":{"b":{},"a":{"maximum":9007199254740993,"multipleOf":1.10}},"required":["b"]}}`, `{"name":"odd","inputSchema":{"type":"object","maximum":1e400}}`
	const resource, template, prompt = `{"uri":"x://r","name":"r"}`, `{"uriTemplate":"x://{t}","name":"t"}`, `{"name":"p"}`
	type answers = map[string]func(http.ResponseWriter, string, string)
	for name, c := range map[string]struct {
		change  answers
		problem string   // in one line of stderr
		missing []string // of good, x://r, x://{t}, p
	}{
		"all is well":                  {answers{}, "", nil},
		"numbers beyond the SDK":       {answers{"tools/list": good("tools", odd+","+tool)}, "", nil},
		"prompts unknown":              {answers{"prompts/list": refusal(-32601, "Method not found")}, "listing prompts: Method not found", []string{"p"}},
		"tools unknown":                {answers{"tools/list": refusal(-32601, "Method not found")}, "listing tools: Method not found", []string{"good"}},
		"templates fail":               {answers{"resources/templates/list": refusal(-32603, "boom")}, "listing resource templates: boom", []string{"x://{t}"}},
		"resources end the connection": {answers{"resources/list": status(500)}, "listing resources: HTTP 500", []string{"x://r"}},
		"tools without JSON": {answers{"tools/list": func(w http.ResponseWriter, _, _ string) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, "{")
		}}, "listing tools: ", []string{"good"}},
		"tools as a page":              {answers{"tools/list": func(w http.ResponseWriter, _, _ string) { fmt.Fprint(w, "<html>") }}, "listing tools: this is no MCP endpoint", []string{"good"}},
		"no list in the result":        {answers{"tools/list": result(`{}`)}, `listing tools: the result has no array "tools"`, []string{"good"}},
		"another list in the result":   {answers{"prompts/list": result(`{"prompts":{"name":"p"}}`)}, `listing prompts: the result has no array "prompts"`, []string{"p"}},
		"a tool without a name":        {answers{"tools/list": good("tools", `{"inputSchema":{"type":"object"}},`+tool)}, "listing tools: number 1 is malformed: it has no name", nil},
		"a tool's name is a number":    {answers{"tools/list": good("tools", tool+`,{"name":7,"inputSchema":{"type":"object"}}`)}, "listing tools: number 2 is malformed: ", nil},
		"a tool without a schema":      {answers{"tools/list": good("tools", tool+`,{"name":"bad"}`)}, "listing tools: number 2 (bad) is malformed: it has no inputSchema", nil},
		"a schema that is a string":    {answers{"tools/list": good("tools", tool+`,{"name":"bad","inputSchema":"x"}`)}, "(bad) is malformed: inputSchema is not an object", nil},
		"a schema that is null":        {answers{"tools/list": good("tools", tool+`,{"name":"bad","inputSchema":null}`)}, "(bad) is malformed: inputSchema is not an object", nil},
		"a tool that is null":          {answers{"tools/list": good("tools", "null,"+tool)}, "listing tools: number 1 is malformed: it is not an object", nil},
		"a tool that is a string":      {answers{"tools/list": good("tools", `"x",`+tool)}, "number 1 is malformed: it is not an object", nil},
		"annotations that are a list":  {answers{"tools/list": good("tools", tool+`,{"name":"bad","inputSchema":{},"annotations":[]}`)}, "(bad) is malformed: ", nil},
		"a resource without a URI":     {answers{"resources/list": good("resources", resource+`,{"name":"bad"}`)}, "listing resources: number 2 (bad) is malformed: it has no uri", nil},
		"a template without one":       {answers{"resources/templates/list": good("resourceTemplates", template+`,{"name":"bad"}`)}, "(bad) is malformed: it has no uriTemplate", nil},
		"arguments that are an object": {answers{"prompts/list": good("prompts", `{"name":"bad","arguments":{}},`+prompt)}, "listing prompts: number 1 (bad) is malformed: ", nil},
		"the second page is lost":      {answers{"tools/list": pages("tools", tool)}, "listing tools, page 2: page lost", nil},
		"pages in a circle":            {answers{"prompts/list": result(`{"prompts":[` + prompt + `],"nextCursor":"1"}`)}, "listing prompts, page 2: nextCursor leads in a circle", nil},
		"a cursor that is a number":    {answers{"prompts/list": result(`{"prompts":[` + prompt + `],"nextCursor":1}`)}, "listing prompts: nextCursor is not a string", nil},
	} {
		for _, modern := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s %v", name, modern), func(t *testing.T) {
				t.Parallel()
				all := answers{
					"tools/list": good("tools", tool), "resources/list": good("resources", resource),
					"resources/templates/list": good("resourceTemplates", template), "prompts/list": good("prompts", prompt),
				}
				maps.Copy(all, c.change)
				s := startServer(t, modern, all)
				code, out, errs := run(t, "", "inspect", s.url)
				jsonCode, jsonOut, jsonErrs := run(t, "", "inspect", s.url, "--json")
				if want := min(1, len(c.problem)); code != want || jsonCode != want {
					t.Errorf("exit codes %d, %d: %s", code, jsonCode, errs)
				}
				if (errs == "") != (c.problem == "") || !strings.Contains(errs, c.problem) || !strings.Contains(jsonErrs, c.problem) {
					t.Errorf("stderr %q and %q, want %q", errs, jsonErrs, c.problem)
				}
				for _, item := range []string{"good", "x://r", "x://{t}", "p"} {
					missing := false
					for _, m := range c.missing {
						missing = missing || m == item
					}
					if shown := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(item) + ` `).MatchString(out); shown == missing {
						t.Errorf("%s is there: %v\n%s", item, shown, out)
					}
				}
				var offer struct {
					Capabilities json.RawMessage
					Tools        []struct{ InputSchema json.RawMessage }
					Problems     []string
				}
				if err := json.Unmarshal([]byte(jsonOut), &offer); err != nil {
					t.Fatal(err)
				}
				if got := compact(t, string(offer.Capabilities)); got != capabilities {
					t.Errorf("capabilities %s", got)
				}
				if (len(offer.Problems) > 0) != (c.problem != "") {
					t.Errorf("problems %q", offer.Problems)
				}
				if c.missing == nil && !strings.Contains(compact(t, jsonOut), tool) {
					t.Errorf("the tool is not as the server wrote it: %s", jsonOut)
				}
			})
		}
	}
}

// A list that never comes costs its time and no other list.
func TestInspectWaitsForAListNotForEver(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("waits for 15 seconds")
	}
	ended := make(chan struct{})
	defer close(ended)
	s := startServer(t, true, map[string]func(http.ResponseWriter, string, string){
		"tools/list":   func(http.ResponseWriter, string, string) { <-ended },
		"prompts/list": result(`{"prompts":[{"name":"p"}]}`),
	})
	code, out, errs := run(t, "", "inspect", s.url)
	if code != 1 || !strings.Contains(out, "PROMPT") || !strings.Contains(errs, "sluice: listing tools: no answer within 15s\n") {
		t.Errorf("exit code %d\n%s%s", code, out, errs)
	}
}

func TestArguments(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	object := file("object.json", "\uFEFF{\"n\": 9007199254740993,\n \"d\": 1.10}\n")
	text := file("text.txt", "line\n\"quoted\"\n")
	number := file("number", "1e400\n")
	bytes := file("bytes", "\xff\xfe")
	large := file("large.json", `{"text":"`+strings.Repeat("x", 1<<20)+`"}`)
	s := startServer(t, true, map[string]func(http.ResponseWriter, string, string){"tools/call": result(`{"content":[]}`)})
	for _, c := range []struct {
		stdin string
		args  []string
		want  string // the arguments; with "sluice:", the error
	}{
		{"", nil, `{}`},
		{"", []string{`{"z":9007199254740993,"a":1.10,"e":1e400}`}, `{"z":9007199254740993,"a":1.10,"e":1e400}`},
		{"", []string{` {"a":1}`}, `{"a":1}`},
		{"", []string{"@" + object}, `{"n":9007199254740993,"d":1.10}`},
		{`{"n":9007199254740993}`, []string{"-"}, `{"n":9007199254740993}`},
		{`{"n":1}`, []string{"@-"}, `{"n":1}`},
		{"", []string{"x=9007199254740993", "y=1.10", "z=1e400", "b=true", "l=[1.0]", "o={\"a\":1}", "n=null"}, `{"x":9007199254740993,"y":1.10,"z":1e400,"b":true,"l":[1.0],"o":{"a":1},"n":null}`},
		{"", []string{"city=Bern", "s=", "q=\"10\"", "z=007", "u=a=b", "t=two words"}, `{"city":"Bern","s":"","q":"10","z":"007","u":"a=b","t":"two words"}`},
		{"", []string{"x:=9007199254740993"}, `{"x":9007199254740993}`},
		{"", []string{"text=@" + text, "n=@" + number}, `{"text":"line\n\"quoted\"\n","n":"1e400\n"}`},
		{"", []string{"n:=@" + number, "o:=@" + object}, `{"n":1e400,"o":{"n":9007199254740993,"d":1.10}}`},
		{"from\nstdin", []string{"text=@-"}, `{"text":"from\nstdin"}`},

		{"", []string{"[1]"}, `sluice: ARGUMENTS: [1] is not a JSON object such as {"a":10}`},
		{"", []string{"nonsense"}, `sluice: ARGUMENTS: nonsense is not a JSON object such as {"a":10}: invalid character 'o' in literal null`},
		{"", []string{`{"a":`}, `sluice: ARGUMENTS: {"a": is not a JSON object`},
		{"", []string{"null"}, `sluice: ARGUMENTS: null is not a JSON object`},
		{"", []string{"-"}, `sluice: ARGUMENTS: standard input is not a JSON object such as {"a":10}: it is empty`},
		{"[]", []string{"-"}, `sluice: ARGUMENTS: standard input is not a JSON object such as {"a":10}: it is another JSON value`},
		{"", []string{"@" + filepath.Join(dir, "nowhere")}, "sluice: ARGUMENTS: open " + filepath.Join(dir, "nowhere") + ": no such file"},
		{"", []string{"@" + dir}, "sluice: ARGUMENTS: read " + dir + ": is a directory"},
		{"", []string{"@"}, "sluice: ARGUMENTS: open : no such file"},
		{"", []string{"@" + text}, "sluice: ARGUMENTS: file " + text + " is not a JSON object"},
		{"", []string{"{}", "a=1"}, "sluice: ARGUMENTS: {} is all of them; one by one they are written NAME=VALUE"},
		{"", []string{"a=1", "{}"}, "sluice: ARGUMENTS: {} is not of the form NAME=VALUE"},
		{"", []string{"a=1", "a=2"}, "sluice: ARGUMENTS: a is there twice"},
		{"", []string{"=1"}, "sluice: ARGUMENTS: =1 is not of the form NAME=VALUE"},
		{"", []string{"a:=nonsense"}, "sluice: ARGUMENTS: a: nonsense is not JSON"},
		{"", []string{"a:=@" + text}, "sluice: ARGUMENTS: a: file " + text + " is not JSON; without the colon it is taken as text"},
		{"", []string{"a=@" + bytes}, "sluice: ARGUMENTS: a: file " + bytes + " is not UTF-8; bytes need base64"},
		{"", []string{"a=@bob"}, `sluice: ARGUMENTS: a: open bob: no such file or directory; for a text that begins with @ write '"@…"'`},
		{"", []string{"[" + strings.Repeat("1,", 1<<20)}, `sluice: ARGUMENTS: [1,1,1`},
	} {
		code, _, errs := run(t, c.stdin, append([]string{"call", s.url, "x"}, c.args...)...)
		if strings.HasPrefix(c.want, "sluice:") {
			if code != 2 || !strings.HasPrefix(errs, c.want) || len(errs) > 1000 {
				t.Errorf("%.80q: exit code %d, %.1000s", c.args, code, errs)
			}
			continue
		}
		if got := s.arguments(t); code != 0 || got != c.want {
			t.Errorf("%q: exit code %d, %s, want %s %s", c.args, code, got, c.want, errs)
		}
	}
	if code, _, errs := run(t, "", "call", s.url, "x", "@"+large); code != 0 || len(s.arguments(t)) != 1<<20+11 {
		t.Errorf("large: exit code %d, %s", code, errs)
	}
}
