package serve

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kong"
)

// Transports.
const (
	StreamableHTTP = "streamable-http"
	Stdio          = "stdio"
)

// Config says how to serve. The zero value of a field means its default, except for Port.
type Config struct {
	// Transport is [StreamableHTTP], the default, or [Stdio].
	Transport string `env:"MCP_TRANSPORT" default:"streamable-http" help:"How clients reach the server: streamable-http or stdio."`
	// Host is the address to listen on, by default 127.0.0.1: only this machine can connect.
	Host string `env:"MCP_SERVER_HOST" default:"127.0.0.1" help:"Address to listen on; 0.0.0.0 lets other machines connect."`
	// Port is the TCP port. Zero picks a free one; the command line's default is 8000.
	Port uint16 `env:"MCP_SERVER_PORT,PORT" default:"8000" help:"Port to listen on; 0 picks a free one."`
	// Path is the endpoint's path, by default /mcp.
	Path string `env:"MCP_PATH" default:"/mcp" help:"Path of the endpoint."`
	// HTTPSSE serves the transport of revision 2024-11-05 too, at /sse and /messages.
	HTTPSSE bool `name:"http-sse" env:"MCP_HTTP_SSE" help:"Also serve the old HTTP+SSE transport (2024-11-05) at /sse and /messages; default: false."`
	// AllowedOrigins are the browser origins that may call, such as https://app.example.com.
	AllowedOrigins []string `env:"MCP_ALLOWED_ORIGINS" sep:"," placeholder:"ORIGIN" help:"Browser origins that may call, such as https://app.example.com, separated by commas; default: none."`
	// SessionTimeout ends a session that has been idle this long, by default 30 minutes.
	SessionTimeout time.Duration `env:"MCP_SESSION_TIMEOUT" default:"30m" help:"End a session that has been idle this long."`
	// StoreURL says where sessions and streams live, by default memory: (in this process).
	StoreURL string `name:"store-url" env:"MCP_STORE_URL" default:"memory:" help:"Where sessions and streams live: memory:, redis://HOST:PORT or rediss://HOST:PORT."`
	// StateKeys seal what a client carries between the rounds of a call: standard base64 of 32 bytes each. The first
	// seals, all open. Replicas of one service need the same keys. By default each process makes its own.
	StateKeys []string `env:"MCP_STATE_KEYS" sep:"," placeholder:"KEY" help:"Keys that seal the state clients carry: base64 of 32 bytes each, separated by commas; the first seals, all open. Replicas need the same; default: a new one at each start."`
	// ShutdownGrace is how long [App.Stop] waits for calls in flight, by default 8 seconds: Cloud Run kills after 10.
	ShutdownGrace time.Duration `env:"MCP_SHUTDOWN_GRACE" default:"8s" help:"How long calls in flight may take to finish after SIGTERM."`
	// LogLevel is the lowest level logged.
	LogLevel slog.Level `env:"LOG_LEVEL" default:"info" help:"Lowest level logged: debug, info, warn or error."`
	// LogFormat is text, json or auto, the default: text on a terminal, else json.
	LogFormat string `env:"LOG_FORMAT" default:"auto" help:"text, json or auto (text on a terminal, else json)."`
	// Auth says who may call. By default everybody may.
	Auth Auth `embed:""`
}

func (c Config) withDefaults() Config {
	c.Transport = cmp.Or(c.Transport, StreamableHTTP)
	c.Host = cmp.Or(c.Host, "127.0.0.1")
	c.Path = cmp.Or(c.Path, "/mcp")
	c.SessionTimeout = cmp.Or(c.SessionTimeout, 30*time.Minute)
	c.StoreURL = cmp.Or(c.StoreURL, "memory:")
	c.ShutdownGrace = cmp.Or(c.ShutdownGrace, 8*time.Second)
	c.LogFormat = cmp.Or(c.LogFormat, "auto")
	return c
}

// A commandLine is what can be asked of [Main]: to serve with a configuration, or
// to look after a server that another process serves with the same one.
type commandLine struct {
	Config
	Healthcheck bool `help:"Ask the server that runs with these settings whether it is ready; exit with 0 if so, else with 1."`
}

