package serve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice"
	"github.com/sluice-mcp/sluice/observe"
)

// An App is one MCP server being served. Start it once; after that anyone may
// call Stop, at any time and more than once.
type App struct {
	server *mcp.Server
	cfg    Config
	log    *slog.Logger
	guard  *guard // nil when everybody may call

	observer observe.Observer

	handler     *sluice.Handler // nil over stdio
	addr        net.Addr        // nil over stdio and on Lambda
	metricsAddr net.Addr        // nil if nobody reads them
	draining    atomic.Bool
	linger      time.Duration // how long a drain takes at least
	done        chan error    // takes what ended the serving, if it was not Stop

	cleanups []cleanup
	stop     sync.Once
	stopErr  error
}

// A cleanup undoes one step of Start. Its context ends with the grace period.
type cleanup struct {
	name string
	run  func(ctx context.Context) error
}

// New checks the configuration. It opens nothing; the error names the value that is wrong.
func New(server *mcp.Server, cfg Config) (*App, error) {
	if server == nil {
		return nil, errNoServer
	}
	cfg = cfg.withDefaults()
	if err := cfg.check(); err != nil {
		return nil, err
	}
	log := newLogger(cfg)
	observer := cfg.observer(log)
	guard, err := newGuard(cfg, log, observer)
	if err != nil {
		return nil, err
	}
	return &App{server: server, cfg: cfg, log: log, observer: observer, guard: guard, done: make(chan error, 1)}, nil
}

// Start opens what the server needs and serves in the background. When it returns nil, the listener is bound and [App.Addr]
// readable; on an error nothing is left open. ctx bounds the start only. In the process of a Lambda
// function there is no listener: [StreamableHTTP] then serves the requests of the function's URL.
func (a *App) Start(ctx context.Context) error {
	start := a.startHTTP
	if a.cfg.Transport == Stdio {
		start = a.startStdio
	} else if os.Getenv(runtimeAPI) != "" {
		start = a.startLambda
	}
	if err := start(ctx); err != nil {
		return errors.Join(err, a.Stop())
	}
	return nil
}

// Run starts the app, waits until ctx is done or serving ends by itself, and stops it.
func (a *App) Run(ctx context.Context) error {
	if err := a.Start(ctx); err != nil {
		return err
	}
	var err error
	select {
	case <-ctx.Done():
		a.log.Info("stopping", "grace", a.cfg.ShutdownGrace.String())
	case err = <-a.done:
	}
	return errors.Join(err, a.Stop())
}

// Stop reports the endpoint as not ready, lets the calls in flight finish and frees everything, last opened first. It
// takes at most the grace period; the error says what did not finish within it.
// Later calls wait for the first and return its error.
func (a *App) Stop() error {
	a.stop.Do(func() {
		a.draining.Store(true)
		ctx, cancel := context.WithTimeout(context.Background(), a.cfg.ShutdownGrace)
		defer cancel()
		var errs []error
		for _, c := range slices.Backward(a.cleanups) {
			if err := c.within(ctx); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", c.name, err))
			}
		}
		a.stopErr = errors.Join(errs...)
	})
	return a.stopErr
}

// within runs the clean-up for no longer than the grace period lasts, and a moment for what heeds it to say so: a store that hangs would
// hold up the process, and the platform would kill it before the other clean-ups are done.
func (c cleanup) within(ctx context.Context) error {
	done := make(chan error, 1)
	go func() { done <- c.run(ctx) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-done:
		return err
	case <-time.After(lastMoment):
		return ctx.Err()
	}
}

const lastMoment = 100 * time.Millisecond

// onStop registers a clean-up, to be run before those that are there already.
func (a *App) onStop(name string, run func(ctx context.Context) error) {
	a.cleanups = append(a.cleanups, cleanup{name, run})
}

// Addr is the address that the app listens on; nil before Start, over stdio and on Lambda.
func (a *App) Addr() net.Addr { return a.addr }
