package e2e_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/sluice-mcp/sluice/e2e"
)

// The raw client reads what the standard of event streams allows, and a fault counts events as it does.
func TestRawSessionReadsEveryStream(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]string{"LF": "\n", "CR": "\r", "CRLF": "\r\n"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			said := strings.NewReplacer("\n", end).Replace("\ufeff: hello\nnothing\n\nevent: ping\ndata: {}\n\nid: 1\ndata: {\"jsonrpc\":\"2.0\",\ndata: \"method\":\"notifications/x\"}\n\n")
			last := strings.NewReplacer("\n", end).Replace("event: message\ndata: {\"jsonrpc\":\"2.0\",\"id\":%s,\"result\":{}}\n\n")
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				w.Header().Set("Content-Type", "text/event-stream")
				switch {
				case strings.Contains(string(body), "initialize\""):
					fmt.Fprint(w, "data: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"protocolVersion\":\"2025-11-25\"}}\n\n")
				case strings.Contains(string(body), "initialized"):
					w.WriteHeader(http.StatusAccepted)
				case r.Method == http.MethodGet && r.Header.Get("Last-Event-ID") == "1":
					fmt.Fprintf(w, last, "2")
				case r.Method == http.MethodPost:
					fmt.Fprint(w, said)
					fmt.Fprintf(w, last, "2")
				}
			}))
			defer srv.Close()
			proxy := e2e.Proxy(t, e2e.Start(t, e2e.URL(srv.URL)))
			session := e2e.RawConnect(t, proxy, nil)
			cut := proxy.Inject(e2e.CutAfterEvents(2).On("ping").Once())
			call := session.Send(t.Context(), "ping", nil)
			var got []string
			for m, err := range call.Messages() {
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, m.Method+string(m.Result))
			}
			if fmt.Sprint(got) != "[notifications/x {}]" || cut.Hits() != 1 || call.Stats.Resumes != 1 {
				t.Errorf("%q; %d cuts, %+v", got, cut.Hits(), call.Stats)
			}
		})
	}
}
