package stateless_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice"
	"github.com/sluice-mcp/sluice/internal/schematest"
)

// asker is a tool that asks for what is in asks and then says what it got.
type asker struct {
	asks  mcp.InputRequestMap
	state string
}

func (a *asker) serve(_ context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	if len(req.Params.InputResponses) == 0 && req.Params.RequestState == "" {
		return &mcp.CallToolResult{InputRequests: a.asks, RequestState: a.state}, nil
	}
	var got []string
	for key, r := range req.Params.InputResponses {
		if e, ok := r.(*mcp.ElicitResult); ok {
			got = append(got, fmt.Sprint(key, " ", e.Action, " ", e.Content["name"]))
			continue
		}
		got = append(got, fmt.Sprintf("%s %T", key, r))
	}
	text := "state " + req.Params.RequestState + ", " + strings.Join(got, ", ")
	return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: text}}}, nil
}

func (a *asker) handler(t *testing.T, opts *sluice.Options) *sluice.Handler {
	t.Helper()
	server := mcp.NewServer(&mcp.Implementation{Name: "asker", Version: "1"}, nil)
	for _, name := range []string{"ask", "ask2"} {
		server.AddTool(&mcp.Tool{Name: name, InputSchema: json.RawMessage(`{"type":"object"}`)}, a.serve)
	}
	h := sluice.NewHandler(func(*http.Request) *mcp.Server { return server }, opts)
	t.Cleanup(func() { _ = h.Close() })
	return h
}

type modernReply struct {
	Status int
	Result struct {
		ResultType    string
		RequestState  *string
		InputRequests map[string]json.RawMessage
		Content       []struct{ Text string }
	}
	Error *struct {
		Code    int
		Message string
		Data    json.RawMessage
	}
}

