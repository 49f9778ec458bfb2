package sluice_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice"
)

type numbers struct {
	A int `json:"a"`
	B int `json:"b"`
}

type total struct {
	Sum int `json:"sum"`
}

func add(_ context.Context, _ *mcp.CallToolRequest, in numbers) (*mcp.CallToolResult, total, error) {
	return nil, total{in.A + in.B}, nil
}

func Example() {
	server := mcp.NewServer(&mcp.Implementation{Name: "Demo", Version: "v1.0.0"}, nil)
	sluice.AddTool(server, &mcp.Tool{
		Name: "add", Description: "Add two numbers.",
		Annotations: &mcp.ToolAnnotations{ReadOnlyHint: true}, // it may run again when its replica is lost
	}, add)

	handler := sluice.NewHandler(func(*http.Request) *mcp.Server { return server }, nil)
	defer handler.Close()
	mux := http.NewServeMux()
	mux.Handle("/mcp", handler)
	web := httptest.NewServer(mux)
	defer web.Close()

	ctx := context.Background()
	client := mcp.NewClient(&mcp.Implementation{Name: "example", Version: "v1.0.0"}, nil)
	session, err := client.Connect(ctx, &mcp.StreamableClientTransport{Endpoint: web.URL + "/mcp"}, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer session.Close()
	result, err := session.CallTool(ctx, &mcp.CallToolParams{Name: "add", Arguments: numbers{10, 5}})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(result.StructuredContent)
	// Output: map[sum:15]
}

// Shutdown alone would wait for streams that clients keep open. Drain ends those, and waits for the calls.
func ExampleHandler_Drain() {
	server := mcp.NewServer(&mcp.Implementation{Name: "Demo", Version: "v1.0.0"}, nil)
	handler := sluice.NewHandler(func(*http.Request) *mcp.Server { return server }, nil)
	web := httptest.NewServer(handler)

	ctx, cancel := context.WithTimeout(context.Background(), 8*time.Second)
	defer cancel()
	fmt.Println(handler.Drain(ctx))        // the calls in flight; new ones get 503
	fmt.Println(handler.Ready(ctx) == nil) // what a readiness probe should report meanwhile
	fmt.Println(web.Config.Shutdown(ctx))  // their last bytes
	fmt.Println(handler.Close())
	// Output:
	// <nil>
	// false
	// <nil>
	// <nil>
}
