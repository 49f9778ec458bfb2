package cmd_test

import (
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
)

func TestBadConfiguration(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		env  string
		args []string
		want []string
	}{
		{"unknown flag", "", []string{"--prot=1"}, []string{"--prot"}},
		{"unknown argument", "", []string{"serve"}, []string{"serve"}},
		{"transport", "MCP_TRANSPORT=carrier-pigeon", nil, []string{"--transport", "MCP_TRANSPORT", "carrier-pigeon"}},
		{"port, no number", "MCP_SERVER_PORT=http", nil, []string{"MCP_SERVER_PORT", "http"}},
		{"port, too large", "PORT=65536", nil, []string{"--port", "PORT", "65536"}},
		{"port flag", "", []string{"--port=-1"}, []string{"--port", "-1"}},
		{"path, relative", "MCP_PATH=mcp", nil, []string{"--path", "MCP_PATH", `"mcp"`}},
		{"path, slash at the end", "MCP_PATH=/mcp/", nil, []string{"MCP_PATH", `"/mcp/"`}},
		{"path, pattern", "MCP_PATH=/{x}", nil, []string{"MCP_PATH", "{x}"}},
		{"path, taken", "MCP_PATH=/readyz", nil, []string{"MCP_PATH", "/readyz"}},
		{"origin", "MCP_ALLOWED_ORIGINS=https://a.example,b.example", nil, []string{"--allowed-origins", "MCP_ALLOWED_ORIGINS", `"b.example"`}},
		{"host, a URL", "MCP_ALLOWED_HOSTS=https://mcp.example.com", nil, []string{"--allowed-hosts", "MCP_ALLOWED_HOSTS", `"https://mcp.example.com"`}},
		{"host, a pattern", "MCP_ALLOWED_HOSTS=a.example,*.example.com", nil, []string{"--allowed-hosts", "MCP_ALLOWED_HOSTS", `"*.example.com"`}},
		{"HTTP+SSE", "MCP_HTTP_SSE=perhaps", nil, []string{"MCP_HTTP_SSE", "perhaps"}},
		{"task after", "MCP_TASK_AFTER=-1s", nil, []string{"--task-after", "MCP_TASK_AFTER", "-1s"}},
		{"task after, on Lambda", "AWS_LAMBDA_RUNTIME_API=127.0.0.1:1", []string{"--task-after", "5s"}, []string{"--task-after", "MCP_TASK_AFTER", "Lambda"}},
		{"session timeout", "MCP_SESSION_TIMEOUT=-1s", nil, []string{"--session-timeout", "MCP_SESSION_TIMEOUT", "-1s"}},
		{"session timeout, zero", "MCP_SESSION_TIMEOUT=0s", nil, []string{"--session-timeout", "MCP_SESSION_TIMEOUT", "0s"}},
		{"grace, zero", "", []string{"--shutdown-grace=0"}, []string{"--shutdown-grace", "MCP_SHUTDOWN_GRACE", "0s"}},
		{"grace, no unit", "MCP_SHUTDOWN_GRACE=5", nil, []string{"MCP_SHUTDOWN_GRACE", `"5"`}},
		{"grace, negative", "MCP_SHUTDOWN_GRACE=-5s", nil, []string{"--shutdown-grace", "MCP_SHUTDOWN_GRACE", "-5s"}},
		{"log level", "LOG_LEVEL=loud", nil, []string{"--log-level", "LOG_LEVEL", "loud"}},
		{"log format", "LOG_FORMAT=xml", nil, []string{"--log-format", "LOG_FORMAT", "xml"}},
		{"metrics", "MCP_METRICS_ADDR=:9464", nil, []string{"--metrics-addr", "MCP_METRICS_ADDR", "docs/observability.md"}},
		{"metrics, no address", "MCP_METRICS_ADDR=9464", nil, []string{"--metrics-addr", "MCP_METRICS_ADDR", "127.0.0.1:9464"}},
		{"access log", "MCP_ACCESS_LOG=loud", nil, []string{"--access-log", "MCP_ACCESS_LOG", "loud"}},
		{"store", "MCP_STORE_URL=ftp://x", nil, []string{"--store-url", "MCP_STORE_URL", "ftp://x"}},
		{"store, no URL", "MCP_STORE_URL=%zz", nil, []string{"--store-url", "MCP_STORE_URL"}},
		{"state key, no base64", "MCP_STATE_KEYS=?", nil, []string{"--state-keys", "MCP_STATE_KEYS", "key 1"}},
		{"state key, short", "MCP_STATE_KEYS=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=,c2VjcmV0", nil, []string{"--state-keys", "key 2", "6 bytes"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := start(t, strings.Fields(test.env), serverBinary, test.args...)
			if code := p.wait(patience); code != 2 {
				t.Errorf("exit code %d, want 2", code)
			}
			for _, want := range test.want {
				checkOneLine(t, p.stderr.String(), want)
			}
			if out := p.stdout.String(); out != "" {
				t.Errorf("stdout %q, want nothing", out)
			}
		})
	}
}

