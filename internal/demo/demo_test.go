package demo_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice/internal/demo"
)

// Before and since a call could be answered with a question.
var revisions = []string{"2025-06-18", "2026-07-28"}

func connect(t *testing.T, revision string, opts *mcp.ClientOptions) *mcp.ClientSession {
	t.Helper()
	clientEnd, serverEnd := mcp.NewInMemoryTransports()
	serverSession, err := demo.Server().Connect(t.Context(), serverEnd, nil)
	if err != nil {
		t.Fatal(err)
	}
	client := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "v1"}, opts)
	session, err := client.Connect(t.Context(), clientEnd, &mcp.ClientSessionOptions{ProtocolVersion: revision})
	if err != nil {
		t.Fatal(err)
	}
	if got := session.InitializeResult().ProtocolVersion; got != revision {
		t.Fatalf("negotiated %s, want %s", got, revision)
	}
	t.Cleanup(func() {
		session.Close()
		_ = serverSession.Wait() // however it ended
	})
	return session
}

func call(t *testing.T, session *mcp.ClientSession, tool string, args any) *mcp.CallToolResult {
	t.Helper()
	res, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: tool, Arguments: args})
	if err != nil {
		t.Fatalf("%s(%v): %v", tool, args, err)
	}
	return res
}

func textOf(t *testing.T, res *mcp.CallToolResult) string {
	t.Helper()
	if len(res.Content) != 1 {
		t.Fatalf("%d pieces of content, want 1", len(res.Content))
	}
	text, ok := res.Content[0].(*mcp.TextContent)
	if !ok {
		t.Fatalf("content is a %T, want text", res.Content[0])
	}
	return text.Text
}

func TestAdd(t *testing.T) {
	t.Parallel()
	res := call(t, connect(t, "2025-06-18", nil), "add", map[string]any{"a": 10, "b": 5})
	if got := textOf(t, res); got != "15" || res.IsError {
		t.Errorf("text %q, error %v; want 15 and no error", got, res.IsError)
	}
	if out, _ := res.StructuredContent.(map[string]any); out["result"] != 15.0 {
		t.Errorf("structured content %v, want result 15", res.StructuredContent)
	}
}

func TestBadArguments(t *testing.T) {
	t.Parallel()
	session := connect(t, "2025-06-18", nil)
	for _, test := range []struct {
		name, tool string
		args       map[string]any
		want       string // part of the tool error, so that the caller can correct itself
	}{
		{"wrong type", "add", map[string]any{"a": "ten", "b": 5}, "/properties/a"},
		{"missing", "add", map[string]any{"a": 10}, `"b"`},
		{"none at all", "add", nil, `"a" "b"`},
		{"not whole", "add", map[string]any{"a": 10, "b": 0.5}, "/properties/b"},
		{"null", "add", map[string]any{"a": nil, "b": 5}, "/properties/a"},
		{"unknown", "add", map[string]any{"a": 10, "b": 5, "c": 1}, `"c"`},
		{"too large", "add", map[string]any{"a": 1 << 53, "b": 1}, "a is 9007199254740992"},
		{"too small", "add", map[string]any{"a": 1, "b": -1 << 53}, "b is -9007199254740992"},
		{"far too large", "add", map[string]any{"a": 1e300, "b": 1}, "addInput.a"},
		{"from below zero", "countdown", map[string]any{"from": -1, "delay_ms": 0}, "from is -1"},
		{"from too large", "countdown", map[string]any{"from": 10_001, "delay_ms": 0}, "from is 10001"},
		{"delay below zero", "countdown", map[string]any{"from": 1, "delay_ms": -1}, "delay_ms is -1"},
		{"delay too long", "countdown", map[string]any{"from": 1, "delay_ms": 60_001}, "delay_ms is 60001"},
		{"no steps", "audit", map[string]any{"steps": 0, "delay_ms": 0}, "steps is 0"},
		{"too many steps", "audit", map[string]any{"steps": 10_001, "delay_ms": 0}, "steps is 10001"},
		{"audit too slow", "audit", map[string]any{"steps": 1, "delay_ms": 60_001}, "delay_ms is 60001"},
		{"nobody comes", "book_table", map[string]any{"guests": 0}, "guests is 0"},
		{"too many guests", "book_table", map[string]any{"guests": 21}, "guests is 21"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			res := call(t, session, test.tool, test.args)
			if got := textOf(t, res); !res.IsError || !strings.Contains(got, test.want) {
				t.Errorf("error %v, text %q; want an error with %q", res.IsError, got, test.want)
			}
		})
	}
}

