package spec_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
)

// TestTranscripts plays the important exchanges in virtual time and compares every byte that
// matters with testdata: a change in what clients see is a change of these files.
func TestTranscripts(t *testing.T) {
	for name, play := range map[string]func(*testing.T, *transcript){
		"initialize-2024-11-05": func(t *testing.T, tr *transcript) { tr.lifecycle(t, v24) },
		"initialize-2025-03-26": func(t *testing.T, tr *transcript) { tr.lifecycle(t, v03) },
		"initialize-2025-06-18": func(t *testing.T, tr *transcript) { tr.lifecycle(t, v06) },
		"initialize-2025-11-25": func(t *testing.T, tr *transcript) { tr.lifecycle(t, v11) },
		"resume":                playResume,
		"poll":                  playPoll,
		"elicit":                playElicit,
		"input-required":        playInputRequired,
		"listen":                playListen,
		"refused":               playRefused,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tr := &transcript{env: serve(t, virtual), names: map[string]string{}}
				play(t, tr)
				tr.compare(t, filepath.Join("testdata", name+".txtar"))
			})
		})
	}
}

// A transcript records exchanges, with everything random given a name.
type transcript struct {
	*env
	entries []func() txtar.File // rendered at the end, when streams have been read
	n       int
	names   map[string]string // of random texts
	order   []string
	session string
}

// name gives a random text a name, once.
func (tr *transcript) name(random, kind string) {
	if random == "" || tr.names[random] != "" {
		return
	}
	n := 1
	for _, name := range tr.names {
		if strings.HasPrefix(name, "<"+kind) {
			n++
		}
	}
	tr.names[random] = fmt.Sprintf("<%s %d>", kind, n)
	tr.order = append(tr.order, random)
}

// do records the request, sends it, and records the answer.
func (tr *transcript) do(t *testing.T, comment string, req *http.Request) *reply {
	t.Helper()
	tr.n++
	n := tr.n
	tr.entries = append(tr.entries, tr.request(t, fmt.Sprintf("%02d request: %s", n, comment), req))
	r := tr.env.do(t, req)
	tr.name(r.header.Get("Mcp-Session-Id"), "session")
	tr.entries = append(tr.entries, func() txtar.File { return tr.response(fmt.Sprintf("%02d response", n), r) })
	return r
}

func (tr *transcript) request(t *testing.T, name string, req *http.Request) func() txtar.File {
	t.Helper()
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s\n", req.Method, req.URL.RequestURI())
	header(&b, req.Header)
	body, err := io.ReadAll(req.Body)
	if err != nil {
		t.Fatal(err)
	}
	req.Body = io.NopCloser(bytes.NewReader(body))
	if len(body) > 0 {
		fmt.Fprintf(&b, "\n%s\n", body)
	}
	return func() txtar.File { return txtar.File{Name: name, Data: b.Bytes()} }
}

var states = regexp.MustCompile(`"requestState":"([^"]+)"`)

func (tr *transcript) response(name string, r *reply) txtar.File {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%d %s\n", r.status, http.StatusText(r.status))
	header(&b, r.header)
	if len(r.body) > 0 {
		fmt.Fprintf(&b, "\n%s\n", bytes.TrimSpace(r.body))
	}
	if r.stream != nil {
		for _, ev := range r.stream.seen {
			b.WriteString("\n")
			for _, f := range []struct {
				name, value string
				has         bool
			}{{"", ev.comment, ev.hasComment}, {"event", ev.name, ev.hasName}, {"id", ev.id, ev.hasID}, {"retry", ev.retry, ev.hasRetry}, {"data", ev.data, ev.hasData}} {
				if f.has {
					b.WriteString(strings.TrimRight(f.name+": "+f.value, " ") + "\n")
				}
			}
			if i := strings.LastIndexByte(ev.id, '-'); i > 0 {
				tr.name(ev.id[:i], "stream")
			}
			var m message
			if json.Unmarshal([]byte(ev.data), &m) == nil && m.isRequest() {
				tr.name(strings.Trim(string(m.ID), `"`), "question")
			}
		}
		if r.stream.over && errors.Is(r.stream.why, io.EOF) {
			b.WriteString("\n(end)\n")
		}
	}
	for _, m := range states.FindAllStringSubmatch(b.String(), -1) {
		tr.name(m[1], "state")
	}
	return txtar.File{Name: name, Data: b.Bytes()}
}

