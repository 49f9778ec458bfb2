package deploy_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

const template = "nginx/mcp.conf.template"

// An nginx is a running proxy.
type nginx struct {
	*testing.T
	port int
	tls  *tls.Config // set for HTTP/2
}

// url is the endpoint through the proxy.
func (n *nginx) url() string {
	scheme := "http"
	if n.tls != nil {
		scheme = "https"
	}
	return fmt.Sprintf("%s://127.0.0.1:%d/mcp", scheme, n.port)
}

// client is one with connections of its own.
func (n *nginx) client() *http.Client {
	transport := &http.Transport{TLSClientConfig: n.tls, ForceAttemptHTTP2: n.tls != nil}
	return &http.Client{Transport: transport}
}

// documented is the configuration that the docs recommend, before these servers.
func documented(t *testing.T) string { return string(read(t, template)) }

// startNginx runs nginx, not as root, with a configuration for http {} before the servers.
func startNginx(t *testing.T, http2 bool, conf string, servers ...*server) *nginx {
	t.Helper()
	path := nginxPath(t)
	n := &nginx{T: t, port: freePort(t)}
	prefix := worldReadable(t)
	listen := fmt.Sprintf("listen 127.0.0.1:%d;", n.port)
	if http2 {
		n.tls = certificate(t, prefix)
		// The directive "http2 on" came with 1.25.1, and Debian 12 has 1.22.
		listen = fmt.Sprintf("listen 127.0.0.1:%d ssl http2; ssl_certificate cert.pem; ssl_certificate_key key.pem;", n.port)
	}
	var upstreams strings.Builder
	for _, s := range servers {
		upstreams.WriteString("server " + s.addr + "; ")
	}
	conf = strings.NewReplacer("${MCP_LISTEN}", listen, "${MCP_UPSTREAMS}", upstreams.String()).Replace(conf)
	write(t, filepath.Join(prefix, "mcp.conf"), conf)
	write(t, filepath.Join(prefix, "nginx.conf"), `
daemon off;
pid nginx.pid;
error_log stderr notice;
worker_processes 1;
events { worker_connections 256; }
http {
	access_log off;
	client_body_temp_path body;
	proxy_temp_path proxy;
	fastcgi_temp_path fastcgi;
	uwsgi_temp_path uwsgi;
	scgi_temp_path scgi;
	include mcp.conf;
}
`)
	cmd := exec.Command(path, "-p", prefix, "-c", "nginx.conf", "-e", "stderr")
	log := new(bytes.Buffer)
	cmd.Stderr = log
	// Its workers end with it even if the test is killed, and it is nobody.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if os.Geteuid() == 0 {
		uid, gid := nobody(t)
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		for _, name := range []string{"", "mcp.conf", "nginx.conf", "cert.pem", "key.pem"} {
			if err := os.Chown(filepath.Join(prefix, name), uid, gid); err != nil && !os.IsNotExist(err) {
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		_ = syscall.Kill(cmd.Process.Pid, syscall.SIGTERM)
		<-ended
		if t.Failed() {
			t.Logf("log of nginx:\n%s", log)
		}
	})
	deadline := time.Now().Add(patience)
	for {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", n.port))
		if err == nil {
			conn.Close()
			return n
		}
		select {
		case <-ended:
			t.Fatalf("nginx ended at once:\n%s", log)
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatal("nginx does not listen")
		}
	}
}

func nginxPath(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("nginx")
	if err != nil {
		path, err = exec.LookPath("/usr/sbin/nginx")
	}
	require(t, err == nil, "nginx")
	return path
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func nobody(t *testing.T) (uid, gid int) {
	t.Helper()
	u, err := user.Lookup("nobody")
	if err != nil {
		t.Fatal(err)
	}
	uid, err = strconv.Atoi(u.Uid)
	if err != nil {
		t.Fatal(err)
	}
	gid, err = strconv.Atoi(u.Gid)
	if err != nil {
		t.Fatal(err)
	}
	return uid, gid
}

// certificate writes a key and a certificate for 127.0.0.1 that only the returned configuration trusts.
func certificate(t *testing.T, dir string) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	about := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "127.0.0.1"},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
		IsCA:         true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, about, about, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	write(t, filepath.Join(dir, "cert.pem"), string(cert))
	write(t, filepath.Join(dir, "key.pem"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})))
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(cert)
	return &tls.Config{RootCAs: roots}
}

