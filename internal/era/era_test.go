package era

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/sluice-mcp/sluice/internal/wire"
)

const (
	ping      = `{"jsonrpc":"2.0","id":7,"method":"ping"}`
	both      = "application/json, text/event-stream"
	maxBody   = 20 << 10
	stateless = `{"jsonrpc":"2.0","id":7,"method":"ping","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}`
)

// post returns a request as clients of the session era send it.
func post(body string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "http://localhost/mcp", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", both)
	return r
}

func reader() *Reader {
	return &Reader{MaxBody: maxBody, Revisions: func(*http.Request) []string { return nil }}
}

// refused checks that a request was refused with a status and a code, for the request with the ID.
func refused(t *testing.T, w *httptest.ResponseRecorder, status int, code int64, id string) *wire.Error {
	t.Helper()
	var got struct {
		ID    json.RawMessage
		Error *wire.Error
	}
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || got.Error == nil {
		t.Fatalf("HTTP %d, no JSON-RPC error: %s", w.Code, w.Body)
	}
	if w.Code != status || got.Error.Code != code || string(got.ID) != id {
		t.Errorf("HTTP %d, code %d, ID %q; want %d, %d, %q", w.Code, got.Error.Code, got.ID, status, code, id)
	}
	return got.Error
}

func TestAccept(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		accept []string
		want   bool
	}{
		"both":                {[]string{both}, true},
		"other order":         {[]string{"text/event-stream,application/json"}, true},
		"two lines":           {[]string{"application/json", "text/event-stream"}, true},
		"any case":            {[]string{"Application/JSON, Text/Event-Stream"}, true},
		"with weights":        {[]string{"application/json;q=0.9 , text/event-stream; q=1"}, true},
		"ranges":              {[]string{"application/*, text/*"}, true},
		"anything":            {[]string{"*/*"}, true},
		"anything, among all": {[]string{"text/html, */*;q=0.1"}, true},
		"JSON only":           {[]string{"application/json"}, false},
		"events only":         {[]string{"text/event-stream"}, false},
		"another":             {[]string{"text/html"}, false},
		"longer names":        {[]string{"application/json5, text/event-streams"}, false},
		"empty":               {[]string{""}, false},
		"none":                {nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := post(ping)
			r.Header["Accept"] = c.accept
			w := httptest.NewRecorder()
			if _, ok := reader().Post(w, r); ok != c.want {
				t.Fatalf("taken: %v", ok)
			}
			if !c.want {
				_ = refused(t, w, http.StatusNotAcceptable, wire.CodeInvalidRequest, "")
			}
		})
	}
}

func TestAcceptsEvents(t *testing.T) {
	t.Parallel()
	for accept, want := range map[string]bool{
		"text/event-stream": true, "text/*": true, "*/*": true, both: true, "application/json": false, "": false,
	} {
		r := post("")
		r.Header.Set("Accept", accept)
		if got := AcceptsEvents(r); got != want {
			t.Errorf("%q: %v", accept, got)
		}
	}
}

func TestContentType(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		types []string
		want  bool
	}{
		"JSON":          {[]string{"application/json"}, true},
		"with charset":  {[]string{"application/json ; charset=utf-8"}, true},
		"any case":      {[]string{"Application/Json"}, true},
		"text":          {[]string{"text/plain"}, false},
		"longer":        {[]string{"application/json-rpc"}, false},
		"in parameters": {[]string{"text/plain; application/json"}, false},
		"two":           {[]string{"application/json", "application/json"}, false},
		"none":          {nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := post(ping)
			r.Header["Content-Type"] = c.types
			w := httptest.NewRecorder()
			if _, ok := reader().Messages(w, r); ok != c.want {
				t.Fatalf("taken: %v", ok)
			}
			if !c.want {
				_ = refused(t, w, http.StatusUnsupportedMediaType, wire.CodeInvalidRequest, "")
			}
		})
	}
}

