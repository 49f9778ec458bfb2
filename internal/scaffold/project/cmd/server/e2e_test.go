package main_test

import (
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/sluice-mcp/sluice/e2e"
)

// start runs the server as its users will: the real binary, on a port of its own.
func start(t *testing.T) *e2e.Server {
	t.Helper()
	return e2e.Start(t, e2e.Command("./internal/scaffold/project/cmd/server"), e2e.Stdio())
}

type counts struct {
	Words      int `json:"words"`
	Characters int `json:"characters"`
}

func TestCountWords(t *testing.T) {
	t.Parallel()
	e2e.EachRevision(t, start(t), func(t *testing.T, session *mcp.ClientSession) {
		got := e2e.Call[counts](t, session, "count_words", map[string]any{"text": "Brevity is the soul of wit."})
		if want := (counts{Words: 6, Characters: 27}); got != want {
			t.Errorf("count_words: %+v, want %+v", got, want)
		}
		if text := e2e.CallError(t, session, "count_words", map[string]any{"text": 7}); !strings.Contains(text, "text") {
			t.Errorf("a wrong argument is answered with %q, which does not name it", text)
		}
	})
}

func TestResource(t *testing.T) {
	t.Parallel()
	e2e.EachRevision(t, start(t), func(t *testing.T, session *mcp.ClientSession) {
		res, err := session.ReadResource(t.Context(), &mcp.ReadResourceParams{URI: "limits://common"})
		if err != nil {
			t.Fatal(err)
		}
		if len(res.Contents) != 1 || !strings.Contains(res.Contents[0].Text, "abstract") {
			t.Errorf("limits://common holds %+v", res.Contents)
		}
	})
}

func TestPrompt(t *testing.T) {
	t.Parallel()
	e2e.EachRevision(t, start(t), func(t *testing.T, session *mcp.ClientSession) {
		res, err := session.GetPrompt(t.Context(), &mcp.GetPromptParams{Name: "shorten", Arguments: map[string]string{"words": "50"}})
		if err != nil {
			t.Fatal(err)
		}
		text, ok := res.Messages[0].Content.(*mcp.TextContent)
		if !ok || !strings.Contains(text.Text, "50 words") {
			t.Errorf("shorten says %+v", res.Messages[0].Content)
		}
		if _, err := session.GetPrompt(t.Context(), &mcp.GetPromptParams{Name: "shorten", Arguments: map[string]string{"words": "few"}}); err == nil {
			t.Error("shorten takes a word for a number")
		}
	})
}

// TestContract fails when what the server offers changes: names, descriptions, schemas. Approve a change with
// "make golden" and see it in the diff that is reviewed. The budget is what the tools may take of a model's context.
func TestContract(t *testing.T) {
	t.Parallel()
	srv := start(t)
	e2e.Snapshot(t, srv)
	e2e.TokenBudget(t, srv, 500)
}