// through runs a test over HTTP/1.1 and over HTTP/2.
func through(t *testing.T, f func(t *testing.T, http2 bool)) {
	t.Helper()
	t.Parallel()
	for _, http2 := range []bool{false, true} {
		t.Run(map[bool]string{false: "HTTP1.1", true: "HTTP2"}[http2], func(t *testing.T) {
			t.Parallel()
			f(t, http2)
		})
	}
}

var eras = []string{"2025-11-25", "2026-07-28"}

// slow is a countdown of two seconds with so few events that any buffer would hold them all.
const slow = `{"from":4,"delay_ms":500}`

// inTime reports whether events came as they were sent, and not all at the end.
func inTime(events []event) bool {
	return events[len(events)-1].at-events[0].at > time.Second
}

func TestNginxPassesEachEventAtOnce(t *testing.T) {
	through(t, func(t *testing.T, http2 bool) {
		n := startNginx(t, http2, documented(t), start(t, nil))
		for _, revision := range eras {
			t.Run(revision, func(t *testing.T) {
				t.Parallel()
				r := connect(t, n.client(), n.url(), revision).call(1, "countdown", slow)
				if want := map[bool]int{false: 1, true: 2}[http2]; r.ProtoMajor != want {
					t.Errorf("the response came over %s", r.Proto)
				}
				if events := r.rest(); len(events) < 5 || !inTime(events) {
					t.Errorf("%d events between %v and %v", len(events), events[0].at, events[len(events)-1].at)
				}
			})
		}
	})
}

// The defaults that matter: HTTP/1.0 to the server, and responses buffered.
const defaults = `server { ${MCP_LISTEN} location / { proxy_pass http://mcp; %s } } upstream mcp { ${MCP_UPSTREAMS} }`

// TestNginxDefaults shows what the settings are for: by default nginx holds events back, and only the
// server's own header, X-Accel-Buffering, or HTTP/1.1 to the server, keeps it from doing so.
func TestNginxDefaults(t *testing.T) {
	through(t, func(t *testing.T, http2 bool) {
		for _, test := range []struct {
			name, setting string
			inTime        bool
		}{
			{"the header is heeded", "proxy_set_header Host 127.0.0.1;", true},
			{"the header is ignored", "proxy_set_header Host 127.0.0.1; proxy_ignore_headers X-Accel-Buffering;", false},
			{
				"the header is ignored, HTTP/1.1", `proxy_set_header Host 127.0.0.1; proxy_ignore_headers X-Accel-Buffering;
				proxy_http_version 1.1; proxy_set_header Connection "";`, true, // only headers are late then
			},
		} {
			t.Run(test.name, func(t *testing.T) {
				t.Parallel()
				n := startNginx(t, http2, fmt.Sprintf(defaults, test.setting), start(t, nil))
				for _, revision := range eras {
					events := connect(t, n.client(), n.url(), revision).call(1, "countdown", slow).rest()
					if inTime(events) != test.inTime {
						t.Errorf("%s: %d events between %v and %v", revision, len(events), events[0].at, events[len(events)-1].at)
					}
				}
			})
		}
	})
}

// TestNginxAndTheHost: a server on a loopback address takes only loopback names, and by default nginx sends the upstream's.
func TestNginxAndTheHost(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	sameMachine := strings.Replace(documented(t), "proxy_set_header Host $http_host;", "proxy_set_header Host localhost;", 1)
	for _, test := range []struct {
		name, conf, host string
		refused          bool
	}{
		{"default", fmt.Sprintf(defaults, ""), "", true},
		{"documented", documented(t), "", false},
		{"documented, public name", documented(t), "mcp.example.com", true},
		{"documented for the same machine, public name", sameMachine, "mcp.example.com", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			n := startNginx(t, false, test.conf, s)
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, n.url(), http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			req.Host = test.host
			resp, err := n.client().Do(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if refused := resp.StatusCode == http.StatusForbidden; refused != test.refused {
				t.Errorf("%s", resp.Status)
			}
		})
	}
}

