package serve

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// serveOn serves one connection and returns the client's end of it.
func serveOn(t *testing.T, h http.HandlerFunc) net.Conn {
	t.Helper()
	client, server := net.Pipe()
	srv := newHTTPServer(h, slog.New(slog.DiscardHandler))
	listener := &oneConn{conns: make(chan net.Conn, 1), addr: server.LocalAddr()}
	listener.conns <- server
	done := make(chan error, 1)
	go func() { done <- srv.Serve(listener) }()
	t.Cleanup(func() {
		client.Close()
		srv.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("serving ended with %v", err)
		}
	})
	return client
}

// A oneConn is a listener for a connection that exists already.
type oneConn struct {
	conns  chan net.Conn
	addr   net.Addr
	closed sync.Once
}

func (l *oneConn) Accept() (net.Conn, error) {
	conn, ok := <-l.conns
	if !ok {
		return nil, net.ErrClosed
	}
	return conn, nil
}

func (l *oneConn) Close() error {
	l.closed.Do(func() { close(l.conns) })
	return nil
}

func (l *oneConn) Addr() net.Addr { return l.addr }

// inVirtualTime runs a test once with HTTP/1.1 and once with HTTP/2, time passing when everybody waits.
func inVirtualTime(t *testing.T, f func(t *testing.T, start func(http.HandlerFunc) *http.Client)) {
	t.Parallel()
	for _, http2 := range []bool{false, true} {
		name := map[bool]string{false: "HTTP/1.1", true: "HTTP/2"}[http2]
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f(t, func(h http.HandlerFunc) *http.Client {
					conn := serveOn(t, h)
					protocols := new(http.Protocols)
					protocols.SetHTTP1(!http2)
					protocols.SetUnencryptedHTTP2(http2)
					transport := &http.Transport{
						Protocols:   protocols,
						DialContext: func(context.Context, string, string) (net.Conn, error) { return conn, nil },
					}
					t.Cleanup(transport.CloseIdleConnections)
					return &http.Client{Transport: transport}
				})
			})
		})
	}
}

func TestSlowBodyEnds(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, start func(http.HandlerFunc) *http.Client) {
		begin := time.Now()
		result := make(chan error, 1)
		client := start(func(w http.ResponseWriter, r *http.Request) {
			_, err := io.ReadAll(r.Body)
			result <- err
			w.WriteHeader(http.StatusRequestTimeout)
		})
		body, drip := io.Pipe()
		// A byte now and then must not buy more time. None comes at the very moment of the deadline: the client could not send it any
		// more, and might say so instead of reading the answer.
		tap := time.AfterFunc(0, func() {
			for range 100 {
				if _, err := drip.Write([]byte("x")); err != nil {
					return
				}
				time.Sleep(readTimeout * 2 / 9)
			}
		})
		defer tap.Stop()
		resp, err := client.Post("http://x/", "application/json", body)
		if err != nil {
			t.Fatalf("the slow client got %v, want the handler's answer", err)
		}
		resp.Body.Close()
		body.Close()
		if err := <-result; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("reading the body: %v, want the deadline", err)
		}
		if took := time.Since(begin); took != readTimeout {
			t.Errorf("took %v, want %v", took, readTimeout)
		}
		time.Sleep(readTimeout) // lets the drip notice
	})
}

func TestStreamOutlivesTheTimeouts(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, start func(http.HandlerFunc) *http.Client) {
		client := start(func(w http.ResponseWriter, r *http.Request) {
			if _, err := io.ReadAll(r.Body); err != nil {
				t.Error(err)
			}
			for range 5 {
				select {
				case <-r.Context().Done():
					t.Errorf("the request ended: %v", context.Cause(r.Context()))
					return
				case <-time.After(idleTimeout):
				}
				_, _ = io.WriteString(w, "tick\n")
				if err := http.NewResponseController(w).Flush(); err != nil {
					t.Error(err)
				}
			}
		})
		for range 2 { // the second on the connection that the first one leaves
			resp, err := client.Post("http://x/", "application/json", strings.NewReader("{}"))
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || strings.Count(string(body), "tick") != 5 {
				t.Errorf("read %q, %v", body, err)
			}
		}
	})
}

// The read by which the server notices that a client has gone must survive the timeouts.
func TestDisconnectIsNoticedLate(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, start func(http.HandlerFunc) *http.Client) {
		ended := make(chan time.Time, 1)
		client := start(func(_ http.ResponseWriter, r *http.Request) {
			if _, err := io.ReadAll(r.Body); err != nil {
				t.Error(err)
			}
			<-r.Context().Done()
			ended <- time.Now()
		})
		const stay = time.Hour
		begin := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), stay)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://x/", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err == nil {
			resp.Body.Close()
			t.Fatal("an answer, although the client went away")
		}
		if took := (<-ended).Sub(begin); took != stay {
			t.Errorf("the request ended after %v, want %v", took, stay)
		}
	})
}

func TestSilentConnectionEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		conn := serveOn(t, func(http.ResponseWriter, *http.Request) {})
		begin := time.Now()
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("read %v, want the end", err)
		}
		if took := time.Since(begin); took != headerTimeout {
			t.Errorf("took %v, want %v", took, headerTimeout)
		}
	})
}
