package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"

	"github.com/sluice-mcp/sluice/internal/wire"
)

// twoWays calls the same server directly and through the SDK's connection.
type twoWays struct {
	seen         seen
	engine       *Engine
	direct, conn *Session
	lent         *Session // of the stateless era, and used again and again
}

func newTwoWays(tb testing.TB) *twoWays {
	tb.Helper()
	w := &twoWays{}
	server := newServer()
	server.AddReceivingMiddleware(w.seen.middleware)
	Conform(server) // what is fitted twice stays as it is
	w.engine = New(server, slog.New(slog.DiscardHandler))
	var err error
	if w.direct, err = w.engine.Connect(context.Background(), "S", legacyState(), &outbox{}); err != nil {
		tb.Fatal(err)
	}
	if w.conn, err = w.engine.Connect(context.Background(), "S", legacyState(), &outbox{}); err != nil {
		tb.Fatal(err)
	}
	if w.lent, err = w.engine.Lend("", meta(`{}`, `{}`), &outbox{}); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { w.direct.Close(); w.conn.Close(); w.lent.Close() })
	return w
}

// compare checks that both ways give the handlers the same request and the client the same answer.
func (w *twoWays) compare(t *testing.T, method, params string) {
	t.Helper()
	w.seen.take()
	raw, err := w.conn.Relay(t.Context(), call(method, params))
	want := answer(t, err, func() (json.RawMessage, error) { return raw, nil })
	relayed := asked(w.seen.take(), method)

	parsed := call(method, params) // as the endpoint does it
	if p, e := wire.ParseParams(parsed.Params); e == nil {
		parsed.Parsed = &p
	}
	for _, way := range []struct {
		name    string
		session *Session
		call    *Call
	}{
		{"direct", w.direct, call(method, params)},
		{"parsed", w.direct, parsed},
		{"lent", w.lent, parsed},
		{"lent again", w.lent, parsed},
	} {
		res, err := way.session.Do(t.Context(), way.call)
		got := answer(t, err, func() (json.RawMessage, error) { return AppendResult(nil, res) })
		if seen := asked(w.seen.take(), method); !slices.Equal(seen, relayed) {
			t.Errorf("%s %.300s\n%-9s %q\nconnected %q", method, params, way.name, seen, relayed)
		}
		if got != want && way.session == w.direct { // what a session may see differs between the eras
			t.Errorf("%s %.300s\n%-9s %s\nconnected %s", method, params, way.name, got, want)
		}
	}
}

// asked leaves out of what was seen the lists that the engine looks at for itself.
func asked(seen []string, method string) []string {
	return slices.DeleteFunc(seen, func(s string) bool {
		return strings.Contains(s, "/list ") && !strings.HasPrefix(s, method)
	})
}

// answer is what the client gets: a result, or the code of an error. (Its words may differ.)
func answer(t *testing.T, err error, result func() (json.RawMessage, error)) string {
	t.Helper()
	if err == nil {
		var raw json.RawMessage
		if raw, err = result(); err == nil {
			var compact bytes.Buffer
			if e := json.Compact(&compact, raw); e != nil {
				t.Fatalf("the result %s is no JSON: %v", raw, e)
			}
			return compact.String()
		}
	}
	return string(wire.AppendError(nil, "", &wire.Error{Code: ToError(err).Code}))
}