// header writes what of a header belongs to the protocol.
func header(b *bytes.Buffer, h http.Header) {
	var names []string
	for name := range h {
		switch {
		case slices.Contains([]string{"Accept", "Allow", "Cache-Control", "Content-Type", "Last-Event-Id", "Retry-After", "X-Accel-Buffering"}, name), strings.HasPrefix(name, "Mcp-"):
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		fmt.Fprintf(b, "%s: %s\n", name, strings.Join(h[name], ", "))
	}
}

func (tr *transcript) compare(t *testing.T, path string) {
	t.Helper()
	var a txtar.Archive
	for _, entry := range tr.entries {
		a.Files = append(a.Files, entry())
	}
	for i := range a.Files {
		for _, random := range tr.order {
			a.Files[i].Data = bytes.ReplaceAll(a.Files[i].Data, []byte(random), []byte(tr.names[random]))
		}
	}
	got := txtar.Format(&a)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

// open initializes a session and returns what every later request of it carries.
func (tr *transcript) open(t *testing.T, version string) []edit {
	t.Helper()
	r := tr.do(t, "initialize", tr.post(t, initialize(1, version, obj{"elicitation": obj{}})))
	tr.session = r.header.Get("Mcp-Session-Id")
	own := []edit{with("Mcp-Session-Id", tr.session)}
	if version >= v06 {
		own = append(own, with("MCP-Protocol-Version", version))
	}
	tr.do(t, "initialized", tr.post(t, notification("notifications/initialized", nil), own...))
	return own
}

func (tr *transcript) lifecycle(t *testing.T, version string) {
	own := tr.open(t, version)
	tr.do(t, "a call that answers at once", tr.post(t, call(2, "echo", obj{"text": "hi"}), own...))
	tr.do(t, "a call that speaks first", tr.post(t, tokened(call(3, "steps", obj{"n": 1}), "tok"), own...)).messages(t)
	if version == v03 {
		tr.do(t, "a batch", tr.post(t, []obj{request(4, "ping", nil), notification("notifications/roots/list_changed", nil)}, own...))
	}
	tr.do(t, "unknown method", tr.post(t, request(6, "no/such", nil), own...))
	tr.do(t, "goodbye", tr.env.request(t, http.MethodDelete, "/mcp", nil, own...))
	tr.do(t, "too late", tr.post(t, request(7, "ping", nil), own...))
}

func playResume(t *testing.T, tr *transcript) {
	own := tr.open(t, v11)
	r := tr.do(t, "a call in two halves", tr.post(t, tokened(call(2, "steps", obj{"n": 2, "key": "k"}), "tok"), own...))
	st := r.events(t)
	var last string
	for range 2 {
		_, ev := st.message(t)
		last = ev.id
	}
	tr.await(t, "k", "halfway")
	st.conn.Close()
	tr.release("k")
	tr.await(t, "k", "done")
	tr.do(t, "the rest, after the connection was lost", tr.env.request(t, http.MethodGet, "/mcp", nil, append(own, with("Last-Event-ID", last))...)).messages(t)
	tr.do(t, "a position that is none", tr.env.request(t, http.MethodGet, "/mcp", nil, append(own, with("Last-Event-ID", "nonsense"))...))
}

func playPoll(t *testing.T, tr *transcript) {
	own := tr.open(t, v11)
	r := tr.do(t, "a tool that closes its stream", tr.post(t, call(2, "close_stream", obj{"key": "k"}), own...))
	r.messages(t)
	seen := r.stream.ids()
	tr.release("k")
	tr.do(t, "the client comes back", tr.env.request(t, http.MethodGet, "/mcp", nil, append(own, with("Last-Event-ID", seen[len(seen)-1]))...)).messages(t)
}

func playElicit(t *testing.T, tr *transcript) {
	own := tr.open(t, v11)
	r := tr.do(t, "a tool that asks", tr.post(t, call(2, "elicit", obj{"key": "k"}), own...))
	ask, _ := r.events(t).message(t)
	time.Sleep(12 * time.Second) // the person thinks; the stream shows that it lives
	tr.do(t, "the answer", tr.post(t, obj{"jsonrpc": "2.0", "id": ask.ID, "result": ann["name"]}, own...))
	r.messages(t)
}

func playInputRequired(t *testing.T, tr *transcript) {
	send := func(comment string, m obj) *reply {
		return tr.do(t, comment, tr.modern(t, m))
	}
	send("what is there", request("d", "server/discover", nil))
	asked := send("a tool that needs to know", round(1, "ask", "elicit", nil, nil)).result(t)
	send("again, with the answer", round(2, "ask", "elicit", ann, asked["requestState"]))
	send("the state on another tool", round(3, "ask_other", "elicit", ann, asked["requestState"]))
	tr.do(t, "a client that cannot be asked", tr.post(t, stateless(round(4, "ask", "elicit", nil, nil), obj{}), mirror(round(4, "ask", "elicit", nil, nil))...))
}

func playListen(t *testing.T, tr *transcript) {
	r := tr.do(t, "listen", tr.modern(t, request("sub", "subscriptions/listen", obj{
		"notifications": obj{"toolsListChanged": true, "resourceSubscriptions": []string{"test://item/01"}},
	})))
	st := r.events(t)
	st.message(t)
	tr.updated(t, "test://item/02")
	tr.updated(t, "test://item/01")
	st.message(t)
	tr.touch(t, "one_more")
	st.message(t)
	time.Sleep(12 * time.Second)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := tr.h.Drain(ctx); err != nil {
		t.Fatal(err)
	}
	st.rest(t)
	tr.do(t, "a server that leaves", tr.modern(t, request(2, "tools/list", nil)))
}

func playRefused(t *testing.T, tr *transcript) {
	echo := func() obj { return stateless(call(1, "echo", obj{"text": "hi"}), obj{}) }
	tr.do(t, "not JSON", tr.post(t, `{"jsonrpc":`))
	tr.do(t, "wrong type of content", tr.post(t, echo(), with("Content-Type", "text/plain")))
	tr.do(t, "wrong type of answer", tr.post(t, echo(), with("Accept", "text/html")))
	tr.do(t, "foreign origin", tr.post(t, echo(), append(mirror(echo()), with("Origin", "http://evil.example"))...))
	tr.do(t, "no session", tr.post(t, request(1, "tools/list", nil)))
	tr.do(t, "unknown session", tr.post(t, request(1, "tools/list", nil), with("Mcp-Session-Id", "none")))
	tr.do(t, "unsupported version", tr.post(t, echo(), append(mirror(echo()), with("MCP-Protocol-Version", "2099-01-01"))...))
	tr.do(t, "header and body differ", tr.post(t, echo(), append(mirror(echo()), with("Mcp-Name", "other"))...))
	tr.do(t, "unknown method", tr.modern(t, request(1, "no/such", nil)))
	tr.do(t, "a stream where there is none", tr.env.request(t, http.MethodGet, "/mcp", nil, with("MCP-Protocol-Version", v26)))
	tr.do(t, "an empty batch", tr.post(t, `[]`))
}
