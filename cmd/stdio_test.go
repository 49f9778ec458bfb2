package cmd_test

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/sluice-mcp/sluice/internal/schematest"
)

const hello = `{"jsonrpc":"2.0","id":"hello","method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}
{"jsonrpc":"2.0","method":"notifications/initialized"}
`

func toolCall(id int, tool, args string) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":%q,"arguments":%s,"_meta":{"progressToken":%d}}}`+"\n", id, tool, args, id)
}

// messages parses standard output, every line of which must be a message, and returns the responses by request ID.
func (p *process) messages() map[string]string {
	p.t.Helper()
	responses := map[string]string{}
	for line := range strings.Lines(p.stdout.String()) {
		var msg struct {
			JSONRPC string
			ID      json.RawMessage
			Method  string
		}
		if err := json.Unmarshal([]byte(line), &msg); err != nil || msg.JSONRPC != "2.0" {
			p.t.Errorf("on standard output: %q", line)
		}
		if msg.Method == "" {
			responses[string(msg.ID)] += line
		}
	}
	return responses
}

// judge fails the test for what the process has answered that is not valid by the schema.
func (p *process) judge() {
	if p.exempt != "" {
		return
	}
	said := schematest.NewConversation(p.t, schematest.Server) // tests send what they like
	for line := range strings.Lines(p.sent) {
		said.Wrote(schematest.Client, []byte(line))
	}
	for line := range strings.Lines(p.stdout.String()) {
		said.Wrote(schematest.Server, []byte(line))
	}
}

func (p *process) send(s string) {
	p.t.Helper()
	p.sent += s
	if _, err := io.WriteString(p.stdin, s); err != nil {
		p.t.Fatal(err)
	}
}

func TestStdioAnswersAfterTheInputEnds(t *testing.T) {
	t.Parallel()
	p := start(t, []string{"MCP_TRANSPORT=stdio", "LOG_LEVEL=debug"}, serverBinary)
	p.send(hello + toolCall(1, "add", `{"a":10,"b":5}`) + toolCall(2, "countdown", `{"from":3,"delay_ms":20}`))
	p.stdin.Close()
	if code := p.wait(patience); code != 0 {
		t.Errorf("exit code %d", code)
	}
	responses := p.messages()
	for id, want := range map[string]string{`"hello"`: "sluice-demo", "1": `"15"`, "2": "Counted down from 3."} {
		if !strings.Contains(responses[id], want) {
			t.Errorf("request %s was answered %q, want %s", id, responses[id], want)
		}
	}
	if !strings.Contains(p.stderr.String(), "serving MCP over stdio") {
		t.Error("no log on standard error")
	}
}

func TestStdioTerminationFinishesCalls(t *testing.T) {
	t.Parallel()
	p := start(t, nil, serverBinary, "--transport=stdio")
	p.send(hello + toolCall(1, "countdown", `{"from":10,"delay_ms":50}`))
	p.until("the first step", func() bool { return strings.Contains(p.stdout.String(), "notifications/progress") })
	p.signal(syscall.SIGTERM)
	if code := p.wait(patience); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if got := p.messages()["1"]; !strings.Contains(got, "Counted down from 10.") {
		t.Errorf("the call was answered %q", got)
	}
}

func TestStdioTerminationIsBounded(t *testing.T) {
	t.Parallel()
	p := start(t, []string{"MCP_SHUTDOWN_GRACE=100ms"}, serverBinary, "--transport=stdio")
	p.send(hello + toolCall(1, "countdown", `{"from":10000,"delay_ms":100}`))
	p.until("the first step", func() bool { return strings.Contains(p.stdout.String(), "notifications/progress") })
	p.signal(syscall.SIGTERM)
	if code := p.wait(patience); code != 1 {
		t.Errorf("exit code %d, want 1: a call was cut off", code)
	}
	p.messages()
}

func TestStdioSurvivesItsTools(t *testing.T) {
	t.Parallel()
	p := start(t, []string{"CMD_TEST_CHILD=1"}, os.Args[0], "--transport=stdio")
	p.send(hello + toolCall(1, "panic", "{}"))
	p.until("the error of a tool that panics", func() bool { return strings.Contains(p.messages()["1"], `"error"`) })
	p.send(toolCall(2, "print", "{}"))
	p.until("the answer of a tool that prints", func() bool { return strings.Contains(p.messages()["2"], `"result"`) })
	p.stdin.Close()
	if code := p.wait(patience); code != 0 {
		t.Errorf("exit code %d", code)
	}
	p.messages()
	for _, want := range []string{"a tool gave up", "stray words"} {
		if n := strings.Count(p.stderr.String(), want); n != 1 {
			t.Errorf("%d lines with %q in the log, want 1", n, want)
		}
	}
}

