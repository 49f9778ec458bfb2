package view_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice"
	"github.com/sluice-mcp/sluice/internal/schematest"
	"github.com/sluice-mcp/sluice/internal/sitetest"
)

// Answers are written into rooms that other calls have used: no client may see a byte of another's.
func TestAnswersDoNotMix(t *testing.T) {
	t.Parallel()
	type said struct {
		Text string `json:"text"`
	}
	s := mcp.NewServer(&mcp.Implementation{Name: "echo", Version: "1"}, nil)
	sluice.AddTool(s, &mcp.Tool{Name: "echo"}, func(_ context.Context, _ *mcp.CallToolRequest, in said) (*mcp.CallToolResult, said, error) {
		return nil, in, nil
	})
	h := sluice.NewHandler(func(*http.Request) *mcp.Server { return s }, nil)
	defer h.Close()
	watched := schematest.Watch(t, h)
	var wg sync.WaitGroup
	for client := range 8 {
		wg.Go(func() {
			era := sitetest.Eras[client%2]
			for i := range 300 {
				text := strings.Repeat(string(rune('a'+client)), (i*37)%1200) // below, within and beyond the room
				p := era.Call(t, h, "echo", fmt.Sprintf(`{"text":%q}`, text))
				w := &keepingWriter{header: make(http.Header)}
				p.SendTo(watched, w)
				want := fmt.Sprintf(`"structuredContent":{"text":%q}`, text)
				if w.status != http.StatusOK || !bytes.Contains(w.body.Bytes(), []byte(want)) {
					t.Errorf("client %d, call %d: status %d, %s", client, i, w.status, w.body.Bytes())
					return
				}
			}
		})
	}
	wg.Wait()
}

// keepingWriter copies what it is told, a little at a time, for others to run in between.
type keepingWriter struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (w *keepingWriter) Header() http.Header { return w.header }
func (w *keepingWriter) WriteHeader(s int)   { w.status = s }
func (w *keepingWriter) Write(p []byte) (int, error) {
	for i := range p {
		w.body.WriteByte(p[i])
	}
	return len(p), nil
}