// parse reads the command line over the environment over the defaults. If help
// was asked for, it returns the text instead.
func parse(name string, args []string) (cmd commandLine, help string, err error) {
	var out bytes.Buffer
	exited := false
	parser, err := kong.New(&cmd,
		kong.Name(name),
		kong.Description("An MCP server. Every flag can also be set by the environment variable beside it."),
		kong.Writers(&out, io.Discard),
		kong.Exit(func(int) { exited = true }),
		kong.TypeMapper(reflect.TypeFor[slog.Level](), kong.MapperFunc(decodeLevel)),
	)
	if err != nil {
		return cmd, "", err
	}
	// A variable that is set to nothing, as container files like to do, is not set.
	for _, flag := range parser.Model.Flags {
		for _, env := range flag.Envs {
			if value, ok := os.LookupEnv(env); ok && value == "" {
				os.Unsetenv(env)
			}
		}
	}
	_, err = parser.Parse(args)
	if exited { // kong goes on after --help when its exit returns
		return cmd, out.String(), nil
	}
	return cmd, "", err
}

func decodeLevel(ctx *kong.DecodeContext, target reflect.Value) error {
	var value string
	if err := ctx.Scan.PopValueInto("level", &value); err != nil {
		return err
	}
	name := strings.ToUpper(value)
	if name == "WARNING" {
		name = "WARN"
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(name)); err != nil {
		return fmt.Errorf("%q is none of debug, info, warn, error", value)
	}
	target.Set(reflect.ValueOf(level))
	return nil
}

// reserved are the paths that the process itself answers.
var reserved = []string{"/healthz", "/readyz", "/sse", "/messages"}

// check reports the first value that cannot work, by its flag and variable.
func (c Config) check() error {
	bad := func(flag, env, format string, args ...any) error {
		return fmt.Errorf("--%s (%s): %s", flag, env, fmt.Sprintf(format, args...))
	}
	if c.Transport != StreamableHTTP && c.Transport != Stdio {
		return bad("transport", "MCP_TRANSPORT", "%q is neither %s nor %s", c.Transport, StreamableHTTP, Stdio)
	}
	switch {
	case !strings.HasPrefix(c.Path, "/"), path.Clean(c.Path) != c.Path, strings.ContainsAny(c.Path, " \t{}?#%"):
		return bad("path", "MCP_PATH", "%q is not a plain absolute path such as /mcp", c.Path)
	case slices.Contains(reserved, c.Path):
		return bad("path", "MCP_PATH", "%q is taken; the server answers there itself", c.Path)
	}
	for _, origin := range c.AllowedOrigins {
		if err := http.NewCrossOriginProtection().AddTrustedOrigin(origin); err != nil {
			return bad("allowed-origins", "MCP_ALLOWED_ORIGINS", "%q is not an origin such as https://app.example.com", origin)
		}
	}
	if c.SessionTimeout < 0 {
		return bad("session-timeout", "MCP_SESSION_TIMEOUT", "%v is negative", c.SessionTimeout)
	}
	if c.ShutdownGrace < 0 {
		return bad("shutdown-grace", "MCP_SHUTDOWN_GRACE", "%v is negative", c.ShutdownGrace)
	}
	if !slices.Contains([]string{"text", "json", "auto"}, c.LogFormat) {
		return bad("log-format", "LOG_FORMAT", "%q is none of text, json, auto", c.LogFormat)
	}
	if err := checkStore(c.StoreURL); err != nil {
		return bad("store-url", "MCP_STORE_URL", "%v", err)
	}
	if _, err := c.stateKeys(); err != nil {
		return bad("state-keys", "MCP_STATE_KEYS", "%v", err)
	}
	return nil
}

// stateKeys decodes the keys. Its errors name a key by its place, never by its value.
func (c Config) stateKeys() ([][]byte, error) {
	var keys [][]byte
	for i, s := range c.StateKeys {
		key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(s))
		if err != nil {
			return nil, fmt.Errorf("key %d is not standard base64", i+1)
		}
		if len(key) != 32 {
			return nil, fmt.Errorf("key %d has %d bytes, want 32", i+1, len(key))
		}
		keys = append(keys, key)
	}
	return keys, nil
}

var errNoServer = errors.New("serve: the server is nil")