func TestCountdown(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		token any
		want  []float64
	}{
		{"with a token", "abc", []float64{1, 2, 3}},
		{"without", nil, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			var got []float64
			session := connect(t, "2025-06-18", &mcp.ClientOptions{
				ProgressNotificationHandler: func(_ context.Context, req *mcp.ProgressNotificationClientRequest) {
					mu.Lock()
					defer mu.Unlock()
					if req.Params.ProgressToken != test.token || req.Params.Total != 3 {
						t.Errorf("token %v, total %v; want %v and 3", req.Params.ProgressToken, req.Params.Total, test.token)
					}
					got = append(got, req.Params.Progress)
				},
			})
			params := &mcp.CallToolParams{Name: "countdown", Arguments: map[string]any{"from": 3, "delay_ms": 1}}
			if test.token != nil {
				params.SetProgressToken(test.token)
			}
			res, err := session.CallTool(t.Context(), params)
			if err != nil {
				t.Fatal(err)
			}
			if text := textOf(t, res); text != "Counted down from 3." {
				t.Errorf("text %q", text)
			}
			// The SDK's client queues notifications, but not results: the result may
			// overtake them. So wait for as many as are due.
			for range 500 {
				mu.Lock()
				n := len(got)
				mu.Unlock()
				if n >= len(test.want) {
					break
				}
				time.Sleep(2 * time.Millisecond)
			}
			mu.Lock()
			defer mu.Unlock()
			if len(got) != len(test.want) {
				t.Fatalf("progress %v, want %v", got, test.want)
			}
			for i := range got {
				if got[i] != test.want[i] {
					t.Errorf("progress %v, want %v", got, test.want)
				}
			}
		})
	}
}

func TestCountdownStopsWhenCancelled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	session := connect(t, "2025-06-18", &mcp.ClientOptions{
		ProgressNotificationHandler: func(context.Context, *mcp.ProgressNotificationClientRequest) { cancel() },
	})
	params := &mcp.CallToolParams{Name: "countdown", Arguments: map[string]any{"from": 10_000, "delay_ms": 10}}
	params.SetProgressToken(1)
	if _, err := session.CallTool(ctx, params); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want cancelled", err)
	}
	// The clean-up of connect waits for the server's side to be idle: a countdown that goes on would keep it 100 seconds.
}

func TestAudit(t *testing.T) {
	t.Parallel()
	yes := &mcp.ElicitResult{Action: "accept", Content: map[string]any{"go_on": true}}
	for _, revision := range revisions {
		for _, test := range []struct {
			name     string
			steps    int
			answer   *mcp.ElicitResult // nil: nobody can be asked
			asked    string
			want     string
			checked  float64
			complete bool
		}{
			{"yes", 5, yes, "2 of 5 steps are done. Go on?", "Audited 5 steps.", 5, true},
			{"the default", 4, &mcp.ElicitResult{Action: "accept", Content: map[string]any{}}, "2 of 4 steps are done. Go on?", "Audited 4 steps.", 4, true},
			{"no", 5, &mcp.ElicitResult{Action: "accept", Content: map[string]any{"go_on": false}}, "2 of 5 steps are done. Go on?", "Stopped after 2 of 5 steps.", 2, false},
			{"decline", 2, &mcp.ElicitResult{Action: "decline"}, "1 of 2 steps are done. Go on?", "Stopped after 1 of 2 steps.", 1, false},
			{"no middle", 1, yes, "", "Audited 1 steps.", 1, true},
			{"nobody to ask", 5, nil, "", "Audited 5 steps.", 5, true},
		} {
			t.Run(revision+"/"+test.name, func(t *testing.T) {
				t.Parallel()
				asked, opts := "", &mcp.ClientOptions{}
				if test.answer != nil {
					opts.ElicitationHandler = func(_ context.Context, req *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
						asked += req.Params.Message
						return test.answer, nil
					}
				}
				res := call(t, connect(t, revision, opts), "audit", map[string]any{"steps": test.steps, "delay_ms": 1})
				if got := textOf(t, res); got != test.want || res.IsError || asked != test.asked {
					t.Errorf("text %q, error %v, asked %q; want %q, asked %q", got, res.IsError, asked, test.want, test.asked)
				}
				out, _ := res.StructuredContent.(map[string]any)
				if out["checked"] != test.checked || out["complete"] != test.complete {
					t.Errorf("structured content %v", res.StructuredContent)
				}
			})
		}
	}
}

