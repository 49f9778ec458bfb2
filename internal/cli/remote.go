package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/spf13/cobra"

	"github.com/sluice-mcp/sluice/internal/proxy"
	"github.com/sluice-mcp/sluice/internal/token"
	"github.com/sluice-mcp/sluice/tasks"
)

// connectTimeout bounds the handshake: a server that accepts and never answers is no server.
const connectTimeout = 30 * time.Second

// endpointTimeout bounds how long a server that may be an old one has to name its endpoint.
const endpointTimeout = 5 * time.Second

// tokenVariable holds a token that should show neither in the process list nor in a shell's history.
const tokenVariable = "SLUICE_TOKEN" //nolint:gosec // a name, not a token

// A remote is what the flags say about reaching a server.
type remote struct {
	headers                                       []string
	token, tokenCommand, tokenFile, tokenMetadata string
}

func (r *remote) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringArrayVarP(&r.headers, "header", "H", nil, "send this header, as 'Name: value', with every request (repeatable)")
	flags.StringVar(&r.token, "token", "", "send this bearer token (default: the variable "+tokenVariable+")")
	flags.StringVar(&r.tokenCommand, "token-command", "", "send the token that this shell command prints")
	flags.StringVar(&r.tokenFile, "token-file", "", "send the token in this file")
	flags.StringVar(&r.tokenMetadata, "token-metadata", "", "send Google Cloud's identity token for this `audience`, from the metadata server")
	cmd.MarkFlagsMutuallyExclusive("token", "token-command", "token-file", "token-metadata")
}

// tokens returns where tokens come from, nil if none are asked for.
func (r *remote) tokens() *token.Cache {
	switch {
	case r.tokenCommand != "":
		return token.NewCache(token.Command(r.tokenCommand))
	case r.tokenFile != "":
		return token.NewCache(token.File(r.tokenFile))
	case r.tokenMetadata != "":
		return token.NewCache(token.Metadata(r.tokenMetadata))
	case r.token != "":
		return token.NewCache(token.Static(r.token))
	case os.Getenv(tokenVariable) != "":
		return token.NewCache(token.Static(os.Getenv(tokenVariable)))
	}
	return nil
}

// nameChars are what a header's name is made of (RFC 9110, 5.6.2).
const nameChars = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

func (r *remote) header() (http.Header, error) {
	header := http.Header{}
	for _, h := range r.headers {
		name, value, ok := strings.Cut(h, ":")
		value = strings.TrimSpace(value)
		if !ok || name == "" || strings.Trim(name, nameChars) != "" || strings.ContainsFunc(value, unicode.IsControl) {
			return nil, usagef("--header: %q is not of the form 'Name: value'", name)
		}
		header.Add(name, value)
	}
	return header, nil
}

func parseURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, usagef("%q is not an http:// or https:// URL", s)
	}
	return u, nil
}

// roundTripper sends what the flags ask for beside each request to the server.
func (r *remote) roundTripper(u *url.URL, base http.RoundTripper) (http.RoundTripper, error) {
	header, err := r.header()
	if err != nil {
		return nil, err
	}
	return &token.Transport{Base: &headers{base: base, host: u.Host, header: header}, Server: u, Tokens: r.tokens()}, nil
}

// headers adds headers, which may be secrets, to the requests for one host.
type headers struct {
	base   http.RoundTripper
	host   string
	header http.Header
}

// RoundTrip implements [http.RoundTripper].
func (h *headers) RoundTrip(req *http.Request) (*http.Response, error) {
	if len(h.header) > 0 && req.URL.Host == h.host {
		req = req.Clone(req.Context())
		maps.Copy(req.Header, h.header)
		if host := h.header.Get("Host"); host != "" {
			req.Host = host // net/http sends this one, whatever the header says
		}
	}
	return h.base.RoundTrip(req)
}

// A connection is a client session, and what can be said about it when it fails.
type connection struct {
	*mcp.ClientSession
	watch        *watcher
	capabilities json.RawMessage // the server's, as it wrote them
}

// connect opens a session. Revision "" takes the newest that both sides speak, another insists on it.
func (r *remote) connect(ctx context.Context, address, revision string, opts *mcp.ClientOptions) (*connection, error) {
	u, err := parseURL(address)
	if err != nil {
		return nil, err
	}
	if known := mcp.SupportedProtocolVersions(); revision != "" && !slices.Contains(known, revision) {
		return nil, usagef("--revision: %q is none of %s", revision, strings.Join(known, ", "))
	}
	rt, err := r.roundTripper(u, proxy.NewTransport())
	if err != nil {
		return nil, err
	}
	watch := &watcher{base: rt} // above the token, whose source can fail too
	client := mcp.NewClient(&mcp.Implementation{Name: "sluice", Version: "v1.0.0"}, opts)
	httpClient := &http.Client{Transport: watch, CheckRedirect: proxy.CheckRedirect}
	streamable := &mcp.StreamableClientTransport{
		Endpoint: address, HTTPClient: httpClient,
		DisableStandaloneSSE: true, // nobody waits for what the server says unasked
	}
	if err := tasks.Enable(client, streamable); err != nil {
		return nil, err
	}
	var transport mcp.Transport = streamable
	old := &mcp.SSEClientTransport{Endpoint: address, HTTPClient: httpClient}
	if revision == "2024-11-05" {
		transport = old
	}
	session, err := open(ctx, client, transport, revision, connectTimeout)
	if err != nil {
		failed := watch.explain(ctx, err)
		if late, ok := errors.AsType[lateError](err); ok {
			failed = late
		}
		// A server of that revision knows no POST at this URL (Transports, "Backwards Compatibility").
		if revision == "" && watch.mayBeOld() {
			session, err = open(ctx, client, old, "", endpointTimeout)
		}
		if err != nil {
			return nil, &exitError{exitUnreachable, fmt.Errorf("cannot connect to %s: %w", address, failed)}
		}
	}
	if got := session.InitializeResult().ProtocolVersion; revision != "" && got != revision {
		_ = session.Close()
		return nil, &exitError{exitUnreachable, fmt.Errorf("%s does not speak revision %s: it chose %s", address, revision, got)}
	}
	return &connection{session, watch, watch.tap.capabilities()}, nil
}

// open opens a session. The stream of the old transport lives as long as the context that it was opened with, so that
// cannot be one with a deadline.
func open(ctx context.Context, client *mcp.Client, transport mcp.Transport, revision string, timeout time.Duration) (*mcp.ClientSession, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(timeout, func() { cancel(lateError(timeout)) })
	session, err := client.Connect(ctx, transport, &mcp.ClientSessionOptions{ProtocolVersion: revision})
	if !timer.Stop() {
		if err == nil {
			_ = session.Close()
		}
		return nil, context.Cause(ctx)
	}
	if err != nil {
		cancel(nil)
	}
	return session, err
}

// A lateError says how long a server has not answered.
type lateError time.Duration

func (e lateError) Error() string { return fmt.Sprintf("no answer within %v", time.Duration(e)) }