// TestNginxKeepsQuietStreams: nginx gives up when it hears nothing, so it must hear the comments.
func TestNginxKeepsQuietStreams(t *testing.T) {
	through(t, func(t *testing.T, http2 bool) {
		if testing.Short() {
			t.Skip("takes 25 s")
		}
		conf := strings.Replace(documented(t), "proxy_read_timeout 60s;", "proxy_read_timeout 12s;", 1)
		if conf == documented(t) {
			t.Fatal("the template's timeout is another")
		}
		n := startNginx(t, http2, conf, start(t, nil))
		for _, revision := range eras {
			t.Run(revision, func(t *testing.T) {
				t.Parallel()
				// Silent for longer than nginx waits, twice.
				c := connect(t, n.client(), n.url(), revision)
				begun := time.Now()
				r := c.call(1, "countdown", `{"from":1,"delay_ms":25000}`)
				// A buffer would keep the headers until the first comment. For HTTP/2 nginx does so without one, unless the
				// server sends something at once, which it does in sessions only.
				if late := time.Since(begun); late > 5*time.Second && !(http2 && c.stateless()) {
					t.Errorf("the headers came after %v", late)
				}
				events := r.rest()
				comments := 0
				for _, e := range events {
					comments += e.comments
				}
				if comments < 2 {
					t.Errorf("%d comments in 25 seconds, want 2", comments)
				}
			})
		}
	})
}

// TestNginxPassesDisconnects: a stateless client cancels by leaving, and the server must notice.
func TestNginxPassesDisconnects(t *testing.T) {
	through(t, func(t *testing.T, http2 bool) {
		s := start(t, map[string]string{"MCP_SHUTDOWN_GRACE": "30s"})
		n := startNginx(t, http2, documented(t), s)
		ctx, leave := context.WithCancel(t.Context())
		r := connect(t, n.client(), n.url(), "2026-07-28").callWith(ctx, 1, "countdown", `{"from":2,"delay_ms":60000}`)
		if r.StatusCode != http.StatusOK {
			t.Fatal(r.Status)
		}
		leave()
		// A server that still had the call would wait for it, and fail after its grace period.
		begun := time.Now()
		// Nor must it take until the next comment, which finds out too.
		if code := s.stop(); code != 0 || time.Since(begun) > 7*time.Second {
			t.Errorf("exit code %d after %v: the call was not canceled", code, time.Since(begun))
		}
	})
}

// TestNginxPassesSessions: methods, headers in both directions, and bodies that are larger than nginx lets pass by itself.
func TestNginxPassesSessions(t *testing.T) {
	through(t, func(t *testing.T, http2 bool) {
		n := startNginx(t, http2, documented(t), start(t, nil))
		c := connect(t, n.client(), n.url(), "2025-11-25")
		large := fmt.Sprintf(`{"a":1,"b":2%s}`, strings.Repeat(" ", 3<<20))
		if got := c.call(1, "add", large).result(); !strings.Contains(got, `"text":"3"`) {
			t.Errorf("a call of 3 MiB: %.200s", got)
		}

		r := c.call(2, "countdown", `{"from":100,"delay_ms":20}`)
		last := r.must()
		r.Body.Close() // the client's connection breaks
		events := c.resume(last.id).rest()
		if got := events[len(events)-1].data; !strings.Contains(got, "Counted down from 100.") {
			t.Errorf("after resuming: %s", got)
		}

		deleted := c.do(t.Context(), http.MethodDelete, http.Header{}, "")
		if deleted.StatusCode != http.StatusNoContent {
			t.Errorf("DELETE: %s", deleted.Status)
		}
		if r := c.call(3, "add", `{"a":1,"b":2}`); r.StatusCode != http.StatusNotFound {
			t.Errorf("a call after DELETE: %s", r.Status)
		}

		// Mcp-Method and Mcp-Name arrive: the server compares them with the body.
		stateless := connect(t, n.client(), n.url(), "2026-07-28")
		if r := stateless.send(t.Context(), "tools/call", "countdown", request(4, "tools/call", stateless.meta(`,"name":"add","arguments":{"a":1,"b":2}`))); r.StatusCode != http.StatusBadRequest {
			t.Errorf("a name in the header that the body denies: %s", r.Status)
		}
		if got := stateless.call(5, "add", `{"a":1,"b":2}`).result(); !strings.Contains(got, `"text":"3"`) {
			t.Error(got)
		}
	})
}

