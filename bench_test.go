package sluice_test

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice"
	"github.com/sluice-mcp/sluice/internal/sitetest"
	"github.com/sluice-mcp/sluice/observe"
)

// What a call costs between the HTTP server and the tool. Times depend on the machine (package bench compares
// them with others'), allocations do not: they are bounded here.

// pace is how many progress notifications the tool "count" sends.
type pace struct {
	N int `json:"n"`
}

func countTool(ctx context.Context, r *mcp.CallToolRequest, in pace) (*mcp.CallToolResult, pace, error) {
	for i := range in.N {
		p := &mcp.ProgressNotificationParams{ProgressToken: r.Params.GetProgressToken(), Progress: float64(i + 1)}
		if err := r.Session.NotifyProgress(ctx, p); err != nil {
			return nil, pace{}, err
		}
	}
	return nil, in, nil
}

// benchHandler serves "add", by us and by the SDK, and "count".
func benchHandler(tb testing.TB) *sluice.Handler {
	tb.Helper()
	s := mcp.NewServer(&mcp.Implementation{Name: "bench", Version: "1"}, nil)
	sluice.AddTool(s, &mcp.Tool{Name: "add"}, add)
	mcp.AddTool(s, &mcp.Tool{Name: "sdk"}, add)
	sluice.AddTool(s, &mcp.Tool{Name: "count"}, countTool)
	h := sluice.NewHandler(func(*http.Request) *mcp.Server { return s }, nil)
	tb.Cleanup(func() { _ = h.Close() })
	return h
}

// BenchmarkCall is one call of a fast tool, from the HTTP server's hands back into them.
func BenchmarkCall(b *testing.B) {
	for _, era := range sitetest.Eras {
		for _, tool := range []string{"add", "sdk"} {
			b.Run(era.Name+"/"+tool, func(b *testing.B) {
				h := benchHandler(b)
				p := era.Call(b, h, tool, `{"a":2,"b":3}`)
				b.ReportAllocs()
				for b.Loop() {
					p.Send(h)
				}
				if p.Answer.Status != http.StatusOK {
					b.Fatal("status", p.Answer.Status)
				}
			})
		}
	}
}

