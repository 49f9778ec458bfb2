package serve

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/alexflint/go-arg"

	"github.com/sluice-mcp/sluice/observe"
)

// Transports.
const (
	StreamableHTTP = "streamable-http"
	Stdio          = "stdio"
)

// Config says how to serve. The zero value of a field means its default, except for Port.
type Config struct {
	// Transport is [StreamableHTTP], the default, or [Stdio].
	Transport string `arg:"--transport,env:MCP_TRANSPORT" placeholder:"NAME" help:"how clients reach the server: streamable-http or stdio"`
	// Host is the address to listen on, by default 127.0.0.1: only this machine can connect.
	Host string `arg:"--host,env:MCP_SERVER_HOST" help:"address to listen on; 0.0.0.0 lets other machines connect"`
	// Port is the TCP port. Zero picks a free one; the command line's default is the variable PORT, else 8000.
	Port uint16 `arg:"--port,env:MCP_SERVER_PORT" help:"port to listen on, by default that of the variable PORT if it is set; 0 picks a free one"`
	// Path is the endpoint's path, by default /mcp.
	Path string `arg:"--path,env:MCP_PATH" help:"path of the endpoint"`
	// HTTPSSE serves the transport of revision 2024-11-05 too, at /sse and /messages.
	HTTPSSE bool `arg:"--http-sse,env:MCP_HTTP_SSE" help:"also serve the old HTTP+SSE transport (2024-11-05) at /sse and /messages; default: false"`
	// AllowedHosts are further values of the Host header that a request may have that arrives at a loopback address, as behind a
	// proxy on the same machine.
	AllowedHosts List `arg:"--allowed-hosts,env:MCP_ALLOWED_HOSTS" placeholder:"HOST,..." help:"names that a proxy on this machine passes on as Host, such as mcp.example.com; default: none"`
	// AllowedOrigins are the browser origins that may call, such as https://app.example.com.
	AllowedOrigins List `arg:"--allowed-origins,env:MCP_ALLOWED_ORIGINS" placeholder:"ORIGIN,..." help:"browser origins that may call, such as https://app.example.com; default: none"`
	// SessionTimeout ends a session that has been idle this long, by default 30 minutes.
	SessionTimeout time.Duration `arg:"--session-timeout,env:MCP_SESSION_TIMEOUT" placeholder:"DURATION" help:"end a session that has been idle this long"`
	// TaskAfter is how long a call may take before it becomes a task, for clients that declare the Tasks extension. By default
	// only the calls of tools that say so become tasks.
	TaskAfter time.Duration `arg:"--task-after,env:MCP_TASK_AFTER" placeholder:"DURATION" help:"how long a call may take before it becomes a task, for clients that know tasks; default: only what a tool's owner marks becomes one"`
	// OnceTTL is how long the outcome of a tool call with an idempotency key is kept for those who repeat it, by default 10 minutes.
	OnceTTL time.Duration `arg:"--once-ttl,env:MCP_ONCE_TTL" placeholder:"DURATION" help:"how long the outcome of a call with an idempotency key is kept"`
	// StoreURL says where sessions and streams live, by default memory: (in this process).
	StoreURL string `arg:"--store-url,env:MCP_STORE_URL" placeholder:"URL" help:"where sessions and streams live: memory:, redis://HOST:PORT/DB or, over TLS, rediss://HOST:PORT/DB"`
	// StateKeys seal what a client carries between the rounds of a call: standard base64 of 32 bytes each. The first
	// seals, all open. Replicas of one service need the same keys. By default each process makes its own.
	StateKeys List `arg:"--state-keys,env:MCP_STATE_KEYS" placeholder:"KEY,..." help:"keys that seal the state clients carry, base64 of 32 bytes each; the first seals, all open; replicas need the same; default: a new one at each start"`
	// ShutdownGrace is how long [App.Stop] waits for calls in flight, by default 8 seconds: Cloud Run kills after 10.
	ShutdownGrace time.Duration `arg:"--shutdown-grace,env:MCP_SHUTDOWN_GRACE" placeholder:"DURATION" help:"how long calls in flight may take to finish after SIGTERM"`
	// LogLevel is the lowest level logged: debug, info, the default, warn or error, in any case.
	LogLevel string `arg:"--log-level,env:LOG_LEVEL" placeholder:"LEVEL" help:"lowest level logged: debug, info, warn or error"`
	// LogFormat is text, json or auto, the default: text on a terminal, else json.
	LogFormat string `arg:"--log-format,env:LOG_FORMAT" placeholder:"FORMAT" help:"text, json or auto (text on a terminal, else json)"`
	// AccessLog is on, the default, for a line at level info for each call, with a hash of the principal; names, for the same with the
	// principal as it is; or off.
	AccessLog string `arg:"--access-log,env:MCP_ACCESS_LOG" placeholder:"MODE" help:"a line for each call: on, names (of principals, which are hashed otherwise) or off"`
	// MetricsAddr is where the metrics of a program with Telemetry can be read, at /metrics, such as 127.0.0.1:9464. Without a host it
	// is 127.0.0.1. By default it is nowhere.
	MetricsAddr string `arg:"--metrics-addr,env:MCP_METRICS_ADDR" placeholder:"HOST:PORT" help:"where metrics can be read, at /metrics, of a program with telemetry; without a host on this machine only; default: nowhere"`
	// Telemetry exports what the endpoint does. Nil exports nothing.
	Telemetry Telemetry `arg:"-"`
	// Observer is told what the endpoint does, besides the access log. Nil is nobody.
	Observer observe.Observer `arg:"-"`
	// Auth says who may call. By default everybody may.
	Auth
}