// What the endpoint makes fit for clients over HTTP, this transport does, too: in a session, and in calls of 2026-07-28.
func TestStdioSaysWhatClientsCanRead(t *testing.T) {
	t.Parallel()
	const meta = `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}`
	p := start(t, []string{"CMD_TEST_CHILD=1"}, os.Args[0], "--transport=stdio")
	p.exempt = "it is asked in two eras on one connection, which no client may"
	p.send(hello)
	p.until("the handshake", func() bool { return p.messages()[`"hello"`] != "" })
	for i, request := range []struct{ method, params, want string }{
		{"tools/list", `{}`, `{"inputSchema":{"type":"object","additionalProperties":false},"name":"list"}`},
		{"tools/list", `{` + meta + `}`, `"outputSchema":{"type":["null","array"],"items":{}}`},
		{"tools/call", `{"name":"list","arguments":{}}`, `"result":{"content":[{"type":"text","text":"[1]"}]}`},
		{"tools/call", `{"name":"list","arguments":{},` + meta + `}`, `"structuredContent":[1]`},
		{"prompts/get", `{"name":"asks"}`, `"code":-32602`},
		{"prompts/get", `{"name":"asks","arguments":{"what":""}}`, `"messages":[]`},
		{"resources/read", `{"uri":"items://caf%C3%A9/1"}`, `"contents":[{"uri":"items://caf%C3%A9/1","text":""}]`},
		{"resources/read", `{"uri":"items://caf%C3%A9/1",` + meta + `}`, `"contents":[{"uri":"items://caf%C3%A9/1","text":""}]`},
	} {
		id := fmt.Sprint(i)
		p.send(`{"jsonrpc":"2.0","id":` + id + `,"method":"` + request.method + `","params":` + request.params + "}\n")
		p.until("an answer", func() bool { return p.messages()[id] != "" })
		if got := p.messages()[id]; !strings.Contains(got, request.want) {
			t.Errorf("%s %s: %s, want %s", request.method, request.params, got, request.want)
		}
	}
	p.stdin.Close()
	if code := p.wait(patience); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// What is no message is answered (JSON-RPC 2.0, 5.1) and is no reason to end.
func TestStdioSurvivesItsClients(t *testing.T) {
	t.Parallel()
	const (
		parse   = "-32700"
		invalid = "-32600"
	)
	for name, tt := range map[string]struct {
		line, id, code string
	}{
		"no JSON":             {"hello", "null", parse},
		"half an object":      {`{"jsonrpc":"2.0",`, "null", parse},
		"two values":          {`{"jsonrpc":"2.0","id":5,"method":"ping"} {}`, "null", parse},
		"byte order mark":     {"\ufeff" + `{"jsonrpc":"2.0","id":5,"method":"ping"}`, "null", parse},
		"not UTF-8":           {"{\"jsonrpc\":\"2.0\",\"id\":5,\"method\":\"p\xffng\"}", "null", parse},
		"NUL":                 {"\x00", "null", parse},
		"nested too deeply":   {strings.Repeat("[", 100000), "null", parse},
		"empty batch":         {"[]", "null", invalid},
		"batch of what":       {`[1,2]`, "null", invalid},
		"batch":               {`[{"jsonrpc":"2.0","id":5,"method":"ping"}]`, "null", invalid},
		"string":              {`"hello"`, "null", invalid},
		"number":              {"1", "null", invalid},
		"null":                {"null", "null", invalid},
		"true":                {"true", "null", invalid},
		"empty object":        {"{}", "null", invalid},
		"no jsonrpc":          {`{"id":5,"method":"ping"}`, "5", invalid},
		"other jsonrpc":       {`{"jsonrpc":"1.0","id":5,"method":"ping"}`, "5", invalid},
		"number as jsonrpc":   {`{"jsonrpc":2.0,"id":"five","method":"ping"}`, `"five"`, invalid},
		"number as method":    {`{"jsonrpc":"2.0","id":5,"method":1}`, "5", invalid},
		"array as params":     {`{"jsonrpc":"2.0","id":5,"method":"ping","params":[1]}`, "5", invalid},
		"null as ID":          {`{"jsonrpc":"2.0","id":null,"method":"ping"}`, "null", invalid},
		"object as ID":        {`{"jsonrpc":"2.0","id":{},"method":"ping"}`, "null", invalid},
		"fraction as ID":      {`{"jsonrpc":"2.0","id":1.5,"method":"ping"}`, "null", invalid},
		"result and error":    {`{"jsonrpc":"2.0","id":5,"result":{},"error":{"code":1,"message":"x"}}`, "5", invalid},
		"error without code":  {`{"jsonrpc":"2.0","id":5,"error":{"message":"x"}}`, "5", invalid},
		"no such method":      {`{"jsonrpc":"2.0","id":5,"method":"nothing"}`, "5", "-32601"},
		"initialize, no text": {`{"jsonrpc":"2.0","id":5,"method":"initialize","params":{"protocolVersion":7}}`, "5", ""},
		"unknown answer":      {`{"jsonrpc":"2.0","id":99,"result":{}}`, "", ""},
		"unknown error":       {`{"jsonrpc":"2.0","id":"99","error":{"code":-1,"message":"x"}}`, "", ""},
		"unknown notice":      {`{"jsonrpc":"2.0","method":"notifications/nothing"}`, "", ""},
		"cancels nothing":     {`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":12345678901234567890}}`, "", ""},
		"blank":               {" \t ", "", ""},
		"empty":               {"", "", ""},
		"carriage return":     {"\r", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := start(t, nil, serverBinary, "--transport=stdio")
			p.send(hello + tt.line + "\n" + strings.TrimSpace(toolCall(1, "add", `{"a":10,"b":5}`))) // no line end behind the last
			p.stdin.Close()
			if code := p.wait(patience); code != 0 {
				t.Errorf("exit code %d", code)
			}
			responses := p.messages()
			if !strings.Contains(responses["1"], `"15"`) {
				t.Errorf("the call behind it is answered %q", responses["1"])
			}
			delete(responses, "1")
			delete(responses, `"hello"`)
			switch {
			case tt.id == "" && len(responses) > 0:
				t.Errorf("it is answered: %v", responses)
			case tt.id != "" && (len(responses) != 1 || !strings.Contains(responses[tt.id], `"code":`+tt.code)):
				t.Errorf("it is answered %v, want code %s for %s", responses, tt.code, tt.id)
			}
		})
	}
}

