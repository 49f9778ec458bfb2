package serve

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice"
	"github.com/sluice-mcp/sluice/observe/accesslog"
)

const (
	// headerTimeout and readTimeout run from the first byte of a request to the end of its headers and of its body. After that
	// neither counts: a response may take as long as both ends like. (TestStreamOutlivesTheTimeouts holds net/http to this.)
	headerTimeout = 10 * time.Second
	readTimeout   = 30 * time.Second
	idleTimeout   = 2 * time.Minute // longer than the idle time of common load balancers, who must close first

	maxHeaderBytes = 64 << 10

	readyTimeout = 2 * time.Second
	closeTimeout = 2 * time.Second // for clients to take the answers that are there

	longestLinger = time.Second           // for balancers to send nobody any more
	firstBytes    = 50 * time.Millisecond // for a request that is on its way when the listener closes
)

// open makes the endpoint. principal is as in [sluice.Options].
func (a *App) open(ctx context.Context, principal func(*http.Request) string) error {
	keys, err := a.cfg.stateKeys()
	if err != nil {
		return err
	}
	backend, err := a.openStore(ctx)
	if err != nil {
		return err
	}
	if backend != nil {
		a.linger = min(longestLinger, a.cfg.ShutdownGrace/4)
	}
	a.handler = sluice.NewHandler(func(*http.Request) *mcp.Server { return a.server }, &sluice.Options{
		Logger:         a.log,
		Observer:       a.observer,
		Store:          backend,
		AllowedOrigins: a.cfg.AllowedOrigins,
		AllowedHosts:   slices.Concat(a.guard.hosts(), a.cfg.AllowedHosts),
		Principal:      principal,
		SessionTimeout: a.cfg.SessionTimeout,
		StateKeys:      keys,
		OnceTTL:        a.cfg.OnceTTL,
		TaskAfter:      a.cfg.TaskAfter,
		NoTasks:        os.Getenv(runtimeAPI) != "", // nothing runs after Lambda's response
	})
	a.onStop("endpoint", func(context.Context) error { return a.handler.Close() })
	return nil
}

func (a *App) startHTTP(ctx context.Context) error {
	if err := a.startTelemetry(ctx, true); err != nil {
		return err
	}
	if err := a.open(ctx, nil); err != nil {
		return err
	}
	srv := newHTTPServer(a.routes(), a.log)
	a.onStop("connections", func(ctx context.Context) error { return a.closeConnections(ctx, srv) })

	address := net.JoinHostPort(a.cfg.Host, strconv.Itoa(int(a.cfg.Port)))
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("--host, --port (MCP_SERVER_HOST, MCP_SERVER_PORT): %w", err)
	}
	a.addr = listener.Addr()
	// While calls finish, the listener stays: new ones are refused with an answer rather than with a closed door.
	a.onStop("drain", a.drain)

	go func() {
		if err := srv.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			a.done <- err
		}
	}()
	a.announce()
	return nil
}

// drain waits for the calls in flight. Where other replicas go on, it then keeps the door open for a moment: a balancer needs
// that long to notice, and a request that meets a closed door is one of which nobody knows whether it was executed. It keeps a tenth of the grace period for telling those that do not finish in time.
func (a *App) drain(ctx context.Context) error {
	draining, cancel := context.WithTimeout(ctx, a.cfg.ShutdownGrace*9/10-a.cfg.flush())
	defer cancel()
	lingered := time.After(a.linger)
	if err := a.handler.Drain(draining); err != nil {
		return errors.Join(err, a.handler.Close())
	}
	<-lingered
	return nil
}

// closeConnections waits for what has been answered to be written. It must come after drain: it would wait for
// every open stream.
func (a *App) closeConnections(ctx context.Context, srv *http.Server) error {
	ctx, cancel := context.WithTimeout(ctx, closeTimeout)
	defer cancel()
	if err := srv.Shutdown(ctx); err != nil {
		a.log.Warn("closing connections that did not end by themselves", "error", err)
		return srv.Close()
	}
	return nil
}

func newHTTPServer(handler http.Handler, log *slog.Logger) *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	srv := &http.Server{
		Handler:           handler,
		Protocols:         protocols,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       readTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	dropUnused(srv)
	return srv
}

// dropUnused makes Shutdown close the connections on which nothing was ever sent, as browsers and other clients open them
// in advance. By itself it takes them for busy during their first 5 seconds.
func dropUnused(srv *http.Server) {
	var mu sync.Mutex
	unused := make(map[net.Conn]struct{})
	srv.ConnState = func(conn net.Conn, state http.ConnState) {
		mu.Lock()
		defer mu.Unlock()
		if state == http.StateNew {
			unused[conn] = struct{}{}
		} else {
			delete(unused, conn)
		}
	}
	srv.RegisterOnShutdown(func() {
		time.AfterFunc(firstBytes, func() {
			mu.Lock()
			defer mu.Unlock()
			for conn := range unused {
				conn.Close()
			}
		})
	})
}

func (a *App) routes() http.Handler {
	mux := http.NewServeMux()
	endpoint := a.cfg.Path
	if endpoint == "/" {
		endpoint = "/{$}" // "/" alone would match every path
	}
	a.guard.mount(mux)
	mux.Handle(endpoint, accesslog.RequestIDs(a.guard.protect(a.handler)))
	if a.cfg.HTTPSSE {
		old := accesslog.RequestIDs(a.guard.protect(a.handler.HTTPSSE("/messages")))
		mux.Handle("/sse", old)
		mux.Handle("/messages", old)
	}
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { plain(w, http.StatusOK, "alive") })
	mux.HandleFunc("/readyz", a.ready)
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		plain(w, http.StatusNotFound, "nothing here: the MCP endpoint is at "+a.cfg.Path)
	})
	return mux
}

func (a *App) ready(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), readyTimeout)
	defer cancel()
	if a.draining.Load() {
		plain(w, http.StatusServiceUnavailable, "not ready: draining")
	} else if err := a.handler.Ready(ctx); err != nil {
		plain(w, http.StatusServiceUnavailable, "not ready: "+err.Error())
	} else {
		plain(w, http.StatusOK, "ready")
	}
}

func plain(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	fmt.Fprintln(w, text)
}

// announce logs the line that says how to connect. URL and address are there for programs to read.
func (a *App) announce() {
	revisions := mcp.SupportedProtocolVersions()
	if !a.cfg.HTTPSSE {
		revisions = slices.DeleteFunc(revisions, func(r string) bool { return r == "2024-11-05" })
	}
	url := a.URL()
	a.log.Info("serving MCP over HTTP",
		"url", url,
		"address", a.addr.String(),
		"revisions", strings.Join(revisions, ", "),
		"connect", "claude mcp add --transport http "+filepath.Base(os.Args[0])+" "+url)
}

// URL is the endpoint's, as a client on this machine reaches it; empty before Start, over stdio and on Lambda.
func (a *App) URL() string {
	tcp, ok := a.addr.(*net.TCPAddr)
	if !ok {
		return ""
	}
	return "http://" + reachable(tcp.IP.String(), tcp.Port) + a.cfg.Path
}

// reachable is an address to connect to for what listens on host: 0.0.0.0 is none.
func reachable(host string, port int) string {
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return net.JoinHostPort(host, strconv.Itoa(port))
}

// healthcheck asks another process, which serves with this configuration, whether it is ready. It is there
// for containers that hold neither a shell nor curl.
func (c Config) healthcheck(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	url := "http://" + reachable(c.Host, int(c.Port)) + "/readyz"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
		return fmt.Errorf("%s: %s", resp.Status, bytes.TrimSpace(text))
	}
	return nil
}
