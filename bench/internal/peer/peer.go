// Package peer is what the Go programs of the bench have in common, so that they differ only in
// the server under test: the tools' work, the listener, and a view into the runtime.
package peer

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strconv"
	"syscall"
	"time"
)

// AddIn is what the tool "add" adds.
type AddIn struct {
	A int `json:"a"`
	B int `json:"b"`
}

// AddOut is their sum.
type AddOut struct {
	Sum int `json:"sum"`
}

// CountIn says how many progress notifications the tool "count" sends.
type CountIn struct {
	N int `json:"n"`
}

// CountOut says how many it has sent.
type CountOut CountIn

// MarkIn asks the tool "mark" for one progress notification, whose message is [Now] at that time. The tool then says
// nothing for a while, so that a server which waits for more before it writes is seen to wait.
type MarkIn struct{}

// MarkOut says that it did.
type MarkOut struct {
	Done bool `json:"done"`
}

// MarkPause is how long "mark" is silent after its notification.
const MarkPause = 20 * time.Millisecond

// Now is the time in nanoseconds, as text, by a clock that client and server share.
func Now() string { return strconv.FormatInt(time.Now().UnixNano(), 10) }

// Serve parses the flags, asks for the handler of /mcp and serves it until the process is told to end. mode chooses one of the
// program's configurations, idle is when a session that nobody uses ends.
func Serve(handler func(mode string, idle time.Duration) http.Handler) {
	addr := flag.String("addr", "127.0.0.1:0", "address to listen on")
	mode := flag.String("mode", "", "configuration of the server")
	idle := flag.Duration("idle", 30*time.Minute, "end of idle sessions")
	flag.Parse()
	if err := serve(*addr, handler(*mode, *idle)); err != nil {
		Fatal(err)
	}
}

func serve(addr string, handler http.Handler) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	mux := http.NewServeMux()
	mux.Handle("/mcp", handler)
	mux.HandleFunc("GET /bench/stats", stats)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.Handle("GET /debug/pprof/allocs", pprof.Handler("allocs"))
	mux.Handle("GET /debug/pprof/heap", pprof.Handler("heap"))
	mux.Handle("GET /debug/pprof/goroutine", pprof.Handler("goroutine"))
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ln) }()
	select {
	case err = <-done:
		return err
	case <-ctx.Done():
		return srv.Close() // nothing here is worth an orderly end
	}
}

// Stats is what /bench/stats tells. With ?gc=1 garbage is collected first.
type Stats struct {
	TotalAlloc uint64 `json:"total_alloc"` // bytes allocated since the start
	Mallocs    uint64 `json:"mallocs"`     // objects allocated since the start
	Live       uint64 `json:"live"`        // bytes of heap objects and stacks
	Goroutines int    `json:"goroutines"`
	NumGC      uint32 `json:"num_gc"`
}

func stats(w http.ResponseWriter, r *http.Request) {
	if r.FormValue("gc") != "" {
		runtime.GC()
		runtime.GC() // what finalizers and pools held until the first
		debug.FreeOSMemory()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	_ = json.NewEncoder(w).Encode(Stats{
		TotalAlloc: m.TotalAlloc,
		Mallocs:    m.Mallocs,
		Live:       m.HeapAlloc + m.StackInuse,
		Goroutines: runtime.NumGoroutine(),
		NumGC:      m.NumGC,
	})
}

// ErrMode says that the program has no such server.
var ErrMode = errors.New("unknown -mode")

// Fatal ends the program.
func Fatal(err error) {
	slog.Error("peer failed", "error", err)
	os.Exit(1) //nolint:forbidigo // this is the main of its programs
}