// Lines may end as on Windows, and batches are answered as one where there are batches.
func TestStdioBatch(t *testing.T) {
	t.Parallel()
	p := start(t, nil, serverBinary, "--transport=stdio")
	p.send(strings.ReplaceAll(strings.ReplaceAll(hello, "2025-06-18", "2025-03-26"), "\n", "\r\n"))
	p.send(`[{"jsonrpc":"2.0","id":1,"method":"ping"},7,{"jsonrpc":"2.0","method":"notifications/x"},{"jsonrpc":"2.0","id":9007199254740993,"method":"ping"}]` + "\r\n")
	p.send(`[{"jsonrpc":"2.0","method":"notifications/x"}]` + "\r\n")
	p.stdin.Close()
	if code := p.wait(patience); code != 0 {
		t.Errorf("exit code %d", code)
	}
	lines := strings.Split(strings.TrimSpace(p.stdout.String()), "\n")
	var answers []struct {
		ID     json.RawMessage
		Result json.RawMessage
		Error  struct{ Code int }
	}
	if len(lines) != 2 || json.Unmarshal([]byte(lines[1]), &answers) != nil || len(answers) != 3 {
		t.Fatalf("answered %q", lines)
	}
	for _, a := range answers {
		if id := string(a.ID); id == "null" != (a.Error.Code == -32600) || id != "null" && id != "1" && id != "9007199254740993" {
			t.Errorf("answered %q", lines[1])
		}
	}
}

func TestStdioLongLine(t *testing.T) {
	t.Parallel()
	p := start(t, nil, serverBinary, "--transport=stdio")
	p.send(hello + `{"jsonrpc":"2.0","id":5,"method":"` + strings.Repeat("x", 65<<20) + `"}` + "\n" + toolCall(1, "add", `{"a":10,"b":5}`))
	p.stdin.Close()
	if code := p.wait(patience); code != 0 {
		t.Errorf("exit code %d", code)
	}
	responses := p.messages()
	if !strings.Contains(responses["null"], "-32600") || !strings.Contains(responses["1"], `"15"`) {
		t.Errorf("answered %v", responses)
	}
}