func (c Config) withDefaults() Config {
	c.Transport = cmp.Or(c.Transport, StreamableHTTP)
	c.Host = cmp.Or(c.Host, "127.0.0.1")
	c.Path = cmp.Or(c.Path, "/mcp")
	c.SessionTimeout = cmp.Or(c.SessionTimeout, 30*time.Minute)
	c.OnceTTL = cmp.Or(c.OnceTTL, 10*time.Minute)
	c.StoreURL = cmp.Or(c.StoreURL, "memory:")
	c.ShutdownGrace = cmp.Or(c.ShutdownGrace, 8*time.Second)
	c.LogLevel = cmp.Or(c.LogLevel, "info")
	c.LogFormat = cmp.Or(c.LogFormat, "auto")
	c.AccessLog = cmp.Or(c.AccessLog, "on")
	return c
}

// A List is written as its elements with commas between them.
type List []string

// UnmarshalText implements [encoding.TextUnmarshaler].
func (l *List) UnmarshalText(text []byte) error {
	*l = nil
	for element := range strings.SplitSeq(string(text), ",") {
		if element = strings.TrimSpace(element); element != "" {
			*l = append(*l, element)
		}
	}
	return nil
}

// A commandLine is what can be asked of [Main]: to serve with a configuration, or
// to look after a server that another process serves with the same one.
type commandLine struct {
	Config
	Healthcheck bool `arg:"--healthcheck" help:"ask the server that runs with these settings whether it is ready; exit with 0 if so, else with 1"`
}

// Description is the first line of the help.
func (commandLine) Description() string {
	return "An MCP server. Every flag can also be set by the environment variable beside it; the flag wins.\n"
}

// parse reads the command line over the environment over the defaults. If help
// was asked for, it returns the text instead.
func parse(name string, args []string) (cmd commandLine, help string, err error) {
	unsetEmpty()
	cmd.Config = Config{Port: 8000}.withDefaults()
	badPort := portFromCloud(&cmd.Config)
	parser, err := arg.NewParser(arg.Config{Program: name}, &cmd)
	if err != nil {
		return cmd, "", err
	}
	err = parser.Parse(args)
	if errors.Is(err, arg.ErrHelp) {
		var text bytes.Buffer
		parser.WriteHelp(&text)
		return cmd, text.String(), nil
	}
	return cmd, "", cmp.Or(badPort, err, cmd.checkZero())
}

// checkZero refuses zeros that somebody has written: in a [Config] they mean the default, which is not what they say.
func (c Config) checkZero() error {
	switch {
	case c.SessionTimeout == 0:
		return errors.New("--session-timeout (MCP_SESSION_TIMEOUT): 0s would end every session at once")
	case c.OnceTTL == 0:
		return errors.New("--once-ttl (MCP_ONCE_TTL): 0s would forget each outcome at once")
	case c.ShutdownGrace == 0:
		return errors.New("--shutdown-grace (MCP_SHUTDOWN_GRACE): 0s leaves no time to answer the calls in flight")
	}
	return nil
}

