package spec_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// needsAuth is why most of the section waits.
const needsAuth = "needs package auth, which is to come; the endpoint itself takes whatever principal the middleware before it found"

var authorization = []statement{
	{ID: "A-01", Revisions: "03 06 11 26", Level: "MUST", Text: "No token, an unknown or an expired one is 401 on every method", Test: testA01},
	{ID: "A-02", Revisions: "06 11 26", Level: "MUST", Text: "The 401 names the resource metadata", Test: testA02},
	{ID: "A-03", Revisions: "06 11 26", Level: "MUST", Text: "RFC 9728 metadata is served, and its resource is the canonical URI", Pending: needsAuth},
	{ID: "A-04", Revisions: "11 26", Level: "SHOULD", Text: "The 401 names the scope", Test: testA04},
	{ID: "A-05", Revisions: "all", Level: "SHOULD", Text: "error=\"invalid_token\" comes for a bad token, no error code for none", Pending: needsAuth},
	{ID: "A-06", Revisions: "11 26", Level: "SHOULD", Text: "Insufficient scope is 403 with the scope that is needed", Pending: needsAuth},
	{ID: "A-07", Revisions: "26", Level: "SHOULD", Text: "One challenge names all scopes; broader scopes contain narrower ones", Pending: needsAuth},
	{ID: "A-08", Revisions: "06 11 26", Level: "MUST", Text: "A token for another resource is 401", Pending: needsAuth},
	{ID: "A-09", Revisions: "06 11 26", Level: "MUST", Text: "Signature, issuer, expiry and not-before are checked", Pending: needsAuth},
	{ID: "A-10", Revisions: "all", Level: "MUST NOT", Text: "A token in the query string is taken", Test: testA10},
	{ID: "A-11", Revisions: "all", Level: "MUST", Text: "Every request is authorized, also inside a session", Test: testA11},
	{ID: "A-12", Revisions: "all", Level: "MUST", Text: "A malformed Authorization header is 400 or 401", Test: testA12},
	{ID: "A-13", Revisions: "26", Level: "SHOULD NOT", Text: "offline_access is among the scopes that are asked", Pending: needsAuth},
	{ID: "A-14", Revisions: "11 26", Level: "MUST NOT", Text: "A client's token is passed on to other services", Test: testA14},
	{
		ID: "A-15", Revisions: "03", Level: "SHOULD/MUST", Text: "A server that is its own authorization server publishes its metadata",
		Pending: "does not apply: the endpoint is a resource server only and issues no tokens",
	},
	{ID: "A-16", Revisions: "all", Level: "MUST", Text: "The scheme name is case-insensitive", Test: testA16},
}

// everywhere sends one request of each kind with the edit, in and outside of a session, and checks the answers.
func everywhere(t *testing.T, e *env, s *session, auth edit, check func(what string, r *reply)) {
	t.Helper()
	check("initialize", e.do(t, e.post(t, initialize(1, v11, obj{}), auth)))
	check("2026-07-28", e.send26(t, request(1, "tools/list", nil), auth))
	check("discover", e.send26(t, request(1, "server/discover", nil), auth))
	check("POST", s.send(t, request(1, "ping", nil), auth))
	check("notification", s.send(t, notification("notifications/initialized", nil), auth))
	check("GET", s.get(t, "", auth))
	check("DELETE", s.delete(t, auth))
}

func testA01(t *testing.T) {
	e := serve(t, authenticated)
	s := e.open(t, v11, as("alice"))
	for name, auth := range map[string]edit{"none": without("Authorization"), "unknown": as("mallory"), "expired": as("expired")} {
		everywhere(t, e, s, auth, func(what string, r *reply) {
			if r.status != 401 {
				t.Errorf("%s token, %s: HTTP %d", name, what, r.status)
			}
		})
	}
	s.send(t, request(2, "ping", nil)).result(t)
}

func testA02(t *testing.T) {
	e := serve(t, authenticated)
	everywhere(t, e, e.open(t, v11, as("alice")), without("Authorization"), func(what string, r *reply) {
		if v := r.header.Get("WWW-Authenticate"); !strings.HasPrefix(v, "Bearer ") || !strings.Contains(v, `resource_metadata="https://mcp.example/`) {
			t.Errorf("%s: WWW-Authenticate is %q", what, v)
		}
	})
}

func testA04(t *testing.T) {
	e := serve(t, authenticated)
	everywhere(t, e, e.open(t, v11, as("alice")), without("Authorization"), func(what string, r *reply) {
		if v := r.header.Get("WWW-Authenticate"); !strings.Contains(v, `scope="mcp"`) {
			t.Errorf("%s: WWW-Authenticate is %q", what, v)
		}
	})
}

func testA10(t *testing.T) {
	e := serve(t, authenticated)
	s := e.open(t, v11, as("alice"))
	query := func(r *http.Request) {
		r.Header.Del("Authorization")
		r.URL.RawQuery = "access_token=alice"
	}
	everywhere(t, e, s, query, func(what string, r *reply) {
		if r.status != 401 {
			t.Errorf("%s: HTTP %d", what, r.status)
		}
	})
}

func testA11(t *testing.T) {
	e := serve(t, authenticated)
	for _, v := range legacy {
		s := e.open(t, v, as("alice"))
		for range 2 { // also after a request that was in order
			s.send(t, request(1, "ping", nil), without("Authorization")).has(t, 401)
			s.send(t, request(2, "ping", nil)).result(t)
		}
		stream := s.send(t, call(3, "elicit", obj{"key": "k-" + v})).events(t)
		ask, _ := stream.message(t)
		s.send(t, obj{"jsonrpc": "2.0", "id": ask.ID, "result": ann["name"]}, without("Authorization")).has(t, 401)
		stream.quiet(t, "an answer without a token is none")
		s.answer(t, ask, ann["name"].(obj)).accepted(t)
		stream.message(t)
	}
}

func testA12(t *testing.T) {
	e := serve(t, authenticated)
	s := e.open(t, v11, as("alice"))
	for _, value := range []string{"Basic YWxpY2U6eA==", "Bearer", "Bearer ", "alice", "Bearer alice bob", "Bearer alice, Bearer bob", "Bearer=alice", "Bearer \"alice\""} {
		everywhere(t, e, s, with("Authorization", value), func(what string, r *reply) {
			if r.status != 400 && r.status != 401 {
				t.Errorf("%q, %s: HTTP %d", value, what, r.status)
			}
		})
	}
}

func testA14(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%q %s", r.Header, r.URL)
	}))
	t.Cleanup(func() { http.DefaultClient.CloseIdleConnections(); upstream.Close() })
	e := serve(t, authenticated)
	got := []string{content(t, e.send26(t, call(1, "fetch", obj{"text": upstream.URL}), as("alice")).result(t))}
	for _, v := range legacy {
		got = append(got, e.open(t, v, as("alice")).run(t, "fetch", obj{"text": upstream.URL}))
	}
	for _, seen := range got {
		if strings.Contains(seen, "alice") || strings.Contains(seen, "Authorization") {
			t.Errorf("the other service saw %s", seen)
		}
	}
}

func testA16(t *testing.T) {
	e := serve(t, authenticated)
	for _, scheme := range []string{"bearer", "BEARER", "BeArEr"} {
		auth := with("Authorization", scheme+" alice")
		e.send26(t, request(1, "tools/list", nil), auth).has(t, 200)
		e.open(t, v11, auth)
	}
}