// TestNginxPassesLongHeaders: a token that lists groups is longer than nginx takes by itself. What the server refuses, it refuses through nginx.
func TestNginxPassesLongHeaders(t *testing.T) {
	through(t, func(t *testing.T, http2 bool) {
		s := start(t, nil)
		for name, over := range map[string]*nginx{"documented": startNginx(t, http2, documented(t), s), "defaults": startNginx(t, http2, fmt.Sprintf(defaults, "proxy_set_header Host 127.0.0.1;"), s)} {
			for _, header := range []http.Header{
				{"Authorization": {"Bearer " + strings.Repeat("x.y", 8600/3)}},
				{"Authorization": {"Bearer " + strings.Repeat("x.y", 11000/3)}},
				{"Authorization": {"Bearer " + strings.Repeat("x.y", 40000/3)}},
				{"Authorization": {"Bearer " + strings.Repeat("x", 63<<10)}},
				{"Mcp-Param-Text": {"=?base64?" + strings.Repeat("eHh4", 11000/4) + "?="}},
				{"Cookie": {strings.Repeat("c", 12000)}, "Baggage": {strings.Repeat("b", 12000)}, "Authorization": {"Bearer " + strings.Repeat("a", 24000)}},
			} {
				for _, revision := range eras {
					c := connect(t, over.client(), over.url(), revision)
					req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, over.url(),
						strings.NewReader(request(1, "tools/call", c.meta(`,"name":"add","arguments":{"a":1,"b":2}`))))
					if err != nil {
						t.Fatal(err)
					}
					req.Header = header.Clone()
					for name, value := range map[string]string{
						"Content-Type": "application/json", "Accept": "application/json, text/event-stream", "Mcp-Protocol-Version": revision,
						"Mcp-Session-Id": c.session, "Mcp-Method": "tools/call", "Mcp-Name": "add",
					} {
						if value != "" {
							req.Header.Set(name, value)
						}
					}
					status := "none: the connection is closed" // as nginx does with HTTP/2
					if resp, err := over.client().Do(req); err == nil {
						status = resp.Status
						resp.Body.Close()
					}
					// Over HTTP/2 nginx counts what is compressed.
					passes, may := status == "200 OK", name == "documented" || http2 && longest(header) < 10000
					if passes != may {
						t.Errorf("%s, %s, a header of %d bytes: %s", name, revision, longest(header), status)
					}
				}
			}
		}
	})
}

func longest(header http.Header) int {
	most := 0
	for _, values := range header {
		most = max(most, len(values[0]))
	}
	return most
}

// TestNginxPassesHeadersOfAnyName: which headers repeat the arguments of a tool, the tool decides.
func TestNginxPassesHeadersOfAnyName(t *testing.T) {
	through(t, func(t *testing.T, http2 bool) {
		seen := make(chan http.Header, 1)
		backend := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen <- r.Header }))
		t.Cleanup(backend.Close)
		s := &server{addr: backend.Listener.Addr().String()}
		names := []string{"Mcp-Param-user_id", "Mcp-Param-user.id", "Mcp-Param-a!#$%&'*+^`|~b", "mcp-param-_", "X_Request_ID"}
		for name, over := range map[string]*nginx{"documented": startNginx(t, http2, documented(t), s), "defaults": startNginx(t, http2, fmt.Sprintf(defaults, ""), s)} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, over.url(), strings.NewReader("{}"))
			if err != nil {
				t.Fatal(err)
			}
			for _, header := range names {
				req.Header.Set(header, "x")
			}
			resp, err := over.client().Do(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				t.Fatalf("%s: %s", name, resp.Status)
			}
			header := <-seen
			for _, want := range names {
				if passes := header.Get(want) == "x"; passes != (name == "documented") {
					t.Errorf("%s: %s passes: %v", name, want, passes)
				}
			}
		}
	})
}