func TestBookTable(t *testing.T) {
	t.Parallel()
	for _, revision := range revisions {
		for _, test := range []struct {
			name    string
			answer  mcp.ElicitResult
			want    string
			isError bool
		}{
			{"accept", mcp.ElicitResult{Action: "accept", Content: map[string]any{"confirm": true}}, "Booked a table for 4.", false},
			{"accept the default", mcp.ElicitResult{Action: "accept", Content: map[string]any{}}, "Booked a table for 4.", false},
			{"accept, unconfirmed", mcp.ElicitResult{Action: "accept", Content: map[string]any{"confirm": false}}, "did not confirm", false},
			{"decline", mcp.ElicitResult{Action: "decline"}, "declined", false},
			{"cancel", mcp.ElicitResult{Action: "cancel"}, "without an answer", false},
		} {
			t.Run(revision+"/"+test.name, func(t *testing.T) {
				t.Parallel()
				asked := ""
				session := connect(t, revision, &mcp.ClientOptions{
					ElicitationHandler: func(_ context.Context, req *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
						asked = req.Params.Message
						return &test.answer, nil
					},
				})
				res := call(t, session, "book_table", map[string]any{"guests": 4})
				if got := textOf(t, res); !strings.Contains(got, test.want) || res.IsError != test.isError {
					t.Errorf("text %q, error %v; want %q, %v", got, res.IsError, test.want, test.isError)
				}
				if asked != "Book a table for 4?" {
					t.Errorf("the person was asked %q", asked)
				}
			})
		}
	}
}

// A client may send anything in the second round.
func TestBookTableDistrustsTheSecondRound(t *testing.T) {
	t.Parallel()
	session := connect(t, "2026-07-28", &mcp.ClientOptions{
		Capabilities:   &mcp.ClientCapabilities{Elicitation: &mcp.ElicitationCapabilities{}},
		MultiRoundTrip: &mcp.MultiRoundTripOptions{Disabled: true},
	})
	first := call(t, session, "book_table", map[string]any{"guests": 2})
	if !first.NeedsInput() || first.RequestState == "" {
		t.Fatalf("first round: %+v, want a question and a state", first)
	}
	yes := &mcp.ElicitResult{Action: "accept", Content: map[string]any{"confirm": true}}
	for _, test := range []struct {
		name   string
		guests int
		state  string
		answer *mcp.ElicitResult
		want   string
	}{
		{"honest", 2, first.RequestState, yes, "Booked"},
		{"more guests than confirmed", 20, first.RequestState, yes, "another booking"},
		{"never asked", 2, "", yes, "another booking"},
		{"no boolean", 2, first.RequestState, &mcp.ElicitResult{Action: "accept", Content: map[string]any{"confirm": "yes"}}, "confirm is yes"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			res, err := session.CallTool(t.Context(), &mcp.CallToolParams{
				Name:           "book_table",
				Arguments:      map[string]any{"guests": test.guests},
				InputResponses: mcp.InputResponseMap{"confirm": test.answer},
				RequestState:   test.state,
			})
			if err != nil {
				t.Fatal(err)
			}
			if got := textOf(t, res); !strings.Contains(got, test.want) || res.IsError == (test.want == "Booked") {
				t.Errorf("text %q, error %v; want %q", got, res.IsError, test.want)
			}
		})
	}
}