// A secret that cannot be used must not end up in a log.
func TestErrorsHideSecrets(t *testing.T) {
	t.Parallel()
	for _, env := range []string{
		"MCP_STATE_KEYS=hunter2",
		"MCP_STORE_URL=ftp://user:hunter2@x",
		"MCP_STORE_URL=redis://user:hunter2@%zz",
	} {
		p := start(t, []string{env}, serverBinary)
		if code := p.wait(patience); code != 2 {
			t.Errorf("%s: exit code %d, want 2", env, code)
		}
		if strings.Contains(p.stderr.String(), "hunter2") {
			t.Errorf("%s: said %q", env, p.stderr.String())
		}
	}
}

func TestGoodConfiguration(t *testing.T) {
	t.Parallel()
	for _, env := range []string{
		"LOG_LEVEL=debug", "LOG_LEVEL=Info", "LOG_LEVEL=WARN", "LOG_LEVEL=WARNING", "LOG_LEVEL=warning", "LOG_LEVEL=error",
		"LOG_FORMAT=text", "LOG_FORMAT=", "MCP_SERVER_PORT=", "MCP_TRANSPORT=", "MCP_HTTP_SSE=true",
		"MCP_ALLOWED_ORIGINS=https://a.example,http://localhost:3000",
		"MCP_STATE_KEYS=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
	} {
		t.Run(env, func(t *testing.T) {
			t.Parallel()
			// With settings that work, the health check gets as far as finding nobody there.
			p := start(t, []string{env, "MCP_SERVER_HOST=127.0.0.1"}, serverBinary, "--healthcheck", "--port=1")
			if code := p.wait(patience); code != 1 {
				t.Errorf("exit code %d, want 1", code)
			}
			checkOneLine(t, p.stderr.String(), "connection refused")
		})
	}
}

func TestHelp(t *testing.T) {
	t.Parallel()
	p := start(t, []string{"PORT=nonsense"}, serverBinary, "--help")
	if code := p.wait(patience); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if p.stderr.String() != "" {
		t.Errorf("stderr %q, want nothing", p.stderr.String())
	}
	help := strings.Join(strings.Fields(p.stdout.String()), " ") // whatever the terminal's width
	for _, want := range []string{
		"--transport NAME", "[default: streamable-http, env: MCP_TRANSPORT]",
		"--host HOST", "[default: 127.0.0.1, env: MCP_SERVER_HOST]",
		"--port PORT", "the variable PORT", "[default: 8000, env: MCP_SERVER_PORT]",
		"--path PATH", "[default: /mcp, env: MCP_PATH]",
		"--http-sse", "default: false [env: MCP_HTTP_SSE]",
		"--allowed-origins ORIGIN,...", "default: none [env: MCP_ALLOWED_ORIGINS]",
		"--session-timeout DURATION", "[default: 30m0s, env: MCP_SESSION_TIMEOUT]",
		"--task-after DURATION", "[env: MCP_TASK_AFTER]",
		"--store-url URL", "[default: memory:, env: MCP_STORE_URL]",
		"--state-keys KEY,...", "default: a new one at each start [env: MCP_STATE_KEYS]",
		"--shutdown-grace DURATION", "[default: 8s, env: MCP_SHUTDOWN_GRACE]",
		"--log-level LEVEL", "[default: info, env: LOG_LEVEL]",
		"--log-format FORMAT", "[default: auto, env: LOG_FORMAT]",
		"--healthcheck",
	} {
		if !strings.Contains(help, want) {
			t.Errorf("no %s in the help", want)
		}
	}
	if t.Failed() {
		t.Log(help)
	}
}

func TestPort(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	taken := strconv.Itoa(listener.Addr().(*net.TCPAddr).Port)

	for _, test := range []struct {
		name  string
		env   []string
		args  []string
		fails bool
	}{
		{"PORT, as Cloud Run sets it", []string{"PORT=" + taken}, nil, true},
		{"an empty MCP_SERVER_PORT is none", []string{"MCP_SERVER_PORT=", "PORT=" + taken}, nil, true},
		{"MCP_SERVER_PORT before PORT", []string{"MCP_SERVER_PORT=0", "PORT=" + taken}, nil, false},
		{"the flag before both", []string{"MCP_SERVER_PORT=" + taken, "PORT=" + taken}, []string{"--port=0"}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := start(t, test.env, serverBinary, test.args...)
			if !test.fails {
				p.until("its address", func() bool { return p.logged("url") != "" })
				return
			}
			if code := p.wait(patience); code != 1 {
				t.Errorf("exit code %d, want 1", code)
			}
			checkOneLine(t, p.stderr.String(), taken)
			checkOneLine(t, p.stderr.String(), "address already in use")
			checkOneLine(t, p.stderr.String(), "MCP_SERVER_PORT")
		})
	}
}

func TestPath(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/mcp", "/a/b", "/"} {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			p := serveHTTP(t, []string{"MCP_PATH=" + path}, serverBinary)
			if !strings.HasSuffix(p.url, path) {
				t.Errorf("the URL %s does not end in %s", p.url, path)
			}
			client := start(t, nil, clientBinary, "--url", p.url)
			if code := client.wait(patience); code != 0 {
				t.Errorf("the client ends with code %d", code)
			}
			for _, wrong := range []string{"/mpc", "/mcp/", "/mcp/more", "/a", "/sse"} {
				status, body := p.get(wrong)
				if status != http.StatusNotFound || body != "nothing here: the MCP endpoint is at "+path+"\n" {
					t.Errorf("%s: %d %q", wrong, status, body)
				}
			}
		})
	}
}