// allParams are params that one method or another takes, or should refuse.
var allParams = []string{
	``, `{}`, `{"_meta":{}}`, `{"_meta":null}`, `{"_meta":{"progressToken":1}}`, `{"_meta":{"progressToken":"x"},"name":"echo"}`,
	`{"name":"echo"}`, `{"name":"echo","arguments":{}}`, `{"name":"echo","arguments":null}`, `{"name":"echo","arguments":{"a":[1,2.50,"\u00e9",null,true,1e3]}}`,
	`{ "name" : "echo" , "arguments" : { "a" : 1 } }`, `{"name":"ech\u006f","arguments":{}}`, `{"n\u0061me":"echo","arguments":{}}`,
	`{"Name":"echo","arguments":{}}`, `{"name":"echo","Arguments":{"a":1}}`, `{"NAME":"fail","name":"echo"}`, `{"name":"echo","NAME":"fail"}`,
	`{"name":"echo","arguments":{"a":1},"_meta":{"a":{"b":[1,{"c":null}]},"d":"\ud83d\ude00","e":-0,"f":1e300,"g":9007199254740993,"":""}}`,
	`{"name":"echo","_meta":{"x":{"a":1,"a":2}}}`, `{"name":"echo","_meta":{"\ud800":"\udc00"}}`, `{"name":"echo","arguments":{"a":1,"a":2}}`,
	`{"name":"fail"}`, `{"name":"nobody"}`, `{"name":""}`, `{"name":null}`, `{"name":7}`, `{"name":{}}`, `{"name":[]}`, `{"name":true}`,
	`{"name":"echo","requestState":"s"}`, `{"name":"echo","requestState":7}`, `{"name":"echo","requestState":null}`,
	`{"name":"echo","inputResponses":{"k":{"action":"accept"}}}`, `{"name":"echo","inputResponses":{"k":{}}}`, `{"name":"echo","inputResponses":null}`, `{"name":"echo","inputResponses":[]}`,
	`{"name":"echo","unknown":{"deep":[[[]]]}}`,
	`{"name":"hi"}`, `{"name":"hi","arguments":{"a":"b"}}`, `{"name":"hi","arguments":{"a":1}}`, `{"name":"hi","arguments":null}`, `{"name":"hi","arguments":{"a":null}}`,
	`{"uri":"test://r"}`, `{"uri":"test://t/1"}`, `{"uri":"test://none"}`, `{"uri":""}`, `{"uri":null}`, `{"uri":7}`, `{"URI":"test://r"}`, `{"uri":"test://r","_meta":{"progressToken":9007199254740993}}`,
	`{"cursor":""}`, `{"cursor":"x"}`, `{"cursor":null}`, `{"cursor":7}`, `{"cursor":{}}`, `{"Cursor":"x"}`,
	`{"ref":{"type":"ref/prompt","name":"hi"},"argument":{"name":"a","value":"v"}}`, `{"ref":{"type":"ref/resource","uri":"test://t/{x}"},"argument":{"name":"x","value":"\u003c"},"context":{"arguments":{"a":"b"}}}`,
	`{"ref":{"type":"ref/other"},"argument":{"name":"a","value":"v"}}`, `{"ref":{},"argument":{}}`, `{"argument":{"name":"a","value":"v"}}`, `{"ref":null,"argument":null}`, `{"ref":"x"}`, `{"ref":{"type":"ref/prompt"},"argument":{"value":7}}`,
	`{"ref":{"type":"ref/prompt","name":"hi","uri":"x"},"argument":{"name":"a","value":"v"}}`,
}

func directMethods() []string {
	var all []string
	for method := range direct {
		if method != "server/discover" { // which sessions do not have
			all = append(all, method)
		}
	}
	slices.Sort(all)
	return all
}

// Who is called directly gets what the SDK's connection would have given it, to the last member.
func TestDirectIsAsConnected(t *testing.T) {
	t.Parallel()
	w := newTwoWays(t)
	for _, method := range directMethods() {
		for _, params := range allParams {
			w.compare(t, method, params)
		}
	}
}

func FuzzDirect(f *testing.F) {
	w := newTwoWays(f)
	methods := directMethods()
	for i, params := range allParams {
		for k := range methods {
			if (i+k)%3 == 0 {
				f.Add(byte(k), params)
			}
		}
	}
	f.Fuzz(func(t *testing.T, method byte, params string) {
		if params != "" {
			// What the endpoint refuses by itself comes to neither.
			m, _, e := wire.ParseBody([]byte(`{"jsonrpc":"2.0","id":1,"method":"m","params":` + params + `}`))
			if e != nil {
				return
			}
			p, e := wire.ParseParams(m.Params)
			if e != nil {
				return
			}
			if _, e := wire.ParseMeta(p.Meta); e != nil {
				return
			}
			var members map[string]any
			if json.Unmarshal(m.Params, &members) != nil {
				return // numbers out of range
			}
			params = string(m.Params)
		}
		w.compare(t, methods[int(method)%len(methods)], params)
	})
}

func TestToError(t *testing.T) {
	t.Parallel()
	theirs := &jsonrpc.Error{Code: -32042, Message: "m", Data: json.RawMessage(`{"a":1}`)}
	for _, c := range []struct {
		name string
		err  error
		want wire.Error
	}{
		{"plain", errors.New("x"), wire.Error{Code: -32603, Message: "x"}},
		{"ours", wire.InvalidParams("x"), wire.Error{Code: -32602, Message: "x"}},
		{"ours, wrapped", wrap{wire.InvalidParams("x")}, wire.Error{Code: -32602, Message: "x"}},
		{"theirs", theirs, wire.Error{Code: -32042, Message: "m", Data: json.RawMessage(`{"a":1}`)}},
		{"theirs, wrapped", wrap{theirs}, wire.Error{Code: -32042, Message: "wrapped: m"}},
		{"theirs, without code", &jsonrpc.Error{Message: "m"}, wire.Error{Code: -32603, Message: "m"}},
		{"cancelled", context.Canceled, wire.Error{Code: -32603, Message: "context canceled"}},
		{"empty", errors.New(""), wire.Error{Code: -32603}},
	} {
		if got := ToError(c.err); got.Code != c.want.Code || got.Message != c.want.Message || !bytes.Equal(got.Data, c.want.Data) {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}

type wrap struct{ error }

func (w wrap) Error() string { return "wrapped: " + w.error.Error() }
func (w wrap) Unwrap() error { return w.error }
