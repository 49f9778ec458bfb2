package serve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/sluice-mcp/sluice/observe"
)

// Telemetry is what a program brings along to export what its endpoint does. The module telemetry/export has one; this package does
// not, because exporters weigh more than all the rest.
type Telemetry interface {
	// The endpoint tells it what it does, after Start.
	observe.Observer
	// Start begins to export. It returns at once, and reads itself what it is to export, and to where; scraped says whether ServeHTTP
	// is going to be asked.
	Start(log *slog.Logger, scraped bool) error
	// ServeHTTP answers with the metrics.
	http.Handler
	// Shutdown exports what has not been exported yet, for as long as ctx lasts.
	Shutdown(ctx context.Context) error
}

// An Option says of a program what flags and environment cannot.
type Option func(*Config)

// WithTelemetry has a program export what its endpoint does.
func WithTelemetry(t Telemetry) Option { return func(c *Config) { c.Telemetry = t } }

// flushTimeout is how much of the grace period is kept for telemetry, or a quarter of it: what the last calls have told is worth it, and a
// collector that hangs is worth no more.
const flushTimeout = 2 * time.Second

// flush is how long telemetry has at the end.
func (c Config) flush() time.Duration {
	if c.Telemetry == nil {
		return 0
	}
	return min(flushTimeout, c.ShutdownGrace/4)
}

// startTelemetry comes before everything that it is told of, and so ends after that.
func (a *App) startTelemetry(ctx context.Context, listen bool) error {
	if a.cfg.Telemetry == nil {
		return nil
	}
	scraped := a.cfg.MetricsAddr != "" && listen
	if err := a.cfg.Telemetry.Start(a.log, scraped); err != nil {
		return fmt.Errorf("telemetry: %w", err)
	}
	a.onStop("telemetry", func(context.Context) error {
		ctx, cancel := context.WithTimeout(context.Background(), a.cfg.flush())
		defer cancel()
		if err := a.cfg.Telemetry.Shutdown(ctx); err != nil {
			a.log.Warn("not all telemetry was exported at the end", "error", err)
		}
		return nil
	})
	if scraped {
		return a.listenForMetrics(ctx)
	}
	a.warnUnread()
	return nil
}

// warnUnread says that a setting is without effect where nobody can connect, or nothing is told.
func (a *App) warnUnread() {
	if a.cfg.MetricsAddr != "" {
		a.log.Warn("nobody can read the metrics of this process: --metrics-addr (MCP_METRICS_ADDR) has no effect")
	}
}

// listenForMetrics shows them on a listener of their own: who may call is not who may see how much others do.
func (a *App) listenForMetrics(ctx context.Context) error {
	address, _ := metricsAddress(a.cfg.MetricsAddr) // checked
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("--metrics-addr (MCP_METRICS_ADDR): %w", err)
	}
	a.metricsAddr = listener.Addr()
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", a.cfg.Telemetry)
	srv := newHTTPServer(mux, a.log)
	// Not before the endpoint has ended: its end is to be seen, too.
	a.onStop("metrics", func(context.Context) error { return srv.Close() })
	go func() {
		if err := srv.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			a.done <- err
		}
	}()
	a.log.Info("serving metrics", "address", listener.Addr().String(), "path", "/metrics")
	return nil
}

// MetricsAddr is the address at which the metrics can be read; nil if they cannot.
func (a *App) MetricsAddr() net.Addr { return a.metricsAddr }

// metricsAddress completes HOST:PORT. Without a host it is this machine's own: nobody opens a port to the world by leaving something out.
func metricsAddress(address string) (string, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", err
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return "", fmt.Errorf("%q is no port", port)
	}
	if host == "" {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port), nil
}
