package serve

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

const (
	timeout   = time.Second
	chunked   = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
	wholeBody = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
)

// serveOn serves one connection and returns the client's end of it.
func serveOn(t *testing.T, h http.HandlerFunc) net.Conn {
	t.Helper()
	client, server := net.Pipe()
	srv := &http.Server{Handler: limitBody(h, timeout)}
	listener := &oneConn{conns: make(chan net.Conn, 1), addr: server.LocalAddr()}
	listener.conns <- server
	done := make(chan error, 1)
	go func() { done <- srv.Serve(listener) }()
	t.Cleanup(func() {
		client.Close()
		listener.Close()
		srv.Close()
		<-done
	})
	return client
}

// A oneConn is a listener for connections that exist already.
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

func TestSlowBodyEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		result := make(chan error, 1)
		client := serveOn(t, func(w http.ResponseWriter, r *http.Request) {
			_, err := io.ReadAll(r.Body)
			result <- err
			w.WriteHeader(http.StatusRequestTimeout)
		})
		written := make(chan struct{})
		go func() {
			defer close(written)
			io.WriteString(client, chunked)
			// A byte now and then must not buy more time.
			for range 100 {
				if _, err := io.WriteString(client, "1\r\nx\r\n"); err != nil {
					return
				}
				time.Sleep(timeout / 4)
			}
		}()
		if err := <-result; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("reading the body: %v, want the deadline", err)
		}
		if took := time.Since(begin); took != timeout {
			t.Errorf("took %v, want %v", took, timeout)
		}
		resp, err := http.ReadResponse(bufio.NewReader(client), nil)
		if err != nil || resp.StatusCode != http.StatusRequestTimeout {
			t.Errorf("the slow client got %+v, %v; want the handler's answer", resp, err)
		}
		client.Close()
		<-written
	})
}

func TestStreamOutlivesTheBodyTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client := serveOn(t, func(w http.ResponseWriter, r *http.Request) {
			io.ReadAll(r.Body)
			for range 5 {
				select {
				case <-r.Context().Done():
					t.Errorf("the request ended: %v", context.Cause(r.Context()))
					return
				case <-time.After(timeout):
				}
				io.WriteString(w, "tick\n")
				http.NewResponseController(w).Flush()
			}
		})
		go io.WriteString(client, wholeBody)
		resp, err := http.ReadResponse(bufio.NewReader(client), nil)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil || strings.Count(string(body), "tick") != 5 {
			t.Errorf("read %q, %v", body, err)
		}
	})
}

// The read by which the server notices that the client has gone must survive the timeout.
func TestDisconnectIsNoticedAfterTheBodyTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan struct{})
		client := serveOn(t, func(_ http.ResponseWriter, r *http.Request) {
			io.ReadAll(r.Body)
			<-r.Context().Done()
			close(ended)
		})
		go io.WriteString(client, wholeBody)
		time.Sleep(10 * timeout)
		select {
		case <-ended:
			t.Fatal("the request ended although the client is there")
		default:
		}
		client.Close()
		<-ended // synctest reports a deadlock if that never happens
	})
}

func TestConnectionIsReusedAfterTheBodyTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client := serveOn(t, func(_ http.ResponseWriter, r *http.Request) { io.ReadAll(r.Body) })
		r := bufio.NewReader(client)
		for range 3 {
			go io.WriteString(client, wholeBody)
			resp, err := http.ReadResponse(r, nil)
			if err != nil || resp.StatusCode != http.StatusOK {
				t.Fatalf("%+v, %v", resp, err)
			}
			time.Sleep(2 * timeout)
		}
	})
}
