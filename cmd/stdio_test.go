package cmd_test

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
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

func (p *process) send(s string) {
	p.t.Helper()
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
