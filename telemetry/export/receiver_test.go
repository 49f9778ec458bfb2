package export_test

import (
	"bytes"
	"compress/gzip"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	metricspb "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	tracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	"google.golang.org/protobuf/proto"
)

// A receiver takes what is exported over OTLP.
type receiver struct {
	*httptest.Server

	mu      sync.Mutex
	bytes   bytes.Buffer // all that came
	spans   []span
	metrics map[string]bool
}

type span struct {
	name, id, parent, trace string
	service, instance       string
	attrs                   map[string]string
	links                   int
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{metrics: make(map[string]bool)}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/traces", func(w http.ResponseWriter, req *http.Request) {
		var got tracepb.ExportTraceServiceRequest
		if !r.read(w, req, &got) {
			return
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, rs := range got.GetResourceSpans() {
			about := text(rs.GetResource().GetAttributes())
			for _, ss := range rs.GetScopeSpans() {
				for _, s := range ss.GetSpans() {
					r.spans = append(r.spans, span{
						name: s.GetName(), id: hex.EncodeToString(s.GetSpanId()), parent: hex.EncodeToString(s.GetParentSpanId()), trace: hex.EncodeToString(s.GetTraceId()),
						service: about["service.name"], instance: about["service.instance.id"], attrs: text(s.GetAttributes()), links: len(s.GetLinks()),
					})
				}
			}
		}
	})
	mux.HandleFunc("POST /v1/metrics", func(w http.ResponseWriter, req *http.Request) {
		var got metricspb.ExportMetricsServiceRequest
		if !r.read(w, req, &got) {
			return
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, rm := range got.GetResourceMetrics() {
			for _, sm := range rm.GetScopeMetrics() {
				for _, m := range sm.GetMetrics() {
					r.metrics[m.GetName()] = true
				}
			}
		}
	})
	r.Server = httptest.NewServer(mux)
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) read(w http.ResponseWriter, req *http.Request, into proto.Message) bool {
	var from io.Reader = req.Body
	if req.Header.Get("Content-Encoding") == "gzip" {
		unzipped, err := gzip.NewReader(from)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return false
		}
		from = unzipped
	}
	body, err := io.ReadAll(from)
	if err == nil {
		err = proto.Unmarshal(body, into)
	}
	if err != nil || req.Header.Get("Content-Type") != "application/x-protobuf" {
		http.Error(w, "not OTLP", http.StatusBadRequest)
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.bytes.Write(body)
	return true
}

func text(all []*commonpb.KeyValue) map[string]string {
	m := make(map[string]string)
	for _, a := range all {
		m[a.GetKey()] = strings.Trim(strings.TrimSpace(a.GetValue().String()[strings.Index(a.GetValue().String(), ":")+1:]), `"`)
	}
	return m
}

// find waits for a span of the trace that fits.
func (r *receiver) find(t *testing.T, what, trace string, fits func(span) bool) span {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		r.mu.Lock()
		var seen []string
		for _, s := range r.spans {
			if s.trace == trace && fits(s) {
				r.mu.Unlock()
				return s
			}
			seen = append(seen, s.name)
		}
		r.mu.Unlock()
		if time.Now().After(deadline) {
			t.Fatalf("no %s, but %q", what, seen)
		}
	}
}

func (r *receiver) named(t *testing.T, name, trace string) span {
	t.Helper()
	return r.find(t, name, trace, func(s span) bool { return s.name == name })
}

// checkSecrets looks for what must not be exported.
func (r *receiver) checkSecrets(t *testing.T) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if bytes.Contains(r.bytes.Bytes(), []byte(canary)) {
		t.Error("what clients or tools have said is exported")
	}
}