// A body is bounded whether its length is told or not, and one that breaks off is no message.
func TestBody(t *testing.T) {
	t.Parallel()
	padded := func(n int) string { return ping + strings.Repeat(" ", n-len(ping)) }
	for name, c := range map[string]struct {
		body    io.Reader
		length  int64
		maxBody int64
		status  int // 0: it is taken
		code    int64
	}{
		"ordinary":                  {strings.NewReader(ping), int64(len(ping)), maxBody, 0, 0},
		"of unknown length":         {strings.NewReader(ping), -1, maxBody, 0, 0},
		"as large as may be":        {strings.NewReader(padded(maxBody)), maxBody, maxBody, 0, 0},
		"too large":                 {strings.NewReader(padded(maxBody + 1)), maxBody + 1, maxBody, http.StatusRequestEntityTooLarge, wire.CodeInvalidRequest},
		"too large, not told":       {strings.NewReader(padded(maxBody + 1)), -1, maxBody, http.StatusRequestEntityTooLarge, wire.CodeInvalidRequest},
		"too large for a low bound": {strings.NewReader(ping), int64(len(ping)), 10, http.StatusRequestEntityTooLarge, wire.CodeInvalidRequest},
		"shorter than told":         {strings.NewReader(ping), int64(len(ping)) + 1, maxBody, http.StatusBadRequest, wire.CodeInvalidRequest},
		"broken off":                {io.MultiReader(strings.NewReader(ping), broken{}), -1, maxBody, http.StatusBadRequest, wire.CodeInvalidRequest},
		"empty":                     {strings.NewReader(""), 0, maxBody, http.StatusBadRequest, wire.CodeParse},
		"no JSON":                   {strings.NewReader("ping"), 4, maxBody, http.StatusBadRequest, wire.CodeParse},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := post("")
			r.Body, r.ContentLength = io.NopCloser(c.body), c.length
			w := httptest.NewRecorder()
			d := &Reader{MaxBody: c.maxBody}
			p, ok := d.Messages(w, r)
			if ok != (c.status == 0) {
				t.Fatalf("taken: %v", ok)
			}
			if !ok {
				_ = refused(t, w, c.status, c.code, "")
			} else if p.Message.Method != "ping" || p.Message.ID != "7" || p.Batch != nil {
				t.Errorf("read %+v", p)
			}
		})
	}
}

// broken is a connection that is lost.
type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("connection reset") }

