package auth_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice"
	"github.com/sluice-mcp/sluice/auth"
)

func Example() {
	server := mcp.NewServer(&mcp.Implementation{Name: "files", Version: "v1.0.0"}, nil)
	server.AddReceivingMiddleware(auth.RequireScopes(map[string][]string{"delete_file": {"files:write"}}))

	guard, err := auth.New(auth.Config{
		Resource: "https://mcp.example.com/mcp",
		Issuer:   "https://login.example.com",
		Scopes:   []string{"files:read"},
		Implies:  map[string][]string{"files:write": {"files:read"}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	limit, err := auth.RateLimit(10, 100)
	if err != nil {
		fmt.Println(err)
		return
	}
	handler := sluice.NewHandler(func(*http.Request) *mcp.Server { return server }, nil)
	defer handler.Close()

	mux := http.NewServeMux()
	mux.Handle("/mcp", guard.Protect(limit(handler)))
	mux.Handle("/.well-known/oauth-protected-resource", guard.Metadata())
	mux.Handle("/.well-known/oauth-protected-resource/", guard.Metadata())

	answer := httptest.NewRecorder()
	mux.ServeHTTP(answer, httptest.NewRequest(http.MethodPost, "/mcp", nil))
	fmt.Println(answer.Code, answer.Header().Get("WWW-Authenticate"))
	// Output: 401 Bearer scope="files:read", resource_metadata="https://mcp.example.com/.well-known/oauth-protected-resource/mcp"
}
