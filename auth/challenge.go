package auth

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// JSON-RPC error codes, outside all that JSON-RPC and MCP reserve; what the endpoint answers has its own beside them.
const (
	// codeUnauthorized comes with 400, 401 and 403: the challenge in the HTTP header says what to do.
	codeUnauthorized = -31013
	// codeBusy comes with 429 and 503, as the endpoint's own does: Retry-After says when to come back.
	codeBusy = -31010
)

// A refusal is why a request does not pass.
type refusal struct {
	status      int
	code        string // of OAuth; empty if no token was presented
	description string // ours, never the client's: it goes into a header
	scopes      []string
	retry       time.Duration // for 503
}

func malformed(what string) *refusal {
	return &refusal{status: http.StatusBadRequest, code: "invalid_request", description: "the request has " + what}
}

// insufficient names all the scopes that the operation needs, also those that the token has: a client
// may ask for exactly these.
func insufficient(scopes []string) *refusal {
	return &refusal{
		status: http.StatusForbidden, code: "insufficient_scope", scopes: scopes,
		description: "this needs the scopes " + strings.Join(scopes, " "),
	}
}

// challenge is the WWW-Authenticate header of a refusal (RFC 6750, section 3; RFC 9728, section 5.1). Nothing in it
// needs escaping: scopes, URLs and descriptions hold neither quotes nor backslashes.
func (a *Auth) challenge(f refusal) string {
	scopes := f.scopes
	if scopes == nil {
		scopes = a.cfg.Scopes
	}
	var params []string
	add := func(name, value string) {
		if value != "" {
			params = append(params, name+`="`+value+`"`)
		}
	}
	add("error", f.code)
	if f.code != "" {
		add("error_description", f.description)
	}
	add("scope", strings.Join(scopes, " "))
	add("resource_metadata", a.metadataURL)
	return "Bearer " + strings.Join(params, ", ")
}

func (a *Auth) refuse(w http.ResponseWriter, r *http.Request, f refusal) {
	if f.status == http.StatusServiceUnavailable {
		writeBusy(w, r, f.status, f.description, f.retry)
		return
	}
	w.Header().Set("WWW-Authenticate", a.challenge(f))
	writeError(w, r, f.status, codeUnauthorized, f.description)
}

func writeBusy(w http.ResponseWriter, r *http.Request, status int, message string, retry time.Duration) {
	w.Header().Set("Retry-After", strconv.Itoa(int(max(1, math.Ceil(retry.Seconds())))))
	writeError(w, r, status, codeBusy, message)
}

func writeError(w http.ResponseWriter, r *http.Request, status, code int, message string) {
	type rpcError struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
	}
	body, _ := json.Marshal(struct { // strings and numbers cannot fail to marshal
		JSONRPC string   `json:"jsonrpc"`
		Error   rpcError `json:"error"`
	}{"2.0", rpcError{code, message}})

	head := w.Header()
	if len(r.Header["Origin"]) > 0 {
		// A client in a browser has to read the challenge, which is as public as the metadata. What is
		// behind it, the endpoint gives only to the origins that it allows.
		head.Set("Access-Control-Allow-Origin", "*")
		head.Set("Access-Control-Expose-Headers", "WWW-Authenticate, Retry-After")
	}
	head.Set("Content-Type", "application/json")
	head.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(body) // a client that is gone cannot be told so
}

// checkScope refuses what cannot be a scope (RFC 6749, section 3.3), and offline_access, which a client may ask of the
// authorization server but no resource needs (Authorization, "Refresh Tokens").
func checkScope(s string) error {
	if s == "" || strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c > '~' || c == '"' || c == '\\' }) {
		return fmt.Errorf("%q is not a scope", s)
	}
	if s == "offline_access" {
		return errors.New("offline_access is nothing that a resource asks for")
	}
	return nil
}

func containsAll(have, need []string) bool {
	return !slices.ContainsFunc(need, func(s string) bool { return !slices.Contains(have, s) })
}