// BenchmarkStream is one call that sends 1,000 notifications.
func BenchmarkStream(b *testing.B) {
	for _, era := range sitetest.Eras {
		b.Run(era.Name, func(b *testing.B) {
			h := benchHandler(b)
			p := era.Call(b, h, "count", `{"n":1000}`)
			b.ReportAllocs()
			for b.Loop() {
				p.Send(h)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/event")
		})
	}
}

// BenchmarkInitialize is what a new session costs, memory that stays included.
func BenchmarkInitialize(b *testing.B) {
	h := benchHandler(b)
	b.ReportAllocs()
	for b.Loop() {
		sitetest.OpenSession(b, h)
	}
}

// overhead returns how many objects and bytes f allocates, each time that it is called.
func overhead(runs int, f func()) (objects, size float64) {
	f() // what is kept for the next time is not counted
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range runs {
		f()
	}
	runtime.ReadMemStats(&after)
	n := float64(runs)
	return float64(after.Mallocs-before.Mallocs) / n, float64(after.TotalAlloc-before.TotalAlloc) / n
}

// A call allocates no more than this between the HTTP server and the tool, the tool's own included. Whoever needs more
// raises the bound knowingly: what a call allocates is most of what it costs beyond a bare handler.
func TestCallAllocations(t *testing.T) {
	for _, tt := range []struct {
		era           int
		tool          string
		objects, size float64
	}{
		{0, "add", 39, 2200},
		{1, "add", 50, 2900},
		// The SDK's own way of typed tools: most of it is its decoder's buffers.
		{0, "sdk", 140, 112_000},
		{1, "sdk", 151, 114_000},
	} {
		era := sitetest.Eras[tt.era]
		t.Run(era.Name+"/"+tt.tool, func(t *testing.T) {
			h := benchHandler(t)
			p := era.Call(t, h, tt.tool, `{"a":2,"b":3}`)
			objects, size := overhead(200, func() { p.Send(h) })
			if p.Answer.Status != http.StatusOK {
				t.Fatal("status", p.Answer.Status)
			}
			t.Logf("%.1f objects, %.0f bytes a call", objects, size)
			if objects > tt.objects || size > tt.size {
				t.Errorf("a call allocates %.1f objects and %.0f bytes, want at most %v and %v", objects, size, tt.objects, tt.size)
			}
		})
	}
}

// The same over a connection, net/http and all: the client here allocates nothing.
func TestCallAllocationsOverHTTP(t *testing.T) {
	for _, tt := range []struct {
		era           int
		objects, size float64
	}{
		{0, 70, 4700},
		{1, 82, 5000},
	} {
		era := sitetest.Eras[tt.era]
		t.Run(era.Name, func(t *testing.T) {
			h := benchHandler(t)
			request := raw(era.Call(t, h, "add", `{"a":2,"b":3}`))
			srv := httptest.NewServer(h)
			defer srv.Close()
			conn, err := net.Dial("tcp", srv.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			buf := make([]byte, 4096)
			exchange := func() {
				if _, err := conn.Write(request); err != nil {
					t.Fatal(err)
				}
				for n := 0; !bytes.HasSuffix(buf[:n], []byte("}}")); { // the end of the response
					more, err := conn.Read(buf[n:])
					if err != nil {
						t.Fatal(err)
					}
					n += more
				}
			}
			exchange()
			if !bytes.Contains(buf, []byte(`"sum":5`)) {
				t.Fatalf("answer: %s", buf)
			}
			objects, size := overhead(200, exchange)
			t.Logf("%.1f objects, %.0f bytes a call", objects, size)
			if objects > tt.objects || size > tt.size && !sitetest.RaceDetector() {
				t.Errorf("a call allocates %.1f objects and %.0f bytes, want at most %v and %v", objects, size, tt.objects, tt.size)
			}
		})
	}
}

// raw returns a request as it goes over a connection.
func raw(p *sitetest.Post) []byte {
	var b bytes.Buffer
	p.Request.Host = "localhost"
	_ = p.Request.Write(&b)
	return b.Bytes()
}

// A notification on a stream costs its own text and what the SDK makes of it, no more.
func TestStreamAllocations(t *testing.T) {
	for i, most := range []struct{ objects, size float64 }{{10, 1500}, {8, 1100}} {
		era := sitetest.Eras[i]
		t.Run(era.Name, func(t *testing.T) {
			h := benchHandler(t)
			const events = 1000
			p := era.Call(t, h, "count", `{"n":1000}`)
			objects, size := overhead(5, func() { p.Send(h) })
			objects, size = objects/events, size/events
			if p.Answer.Bytes < events*80 {
				t.Fatalf("%d bytes are no stream of %d events", p.Answer.Bytes, events)
			}
			t.Logf("%.1f objects, %.0f bytes an event", objects, size)
			if objects > most.objects || size > most.size {
				t.Errorf("an event allocates %.1f objects and %.0f bytes, want at most %v and %v", objects, size, most.objects, most.size)
			}
		})
	}
}

// A session that nobody uses is its record and nothing else; one that was forgotten is nothing at all.
func TestIdleSessionsAreSmall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := mcp.NewServer(&mcp.Implementation{Name: "bench", Version: "1"}, nil)
		sluice.AddTool(s, &mcp.Tool{Name: "add"}, add)
		h := sluice.NewHandler(func(*http.Request) *mcp.Server { return s }, &sluice.Options{SessionTimeout: time.Hour})
		defer h.Close()
		use := func(n int) {
			for i := range n {
				sitetest.CallOfSession(sitetest.OpenSession(t, h), "add", `{"a":2,"b":3}`).Send(h)
				if i%50 == 49 { // as clients come: not all in the same moment, whose goroutines the runtime would keep for reuse
					time.Sleep(2 * time.Second)
				}
			}
		}
		rest := func(d time.Duration) (size float64, goroutines int) {
			time.Sleep(d)
			synctest.Wait()
			runtime.GC()
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			return float64(m.HeapAlloc), runtime.NumGoroutine()
		}
		const sessions = 1000
		use(50)
		size, goroutines := rest(5 * time.Second)
		use(sessions)
		idle, idleGoroutines := rest(5 * time.Second)
		each := (idle - size) / sessions
		t.Logf("%.0f bytes a session, %d goroutines before, %d now", each, goroutines, idleGoroutines)
		if each > 700 {
			t.Errorf("an idle session holds %.0f bytes, want at most 700", each)
		}
		if idleGoroutines > goroutines+10 {
			t.Errorf("%d idle sessions hold %d goroutines", sessions, idleGoroutines-goroutines)
		}
		left, _ := rest(3 * time.Hour)
		t.Logf("%.0f bytes left a session that was forgotten", (left-size)/sessions)
		if (left-size)/sessions > 50 {
			t.Errorf("a session that was forgotten leaves %.0f bytes", (left-size)/sessions)
		}
	})
}

// counter is an observer as cheap as one can be.
type counter struct{ n atomic.Int64 }

func (c *counter) Call(ctx context.Context, _ observe.Call) (context.Context, func(observe.End)) {
	return ctx, func(observe.End) { c.n.Add(1) }
}

func (c *counter) Ask(context.Context, observe.Ask) (observe.Trace, func(observe.End)) {
	return observe.Trace{}, nil
}
func (c *counter) Event(context.Context, observe.Event) {}

// What it costs to be observed, beyond what the observer itself costs.
func TestObservedCallAllocations(t *testing.T) {
	for i, most := range []struct{ objects, size float64 }{{44, 2400}, {52, 2800}} {
		era := sitetest.Eras[i]
		t.Run(era.Name, func(t *testing.T) {
			s := mcp.NewServer(&mcp.Implementation{Name: "bench", Version: "1"}, nil)
			sluice.AddTool(s, &mcp.Tool{Name: "add"}, add)
			seen := &counter{}
			h := sluice.NewHandler(func(*http.Request) *mcp.Server { return s }, &sluice.Options{Observer: seen})
			defer h.Close()
			p := era.Call(t, h, "add", `{"a":2,"b":3}`)
			objects, size := overhead(200, func() { p.Send(h) })
			t.Logf("%.1f objects, %.0f bytes a call", objects, size)
			if objects > most.objects || size > most.size {
				t.Errorf("an observed call allocates %.1f objects and %.0f bytes, want at most %v and %v", objects, size, most.objects, most.size)
			}
			if n := seen.n.Load(); n < 200 {
				t.Errorf("%d calls were observed", n)
			}
		})
	}
}
