package serve

import (
	"reflect"
	"testing"
	"time"
)

func TestDefaults(t *testing.T) {
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

func TestFlagsBeforeEnvironment(t *testing.T) {
	t.Setenv("MCP_ALLOWED_ORIGINS", "https://a.example, https://b.example,")
	t.Setenv("MCP_SESSION_TIMEOUT", "1m")
	t.Setenv("MCP_HTTP_SSE", "true")
	t.Setenv("MCP_PATH", "/env")
	cmd, _, err := parse("test", []string{"--path=/flag", "--http-sse=false", "--shutdown-grace", "1s"})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := cmd.AllowedOrigins, (List{"https://a.example", "https://b.example"}); !reflect.DeepEqual(got, want) {
		t.Errorf("origins %q, want %q", got, want)
	}
	if cmd.SessionTimeout != time.Minute || cmd.HTTPSSE || cmd.Path != "/flag" || cmd.ShutdownGrace != time.Second {
		t.Errorf("got %+v", cmd.Config)
	}
}
