package serve_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice/serve"
)

func newServer() *mcp.Server {
	return mcp.NewServer(&mcp.Implementation{Name: "test", Version: "v1"}, nil)
}

func TestAppServesBetweenStartAndStop(t *testing.T) {
	t.Parallel()
	app, err := serve.New(newServer(), serve.Config{HTTPSSE: true, LogLevel: "error"})
	if err != nil {
		t.Fatal(err)
	}
	if app.Addr() != nil || app.URL() != "" {
		t.Errorf("before Start: address %v, URL %q", app.Addr(), app.URL())
	}
	if err := app.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if want := "http://" + app.Addr().String() + "/mcp"; app.URL() != want {
		t.Errorf("URL %s, want %s", app.URL(), want)
	}
	resp, err := http.Get("http://" + app.Addr().String() + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil || resp.StatusCode != http.StatusOK || string(body) != "ready\n" {
		t.Errorf("%s %q, %v", resp.Status, body, err)
	}

	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			if err := app.Stop(); err != nil {
				t.Errorf("stop: %v", err)
			}
			if conn, err := net.Dial("tcp", app.Addr().String()); err == nil {
				conn.Close()
				t.Error("somebody still listens after Stop")
			}
		})
	}
	wg.Wait()
}

func TestAppRunsUntilItsContextEnds(t *testing.T) {
	t.Parallel()
	app, err := serve.New(newServer(), serve.Config{LogLevel: "error"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := app.Run(ctx); err != nil {
		t.Error(err)
	}
	if app.Addr() == nil {
		t.Error("it never listened")
	}
}

func TestAppThatCannotStartLeavesNothing(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	app, err := serve.New(newServer(), serve.Config{Port: uint16(listener.Addr().(*net.TCPAddr).Port), LogLevel: "error"})
	if err != nil {
		t.Fatal(err)
	}
	if err := app.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("error %v, want that the address is in use", err)
	}
	if err := app.Stop(); err != nil {
		t.Error(err)
	}
}

func TestNewRefusesWhatCannotWork(t *testing.T) {
	t.Parallel()
	if _, err := serve.New(nil, serve.Config{}); err == nil {
		t.Error("no server, and no error")
	}
	if _, err := serve.New(newServer(), serve.Config{Transport: "pigeon"}); err == nil || !strings.Contains(err.Error(), "MCP_TRANSPORT") {
		t.Errorf("error %v, want one that names MCP_TRANSPORT", err)
	}
}
