package auth

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	sdk "github.com/modelcontextprotocol/go-sdk/auth"
)

// expand adds to the scopes of a token what they imply, so that whoever asks for a narrow one finds it
// (Authorization, "Step-Up Authorization Flow": servers account for scope hierarchies).
func (a *Auth) expand(scopes []string) []string {
	for i := 0; i < len(scopes); i++ { // grows as it goes
		for _, s := range a.cfg.Implies[scopes[i]] {
			if !slices.Contains(scopes, s) {
				scopes = append(scopes, s)
			}
		}
	}
	return scopes
}

// RequireScopes returns a middleware for [mcp.Server.AddReceivingMiddleware] that lets a tool be called only with all the scopes that
// tools maps its name to, besides those of [Config]. A call without a token has no scopes: do
// not add it to a server on stdio.
//
// A client of revision 2025-06-18 or newer behind [Auth.Protect] is answered with 403 and a challenge, from which it can
// ask its user for more; any other one with a JSON-RPC error that names the scopes.
func RequireScopes(tools map[string][]string) mcp.Middleware {
	return func(next mcp.MethodHandler) mcp.MethodHandler {
		return func(ctx context.Context, method string, req mcp.Request) (mcp.Result, error) {
			call, ok := req.GetParams().(*mcp.CallToolParamsRaw)
			if !ok || len(tools[call.Name]) == 0 {
				return next(ctx, method, req)
			}
			need := tools[call.Name]
			var info *sdk.TokenInfo
			if extra := req.GetExtra(); extra != nil {
				info = extra.TokenInfo
			}
			if info != nil && containsAll(info.Scopes, need) {
				return next(ctx, method, req)
			}
			if info != nil {
				if needs, ok := info.Extra[stepUpKey].(*atomic.Pointer[[]string]); ok {
					needs.Store(&need)
				}
			}
			data, err := json.Marshal(map[string][]string{"scopes": need})
			if err != nil {
				return nil, err
			}
			return nil, &jsonrpc.Error{
				Code: codeUnauthorized, Message: "Insufficient scope: this tool needs " + strings.Join(need, " "), Data: data,
			}
		}
	}
}

// stepUpKey is where, in a TokenInfo's Extra, RequireScopes leaves the scopes that a call would have needed. The TokenInfo is
// all that the SDK hands from the HTTP request to the tool; there is one for each request.
const stepUpKey = "github.com/sluice-mcp/sluice/auth.stepUp"

// stepUp returns a writer that turns the answer to a call into a challenge if RequireScopes has refused it. A batch, which only
// 2025-03-26 has, is left alone: one of its calls must not decide the status of all.
func (a *Auth) stepUp(w http.ResponseWriter, r *http.Request, info *sdk.TokenInfo) http.ResponseWriter {
	if r.Method != http.MethodPost || r.Header.Get("Mcp-Protocol-Version") <= "2025-03-26" {
		return w
	}
	s := &stepUpWriter{ResponseWriter: w, auth: a}
	info.Extra = map[string]any{stepUpKey: &s.needs}
	return s
}

type stepUpWriter struct {
	http.ResponseWriter
	auth   *Auth
	needs  atomic.Pointer[[]string]
	headed bool
}

// Unwrap is for [http.ResponseController].
func (s *stepUpWriter) Unwrap() http.ResponseWriter { return s.ResponseWriter }

// WriteHeader implements [http.ResponseWriter].
func (s *stepUpWriter) WriteHeader(status int) {
	s.headed = true
	// If a message came before the refusal, the status is out: the stream then ends with the JSON-RPC error alone.
	if need := s.needs.Load(); need != nil {
		all := slices.Compact(slices.Sorted(slices.Values(slices.Concat(s.auth.cfg.Scopes, *need))))
		s.Header().Set("WWW-Authenticate", s.auth.challenge(*insufficient(all)))
		status = http.StatusForbidden
	}
	s.ResponseWriter.WriteHeader(status)
}

// Write implements [http.ResponseWriter].
func (s *stepUpWriter) Write(p []byte) (int, error) {
	if !s.headed {
		s.WriteHeader(http.StatusOK)
	}
	return s.ResponseWriter.Write(p)
}
