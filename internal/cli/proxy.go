package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-mcp/sluice/internal/proxy"
)

const (
	// headerTimeout bounds how long a local client may take to say what it wants.
	headerTimeout = 10 * time.Second
	// closeTimeout is how long open streams may go on after the end was asked for.
	closeTimeout = 2 * time.Second
)

func proxyCommand(wire io.Writer) *cobra.Command {
	var r remote
	var listen string
	cmd := &cobra.Command{
		Use:   "proxy URL",
		Short: "Reach a remote server from stdio or a local port, with an identity",
		Long: `Connect a client that speaks only stdio to the server at URL: messages on standard input go to the server, its messages
come out of standard output. Lost streams are resumed, a session that the server forgot is opened anew, and what cannot
be mended is the answer to the request.

With --listen it opens a local port instead, which passes everything on to the server, and prints the local URL.

Each request carries the token that the flags ask for; one is used until shortly before it expires.`,
		Example: `  claude mcp add weather -- sluice proxy https://weather-abc123.a.run.app/mcp --token-command 'gcloud auth print-identity-token'
  sluice proxy https://weather-abc123.a.run.app/mcp --token-metadata https://weather-abc123.a.run.app
  sluice proxy https://weather-abc123.a.run.app/mcp --token-file /run/token --listen 127.0.0.1:9000`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			u, err := parseURL(args[0])
			if err != nil {
				return err
			}
			transport, err := r.roundTripper(u, proxy.NewTransport())
			if err != nil {
				return err
			}
			log := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil))
			if listen != "" {
				announce := func(address string) {
					local := *u
					local.Scheme, local.Host, local.User = "http", address, nil
					fmt.Fprintln(cmd.OutOrStdout(), local.String())
				}
				return serve(cmd.Context(), listen, proxy.Forward(u, transport, log), announce)
			}
			bridge := &proxy.Bridge{URL: u.String(), Transport: transport, Log: log}
			return bridge.Run(cmd.Context(), cmd.InOrStdin(), wire)
		},
	}
	r.register(cmd)
	cmd.Flags().StringVar(&listen, "listen", "", "open a port at this loopback `address` (HOST:PORT, port 0 for a free one) instead of stdio")
	return cmd
}

// serve serves on an address of this machine only, until ctx is done.
func serve(ctx context.Context, address string, handler http.Handler, announce func(address string)) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return usagef("--listen: %w", err)
	}
	// Whoever reaches the port acts in the name of its owner.
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return usagef("--listen: %q is not an address that only this machine reaches, such as 127.0.0.1", host)
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: headerTimeout}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	announce(listener.Addr().String())
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	// Streams have no end of their own; calls may have.
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	if err := server.Shutdown(closing); errors.Is(err, context.DeadlineExceeded) {
		return server.Close()
	}
	return nil
}