// ask sends one tools/call of 2026-07-28. params are members of params beside name and _meta.
func ask(t *testing.T, h http.Handler, tool, caps string, params map[string]any, header ...string) modernReply {
	t.Helper()
	all := map[string]any{"name": tool, "_meta": map[string]any{
		"io.modelcontextprotocol/protocolVersion":    "2026-07-28",
		"io.modelcontextprotocol/clientInfo":         map[string]any{"name": "test", "version": "1"},
		"io.modelcontextprotocol/clientCapabilities": json.RawMessage(caps),
	}}
	maps.Copy(all, params)
	body, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": all})
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest(http.MethodPost, "http://localhost/mcp", bytes.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json, text/event-stream")
	r.Header.Set("MCP-Protocol-Version", "2026-07-28")
	r.Header.Set("Mcp-Method", "tools/call")
	r.Header.Set("Mcp-Name", tool)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	schematest.Watch(t, h).ServeHTTP(w, r)
	reply := modernReply{Status: w.Code}
	answer := w.Body.Bytes()
	if err := json.NewDecoder(bytes.NewReader(answer[max(0, bytes.IndexByte(answer, '{')):])).Decode(&reply); err != nil {
		t.Fatalf("%d %s: %v", w.Code, w.Body, err)
	}
	if w.Header().Get("Content-Type") == "text/event-stream" && reply.Error != nil {
		reply.Status = http.StatusBadRequest // on a busy machine the answer may come as an event, when the status has been sent
	}
	return reply
}

const everyCapability = `{"elicitation":{"form":{},"url":{}},"sampling":{"tools":{}},"roots":{}}`

var nameSchema = json.RawMessage(`{"type":"object","properties":{"name":{"type":"string","minLength":2},"age":{"type":"integer","minimum":0}},"required":["name"]}`)

func TestInputsAreAskedOnlyOfThoseWhoCan(t *testing.T) {
	t.Parallel()
	form, url := &mcp.ElicitParams{Message: "?", RequestedSchema: nameSchema}, &mcp.ElicitParams{Mode: "url", Message: "?", URL: "https://example.com", ElicitationID: "1"}
	withTools := &mcp.CreateMessageWithToolsParams{Tools: []*mcp.Tool{{Name: "x", InputSchema: map[string]any{"type": "object"}}}}
	for _, c := range []struct {
		name string
		asks mcp.InputRequest
		caps string
		need string // the missing capabilities, or "" if it may be asked
	}{
		{"form", form, `{"elicitation":{"form":{}}}`, ""},
		{"form, of a client that says only elicitation", form, `{"elicitation":{}}`, ""},
		{"form, of nobody", form, `{}`, `{"elicitation":{}}`},
		{"form, of a client of URLs", form, `{"elicitation":{"url":{}}}`, `{"elicitation":{"form":{}}}`},
		{"url", url, `{"elicitation":{"url":{}}}`, ""},
		{"url, of a client of forms", url, `{"elicitation":{"form":{}}}`, `{"elicitation":{"url":{}}}`},
		{"url, of a client that says only elicitation", url, `{"elicitation":{}}`, `{"elicitation":{"url":{}}}`},
		{"sampling", &mcp.CreateMessageParams{}, `{"sampling":{}}`, ""},
		{"sampling, of nobody", &mcp.CreateMessageParams{}, `{"elicitation":{}}`, `{"sampling":{}}`},
		{"sampling with tools", withTools, `{"sampling":{"tools":{}}}`, ""},
		{"sampling with tools, of a client without", withTools, `{"sampling":{}}`, `{"sampling":{"tools":{}}}`},
		{"sampling as if with tools", &mcp.CreateMessageWithToolsParams{}, `{"sampling":{}}`, ""},
		{"url whose mode goes without saying", &mcp.ElicitParams{Message: "?", URL: "https://example.com"}, `{"elicitation":{"form":{}}}`, `{"elicitation":{"url":{}}}`},
		{"roots", &mcp.ListRootsParams{}, `{"roots":{}}`, ""},
		{"roots, of nobody", &mcp.ListRootsParams{}, `{"sampling":{}}`, `{"roots":{}}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := (&asker{asks: mcp.InputRequestMap{"k": c.asks}, state: "s"}).handler(t, nil)
			got := ask(t, h, "ask", c.caps, nil)
			if c.need == "" {
				if got.Error != nil || got.Result.ResultType != "input_required" || got.Result.RequestState == nil || got.Result.InputRequests["k"] == nil {
					t.Errorf("%+v", got)
				}
				return
			}
			if want := `{"requiredCapabilities":` + c.need + `}`; got.Error == nil || got.Status != 400 || got.Error.Code != -32021 || string(got.Error.Data) != want {
				t.Errorf("%+v, want data %s", got.Error, want)
			}
		})
	}
}

func TestInputsAreChecked(t *testing.T) {
	t.Parallel()
	h := (&asker{asks: mcp.InputRequestMap{"who": &mcp.ElicitParams{Message: "?", RequestedSchema: nameSchema}, "where": &mcp.ListRootsParams{}}, state: "step"}).handler(t, nil)
	first := ask(t, h, "ask", everyCapability, nil)
	if first.Result.RequestState == nil {
		t.Fatalf("%+v", first)
	}
	for _, c := range []struct {
		name, responses string
		want            string // what the tool says; "" if the answer must be refused
	}{
		{"good", `{"who":{"action":"accept","content":{"name":"Ada","age":36}}}`, "state step, who accept Ada"},
		{"declined", `{"who":{"action":"decline"}}`, "state step, who decline <nil>"},
		{"cancelled", `{"who":{"action":"cancel","content":{"name":1}}}`, "state step, who cancel 1"},
		{"only another", `{"where":{"roots":[]}}`, "state step, where *mcp.ListRootsResult"},
		{"none", `{}`, "state step, "},
		{"required member missing", `{"who":{"action":"accept","content":{"age":1}}}`, ""},
		{"wrong type", `{"who":{"action":"accept","content":{"name":7}}}`, ""},
		{"too short", `{"who":{"action":"accept","content":{"name":"A"}}}`, ""},
		{"out of range", `{"who":{"action":"accept","content":{"name":"Ada","age":-1}}}`, ""},
		{"fraction for an integer", `{"who":{"action":"accept","content":{"name":"Ada","age":1.5}}}`, ""},
		{"no content", `{"who":{"action":"accept"}}`, ""},
		{"null content", `{"who":{"action":"accept","content":null}}`, ""},
		{"content is an array", `{"who":{"action":"accept","content":["Ada"]}}`, ""},
		{"no action", `{"who":{"content":{"name":"Ada"}}}`, ""},
		{"another action", `{"who":{"action":"Accept","content":{"name":"Ada"}}}`, ""},
		{"action is no text", `{"who":{"action":1}}`, ""},
		{"not an object", `{"who":"accept"}`, ""},
		{"null", `{"who":null}`, ""},
		{"responses are an array", `[]`, ""},
		{"two actions, one to pass and one to use", `{"who":{"action":"accept","content":{"name":7},"ACTION":"decline"}}`, "state step, who decline 7"},
		{"two contents, one to use and one to pass", `{"who":{"action":"accept","content":{"name":7},"CONTENT":{"name":"Ada"}}}`, "state step, who accept Ada"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got := ask(t, h, "ask", everyCapability, map[string]any{"requestState": *first.Result.RequestState, "inputResponses": json.RawMessage(c.responses)})
			switch {
			case c.want == "":
				if got.Error == nil || got.Error.Code != -32602 || got.Status != 400 {
					t.Errorf("%+v", got)
				}
			case got.Error != nil:
				t.Errorf("%+v", got.Error)
			case got.Result.Content[0].Text != c.want:
				t.Errorf("the tool says %q, want %q", got.Result.Content[0].Text, c.want)
			}
		})
	}
}

func TestStateComesBackOnlyWhereItWasGiven(t *testing.T) {
	t.Parallel()
	principal := func(r *http.Request) string { return r.Header.Get("X-User") }
	h := (&asker{asks: mcp.InputRequestMap{"who": &mcp.ElicitParams{Message: "?", RequestedSchema: nameSchema}}, state: "step"}).handler(t, &sluice.Options{Principal: principal})
	args := map[string]any{"a": 1, "b": 2}
	first := ask(t, h, "ask", everyCapability, map[string]any{"arguments": args}, "X-User", "alice")
	if first.Result.RequestState == nil {
		t.Fatalf("%+v", first)
	}
	state := *first.Result.RequestState
	if strings.Contains(state, "step") {
		t.Error("the client can read the state")
	}
	good := json.RawMessage(`{"who":{"action":"accept","content":{"name":"Ada"}}}`)
	for _, c := range []struct {
		name, user, tool string
		params           map[string]any
		want             bool
	}{
		{"as given", "alice", "ask", map[string]any{"arguments": args, "requestState": state, "inputResponses": good}, true},
		{"once more", "alice", "ask", map[string]any{"arguments": json.RawMessage(`{"b":2, "a":1}`), "requestState": state, "inputResponses": good}, true},
		{"another user", "bob", "ask", map[string]any{"arguments": args, "requestState": state, "inputResponses": good}, false},
		{"another tool", "alice", "ask2", map[string]any{"arguments": args, "requestState": state, "inputResponses": good}, false},
		{"other arguments", "alice", "ask", map[string]any{"arguments": map[string]any{"a": 1}, "requestState": state, "inputResponses": good}, false},
		{"made up", "alice", "ask", map[string]any{"arguments": args, "requestState": "step", "inputResponses": good}, false},
		{"empty", "alice", "ask", map[string]any{"arguments": args, "requestState": "", "inputResponses": good}, false},
		{"not a text", "alice", "ask", map[string]any{"arguments": args, "requestState": 7, "inputResponses": good}, false},
		{"an object", "alice", "ask", map[string]any{"arguments": args, "requestState": map[string]any{"s": "step"}, "inputResponses": good}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got := ask(t, h, c.tool, everyCapability, c.params, "X-User", c.user)
			if c.want {
				if got.Error != nil || !strings.HasPrefix(got.Result.Content[0].Text, "state step, ") {
					t.Errorf("%+v", got)
				}
			} else if got.Error == nil || got.Error.Code != -32602 || got.Status != 400 {
				t.Errorf("%+v", got)
			}
		})
	}
}

// Leaving the state out is no way around the check of what was asked for.
func TestInputsWithoutTheirState(t *testing.T) {
	t.Parallel()
	h := (&asker{asks: mcp.InputRequestMap{"who": &mcp.ElicitParams{Message: "?", RequestedSchema: nameSchema}}, state: "step"}).handler(t, nil)
	for responses, want := range map[string]string{
		`{"who":{"action":"accept","content":{"name":"Ada"}}}`:     "state step, who accept Ada",
		`{"who":{"action":"decline","content":{"name":7}}}`:        "state step, who decline 7",
		`{"who":{"action":"accept","content":{"name":7}}}`:         "",
		`{"who":{"ACTION":"accept","content":{"name":7}}}`:         "",
		`{"who":{"\u0061ction":"accept"}}`:                         "",
		`{"\u0077ho":{"action":"accept","content":{"name":7}}}`:    "",
		`{"who":{"action":"accept","content":{}},"who2":{}}`:       "",
		`{"who":{"action":"accept","content":{"name":"A","x":1}}}`: "",
		`{"who":7}`: "",
	} {
		for name, params := range map[string]map[string]any{
			"absent": {"inputResponses": json.RawMessage(responses)},
			"null":   {"inputResponses": json.RawMessage(responses), "requestState": nil},
		} {
			got := ask(t, h, "ask", everyCapability, params)
			switch {
			case want == "" && (got.Error == nil || got.Error.Code != -32602 || got.Status != 400):
				t.Errorf("%s with state %s: %+v", responses, name, got)
			case want != "" && (got.Error != nil || len(got.Result.Content) == 0 || got.Result.Content[0].Text != want):
				t.Errorf("%s with state %s: %+v", responses, name, got)
			}
		}
	}
}

// A state that a handler of a stateless server keeps at its client does not last for ever.
func TestStateExpires(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := (&asker{asks: mcp.InputRequestMap{"where": &mcp.ListRootsParams{}}, state: "step"}).handler(t, &sluice.Options{StateTTL: time.Minute})
		state := ask(t, h, "ask", everyCapability, nil).Result.RequestState
		if state == nil {
			t.Fatal("no state")
		}
		again := map[string]any{"requestState": *state, "inputResponses": json.RawMessage(`{"where":{"roots":[]}}`)}
		time.Sleep(59 * time.Second)
		if got := ask(t, h, "ask", everyCapability, again); got.Error != nil {
			t.Errorf("after 59 s: %+v", got.Error)
		}
		time.Sleep(2 * time.Second)
		if got := ask(t, h, "ask", everyCapability, again); got.Error == nil || got.Error.Code != -32602 {
			t.Errorf("after 61 s: %+v", got)
		}
		_ = h.Close()
		time.Sleep(time.Minute) // what waits for work goes home
	})
}