// A request belongs to the stateless era if its header or its metadata says so, and to the session era otherwise.
func TestWhichEra(t *testing.T) {
	t.Parallel()
	const (
		notification = `{"jsonrpc":"2.0","method":"notifications/initialized"}`
		response     = `{"jsonrpc":"2.0","id":7,"result":{}}`
		malformed    = `{"jsonrpc":"2.0","id":7,"result":{},"error":{"code":1,"message":"m"}}`
	)
	meta := func(version string) string { return strings.Replace(stateless, "2026-07-28", version, 1) }
	type want struct {
		stateless bool
		batch     int
		malformed bool
		code      int64 // of the refusal; 0: it is taken
		id        string
	}
	for name, c := range map[string]struct {
		versions []string
		body     string
		want     want
	}{
		"no header":                            {nil, ping, want{}},
		"2025-11-25":                           {[]string{"2025-11-25"}, ping, want{}},
		"2024-11-05":                           {[]string{"2024-11-05"}, ping, want{}},
		"2026-07-28":                           {[]string{"2026-07-28"}, ping, want{stateless: true}},
		"2026-07-28, notification":             {[]string{"2026-07-28"}, notification, want{stateless: true}},
		"metadata only":                        {nil, stateless, want{stateless: true}},
		"metadata against header":              {[]string{"2025-11-25"}, stateless, want{stateless: true}},
		"metadata of a session's revision":     {nil, meta("2025-06-18"), want{}},
		"metadata of an unknown revision":      {nil, meta("2099-01-01"), want{stateless: true}},
		"notification without header":          {nil, notification, want{}},
		"response":                             {nil, response, want{}},
		"malformed response":                   {nil, malformed, want{malformed: true}},
		"malformed response, 2026-07-28":       {[]string{"2026-07-28"}, malformed, want{code: wire.CodeInvalidRequest, id: "7"}},
		"batch":                                {nil, "[" + ping + "," + notification + "]", want{batch: 2}},
		"batch, 2026-07-28":                    {[]string{"2026-07-28"}, "[" + ping + "]", want{code: wire.CodeInvalidRequest}},
		"unknown revision":                     {[]string{"2099-01-01"}, ping, want{code: wire.CodeUnsupportedVersion, id: "7"}},
		"empty revision":                       {[]string{""}, ping, want{code: wire.CodeUnsupportedVersion, id: "7"}},
		"two revisions":                        {[]string{"2025-11-25", "2026-07-28"}, ping, want{code: wire.CodeHeaderMismatch, id: "7"}},
		"one revision twice":                   {[]string{"2026-07-28", "2026-07-28"}, ping, want{code: wire.CodeHeaderMismatch, id: "7"}},
		"malformed request, before its header": {[]string{"2099-01-01"}, `{"jsonrpc":"2.0","id":7,"method":"ping","params":1}`, want{code: wire.CodeInvalidRequest, id: "7"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := post(c.body)
			r.Header[wire.HeaderVersion] = c.versions
			w := httptest.NewRecorder()
			p, ok := reader().Post(w, r)
			if !ok {
				if c.want.code == 0 {
					t.Fatalf("refused: HTTP %d %s", w.Code, w.Body)
				}
				_ = refused(t, w, http.StatusBadRequest, c.want.code, c.want.id)
				return
			}
			if got := (want{stateless: p.Stateless, batch: len(p.Batch), malformed: p.Malformed != nil}); got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

// A refused version comes with those that can be had: the server's if it has narrowed them, else the endpoint's.
func TestUnsupportedVersionNamesThoseThatAreServed(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ spoken, want []string }{
		"all":      {nil, wire.Revisions()},
		"narrowed": {[]string{"2025-06-18"}, []string{"2025-06-18"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := &Reader{MaxBody: maxBody, Revisions: func(*http.Request) []string { return c.spoken }}
			for method, read := range map[string]func(http.ResponseWriter, *http.Request) bool{
				http.MethodPost:   func(w http.ResponseWriter, r *http.Request) bool { _, ok := d.Post(w, r); return ok },
				http.MethodDelete: d.Sessions,
			} {
				r := post(ping)
				r.Header.Set(wire.HeaderVersion, "2020-01-01")
				w := httptest.NewRecorder()
				if read(w, r) {
					t.Fatalf("%s was taken", method)
				}
				id := ""
				if method == http.MethodPost {
					id = "7"
				}
				e := refused(t, w, http.StatusBadRequest, wire.CodeUnsupportedVersion, id)
				var data struct {
					Supported []string
					Requested string
				}
				if err := json.Unmarshal(e.Data, &data); err != nil || data.Requested != "2020-01-01" || !slices.Equal(data.Supported, c.want) {
					t.Errorf("%s: %v, %s", method, err, e.Data)
				}
			}
		})
	}
}

func TestSessions(t *testing.T) {
	t.Parallel()
	for version, want := range map[string]int{ // the status of the refusal; 0: it may go on
		"": 0, "2024-11-05": 0, "2025-03-26": 0, "2025-11-25": 0,
		"2026-07-28": http.StatusMethodNotAllowed, "2099-01-01": http.StatusBadRequest, "latest": http.StatusBadRequest,
	} {
		r := httptest.NewRequest(http.MethodGet, "http://localhost/mcp", nil)
		if version != "" {
			r.Header.Set(wire.HeaderVersion, version)
		}
		w := httptest.NewRecorder()
		if ok := reader().Sessions(w, r); ok != (want == 0) || !ok && w.Code != want {
			t.Errorf("%q: %v, HTTP %d", version, ok, w.Code)
		}
		if allow := w.Header().Get("Allow"); (allow == "POST") != (want == http.StatusMethodNotAllowed) {
			t.Errorf("%q: Allow is %q", version, allow)
		}
	}
}
