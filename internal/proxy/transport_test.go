package proxy_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-mcp/sluice/internal/proxy"
)

// A hole is a relay that can swallow all that goes through the connections of now, as a network does after sleep.
type hole struct {
	net.Listener
	mu    sync.Mutex
	epoch int
}

func relay(t *testing.T, to string) *hole {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &hole{Listener: listener}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", to)
			if err != nil {
				_ = near.Close()
				continue
			}
			t.Cleanup(func() { _ = near.Close(); _ = far.Close() })
			born := h.now()
			pass := func(to io.WriteCloser, from io.Reader) {
				b := make([]byte, 32<<10)
				for {
					n, err := from.Read(b)
					if h.now() != born {
						if err != nil {
							return // and the other side hears nothing of it
						}
						continue
					}
					if _, failed := to.Write(b[:n]); err != nil || failed != nil {
						_ = to.Close()
						return
					}
				}
			}
			go pass(near, far)
			go pass(far, near)
		}
	}()
	return h
}

func (h *hole) now() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.epoch
}

func (h *hole) swallow() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.epoch++
}

// A connection of HTTP/2 that has died without a word is noticed in seconds; what comes then goes over another.
func TestSilentDeath(t *testing.T) {
	t.Parallel()
	var listens atomic.Int32
	var asked atomic.Int32
	srv := httptest.NewUnstartedServer(scripted{
		call: func(w http.ResponseWriter, r *http.Request, id json.RawMessage, _ string) {
			if r.ProtoMajor != 2 {
				t.Errorf("spoken: %s", r.Proto)
			}
			if asked.Add(1) == 1 {
				<-r.Context().Done()
				return
			}
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":{"right":true}}`, id)
		},
		get: func(w http.ResponseWriter, r *http.Request) {
			listens.Add(1)
			events(w, ": hello\n\n")
			<-r.Context().Done()
		},
	})
	srv.EnableHTTP2 = true
	srv.StartTLS()
	t.Cleanup(srv.Close)
	t.Cleanup(srv.CloseClientConnections)
	between := relay(t, srv.Listener.Addr().String())
	transport := proxy.NewTransport()
	transport.TLSClientConfig = srv.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	transport.TLSClientConfig.ServerName = "example.com"
	c := bridgeThrough(t, "https://"+between.Addr().String(), transport)
	open(c)
	c.send(ping)
	for asked.Load() == 0 || listens.Load() == 0 {
		time.Sleep(10 * time.Millisecond)
	}
	between.swallow()
	begun := time.Now()
	c.fails("unknown whether")
	c.send(ping)
	c.right()
	for listens.Load() < 2 {
		time.Sleep(10 * time.Millisecond)
	}
	if took := time.Since(begun); took > 15*time.Second {
		t.Errorf("it took %v", took)
	}
}