// TestNginxControllersGetTheSame holds the settings of the controllers in Kubernetes against those of the template.
func TestNginxControllersGetTheSame(t *testing.T) {
	t.Parallel()
	settings := regexp.MustCompile(`(?m)^ *((?:large_client_header_buffers|underscores_in_headers|ignore_invalid_headers) .*);$`)
	var want []string
	for _, m := range settings.FindAllStringSubmatch(documented(t), -1) {
		want = append(want, m[1])
	}
	data := func(controller string) map[string]string {
		var patch corev1.ConfigMap
		if err := yaml.UnmarshalStrict(read(t, "kubernetes/ingress-nginx/configmap-"+controller+".yaml"), &patch); err != nil {
			t.Fatal(err)
		}
		return patch.Data
	}
	snippet := data("f5")["http-snippets"]
	var got []string
	for _, m := range settings.FindAllStringSubmatch(snippet, -1) {
		got = append(got, m[1])
	}
	if len(want) != 3 || !slices.Equal(got, want) || len(data("f5")) != 1 {
		t.Errorf("F5's controller gets %q, the template has %q", got, want)
	}
	startNginx(t, false, snippet+fmt.Sprintf(defaults, ""), start(t, nil)) // which nginx has to understand
	community := data("community")
	translated := []string{
		"large_client_header_buffers " + community["large-client-header-buffers"],
		"underscores_in_headers " + map[string]string{"true": "on"}[community["enable-underscores-in-headers"]],
		"ignore_invalid_headers " + map[string]string{"false": "off"}[community["ignore-invalid-headers"]],
	}
	if !slices.Equal(translated, want) || len(community) != 3 {
		t.Errorf("the community's controller gets %q, the template has %q", translated, want)
	}
}

// TestNginxWithSeveralReplicas takes the replica away that runs a session's call, of three.
func TestNginxWithSeveralReplicas(t *testing.T) {
	store := os.Getenv("SLUICE_TEST_REDIS_URL")
	require(t, store != "", "SLUICE_TEST_REDIS_URL")
	through(t, func(t *testing.T, http2 bool) {
		for name, signal := range map[string]syscall.Signal{"killed": syscall.SIGKILL, "drained": syscall.SIGTERM} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				loseOwner(t, http2, store, signal)
			})
		}
	})
}

func loseOwner(t *testing.T, http2 bool, store string, signal syscall.Signal) {
	env := map[string]string{
		"MCP_STORE_URL":  store + "?prefix=" + rand.Text() + ":",
		"MCP_STATE_KEYS": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
	}
	replicas := map[string]*server{}
	var list []*server
	for range 3 {
		s := start(t, env)
		s.probe(overHTTP1(), "/readyz")
		replicas[s.addr] = s
		list = append(list, s)
	}
	// The test has to know which replica it is.
	conf := strings.Replace(documented(t), "proxy_pass http://mcp;", "proxy_pass http://mcp; add_header X-Upstream $upstream_addr;", 1)
	n := startNginx(t, http2, conf, list...)
	c := connect(t, n.client(), n.url(), "2025-11-25")
	r := c.call(1, "countdown", `{"from":100,"delay_ms":50}`)
	last := r.must()
	owner := replicas[r.Header.Get("X-Upstream")]
	if owner == nil {
		t.Fatalf("X-Upstream is %q", r.Header.Get("X-Upstream"))
	}
	if err := owner.cmd.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
	last = r.broken(last)

	// Killed, its call is taken over: a countdown may run twice. Drained, it is followed from another replica.
	events := c.patient(func() *reply { return c.resume(last.id) }).rest()
	if got := events[len(events)-1].data; !strings.Contains(got, "Counted down from 100.") {
		t.Errorf("the call ended with %s", got)
	}
	// The session lives on. nginx asks the lost replica too, and then another.
	for id := 2; id < 8; id++ {
		got := c.patient(func() *reply { return c.call(id, "add", `{"a":1,"b":2}`) }).result()
		if !strings.Contains(got, `"text":"3"`) {
			t.Error(got)
		}
	}
}
