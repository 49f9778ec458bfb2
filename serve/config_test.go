package serve

import (
	"reflect"
	"testing"
)

// The defaults are written twice, for the command line and for programs.
func TestDefaultsAgree(t *testing.T) {
	for _, name := range []string{
		"MCP_TRANSPORT", "MCP_SERVER_HOST", "MCP_SERVER_PORT", "PORT", "MCP_PATH", "MCP_HTTP_SSE", "MCP_ALLOWED_ORIGINS",
		"MCP_SESSION_TIMEOUT", "MCP_STORE_URL", "MCP_STATE_KEYS", "MCP_SHUTDOWN_GRACE", "LOG_LEVEL", "LOG_FORMAT",
	} {
		t.Setenv(name, "")
	}
	cmd, _, err := parse("test", nil)
	if err != nil {
		t.Fatal(err)
	}
	if want := (Config{Port: 8000}).withDefaults(); !reflect.DeepEqual(cmd.Config, want) {
		t.Errorf("the command line's defaults are %+v, a program's %+v", cmd.Config, want)
	}
}
