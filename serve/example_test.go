package serve_test

import (
	"context"
	"fmt"
	"net/http"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice/serve"
)

// A whole program: flags and environment say how it serves.
//
//nolint:testableexamples // Main ends the process
func ExampleMain() {
	server := mcp.NewServer(&mcp.Implementation{Name: "Demo", Version: "v1.0.0"}, nil)
	serve.Main(server)
}

// In a program that has a life of its own, the configuration is a value.
func ExampleNew() {
	server := mcp.NewServer(&mcp.Implementation{Name: "Demo", Version: "v1.0.0"}, nil)
	app, err := serve.New(server, serve.Config{LogLevel: "error"}) // Port 0: a free one
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := app.Start(context.Background()); err != nil {
		fmt.Println(err)
		return
	}
	resp, err := http.Get("http://" + app.Addr().String() + "/readyz")
	if err != nil {
		fmt.Println(err)
		return
	}
	resp.Body.Close()
	fmt.Println(resp.Status)
	fmt.Println(app.Stop())
	// Output:
	// 200 OK
	// <nil>
}