func TestAnnotations(t *testing.T) {
	t.Parallel()
	res, err := connect(t, "2025-06-18", nil).ListTools(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	safe := map[string]bool{"add": true, "countdown": true, "audit": true, "book_table": false}
	if len(res.Tools) != len(safe) {
		t.Errorf("%d tools, want %d", len(res.Tools), len(safe))
	}
	for _, tool := range res.Tools {
		want, known := safe[tool.Name]
		if !known || tool.Annotations.ReadOnlyHint != want || tool.Annotations.IdempotentHint != want {
			t.Errorf("%s: known %v, annotations %+v; want safe to repeat %v", tool.Name, known, tool.Annotations, want)
		}
	}
}

func TestResources(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		uri, want string // no text: not found
	}{
		{"greeting://Ada", "Hello, Ada!"},
		{"greeting://Ada%20Lovelace", "Hello, Ada Lovelace!"},
		{"greeting://Zo%C3%AB%2F%25", "Hello, Zoë/%!"},
		{"greeting://", ""},
		{"greeting://%zz", ""},
		{"greeting://a/b", ""},
		{"demo://about", "A small MCP server"},
		{"demo://nothing", ""},
	} {
		t.Run(test.uri, func(t *testing.T) {
			t.Parallel()
			res, err := connect(t, "2025-06-18", nil).ReadResource(t.Context(), &mcp.ReadResourceParams{URI: test.uri})
			if test.want == "" {
				if err == nil || !strings.Contains(err.Error(), "not found") {
					t.Errorf("result %+v, error %v; want not found", res, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if c := res.Contents[0]; c.URI != test.uri || !strings.HasPrefix(c.Text, test.want) {
				t.Errorf("%s: %q, want %q", c.URI, c.Text, test.want)
			}
		})
	}
}

func TestPrompt(t *testing.T) {
	t.Parallel()
	session := connect(t, "2025-06-18", nil)
	res, err := session.GetPrompt(t.Context(), &mcp.GetPromptParams{Name: "welcome", Arguments: map[string]string{"tone": "funny"}})
	if err != nil {
		t.Fatal(err)
	}
	if text := res.Messages[0].Content.(*mcp.TextContent).Text; !strings.Contains(text, "funny") {
		t.Errorf("message %q does not name the tone", text)
	}
	_, err = session.GetPrompt(t.Context(), &mcp.GetPromptParams{Name: "welcome"})
	var wire *jsonrpc.Error
	if !errors.As(err, &wire) || wire.Code != jsonrpc.CodeInvalidParams || !strings.Contains(wire.Message, "tone") {
		t.Errorf("without an argument: %v, want invalid params that name tone", err)
	}
}

func TestCompletion(t *testing.T) {
	t.Parallel()
	session := connect(t, "2025-06-18", nil)
	for _, test := range []struct {
		prompt, argument, value, want string
	}{
		{"welcome", "tone", "", "formal friendly funny short"},
		{"welcome", "tone", "F", "formal friendly funny"},
		{"welcome", "tone", "x", ""},
		{"welcome", "place", "", ""},
		{"goodbye", "tone", "", ""},
	} {
		res, err := session.Complete(t.Context(), &mcp.CompleteParams{
			Ref:      &mcp.CompleteReference{Type: "ref/prompt", Name: test.prompt},
			Argument: mcp.CompleteParamsArgument{Name: test.argument, Value: test.value},
		})
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(res.Completion.Values, " "); got != test.want || res.Completion.Values == nil {
			t.Errorf("%+v: %q, want %q", test, got, test.want)
		}
	}
}