// unsetEmpty forgets variables that are set to nothing, as container files like to do.
func unsetEmpty() {
	names := []string{"PORT"}
	for _, field := range reflect.VisibleFields(reflect.TypeFor[Config]()) {
		_, name, _ := strings.Cut(field.Tag.Get("arg"), "env:")
		names = append(names, name)
	}
	for _, name := range names {
		if value, ok := os.LookupEnv(name); ok && value == "" {
			os.Unsetenv(name)
		}
	}
}

// portFromCloud makes PORT the default port, as Cloud Run and its like set it.
func portFromCloud(c *Config) error {
	value, ok := os.LookupEnv("PORT")
	if _, better := os.LookupEnv("MCP_SERVER_PORT"); better || !ok {
		return nil
	}
	port, err := strconv.ParseUint(value, 10, 16)
	if err != nil {
		return fmt.Errorf("--port (PORT): %w", err)
	}
	c.Port = uint16(port)
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
	for _, host := range c.AllowedHosts {
		if strings.ContainsAny(host, "/*@ ") {
			return bad("allowed-hosts", "MCP_ALLOWED_HOSTS", "%q is not a value of the Host header such as mcp.example.com", host)
		}
	}
	if c.SessionTimeout < 0 {
		return bad("session-timeout", "MCP_SESSION_TIMEOUT", "%v is negative", c.SessionTimeout)
	}
	if c.OnceTTL < 0 {
		return bad("once-ttl", "MCP_ONCE_TTL", "%v is negative", c.OnceTTL)
	}
	switch {
	case c.TaskAfter < 0:
		return bad("task-after", "MCP_TASK_AFTER", "%v is negative", c.TaskAfter)
	case c.TaskAfter > 0 && os.Getenv(runtimeAPI) != "":
		return bad("task-after", "MCP_TASK_AFTER", "nothing runs after the response on AWS Lambda, so no call can become a task there")
	}
	if c.ShutdownGrace < 0 {
		return bad("shutdown-grace", "MCP_SHUTDOWN_GRACE", "%v is negative", c.ShutdownGrace)
	}
	if _, err := c.logLevel(); err != nil {
		return bad("log-level", "LOG_LEVEL", "%v", err)
	}
	if !slices.Contains([]string{"text", "json", "auto"}, c.LogFormat) {
		return bad("log-format", "LOG_FORMAT", "%q is none of text, json, auto", c.LogFormat)
	}
	if !slices.Contains([]string{"on", "names", "off"}, c.AccessLog) {
		return bad("access-log", "MCP_ACCESS_LOG", "%q is none of on, names, off", c.AccessLog)
	}
	if c.MetricsAddr != "" {
		if _, err := metricsAddress(c.MetricsAddr); err != nil {
			return bad("metrics-addr", "MCP_METRICS_ADDR", "%v; want HOST:PORT, such as 127.0.0.1:9464", err)
		}
		if c.Telemetry == nil {
			return bad("metrics-addr", "MCP_METRICS_ADDR", "this program has no metrics: docs/observability.md says how it gets them")
		}
	}
	if err := checkStore(c.StoreURL); err != nil {
		return bad("store-url", "MCP_STORE_URL", "%v", err)
	}
	if _, err := c.stateKeys(); err != nil {
		return bad("state-keys", "MCP_STATE_KEYS", "%v", err)
	}
	return nil
}

func (c Config) logLevel() (level slog.Level, err error) {
	name := strings.ToUpper(c.LogLevel)
	if name == "WARNING" {
		name = "WARN"
	}
	if err := level.UnmarshalText([]byte(name)); err != nil {
		return 0, fmt.Errorf("%q is none of debug, info, warn, error", c.LogLevel)
	}
	return level, nil
}

// stateKeys decodes the keys. Its errors name a key by its place, never by its value.
func (c Config) stateKeys() ([][]byte, error) {
	var keys [][]byte
	for i, s := range c.StateKeys {
		key, err := base64.StdEncoding.DecodeString(s)
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
